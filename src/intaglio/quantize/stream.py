"""The float model and the chip side by side, so that each matrix repairs what came before it.

Two residual streams over the calibration text advance layer by layer. A matrix is solved on the
chip's activations x' to give what the float matrix W gives on the float ones x: minimised is the
sum over tokens of c |W x + d - W' x'|^2, where c is the token's fair weight and d, for matrices
that write to the residual, what that stream is short of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from intaglio.checkpoint.forward import Weights, rope_frequencies, rotate
from intaglio.golden.number import KEY, VALUE, Int
from intaglio.quantize.calibrate import fair
from intaglio.quantize.gradient import logistic, mix
from intaglio.quantize.scales import Scales


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over tokens, weighted: of x' x'^T, x x'^T [inputs, inputs], d x'^T [outputs, inputs]."""

    chip: np.ndarray
    cross: np.ndarray
    short: np.ndarray | None

    def __add__(self, other: "Moments") -> "Moments":
        short = None
        if self.short is not None and other.short is not None:
            short = self.short + other.short
        return Moments(self.chip + other.chip, self.cross + other.cross, short)

    def wanted(self, weights: np.ndarray) -> np.ndarray:
        """Sums of what ``weights`` [outputs, inputs] should give, times x'^T: same shape."""
        wanted = weights @ self.cross
        return wanted if self.short is None else wanted + self.short


Halves = tuple[Moments, Moments]
"""The moments of the first and of the second half of the tokens."""

Solver = Callable[[int, str, Callable[[], Halves]], np.ndarray]
"""``solve(layer, matrix, moments)``: the weights of the solved matrix, float32, order of rows as
in the checkpoint; the moments are summed when asked for."""


class Streams:
    """Residual streams of all ``windows``, one after the other: float32 [tokens, width] each."""

    def __init__(
        self, folded: Weights, embedding: np.ndarray, scales: Scales, windows: Sequence[np.ndarray]
    ) -> None:
        self.folded, self.scales = folded, scales
        self.architecture = folded.architecture
        ids = np.concatenate(windows)
        self.ends = np.cumsum([len(window) for window in windows])
        self.true = folded.tensor("embedding")[ids]
        self.chip = embedding[ids]
        longest = max(len(window) for window in windows)
        angles = np.arange(longest)[:, None, None] * rope_frequencies(self.architecture)
        self.turn = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def layer(self, layer: int, solve: Solver) -> None:
        """Solve the seven matrices of the next layer and take both streams through it."""
        at, widths = self.scales.layers[layer], self.scales.widths

        def solved(names: str, true: np.ndarray, chip: np.ndarray, short=None) -> list[np.ndarray]:
            summed = cache(lambda: halves(true, chip, short))
            return [chip @ solve(layer, name, summed).T for name in names.split()]

        def weight(name: str) -> np.ndarray:
            return self.folded.tensor(f"layers.{layer}.{name}").T

        true, chip = self._norm(self.true), self._norm(self.chip, at.norm_attention)
        q, k, v = solved("q k v", true, chip)
        chip = self._mix(q, k, v, layer)
        true = self._mix(true @ weight("q"), true @ weight("k"), true @ weight("v"))
        (y,) = solved("o", true, chip, self.true - self.chip)
        self.true, self.chip = self.true + true @ weight("o"), self.chip + y

        true, chip = self._norm(self.true), self._norm(self.chip, at.norm_mlp)
        gate, up = solved("gate up", true, chip)
        unit = self.scales.inputs(layer, "down")
        chip = shrink(gate * logistic(gate) * up, unit, Int(widths.product))
        gate, up = true @ weight("gate"), true @ weight("up")
        true = gate * logistic(gate) * up
        (y,) = solved("down", true, chip, self.true - self.chip)
        self.true, self.chip = self.true + true @ weight("down"), self.chip + y

    def head(self, solve: Solver) -> None:
        """Solve the head."""
        layer = self.architecture.layers
        true, chip = self._norm(self.true), self._norm(self.chip, self.scales.norm)
        solve(layer, "head", lambda: halves(true, chip))

    def _norm(self, x: np.ndarray, scale: float | None = None) -> np.ndarray:
        power = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
        x = x / np.sqrt(power + np.float32(self.architecture.norm_epsilon))
        return x if scale is None else snap(x, scale, Int(self.scales.widths.norm))

    def _mix(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, layer: int | None = None
    ) -> np.ndarray:
        """Attention of every window; as on the chip with the scales of ``layer``."""
        width = self.architecture.head_width
        parts = []
        for start, end in zip([0, *self.ends[:-1]], self.ends, strict=True):
            query, key, value = (x[start:end].reshape(end - start, -1, width) for x in (q, k, v))
            turn = self.turn[0][: end - start], self.turn[1][: end - start]
            query, key = rotate(query, *turn), rotate(key, *turn)
            if layer is not None:
                at = self.scales.layers[layer]
                key = snap(key, np.concatenate([at.key, at.key], axis=-1), KEY)
                value = snap(value, at.value, VALUE)
            mixed = mix(query, key, value)[1]
            if layer is not None:
                unit = self.scales.inputs(layer, "o")
                mixed = shrink(mixed, unit, Int(self.scales.widths.attention))
            parts.append(mixed)
        return np.concatenate(parts)


def snap(x: np.ndarray, scale: np.ndarray | float, to: Int) -> np.ndarray:
    """Round to multiples of ``scale`` within the range of ``to``: float32."""
    scale = np.asarray(scale, np.float32)
    return np.clip(np.rint(x / scale), to.low, to.high) * scale


def shrink(x: np.ndarray, unit: np.ndarray | float, to: Int) -> np.ndarray:
    """Round each row of ``x`` [T, n] to ``unit`` times the power of two that it needs: float32."""
    unit = np.asarray(unit, np.float32)
    steps = x / unit
    _, length = np.frexp(np.abs(steps).max(-1, keepdims=True))
    step = np.exp2(np.maximum(length - (to.bits - 1), 0)).astype(np.float32)
    return np.clip(np.rint(steps / step), to.low, to.high) * step * unit


def sums(true: np.ndarray, chip: np.ndarray, short: np.ndarray | None = None) -> Moments:
    """Sum up one matrix's inputs."""
    weighted = chip * fair(chip)[:, None]
    return Moments(
        chip=weighted.T @ chip,
        cross=true.T @ weighted,
        short=None if short is None else short.T @ weighted,
    )


def halves(true: np.ndarray, chip: np.ndarray, short: np.ndarray | None = None) -> Halves:
    """Sum up one matrix's inputs over each half of the tokens."""
    middle = len(true) // 2

    def half(part: slice) -> Moments:
        return sums(true[part], chip[part], None if short is None else short[part])

    return half(slice(middle)), half(slice(middle, None))
