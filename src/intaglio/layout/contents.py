"""What is engraved: every fabric's codes, and every ROM as an array of 2-bit codes.

A ROM is an array like a fabric's, of codes of ROM_BITS bits: its lines carry constants, one after
the other, in place of products, so that each cell's sum line says its code's bits in turn. A word's
digits stand side by side, the lowest first, several words in a row of the array; banks of rows are
the array's lanes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.golden.model import IntModel, Norm
from intaglio.golden.number import MULTIPLIER_BITS
from intaglio.layout.fabric import Array
from intaglio.layout.geometry import Geometry, geometry
from intaglio.layout.rules import Rules
from intaglio.plan.chip import ChipPlan
from intaglio.plan.place import place, start_values
from intaglio.plan.tiling import FabricPlan

ROM_BITS = 2
BANK_ROWS = 128
SHIFT_BITS, EPSILON_BITS, SCORE_BITS, STEP_BITS = 6, 48, 5, 8
ELEMENT_BITS = 8

Fields = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Rom:
    """So many words of named fields, the first in the low bits; ``fold`` words in a row."""

    name: str
    words: int
    fields: Fields
    fold: int

    @property
    def digits(self) -> int:
        """2-bit codes of a word."""
        return -(-sum(bits for _, bits in self.fields) // ROM_BITS)

    @property
    def array(self) -> Array:
        """The cells that hold it."""
        rows = -(-self.words // self.fold)
        banks = -(-rows // BANK_ROWS)
        return Array(self.name, ROM_BITS, -(-rows // banks), banks, self.fold * self.digits)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the data sheet."""
        return {
            "words": self.words, "fold": self.fold, "digits": self.digits,
            "fields": [list(field) for field in self.fields],
        }  # fmt: skip

    def codes(self, *values: np.ndarray) -> np.ndarray:
        """The array's codes, of one integer array [words] per field: uint8 [rows, lanes, columns].

        Negative values are taken modulo their field's width.
        """
        bits = np.zeros((self.words, self.digits * ROM_BITS), np.uint8)
        at = 0
        for (_, width), field in zip(self.fields, values, strict=True):
            each = field.astype(np.int64).astype("<u8").reshape(-1, 1).view(np.uint8)
            bits[:, at : at + width] = np.unpackbits(each, axis=1, bitorder="little")[:, :width]
            at += width
        digits = bits[:, 0::2] | bits[:, 1::2] << 1
        array = self.array
        whole = np.zeros((array.lanes * array.rows * self.fold, self.digits), np.uint8)
        whole[: self.words] = digits
        return whole.reshape(array.lanes, array.rows, array.columns).transpose(1, 0, 2)


def rom(name: str, words: int, fields: Fields, g: Geometry) -> Rom:
    """A ROM of about a square; ``g``: of its cells."""
    digits = -(-sum(bits for _, bits in fields) // ROM_BITS)
    fold = round(math.sqrt(words * g.row / (digits * g.column)))
    return Rom(name, words, fields, min(max(fold, 1), words))


def norm_fields(name: str) -> Fields:
    """The constants of a norm."""
    return (
        (f"{name}.epsilon", EPSILON_BITS), (f"{name}.multiplier", MULTIPLIER_BITS),
        (f"{name}.shift", SHIFT_BITS),
    )  # fmt: skip


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
    a, found, g = plan.architecture, [], geometry(1 << ROM_BITS, r)

    def add(name: str, words: int, *fields: tuple[str, int]) -> None:
        found.append(rom(name, words, fields, g))

    for name, fabric in fabrics(plan):
        add(f"{name}.start", fabric.outputs, ("start", fabric.accumulator))
        add(
            f"{name}.narrow", fabric.outputs,
            ("multiplier", MULTIPLIER_BITS), ("shift", SHIFT_BITS),
        )  # fmt: skip
        if fabric.extra_rows:
            add(f"{name}.map", fabric.extra_rows * fabric.lanes, ("row", fabric.rows.bit_length()))
    for index in range(a.layers):
        add(
            f"layers.{index}.constants", 1, *norm_fields("norm_attention"),
            *norm_fields("norm_mlp"), ("score_shift", SCORE_BITS),
        )  # fmt: skip
    add("embedding", a.vocabulary * a.width, ("element", ELEMENT_BITS))
    add("embedding_multiplier", a.vocabulary, ("multiplier", MULTIPLIER_BITS))
    add(
        "constants", 1, *norm_fields("norm"), ("embedding_shift", SHIFT_BITS),
        ("residual_step", STEP_BITS),
    )  # fmt: skip
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
        yield words(f"{name}.start", start_values(codes, fabric))
        yield words(f"{name}.narrow", matrix.multiplier, matrix.shift)
        if fabric.extra_rows:
            yield words(f"{name}.map", sources.reshape(-1))
    for index, layer in enumerate(model.layers):
        single = (*parts(layer.norm_attention), *parts(layer.norm_mlp), [layer.score_shift])
        yield words(f"layers.{index}.constants", *single)
    yield words("embedding", model.embedding.reshape(-1))
    yield words("embedding_multiplier", model.embedding_multiplier)
    last = (*parts(model.norm), [model.embedding_shift], [model.residual_step])
    yield words("constants", *last)


def parts(norm: Norm) -> tuple[list[int], ...]:
    """A norm's constants in the order of :func:`norm_fields`."""
    return [norm.epsilon], [norm.multiplier], [norm.shift]
