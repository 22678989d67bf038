"""Repairs: whole where the two halves of the text agree on them, none where they do not."""

import numpy as np
import pytest

from intaglio.quantize.repair import repair, repaired, trust
from intaglio.quantize.stream import halves

TOKENS, INPUTS, OUTPUTS = 4000, 12, 5
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.standard_normal((OUTPUTS, INPUTS))
INPUT = RANDOM.standard_normal((TOKENS, INPUTS)).astype(np.float32)


def lost(weights: np.ndarray, chip: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.square(chip @ weights.T - wanted).sum())


def test_nothing_to_repair():
    np.testing.assert_allclose(repaired(WEIGHTS, halves(INPUT, INPUT)), WEIGHTS, atol=1e-6)


def test_a_distortion_of_the_inputs_is_undone():
    chip = INPUT * np.linspace(0.8, 1.1, INPUTS, dtype=np.float32)
    wanted, found = INPUT @ WEIGHTS.T, repaired(WEIGHTS, halves(INPUT, chip))
    assert lost(found, chip, wanted) < 2e-3 * lost(WEIGHTS, chip, wanted)


def test_what_is_short_of_the_sum_is_added():
    """``short``: what the outputs lacked before this matrix, here a share of its own output."""
    both = halves(INPUT, INPUT, 0.25 * INPUT @ WEIGHTS.T.astype(np.float32))
    np.testing.assert_allclose(repaired(WEIGHTS, both), 1.25 * WEIGHTS, atol=0.02)


def test_what_the_halves_do_not_share_is_left():
    """A term that is one thing in the first half and its opposite in the second is noise."""
    sign = np.where(np.arange(TOKENS) < TOKENS // 2, 1, -1)[:, None].astype(np.float32)
    both = halves(INPUT, INPUT, sign * (INPUT @ WEIGHTS.T.astype(np.float32)))
    assert trust(WEIGHTS, *both) == trust(WEIGHTS, *both[::-1]) == 0
    np.testing.assert_array_equal(repaired(WEIGHTS, both), WEIGHTS)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_trusted_repairs_of_noise_are_small(share):
    """Outputs that lack pure noise: the fit is believed far less than it says of itself."""
    noise = RANDOM.standard_normal((TOKENS, OUTPUTS)).astype(np.float32)
    wanted = share * INPUT @ WEIGHTS.T.astype(np.float32)
    both = halves(INPUT, INPUT, wanted + 20 * noise)
    true = (1 + share) * WEIGHTS
    whole = WEIGHTS + repair(WEIGHTS, both[0] + both[1])
    assert np.square(repaired(WEIGHTS, both) - true).sum() < np.square(whole - true).sum()
