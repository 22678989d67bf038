"""How much the model's predictions suffer where an output is off: Fisher information.

Labels are drawn from the float model's own predictions, so that the mean square of a gradient is
the curvature of the divergence between its predictions and those of a nearby model.
"""

from collections.abc import Sequence

import numpy as np

from intaglio.checkpoint.forward import Weights, softmax
from intaglio.quantize.calibrate import Statistics
from intaglio.quantize.gradient import Differentiable

SEED = 0x1A7A6110


class Sensitivity:
    """Statistics of the float model's activations together with those of its gradients.

    ``energy``: by (layer, matrix), the gradient by each output squared and summed over tokens:
    float64 [outputs]. ``hidden``: the final norm's output [T, width] of every window.
    """

    def __init__(self, weights: Weights, norm_bits: int = 8) -> None:
        self.statistics = Statistics(weights.architecture, norm_bits)
        self.model = Differentiable(weights)
        self.energy: dict[tuple[int, str], np.ndarray] = {}
        self.hidden: list[np.ndarray] = []
        self._random = np.random.default_rng(SEED)

    def run(self, windows: Sequence[np.ndarray]) -> None:
        """Take in windows of tokens."""
        for ids in windows:
            self.model.run(ids, self._seed, self._see, self.statistics.tap)
            self.statistics.tokens += len(ids)

    def _seed(self, hidden: np.ndarray) -> np.ndarray:
        self.hidden.append(hidden)
        head = self.model.weight("head")
        gradient = softmax(hidden @ head.T)
        at = np.arange(len(gradient)), self._draw(gradient)
        gradient[at] -= 1
        return gradient @ head

    def _draw(self, shares: np.ndarray) -> np.ndarray:
        cumulative = np.cumsum(shares, axis=1)
        target = self._random.random(len(shares), np.float32) * cumulative[:, -1]
        return np.minimum((cumulative < target[:, None]).sum(1), shares.shape[1] - 1)

    def _see(
        self, layer: int, name: str, _: np.ndarray, __: np.ndarray, gradient: np.ndarray
    ) -> None:
        energy = np.square(gradient).sum(0, dtype=np.float64)
        self.energy[layer, name] = self.energy.get((layer, name), 0.0) + energy
