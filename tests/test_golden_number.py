"""Widths, codebooks and tables: every constant recomputed or pinned, every refusal worded."""

import hashlib
from decimal import Decimal, getcontext
from itertools import count, product

import numpy as np
import pytest

from intaglio.errors import Overflow
from intaglio.golden import number
from intaglio.golden.number import (
    ACCUMULATOR_LIMIT,
    CODEBOOKS,
    EXP_TABLE,
    MAGNITUDE_BITS,
    RSQRT_TABLE,
    SIGMOID_TABLE,
    SINE_TABLE,
    Int,
    Widths,
    accumulator_bits,
    code_values,
    product_bits,
)

getcontext().prec = 50
TABLE_HASHES = {
    "RSQRT_TABLE": "12bdc81df2347612",
    "EXP_TABLE": "950d30da00f386a8",
    "SINE_TABLE": "0f1fa8520b9ba807",
    "SIGMOID_TABLE": "1eb5d1c80bfc7957",
}


def nearest(value: Decimal) -> int:
    """Round to the nearest integer, a tie to the even one."""
    return int(value.to_integral_value(rounding="ROUND_HALF_EVEN"))


def decimal_sine(x: Decimal) -> Decimal:
    """Sum the Taylor series of a sine to 40 digits."""
    term = total = x
    for n in count(1):
        term = -term * x * x / (2 * n * (2 * n + 1))
        total += term
        if abs(term) < Decimal("1e-40"):
            return total
    raise AssertionError


PI = Decimal("3.14159265358979323846264338327950288419716939937510")


def table_hash(table: np.ndarray) -> str:
    return hashlib.sha256(table.astype("<i8").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("bits", [2, 3, 16, 63, 64])
def test_int_range(bits):
    assert (Int(bits).low, Int(bits).high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("bits", [1, 65, 8.0, "8", None])
def test_int_refuses_other_widths(bits):
    with pytest.raises(ValueError, match=r"^Int bits must be an integer from 2 to 64, not "):
        Int(bits)


@pytest.mark.parametrize("name", ["norm", "query", "attention", "product"])
@pytest.mark.parametrize("value", [3, 17, 8.0, "8"])
def test_widths_refuse_what_the_spec_does_not_define(name, value):
    with pytest.raises(Overflow) as caught:
        Widths(**{name: value})
    assert str(caught.value) == f"width of {name} must be from 4 to 16 bits, not {value!r}"


def test_widths_default():
    assert Widths() == Widths(norm=8, query=12, attention=8, product=10)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_codebook_is_a_sign_above_an_ascending_magnitude(bits):
    values = code_values(bits)
    half = 1 << bits - 1
    assert len(values) == 2 * half
    assert values.dtype == np.int64
    assert tuple(values[:half]) == CODEBOOKS[bits] == tuple(sorted(set(CODEBOOKS[bits])))
    assert tuple(values[half:]) == tuple(-v for v in CODEBOOKS[bits])
    assert min(CODEBOOKS[bits]) > 0
    assert max(CODEBOOKS[bits]).bit_length() <= MAGNITUDE_BITS


def test_codebooks_are_frozen():
    assert CODEBOOKS == {2: (4, 13), 3: (2, 5, 9, 15), 4: (1, 2, 4, 5, 7, 9, 11, 15)}


@pytest.mark.parametrize("activation", range(4, 17))
def test_product_bits_hold_every_product_and_no_fewer_would(activation):
    a, top = Int(activation), max(max(m) for m in CODEBOOKS.values())
    products = [x * w for x, w in product((a.low, a.high), (top, -top))]
    held = Int(product_bits(activation))
    assert held.low <= min(products)
    assert max(products) <= held.high
    assert max(products) > Int(held.bits - 1).high


@pytest.mark.parametrize(
    ("inputs", "magnitude", "activation"),
    [(1, 15, 8), (576, 15, 8), (1536, 255, 10), (14336, 975, 16), (7, 13, 4), (1 << 14, 1, 16)],
)
def test_accumulator_holds_every_sum_and_no_fewer_bits_would(inputs, magnitude, activation):
    bits = accumulator_bits(inputs, magnitude, activation)
    largest = inputs * magnitude * 2 ** (activation - 1)
    assert largest <= Int(bits).high
    assert largest > Int(bits - 1).high


def test_accumulator_refuses_what_a_multiplier_would_overflow():
    assert accumulator_bits((1 << 30) - 1, 1, 16) == ACCUMULATOR_LIMIT == 46
    with pytest.raises(Overflow) as caught:
        accumulator_bits(1 << 30, 1, 16)
    assert str(caught.value) == (
        "accumulator of 1073741824 inputs, weights up to 1 and 16-bit activations "
        "must fit 46 bits, not 47"
    )


def test_reciprocal_root_table_is_correctly_rounded():
    expected = [nearest(4096 * (256 / (h + Decimal("0.5"))).sqrt()) for h in range(64, 256)]
    assert RSQRT_TABLE.tolist() == expected


def test_exponential_table_is_correctly_rounded():
    two = Decimal(2).ln()
    expected = [nearest(65535 * (-two * h / 64).exp()) for h in range(64)]
    assert EXP_TABLE.tolist() == [*expected, 32768]  # half of 65535, up: the next octave's start


def test_sine_table_is_correctly_rounded():
    expected = [nearest(32767 * decimal_sine(PI / 512 * h)) for h in range(257)]
    assert SINE_TABLE.tolist() == [*expected, 32767]


def test_sigmoid_table_is_correctly_rounded():
    expected = [nearest(65536 / (1 + (Decimal(-h) / 16).exp())) for h in range(257)]
    assert SIGMOID_TABLE.tolist() == expected


@pytest.mark.parametrize("name", TABLE_HASHES)
def test_tables_are_frozen(name):
    assert table_hash(getattr(number, name)) == TABLE_HASHES[name]


def test_one_changed_entry_is_another_hash():
    for table in (RSQRT_TABLE, EXP_TABLE, SINE_TABLE, SIGMOID_TABLE):
        changed = table.copy()
        changed[len(changed) // 2] += 1
        assert table_hash(changed) != table_hash(table)


def test_widths_are_frozen():
    assert {
        name: value.bits for name, value in vars(number).items() if isinstance(value, Int)
    } == {
        "RESIDUAL": 32, "ROTARY": 16, "KEY": 8, "VALUE": 8, "SCORE": 20, "ATTENTION": 16,
        "GATE": 24, "UP": 20, "PRODUCT": 32, "LOGIT": 24, "EMBEDDING": 8,
    }  # fmt: skip
    names = (
        "SCORE_FRACTION", "WEIGHT_BITS", "ATTENTION_FRACTION", "GATE_FRACTION", "PRODUCT_SHIFT",
        "LOGIT_FRACTION", "MULTIPLIER_BITS", "SQUARE_BITS", "ACCUMULATOR_LIMIT", "WIDTH_LIMIT",
        "CONTEXT_LIMIT", "CANDIDATES", "RSQRT_MANTISSA", "SINE_BITS",
    )  # fmt: skip
    assert [getattr(number, name) for name in names] == [
        10, 16, 8, 12, 8, 12, 16, 80, 46, 1 << 16, 1 << 17, 64, 24, 16,
    ]  # fmt: skip
