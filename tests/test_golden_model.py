"""IntModel: what is legal, what is refused and how, files, and the hash that names a chip."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import random_architecture, random_model

from intaglio.architecture import RopeScaling
from intaglio.errors import BadPackage, IntaglioError, Overflow
from intaglio.golden.model import FORMAT, MATRICES, IntModel, Matrix, Norm, pack, unpack
from intaglio.golden.number import Widths, code_values

HASH = "6f753a7df2547418bff4adfbedcd961af8ca98e200fb776e3cb43b254346e072"
EXTRAS = {"v": 1.0, "k": 0.25, "down": 0.1}


@pytest.fixture(scope="module")
def model() -> IntModel:
    """Two layers, odd sizes, mixed widths, extra rows."""
    return random_model(
        7,
        random_architecture(width=34, inner=51, vocabulary=97, heads=6, kv_heads=2, head_width=6),
        bits={"q": 3, "gate": 2, "head": 3},
        extras=EXTRAS,
    )


def with_layer(model: IntModel, **changes) -> IntModel:
    """The same model with fields of its first layer changed."""
    first, *others = model.layers
    return replace(model, layers=(replace(first, **changes), *others))


def with_matrix(model: IntModel, name: str, **changes) -> IntModel:
    return with_layer(model, **{name: replace(getattr(model.layers[0], name), **changes)})


def bumped(array: np.ndarray, index: int = 0, by: int = 1) -> np.ndarray:
    """A copy with one element another."""
    changed = array.copy()
    changed.reshape(-1)[index] ^= by
    return changed


# --- weights


def test_weights_are_two_digits_where_an_input_has_an_extra_row():
    matrix = Matrix(
        bits=3,
        codes=np.array([[0, 7], [3, 4], [1, 2]], np.uint8),
        extra_shift=4,
        extra_inputs=np.array([0, 2], np.int32),
        extra_codes=np.array([[1, 5], [7, 0]], np.uint8),
        multiplier=np.ones(2, np.uint16),
        shift=np.zeros(2, np.uint8),
    )
    assert matrix.weights().tolist() == [
        [2 * 16 + 5, -15 * 16 - 5],
        [15 * 16, -2 * 16],
        [5 * 16 - 15, 9 * 16 + 2],
    ]
    assert (matrix.inputs, matrix.outputs, matrix.extras) == (3, 2, 2)
    assert matrix.largest == 15 * 16 + 15
    assert matrix.bits_per_weight == 5


def test_weights_stay_within_the_largest(model):
    for _, matrix in model.matrices():
        weights = matrix.weights()
        assert weights.dtype == np.int64
        assert np.abs(weights).max() <= matrix.largest
        plain = code_values(matrix.bits)[matrix.codes] << matrix.extra_shift
        untouched = np.setdiff1d(np.arange(matrix.inputs), matrix.extra_inputs)
        np.testing.assert_array_equal(weights[untouched], plain[untouched])


def test_matrices_are_named_in_the_order_of_the_layer(model):
    names = [name for name, _ in model.matrices()]
    assert names == [f"layers.{i}.{name}" for i in range(2) for name in MATRICES] + ["head"]
    assert MATRICES == ("q", "k", "v", "o", "gate", "up", "down")


def test_bits_per_weight_counts_extra_rows_and_not_the_head(model):
    bits = size = 0
    for name, matrix in model.matrices():
        if name != "head":
            bits += matrix.bits * (matrix.codes.size + matrix.extra_codes.size)
            size += matrix.codes.size
    assert model.bits_per_weight == pytest.approx(bits / size, abs=1e-12)


# --- files


def test_save_and_load_are_inverse(model, tmp_path):
    model.save(tmp_path / "model")
    again = IntModel.load(tmp_path / "model")
    assert again.hash() == model.hash()
    assert again.architecture == model.architecture
    assert again.widths == model.widths
    assert again.bits_per_weight == model.bits_per_weight
    for (name, mine), (other, theirs) in zip(model.matrices(), again.matrices(), strict=True):
        assert name == other
        np.testing.assert_array_equal(mine.weights(), theirs.weights())
        assert theirs.codes.dtype == np.uint8


def test_saved_twice_is_the_same_bytes(model, tmp_path):
    model.save(tmp_path / "a")
    IntModel.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_scaled_rope_survives_the_file(model, tmp_path):
    scaled = replace(model.architecture, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192))
    changed = replace(model, architecture=scaled)
    changed.save(tmp_path / "model")
    again = IntModel.load(tmp_path / "model")
    assert again.architecture == scaled
    assert again.hash() == changed.hash() != model.hash()


@given(st.lists(st.integers(0, 15), max_size=33))
def test_pack_and_unpack_are_inverse(codes):
    array = np.array(codes, np.uint8)
    packed = pack(array)
    assert len(packed) == (len(codes) + 1) // 2
    np.testing.assert_array_equal(unpack(packed, (len(codes),)), array)


def test_pack_puts_the_first_code_in_the_low_half():
    assert pack(np.array([[1, 2], [3, 4], [5, 6]], np.uint8)).tolist() == [0x21, 0x43, 0x65]
    assert pack(np.array([9], np.uint8)).tolist() == [0x09]


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save(path)
    return path.read_bytes()


def refusal(path: Path, content: bytes) -> str:
    """The message with which loading ``content`` is refused."""
    path.write_bytes(content)
    with pytest.raises(IntaglioError) as caught:
        IntModel.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(BadPackage, match=r"model: no such file \(compile the model again\)$"):
        IntModel.load(tmp_path / "model")


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(BadPackage, match=r"not an integer model of format 1: IsADirectoryError"):
        IntModel.load(tmp_path)


def test_truncated_anywhere(saved, tmp_path):
    header = 8 + int.from_bytes(saved[:8], "little")
    for length in (0, 1, 7, 8, 9, 100, header - 1, header, header + 1, len(saved) - 1):
        message = refusal(tmp_path / "model", saved[:length])
        assert "model: not an integer model of format 1: " in message
        assert message.endswith(" (compile the model again)")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 200,
        (1 << 50).to_bytes(8, "little") + b"{}",
        b"GGUF" + bytes(100),
        b"{}" * 50,
        (8).to_bytes(8, "little") + b"{}      ",
        (8).to_bytes(8, "little") + b"[1,2]   ",
        (8).to_bytes(8, "little") + b"\xff\xfe      ",
        (200000).to_bytes(8, "little") + b"[" * 200000,
    ],
    ids=["ones", "endless", "gguf", "text", "empty", "list", "not-utf8", "deep"],
)
def test_foreign_files(content, tmp_path):
    assert "model: not an integer model of format 1: " in refusal(tmp_path / "model", content)


def edited(saved: bytes, change) -> bytes:
    """The saved file with its constants changed."""
    size = int.from_bytes(saved[:8], "little")
    header = json.loads(saved[8 : 8 + size])
    constants = json.loads(header["__metadata__"]["intaglio"])
    constants = change(constants) or constants
    header["__metadata__"] = {"intaglio": json.dumps(constants)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + saved[8 + size :]


def test_an_edit_of_nothing_loads(saved, model, tmp_path):
    (tmp_path / "model").write_bytes(edited(saved, lambda constants: None))
    assert IntModel.load(tmp_path / "model").hash() == model.hash()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=FORMAT + 1), "another format"),
        (lambda c: c.pop("format") and None, "KeyError('format')"),
        (lambda c: c.update(unknown=1), "unexpected keyword argument 'unknown'"),
        (lambda c: c["norm"].update(unknown=1), "unexpected keyword argument 'unknown'"),
        (lambda c: c["layers"][0].update(unknown=1), "unexpected keyword argument 'unknown'"),
        (lambda c: c["matrices"]["head"].update(unknown=1), "unexpected keyword argument"),
        (lambda c: c["architecture"].update(unknown=1), "missing or unknown key"),
        (lambda c: c["widths"].update(unknown=1), "unexpected keyword argument 'unknown'"),
        (lambda c: c.pop("widths") and None, "KeyError('widths')"),
        (lambda c: c.pop("residual_step") and None, "'residual_step'"),
        (lambda c: c["layers"][0].pop("score_shift") and None, "'score_shift'"),
        (lambda c: c["layers"].pop() and None, "layers: must be 2, not 1"),
        (lambda c: c["layers"].append(dict(c["layers"][0])), "KeyError('layers.2.q.codes')"),
        (lambda c: c["matrices"].pop("layers.0.q") and None, "KeyError('layers.0.q')"),
        (lambda c: c["matrices"].update(foreign=c["matrices"]["head"]), "foreign.codes"),
        (lambda c: c["matrices"]["head"].update(codes=[97, 33]), "do not hold (97, 33)"),
        (lambda c: c["matrices"]["head"].update(codes=[97, 34]), "head.codes: must be uint8 (34, "),
        (lambda c: c["matrices"]["head"].update(codes=[-1, -5]), "do not hold (-1, -5)"),
        (lambda c: c["matrices"]["head"].update(bits=4.0), "code width must be 2, 3 or 4 bits"),
        (lambda c: c["matrices"]["head"].update(bits=[4]), "code width must be 2, 3 or 4 bits"),
        (lambda c: c["norm"].update(epsilon=1.5), "norm.epsilon: must be an integer from 1 to"),
        (lambda c: c.update(embedding_shift=2.5), "embedding_shift: must be an integer from 0"),
        (lambda c: c.update(residual_step="12"), "residual_step: must be an integer from -64"),
        (lambda c: c["architecture"].update(heads=5), "heads must be a multiple of kv_heads"),
        (lambda c: 5, "AttributeError"),
        (lambda c: [1], "TypeError"),
        (lambda c: c.update(matrices=[]), "AttributeError"),
        (lambda c: c.update(layers="ab"), "AttributeError"),
    ],
)
def test_edited_constants(saved, change, message, tmp_path):
    assert message in refusal(tmp_path / "model", edited(saved, change))


# --- the hash


def test_hash_is_frozen():
    assert random_model(1).hash() == HASH


def test_hash_ignores_memory_order(model):
    codes = np.asfortranarray(model.layers[0].q.codes)
    assert with_matrix(model, "q", codes=codes).hash() == model.hash()


FIELDS = {
    "rotary": lambda m: replace(m, rotary=bumped(m.rotary)),
    "embedding": lambda m: replace(m, embedding=bumped(m.embedding, -1)),
    "embedding_multiplier": lambda m: replace(
        m, embedding_multiplier=bumped(m.embedding_multiplier, 5)
    ),
    "embedding_shift": lambda m: replace(m, embedding_shift=m.embedding_shift + 1),
    "residual_step": lambda m: replace(m, residual_step=m.residual_step + 1),
    "widths": lambda m: replace(m, widths=replace(m.widths, query=11)),
    "context": lambda m: replace(m, architecture=replace(m.architecture, context=31)),
    "norm.epsilon": lambda m: replace(m, norm=replace(m.norm, epsilon=m.norm.epsilon + 1)),
    "norm.multiplier": lambda m: replace(m, norm=replace(m.norm, multiplier=3)),
    "norm.shift": lambda m: replace(m, norm=replace(m.norm, shift=61)),
    "norm_attention": lambda m: with_layer(m, norm_attention=Norm(1, 2, 50)),
    "norm_mlp": lambda m: with_layer(m, norm_mlp=Norm(1, 2, 50)),
    "score_shift": lambda m: with_layer(m, score_shift=1),
    "layers swapped": lambda m: replace(m, layers=m.layers[::-1]),
    "k and v swapped": lambda m: with_layer(m, k=m.layers[0].v, v=m.layers[0].k),
    "head": lambda m: replace(m, head=replace(m.head, codes=bumped(m.head.codes, 40))),
}


@pytest.mark.parametrize("name", FIELDS)
def test_hash_feels_every_constant(model, name):
    assert FIELDS[name](model).hash() != model.hash()


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("field", ["codes", "multiplier", "shift"])
def test_hash_feels_every_array(model, name, field):
    array = getattr(getattr(model.layers[0], name), field)
    assert with_matrix(model, name, **{field: bumped(array, -1)}).hash() != model.hash()


def test_hash_feels_extra_rows(model):
    v = model.layers[0].k
    spare = sorted(set(range(v.inputs)) - set(v.extra_inputs.tolist()))[0]
    moved = np.sort(np.append(v.extra_inputs[1:], spare)).astype(np.int32)
    for changes in (
        {"extra_codes": bumped(v.extra_codes)},
        {"extra_inputs": moved},
        {"extra_shift": v.extra_shift - 1},
    ):
        assert with_matrix(model, "k", **changes).hash() != model.hash()


def test_every_single_code_is_in_the_hash():
    small = random_model(
        2, random_architecture(width=4, heads=2, kv_heads=1, head_width=2, inner=3)
    )
    q = small.layers[0].q
    seen = {small.hash()}
    for index in range(q.codes.size):
        for bit in range(q.bits):
            seen.add(with_matrix(small, "q", codes=bumped(q.codes, index, 1 << bit)).hash())
    assert len(seen) == 1 + q.codes.size * q.bits


# --- refusals at construction


ROTARY = "rotary: turn fractions must be from 0 to 2**32 - 1"
ILLEGAL_MATRIX: list[Any] = [
    ({"bits": 5}, "code width must be 2, 3 or 4 bits, not 5"),
    ({"bits": True}, "code width must be 2, 3 or 4 bits, not True"),
    (
        lambda m: {"codes": m.codes.astype(np.int8)},
        ".codes: must be uint8 (34, 36), not int8 (34, 36)",
    ),
    (lambda m: {"codes": m.codes[1:]}, ".codes: must be uint8 (34, 36), not uint8 (33, 36)"),
    (lambda m: {"codes": m.codes.tolist()}, None),
    (lambda m: {"codes": bumped(m.codes * 0, 3, 8)}, ".codes: codes must be below 8, not 8"),
    (
        lambda m: {"multiplier": m.multiplier[1:]},
        ".multiplier: must be uint16 (36,), not uint16 (35,)",
    ),
    (
        lambda m: {"multiplier": m.multiplier.astype(np.int64)},
        ".multiplier: must be uint16 (36,), not int64 (36,)",
    ),
    (lambda m: {"shift": m.shift.astype(np.int64)}, ".shift: must be uint8 (36,), not int64 (36,)"),
    (lambda m: {"shift": m.shift * 0 + np.uint8(63)}, ".shift: must be from 0 to 62, not 63 to 63"),
    ({"extra_shift": 1}, ".extra_shift: must be an integer from 0 to 0, not 1"),
    ({"extra_shift": 0.0}, ".extra_shift: must be an integer from 0 to 0, not 0.0"),
    (
        {"extra_inputs": np.array([0], np.int32)},
        ".extra_codes: must be uint8 (1, 36), not uint8 (0, 36)",
    ),
    (
        {"extra_inputs": np.array([], np.int64)},
        ".extra_inputs: must be int32 (0,), not int64 (0,)",
    ),
]


@pytest.mark.parametrize(("change", "message"), ILLEGAL_MATRIX)
def test_illegal_matrix(model, change, message):
    changes: Any = change(model.layers[0].q) if callable(change) else change
    if message is None:
        with pytest.raises((BadPackage, AttributeError)):
            with_matrix(model, "q", **changes)
        return
    with pytest.raises((BadPackage, Overflow)) as caught:
        with_matrix(model, "q", **changes)
    separator = "" if message.startswith(".") else ": "
    assert str(caught.value) == f"layers.0.q{separator}{message}"


def extra(inputs: list[int], shift: int = 3, code: int = 0) -> dict:
    return {
        "extra_inputs": np.array(inputs, np.int32),
        "extra_codes": np.full((len(inputs), 36), code, np.uint8),
        "extra_shift": shift,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (extra([1, 1]), ".extra_inputs: must ascend within 0 to 33"),
        (extra([2, 1]), ".extra_inputs: must ascend within 0 to 33"),
        (extra([-1, 1]), ".extra_inputs: must ascend within 0 to 33"),
        (extra([1, 34]), ".extra_inputs: must ascend within 0 to 33"),
        (extra([1, 2], shift=7), ".extra_shift: must be an integer from 0 to 6, not 7"),
        (extra([1, 2], shift=-1), ".extra_shift: must be an integer from 0 to 6, not -1"),
        (extra([1, 2], code=8), ".extra_codes: codes must be below 8, not 8"),
    ],
)
def test_illegal_extra_rows(model, changes, message):
    with pytest.raises((BadPackage, Overflow)) as caught:
        with_matrix(model, "q", **changes)
    assert str(caught.value) == f"layers.0.q{message}"


@pytest.mark.parametrize("shift", [0, 6])
def test_legal_extra_rows(model, shift):
    with_matrix(model, "q", **extra([0, 33], shift))


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (Norm(0, 1, 40), "epsilon: must be an integer from 1 to 281474976710655, not 0"),
        (Norm(1 << 48, 1, 40), f"epsilon: must be an integer from 1 to {2**48 - 1}, not {2**48}"),
        (Norm(1, 0, 40), "multiplier: must be an integer from 1 to 65535, not 0"),
        (Norm(1, 65536, 40), "multiplier: must be an integer from 1 to 65535, not 65536"),
        (Norm(1, 1, 39), "shift: must be an integer from 40 to 62, not 39"),
        (Norm(1, 1, 63), "shift: must be an integer from 40 to 62, not 63"),
        (Norm(1, True, 40), "multiplier: must be an integer from 1 to 65535, not True"),
    ],
)
@pytest.mark.parametrize("name", ["norm", "norm_attention", "norm_mlp"])
def test_illegal_norm(model, name, norm, message):
    with pytest.raises(Overflow) as caught:
        replace(model, norm=norm) if name == "norm" else with_layer(model, **{name: norm})
    where = "norm" if name == "norm" else f"layers.0.{name}"
    assert str(caught.value) == f"{where}.{message}"


def with_shift(model: IntModel, name: str, shift: int) -> IntModel:
    matrix = getattr(model.layers[0], name)
    return with_matrix(model, name, shift=bumped(np.full_like(matrix.shift, 40), 0, 40 ^ shift))


@pytest.mark.parametrize(
    ("widths", "name", "least"),
    [
        (Widths(), "o", 8), (Widths(attention=16), "o", 0), (Widths(attention=4), "o", 12),
        (Widths(), "down", 22), (Widths(product=16), "down", 16), (Widths(product=4), "down", 28),
    ],
)  # fmt: skip
def test_shifts_leave_room_for_a_tokens_own(widths, name, least):
    model = random_model(1, widths=widths)
    with_shift(model, name, least)
    if least:
        with pytest.raises(Overflow) as caught:
            with_shift(model, name, least - 1)
        assert str(caught.value) == (
            f"layers.0.{name}.shift: must be from {least} to 62, not {least - 1} to 40"
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"rotary": m.rotary[1:]}, "rotary: must be int64 (3,), not int64 (2,)"),
        (
            lambda m: {"rotary": m.rotary.astype(float)},
            "rotary: must be int64 (3,), not float64 (3,)",
        ),
        (lambda m: {"rotary": m.rotary - (1 << 32)}, ROTARY),
        (lambda m: {"rotary": m.rotary + (1 << 32)}, ROTARY),
        (
            lambda m: {"embedding": m.embedding[1:]},
            "embedding: must be int8 (97, 34), not int8 (96, 34)",
        ),
        (
            lambda m: {"embedding": m.embedding.view(np.uint8)},
            "embedding: must be int8 (97, 34), not uint8 (97, 34)",
        ),
        (
            lambda m: {"embedding_multiplier": m.embedding_multiplier[1:]},
            "embedding_multiplier: must be uint16 (97,), not uint16 (96,)",
        ),
        (
            lambda m: {"embedding_shift": -1},
            "embedding_shift: must be an integer from 0 to 56, not -1",
        ),
        (
            lambda m: {"embedding_shift": 57},
            "embedding_shift: must be an integer from 0 to 56, not 57",
        ),
        (
            lambda m: {"residual_step": 65},
            "residual_step: must be an integer from -64 to 64, not 65",
        ),
        (
            lambda m: {"residual_step": 1.0},
            "residual_step: must be an integer from -64 to 64, not 1.0",
        ),
        (lambda m: {"layers": m.layers[1:]}, "layers: must be 2, not 1"),
        (
            lambda m: {"head": replace(m.head, bits=5)},
            "head: code width must be 2, 3 or 4 bits, not 5",
        ),
        (
            lambda m: {"architecture": replace(m.architecture, width=65537)},
            "width must be at most 65536, not 65537",
        ),
        (
            lambda m: {"architecture": replace(m.architecture, context=131073)},
            "context must be at most 131072, not 131073",
        ),
    ],
)
def test_illegal_model(model, change, message):
    with pytest.raises((BadPackage, Overflow)) as caught:
        replace(model, **change(model))
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [-1, 32, 1.5])
def test_illegal_score_shift(model, value):
    with pytest.raises(Overflow) as caught:
        with_layer(model, score_shift=value)
    assert str(caught.value) == (
        f"layers.0.score_shift: must be an integer from 0 to 31, not {value}"
    )


def test_the_longest_legal_context(model):
    replace(model, architecture=replace(model.architecture, context=1 << 17))


def test_an_accumulator_that_could_overflow_is_refused():
    inputs = 1 << 21
    wide = Matrix(
        bits=4,
        codes=np.zeros((inputs, 1), np.uint8),
        extra_shift=6,
        extra_inputs=np.array([0], np.int32),
        extra_codes=np.zeros((1, 1), np.uint8),
        multiplier=np.ones(1, np.uint16),
        shift=np.zeros(1, np.uint8),
    )
    wide.check("down", inputs, 1, 15)
    with pytest.raises(Overflow) as caught:
        wide.check("down", inputs, 1, 16)
    assert str(caught.value) == (
        "accumulator of 2097152 inputs, weights up to 975 and 16-bit activations "
        "must fit 46 bits, not 47"
    )


def test_what_cannot_be_written_is_an_error_of_the_system(tmp_path):
    """Not one of the library's own: a full disk is told like any other."""
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match=r"cannot be written: .*model\.safetensors"):
        random_model(0).save(tmp_path / "model.safetensors")
