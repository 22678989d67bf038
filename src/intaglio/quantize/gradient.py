"""The float forward pass again, with its gradient: which outputs matter, and how much.

Works on a folded checkpoint (gains of 1), one window at a time, float32. No gradient of a weight is
formed: what callers need is each matrix's input x [T, inputs] and the gradient g [T, outputs] of
the loss by its output.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from intaglio.checkpoint.forward import Weights, rope_frequencies, rotate, softmax

Seed = Callable[[np.ndarray], np.ndarray]
"""The gradient of the loss by the final norm's output, given that output [T, width]."""

Gradients = Callable[[int, str, np.ndarray, np.ndarray, np.ndarray], None]
"""``see(layer, matrix, input, output, gradient)``: a matrix's input [T, inputs], its output, rotary
not yet applied to q and k, and the gradient of the loss by it, both [T, outputs]; the layers arrive
last to first."""

Tap = Callable[[int, str, np.ndarray], None]


@dataclass
class Saved:
    """What the backward pass of one layer needs from its forward pass."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Differentiable:
    """A folded checkpoint's blocks as a differentiable function; weights are kept in memory."""

    def __init__(self, weights: Weights) -> None:
        self.architecture = weights.architecture
        self.weights = weights
        self.kept: dict[str, np.ndarray] = {}
        self._frequencies = rope_frequencies(self.architecture)

    def weight(self, name: str) -> np.ndarray:
        """A float32 weight, read once."""
        if name not in self.kept:
            self.kept[name] = self.weights.tensor(name)
        return self.kept[name]

    def run(self, ids: np.ndarray, seed: Seed, see: Gradients, tap: Tap | None = None) -> None:
        """Run one window forward and back; ``tap`` as of the float model, plus ``up``."""
        a = self.architecture
        turn = self._turn(len(ids))
        residual = self.weight("embedding")[ids]
        tap = tap or (lambda *_: None)
        tap(-1, "residual", residual)
        saved = []
        for layer in range(a.layers):
            attention, mlp = Saved(), Saved()
            residual = residual + self._attention(layer, residual, turn, attention, tap)
            residual = residual + self._mlp(layer, residual, mlp, tap)
            tap(layer, "residual", residual)
            saved.append((attention, mlp))
        hidden, scale = self._norm(residual)
        tap(a.layers, "head_input", hidden)
        gradient = norm_back(seed(hidden), hidden, scale)
        for layer in reversed(range(a.layers)):
            attention, mlp = saved.pop()
            gradient = gradient + self._mlp_back(layer, gradient, mlp, see)
            gradient = gradient + self._attention_back(layer, gradient, turn, attention, see)

    def _turn(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        angles = np.arange(count)[:, None, None] * self._frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def _norm(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        power = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
        scale = 1 / np.sqrt(power + np.float32(self.architecture.norm_epsilon))
        return x * scale, scale

    def _attention(
        self, layer: int, residual: np.ndarray, turn: tuple, saved: Saved, tap: Tap
    ) -> np.ndarray:
        a, prefix, keep = self.architecture, f"layers.{layer}.", saved.arrays
        x, keep["scale"] = self._norm(residual)
        keep["x"] = x
        tap(layer, "attention_input", x)
        for name in "qkv":
            keep[name] = x @ self.weight(prefix + name).T
        q, k, v = (keep[name].reshape(len(x), -1, a.head_width) for name in "qkv")
        q, k = rotate(q, *turn), rotate(k, *turn)
        for name, array in (("query", q), ("key", k), ("value", v)):
            tap(layer, name, array)
        keep["turned_q"], keep["turned_k"] = q, k
        keep["shares"], mixed = mix(q, k, v)
        tap(layer, "attention_output", mixed)
        keep["mixed"] = mixed
        keep["o"] = mixed @ self.weight(f"{prefix}o").T
        return keep["o"]

    def _attention_back(
        self, layer: int, gradient: np.ndarray, turn: tuple, saved: Saved, see: Gradients
    ) -> np.ndarray:
        a, prefix, keep = self.architecture, f"layers.{layer}.", saved.arrays
        see(layer, "o", keep["mixed"], keep["o"], gradient)
        mixed = (gradient @ self.weight(f"{prefix}o")).reshape(len(gradient), -1, a.head_width)
        value = keep["v"].reshape(len(gradient), -1, a.head_width)
        dq, dk, dv = mix_back(mixed, keep["shares"], keep["turned_q"], keep["turned_k"], value)
        back = (turn[0], -turn[1])
        parts = {"q": rotate(dq, *back), "k": rotate(dk, *back), "v": dv}
        total = np.zeros_like(keep["x"])
        for name, part in parts.items():
            flat = np.ascontiguousarray(part).reshape(len(gradient), -1)
            see(layer, name, keep["x"], keep[name], flat)
            total += flat @ self.weight(prefix + name)
        return norm_back(total, keep["x"], keep["scale"])

    def _mlp(self, layer: int, residual: np.ndarray, saved: Saved, tap: Tap) -> np.ndarray:
        prefix, keep = f"layers.{layer}.", saved.arrays
        x, keep["scale"] = self._norm(residual)
        keep["x"] = x
        tap(layer, "mlp_input", x)
        gate, up = (x @ self.weight(prefix + name).T for name in ("gate", "up"))
        tap(layer, "up", up)
        keep["gate"], keep["up"] = gate, up
        inner = gate * logistic(gate) * up
        tap(layer, "down_input", inner)
        keep["inner"] = inner
        keep["down"] = inner @ self.weight(f"{prefix}down").T
        return keep["down"]

    def _mlp_back(
        self, layer: int, gradient: np.ndarray, saved: Saved, see: Gradients
    ) -> np.ndarray:
        prefix, keep = f"layers.{layer}.", saved.arrays
        see(layer, "down", keep["inner"], keep["down"], gradient)
        inner = gradient @ self.weight(f"{prefix}down")
        gate, share = keep["gate"], logistic(keep["gate"])
        silu = gate * share
        by_up = inner * silu
        by_gate = inner * keep["up"] * (share + silu * (1 - share))
        see(layer, "up", keep["x"], keep["up"], by_up)
        see(layer, "gate", keep["x"], gate, by_gate)
        total = by_up @ self.weight(f"{prefix}up") + by_gate @ self.weight(f"{prefix}gate")
        return norm_back(total, keep["x"], keep["scale"])


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), written so that no large exponential occurs."""
    return np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * x)


def norm_back(gradient: np.ndarray, output: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Gradient by the input of a norm without gains, from that by its ``output``."""
    along = np.mean(gradient * output, axis=-1, keepdims=True)
    return scale * (gradient - output * along)


def mix(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Causal attention: shares [kv heads, group, T, T], and their mix of values [T, width]."""
    count, _, width = query.shape
    kv_heads = key.shape[1]
    queries = grouped(query, kv_heads) * np.float32(1 / math.sqrt(width))
    scores = queries @ key.transpose(1, 2, 0)[:, None]
    scores += np.triu(np.full((count, count), -np.inf, np.float32), 1)
    shares = softmax(scores)
    mixed = shares @ value.transpose(1, 0, 2)[:, None]
    return shares, np.ascontiguousarray(mixed.transpose(2, 0, 1, 3)).reshape(count, -1)


def mix_back(
    gradient: np.ndarray, shares: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients by query, key (after rotary) and value, each of the shape of its argument."""
    count, heads, width = query.shape
    kv_heads = key.shape[1]
    scale = np.float32(1 / math.sqrt(width))
    mixed = grouped(gradient, kv_heads)  # [kv heads, group, T, width]
    by_value = (shares.transpose(0, 1, 3, 2) @ mixed).sum(1)
    by_share = mixed @ value.transpose(1, 2, 0)[:, None]
    by_share -= (by_share * shares).sum(-1, keepdims=True)
    by_share *= shares
    by_share *= scale
    by_query = by_share @ key.transpose(1, 0, 2)[:, None]
    by_key = (by_share.transpose(0, 1, 3, 2) @ grouped(query, kv_heads)).sum(1)
    by_query = by_query.transpose(2, 0, 1, 3).reshape(count, heads, width)
    return by_query, by_key.transpose(1, 0, 2), by_value.transpose(1, 0, 2)


def grouped(x: np.ndarray, kv_heads: int) -> np.ndarray:
    """[T, heads, width] to [kv heads, group, T, width]."""
    count, _, width = x.shape
    return x.reshape(count, kv_heads, -1, width).transpose(1, 2, 0, 3)
