"""An equal checkpoint that quantizes better: gains folded, inner channels balanced, all rotated.

The residual stream is turned by one orthogonal matrix, folded into the weights on both sides of it,
so that no channel of a norm's output stands out. Legend: R ``rotation(width)``, H
``rotation(head_width)``, g a norm's gains; the residual r of the checkpoint becomes R r.
"""

import math
from dataclasses import replace

import numpy as np

from intaglio.architecture import Architecture
from intaglio.checkpoint.forward import Weights
from intaglio.checkpoint.tensors import tensor_shapes

LARGEST_ODD = 1 << 12


def rotation(width: int) -> np.ndarray:
    """Return an orthogonal matrix whose entries are all small: float64 [width, width].

    A Hadamard matrix for the power of two in ``width``, a cosine transform for the odd rest, and
    column signs from a fixed integer hash. Depends on ``width`` alone.
    """
    power = width & -width
    mixed = np.kron(cosine_transform(width // power), hadamard(power) / math.sqrt(power))
    return mixed * signs(width)[None, :]


def hadamard(size: int) -> np.ndarray:
    """Sylvester's matrix of a power of two: float64 [size, size], entries 1 and -1."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def cosine_transform(size: int) -> np.ndarray:
    """The orthonormal cosine transform (DCT-II): float64 [size, size]."""
    if size > LARGEST_ODD:
        raise ValueError(f"odd part of a width must be at most {LARGEST_ODD}, not {size}")
    rows = [
        [math.cos(math.pi * k * (2 * i + 1) / (2 * size)) for i in range(size)] for k in range(size)
    ]
    matrix = np.array(rows) * math.sqrt(2 / size)
    matrix[0] *= math.sqrt(0.5)
    return matrix


def signs(count: int) -> np.ndarray:
    """1 or -1 by a multiplicative hash of the index: float64 [count]."""
    index = np.arange(1, count + 1, dtype=np.uint64)
    mixed = index * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return 1.0 - 2.0 * (mixed >> np.uint64(63)).astype(np.float64)


def balance(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return the factor [inner] of each up row that makes its down column of norm 1.

    Whatever a checkpoint multiplied a row by and divided its column by drops out. A channel with
    an empty column keeps its row as it is.
    """
    norm = np.sqrt(np.square(down, dtype=np.float64).sum(0))
    return np.where(norm > 0, norm, 1.0)


def interleaved(heads: int, head_width: int) -> np.ndarray:
    """Row order that takes q or k from half-split to adjacent rotary pairs: int64 [outputs].

    Row ``2 i`` of a head is its element ``i``, row ``2 i + 1`` its element ``i + head_width / 2``.
    """
    within = np.arange(head_width).reshape(2, -1).T.reshape(-1)
    return (np.arange(heads)[:, None] * head_width + within[None, :]).reshape(-1)


class Folded:
    """The same function as ``checkpoint``, as another checkpoint: a drop-in for its weights.

    Untied; every norm gain is 1; ``up`` and ``down`` balanced; the residual stream rotated, and
    with ``turn_heads`` the values within each head. Rows of q and k stay half-split. What was
    folded once stays in memory.
    """

    def __init__(self, checkpoint: Weights, *, turn_heads: bool = True) -> None:
        self._checkpoint = checkpoint
        self._rotation = rotation(checkpoint.architecture.width)
        width = checkpoint.architecture.head_width
        self._turn = rotation(width) if turn_heads else np.eye(width)
        self._kept: dict[str, np.ndarray] = {}

    @property
    def architecture(self) -> Architecture:
        """That of the checkpoint, untied."""
        return replace(self._checkpoint.architecture, tied=False)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape."""
        return tensor_shapes(self.architecture)

    def tensor(self, name: str) -> np.ndarray:
        """Fold one tensor: float32, C order, read-only. Shapes and names are the checkpoint's."""
        if name not in self._kept:
            folded = np.ascontiguousarray(self._fold(name), np.float32)
            folded.flags.writeable = False
            self._kept[name] = folded
        return self._kept[name]

    def _fold(self, name: str) -> np.ndarray:
        a, prefix, short = self.architecture, *split(name)
        tensor = self._read(name)
        if short in ("norm", "norm_attention", "norm_mlp"):
            return np.ones(a.width)
        if short == "embedding":
            return tensor @ self._rotation.T
        if short in ("o", "down"):
            return self._rotation @ self._within(prefix, short, tensor)
        norm = {"head": "norm", "gate": "norm_mlp", "up": "norm_mlp"}.get(short, "norm_attention")
        gain = self._read(prefix + norm)
        return (self._within(prefix, short, tensor) * gain[None, :]) @ self._rotation.T

    def _within(self, prefix: str, short: str, tensor: np.ndarray) -> np.ndarray:
        """Apply what pairs v with o and up with down: outputs of the first, inputs of the last."""
        width = self.architecture.head_width
        if short == "v":
            return np.matmul(self._turn, tensor.reshape(-1, width, tensor.shape[1])).reshape(
                tensor.shape
            )
        if short == "o":
            return (tensor.reshape(len(tensor), -1, width) @ self._turn.T).reshape(tensor.shape)
        if short in ("up", "down"):
            up = tensor if short == "up" else self._read(prefix + "up")
            down = tensor if short == "down" else self._read(prefix + "down")
            factor = balance(up, down)
            return tensor * factor[:, None] if short == "up" else tensor / factor[None, :]
        return tensor

    def _read(self, name: str) -> np.ndarray:
        return self._checkpoint.tensor(name).astype(np.float64)


def split(name: str) -> tuple[str, str]:
    """Split ``layers.0.q`` into ``layers.0.`` and ``q``; other names have an empty prefix."""
    prefix, dot, short = name.rpartition(".")
    return prefix + dot, short
