"""Which width every matrix gets, under an average over the block weights.

What a matrix loses at a width is the curvature of the loss by its outputs, times the error that
error feedback leaves: the sum of the Hessian's Cholesky pivots, times the distortion of the width's
levels on weights of a normal distribution.
"""

import itertools
from collections.abc import Mapping
from functools import cache
from statistics import NormalDist

import numpy as np

from intaglio.errors import BadInput
from intaglio.quantize.codebook import WIDTHS, digits, grid

SAMPLES = 4001
SCALES = 200


@cache
def distortion(width: int) -> float:
    """Mean squared error of a width's levels, at their best scale, on the normal distribution."""
    bits, count = digits(width)
    table = grid(bits, count == 2)
    levels = table.levels if count == 1 else table.extra_levels
    normal = NormalDist()
    x = np.array([normal.inv_cdf((i + 0.5) / SAMPLES) for i in range(SAMPLES)])
    middle = (levels[1:] + levels[:-1]) / 2
    scales = np.linspace(1.5, 5.5, SCALES) / levels.max()
    return min(
        float(np.square(scale * levels[np.searchsorted(middle, x / scale)] - x).mean())
        for scale in scales
    )


def unit_loss(weights: np.ndarray, hessian: np.ndarray, energy: np.ndarray) -> float:
    """Loss per token of a matrix per unit of distortion.

    ``weights`` [outputs, inputs]; ``hessian`` damped, per token; ``energy``: mean square of the
    gradient by each output [outputs].
    """
    pivots = np.square(np.diagonal(np.linalg.cholesky(hessian)))
    power = np.square(weights, dtype=np.float64).mean(1)
    return float(0.5 * (energy * power).sum() * pivots.sum())


def allocate(
    losses: Mapping[str, float], sizes: Mapping[str, int], average: float
) -> dict[str, int]:
    """Widths that lose least with at most ``average`` bits per weight.

    ``losses``: per unit of distortion; ``sizes``: weights; by matrix. All start at the least width;
    steps up are taken in the order of what they gain per bit, as long as they fit.
    """
    if not WIDTHS[0] <= average <= WIDTHS[-1]:
        raise BadInput(f"bits must be from {WIDTHS[0]} to {WIDTHS[-1]}, not {average}")
    widths = dict.fromkeys(losses, WIDTHS[0])
    room = (average - WIDTHS[0]) * sum(sizes[name] for name in losses) + 1e-6
    steps = []
    for low, high in itertools.pairwise(WIDTHS):
        gain = (distortion(low) - distortion(high)) / (high - low)
        steps += [(-gain * losses[name] / sizes[name], high, name) for name in losses]
    for _, high, name in sorted(steps):
        cost = (high - widths[name]) * sizes[name]
        if cost <= room and WIDTHS.index(high) == WIDTHS.index(widths[name]) + 1:
            widths[name] = high
            room -= cost
    return widths
