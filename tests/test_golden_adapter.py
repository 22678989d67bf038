"""Adapters: the operation in Python integers, what an adapter changes and what not, files, hash."""

import contextlib
import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapter import every_matrix, random_adapter
from random_model import random_architecture, random_model
from safetensors.numpy import load_file, save_file

from intaglio.checkpoint import peft
from intaglio.errors import BadPackage, IntaglioError, Overflow
from intaglio.golden import ops
from intaglio.golden.adapter import METADATA, Adapter, Key, LowRank
from intaglio.golden.forward import Addition, Golden, Linear
from intaglio.golden.model import MATRICES, IntModel, ModelFile
from intaglio.golden.number import (
    GATE,
    LATENT,
    RANK_LIMIT,
    RESIDUAL,
    ROTARY,
    UP,
    VALUE,
    Int,
    Widths,
)

HASH = "0334ff04aae7d6eaf68721f0111be6ea3139c74334b11300b3655ea3ee18f81d"
properties = settings(max_examples=200, deadline=None)
RESULT = {
    "q": ROTARY, "k": ROTARY, "v": VALUE, "o": RESIDUAL, "gate": GATE, "up": UP, "down": RESIDUAL,
}  # fmt: skip
INPUT = {
    "q": "norm_attention", "k": "norm_attention", "v": "norm_attention", "o": "attention_shrink",
    "gate": "norm_mlp", "up": "norm_mlp", "down": "product_shrink",
}  # fmt: skip
LIFTED = {"o": ("attention", "attention"), "down": ("product", "product")}


@pytest.fixture(scope="module")
def model() -> IntModel:
    """Two layers, odd sizes, mixed widths, extra rows."""
    return random_model(
        7,
        random_architecture(width=34, inner=51, vocabulary=97, heads=6, kv_heads=2, head_width=6),
        bits={"q": 3, "gate": 2, "head": 3},
        extras={"v": 1.0, "k": 0.25, "down": 0.1},
    )


@pytest.fixture(scope="module")
def adapter(model) -> Adapter:
    return random_adapter(model, 3)


def tokens(count: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 97, count)


def traced(golden: Golden, ids: np.ndarray, **options: Any) -> dict[tuple[int, str], np.ndarray]:
    """Every value that one run shows, by layer and name."""
    shown = {}

    def trace(layer: int, name: str, position: int, values: np.ndarray) -> None:
        shown[layer, name] = values.copy()

    golden.logits(golden.residual(ids, trace=trace, **options), trace=trace)
    return shown


# --- the operation, in Python integers, written from docs/spec.md


def half_up(numerator: int, shift: int) -> int:
    return math.floor(Fraction(numerator, 1 << shift) + Fraction(1, 2))


def clamp(value: int, to: Int) -> int:
    return min(max(value, to.low), to.high)


def latent_of(part: LowRank, x: list[int]) -> list[int]:
    out = []
    for j in range(part.rank):
        dot = sum(int(a) * v for a, v in zip(part.down[:, j], x, strict=True))
        product = dot * int(part.down_multiplier[j])
        out.append(clamp(half_up(product, int(part.down_shift[j])), LATENT))
    return out


def addend_of(part: LowRank, x: list[int]) -> list[int]:
    latent, out = latent_of(part, x), []
    for k in range(part.outputs):
        dot = sum(int(b) * t for b, t in zip(part.up[:, k], latent, strict=True))
        out.append(half_up(dot * int(part.up_multiplier[k]) * 2**8, int(part.up_shift[k])))
    return out


@properties
@given(
    st.integers(-(1 << 29), 1 << 28),
    st.integers(0, 65535),
    st.integers(0, 62),
)
def test_addend_scales_and_rounds_half_up(x, multiplier, shift):
    got = ops.addend(np.array([x]), np.array([multiplier], np.uint16), np.array([shift], np.uint8))
    assert got.dtype == np.int64
    assert got.tolist() == [half_up(x * multiplier * 256, shift)]


@properties
@given(
    st.integers(-(1 << 45), (1 << 45) - 1),
    st.integers(0, 65535),
    st.integers(0, 62),
    st.integers(-(1 << 52), 1 << 52),
    st.sampled_from([8, 16, 20, 24, 32]),
)
def test_narrow_adds_before_its_one_rounding(x, multiplier, shift, addend, bits):
    got = ops.narrow(
        np.array([x]), np.array([multiplier]), shift, Int(bits), np.array([addend], np.int64)
    )
    assert got.tolist() == [clamp(half_up(x * multiplier + addend, shift), Int(bits))]


@st.composite
def low_ranks(draw) -> tuple[LowRank, list[list[int]]]:
    """Any legal part, corners often, and two input vectors of 16 bits."""
    inputs, rank, outputs = (draw(st.integers(1, 5)) for _ in range(3))
    weight = st.integers(-128, 127) | st.sampled_from([-128, 127])
    multiplier = st.integers(0, 65535) | st.just(65535)
    shift = st.integers(0, 62) | st.integers(0, 12)
    activation = st.integers(-(1 << 15), (1 << 15) - 1) | st.sampled_from([-(1 << 15), 32767])

    def array(elements: st.SearchStrategy[int], dtype: Any, *shape: int) -> Any:
        size = math.prod(shape)
        return np.array(draw(st.lists(elements, min_size=size, max_size=size)), dtype).reshape(
            shape
        )

    part = LowRank(
        down=array(weight, np.int8, inputs, rank),
        down_multiplier=array(multiplier, np.uint16, rank),
        down_shift=array(shift, np.uint8, rank),
        up=array(weight, np.int8, rank, outputs),
        up_multiplier=array(multiplier, np.uint16, outputs),
        up_shift=array(shift, np.uint8, outputs),
    )
    return part, array(activation, np.int64, 2, inputs).tolist()


@properties
@given(low_ranks())
def test_addition_equals_python_integers(drawn):
    part, x = drawn
    addition = Addition(part)
    assert addition.latent(np.array(x)).tolist() == [latent_of(part, row) for row in x]
    assert addition(np.array(x)).tolist() == [addend_of(part, row) for row in x]


@pytest.mark.parametrize("sign", [-1, 1])
def test_largest_addend_on_the_largest_product_is_exact(sign):
    """All of rank 64 at its corner, an accumulator of 46 bits, the largest shift: 64 bits hold."""
    x = np.full((1, 3), -(1 << 15))
    part = LowRank(
        down=np.full((3, RANK_LIMIT), 127, np.int8),
        down_multiplier=np.full(RANK_LIMIT, 65535, np.uint16),
        down_shift=np.zeros(RANK_LIMIT, np.uint8),
        up=np.full((RANK_LIMIT, 2), -128 if sign > 0 else 127, np.int8),
        up_multiplier=np.full(2, 65535, np.uint16),
        up_shift=np.array([0, 62], np.uint8),
    )
    addend = Addition(part)(x)
    assert addend.tolist() == [addend_of(part, x[0].tolist())]
    assert sign * addend[0, 0] > 1 << 51
    accumulator = sign * (1 << 45) - (sign > 0)
    got = ops.narrow(np.array([[accumulator] * 2]), np.array([65535, 65535]), 62, Int(32), addend)
    want = [half_up(accumulator * 65535 + e, 62) for e in addend_of(part, x[0].tolist())]
    assert got.tolist() == [want]


# --- in the forward pass


@pytest.mark.parametrize("seed", range(3))
def test_every_matrix_of_a_run_equals_python_integers(model, seed):
    """The outputs that a trace shows, from the inputs that it shows."""
    adapter = random_adapter(model, seed)
    golden = Golden(model, adapters={"a": adapter})
    shown, told = traced(golden, tokens(5, seed), adapter="a"), 0
    for layer, name in every_matrix(model):
        matrix, part = getattr(model.layers[layer], name), adapter.parts[layer, name]
        weights = matrix.weights().tolist()
        for at, x in enumerate(shown[layer, INPUT[name]].tolist()):
            lift = 0
            if name in LIFTED:
                field, source = LIFTED[name]
                largest = max(max(v, ~v) for v in shown[layer, source][at].tolist())
                lift = max(largest.bit_length() - (getattr(model.widths, field) - 1), 0)
            dots = [
                sum(a * row[k] for a, row in zip(x, weights, strict=True))
                for k in range(matrix.outputs)
            ]
            products = [d * int(m) for d, m in zip(dots, matrix.multiplier, strict=True)]
            addends = addend_of(part, x)
            want = [
                clamp(half_up(p + e, int(s) - lift), RESULT[name])
                for p, e, s in zip(products, addends, matrix.shift, strict=True)
            ]
            assert shown[layer, name][at].tolist() == want
            told += want != [
                clamp(half_up(p, int(s) - lift), RESULT[name])
                for p, s in zip(products, matrix.shift, strict=True)
            ]
    assert told == 5 * len(every_matrix(model))  # the adapter tells everywhere


@pytest.mark.parametrize("what", ["no parts", "down", "up"])
def test_an_adapter_of_zeros_changes_nothing(model, adapter, what):
    parts = {
        key: replace(part, **{what: np.zeros_like(getattr(part, what))})
        for key, part in adapter.parts.items()
        if what != "no parts"
    }
    golden = Golden(model, adapters={"zero": replace(adapter, parts=parts)})
    before, after = traced(golden, tokens()), traced(golden, tokens(), adapter="zero")
    assert before.keys() == after.keys()
    for key, values in before.items():
        np.testing.assert_array_equal(after[key], values)


def test_none_is_the_chip_without_adapters(model, adapter):
    with_one, without = Golden(model, adapters={"a": adapter}), Golden(model)
    for key, values in traced(without, tokens()).items():
        np.testing.assert_array_equal(traced(with_one, tokens())[key], values)


@pytest.mark.parametrize("name", MATRICES)
def test_a_part_changes_its_matrix_and_nothing_before_it(model, name):
    """Of a single token, so that no earlier position tells either."""
    adapter = random_adapter(model, 1, matrices=[(1, name)])
    golden = Golden(model, adapters={"a": adapter})
    before, after = traced(golden, tokens(1)), traced(golden, tokens(1), adapter="a")
    changed = [key for key, values in before.items() if (after[key] != values).any()]
    assert changed[0] == (1, name)
    assert not {(1, other) for other in ("q", "k", "v") if other != name} & set(changed)


def test_the_adapter_is_chosen_by_each_call(model, adapter):
    other = random_adapter(model, 4, matrices=[(0, "v"), (1, "down")])
    golden = Golden(model, slots=3, adapters={"a": adapter, "b": other})
    ids = tokens()
    want: dict[str | None, np.ndarray] = {
        name: Golden(model, adapters={"x": each}).residual(ids, adapter="x")
        for name, each in (("a", adapter), ("b", other))
    }
    want[None] = Golden(model).residual(ids)
    for _ in range(2):
        for slot, name in enumerate(("a", "b", None)):
            np.testing.assert_array_equal(golden.residual(ids, 0, slot, adapter=name), want[name])
    assert (want["a"] != want["b"]).any()
    assert (want["a"] != want[None]).any()


@given(st.integers(1, 23))
@settings(max_examples=8, deadline=None)
def test_blocks_change_nothing(model, adapter, cut):
    golden, ids = Golden(model, slots=2, adapters={"a": adapter}), tokens()
    whole = golden.residual(ids, adapter="a")
    first = golden.residual(ids[:cut], 0, 1, adapter="a")
    second = golden.residual(ids[cut:], cut, 1, adapter="a")
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)


def test_keys_and_values_stay_as_their_adapter_made_them(model, adapter):
    golden, ids = Golden(model, slots=2, adapters={"a": adapter}), tokens()
    golden.residual(ids[:8], 0, 0, adapter="a")
    golden.residual(ids[:8], 0, 1)
    after_adapter = golden.residual(ids[8:9], 8, 0)
    assert (after_adapter != golden.residual(ids[8:9], 8, 1)).any()


def test_unknown_name(model, adapter):
    golden = Golden(model, adapters={"a": adapter, "b": adapter})
    with pytest.raises(ValueError, match=r"^adapter must be one of \[a, b\] or None, not 'c'$"):
        golden.residual(tokens(), adapter="c")


@pytest.mark.parametrize("widths", [Widths(4, 4, 4, 4), Widths(16, 16, 16, 16)])
def test_every_width(widths):
    model = random_model(2, widths=widths)
    golden = Golden(model, adapters={"a": random_adapter(model)})
    ids = tokens(12) % 96
    assert (golden.residual(ids, adapter="a") != golden.residual(ids)).any()


def test_linear_without_an_addition_is_as_before(model):
    matrix = model.layers[0].o
    x = np.random.default_rng(0).integers(-128, 128, (3, matrix.inputs))
    linear, lift = Linear(matrix, 8), np.array([0, 1, 2])
    want = ops.narrow(
        linear.dot(x), linear.multiplier, linear.shift[None] - lift[:, None], RESIDUAL
    )
    np.testing.assert_array_equal(linear(x, RESIDUAL, lift), want)


# --- what is refused


def with_part(adapter: Adapter, key: Key = (0, "q"), /, **changes: Any) -> Adapter:
    """The same adapter with fields of one part changed."""
    return replace(adapter, parts={**adapter.parts, key: replace(adapter.parts[key], **changes)})


def test_another_chip(model, adapter):
    other = random_model(8, model.architecture)
    message = (
        rf"^adapter must be for the chip with hash {other.hash()[:16]}, "
        rf"not {model.hash()[:16]} \(quantize the adapter for this chip\)$"
    )
    with pytest.raises(BadPackage, match=message):
        adapter.check(other)
    with pytest.raises(BadPackage, match=message):
        Golden(other, adapters={"a": adapter})


def test_a_models_file_is_enough_to_check(tmp_path, model, adapter):
    model.save(tmp_path / "m")
    adapter.check(ModelFile(tmp_path / "m"))
    with pytest.raises(BadPackage, match=r"^adapter must be for the chip with hash 0000000000"):
        adapter.check(ModelFile(tmp_path / "m", "0" * 64))


@pytest.mark.parametrize("key", [(-1, "q"), (0, "head"), (0, "norm"), ("0", "q"), (0.0, "q")])
def test_keys_that_name_no_matrix(adapter, key):
    parts = {key: adapter.parts[0, "q"]}
    with pytest.raises(BadPackage, match=r"^layers\.\S+: must be a matrix of a layer$"):
        replace(adapter, parts=parts)


def test_a_layer_too_many(model, adapter):
    beyond = replace(adapter, parts={(2, "q"): adapter.parts[0, "q"]})
    with pytest.raises(BadPackage, match=r"^layers\.2\.q: the chip has only 2 layers$"):
        beyond.check(model)


def test_another_matrix_shape(model, adapter):
    moved = replace(adapter, parts={(0, "o"): adapter.parts[0, "down"]})
    with pytest.raises(
        BadPackage, match=r"^layers\.0\.o: must have 36 inputs and 34 outputs, not 51 and 34$"
    ):
        moved.check(model)


@pytest.mark.parametrize("rank", [0, RANK_LIMIT + 1])
def test_ranks(model, adapter, rank):
    part = adapter.parts[0, "q"]
    message = rf"^layers\.0\.q: rank must be from 1 to 64, not {rank}$"
    with pytest.raises(BadPackage, match=message):
        with_part(
            adapter,
            down=np.zeros((part.inputs, rank), np.int8),
            up=np.zeros((rank, part.outputs), np.int8),
            down_multiplier=np.zeros(rank, np.uint16),
            down_shift=np.zeros(rank, np.uint8),
        )


def test_rank_64_is_legal(model):
    adapter = random_adapter(model, rank=RANK_LIMIT)
    adapter.check(model)
    assert peft.RANK_LIMIT == RANK_LIMIT


@pytest.mark.parametrize("field", ["down", "up"])
@pytest.mark.parametrize("value", [np.zeros(3, np.int8), None])
def test_factors_have_two_dimensions(adapter, field, value):
    message = rf"^layers\.0\.q\.{field}: must have two dimensions$"
    with pytest.raises(BadPackage, match=message):
        with_part(adapter, (0, "q"), **{field: value})


def test_empty_sides(adapter):
    part = adapter.parts[0, "q"]
    with pytest.raises(BadPackage, match=r"^layers\.0\.q: must have inputs and outputs$"):
        with_part(adapter, down=part.down[:0])


@pytest.mark.parametrize(
    ("field", "dtype"),
    [
        ("down", "int8"), ("up", "int8"), ("down_multiplier", "uint16"), ("down_shift", "uint8"),
        ("up_multiplier", "uint16"), ("up_shift", "uint8"),
    ],
)  # fmt: skip
def test_other_types_and_shapes(adapter, field, dtype):
    array = getattr(adapter.parts[0, "q"], field)
    with pytest.raises(BadPackage, match=rf"^layers\.0\.q\.{field}: must be {dtype} .*, not float"):
        with_part(adapter, **{field: array.astype(np.float32)})
    if array.ndim == 1:
        with pytest.raises(BadPackage, match=rf"^layers\.0\.q\.{field}: must be {dtype} .*, not"):
            with_part(adapter, **{field: np.append(array, array[:1])})


@pytest.mark.parametrize("field", ["down_shift", "up_shift"])
def test_shifts(adapter, field):
    shift = getattr(adapter.parts[0, "q"], field).copy()
    shift[0] = 63
    with pytest.raises(Overflow, match=rf"^layers\.0\.q\.{field}: must be from 0 to 62, not"):
        with_part(adapter, **{field: shift})


def test_sums_that_could_overflow():
    """A matrix of small weights can be longer than an adapter of int8 may be."""
    inputs = 1 << 23
    model: Any = SimpleNamespace(
        architecture=random_architecture(inner=inputs),
        widths=Widths(product=16),
        layers=(None,),
        hash=lambda: "0" * 64,
    )
    part = LowRank(
        down=np.zeros((inputs, 1), np.int8),
        down_multiplier=np.ones(1, np.uint16),
        down_shift=np.zeros(1, np.uint8),
        up=np.zeros((1, 32), np.int8),
        up_multiplier=np.ones(32, np.uint16),
        up_shift=np.zeros(32, np.uint8),
    )
    adapter = Adapter("0" * 64, {(0, "down"): part})
    with pytest.raises(
        Overflow,
        match=r"^layers\.0\.down\.down: accumulator of 8388608 inputs, weights up to 128 and "
        r"16-bit activations must fit 46 bits, not 47$",
    ):
        adapter.check(model)


# --- files and hash


def test_saved_is_loaded(tmp_path, model, adapter):
    adapter.save(tmp_path / "a.safetensors")
    loaded = Adapter.load(tmp_path / "a.safetensors")
    loaded.check(model)
    assert loaded.hash() == adapter.hash()
    assert loaded.parts.keys() == adapter.parts.keys()
    adapter.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_empty_is_saved_and_loaded(tmp_path, model):
    Adapter(model.hash(), {}).save(tmp_path / "a.safetensors")
    loaded = Adapter.load(tmp_path / "a.safetensors")
    loaded.check(model)
    assert not loaded.parts
    assert loaded.bits == 0


def test_the_hash_is_pinned(adapter):
    assert adapter.hash() == HASH


def test_the_hash_is_of_everything_and_of_no_order(adapter):
    backwards = replace(adapter, parts=dict(reversed(adapter.parts.items())))
    assert backwards.hash() == adapter.hash()
    hashes = {adapter.hash(), replace(adapter, model="0" * 64).hash()}
    changes = 0
    for key, part in adapter.parts.items():
        for field in vars(part):
            changed = getattr(part, field).copy()
            changed.reshape(-1)[0] ^= 1
            hashes.add(with_part(adapter, key, **{field: changed}).hash())
            changes += 1
    assert len(hashes) == 2 + changes


def test_bits_are_those_of_the_side_memory(model):
    adapter = random_adapter(model, matrices=[(0, "k")], rank=3)
    inputs, outputs = model.layers[0].k.inputs, model.layers[0].k.outputs
    assert adapter.bits == 8 * 3 * (inputs + outputs) + 22 * (3 + outputs)


def refuse(path: Path, pattern: str) -> None:
    with pytest.raises(BadPackage, match=pattern) as caught:
        Adapter.load(path)
    assert "\n" not in str(caught.value)


def rewrite(path: Path, adapter: Adapter, change: Any) -> Path:
    """Save the adapter with its constants and arrays changed."""
    adapter.save(path)
    arrays = load_file(path)
    constants: Any = {"format": 1, "model": adapter.model}
    constants = change(constants, arrays) or constants
    save_file(arrays, path, metadata={METADATA: json.dumps(constants)})
    return path


def test_files_that_are_none(tmp_path, adapter):
    refuse(tmp_path / "no", r"no such file \(quantize the adapter again\)$")
    (tmp_path / "text").write_text("hello")
    refuse(tmp_path / "text", r"text: not an adapter of format 1: .* \(quantize")
    refuse(tmp_path, "not an adapter of format 1")
    save_file({"a": np.zeros(1)}, tmp_path / "foreign")
    refuse(tmp_path / "foreign", "not an adapter of format 1")
    adapter.save(tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-1])
    refuse(tmp_path / "cut", "not an adapter of format 1")


@pytest.mark.parametrize(
    "change",
    [
        lambda constants, arrays: constants.update(format=2),
        lambda constants, arrays: constants.update(extra=1),
        lambda constants, arrays: constants.update(model=5),
        lambda constants, arrays: constants.pop("model") and None,
        lambda constants, arrays: [1],
        lambda constants, arrays: arrays.pop("layers.0.q.up_shift") is None,
        lambda constants, arrays: arrays.update(other=np.zeros(1)),
        lambda constants, arrays: arrays.update({"layers.00.q.up": np.zeros(1)}),
        lambda constants, arrays: arrays.update({"layers.0.q.more": np.zeros(1)}),
        lambda constants, arrays: arrays.update({"layers.x.q.up": np.zeros(1)}),
    ],
)
def test_files_with_other_entries(tmp_path, adapter, change):
    refuse(rewrite(tmp_path / "a", adapter, change), "not an adapter of format 1")


def test_files_with_illegal_arrays(tmp_path, adapter):
    def change(constants, arrays):
        arrays["layers.0.q.up_shift"] = np.full_like(arrays["layers.0.q.up_shift"], 99)

    with pytest.raises(Overflow, match=r"^layers\.0\.q\.up_shift: must be from 0 to 62, not 99"):
        Adapter.load(rewrite(tmp_path / "a", adapter, change))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_loads_or_is_refused(tmp_path_factory, data):
    model = random_model(0, random_architecture(layers=1))
    path = tmp_path_factory.mktemp("damaged") / "a"
    random_adapter(model, matrices=[(0, "v")], rank=2).save(path)
    raw = bytearray(path.read_bytes())
    header = int.from_bytes(raw[:8], "little") + 8
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, header - 1) | st.integers(0, len(raw) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))])
    with contextlib.suppress(IntaglioError):
        Adapter.load(path)
