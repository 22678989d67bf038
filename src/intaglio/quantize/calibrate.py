"""What activations look like on text: the Hessian of every matrix, and the ranges of the rest.

A float forward pass shows its activations to :meth:`Statistics.tap`, window by window, by the names
of :meth:`intaglio.checkpoint.forward.FloatModel.logits` and ``up`` [T, inner].
"""

from collections.abc import Callable
from importlib import resources

import numpy as np

from intaglio.architecture import Architecture

Tap = Callable[[int, str, np.ndarray], None]
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
HEAVIEST = 16.0  # squared length of a token's inputs, in medians, above which it counts no more
TINY = np.float32(1e-30)


class Statistics:
    """Sums and peaks of one float model's activations.

    ``hessians``: by (layer, input name), float32 [inputs, inputs] sums of outer products; the head
    is the layer after the last. ``query``, ``key``: by layer, largest length of each rotary pair
    [heads, head_width / 2]; ``value``: by layer, largest magnitude [kv_heads, head_width].
    ``norms``: by (layer, input name), the squared error of clipping at each of ``NORM_CLIPS``.
    ``up``: by layer, largest magnitude. ``residual``: that of the whole residual stream.
    """

    def __init__(self, architecture: Architecture, norm_bits: int = 8) -> None:
        self.architecture = architecture
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
        elif name == "up":
            self.up[layer] = max(self.up.get(layer, 0.0), float(np.abs(array).max()))
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
        outer = (x * fair(x)[:, None]).T @ x
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


def fair(x: np.ndarray) -> np.ndarray:
    """Weights of tokens, at most 1, by inputs ``x`` [T, inputs]: float32 [T].

    A few tokens, mostly the first of a text, have activations hundreds of times larger than all
    others; without a bound nothing but they would count in a sum of squares.
    """
    energy = np.square(x).sum(-1)
    bound = np.float32(HEAVIEST) * np.median(energy)
    return np.where(energy > bound, bound / np.maximum(energy, TINY), np.float32(1))


def pair_lengths(x: np.ndarray) -> np.ndarray:
    """Largest length of each rotary pair of ``x`` [T, heads, head_width], halves paired."""
    first, second = np.split(x, 2, axis=-1)
    return np.sqrt((first * first + second * second).max(0))


def raise_to(peaks: dict[int, np.ndarray], layer: int, found: np.ndarray) -> None:
    """Keep the elementwise maximum."""
    peaks[layer] = np.maximum(peaks[layer], found) if layer in peaks else found


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
