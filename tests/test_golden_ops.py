"""Each operation: exhaustive where possible, exact against Python integers, its error bounded.

A name with ``_e`` bounds the error against the real function from both sides: the operation is
never worse than stated in docs/spec.md, and the statement is not loose.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.golden import ops
from intaglio.golden.number import (
    ATTENTION,
    EXP_TABLE,
    GATE,
    PRODUCT,
    RESIDUAL,
    RSQRT_TABLE,
    SCORE,
    SIGMOID_TABLE,
    Int,
)

properties = settings(max_examples=200, deadline=None)
HALF = Fraction(1, 2)
ANY_INT64 = st.integers(-(1 << 61), (1 << 61) - 1)


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def clamp(value: int, to: Int) -> int:
    return min(max(value, to.low), to.high)


def half_up(value: Fraction) -> int:
    return math.floor(value + HALF)


def signed(bits: int) -> st.SearchStrategy[int]:
    """Integers of a width, its corners often."""
    low, high = Int(bits).low, Int(bits).high
    return st.integers(low, high) | st.sampled_from([low, low + 1, -1, 0, 1, high - 1, high])


# --- rounding and saturation


@properties
@given(ANY_INT64, st.integers(0, 62))
def test_round_shift_rounds_half_up(x, shift):
    assert ops.round_shift(array(x), shift)[0] == half_up(Fraction(x, 1 << shift))


def test_round_shift_of_halves():
    got = ops.round_shift(np.arange(-8, 9), 2)
    assert got.tolist() == [-2, -2, -1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


@properties
@given(signed(20), st.integers(2, 19))
def test_saturate_clamps(x, bits):
    assert ops.saturate(array(x), Int(bits))[0] == clamp(x, Int(bits))


@properties
@given(
    signed(46),
    st.integers(0, 65535) | st.sampled_from([0, 1, 65535]),
    st.integers(0, 62),
    st.sampled_from([8, 10, 16, 20, 24, 32]),
)
def test_narrow_is_the_exact_rational_rounded_half_up(x, multiplier, shift, bits):
    got = ops.narrow(array(x), array(multiplier), shift, Int(bits))[0]
    assert got == clamp(half_up(Fraction(x * multiplier, 1 << shift)), Int(bits))


def test_narrow_takes_multipliers_and_shifts_per_output():
    x = array(1000, 1000, -1000, 1 << 45)[None, :].repeat(2, 0)
    multipliers, shifts = np.array([1, 3, 65535, 65535], np.uint16), array(0, 1, 16, 62)
    got = ops.narrow(x, multipliers, shifts, Int(16))
    assert got.tolist() == [[1000, 1500, -1000, 0]] * 2


@properties
@given(signed(32), signed(32))
def test_add_saturates_at_32_bits(x, y):
    assert ops.add(array(x), array(y))[0] == clamp(x + y, RESIDUAL)


@properties
@given(signed(8), st.integers(0, 65535), st.integers(0, 56))
def test_embed_scales_each_token_by_its_multiplier(code, multiplier, shift):
    got = ops.embed(np.array([[code, 0], [1, code]], np.int8), array(multiplier, 1), shift)
    want = [[code * multiplier, 0], [1, code]]
    assert got.tolist() == [[half_up(Fraction(x, 1 << shift)) for x in row] for row in want]


# --- norm


@properties
@given(st.lists(signed(32), min_size=1, max_size=9), st.integers(1, 40))
def test_sum_of_squares_is_exact(row, copies):
    got = ops.sum_of_squares(np.array([row * copies, [0] * len(row) * copies], np.int64))
    assert got == [copies * sum(x * x for x in row), 0]


@pytest.mark.parametrize("value", [RESIDUAL.low, RESIDUAL.high])
def test_sum_of_squares_of_the_widest_legal_residual_fits_79_bits(value):
    (got,) = ops.sum_of_squares(np.full((1, 1 << 16), value, np.int64))
    assert got == value * value << 16
    assert got.bit_length() <= 79


def newton(mantissa: np.ndarray) -> np.ndarray:
    """The reciprocal root of mantissas as docs/spec.md words it, vectorised."""
    start = RSQRT_TABLE[mantissa // (1 << 16) - 64]
    return start * (3 * 2**24 - mantissa * start * start // 2**24) // 2**21


def test_reciprocal_root_e_over_every_mantissa():
    """24 bits of the square reach the table; those below them can only raise the square."""
    worst_low = worst_high = 0.0
    for block in range(1 << 22, 1 << 24, 1 << 20):
        mantissa = np.arange(block, block + (1 << 20), dtype=np.int64)
        root = newton(mantissa)
        assert 65535 <= root.min() <= root.max() < 1 << 17
        real = 2**28 / np.sqrt(mantissa.astype(np.float64))
        worst_low = min(worst_low, float((root / real).min()) - 1)
        real = 2**28 / np.sqrt(mantissa + 1.0)
        worst_high = max(worst_high, float((root / real).max()) - 1)
    assert -(2**-15) < worst_low < -3.03e-5
    assert 1.4e-7 < worst_high < 1.5e-7


def squares() -> list[int]:
    """Squares of every length: corners of each, and random ones."""
    rng = np.random.default_rng(1)
    found = []
    for bits in range(1, 81):
        low = 1 << bits - 1
        found += [low, 2 * low - 1, low + low // 2, low + low // 3]
        found += [low + int(x * low) for x in rng.random(50)]
    near = [h << 72 >> shift for h in range(64, 256) for shift in (0, 1, 2, 31, 60)]
    return found + [x + d for x in near for d in (-1, 0, 1) if 0 < x + d < 1 << 80]


def test_reciprocal_root_of_squares_of_every_length():
    for square in squares():
        root, z = ops.reciprocal_root(square)
        assert 0 <= z <= 39
        assert 78 < (square << 2 * z).bit_length() <= 80
        assert root == newton(array(square << 2 * z >> 56))[0]
        # |root / 2**16 / 2**(40 - z) * sqrt(square) - 1| < 2**-15, squared and exact
        ratio = Fraction(root * root * square << 2 * z, 1 << 112)
        assert (1 - Fraction(1, 2**15)) ** 2 < ratio < (1 + Fraction(1, 2**15)) ** 2


def norm_of(row: list[int], epsilon: int, multiplier: int, shift: int, to: Int) -> list[int]:
    """RMSNorm in Python integers, written from docs/spec.md."""
    square = epsilon + sum(x * x for x in row)
    zeros = 80 - len(f"{square:b}")
    z = zeros // 2
    mantissa = (square * 4**z) // 2**56
    start = int(RSQRT_TABLE[mantissa // 2**16 - 64])
    root = start * (3 * 2**24 - mantissa * start**2 // 2**24) // 2**21
    gain = (root * multiplier + 2**15) // 2**16
    return [clamp(half_up(Fraction(x * gain, 2 ** (shift - z))), to) for x in row]


@properties
@given(
    st.lists(signed(32) | signed(12), min_size=1, max_size=20),
    st.integers(1, (1 << 48) - 1) | st.just(1),
    st.integers(1, 65535),
    st.integers(40, 62),
    st.sampled_from([4, 8, 16]),
)
def test_norm_is_the_exact_integer_formula(row, epsilon, multiplier, shift, bits):
    got = ops.norm(np.array([row, row[::-1]], np.int64), epsilon, multiplier, shift, Int(bits))
    want = norm_of(row, epsilon, multiplier, shift, Int(bits))
    assert got.tolist() == [want, want[::-1]]


def test_norm_of_zeros_is_zero():
    assert not ops.norm(np.zeros((2, 5), np.int64), 1, 65535, 40, Int(8)).any()


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.505), (12, 0.57), (16, 1.6)])
def test_norm_e(bits, bound):
    """Half a step, and 2**-15 of the value for the root, and 2**-16 for the rounded gain."""
    rng = np.random.default_rng(2)
    worst = 0.0
    for length in range(3, 31):
        x = np.rint(rng.normal(0, 2.0**length, (4, 576))).clip(RESIDUAL.low, RESIDUAL.high)
        x = x.astype(np.int64)
        gain = math.sqrt(576) * 2 ** (bits - 1) / 4.5
        shift = 40 + 15 - math.floor(math.log2(gain))
        multiplier = round(gain * 2 ** (shift - 40))
        got = ops.norm(x, 1, multiplier, shift, Int(bits))
        real = x / np.sqrt((x.astype(float) ** 2).sum(-1, keepdims=True) + 1)
        real *= multiplier * 2.0 ** (40 - shift)
        inside = np.abs(real) < Int(bits).high
        error = np.abs(got - real)[inside]
        assert (error <= 0.5 + np.abs(real[inside]) * (2**-15 + 2**-16)).all()
        worst = max(worst, float(error.max()))
    assert 0.6 * bound < worst < bound


# --- rotary


def test_sine_e_over_every_phase():
    """The low 14 bits of an angle are dropped, so a phase answers for angles up to the next."""
    phase = np.arange(1 << 18)
    got = ops.sine(phase << 14)
    assert np.abs(got).max() == 32767
    for offset, low, high in ((0, 1.045, 1.046), (1, 1.755, 1.757)):
        real = 32767 * np.sin((phase + offset) * (2 * np.pi / (1 << 18)))
        assert low < np.abs(got - real).max() < high
    rest = np.random.default_rng(3).integers(0, 1 << 14, len(phase))
    np.testing.assert_array_equal(ops.sine((phase << 14) + rest), got)


def test_sine_symmetries():
    angle = np.arange(1 << 18) << 14
    np.testing.assert_array_equal(ops.sine((angle + (1 << 31)) % (1 << 32)), -ops.sine(angle))
    np.testing.assert_array_equal(
        ops.sine((1 << 31) - angle[: 1 << 17]), ops.sine(angle[: 1 << 17])
    )
    assert ops.sine(np.arange(4) << 30).tolist() == [0, 32767, 0, -32767]
    first = ops.sine(angle[: 1 << 16])
    assert (np.diff(first) >= 0).all()


@properties
@given(st.integers(0, (1 << 17) - 1), st.integers(0, (1 << 32) - 1))
def test_turn_takes_the_angle_modulo_a_turn(position, fraction):
    cosine, sine = ops.turn(array(0, position), array(fraction, 0))
    angle = position * fraction % 2**32
    assert sine.tolist() == [[0, 0], [ops.sine(array(angle))[0], 0]]
    assert cosine.tolist() == [
        [32767, 32767], [ops.sine(array((angle + 2**30) % 2**32))[0], 32767],
    ]  # fmt: skip


def test_turn_e_at_every_position():
    """Against the real angle: the phase's cut, and half of 2**-32 of a turn per position."""
    pairs = np.array([10000.0 ** (-i / 32) / (2 * np.pi) for i in range(32)])
    fraction = np.rint(pairs * 2**32).astype(np.int64)
    position = np.arange(1 << 17)
    for pair in range(0, 32, 5):
        cosine, sine = ops.turn(position, fraction[pair : pair + 1])
        real = 2 * np.pi * (position * pairs[pair] % 1)
        bound = 1.76 + position * 2 * np.pi * 32767 / 2**33
        assert (np.abs(sine[:, 0] - 32767 * np.sin(real)) < bound).all()
        assert (np.abs(cosine[:, 0] - 32767 * np.cos(real)) < bound).all()


@properties
@given(
    st.lists(signed(16), min_size=8, max_size=8),
    st.integers(0, 1 << 17), st.integers(0, (1 << 32) - 1), st.integers(4, 16),
)  # fmt: skip
def test_rotate_is_the_exact_integer_formula(x, position, fraction, bits):
    cosine, sine = ops.turn(array(position), array(fraction, 3 * fraction % 2**32))
    got = ops.rotate(np.array(x, np.int64).reshape(1, 2, 4), cosine, sine, Int(bits))
    want = []
    for pair in range(4):
        a, b = x[2 * pair : 2 * pair + 2]
        c, s = int(cosine[0, pair % 2]), int(sine[0, pair % 2])
        want += [
            clamp(half_up(Fraction(value, 1 << 31 - bits)), Int(bits))
            for value in (a * c - b * s, a * s + b * c)
        ]
    assert got.reshape(-1).tolist() == want


@pytest.mark.parametrize(
    ("bits", "element", "length"), [(8, 0.511, 0.72), (12, 0.68, 0.83), (16, 3.4, 3.2)]
)
def test_rotate_e_and_keeps_the_length(bits, element, length):
    """Over every phase, at the angle whose dropped bits are the most."""
    angle = (np.arange(1 << 18) << 14) + (1 << 14) - 1
    cosine, sine = ops.sine((angle + (1 << 30)) % (1 << 32)), ops.sine(angle)
    real = angle * (2 * np.pi / 2**32)
    worst, stretch = 0.0, 0.0
    for x, y in ((32767, -23100), (-23100, -32768), (23100, -32768), (-32768, 0), (12345, 6789)):
        pair = np.broadcast_to(np.array([x, y], np.int64), (len(angle), 1, 2))
        got = ops.rotate(pair, cosine[:, None], sine[:, None], Int(bits))[:, 0]
        step = 2.0 ** (16 - bits)
        first = (x * np.cos(real) - y * np.sin(real)) / step
        second = (x * np.sin(real) + y * np.cos(real)) / step
        inside = np.maximum(np.abs(first), np.abs(second)) < Int(bits).high - 1
        error = np.maximum(np.abs(got[:, 0] - first), np.abs(got[:, 1] - second))
        longer = np.abs(np.hypot(got[:, 0], got[:, 1]) - math.hypot(x, y) / step)
        worst = max(worst, error[inside].max())
        stretch = max(stretch, longer[inside].max())
    assert 0.95 * element < worst < element
    assert 0.95 * length < stretch < length


def test_rotate_saturates():
    x = np.full((1, 1, 2), 32767, np.int64)
    eighth = (ops.sine(array(1 << 29))[None], ops.sine(array(1 << 29))[None])
    assert ops.rotate(x, *eighth, Int(8)).tolist() == [[[0, 127]]]
    assert ops.rotate(-x - 1, *eighth, Int(8)).tolist() == [[[0, -128]]]


# --- attention


@properties
@given(signed(30), st.integers(0, 31))
def test_score_is_narrowed_to_20_bits(dot, shift):
    got = ops.score(array(dot), shift)[0]
    assert got == clamp(half_up(Fraction(dot, 1 << shift)), SCORE)


def test_exp2_e_over_the_whole_domain():
    """Two scores differ by at most 2**20 - 1."""
    distance = np.arange(1 << 20)
    got = ops.exp2(distance)
    real = 65535 * 2.0 ** (-distance / 1024)
    error = got - real
    assert (got[0], got[1024], got[16 * 1024], got[17 * 1024 :].max()) == (65535, 32768, 1, 0)
    assert (np.diff(got) <= 0).all()
    assert 1.626 < error.max() < 1.627
    assert -0.612 < error.min() < -0.611
    assert 3.4e-5 < np.abs(error / real)[:1024].max() < 3.5e-5


def test_exp2_is_the_exact_integer_formula():
    for distance in [*range(1024), *range(1024, 19 * 1024, 7)]:
        whole, index, rest = distance // 1024, distance // 16 % 64, distance % 16
        here, there = int(EXP_TABLE[index]), int(EXP_TABLE[index + 1])
        mantissa = here - half_up(Fraction((here - there) * rest, 16))
        want = half_up(Fraction(mantissa, 2**whole)) if whole <= 16 else 0
        assert ops.exp2(array(distance))[0] == want


def test_exp2_of_the_samplers_distances_stays_zero():
    far = array(17 * 1024, 1 << 20, (1 << 30) + 5, ((1 << 25) - 1) * ((1 << 20) - 1) >> 14)
    assert not ops.exp2(far).any()


def mean_of(weighted: int, total: int) -> int:
    """The division in Python integers, written from docs/spec.md."""
    length = total.bit_length()
    reciprocal = 2**31 // (total // 2 ** (length - 16))
    return clamp(half_up(Fraction(weighted * reciprocal, 2 ** (7 + length))), ATTENTION)


@properties
@given(st.data(), st.integers(16, 33))
def test_mean_is_the_exact_integer_formula_and_near_the_quotient(data, length):
    low, high = max(1 << length - 1, 65535), min((1 << length) - 1, 65535 << 17)
    total = data.draw(st.integers(low, high) | st.sampled_from([low, high]))
    sums = st.integers(-128 * total, 127 * total)
    weighted = data.draw(sums | st.sampled_from([-128 * total, 0, 127 * total]))
    got = ops.mean(array(weighted)[None], array(total))[0, 0]
    assert got == mean_of(weighted, total)
    assert abs(got - Fraction(256 * weighted, total)) < Fraction(3, 2)


def test_mean_e():
    """Below 1.5 of 2**-8: 1 for the divisor's or the reciprocal's cut, half for rounding."""
    rng = np.random.default_rng(5)
    low = high = 0.0
    divisor = np.arange(1 << 15, 1 << 16)
    for length in range(16, 34):
        for fill in (0, (1 << length - 16) - 1):
            total = np.minimum((divisor << length - 16) + fill, 65535 << 17)
            weighted = np.rint(total * rng.uniform(-128, -126, len(total))).astype(np.int64)
            for sums in (weighted, -weighted - total):
                error = ops.mean(sums[:, None], total)[:, 0] - 256 * sums / total
                error = error[total >= 65535]
                low, high = min(low, float(error.min())), max(high, float(error.max()))
    assert -1.5 < low < -1.4
    assert 1.4 < high < 1.5


def test_mean_of_equal_values_is_that_value():
    total = np.array([65535, 65536, 65535 * 3, 65535 << 17])
    for value in (-128, -1, 0, 1, 127):
        got = ops.mean(value * total[:, None], total)[:, 0]
        assert np.abs(got - 256 * value).max() <= 1


# --- shrink, gate


@properties
@given(st.lists(signed(32) | signed(9), min_size=1, max_size=12), st.integers(4, 16))
def test_shrink_invariants(row, bits):
    got, shifts = ops.shrink(np.array([row], np.int64), Int(bits))
    shift = int(shifts[0])
    assert got.tolist() == [[clamp(half_up(Fraction(x, 1 << shift)), Int(bits)) for x in row]]
    cut = [x >> shift for x in row]  # what fits before rounding
    assert Int(bits).low <= min(cut)
    assert max(cut) <= Int(bits).high
    if shift:
        fewer = [x >> shift - 1 for x in row]
        assert min(fewer) < Int(bits).low or max(fewer) > Int(bits).high
        for x, y in zip(row, got[0].tolist(), strict=True):
            assert abs(x - (y << shift)) <= (1 << shift if y == Int(bits).high else 1 << shift - 1)
    else:
        assert got.tolist() == [row]


def test_shrink_takes_each_row_by_itself():
    x = np.array([[127, -128], [128, 0], [-129, 0], [0, 0], [-(1 << 31), 1], [(1 << 31) - 1, 1]])
    got, shifts = ops.shrink(x, Int(8))
    assert shifts.tolist() == [0, 1, 1, 0, 24, 24]
    assert got.tolist() == [[127, -128], [64, 0], [-64, 0], [0, 0], [-128, 0], [127, 0]]


def test_sigmoid_and_silu_e_over_all_24_bits():
    worst = {"sigmoid": [0.0, 0.0], "silu": [0.0, 0.0]}
    previous = 0
    for start in range(GATE.low, GATE.high + 1, 1 << 20):
        x = np.arange(start, start + (1 << 20))
        got = ops.sigmoid(x)
        assert previous <= got[0]
        assert (np.diff(got) >= 0).all()
        previous = int(got[-1])
        real = 65536 / (1 + np.exp(np.clip(-x / 4096, -700, 700)))
        silu = ops.gate(x, np.full_like(x, 256))  # 256: the shift by 8 undone
        for name, error in (("sigmoid", got - real), ("silu", silu - x * real / 65536)):
            low, high = worst[name]
            worst[name] = [min(low, float(error.min())), max(high, float(error.max()))]
    assert [round(value, 2) for value in worst["sigmoid"]] == [-3.77, 3.77]
    assert [round(value, 2) for value in worst["silu"]] == [-0.88, 0.84]


def test_sigmoid_symmetry_and_ends():
    x = np.concatenate([np.arange(1 << 17), np.arange(1 << 17, 1 << 23, 997)])
    np.testing.assert_array_equal(ops.sigmoid(-x), 65536 - ops.sigmoid(x))
    assert ops.sigmoid(array(0, 65535, 65536, GATE.high, GATE.low)).tolist() == [
        32768, 65536, 65536, 65536, 0,
    ]  # fmt: skip


def sigmoid_of(x: int) -> int:
    """The logistic function in Python integers, written from docs/spec.md."""
    index, rest = divmod(abs(x), 256)
    if index >= 256:
        value = int(SIGMOID_TABLE[256])
    else:
        here, there = int(SIGMOID_TABLE[index]), int(SIGMOID_TABLE[index + 1])
        value = here + half_up(Fraction((there - here) * rest, 256))
    return 65536 - value if x < 0 else value


@properties
@given(signed(24) | signed(17), signed(20) | signed(10))
def test_gate_is_the_exact_integer_formula(gate, up):
    assert ops.sigmoid(array(gate))[0] == sigmoid_of(gate)
    silu = clamp(half_up(Fraction(gate * sigmoid_of(gate), 65536)), GATE)
    want = clamp(half_up(Fraction(silu * up, 256)), PRODUCT)
    assert ops.gate(array(gate), array(up))[0] == want


@pytest.mark.parametrize(
    ("gate", "up", "want"),
    [
        (GATE.high, Int(20).high, PRODUCT.high),
        (GATE.high, Int(20).low, PRODUCT.low),
        (GATE.low, Int(20).low, 0),
        (-4096, 4096, -17632),  # silu(-1) = -0.26894, in 2**-16
        (4096, 4096, 47904),
    ],
)
def test_gate_corners(gate, up, want):
    assert ops.gate(array(gate), array(up))[0] == want
