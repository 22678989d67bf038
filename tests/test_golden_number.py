"""Widths, codebooks and tables: every constant recomputed or pinned, every refusal worded."""

import doctest
import hashlib
from decimal import Decimal, getcontext
from itertools import count, product
from pathlib import Path

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
SPEC = Path(__file__).parents[1] / "docs" / "spec.md"
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
        "GATE": 24, "UP": 20, "PRODUCT": 32, "LOGIT": 24, "EMBEDDING": 8, "LOW_RANK": 8,
        "LATENT": 16,
    }  # fmt: skip
    names = (
        "SCORE_FRACTION", "WEIGHT_BITS", "ATTENTION_FRACTION", "GATE_FRACTION", "PRODUCT_SHIFT",
        "LOGIT_FRACTION", "MULTIPLIER_BITS", "SQUARE_BITS", "ACCUMULATOR_LIMIT", "WIDTH_LIMIT",
        "CONTEXT_LIMIT", "CANDIDATES", "RSQRT_MANTISSA", "SINE_BITS", "ADDEND_SHIFT", "RANK_LIMIT",
    )  # fmt: skip
    assert [getattr(number, name) for name in names] == [
        10, 16, 8, 12, 8, 12, 16, 80, 46, 1 << 16, 1 << 17, 64, 24, 16, 8, 64,
    ]  # fmt: skip


# --- docs/spec.md says the same


def test_spec_examples_run():
    failed, attempted = doctest.testfile(str(SPEC), module_relative=False)
    assert (failed, attempted) == (0, 25)


def spec_rows(first: str) -> list[list[str]]:
    """The cells of the table of docs/spec.md whose header begins with ``first``."""
    _, _, after = SPEC.read_text().partition(f"\n| {first} |")
    rows = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_spec_states_the_codebooks():
    assert {
        int(bits): tuple(int(v) for v in values.split(","))
        for bits, values in spec_rows("b")
    } == CODEBOOKS  # fmt: skip


def test_spec_states_the_tables():
    text = SPEC.read_text()
    assert all(f"`{digest}`" in text for digest in TABLE_HASHES.values())


def test_spec_states_the_widths():
    rows = {row[0]: row[1:3] for row in spec_rows("number")}
    stated = {
        "residual": number.RESIDUAL, "q, k before rotary": number.ROTARY,
        "key, value": number.KEY, "score": number.SCORE, "attention": number.ATTENTION,
        "gate": number.GATE, "up": number.UP, "product": number.PRODUCT, "logit": number.LOGIT,
        "embedding code": number.EMBEDDING,
    }  # fmt: skip
    assert {name: rows[name][0] for name in stated} == {
        name: f"int{value.bits}" for name, value in stated.items()
    }
    assert number.VALUE == number.KEY
    for name, fraction in (
        ("score", number.SCORE_FRACTION), ("attention", number.ATTENTION_FRACTION),
        ("gate", number.GATE_FRACTION), ("logit", number.LOGIT_FRACTION),
    ):  # fmt: skip
        assert f"{fraction} fraction bits" in rows[name][1]
    assert rows["weight"][0] == f"uint{number.WEIGHT_BITS}"
    assert rows["multiplier"][0] == f"uint{number.MULTIPLIER_BITS}"


def signed_bits(*values: int) -> int:
    return max((v if v >= 0 else ~v).bit_length() for v in values) + 1


def test_spec_states_the_widths_inside():
    """Each from its widest legal operands."""
    rows = dict(spec_rows("value"))
    root = 131069
    g = root * 65535 + 2**15 >> 16
    square = max((((h + 1) << 16) - 1) * int(RSQRT_TABLE[h - 64]) ** 2 for h in range(64, 256))
    total = 65535 * number.CONTEXT_LIMIT
    latent = number.RANK_LIMIT * number.LOW_RANK.low * number.LATENT.low
    corner, gate, up = 2**15 * 32767, Int(24), Int(20)
    got = {
        "accumulator · multiplier, with the rounding half": signed_bits(2**45 * 65535 + 2**61),
        "sum of an adapter's B · t": signed_bits(latent),
        "adapter's addend": signed_bits(latent * 65535 << number.ADDEND_SHIFT),
        "accumulator · multiplier, with an addend and the rounding half": signed_bits(
            2**45 * 65535 + 2**61 + (latent * 65535 << number.ADDEND_SHIFT)
        ),
        "x · g": signed_bits(-(2**31) * g),
        "sum of weighted values": signed_bits(-128 * total),
        "sum · R": signed_bits(-128 * total * 2**16),
        "g · σ": signed_bits(gate.high * 65536, gate.high * 65536 + 2**15),
        "silu · u": signed_bits(gate.high * up.low, gate.high * up.high + 2**7),
    }
    unsigned = {
        "M · t² in the reciprocal root": square.bit_length(),
        "r, g": max(root, g).bit_length(),
        "total": total.bit_length(),
        "top − score": (number.SCORE.high - number.SCORE.low).bit_length(),
        "logit difference · beta (section 13)": ((2**24 - 1) * (2**20 - 1)).bit_length(),
        "cumulative weight": (number.CANDIDATES * 65535).bit_length(),
    }
    assert got == {name: int(rows[name]) for name in got}
    assert {name: f"u{bits}" for name, bits in unsigned.items()} == {n: rows[n] for n in unsigned}
    widest = number.WIDTH_LIMIT * 2**62 + 2**48 - 1
    assert rows["sum of squares, epsilon included"].startswith(f"u{widest.bit_length()},")
    turned = f"{signed_bits(2 * corner, -2 * corner)}; {signed_bits(2 * corner + 2**26)}"
    assert rows["a·c − b·d; with the rounding half"] == turned
