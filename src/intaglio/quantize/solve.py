"""Choose the codes of one matrix: error feedback, then coordinate descent, against its Hessian.

Legend: W weights [outputs, inputs], H = X^T X over the calibration inputs X [tokens, inputs], L the
integer levels, t the scale of an output. Minimised, per output, is (W - t L) H (W - t L)^T. Outputs
are independent of each other, so the number of threads changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from intaglio.quantize.codebook import Grid

DAMPING = 0.01
TRIALS = (0.85, 0.92, 1.0, 1.08)
PASSES = 2
CANDIDATES = 24


@dataclass(frozen=True, eq=False)
class Solved:
    """Levels int16 [outputs, inputs], scales float64 [outputs], what is lost float64 [outputs]."""

    levels: np.ndarray
    scale: np.ndarray
    loss: np.ndarray

    def weights(self) -> np.ndarray:
        """The weights that the levels stand for: float32 [outputs, inputs]."""
        return (self.levels * self.scale[:, None]).astype(np.float32)


def damp(hessian: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """Add a share of the mean diagonal, so that inputs never seen still count: float64."""
    hessian = hessian.astype(np.float64)
    mean = float(np.trace(hessian)) / len(hessian) or 1.0
    return hessian + damping * mean * np.eye(len(hessian))


def solve(
    weights: np.ndarray,
    hessian: np.ndarray,
    grid: Grid,
    extra: np.ndarray | None = None,
    *,
    trials: Sequence[float] = TRIALS,
    passes: int = PASSES,
) -> Solved:
    """Quantize ``weights`` [outputs, inputs] against a damped ``hessian`` [inputs, inputs].

    ``extra``: bool [inputs], the inputs with a second digit. ``trials``: multiples of the scale
    that suits rounding, each tried with error feedback.
    """
    inputs = weights.shape[1]
    kind = np.zeros(inputs, np.uint8) if extra is None else extra.astype(np.uint8)
    tables = np.stack([grid.nearest, grid.extra_nearest])
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    ordered = np.ascontiguousarray(weights[:, order], np.float32)
    h = np.ascontiguousarray(hessian[np.ix_(order, order)])
    factor = np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1]  # h = factor @ factor.T, upper
    pivot = np.diagonal(factor).copy()
    feedback = np.ascontiguousarray(factor / pivot[None, :], np.float32)
    kind = kind[order]
    weight = np.square(pivot)
    scale = first_scale(ordered, np.diagonal(h).copy(), kind, tables, grid.reach)
    levels, scale = feed_back(
        ordered, feedback, weight, kind, tables, grid.reach, scale, np.array(trials)
    )
    h32 = h.astype(np.float32)
    target = (ordered @ h32).astype(np.float32)
    product = levels.astype(np.float32) @ h32
    energy = (ordered * target).sum(1, dtype=np.float64)
    loss = descend(levels, target, product, h32, kind, tables, grid.reach, scale, energy, passes)
    original = np.empty_like(levels)
    original[:, order] = levels
    return Solved(original, scale, loss)


@numba.njit(cache=True, inline="always")
def _nearest(value, table, reach):
    index = int(np.floor(2 * value)) + reach
    if index < 0:
        index = 0
    if index > 2 * reach:
        index = 2 * reach
    return table[index]


@numba.njit(parallel=True, cache=True)
def first_scale(weights, importance, kind, tables, reach):
    """The scale per output that suits rounding, inputs weighted by ``importance``."""
    outputs, inputs = weights.shape
    scale = np.empty(outputs)
    top = 0.0
    for level in tables[0]:
        top = max(top, float(level))
    for row in numba.prange(outputs):
        peak = 0.0
        for i in range(inputs):
            peak = max(peak, abs(float(weights[row, i])))
        best, least = 0.0, np.inf
        for candidate in range(CANDIDATES):
            t = peak / top * (1.1 - 0.8 * candidate / CANDIDATES)
            if t <= 0.0:
                break
            loss = 0.0
            for i in range(inputs):
                w = float(weights[row, i])
                error = w - t * _nearest(w / t, tables[kind[i]], reach)
                loss += importance[i] * error * error
            if loss < least:
                best, least = t, loss
        scale[row] = best
    return scale


@numba.njit(parallel=True, cache=True)
def feed_back(weights, feedback, pivot, kind, tables, reach, scale, trials):
    """Round input by input, each error passed on to the inputs after it; the best trial scale."""
    outputs, inputs = weights.shape
    levels = np.zeros((outputs, inputs), np.int16)
    found = scale.copy()
    for row in numba.prange(outputs):
        least = np.inf
        for trial in range(len(trials)):
            t = scale[row] * trials[trial]
            if t <= 0.0:
                continue
            inverse = np.float32(1.0 / t)
            moved = weights[row] * inverse
            chosen = np.empty(inputs, np.int16)
            loss = 0.0
            for i in range(inputs):
                level = _nearest(moved[i], tables[kind[i]], reach)
                chosen[i] = level
                gap = moved[i] - level
                loss += pivot[i] * gap * gap
                error = weights[row, i] * inverse - np.float32(level)
                line = feedback[i]
                for j in range(numba.uint32(i + 1), numba.uint32(inputs)):
                    moved[j] += error * line[j]
            loss *= t * t
            if loss < least:
                least = loss
                found[row] = t
                levels[row] = chosen
    return levels, found


@numba.njit(parallel=True, cache=True)
def descend(levels, target, product, hessian, kind, tables, reach, scale, energy, passes):
    """Coordinate descent on levels and scales, in place; returns what is lost per output.

    ``target`` = W H, ``product`` = L H, ``energy`` = diagonal of W H W^T. Unsigned indices let the
    inner loop use vector instructions.
    """
    outputs, inputs = levels.shape
    loss = np.empty(outputs)
    for row in numba.prange(outputs):
        for step in range(passes + 1):
            along, square = 0.0, 0.0
            for i in range(inputs):
                along += float(levels[row, i]) * target[row, i]
                square += float(levels[row, i]) * product[row, i]
            if square > 0.0 and along > 0.0:
                scale[row] = along / square
            t = scale[row]
            loss[row] = energy[row] - 2 * t * along + t * t * square
            if step == passes or t <= 0.0:
                break
            inverse = np.float32(1.0 / t)
            for i in range(inputs):
                slope = product[row, i] - inverse * target[row, i]
                level = _nearest(levels[row, i] - slope / hessian[i, i], tables[kind[i]], reach)
                change = np.float32(level - levels[row, i])
                if change != 0:
                    levels[row, i] = level
                    line, moved = hessian[i], product[row]
                    for j in range(numba.uint32(inputs)):
                        moved[j] += change * line[j]
    return loss
