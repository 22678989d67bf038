"""What the tests of the twin on arrays share: devices, arrays on them, integers of a width."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from intaglio.golden.number import Int
from intaglio.twin.functions import Functions
from intaglio.twin.namespace import TorchArrays, arrays_of

with_torch = [pytest.mark.peer, pytest.mark.filterwarnings("default")]
DEVICES = [
    pytest.param(None, id="numpy"),
    pytest.param("cpu", id="torch-cpu", marks=with_torch),
    pytest.param("cuda", id="torch-cuda", marks=with_torch),
]
every_device = pytest.mark.parametrize("device", DEVICES)
seeds = st.integers(0, 1 << 32).map(np.random.default_rng)


@cache
def functions(device: str | None) -> Functions:
    """The operations on a device; skips the test where there is none."""
    if device is not None:
        torch = pytest.importorskip("torch")
        if device == "cuda" and not torch.cuda.is_available():
            pytest.skip("no GPU")
    return Functions(arrays_of(device))


def into(device: str | None, *values: Any) -> list[Any]:
    """Arrays as int64 on the device."""
    return [functions(device).arrays.integers(np.asarray(value)) for value in values]


def same(device: str | None, got: Any, want: np.ndarray) -> None:
    """Fail unless a result equals the wanted one and is int64."""
    got = functions(device).arrays.host(got)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, want, strict=True)


def integers(rng: np.random.Generator, bits: int, shape: Any) -> np.ndarray:
    """Integers of a width: of every magnitude, the corners often."""
    low, high = Int(bits).low, Int(bits).high
    x = rng.integers(low, high, shape, endpoint=True) >> rng.integers(0, bits, shape)
    corners = rng.choice([low, low + 1, -1, 0, 1, high - 1, high], shape)
    return np.where(rng.random(shape) < 0.3, corners, x)


@contextmanager
def exact_bytes() -> Iterator[TorchArrays]:
    """PyTorch on the CPU with its plain int8 product: the vector one may saturate 16-bit sums."""
    torch = pytest.importorskip("torch")
    with torch.backends.mkldnn.flags(enabled=False):
        yield TorchArrays(torch, "cpu")
