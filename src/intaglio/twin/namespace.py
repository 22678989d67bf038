"""Two array libraries under one set of names, and their exact products of integers.

NumPy and PyTorch agree on most names (``xp``: ``where``, ``clip``, ``take``, ``frexp`` ...) and on
two's complement int64; what differs is here. Neither multiplies matrices of integers fast, so the
products run in floats whose every partial sum is exact, or on a GPU in bytes.
"""

import importlib
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from intaglio.errors import BadInput, ToolMissing
from intaglio.golden.model import Matrix
from intaglio.golden.number import code_values

EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53  # integers up to these have no gaps
PARTS = 4  # float32 products that still cost no more than one in float64
TILE = 32  # byte products: rows, inputs and outputs are padded to multiples


class Product(Protocol):
    """Dot products with one matrix: int64 [T, inputs] to accumulators, int64 [T, outputs].

    ``nbytes``: what its weights take.
    """

    nbytes: int

    def __call__(self, x: Any) -> Any: ...


class Arrays(Protocol):
    """Where arrays live and how they are made.

    ``name``: of the engine. ``xp``: the library's own functions. ``rows``: tokens that run through
    the layers together. ``gapless``: the largest integer up to which its fast float has no gaps.
    """

    name: str
    xp: Any
    rows: int
    gapless: int

    def integers(self, x: Any) -> Any:
        """As int64, on the device; ``x``: NumPy's or the library's own."""
        ...

    def stored(self, x: np.ndarray) -> Any:
        """As it is, on the device."""
        ...

    def floats(self, x: Any, bound: int) -> Any:
        """In a float type that is exact for sums of magnitude up to ``bound``."""
        ...

    def clamp(self, x: Any, low: int | None, high: int | None) -> Any:
        """Bring ``x`` within ``low`` to ``high``, in place, and return it."""
        ...

    def zeros(self, *shape: int) -> Any:
        """Zeros, int8."""
        ...

    def host(self, x: Any) -> np.ndarray:
        """As a NumPy array."""
        ...

    def largest(self, keys: Any, count: int) -> Any:
        """The ``count`` largest of distinct ``keys`` [B, n] in descending order: [B, count]."""
        ...

    def product(self, matrix: Matrix, activation: int) -> Product:
        """The fastest exact product with ``matrix`` for inputs of ``activation`` bits."""
        ...


def arrays_of(device: str | None) -> Arrays:
    """NumPy (``None``), or PyTorch on "cpu" or "cuda".

    Raises :class:`BadInput` for another device, :class:`ToolMissing` without PyTorch or a GPU.
    """
    if device is None:
        return NumpyArrays()
    if device not in ("cpu", "cuda"):
        raise BadInput(f"device must be 'cpu' or 'cuda', not {device!r}")
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise ToolMissing(
            f"device {device!r} needs PyTorch, which is not installed", hint="pip install torch"
        ) from None
    if device == "cuda" and not torch.cuda.is_available():
        raise ToolMissing(
            f"device 'cuda' needs a GPU, and PyTorch {torch.__version__} sees none",
            hint="leave the device out",
        )
    return TorchArrays(torch, device)


class NumpyArrays:
    """NumPy; products by BLAS."""

    name = "numpy"
    xp: Any = np
    rows = 128
    gapless = EXACT_FLOAT32

    def integers(self, x: Any) -> np.ndarray:
        return np.asarray(x).astype(np.int64, copy=False)

    def stored(self, x: np.ndarray) -> np.ndarray:
        return x

    def floats(self, x: np.ndarray, bound: int) -> np.ndarray:
        assert bound <= EXACT_FLOAT64
        return x.astype(np.float32 if bound <= EXACT_FLOAT32 else np.float64)

    def clamp(self, x: np.ndarray, low: int | None, high: int | None) -> np.ndarray:
        # np.clip takes microseconds to look at its bounds: half the time of a small array
        if low is not None:
            np.maximum(x, low, out=x)
        if high is not None:
            np.minimum(x, high, out=x)
        return x

    def zeros(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, np.int8)

    def host(self, x: np.ndarray) -> np.ndarray:
        return x

    def largest(self, keys: np.ndarray, count: int) -> np.ndarray:
        first = keys.shape[-1] - count
        return -np.sort(-np.partition(keys, first, axis=-1)[:, first:], axis=-1)

    def product(self, matrix: Matrix, activation: int) -> Product:
        return FloatProduct(self, matrix.weights(), activation)


class TorchArrays:
    """PyTorch on one device; products in bytes where a GPU has them.

    Floats are always 64 bits: PyTorch's float32 products round their inputs to fewer bits where
    some global setting allows it.
    """

    gapless = EXACT_FLOAT64

    def __init__(self, torch: Any, device: str) -> None:
        self.name, self.xp, self.device = f"torch {device}", torch, device
        self.rows = 1024 if device == "cuda" else 128
        self.bytes = device == "cuda" and self._has_bytes()

    def _has_bytes(self) -> bool:
        """Whether this PyTorch and GPU multiply bytes, and rightly."""
        torch = self.xp
        rng = np.random.default_rng(0)
        x, y = rng.integers(-128, 128, (2, TILE, TILE))
        try:
            got = torch._int_mm(self.integers(x).to(torch.int8), self.integers(y).to(torch.int8))
        except (AttributeError, RuntimeError):
            return False
        return bool((self.host(got) == x @ y).all())

    def integers(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x = self.xp.from_numpy(x.astype(np.int64))
        return x.to(self.device, self.xp.int64)

    def stored(self, x: np.ndarray) -> Any:
        return self.xp.from_numpy(x.copy()).to(self.device)

    def floats(self, x: Any, bound: int) -> Any:
        assert bound <= EXACT_FLOAT64
        return x.to(self.xp.float64)

    def clamp(self, x: Any, low: int | None, high: int | None) -> Any:
        return x.clamp_(low, high)

    def zeros(self, *shape: int) -> Any:
        return self.xp.zeros(shape, dtype=self.xp.int8, device=self.device)

    def host(self, x: Any) -> np.ndarray:
        return x.cpu().numpy()

    def largest(self, keys: Any, count: int) -> Any:
        return self.xp.topk(keys, count, dim=-1, sorted=True).values

    def product(self, matrix: Matrix, activation: int) -> Product:
        if self.bytes:
            return ByteProduct(self, matrix, activation)
        return FloatProduct(self, matrix.weights(), activation)


class FloatProduct:
    """By float products, the inputs cut into parts where one short float's sum would lose a bit."""

    def __init__(self, arrays: Arrays, weights: np.ndarray, activation: int) -> None:
        self.arrays = arrays
        weights = weights.astype(np.int64)
        self.parts = []
        for part in exact_parts(weights, activation, arrays.gapless):
            bound = largest_sum(weights[part], activation)
            floats = arrays.floats(arrays.integers(weights[part]), bound)
            self.parts.append((part, floats, bound))
        self.nbytes = sum(floats.nbytes for _, floats, _ in self.parts)

    def __call__(self, x: Any) -> Any:
        total = 0
        for part, weights, bound in self.parts:
            dot = self.arrays.floats(x[:, part], bound) @ weights
            total = total + self.arrays.integers(dot)
        return total


def largest_sum(weights: np.ndarray, activation: int) -> int:
    """The largest magnitude of any partial sum of a dot product with ``weights`` [n, outputs]."""
    return int(np.abs(weights).sum(0).max()) << activation - 1


def exact_parts(weights: np.ndarray, activation: int, gapless: int) -> list[slice]:
    """The inputs in a few parts whose sums stay within ``gapless``, else in one."""
    inputs = len(weights)
    for count in range(1, PARTS + 1):
        edges = [inputs * at // count for at in range(count + 1)]
        parts = [slice(a, b) for a, b in pairwise(edges)]
        if all(largest_sum(weights[part], activation) <= gapless for part in parts):
            return parts
    return [slice(0, inputs)]


class ByteProduct:
    """By PyTorch's int8 products with int32 sums: ``torch._int_mm``.

    A weight of more than 8 bits is the two digits it is stored as; an activation of more than 8
    bits is its upper byte and its lower byte less 128, in rows below each other. At most 65,536
    inputs of 7 and 8 bits: an int32 sum cannot overflow.
    """

    def __init__(self, arrays: TorchArrays, matrix: Matrix, activation: int) -> None:
        self.arrays, self.wide = arrays, activation > 8
        self.outputs = matrix.outputs
        weights, values = matrix.weights(), code_values(matrix.bits)
        self.offset = arrays.integers(weights.sum(0) << 7)
        if np.abs(weights).max() < 1 << 7:
            digits = [(weights, 0, None)]
        else:
            extra_inputs = arrays.integers(matrix.extra_inputs)
            digits = [
                (values[matrix.codes], matrix.extra_shift, None),
                (values[matrix.extra_codes], 0, extra_inputs),
            ]
        self.digits = [
            (self._padded(digit.T).t(), shift, inputs) for digit, shift, inputs in digits
        ]
        self.nbytes = sum(weights.nbytes for weights, _, _ in self.digits)

    def _padded(self, x: Any) -> Any:
        """Bytes of ``x`` [n, m] with zeros up to multiples of TILE; rows lie in one piece."""
        torch = self.arrays.xp
        x = self.arrays.integers(x).to(torch.int8)
        return torch.nn.functional.pad(x, (0, -x.shape[1] % TILE, 0, -x.shape[0] % TILE))

    def __call__(self, x: Any) -> Any:
        rows = self.arrays.xp.cat((x >> 8, (x & 255) - 128)) if self.wide else x
        total: Any = 0
        for weights, shift, inputs in self.digits:
            padded = self._padded(rows if inputs is None else rows[:, inputs])
            dot = self.arrays.integers(self.arrays.xp._int_mm(padded, weights))
            total = total + (dot[: len(rows), : self.outputs] << shift)
        if self.wide:
            return (total[: len(x)] << 8) + total[len(x) :] + self.offset
        return total
