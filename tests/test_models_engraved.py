"""The float weights that a chip's codes stand for say what the chip says, but for its rounding."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from quantize_models import random_checkpoint

from intaglio.checkpoint import Checkpoint, FloatModel
from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel
from intaglio.golden.number import LOGIT_FRACTION, Widths
from intaglio.quantize import QuantizeOptions, quantize

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")

IDS = np.random.default_rng(1).integers(0, 96, 24)
WIDE = Widths(norm=16, query=16, attention=16, product=16)  # so that only codes are coarse


@pytest.fixture(scope="module")
def trained():
    """The scripts that train, whose names are their own."""
    folder = str(Path(__file__).parents[1] / "models")
    sys.path.insert(0, folder)
    try:
        names = ("engraved", "llama")
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return random_checkpoint()


@pytest.fixture(scope="module", params=[3, 6])
def model(request, weights) -> IntModel:
    options = QuantizeOptions(bits=request.param, uniform=True, tokens=2048, widths=WIDE)
    return quantize(weights, options)


def logits_of(trained, weights: Checkpoint, found) -> np.ndarray:
    shape = trained.engraved.shape_of(weights.architecture, len(IDS))
    turn = trained.llama.turns(shape)
    with torch.no_grad():
        return trained.llama.logits(found, torch.tensor(IDS[None]), shape, turn)[0].numpy()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_they_say_what_the_chip_says(trained, weights, model):
    golden = Golden(model)
    chip = golden.logits(golden.residual(IDS)) / 2.0**LOGIT_FRACTION
    ours = logits_of(trained, weights, trained.engraved.engraved(weights, model))
    away = distance(FloatModel(weights).logits(IDS), chip)
    assert distance(ours, chip) < min(0.025, away / 3)  # keys and values have 8 bits


def test_a_checkpoint_found_is_the_checkpoint(trained, weights):
    ours = logits_of(trained, weights, trained.engraved.as_found(weights))
    np.testing.assert_allclose(ours, FloatModel(weights).logits(IDS), atol=1e-4)
