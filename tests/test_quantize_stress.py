"""Changes that leave the float function as it is, or strain its ranges, must not hurt the chip."""

from dataclasses import replace

import numpy as np
import pytest

from intaglio.checkpoint import Checkpoint, FloatModel, open_checkpoint
from intaglio.golden.forward import Golden
from intaglio.quantize import QuantizeOptions, cut, growth_percent, quantize, score
from intaglio.quantize.calibrate import default_text
from intaglio.quantize.rotate import rotation

SPIKE, CHANNEL = 1e4, 3
OPTIONS = QuantizeOptions(bits=4, context=256, tokens=8192)


def altered(checkpoint: Checkpoint, change) -> Checkpoint:
    """The checkpoint with ``change(name, tensor)`` in the place of every tensor."""
    return replace(checkpoint, read=lambda name: change(name, checkpoint.read(name)))


def unbalanced(checkpoint: Checkpoint) -> Checkpoint:
    """A random tenth of the up rows x 1000, their down columns / 1000: the same function."""
    inner = checkpoint.architecture.inner
    chosen = np.random.default_rng(7).random((checkpoint.architecture.layers, inner)) < 0.1

    def change(name: str, tensor: np.ndarray) -> np.ndarray:
        prefix, _, short = name.rpartition(".")
        if short not in ("up", "down"):
            return tensor
        factor = np.where(chosen[int(prefix.split(".")[1])], 1000, 1).astype(np.float32)
        return tensor * factor[:, None] if short == "up" else tensor / factor[None, :]

    return altered(checkpoint, change)


class SpikedWeights:
    """A checkpoint with one more token: ``first`` with a spike in one channel of its residual."""

    def __init__(self, checkpoint: Checkpoint, first: int) -> None:
        a = checkpoint.architecture
        self.architecture = replace(a, vocabulary=a.vocabulary + 1, tied=False)
        self.checkpoint, self.first = checkpoint, first

    def tensor(self, name: str) -> np.ndarray:
        tensor = self.checkpoint.tensor(name)
        if name != "embedding":
            return tensor
        row = tensor[self.first].copy()
        row[CHANNEL] += SPIKE
        return np.vstack([tensor, row])


class SpikedGolden(Golden):
    """The chip with the same spike planted in the residual of position 0."""

    def _layer(self, index, x, position, slot, trace, linear):
        if index == 0 and position == 0:
            a, step = self.model.architecture, self.model.residual_step
            spike = SPIKE * rotation(a.width)[:, CHANNEL] * 2.0**step
            x = x.copy()
            x[0] += np.rint(spike).astype(np.int64)
            assert np.abs(x).max() < 2**31
        return super()._layer(index, x, position, slot, trace, linear)


def chip(model, golden_class=Golden):
    """The integer model as a forward function."""

    def forward(ids: np.ndarray) -> np.ndarray:
        golden = golden_class(model)
        return golden.logits(golden.residual(ids))

    return forward


@pytest.fixture(scope="module")
def checkpoint():
    return open_checkpoint("bundled-float")


@pytest.fixture(scope="module")
def windows(checkpoint):
    ids = checkpoint.tokenizer.encode(default_text())[-16384:]
    return cut(ids, 256)


@pytest.mark.slow
def test_up_against_down(checkpoint, windows):
    plain, strained = (
        score(chip(quantize(model, OPTIONS)), windows, len)
        for model in (checkpoint, unbalanced(checkpoint))
    )
    assert abs(growth_percent(strained, plain)) < 0.5


@pytest.mark.slow
def test_spike_in_the_first_token(checkpoint, windows):
    """The chip was calibrated without the spike: the residual's headroom must hold it."""
    first, vocabulary = int(windows[0][0]), checkpoint.architecture.vocabulary
    model, ids = quantize(checkpoint, OPTIONS), [np.array([first, *w[1:]]) for w in windows]
    marked = [np.array([vocabulary, *window[1:]]) for window in windows]
    usual = growth_percent(
        score(chip(model), ids, len), score(FloatModel(checkpoint).logits, ids, len)
    )
    reference = score(FloatModel(SpikedWeights(checkpoint, first)).logits, marked, len)
    spiked = growth_percent(score(chip(model, SpikedGolden), ids, len), reference)
    assert spiked < usual + 0.5


def test_rotation_spreads_a_spike():
    """In the rotated residual stream a spike of one channel is in every channel, and small."""
    turned = SPIKE * rotation(576)[:, CHANNEL]
    assert np.abs(turned).max() < SPIKE * np.sqrt(2 / 576) * 1.01
