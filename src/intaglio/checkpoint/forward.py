"""The float reference: one forward pass of a Llama decoder in NumPy, in the weights' precision.

Rotary convention, half-split as in Hugging Face: within a head of width w, element i and element
i + w/2 turn together, at position p by the angle p * frequency[i]:
``(x[i], x[i + w/2]) -> (x[i] cos - x[i + w/2] sin, x[i + w/2] cos + x[i] sin)``.
"""

import math
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np

from intaglio.architecture import Architecture, RopeScaling

Tap = Callable[[int, str, np.ndarray], None]

QUERY_BLOCK = 256  # positions whose scores are held at once


class Weights(Protocol):
    """What the forward pass needs of a checkpoint; a solver can pass altered weights."""

    @property
    def architecture(self) -> Architecture: ...

    def tensor(self, name: str) -> np.ndarray: ...


def rope_frequencies(architecture: Architecture) -> np.ndarray:
    """Compute the rotary frequencies in radians per position: float64 [head width / 2]."""
    width, scaling = architecture.head_width, architecture.rope_scaling
    plain = plain_frequencies(architecture.rope_base, width)
    return plain if scaling is None else plain / llama3_factors(plain, scaling)


def plain_frequencies(base: float, head_width: int) -> np.ndarray:
    """Compute the rotary frequencies without scaling: float64 [head width / 2]."""
    return base ** -(np.arange(0, head_width, 2) / head_width)


def llama3_factors(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    """Compute what Llama 3's scaling divides each frequency by: 1 to ``factor``, float64.

    A pair that turns more than ``high_freq_factor`` times in the original context keeps its
    frequency, one that turns less than ``low_freq_factor`` times is slowed by the whole factor.
    """
    turns = scaling.original_context * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - kept) / scaling.factor + kept)


class FloatModel:
    """The forward pass of a checkpoint.

    Computes in float32, or in float64 where the weights are. ``cache``: keep every weight in memory
    (540 MB for 135 M weights) after its first use; without it each pass reads the checkpoint
    again, one layer at a time.
    """

    def __init__(self, checkpoint: Weights, *, cache: bool = True) -> None:
        self.architecture = checkpoint.architecture
        self._checkpoint = checkpoint
        self._kept: dict[str, np.ndarray] | None = {} if cache else None
        self._reading = threading.Lock()
        self._frequencies = rope_frequencies(self.architecture)

    def logits(self, ids: np.ndarray, tap: Tap | None = None) -> np.ndarray:
        """Predict the next token at every position of one text.

        ``ids``: integers [T], positions 0 to T - 1. Result: float32 [T, vocabulary].

        ``tap(layer, name, array)`` sees, for each layer in turn, float32 arrays that must not be
        changed: ``attention_input`` [T, width] (normed: what q, k and v take), ``query`` [T,
        heads, head width] and ``key`` [T, kv heads, head width] after rotary, ``value`` [T, kv
        heads, head width], ``attention_output`` [T, query width] (what o takes), ``mlp_input``
        [T, width] (what gate and up take), ``down_input`` [T, inner], ``residual`` [T, width]
        after the layer. Layer -1 is the embedding, with ``residual`` alone; the layer after the
        last is the head, with ``head_input`` [T, width] alone.
        """
        return self.head(self.hidden(ids, tap))

    def head(self, hidden: np.ndarray) -> np.ndarray:
        """Logits [T, vocabulary] of what :meth:`hidden` computes, or of some rows of it."""
        return hidden @ self._weight("head").T

    def hidden(self, ids: np.ndarray, tap: Tap | None = None) -> np.ndarray:
        """Compute what the head takes: float32 [T, width], after the last norm."""
        ids = self._checked(ids)
        tap = tap or _ignore
        residual = self._weight("embedding")[ids]
        turn = self._rotation(len(ids), residual.dtype)
        tap(-1, "residual", residual)
        for layer in range(self.architecture.layers):
            residual = residual + self._attention(layer, residual, turn, tap)
            residual = residual + self._mlp(layer, residual, tap)
            tap(layer, "residual", residual)
        hidden = self._norm("norm", residual)
        tap(self.architecture.layers, "head_input", hidden)
        return hidden

    def _attention(
        self, layer: int, residual: np.ndarray, turn: tuple[np.ndarray, np.ndarray], tap: Tap
    ) -> np.ndarray:
        a, prefix = self.architecture, f"layers.{layer}."
        x = self._norm(f"{prefix}norm_attention", residual)
        tap(layer, "attention_input", x)
        query, key, value = (
            (x @ self._weight(prefix + name).T).reshape(len(x), -1, a.head_width) for name in "qkv"
        )
        query, key = rotate(query, *turn), rotate(key, *turn)
        for name, array in (("query", query), ("key", key), ("value", value)):
            tap(layer, name, array)
        output = attend(query, key, value)
        tap(layer, "attention_output", output)
        return output @ self._weight(f"{prefix}o").T

    def _mlp(self, layer: int, residual: np.ndarray, tap: Tap) -> np.ndarray:
        prefix = f"layers.{layer}."
        x = self._norm(f"{prefix}norm_mlp", residual)
        tap(layer, "mlp_input", x)
        gate, up = (x @ self._weight(prefix + name).T for name in ("gate", "up"))
        inner = silu(gate) * up
        tap(layer, "down_input", inner)
        return inner @ self._weight(f"{prefix}down").T

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        power = np.mean(np.square(x), axis=-1, keepdims=True, dtype=x.dtype)
        scale = 1 / np.sqrt(power + x.dtype.type(self.architecture.norm_epsilon))
        return x * scale * self._weight(name)

    def _rotation(self, count: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines of every position: [count, 1, head width / 2]."""
        angles = np.arange(count)[:, None, None] * self._frequencies
        return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)

    def _weight(self, name: str) -> np.ndarray:
        if self._kept is None:
            return self._checkpoint.tensor(name)
        if name == "head" and self.architecture.tied:
            name = "embedding"
        if name not in self._kept:
            with self._reading:  # threads that want the same wait for one
                if name not in self._kept:
                    self._kept[name] = self._checkpoint.tensor(name)
        return self._kept[name]

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        ids, a = np.asarray(ids), self.architecture
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"ids must be integers [T], not {ids.dtype} {list(ids.shape)}")
        if not 1 <= len(ids) <= a.context:
            raise ValueError(f"ids must be 1 to {a.context} tokens, not {len(ids)}")
        if ids.min() < 0 or ids.max() >= a.vocabulary:
            raise ValueError(f"ids must be 0 to {a.vocabulary - 1}, not {ids.min()} to {ids.max()}")
        return ids


def rotate(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Turn every pair of every head: ``x`` is [T, heads, head width], the angles [T, 1, half]."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Causal attention with grouped queries.

    ``query`` [T, heads, head width], ``key`` and ``value`` [T, kv heads, head width], all of one
    precision. Result: [T, heads * head width] in the same.
    """
    count, heads, width = query.shape
    kv_heads = key.shape[1]
    key, value = key.transpose(1, 2, 0), value.transpose(1, 0, 2)  # [kv, width, T], [kv, T, width]
    output = np.empty((count, heads, width), query.dtype)
    scale = query.dtype.type(1 / math.sqrt(width))
    future = np.triu(np.full((QUERY_BLOCK, QUERY_BLOCK), -np.inf, query.dtype), 1)
    for start in range(0, count, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, count)
        block = query[start:stop].reshape(stop - start, kv_heads, -1, width).transpose(1, 2, 0, 3)
        shape = block.shape  # [kv heads, group, block, width]
        scores = (block.reshape(kv_heads, -1, width) * scale) @ key[:, :, :stop]
        scores = scores.reshape(*shape[:3], stop)
        scores[..., start:] += future[: stop - start, : stop - start]
        mixed = softmax(scores).reshape(kv_heads, -1, stop) @ value[:, :stop]
        output[start:stop] = mixed.reshape(shape).transpose(2, 0, 1, 3).reshape(-1, heads, width)
    return output.reshape(count, -1)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Exponentials of the last axis over their sum, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + exp(-x)), written so that no large exponential occurs."""
    half = x.dtype.type(0.5)
    return x * (half + half * np.tanh(half * x))


def _ignore(layer: int, name: str, array: np.ndarray) -> None:
    """Stand in for a tap that was not given."""
