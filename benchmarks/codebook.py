"""Choose the universal magnitudes: `python benchmarks/codebook.py [MODEL]`.

For every set of integers up to 15, the least mean squared error on normally distributed weights,
over all scales; for the best few, that of two digits at every shift, and what the solver loses on
the matrices of a real model (default: bundled-float), relative to the table in use. Seconds for the
first part, a minute for the second.
"""

import sys
from collections.abc import Iterator
from itertools import combinations
from statistics import NormalDist

import numpy as np

from intaglio.checkpoint import FloatModel, open_checkpoint
from intaglio.golden.model import MATRICES
from intaglio.golden.number import CODEBOOKS
from intaglio.quantize.calibrate import SOURCE, Statistics, default_text, spread
from intaglio.quantize.codebook import grid_of
from intaglio.quantize.rotate import Folded
from intaglio.quantize.solve import damp, solve

LARGEST, SAMPLES, SCALES, KEPT, SHIFTS = 15, 2000, 120, 5, range(1, 6)
TOKENS = 8192
Magnitudes = tuple[int, ...]


def half_normal() -> np.ndarray:
    """Return the middle of every quantile of a positive normal variable, ascending."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(0.5 + (i + 0.5) / (2 * SAMPLES)) for i in range(SAMPLES)])


X = half_normal()
SUMS = np.concatenate([[0], np.cumsum(X)])


def distortion(levels: np.ndarray) -> float:
    """Least mean squared error of positive ascending ``levels`` over all scales."""
    middle = (levels[1:] + levels[:-1]) / 2
    least = np.inf
    for scale in np.linspace(1.5, 6.0, SCALES) / levels[-1]:
        edge = np.concatenate([[0], np.searchsorted(X, middle * scale), [SAMPLES]])
        along = (levels * np.diff(SUMS[edge])).sum()
        square = (np.square(levels) * np.diff(edge)).sum()
        least = min(least, (np.square(X).sum() - along**2 / square) / SAMPLES)
    return float(least)


def two_digits(magnitudes: Magnitudes) -> tuple[float, int]:
    """Least error of two digits, and the shift that reaches it."""
    found = []
    for shift in SHIFTS:
        levels = grid_of(0, signed(magnitudes), shift).extra_levels
        found.append((distortion(levels[levels > 0].astype(float)), shift))
    return min(found)


def signed(magnitudes: Magnitudes) -> np.ndarray:
    """Return the values of all codes."""
    return np.array([*magnitudes, *(-m for m in magnitudes)], np.int64)


def matrices(model: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield weights and damped Hessian of every matrix of one layer in the middle."""
    checkpoint = open_checkpoint(model)
    folded = Folded(checkpoint)
    statistics = Statistics(folded.architecture)
    ids = np.array(checkpoint.tokenizer.encode(default_text()))
    for window in spread(ids, TOKENS):
        FloatModel(folded).hidden(window, statistics.tap)
    layer = folded.architecture.layers // 2
    for name in MATRICES:
        weights = folded.tensor(f"layers.{layer}.{name}")
        yield weights, damp(statistics.hessians[layer, SOURCE[name]])


def main() -> None:
    """Print the tables."""
    problems = list(matrices(sys.argv[1] if len(sys.argv) > 1 else "bundled-float"))
    print("bits magnitudes                      one digit  two digits at  solver, against in use")
    for bits, used in CODEBOOKS.items():
        sets = combinations(range(1, LARGEST + 1), 1 << bits - 1)
        best = sorted(sets, key=lambda m: distortion(np.array(m, float)))[:KEPT]
        reference: list[float] = []
        for magnitudes in [used, *(m for m in best if m != used)]:
            table = grid_of(bits, signed(magnitudes), 0)
            losses = [solve(weights, hessian, table).loss.sum() for weights, hessian in problems]
            reference = reference or losses
            ratio = float(np.mean(np.array(losses) / np.array(reference)))
            one, (two, shift) = distortion(np.array(magnitudes, float)), two_digits(magnitudes)
            text = ", ".join(map(str, magnitudes)) + (" (in use)" if magnitudes == used else "")
            print(f"{bits:4} {text:32} {one:8.5f}  {two:9.6f} {shift:3}  {ratio:8.4f}")


if __name__ == "__main__":
    main()
