"""ROM images: what is engraved in the one programmable layer, as ``$readmemh`` files.

An image is named ``<name>.<number>.hex``: the number is a layer's, or 0 for what exists once. A
word stands on a line; the first element of a word is in its low bits.

==========================  ============================  ==========================================
name                        words                         a word
==========================  ============================  ==========================================
``q`` ... ``down, head``    row, lane, plane, 64 columns  64 bits of a code plane, the sign last
``<matrix>_start``          beat                          start values of the sums
``<matrix>_map``            extra row                     the main row that each lane repeats
``<matrix>_narrow``         beat                          16-bit multipliers below 6-bit shifts
``embedding``               token, beat                   8-bit elements
``embedding_multiplier``    token                         16 bits
``embedding_shift``         1                             6 bits
``norm_attention`` ...      1                             epsilon 48, multiplier 16, shift 6 bits
``score_shift``             1                             5 bits
==========================  ============================  ==========================================
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from intaglio.golden.model import IntModel, Matrix, Norm
from intaglio.golden.number import MULTIPLIER_BITS
from intaglio.plan.chip import ChipPlan
from intaglio.plan.place import place, start_values
from intaglio.plan.tiling import FabricPlan

WORD = 64
SHIFT_BITS = 6
NARROW_BITS = MULTIPLIER_BITS + SHIFT_BITS
EPSILON_BITS = 48


def write_images(model: IntModel, plan: ChipPlan, folder: Path) -> None:
    """Write every image of ``model`` on the shape ``plan`` to ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in images(model, plan):
        (folder / name).write_bytes(text)


def images(model: IntModel, plan: ChipPlan) -> Iterator[tuple[str, bytes]]:
    """File names and contents of all images, one after the other."""
    for number, layer in enumerate(model.layers):
        for name, matrix in layer.matrices():
            yield from matrix_images(name, number, matrix, plan.layers[number][name], plan.beat)
        for name in ("norm_attention", "norm_mlp"):
            yield f"{name}.{number}.hex", norm_image(getattr(layer, name))
        yield f"score_shift.{number}.hex", single(layer.score_shift)
    yield "norm.0.hex", norm_image(model.norm)
    yield from matrix_images("head", 0, model.head, plan.head, plan.beat)
    yield "embedding.0.hex", embedding_image(model.embedding, plan.beat)
    multipliers = model.embedding_multiplier.astype(np.uint64)[:, None]
    yield "embedding_multiplier.0.hex", hex_words(multipliers, MULTIPLIER_BITS)
    yield "embedding_shift.0.hex", single(model.embedding_shift)


def matrix_images(
    name: str, number: int, matrix: Matrix, fabric: FabricPlan, beat: int
) -> Iterator[tuple[str, bytes]]:
    """The images of one fabric and of the multipliers behind it."""
    codes, sources = place(matrix, fabric)
    yield f"{name}.{number}.hex", code_image(codes, fabric)
    yield f"{name}_start.{number}.hex", start_image(codes, fabric, beat)
    if fabric.extra_rows:
        yield f"{name}_map.{number}.hex", hex_words(sources, fabric.rows.bit_length())
    yield f"{name}_narrow.{number}.hex", narrow_image(matrix, beat)


def code_image(codes: np.ndarray, fabric: FabricPlan) -> bytes:
    """Codes [rows, lanes, outputs] as planes of 64 columns; the last word is padded with code 0."""
    rows, lanes, outputs = codes.shape
    words = -(-outputs // WORD)
    planes = np.zeros((rows, lanes, fabric.bits, words * WORD // 8), np.uint8)
    for plane in range(fabric.bits):
        packed = np.packbits(codes >> plane & 1, axis=-1, bitorder="little")
        planes[:, :, plane, : packed.shape[-1]] = packed
    return hex_bytes(planes.reshape(-1, WORD // 8))


def start_image(codes: np.ndarray, fabric: FabricPlan, beat: int) -> bytes:
    """Start values, modulo 2**accumulator, ``beat`` to a word; 0 beyond the last output."""
    words = np.zeros(-(-fabric.outputs // beat) * beat, np.uint64)
    words[: fabric.outputs] = start_values(codes, fabric).astype(np.uint64)
    return hex_words(words.reshape(-1, beat), fabric.accumulator)


def narrow_image(matrix: Matrix, beat: int) -> bytes:
    """Output multipliers and shifts, ``beat`` to a word; 0 beyond the last output."""
    words = np.zeros(-(-matrix.outputs // beat) * beat, np.uint64)
    words[: matrix.outputs] = matrix.multiplier.astype(np.uint64)
    words[: matrix.outputs] |= matrix.shift.astype(np.uint64) << np.uint64(MULTIPLIER_BITS)
    return hex_words(words.reshape(-1, beat), NARROW_BITS)


def norm_image(norm: Norm) -> bytes:
    """The constants of a norm, as one word."""
    return single(
        norm.epsilon | norm.multiplier << EPSILON_BITS
        | norm.shift << EPSILON_BITS + MULTIPLIER_BITS
    )  # fmt: skip


def embedding_image(embedding: np.ndarray, beat: int) -> bytes:
    """The embedding, ``beat`` elements to a word."""
    return hex_bytes(np.ascontiguousarray(embedding).view(np.uint8).reshape(-1, beat))


def single(value: int) -> bytes:
    """An image of one word."""
    return f"{value:x}\n".encode()


def hex_words(values: np.ndarray, bits: int) -> bytes:
    """Words of several elements: the low ``bits`` (up to 64) of uint64 [words, elements]."""
    count, elements = values.shape
    each = values.astype("<u8").reshape(count, elements, 1).view(np.uint8)
    spread = np.unpackbits(each, axis=-1, bitorder="little")[:, :, :bits]
    packed = np.packbits(spread.reshape(count, elements * bits), axis=-1, bitorder="little")
    return hex_bytes(packed)


def hex_bytes(words: np.ndarray) -> bytes:
    """Words as lines of hexadecimal digits: uint8 [words, bytes], the low byte first."""
    if not len(words):
        return b""
    width = words.shape[1]
    return (np.ascontiguousarray(words[:, ::-1]).tobytes().hex("\n", width) + "\n").encode()
