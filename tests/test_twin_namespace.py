"""Exact products on NumPy and PyTorch, in floats and in bytes; what is refused."""

import sys
from typing import Any

import numpy as np
import pytest
from array_devices import exact_bytes, functions, integers
from random_model import random_matrix

from intaglio.errors import BadInput, ToolMissing
from intaglio.golden.model import Matrix
from intaglio.golden.number import Int
from intaglio.twin.namespace import (
    EXACT_FLOAT32,
    EXACT_FLOAT64,
    ByteProduct,
    FloatProduct,
    NumpyArrays,
    TorchArrays,
    arrays_of,
    exact_parts,
)


def exact_dot(matrix: Matrix, x: np.ndarray) -> np.ndarray:
    return (x.astype(object) @ matrix.weights().astype(object)).astype(np.int64)


def uniform(inputs: int, extra_shift: int | None) -> Matrix:
    """Columns of all +15, all -15 and alternating; twice the digits with an ``extra_shift``."""
    codes = np.tile(np.array([7, 15, 7], np.uint8), (inputs, 1))
    codes[1::2, 2] = 15
    extras = 0 if extra_shift is None else inputs
    ones = np.ones(3, np.uint16)
    order = np.arange(extras, dtype=np.int32)
    return Matrix(4, codes, extra_shift or 0, order, codes[:extras], ones, np.zeros(3, np.uint8))


def check_product(kind: Any, arrays: Any, matrix: Matrix, activation: int) -> None:
    to = Int(activation)
    rng = np.random.default_rng(activation)
    x = integers(rng, activation, (40, matrix.inputs))
    x[0], x[1] = to.low, to.high
    x[2, ::2], x[2, 1::2] = to.low, to.high
    for rows in (x, x[2:3]):
        stored: Any = matrix.weights() if kind is FloatProduct else matrix
        got = arrays.host(kind(arrays, stored, activation)(arrays.integers(rows)))
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, exact_dot(matrix, rows))


PRODUCTS = [
    (bits, extras, activation)
    for bits in (2, 3, 4)
    for extras in (0, 5, 21)
    for activation in (4, 8, 9, 10, 16)
]


@pytest.mark.parametrize(("bits", "extras", "activation"), PRODUCTS)
def test_float_product_is_exact(bits, extras, activation):
    rng = np.random.default_rng(bits + extras)
    matrix = random_matrix(rng, 21, 13, source=30, target=1000, bits=bits, extras=extras)
    check_product(FloatProduct, NumpyArrays(), matrix, activation)


BORDERS = [
    (8738, None, 8, 1, np.float32),  # 8738 * 15 * 128 = 2**24 - 256
    (8739, None, 8, 2, np.float32),
    (34952, None, 8, 4, np.float32),
    (34956, None, 8, 1, np.float64),
    (2048, 6, 8, 1, np.float64),
    (1 << 16, 6, 16, 1, np.float64),  # 41 bits
]


@pytest.mark.parametrize(("inputs", "extra_shift", "activation", "parts", "dtype"), BORDERS)
def test_float_product_is_exact_at_its_borders(inputs, extra_shift, activation, parts, dtype):
    matrix = uniform(inputs, extra_shift)
    product = FloatProduct(NumpyArrays(), matrix.weights(), activation)
    assert [weights.dtype for _, weights, _ in product.parts] == [dtype] * parts
    check_product(FloatProduct, NumpyArrays(), matrix, activation)


def test_float_product_of_scattered_large_operands_is_exact():
    """Sums whose low bits a rounded partial sum would lose."""
    rng = np.random.default_rng(0)
    matrix = random_matrix(rng, 3000, 9, source=30, target=1000, extras=3000)
    for activation in (8, 10, 12, 16):
        check_product(FloatProduct, NumpyArrays(), matrix, activation)


def test_parts_cover_the_inputs_in_order():
    weights = np.full((10, 2), 100)
    assert exact_parts(weights, 8, 128 * 1000) == [slice(0, 10)]
    assert exact_parts(weights, 8, 128 * 999) == [slice(0, 5), slice(5, 10)]
    assert exact_parts(weights, 8, 128 * 300) == [
        slice(0, 2), slice(2, 5), slice(5, 7), slice(7, 10),
    ]  # fmt: skip
    assert exact_parts(weights, 8, 128 * 299) == [slice(0, 10)]
    assert exact_parts(weights[:1], 8, 1) == [slice(0, 1)]


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("bits", "extras", "activation"), PRODUCTS)
def test_byte_product_is_exact(bits, extras, activation):
    rng = np.random.default_rng(bits + extras)
    matrix = random_matrix(rng, 21, 13, source=30, target=1000, bits=bits, extras=extras)
    with exact_bytes() as arrays:
        check_product(ByteProduct, arrays, matrix, activation)
        check_product(FloatProduct, arrays, matrix, activation)


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("extra_shift", [None, 2, 3, 6])
@pytest.mark.parametrize("activation", [8, 16])
def test_byte_product_of_the_largest_sums_is_exact(extra_shift, activation):
    matrix = uniform(1 << 14, extra_shift)
    with exact_bytes() as arrays:
        product = ByteProduct(arrays, matrix, activation)
        assert len(product.digits) == (1 if extra_shift in (None, 2) else 2)
        check_product(ByteProduct, arrays, matrix, activation)


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
def test_products_on_a_gpu_are_exact():
    arrays = functions("cuda").arrays
    assert isinstance(arrays, TorchArrays)
    rng = np.random.default_rng(3)
    for inputs, outputs, extras in ((21, 13, 5), (576, 192, 576), (1536, 576, 100)):
        matrix = random_matrix(rng, inputs, outputs, source=30, target=1000, extras=extras)
        for activation in (8, 10, 16):
            for kind in (FloatProduct, *([ByteProduct] if arrays.bytes else [])):
                check_product(kind, arrays, matrix, activation)


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
def test_bytes_are_used_only_where_they_multiply_rightly(monkeypatch):
    def wrong(x, y):
        return plain(x, y) + 1

    def unsupported(x, y):
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    with exact_bytes() as arrays:
        torch, plain = arrays.xp, arrays.xp._int_mm
        assert arrays._has_bytes()
        assert not arrays.bytes  # on a CPU they are not trusted
        for product in (wrong, unsupported):
            monkeypatch.setattr(torch, "_int_mm", product)
            assert not arrays._has_bytes()
        monkeypatch.delattr(torch, "_int_mm")
        assert not arrays._has_bytes()


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
def test_no_setting_of_torch_shortens_a_float():
    torch = pytest.importorskip("torch")
    before = torch.get_float32_matmul_precision()
    matrix = random_matrix(np.random.default_rng(0), 300, 64, source=30, target=1000, extras=300)
    try:
        torch.set_float32_matmul_precision("medium")
        check_product(FloatProduct, TorchArrays(torch, "cpu"), matrix, 10)
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_foreign_device_is_refused():
    with pytest.raises(BadInput, match=r"^device must be 'cpu' or 'cuda', not 'tpu'$"):
        arrays_of("tpu")


def test_a_missing_torch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolMissing, match=r"^device 'cpu' needs PyTorch, .*pip install torch"):
        arrays_of("cpu")


@pytest.mark.peer
@pytest.mark.filterwarnings("default")
def test_a_missing_gpu_is_named(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ToolMissing, match=r"^device 'cuda' needs a GPU, and PyTorch .* sees none"):
        arrays_of("cuda")


def test_floats_beyond_their_bound_are_refused():
    for bound, dtype in ((EXACT_FLOAT32, np.float32), (EXACT_FLOAT32 + 1, np.float64)):
        assert NumpyArrays().floats(np.arange(2), bound).dtype == dtype
    with pytest.raises(AssertionError):
        NumpyArrays().floats(np.arange(2), EXACT_FLOAT64 + 1)
