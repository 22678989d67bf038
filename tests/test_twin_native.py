"""Every operation of the native kernels, of every instruction set here, equals ``golden``'s."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from array_devices import integers, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from native_kernels import any_matrix, every_kernels, loud, model_with, native, shaped_model
from random_model import random_architecture, random_model

from intaglio.golden import forward, ops
from intaglio.golden.forward import Golden, Linear, Memory, attend
from intaglio.golden.model import Matrix
from intaglio.golden.number import (
    EXP_TABLE,
    RSQRT_TABLE,
    SIGMOID_TABLE,
    SINE_TABLE,
    Int,
    Widths,
    accumulator_bits,
)
from intaglio.golden.sample import Sampling, sample
from intaglio.twin import _native
from intaglio.twin.native import NativeEngine

properties = settings(max_examples=60, deadline=None)
WIDTHS = st.integers(4, 16)


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Fail unless a result equals the wanted integers and is int32."""
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want)


def narrowed(rng: np.random.Generator, bits: int, shape: int | tuple[int, ...]) -> np.ndarray:
    """Integers of a width as int32."""
    return integers(rng, bits, shape).astype(np.int32)


def test_the_processor_has_kernels():
    assert _native.engines()[-1] == "portable"


@pytest.mark.parametrize(
    ("name", "table"),
    [("rsqrt", RSQRT_TABLE), ("exp", EXP_TABLE), ("sine", SINE_TABLE), ("sigmoid", SIGMOID_TABLE)],
)
def test_tables_equal_golden(name, table):
    same(_native.table(name), table)


# --- vectors


NORMS = st.tuples(
    st.integers(1, (1 << 48) - 1) | st.sampled_from([1, (1 << 48) - 1]),
    st.integers(1, 65535) | st.sampled_from([1, 65535]),
    st.integers(40, 62) | st.sampled_from([40, 62]),
)


def check_norm(kernels: str, x: np.ndarray, norm: tuple[int, int, int], bits: int) -> None:
    want = ops.norm(x[None].astype(np.int64), *norm, Int(bits))[0]
    same(_native.norm(kernels, x, norm, bits), want)


@every_kernels
@properties
@given(seeds, st.integers(1, 90), NORMS, WIDTHS)
def test_norm_equals_golden(kernels, rng, n, norm, bits):
    check_norm(kernels, narrowed(rng, int(rng.integers(2, 33)), n), norm, bits)


@every_kernels
@pytest.mark.parametrize("value", [-(1 << 31), (1 << 31) - 1, 0, 1])
@pytest.mark.parametrize("epsilon", [1, (1 << 48) - 1])
def test_norm_of_the_widest_residuals_equals_golden(kernels, value, epsilon):
    """A sum of squares of 79 bits, and the least."""
    x = np.full(1 << 16, value, np.int32)
    assert value != -(1 << 31) or int(ops.sum_of_squares(x[None].astype(int))[0]).bit_length() == 79
    for shift in (40, 62):
        check_norm(kernels, x, (epsilon, 65535, shift), 16)


@every_kernels
@properties
@given(seeds, st.integers(1, 40), st.integers(0, (1 << 17) - 1), WIDTHS)
def test_rotate_equals_golden(kernels, rng, pairs, position, bits):
    x = narrowed(rng, 16, 2 * pairs)
    fraction = integers(rng, 33, pairs) & 0xFFFFFFFF
    turned = ops.turn(np.array([position]), fraction)
    want = ops.rotate(x[None, None].astype(np.int64), *turned, Int(bits))[0, 0]
    same(_native.rotate(kernels, x, fraction.astype(np.uint32), position, bits), want)


@every_kernels
def test_rotate_by_every_angle_equals_golden(kernels):
    """The low 14 bits of an angle do nothing."""
    angles = np.arange(1 << 18) << 14
    angles += np.random.default_rng(0).integers(0, 1 << 14, len(angles))
    x = np.tile(np.array([1 << 15, 0], np.int32), len(angles))
    got = _native.rotate(kernels, x, angles.astype(np.uint32), 1, 16).reshape(-1, 2)
    sines = [ops.sine(angles + (1 << 30) & 0xFFFFFFFF), ops.sine(angles)]
    same(got, np.stack(sines, -1))


@every_kernels
@properties
@given(seeds, st.integers(1, 90), st.integers(1, 32), WIDTHS)
def test_shrink_equals_golden(kernels, rng, n, source, bits):
    x = narrowed(rng, max(source, 2), n)
    values, lift = _native.shrink(kernels, x, bits)
    want, lifts = ops.shrink(x[None].astype(np.int64), Int(bits))
    same(values, want[0])
    assert lift == lifts[0]


@every_kernels
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_shrink_at_every_power_equals_golden(kernels, bits):
    for power in range(32):
        for x in ((1 << power) - 1, 1 << power, (1 << power) + 1, -(1 << power), -(1 << power) - 1):
            if not -(1 << 31) <= x < 1 << 31:
                continue
            values, lift = _native.shrink(kernels, np.array([x, 0, 1], np.int32), bits)
            want, lifts = ops.shrink(np.array([[x, 0, 1]]), Int(bits))
            assert (values.tolist(), lift) == (want[0].tolist(), lifts[0])


@every_kernels
@properties
@given(seeds, st.integers(1, 90))
def test_gate_equals_golden(kernels, rng, n):
    gate, up = narrowed(rng, 24, n), narrowed(rng, 20, n)
    same(_native.gate(kernels, gate, up), ops.gate(gate.astype(np.int64), up.astype(np.int64)))


@pytest.fixture(scope="module")
def every_gate() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every argument of the logistic function, factors, and what ``golden`` makes of them."""
    gates = np.arange(-(1 << 23), 1 << 23)
    ups = integers(np.random.default_rng(0), 20, len(gates))
    product = ops.gate(gates, ups)
    return gates.astype(np.int32), ups.astype(np.int32), product.astype(np.int32)


@pytest.mark.slow
@every_kernels
def test_gate_of_every_argument_equals_golden(kernels, every_gate):
    gates, ups, product = every_gate
    same(_native.gate(kernels, gates, ups), product)


# --- the choice of a token


SAMPLINGS = st.builds(
    Sampling,
    st.sampled_from([0, 1, 1000, 5909, 40000, (1 << 20) - 1]) | st.integers(0, (1 << 20) - 1),
    st.integers(1, 64) | st.sampled_from([1, 64]),
    st.integers(1, 65536) | st.sampled_from([1, 65535, 65536]),
    st.integers(0, (1 << 64) - 1),
)
SPREADS = st.sampled_from([1, 2, 8, 40, 5000, 1 << 15, 1 << 23])


def check_sample(kernels: str, logits: np.ndarray, sampling: Sampling, position: int) -> None:
    got = _native.sample(
        kernels, logits.astype(np.int32), sampling.beta, sampling.top_k, sampling.top_p,
        sampling.seed, position,
    )  # fmt: skip
    assert got == sample(logits, sampling, position)


@every_kernels
@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(1, 300), SPREADS, SAMPLINGS, st.integers(0, (1 << 17) - 1))
def test_sample_equals_golden(kernels, rng, vocabulary, spread, sampling, position):
    """Logits near enough for ties and far enough for weights of 0."""
    check_sample(kernels, rng.integers(-spread, spread, vocabulary), sampling, position)


@every_kernels
@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "random", "corners"])
def test_sample_of_a_large_vocabulary_equals_golden(kernels, order):
    rng = np.random.default_rng(3)
    logits = {
        "ascending": np.arange(50_001) * 300 - (1 << 23),
        "descending": (1 << 23) - 1 - np.arange(50_001) * 300,
        "equal": np.full(50_001, -(1 << 23)),
        "random": rng.integers(-40_000, 40_000, 50_001),
        "corners": rng.choice([-(1 << 23), (1 << 23) - 1], 50_001, p=[0.999, 0.001]),
    }[order]
    for seed in range(20):
        for sampling in (Sampling(seed=seed), Sampling.of(0.9, seed % 65, 0.95, seed * 7**20)):
            check_sample(kernels, logits, sampling, seed * 5000)


@every_kernels
def test_a_target_at_the_edge_belongs_to_the_next(kernels):
    """Two equal weights, and a position whose target is exactly the whole weight of the first."""
    assert _native.sample(kernels, np.array([5, 5], np.int32), 1, 64, 65536, 0, 4211) == 1


# --- matrices


DOWN = 6  # the kind of that matrix


def product_of(
    kernels: str, matrix: Matrix, activation: int, x: np.ndarray, lifts: np.ndarray, bits: int
) -> np.ndarray:
    """Results of the kernels for ``x`` [T, inputs], each row of which was shrunk by its lift."""
    engine = native(model_with(matrix, activation), kernels)
    return engine.model.matrix_product(0, DOWN, x.astype(np.int32), lifts.astype(np.int32), bits)


def check_product(
    kernels: str, matrix: Matrix, activation: int, x: np.ndarray, lifts: np.ndarray, bits: int
) -> None:
    want = Linear(matrix, activation)(x, Int(bits), lifts)
    same(product_of(kernels, matrix, activation, x, lifts, bits), want)


SIZES = st.integers(1, 70) | st.sampled_from(
    [1, 15, 16, 17, 31, 32, 33, 64, 65, 127, 128, 129, 200]
)


@every_kernels
@settings(max_examples=150, deadline=None)
@given(
    seeds, SIZES, SIZES, st.integers(1, 9), st.integers(2, 4), st.sampled_from([0, 0.3, 1]),
    st.integers(0, 6), WIDTHS, st.sampled_from([8, 16, 20, 24, 32]),
)  # fmt: skip
def test_matrix_product_equals_golden(
    kernels, rng, inputs, outputs, rows, code, extras, extra_shift, activation, bits
):
    matrix = any_matrix(
        rng, (inputs, outputs), code, int(np.ceil(extras * inputs)), extra_shift, activation
    )
    x = integers(rng, activation, (rows, inputs))
    lifts = rng.integers(0, int(matrix.shift.min()) + 1, rows)
    check_product(kernels, matrix, activation, x, lifts, bits)


@every_kernels
@pytest.mark.parametrize("rows", [95, 96, 97, 200])
@pytest.mark.parametrize("activation", [8, 12, 16])
def test_matrix_product_of_many_rows_equals_golden(kernels, rows, activation):
    rng = np.random.default_rng(rows)
    matrix = any_matrix(rng, (37, 70), 3, 9, 4, activation)
    x = integers(rng, activation, (rows, 37))
    lifts = rng.integers(0, int(matrix.shift.min()) + 1, rows)
    check_product(kernels, matrix, activation, x, lifts, 32)


def largest_matrix(inputs: int, bits: int, extra_shift: int, activation: int) -> Matrix:
    """Three outputs, the largest weights there are: all positive, all negative, both."""
    top = (1 << bits - 1) - 1
    codes = np.empty((inputs, 3), np.uint8)
    codes[:, 0], codes[:, 1] = top, 2 * top + 1
    codes[:, 2] = np.where(np.arange(inputs) % 2, top, 2 * top + 1)
    return Matrix(
        bits=bits, codes=codes, extra_shift=extra_shift,
        extra_inputs=np.arange(inputs, dtype=np.int32), extra_codes=codes,
        multiplier=np.full(3, 65535, np.uint16), shift=np.array([62, 62, 32], np.uint8),
    )  # fmt: skip


def extreme_rows(inputs: int, activation: int) -> np.ndarray:
    """Rows of the least, the greatest, both in turn, and of digits that are all -128."""
    low, high = Int(activation).low, Int(activation).high
    digits = max(-128 * 257, low) if activation > 8 else low
    both = np.where(np.arange(inputs) % 2, high, low)
    return np.stack([
        np.full(inputs, low), np.full(inputs, high), both, -1 - both,
        np.full(inputs, digits), np.full(inputs, min(127 * 256 - 128, high)),
    ])  # fmt: skip


BORDERS = [(134, 6, 15), (135, 6, 15), (17207, 6, 8), (17208, 6, 8), (1075, 6, 12), (1076, 6, 12)]


@every_kernels
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(("inputs", "extra_shift", "activation"), BORDERS)
def test_accumulators_at_32_bits_equal_golden(kernels, inputs, extra_shift, activation, bits):
    """The last matrix whose sums all fit 32 bits, and the first whose sums do not."""
    matrix = largest_matrix(inputs, bits, extra_shift, activation)
    x = extreme_rows(inputs, activation)
    for bits_out, lift in ((32, 0), (32, 31), (20, 8)):
        check_product(kernels, matrix, activation, x, np.full(len(x), lift), bits_out)


@every_kernels
@pytest.mark.parametrize("activation", [8, 15, 16])
def test_the_widest_accumulators_equal_golden(kernels, activation):
    """The most inputs the kernels take, the largest weights: sums of 45 bits."""
    inputs = 1 << 19
    matrix = largest_matrix(inputs, 4, 6, activation)
    assert accumulator_bits(inputs, matrix.largest, 16) == 45
    x = extreme_rows(inputs, activation)
    check_product(kernels, matrix, activation, x, np.arange(len(x)), 32)


@every_kernels
@pytest.mark.parametrize("saturated", [False, True])
def test_every_matrix_of_a_model_equals_golden(kernels, saturated):
    model = shaped_model("odd", vocabulary=77)
    model = loud(model) if saturated else model
    engine, golden = native(model, kernels), Golden(model)
    rng = np.random.default_rng(0)
    for layer, linears in enumerate([*golden.linears, {"head": golden.head}]):
        for kind, (name, linear) in enumerate(linears.items()):
            activation = model.widths.inputs(name)
            x = integers(rng, activation, (5, linear.weights.shape[0]))
            lifts = rng.integers(0, int(linear.shift.min()) + 1, 5)
            got = engine.model.matrix_product(
                layer, kind, x.astype(np.int32), lifts.astype(np.int32), 24
            )
            same(got, linear(x, Int(24), lifts))


# --- attention


POSITIONS = 150  # not a multiple of a tile
HEADS = [  # query heads, key heads, width of a head
    (1, 1, 2), (2, 2, 6), (3, 1, 16), (4, 2, 18), (5, 1, 32), (12, 2, 30), (7, 1, 64), (8, 1, 130),
    (2, 1, 256),
]  # fmt: skip
Remembered = tuple[NativeEngine, Any, Golden]


@cache
def remembered(kernels: str, heads: tuple[int, int, int], query: int) -> Remembered:
    """An engine and ``golden`` with the keys and values of one layer, many of them saturated."""
    number, kv_heads, width = heads
    architecture = random_architecture(
        heads=number, kv_heads=kv_heads, head_width=width, layers=1, width=11, inner=3,
        context=POSITIONS,
    )  # fmt: skip
    model = loud(random_model(5, architecture, Widths(query=query)))
    engine, golden = native(model, kernels), Golden(model)
    sequence = engine.sequence()
    tokens = np.random.default_rng(0).integers(0, architecture.vocabulary, POSITIONS)
    engine.forward([sequence] * POSITIONS, tokens, np.arange(POSITIONS), np.empty(0, np.int64))
    golden.residual(tokens)
    return engine, sequence, golden


def check_attention(
    remembered: Remembered, q: np.ndarray, kv_head: int, position: int, shift: int
) -> None:
    """Compare the attention of ``q`` [group, head_width] at a position, at any score shift."""
    engine, sequence, golden = remembered
    engine.model.set_layer(0, (1, 1, 40), (1, 1, 40), shift)
    got = engine.model.attention(sequence, 0, kv_head, q.astype(np.int32), position)
    one, whole = Memory(1, 0, 0), golden.memories[0][0]
    one.keys, one.values = whole.keys[kv_head, None], whole.values[kv_head, None]
    same(got, attend(q[None], one, position, shift)[0])


@every_kernels
@settings(max_examples=150, deadline=None)
@given(
    seeds, st.sampled_from(HEADS), st.sampled_from([4, 7, 8, 12, 14, 15, 16]),
    st.integers(0, POSITIONS - 1) | st.sampled_from([0, 1, 15, 16, 17, 31, 32, 63, 64, 127, 128]),
    st.integers(0, 31),
)  # fmt: skip
def test_attention_equals_golden(kernels, rng, heads, query, position, shift):
    q = integers(rng, query, (heads[0] // heads[1], heads[2]))
    q >>= rng.integers(0, query, (len(q), 1))
    where = remembered(kernels, heads, query)
    check_attention(where, q, int(rng.integers(heads[1])), position, shift)


@every_kernels
@pytest.mark.parametrize("query", [4, 7, 8, 14, 15, 16])
@pytest.mark.parametrize("heads", [(1, 1, 2), (8, 1, 130), (2, 1, 256)])
def test_attention_of_the_widest_queries_equals_golden(kernels, heads, query):
    low, high = Int(query).low, Int(query).high
    for row in ([low], [high], [low, high], [0], [-1]):
        q = np.resize(np.array(row), (heads[0], heads[2]))
        for shift in (0, query - 1, 28, 29, 30, 31):
            check_attention(remembered(kernels, heads, query), q, 0, POSITIONS - 1, shift)


@pytest.mark.slow
@every_kernels
def test_attention_over_many_positions_equals_golden(kernels, monkeypatch):
    """More positions than the kernels sum at once; ``golden`` only has to remember them."""
    count = 33_000
    architecture = random_architecture(
        heads=1, kv_heads=1, head_width=2, layers=1, width=3, inner=3, context=count + 70
    )
    model = random_model(5, architecture)
    engine, golden = native(model, kernels, threads=2), Golden(model)
    sequence = engine.sequence()
    tokens = np.random.default_rng(0).integers(0, architecture.vocabulary, count)
    engine.forward([sequence] * count, tokens, np.arange(count), np.empty(0, np.int64))
    with monkeypatch.context() as patch:
        patch.setattr(forward, "attend", lambda q, *_: np.zeros_like(q))
        golden.residual(tokens)
    where = engine, sequence, golden
    rng = np.random.default_rng(1)
    for position in (32_766, 32_767, 32_768, 32_769, 32_784, count - 1):
        for shift in (0, 4, 12):
            check_attention(where, integers(rng, 12, (1, 2)), 0, position, shift)
