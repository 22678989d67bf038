"""What activations look like on text: the Hessian of every matrix, and the ranges of the rest.

A float forward pass hands its activations to a :class:`Statistics`, window by window.
"""

from collections.abc import Callable, Iterable
from importlib import resources

import numpy as np

from intaglio.checkpoint.forward import Weights

Tap = Callable[[int, str, np.ndarray], None]
Forward = Callable[[np.ndarray, Tap], object]
"""``forward(ids, tap)`` runs one window and shows its activations to ``tap(layer, name, array)``,
by the names of :meth:`intaglio.checkpoint.forward.FloatModel.logits`."""

INPUTS = {
    "attention_input": "attention",
    "attention_output": "o",
    "mlp_input": "mlp",
    "down_input": "down",
    "head_input": "head",
}
SOURCE = {
    "q": "attention", "k": "attention", "v": "attention", "o": "o", "gate": "mlp", "up": "mlp",
    "down": "down", "head": "head",
}  # fmt: skip
NORM_CLIPS = np.linspace(3.0, 8.0, 21)
WINDOW = 512
UP_TOKENS = 2048


class Statistics:
    """Sums and peaks of one float model's activations.

    ``hessians``: by (layer, input name), float32 [inputs, inputs] sums of outer products; the head
    is the layer after the last. ``query``, ``key``: by layer, largest length of each rotary pair
    [heads, head_width / 2]; ``value``: by layer, largest magnitude [kv_heads, head_width].
    ``norms``: by (layer, input name), the squared error of clipping at each of ``NORM_CLIPS``.
    ``residual``: the largest magnitude in the residual stream. ``up``: by layer, that of the
    outputs of ``up`` over the first windows.
    """

    def __init__(self, weights: Weights, norm_bits: int = 8) -> None:
        self.weights = weights
        self.architecture = weights.architecture
        self.norm_high = (1 << norm_bits - 1) - 1
        self.tokens = 0
        self.hessians: dict[tuple[int, str], np.ndarray] = {}
        self.norms: dict[tuple[int, str], np.ndarray] = {}
        self.query: dict[int, np.ndarray] = {}
        self.key: dict[int, np.ndarray] = {}
        self.value: dict[int, np.ndarray] = {}
        self.up: dict[int, float] = {}
        self.residual = 0.0

    def tap(self, layer: int, name: str, array: np.ndarray) -> None:
        """Take in one activation of one window."""
        if name in INPUTS:
            self._add_outer((layer, INPUTS[name]), array)
        if name in ("attention_input", "mlp_input", "head_input"):
            self._add_clips((layer, INPUTS[name]), array)
        if name == "mlp_input" and self.tokens < UP_TOKENS:
            up = float(np.abs(array @ self.weights.tensor(f"layers.{layer}.up").T).max())
            self.up[layer] = max(self.up.get(layer, 0.0), up)
        elif name == "query":
            raise_to(self.query, layer, pair_lengths(array))
        elif name == "key":
            raise_to(self.key, layer, pair_lengths(array))
        elif name == "value":
            raise_to(self.value, layer, np.abs(array).max(0))
        elif name == "residual":
            self.residual = max(self.residual, float(np.abs(array).max()))

    def clip(self, layer: int, name: str) -> float:
        """The magnitude at which the output of a norm is best clipped."""
        return float(NORM_CLIPS[int(np.argmin(self.norms[layer, name]))])

    def _add_outer(self, at: tuple[int, str], x: np.ndarray) -> None:
        outer = x.T @ x
        if at in self.hessians:
            self.hessians[at] += outer
        else:
            self.hessians[at] = outer

    def _add_clips(self, at: tuple[int, str], x: np.ndarray) -> None:
        sample = x[::8]
        errors = np.empty(len(NORM_CLIPS))
        for index, clip in enumerate(NORM_CLIPS):
            scale = np.float32(clip / self.norm_high)
            steps = np.clip(np.rint(sample / scale), -self.norm_high - 1, self.norm_high)
            errors[index] = np.square(steps * scale - sample).sum(dtype=np.float64)
        self.norms[at] = self.norms.get(at, 0) + errors


def pair_lengths(x: np.ndarray) -> np.ndarray:
    """Largest length of each rotary pair of ``x`` [T, heads, head_width], halves paired."""
    first, second = np.split(x, 2, axis=-1)
    return np.sqrt((first * first + second * second).max(0))


def raise_to(peaks: dict[int, np.ndarray], layer: int, found: np.ndarray) -> None:
    """Keep the elementwise maximum."""
    peaks[layer] = np.maximum(peaks[layer], found) if layer in peaks else found


def observe(
    forward: Forward,
    weights: Weights,
    windows: Iterable[np.ndarray],
    *,
    norm_bits: int = 8,
) -> Statistics:
    """Run ``windows`` of tokens through ``forward`` and gather its statistics."""
    statistics = Statistics(weights, norm_bits)
    for ids in windows:
        forward(ids, statistics.tap)
        statistics.tokens += len(ids)
    return statistics


def default_text() -> str:
    """The calibration text that comes with the compiler: documentation and code in turn."""
    return resources.files("intaglio.quantize").joinpath("calibration.txt").read_text("utf-8")


def spread(ids: np.ndarray, tokens: int, window: int = WINDOW) -> list[np.ndarray]:
    """About ``tokens`` of ``ids`` as whole windows, evenly spread over the text."""
    window = min(window, len(ids))
    available = len(ids) // window
    count = max(min(tokens // window, available), 1)
    starts = [index * available // count * window for index in range(count)]
    return [ids[start : start + window] for start in starts]
