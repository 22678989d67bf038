"""What is engraved: every fabric's codes, and every ROM as an array of 2-bit codes.

A ROM is an array like a fabric's, of codes of ROM_BITS bits, whose lines carry constants in place
of products. A cell holds a bit of two words that follow each other: for an even address its lines
say the low bits of their own numbers, for an odd one the high bits, so that any word is read at
once.
Several pairs of words stand beside each other in a row of the array; banks of rows are its lanes.
ROMs have the names, the words and the widths of the RTL's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.golden.model import IntModel, Norm
from intaglio.golden.number import EMBEDDING, MULTIPLIER_BITS
from intaglio.layout.fabric import TILE_COLUMNS, Array
from intaglio.layout.geometry import Geometry, geometry
from intaglio.layout.rules import Rules
from intaglio.plan.chip import ChipPlan
from intaglio.plan.place import place, start_values
from intaglio.plan.tiling import FabricPlan

ROM_BITS = 2
PAIR = 2  # words in a cell
BANK_ROWS = 32  # as few as most fabrics have, so that a ROM holds their clock
SHIFT_BITS, EPSILON_BITS, SCORE_BITS, STEP_BITS = 6, 48, 5, 8

Fields = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Rom:
    """So many words of ``repeat`` elements of named fields, the first in the low bits.

    ``fold``: pairs of words beside each other in a row, a power of two.
    """

    name: str
    words: int
    fields: Fields
    repeat: int = 1
    fold: int = 1

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.repeat * sum(bits for _, bits in self.fields)

    @property
    def array(self) -> Array:
        """The cells that hold it; all banks but the last are full."""
        rows = -(-self.words // (PAIR * self.fold))
        banks = -(-rows // BANK_ROWS)
        height = rows if banks == 1 else BANK_ROWS
        return Array(self.name, ROM_BITS, height, banks, self.fold * self.width)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the data sheet."""
        return {
            "words": self.words, "fold": self.fold, "repeat": self.repeat,
            "fields": [list(field) for field in self.fields],
        }  # fmt: skip

    def codes(self, *values: np.ndarray) -> np.ndarray:
        """The array's codes, of one integer array per field: uint8 [rows, lanes, columns].

        A field has its elements in the order of the words; those beyond the last are 0. Negative
        values are taken modulo their field's width.
        """
        array, elements = self.array, self.words * self.repeat
        whole = np.zeros((elements, self.width // self.repeat), np.uint8)
        at = 0
        for (_, width), field in zip(self.fields, values, strict=True):
            each = field.astype(np.int64).astype("<u8").reshape(-1, 1).view(np.uint8)
            bits = np.unpackbits(each, axis=1, bitorder="little", count=width)
            whole[: len(bits), at : at + width] = bits
            at += width
        pairs = np.zeros((array.lanes * array.rows * self.fold, PAIR, self.width), np.uint8)
        pairs.reshape(-1, self.width)[: self.words] = whole.reshape(self.words, self.width)
        cells = pairs[:, 0] | pairs[:, 1] << 1
        return cells.reshape(array.lanes, array.rows, array.columns).transpose(1, 0, 2)


def rom(name: str, words: int, repeat: int, fields: Fields, g: Geometry) -> Rom:
    """A ROM about square, no wider than a tile where a word is not. ``g``: of its cells."""
    made = Rom(name, words, fields, repeat)
    fold = 1
    while (
        2 * fold * made.width <= TILE_COLUMNS
        and 2 * fold * PAIR <= words
        and 4 * fold**2 * made.width * g.column <= words * g.row
    ):
        fold *= 2
    return Rom(name, words, fields, repeat, fold)


UNREAD = "residual_step"
"""The ROM that no circuit reads: it says what the residual's unit stands for."""
NORM_FIELDS = ("epsilon", EPSILON_BITS), ("multiplier", MULTIPLIER_BITS), ("shift", SHIFT_BITS)
"""The constants of a norm."""


def fabrics(plan: ChipPlan) -> Iterator[tuple[str, FabricPlan]]:
    """Every fabric by its matrix' full name, in the order of the chain."""
    for index, layer in enumerate(plan.layers):
        for name, fabric in layer.items():
            yield f"layers.{index}.{name}", fabric
    yield "head", plan.head


def fabric_array(name: str, fabric: FabricPlan) -> Array:
    """The cells of a fabric, extra rows above the main ones."""
    rows = fabric.rows + fabric.extra_rows
    return Array(name, fabric.bits, rows, fabric.lanes, fabric.outputs)


def roms(plan: ChipPlan, r: Rules) -> dict[str, Rom]:
    """Every ROM of a chip by name."""
    a, beat, found, g = plan.architecture, plan.beat, [], geometry(1 << ROM_BITS, r)

    def add(name: str, words: int, repeat: int, *fields: tuple[str, int]) -> None:
        found.append(rom(name, words, repeat, fields, g))

    for name, fabric in fabrics(plan):
        beats = -(-fabric.outputs // beat)
        add(f"{name}_start", beats, beat, ("start", fabric.accumulator))
        add(
            f"{name}_narrow", beats, beat, ("multiplier", MULTIPLIER_BITS), ("shift", SHIFT_BITS)
        )  # fmt: skip
        if fabric.extra_rows:
            add(f"{name}_map", fabric.extra_rows, fabric.lanes, ("row", fabric.rows.bit_length()))
    for index in range(a.layers):
        for name in ("norm_attention", "norm_mlp"):
            add(f"layers.{index}.{name}", 1, 1, *NORM_FIELDS)
        add(f"layers.{index}.score_shift", 1, 1, ("score_shift", SCORE_BITS))
    add("embedding", a.vocabulary * a.width // beat, beat, ("element", EMBEDDING.bits))
    add("embedding_multiplier", a.vocabulary, 1, ("multiplier", MULTIPLIER_BITS))
    add("embedding_shift", 1, 1, ("embedding_shift", SHIFT_BITS))
    add("norm", 1, 1, *NORM_FIELDS)
    add(UNREAD, 1, 1, (UNREAD, STEP_BITS))
    return {made.name: made for made in found}


def contents(
    model: IntModel, plan: ChipPlan, made: dict[str, Rom]
) -> Iterator[tuple[Array, np.ndarray]]:
    """Every array with its codes, uint8 [rows, lanes, columns], one after the other."""

    def words(name: str, *values: np.ndarray | list[int]) -> tuple[Array, np.ndarray]:
        return made[name].array, made[name].codes(*(np.asarray(value) for value in values))

    matrices = dict(model.matrices())
    for name, fabric in fabrics(plan):
        matrix = matrices[name]
        codes, sources = place(matrix, fabric)
        yield fabric_array(name, fabric), codes
        yield words(f"{name}_start", start_values(codes, fabric))
        yield words(f"{name}_narrow", matrix.multiplier, matrix.shift)
        if fabric.extra_rows:
            yield words(f"{name}_map", sources.reshape(-1))
    for index, layer in enumerate(model.layers):
        for name in ("norm_attention", "norm_mlp"):
            yield words(f"layers.{index}.{name}", *parts(getattr(layer, name)))
        yield words(f"layers.{index}.score_shift", [layer.score_shift])
    yield words("embedding", model.embedding.reshape(-1))
    yield words("embedding_multiplier", model.embedding_multiplier)
    yield words("embedding_shift", [model.embedding_shift])
    yield words("norm", *parts(model.norm))
    yield words(UNREAD, [model.residual_step])


def parts(norm: Norm) -> tuple[list[int], ...]:
    """A norm's constants in the order of :data:`NORM_FIELDS`."""
    return [norm.epsilon], [norm.multiplier], [norm.shift]
