"""The float weights that do on the chip's activations what the checkpoint's do on the true ones.

A regression on the calibration text, and so in part noise. How much of it to believe is measured:
what is fitted on one half of the tokens is tried on the other.
"""

import numpy as np

from intaglio.quantize.solve import damp
from intaglio.quantize.stream import Halves, Moments


def repaired(weights: np.ndarray, halves: Halves) -> np.ndarray:
    """Repair ``weights`` [outputs, inputs], float64, as far as the repair can be trusted."""
    first, second = halves
    half = (trust(weights, first, second) + trust(weights, second, first)) / 2
    # The fit on all tokens has half the noise of a fit on half of them.
    share = 2 * half / (1 + half)
    return weights + share * repair(weights, first + second)


def repair(weights: np.ndarray, moments: Moments) -> np.ndarray:
    """What to add to ``weights`` by least squares: float64, same shape."""
    missing = moments.wanted(weights) - weights @ moments.chip
    return np.linalg.solve(damp(moments.chip), missing.T).T


def trust(weights: np.ndarray, fitted: Moments, tried: Moments) -> float:
    """The share, 0 to 1, of a repair fitted on some tokens that is best on others."""
    added = repair(weights, fitted)
    missing = tried.wanted(weights) - weights @ tried.chip
    square = float((added @ tried.chip * added).sum())
    return min(max(float((added * missing).sum()) / square, 0.0), 1.0) if square > 0 else 0.0
