"""ROM images, read back by other code than wrote them."""

import numpy as np
import pytest
from random_model import random_architecture, random_matrix, random_model

from intaglio.golden.number import CODEBOOKS, code_values, product_bits
from intaglio.hardware.images import hex_words, images, matrix_images, place, start_values
from intaglio.hardware.images import write_images as write
from intaglio.plan.chip import make_plan
from intaglio.plan.tiling import fabric_plan

MODEL = random_model(
    3,
    random_architecture(vocabulary=90),
    bits={"q": 3, "k": 2, "gate": 3, "head": 3},
    extras={"q": 0.3, "v": 1.0, "down": 0.1},
)
PLAN = make_plan(MODEL)


def words(text: bytes) -> list[int]:
    return [int(line, 16) for line in text.split()]


def fields(word: int, *bits: int) -> list[int]:
    """The fields of a word, the lowest first."""
    found = []
    for width in bits:
        found.append(word & (1 << width) - 1)
        word >>= width
    assert word == 0
    return found


@pytest.fixture(scope="module")
def written():
    return dict(images(MODEL, PLAN))


def weights_of(written, name: str, number: int, matrix, fabric) -> np.ndarray:
    """The integer weights that codes and map of an image make: int64 [inputs, outputs]."""
    rows, lanes, columns = fabric.rows + fabric.extra_rows, fabric.lanes, -(-fabric.outputs // 64)
    planes = words(written[f"{name}.{number}.hex"])
    assert len(planes) == rows * lanes * fabric.bits * columns
    values = code_values(fabric.bits)
    found = np.zeros((fabric.rows * lanes, fabric.outputs), np.int64)
    maps = words(written[f"{name}_map.{number}.hex"]) if fabric.extra_rows else []
    for row in range(rows):
        for lane in range(lanes):
            at = (row * lanes + lane) * fabric.bits * columns
            source, shift = row, fabric.extra_shift
            if row >= fabric.rows:
                bits, shift = fabric.rows.bit_length(), 0
                source = maps[row - fabric.rows] >> lane * bits & (1 << bits) - 1
            for output in range(fabric.outputs):
                code = 0
                for plane in range(fabric.bits):
                    word = planes[at + plane * columns + output // 64]
                    code |= (word >> output % 64 & 1) << plane
                if source < fabric.rows:
                    found[source * lanes + lane, output] += int(values[code]) << shift
                else:
                    assert code == output % (1 << fabric.bits - 1)  # fed 0, of no weight
    return found[: matrix.inputs]


def test_every_image_has_its_name(written):
    names = {"embedding.0", "embedding_multiplier.0", "embedding_shift.0", "norm.0"}
    names |= {"head.0", "head_start.0", "head_narrow.0"}
    for number in range(2):
        names |= {f"{n}.{number}" for n in ("norm_attention", "norm_mlp", "score_shift")}
        for matrix in ("q", "k", "v", "o", "gate", "up", "down"):
            names |= {f"{matrix}{part}.{number}" for part in ("", "_start", "_narrow")}
        names |= {f"{matrix}_map.{number}" for matrix in ("q", "v", "down")}
    assert set(written) == {f"{name}.hex" for name in names}


@pytest.mark.parametrize("name", ["q", "k", "v", "gate", "down"])
def test_codes_and_maps_make_the_weights(written, name):
    matrix = getattr(MODEL.layers[1], name)
    found = weights_of(written, name, 1, matrix, PLAN.layers[1][name])
    np.testing.assert_array_equal(found, matrix.weights())


@pytest.mark.parametrize("bits", CODEBOOKS)
def test_start_values_undo_inverted_lines(bits):
    """Sum every cell's bits as the fabric does, with the start value, for random activations."""
    rng = np.random.default_rng(bits)
    matrix = random_matrix(rng, 11, 7, source=30, target=1000, bits=bits, extras=4)
    fabric = fabric_plan(matrix, 4, 8)
    codes, sources = place(matrix, fabric)
    x = rng.integers(-128, 128, 11)
    padded = np.append(x, 0).reshape(fabric.rows, 4)
    width = product_bits(8)
    totals = start_values(codes, fabric)
    for row in range(fabric.rows + fabric.extra_rows):
        for lane in range(4):
            source = row if row < fabric.rows else int(sources[row - fabric.rows, lane])
            value = int(padded[source, lane]) if source < fabric.rows else 0
            shift = fabric.extra_shift if row < fabric.rows else 0
            for output, code in enumerate(codes[row, lane]):
                rank, negative = int(code) & (1 << bits - 1) - 1, int(code) >> bits - 1
                line = value * CODEBOOKS[bits][rank] & (1 << width) - 1
                line ^= 1 << width - 1 ^ ((1 << width) - 1) * negative
                totals[output] += line << shift
    np.testing.assert_array_equal(totals, x @ matrix.weights())


def test_start_values_are_written_modulo_the_accumulator(written):
    fabric = PLAN.layers[0]["q"]
    codes, _ = place(MODEL.layers[0].q, fabric)
    expected = start_values(codes, fabric) & (1 << fabric.accumulator) - 1
    found = [
        fields(word, *[fabric.accumulator] * PLAN.beat) for word in words(written["q_start.0.hex"])
    ]
    flat = [value for word in found for value in word]
    assert flat[: fabric.outputs] == expected.tolist()
    assert not any(flat[fabric.outputs :])


def test_multipliers_and_shifts_of_a_beat(written):
    found = words(written["head_narrow.0.hex"])
    assert len(found) == -(-90 // PLAN.beat)
    flat = [fields(word, *[16, 6] * PLAN.beat) for word in found]
    multipliers = np.array([word[0::2] for word in flat]).reshape(-1)
    shifts = np.array([word[1::2] for word in flat]).reshape(-1)
    np.testing.assert_array_equal(multipliers[:90], MODEL.head.multiplier)
    np.testing.assert_array_equal(shifts[:90], MODEL.head.shift)
    assert not multipliers[90:].any()


def test_embedding(written):
    found = words(written["embedding.0.hex"])
    elements = [fields(word, *[8] * PLAN.beat) for word in found]
    expected = MODEL.embedding.astype(np.int64) & 255
    np.testing.assert_array_equal(np.reshape(elements, expected.shape), expected)
    assert words(written["embedding_multiplier.0.hex"]) == MODEL.embedding_multiplier.tolist()
    assert words(written["embedding_shift.0.hex"]) == [MODEL.embedding_shift]


def test_constants_of_a_layer(written):
    norm = MODEL.layers[1].norm_mlp
    (word,) = words(written["norm_mlp.1.hex"])
    assert fields(word, 48, 16, 6) == [norm.epsilon, norm.multiplier, norm.shift]
    assert words(written["score_shift.0.hex"]) == [MODEL.layers[0].score_shift]


def test_hex_words_of_odd_widths():
    values = np.array([[1, 2, 3], [5, 6, 7]], np.uint64)
    assert hex_words(values, 5) == b"0c41\n1cc5\n"
    assert hex_words(np.array([[2**64 - 1]], np.uint64), 64) == b"ffffffffffffffff\n"


def test_files_are_written(tmp_path):
    write(MODEL, PLAN, tmp_path / "rom")
    for name, text in images(MODEL, PLAN):
        assert (tmp_path / "rom" / name).read_bytes() == text


def test_a_base_dies_spare_extra_rows_hold_nothing():
    """Another model of the shape may have fewer second digits than there are extra rows."""
    rng = np.random.default_rng(0)
    matrix = random_matrix(rng, 8, 3, source=30, target=1000, bits=3, extras=1)
    fabric = fabric_plan(random_matrix(rng, 8, 3, source=30, target=9, bits=3, extras=8), 4, 8)
    written = dict(matrix_images("m", 0, matrix, fabric, 1))
    np.testing.assert_array_equal(weights_of(written, "m", 0, matrix, fabric), matrix.weights())
