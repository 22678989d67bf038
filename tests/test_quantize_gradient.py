"""The hand-written gradient against differences of the loss."""

import numpy as np
import pytest
from quantize_models import random_checkpoint

from intaglio.checkpoint import FloatModel
from intaglio.quantize.gradient import Differentiable
from intaglio.quantize.rotate import Folded

IDS = np.random.default_rng(3).integers(0, 96, 12)
NUDGE = 2.0**-6


class Nudged:
    """A folded checkpoint of which one output of one matrix is scaled."""

    def __init__(self, folded, name, output, factor):
        self.architecture, self.folded = folded.architecture, folded
        self.name, self.output, self.factor = name, output, factor

    def tensor(self, name):
        tensor = self.folded.tensor(name).copy()
        if name == self.name:
            tensor[self.output] *= self.factor
        return tensor


@pytest.fixture(scope="module")
def folded():
    return Folded(random_checkpoint(vocabulary=96))


def loss(weights) -> float:
    logits = FloatModel(weights).logits(IDS).astype(np.float64)
    return float(np.square(logits).sum() / 2)


def test_scale_of_an_output_moves_the_loss_as_the_gradient_says(folded):
    found = {}

    def see(layer, name, _, output, gradient):
        found[layer, name] = (output * gradient).sum(0, dtype=np.float64)

    head = folded.tensor("head").astype(np.float64)
    seed = lambda hidden: (hidden @ head.T @ head).astype(np.float32)  # noqa: E731
    Differentiable(folded).run(IDS, seed, see)
    assert len(found) == 2 * 7
    for (layer, name), by_scale in found.items():
        output = int(np.argmax(np.abs(by_scale)))
        above, below = (
            loss(Nudged(folded, f"layers.{layer}.{name}", output, 1 + sign * NUDGE))
            for sign in (1, -1)
        )
        difference = (above - below) / (2 * NUDGE)
        assert difference == pytest.approx(by_scale[output], rel=0.02), (layer, name)


def test_forward_shows_what_the_float_model_shows(folded):
    seen, expected = {}, {}
    seed = np.zeros_like
    Differentiable(folded).run(
        IDS, seed, lambda *_: None, lambda layer, name, x: seen.__setitem__((layer, name), x)
    )
    FloatModel(folded).hidden(IDS, lambda layer, name, x: expected.__setitem__((layer, name), x))
    for at, array in expected.items():
        np.testing.assert_allclose(seen[at], array, rtol=0, atol=1e-4 * np.abs(array).max())
