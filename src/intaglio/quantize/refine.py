"""Refine the scales of solved matrices, all at once, towards the float model's predictions.

Codes stay as they are. The loss is the divergence of the quantized model's next-token distribution
from the float model's; what moves is the scale of each output of each block matrix.
"""

from collections.abc import Callable, Sequence

import numpy as np

from intaglio.checkpoint.forward import Weights, softmax
from intaglio.quantize.gradient import Differentiable

SEED = 0x5CA1E5
RATE = 2e-3  # of the logarithm of a scale, per step, at the start
DECAY_MEAN, DECAY_SQUARE = 0.9, 0.95
TINY = 1e-12


def refine(
    quantized: Weights,
    head: np.ndarray,
    taught: Sequence[np.ndarray],
    windows: Sequence[np.ndarray],
    steps: int,
    progress: Callable[[float], None],
) -> dict[str, np.ndarray]:
    """By what to multiply each output's scale: float64 [outputs] by full matrix name.

    ``taught``: the float model's final normed vectors [T, width] of every window, for ``head``
    [vocabulary, width], the float model's. One window a step, in a fixed shuffled order, the rate
    falling to zero.
    """
    refiner = Refiner(quantized, head)
    random = np.random.default_rng(SEED)
    order = np.concatenate([random.permutation(len(windows)) for _ in range(steps)])
    for step in range(steps):
        progress(step / steps)
        at = order[step]
        refiner.step(windows[at], taught[at], RATE * (1 - step / steps))
    return {f"layers.{layer}.{name}": refiner.factor(layer, name) for layer, name in refiner.log}


class Refiner:
    """Adam over the logarithms of output scales.

    ``quantized``: the weights that the codes stand for; ``head`` as of :func:`refine`.
    """

    def __init__(self, quantized: Weights, head: np.ndarray) -> None:
        self.model = Differentiable(quantized)
        self.quantized, self.head = quantized, head
        self.log: dict[tuple[int, str], np.ndarray] = {}
        self._mean: dict[tuple[int, str], np.ndarray] = {}
        self._square: dict[tuple[int, str], np.ndarray] = {}
        self._steps = 0

    def step(self, ids: np.ndarray, taught: np.ndarray, rate: float) -> float:
        """Move all scales once by the gradient over one window; returns the loss per token."""
        found: dict[tuple[int, str], np.ndarray] = {}
        loss = 0.0

        def see(layer: int, name: str, _: np.ndarray, output: np.ndarray, gradient: np.ndarray):
            found[layer, name] = (output * gradient).sum(0, dtype=np.float64) / len(ids)

        def seed(hidden: np.ndarray) -> np.ndarray:
            nonlocal loss
            head = self.model.weight("head")
            truth, shares = softmax(taught @ self.head.T), softmax(hidden @ head.T)
            ratio = (truth + np.float32(TINY)) / (shares + np.float32(TINY))
            loss = float((truth * np.log(ratio)).sum(dtype=np.float64)) / len(ids)
            return (shares - truth) @ head

        self.model.run(ids, seed, see)
        self._move(found, rate)
        return loss

    def factor(self, layer: int, name: str) -> np.ndarray:
        """By what each output's scale is to be multiplied: float64 [outputs]."""
        return np.exp(self.log[layer, name])

    def _move(self, found: dict[tuple[int, str], np.ndarray], rate: float) -> None:
        self._steps += 1
        for at, gradient in found.items():
            mean = self._mean.get(at, 0.0) * DECAY_MEAN + gradient * (1 - DECAY_MEAN)
            square = self._square.get(at, 0.0) * DECAY_SQUARE + gradient**2 * (1 - DECAY_SQUARE)
            self._mean[at], self._square[at] = mean, square
            mean = mean / (1 - DECAY_MEAN**self._steps)
            square = square / (1 - DECAY_SQUARE**self._steps)
            self.log[at] = self.log.get(at, 0.0) - rate * mean / (np.sqrt(square) + TINY)
            layer, name = at
            full = f"layers.{layer}.{name}"
            factor = self.factor(layer, name).astype(np.float32)
            self.model.kept[full] = self.quantized.tensor(full) * factor[:, None]
