"""The forward pass: exact products, a reference in Python integers, slots, blocks and rewinding."""

import hashlib
import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import random_architecture, random_matrix, random_model

from intaglio.golden.forward import Golden, Linear, Memory, attend
from intaglio.golden.model import IntModel, Matrix
from intaglio.golden.number import EXP_TABLE, RSQRT_TABLE, SIGMOID_TABLE, SINE_TABLE, Int, Widths

properties = settings(max_examples=30, deadline=None)
MIXED = {"bits": {"q": 3, "gate": 2, "up": 3}, "extras": {"v": 1.0, "k": 0.25, "down": 0.1}}


# --- exact products


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("extras", [0, 5])
@pytest.mark.parametrize("activation", [8, 16])
def test_linear_dot_equals_python_integers(bits, extras, activation):
    rng = np.random.default_rng(bits + extras)
    matrix = random_matrix(rng, 21, 13, source=30, target=1000, bits=bits, extras=extras)
    x = rng.integers(Int(activation).low, Int(activation).high + 1, (4, 21))
    x[0], x[1] = Int(activation).low, Int(activation).high
    weights = matrix.weights().tolist()
    want = [
        [sum(a * row[j] for a, row in zip(xs, weights, strict=True)) for j in range(13)]
        for xs in x.tolist()
    ]
    assert Linear(matrix, activation).dot(x).tolist() == want


def uniform_matrix(inputs: int, extra_shift: int | None = None) -> Matrix:
    """Column 0 all +15 (twice with extra rows), column 1 all -15, column 2 alternating."""
    codes = np.tile(np.array([7, 15, 7], np.uint8), (inputs, 1))
    codes[1::2, 2] = 15
    extras = 0 if extra_shift is None else inputs
    return Matrix(
        bits=4,
        codes=codes,
        extra_shift=extra_shift or 0,
        extra_inputs=np.arange(extras, dtype=np.int32),
        extra_codes=codes[:extras],
        multiplier=np.ones(3, np.uint16),
        shift=np.zeros(3, np.uint8),
    )


@pytest.mark.parametrize(
    ("inputs", "extra_shift", "activation", "dtype"),
    [
        (8738, None, 8, np.float32),  # 8738 * 15 * 128 = 2**24 - 256
        (8739, None, 8, np.float64),
        (34, None, 16, np.float32),
        (35, None, 16, np.float64),
        (2048, 6, 8, np.float64),
        (1 << 16, 6, 16, np.float64),  # 41 bits
    ],
)
def test_linear_is_exact_at_the_border_of_its_float(inputs, extra_shift, activation, dtype):
    matrix = uniform_matrix(inputs, extra_shift)
    linear = Linear(matrix, activation)
    assert linear.weights.dtype == dtype
    low, high = Int(activation).low, Int(activation).high
    x = np.array(
        [[low] * inputs, [high] * inputs, [high, low] * (inputs // 2) + [1] * (inputs % 2)]
    )
    weight, half, odd = matrix.largest, inputs // 2, inputs % 2
    mixed = half * (high + low) + odd
    got = linear.dot(x)
    assert got[:, 0].tolist() == [weight * v for v in (low * inputs, high * inputs, mixed)]
    assert got[:, 1].tolist() == (-got[:, 0]).tolist()
    assert got[:, 2].tolist() == [
        weight * v for v in (low * odd, high * odd, half * (high - low) + odd)
    ]


def test_linear_of_scattered_large_operands_is_exact():
    """Sums whose low bits a rounded partial sum would lose."""
    rng = np.random.default_rng(0)
    matrix = random_matrix(rng, 3000, 9, source=30, target=1000, bits=4, extras=3000)
    x = rng.integers(-(1 << 15), 1 << 15, (3, 3000))
    want = x.astype(object) @ matrix.weights().astype(object)
    assert Linear(matrix, 16).dot(x).tolist() == want.tolist()


def test_linear_takes_a_tokens_shift_off_the_outputs():
    matrix = uniform_matrix(4)
    linear = Linear(matrix, 8)
    linear.shift[:] = 5
    x = np.array([[1, 2, 3, 5]] * 3)
    got = linear(x, Int(32), np.array([0, 2, 5]))
    assert got[:, 0].tolist() == [5, 21, 165]  # 165 / 32, / 8, / 1


# --- a reference in Python integers, written from docs/spec.md


def half_up(numerator: int, shift: int) -> int:
    return math.floor(Fraction(numerator, 1 << shift) + Fraction(1, 2))


def clamp(value: int, bits: int) -> int:
    return min(max(value, -(1 << bits - 1)), (1 << bits - 1) - 1)


def linear_of(matrix: Matrix, x: list[int], bits: int, lift: int = 0) -> list[int]:
    weights, out = matrix.weights().tolist(), []
    for j, (multiplier, shift) in enumerate(zip(matrix.multiplier, matrix.shift, strict=True)):
        dot = sum(a * row[j] for a, row in zip(x, weights, strict=True))
        out.append(clamp(half_up(dot * int(multiplier), int(shift) - lift), bits))
    return out


def norm_of(x: list[int], norm, bits: int) -> list[int]:
    square = norm.epsilon + sum(v * v for v in x)
    z = (80 - square.bit_length()) // 2
    mantissa = square * 4**z // 2**56
    start = int(RSQRT_TABLE[mantissa // 2**16 - 64])
    root = start * (3 * 2**24 - mantissa * start**2 // 2**24) // 2**21
    gain = half_up(root * norm.multiplier, 16)
    return [clamp(half_up(v * gain, norm.shift - z), bits) for v in x]


def sine_of(angle: int) -> int:
    quadrant, phase = divmod(angle % 2**32 // 2**14, 65536)
    if quadrant % 2:
        phase = 65536 - phase
    index, rest = divmod(phase, 256)
    here, there = int(SINE_TABLE[index]), int(SINE_TABLE[index + 1])
    value = here + half_up((there - here) * rest, 8)
    return -value if quadrant >= 2 else value


def rotate_of(x: list[int], position: int, rotary: list[int], bits: int) -> list[int]:
    out = []
    for i in range(0, len(x), 2):
        angle = position * rotary[i // 2 % len(rotary)]
        a, b, c, s = x[i], x[i + 1], sine_of(angle + 2**30), sine_of(angle)
        out += [clamp(half_up(v, 31 - bits), bits) for v in (a * c - b * s, a * s + b * c)]
    return out


def exp2_of(distance: int) -> int:
    whole, index, rest = distance // 1024, distance // 16 % 64, distance % 16
    here, there = int(EXP_TABLE[index]), int(EXP_TABLE[index + 1])
    return half_up(here - half_up((here - there) * rest, 4), whole)


def attention_of(q: list[int], keys, values, score_shift: int) -> list[int]:
    """One head; ``keys`` and ``values``: one vector per position up to this one."""
    dots = [sum(a * b for a, b in zip(q, key, strict=True)) for key in keys]
    scores = [clamp(half_up(dot, score_shift), 20) for dot in dots]
    weights = [exp2_of(max(scores) - score) for score in scores]
    total = sum(weights)
    length = total.bit_length()
    reciprocal = 2**31 // (total >> length - 16)
    sums = [sum(w * v[i] for w, v in zip(weights, values, strict=True)) for i in range(len(q))]
    return [clamp(half_up(s * reciprocal, 7 + length), 16) for s in sums]


def shrink_of(x: list[int], bits: int) -> tuple[list[int], int]:
    shift = 0
    while any((v >> shift) != clamp(v >> shift, bits) for v in x):
        shift += 1
    return [clamp(half_up(v, shift), bits) for v in x], shift


def silu_of(x: int) -> int:
    index, rest = divmod(min(abs(x), 65536), 256)
    here, there = int(SIGMOID_TABLE[index]), int(SIGMOID_TABLE[min(index + 1, 256)])
    value = here + half_up((there - here) * rest, 8)
    return clamp(half_up(x * (65536 - value if x < 0 else value), 16), 24)


def trace_of(model: IntModel, tokens: list[int]) -> dict[tuple[int, str], list[list[int]]]:
    """Every traced value of a run from position 0, by (layer, op)."""
    a, w = model.architecture, model.widths
    rotary, width = model.rotary.tolist(), a.head_width
    found: dict[tuple[int, str], list[list[int]]] = {}
    caches = [([], []) for _ in model.layers]

    def show(layer, op, values):
        found.setdefault((layer, op), []).append(list(values))
        return values

    def split(x):
        return [x[i : i + width] for i in range(0, len(x), width)]

    for position, token in enumerate(tokens):
        scale = int(model.embedding_multiplier[token])
        codes = model.embedding[token].tolist()
        x = show(-1, "embedding", [half_up(c * scale, model.embedding_shift) for c in codes])
        for index, (layer, (keys, values)) in enumerate(zip(model.layers, caches, strict=True)):
            n = show(index, "norm_attention", norm_of(x, layer.norm_attention, w.norm))
            q = show(index, "q", linear_of(layer.q, n, 16))
            k = show(index, "k", linear_of(layer.k, n, 16))
            v = show(index, "v", linear_of(layer.v, n, 8))
            q = show(index, "rotary_q", rotate_of(q, position, rotary, w.query))
            k = show(index, "rotary_k", rotate_of(k, position, rotary, 8))
            keys.append(split(k))
            values.append(split(v))
            y = []
            for head, query in enumerate(split(q)):
                at = head // a.group
                y += attention_of(
                    query, [p[at] for p in keys], [p[at] for p in values], layer.score_shift
                )
            y, lift = shrink_of(show(index, "attention", y), w.attention)
            y = show(index, "o", linear_of(layer.o, show(index, "attention_shrink", y), 32, lift))
            x = [clamp(i + j, 32) for i, j in zip(x, y, strict=True)]
            n = norm_of(show(index, "residual_attention", x), layer.norm_mlp, w.norm)
            gate = show(index, "gate", linear_of(layer.gate, show(index, "norm_mlp", n), 24))
            up = show(index, "up", linear_of(layer.up, n, 20))
            y = [clamp(half_up(silu_of(g) * u, 8), 32) for g, u in zip(gate, up, strict=True)]
            y, lift = shrink_of(show(index, "product", y), w.product)
            y = linear_of(layer.down, show(index, "product_shrink", y), 32, lift)
            y = show(index, "down", y)
            x = show(index, "residual_mlp", [clamp(i + j, 32) for i, j in zip(x, y, strict=True)])
        n = show(a.layers, "norm", norm_of(x, model.norm, w.norm))
        show(a.layers, "logits", linear_of(model.head, n, 24))
    return found


def traced(golden: Golden, tokens, position: int = 0, slot: int = 0):
    """What :class:`Golden` traces: the order of the calls, and the values by (layer, op)."""
    order, found = [], {}

    def trace(layer, op, first, values):
        assert first == position
        assert values.shape[0] == len(tokens)
        assert values.ndim == 2
        order.append((layer, op))
        found[layer, op] = values.astype(np.int64)

    x = golden.residual(np.array(tokens), position, slot, trace)
    golden.logits(x, position, trace)
    return order, found


SHAPES = {
    "default": {},
    "odd": {"width": 17, "inner": 23, "heads": 6, "kv_heads": 2, "head_width": 6, "layers": 3},
    "one head": {"heads": 1, "kv_heads": 1, "head_width": 2, "width": 5, "inner": 3, "layers": 1},
}
WIDTHS = {
    "default": Widths(),
    "odd": Widths(norm=6, query=16, attention=16, product=16),
    "one head": Widths(norm=12, query=5, attention=5, product=4),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_traced_value_equals_the_reference(shape):
    model = random_model(
        4, random_architecture(vocabulary=40, **SHAPES[shape]), WIDTHS[shape], **MIXED
    )
    tokens = np.random.default_rng(0).integers(0, 40, 9).tolist()
    _, found = traced(Golden(model), tokens)
    want = trace_of(model, tokens)
    assert found.keys() == want.keys()
    for key, values in found.items():
        assert values.tolist() == want[key], key


def loud(model: IntModel) -> IntModel:
    """The same model with its outputs 2**7 to 2**11 times as large, as far as its shifts allow."""
    least = {"o": 16 - model.widths.attention, "down": 32 - model.widths.product}

    def louder(name: str, matrix: Matrix) -> Matrix:
        more = 11 if name in ("gate", "head") else 7
        shift = np.maximum(matrix.shift.astype(int) - more, least.get(name, 0))
        return replace(matrix, shift=shift.astype(np.uint8))

    layers = tuple(
        replace(layer, **{name: louder(name, matrix) for name, matrix in layer.matrices()})
        for layer in model.layers
    )
    return replace(model, layers=layers, head=louder("head", model.head))


def test_every_saturated_value_equals_the_reference():
    model = loud(random_model(6, random_architecture(vocabulary=40), **MIXED))
    tokens = np.random.default_rng(3).integers(0, 40, 6).tolist()
    _, found = traced(Golden(model), tokens)
    want = trace_of(model, tokens)
    for key, values in found.items():
        assert values.tolist() == want[key], key
    ends = {"q": 16, "k": 16, "v": 8, "rotary_q": 12, "rotary_k": 8, "gate": 24, "up": 20,
            "product": 32, "logits": 24}  # fmt: skip
    for (layer, op), values in found.items():
        if op in ends:
            assert (values == Int(ends[op]).low).any(), (layer, op)
            assert (values == Int(ends[op]).high).any(), (layer, op)


def test_trace_names_and_order():
    model = random_model(0)
    order, _ = traced(Golden(model), [1, 2, 3])
    layer = (
        "norm_attention", "q", "k", "v", "rotary_q", "rotary_k", "attention", "attention_shrink",
        "o", "residual_attention", "norm_mlp", "gate", "up", "product", "product_shrink", "down",
        "residual_mlp",
    )  # fmt: skip
    assert order == [
        (-1, "embedding"),
        *((index, op) for index in range(2) for op in layer),
        (2, "norm"),
        (2, "logits"),
    ]


def test_logits_are_frozen():
    model = random_model(1, **MIXED)
    golden = Golden(model)
    logits = golden.logits(golden.residual(np.arange(20) * 7 % 96))
    assert hashlib.sha256(logits.astype("<i8").tobytes()).hexdigest()[:16] == "684138931660e2e5"


# --- attention


def test_attention_of_a_single_position_is_its_value():
    memory = Memory(1, 4, 4)
    memory.keys[0, 0], memory.values[0, 0] = [1, 2, 3, 4], [-128, -1, 1, 127]
    got = attend(np.array([[[5, -6, 7, -8]]]), memory, 0, 3)
    assert got.tolist() == [[[-32767, -256, 256, 32512]]]  # 2**31 / 65535 is cut to 2**15


def test_attention_takes_the_larger_score_first():
    memory = Memory(1, 2, 2)
    memory.keys[0] = [[0, 0], [127, 127]]
    memory.values[0] = [[100, 0], [-100, 7]]
    assert attend(np.array([[[2047, 2047]]]), memory, 1, 0)[0, 0].tolist() == [-25600, 1792]
    assert attend(np.array([[[-2047, -2047]]]), memory, 1, 0)[0, 0].tolist() == [25600, 0]


def test_attention_of_saturated_scores_weighs_equally():
    memory = Memory(1, 2, 2)
    memory.keys[0] = [[127, 127], [126, 126]]
    memory.values[0] = [[100, 0], [-100, 8]]
    got = attend(np.array([[[32767, 32767]]]), memory, 1, 0)[0, 0]
    assert np.abs(got - [0, 1024]).max() <= 1


@properties
@given(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_attention_in_a_block_equals_position_by_position(seed, kv_heads, group, position):
    rng = np.random.default_rng(seed)
    memory = Memory(kv_heads, 16, 4)
    memory.keys[:] = rng.integers(-128, 128, memory.keys.shape)
    memory.values[:] = rng.integers(-128, 128, memory.values.shape)
    q = rng.integers(-2048, 2048, (6, kv_heads * group, 4))
    block = attend(q, memory, position, 6)
    for row in range(6):
        at = position + row
        np.testing.assert_array_equal(attend(q[row : row + 1], memory, at, 6)[0], block[row])
        for head in range(kv_heads * group):
            keys = memory.keys[head // group, : at + 1].tolist()
            values = memory.values[head // group, : at + 1].tolist()
            want = attention_of(q[row, head].tolist(), keys, values, 6)
            assert block[row, head].tolist() == want


# --- blocks, slots, rewinding


@pytest.fixture(scope="module")
def model() -> IntModel:
    return random_model(3, **MIXED)


@pytest.fixture(scope="module")
def prompt() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 96, 24)


@pytest.fixture(scope="module")
def whole(model, prompt) -> np.ndarray:
    """Residuals of the prompt in one block."""
    return Golden(model).residual(prompt)


def test_positions_differ(whole):
    assert len({row.tobytes() for row in whole}) == len(whole)


@properties
@given(cuts=st.sets(st.integers(1, 23)))
def test_any_partition_of_a_prompt_gives_the_same(model, prompt, whole, cuts):
    golden = Golden(model)
    edges = [0, *sorted(cuts), len(prompt)]
    parts = [golden.residual(prompt[a:b], a) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_prompt_depends_on_every_token_before(model, prompt, whole):
    changed = prompt.copy()
    changed[5] = (changed[5] + 1) % 96
    got = Golden(model).residual(changed)
    np.testing.assert_array_equal(got[:5], whole[:5])
    assert all((got[at] != whole[at]).any() for at in range(5, 24))


def test_slots_are_independent(model, prompt, whole):
    golden = Golden(model, slots=3)
    for at in range(12):
        for slot in (2, 0, 1):
            tokens = np.roll(prompt, slot)[at : at + 1]
            got = golden.residual(tokens, at, slot)
            if slot == 0:
                np.testing.assert_array_equal(got[0], whole[at])


def test_rewinding_forgets_what_came_after(model, prompt, whole):
    golden = Golden(model)
    golden.residual(prompt)
    golden.residual((prompt[10:20] + 1) % 96, 10)  # a draft that is taken back
    np.testing.assert_array_equal(golden.residual(prompt[10:], 10), whole[10:])
    np.testing.assert_array_equal(golden.residual(prompt[:3], 0), whole[:3])


def test_a_shorter_context_changes_nothing_within_it(model, prompt, whole):
    golden = Golden(model, context=24)
    np.testing.assert_array_equal(golden.residual(prompt), whole)
    assert Golden(model, context=1000).context == 32


@pytest.mark.parametrize(
    ("tokens", "position", "message"),
    [
        ([1] * 33, 0, "positions must be from 0 to 31, not 0 to 32"),
        ([1, 1], 31, "positions must be from 0 to 31, not 31 to 32"),
        ([1], -1, "positions must be from 0 to 31, not -1 to -1"),
        ([1, -1], 0, "tokens must be from 0 to 95, not -1 to 1"),
        ([96, 1], 0, "tokens must be from 0 to 95, not 1 to 96"),
    ],
)
def test_positions_and_tokens_out_of_range(model, tokens, position, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Golden(model).residual(np.array(tokens), position)


# --- the real function


def real_logits(model: IntModel, tokens: np.ndarray) -> np.ndarray:
    """The model in float64: real norm, rotary, softmax and SiLU; only keys and values are rounded.

    In the units of the integers, so that a wrong constant of the arithmetic (a fraction's bits,
    the base of the exponential, the meaning of a shift) is a wrong result here.
    """
    a = model.architecture

    def linear(matrix: Matrix, x: np.ndarray) -> np.ndarray:
        return x @ matrix.weights() * matrix.multiplier / 2.0**matrix.shift

    def norm(constants, x: np.ndarray) -> np.ndarray:
        root = np.sqrt((x**2).sum(-1, keepdims=True) + constants.epsilon)
        return x / root * constants.multiplier * 2.0 ** (40 - constants.shift)

    def rotate(x: np.ndarray) -> np.ndarray:
        angle = np.arange(len(x))[:, None] * model.rotary / 2**32 * 2 * np.pi
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[:, None]
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    def attention(layer, x: np.ndarray) -> np.ndarray:
        q, k, v = (
            linear(m, x).reshape(len(x), -1, a.head_width) for m in (layer.q, layer.k, layer.v)
        )
        q = rotate(q) / 2.0 ** (16 - model.widths.query)
        k = np.rint(rotate(k) / 256).clip(-128, 127).repeat(a.group, 1)
        v = np.rint(v).clip(-128, 127).repeat(a.group, 1)
        scores = np.einsum("thd,shd->hts", q, k) / 2.0**layer.score_shift / 1024
        scores = np.where(np.tri(len(x)), scores, -np.inf)
        weights = 2.0 ** (scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return 256 * np.einsum("hts,shd->thd", weights, v).reshape(len(x), -1)

    scale = model.embedding_multiplier[tokens][:, None] / 2.0**model.embedding_shift
    x = model.embedding[tokens] * scale
    for layer in model.layers:
        x = x + linear(layer.o, attention(layer, norm(layer.norm_attention, x)))
        inside = norm(layer.norm_mlp, x)
        gate = linear(layer.gate, inside) / 4096
        silu = gate / (1 + np.exp(-gate))
        x = x + linear(layer.down, silu * linear(layer.up, inside) * 16)
    return linear(model.head, norm(model.norm, x)) / 4096


def test_wide_activations_track_the_real_function():
    """With 16-bit activations the integers follow float64 within a few thousandths of a nat."""
    model = random_model(
        5,
        random_architecture(width=64, inner=96),
        Widths(norm=16, query=16, attention=16, product=16),
    )
    tokens = np.random.default_rng(2).integers(0, 96, 32)
    golden = Golden(model)
    got = golden.logits(golden.residual(tokens)) / 4096
    real = real_logits(model, tokens)
    error = got - real
    assert real.std() > 1.5
    assert np.sqrt((error**2).mean()) < 0.0025
    assert np.abs(error).max() < 0.025
