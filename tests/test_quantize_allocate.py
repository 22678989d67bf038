"""Widths go where they gain most, and the average is kept."""

from itertools import pairwise

import numpy as np
import pytest

from intaglio.errors import BadInput
from intaglio.quantize.allocate import allocate, distortion, unit_loss
from intaglio.quantize.codebook import WIDTHS

SIZES = {"small": 100, "large": 1000, "other": 1000}


def test_distortion_falls_ever_more_slowly():
    gains = [(distortion(low) - distortion(high)) / (high - low) for low, high in pairwise(WIDTHS)]
    assert all(a > b > 0 for a, b in pairwise(gains))


@pytest.mark.parametrize("average", [2, 2.5, 3, 3.5, 4, 5.3, 8])
def test_average_is_kept_and_used(average):
    widths = allocate({"small": 1.0, "large": 1.0, "other": 1.0}, SIZES, average)
    stored = sum(widths[name] * size for name, size in SIZES.items())
    assert stored <= average * sum(SIZES.values())
    assert stored > average * sum(SIZES.values()) - 2 * max(SIZES.values())


def test_what_matters_more_per_weight_gets_more():
    widths = allocate({"small": 1.0, "large": 1.0, "other": 0.01}, SIZES, 4)
    assert widths["small"] > widths["large"] > widths["other"]


@pytest.mark.parametrize("average", [1.9, 8.1])
def test_average_is_bounded(average):
    with pytest.raises(BadInput, match="bits must be from 2 to 8"):
        allocate({"small": 1.0}, SIZES, average)


def test_unit_loss_scales_as_the_loss_does():
    rng = np.random.default_rng(0)
    weights, energy = rng.standard_normal((5, 4)), rng.uniform(1, 2, 5)
    hessian = np.eye(4)
    loss = unit_loss(weights, hessian, energy)
    assert unit_loss(2 * weights, hessian, energy) == pytest.approx(4 * loss)
    assert unit_loss(weights, 3 * hessian, energy) == pytest.approx(3 * loss)
    assert loss == pytest.approx(0.5 * (energy * np.square(weights).sum(1)).sum())
