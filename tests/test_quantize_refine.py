"""Refinement of scales moves what the model says towards the float model."""

import numpy as np
import pytest
from quantize_models import random_checkpoint

from intaglio.checkpoint import FloatModel
from intaglio.quantize.refine import Refiner, refine
from intaglio.quantize.rotate import Folded

WINDOWS = [np.random.default_rng(seed).integers(0, 96, 24) for seed in range(4)]


class Scaled:
    """A folded checkpoint whose outputs have wrong scales."""

    def __init__(self, folded: Folded, factors: dict[str, np.ndarray]) -> None:
        self.architecture, self.folded, self.factors = folded.architecture, folded, factors

    def tensor(self, name: str) -> np.ndarray:
        tensor = self.folded.tensor(name)
        factor = self.factors.get(name)
        return tensor if factor is None else (tensor * factor[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def folded():
    return Folded(random_checkpoint(vocabulary=96))


@pytest.fixture(scope="module")
def wrong(folded):
    random = np.random.default_rng(5)
    names = [name for name in folded.shapes if name.startswith("layers.0.") and "norm" not in name]
    return {name: np.exp(0.1 * random.standard_normal(folded.shapes[name][0])) for name in names}


def losses(folded: Folded, model) -> list[float]:
    """What each window loses against the float model, nothing moved."""
    head, teacher = folded.tensor("head"), FloatModel(folded)
    return [Refiner(model, head).step(window, teacher.hidden(window), 0.0) for window in WINDOWS]


def test_the_float_model_itself_loses_nothing(folded):
    np.testing.assert_allclose(losses(folded, folded), 0, atol=1e-5)


def test_scales_move_towards_the_float_model(folded, wrong):
    teacher, shares = FloatModel(folded), []
    taught = [teacher.hidden(window) for window in WINDOWS]
    found = refine(Scaled(folded, wrong), folded.tensor("head"), taught, WINDOWS, 40, shares.append)
    ones = {name: np.ones(folded.shapes[name][0]) for name in found}
    mended = {name: ones[name] * found[name] * wrong.get(name, 1.0) for name in found}
    before, after = losses(folded, Scaled(folded, wrong)), losses(folded, Scaled(folded, mended))
    assert sum(after) < 0.7 * sum(before)
    assert shares == sorted(shares)
    assert all(0 <= share < 1 for share in shares)
