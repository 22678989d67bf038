"""From a matrix to a fabric: which input stands in which row and lane, and how many rows."""

import math
from dataclasses import dataclass

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.model import Matrix
from intaglio.golden.number import CODEBOOKS, accumulator_bits, product_bits

MOST_LANES = 2048
DRAIN = 4  # cycles of a fabric after its last bit cycle

DIGITS = {2: (2, 1), 3: (3, 1), 4: (4, 1), 6: (3, 2), 8: (4, 2)}
"""By the width of a matrix: bits of a digit, and digits."""

EXTRA_SHIFT = {2: 2, 3: 2, 4: 4}
"""Bits that the first of two digits stands above the second, by the digit's bits."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A matrix without its weights: so many of its inputs have a second digit."""

    bits: int
    inputs: int
    outputs: int
    extras: int = 0

    @property
    def extra_shift(self) -> int:
        """Bits that the first digit stands above the second; 0 where there is none."""
        return EXTRA_SHIFT[self.bits] if self.extras else 0

    @property
    def largest(self) -> int:
        """The largest magnitude a weight can have."""
        top = max(CODEBOOKS[self.bits])
        return (top << self.extra_shift) + (top if self.extras else 0)


@dataclass(frozen=True, slots=True)
class FabricPlan:
    """The shape of one fabric.

    Input i stands in row ``i // lanes``, lane ``i % lanes``. The inputs that have a second digit
    stand once more, lane by lane in ascending order, in ``extra_rows`` rows after the main ones.
    ``activation``: bits of an input. ``accumulator``: bits of a sum.
    """

    bits: int
    inputs: int
    outputs: int
    lanes: int
    extra_rows: int
    extra_shift: int
    activation: int
    accumulator: int

    @property
    def rows(self) -> int:
        """Main rows."""
        return -(-self.inputs // self.lanes)

    @property
    def product_bits(self) -> int:
        """Cycles per row."""
        return product_bits(self.activation)

    @property
    def cells(self) -> int:
        """Programmable contacts: padding included, every cell has one."""
        return (self.rows + self.extra_rows) * self.lanes * self.outputs

    @property
    def cycles(self) -> int:
        """Cycles that the rows take, without the drain."""
        return (self.rows + self.extra_rows) * self.product_bits

    def wanted(self, row: int, beat: int) -> int:
        """Beats of inputs that must be there before a main row begins."""
        return -(-min((row + 1) * self.lanes, self.inputs) // beat)

    def tail(self, beat: int) -> int:
        """Cycles from the last beat of inputs to the last bit cycle.

        Beats come one per cycle, and a row begins when the one before has ended and its inputs are
        there. Beats with gaps between them end no later after the last one. Extra rows wait for
        nothing: all inputs are there.
        """
        beats, rows = -(-self.inputs // beat), self.rows + self.extra_rows
        full = self.inputs // self.lanes
        # rows of all lanes want more beats, or fewer, from one to the next: an end of them decides
        return max(
            self.wanted(row, beat) - beats + (rows - row) * self.product_bits
            for row in {0, max(full - 1, 0), min(full, self.rows - 1)}
        )


def extra_rows(matrix: Matrix | Shape, lanes: int) -> int:
    """Rows that the second digits need: the fullest lane decides.

    Of a matrix without weights nobody knows which inputs have one: as if spread evenly.
    """
    if matrix.extras == 0:
        return 0
    if isinstance(matrix, Shape):
        return -(-matrix.extras // lanes)
    return int(np.bincount(np.asarray(matrix.extra_inputs) % lanes).max())


def fabric_plan(
    matrix: Matrix | Shape, lanes: int, activation: int, most: int = MOST_LANES
) -> FabricPlan:
    """The shape of the fabric that stores ``matrix`` with so many lanes, ``most`` of them."""
    if not 1 <= lanes <= most:
        raise BadInput(f"lanes must be from 1 to {most}, not {lanes}")
    return FabricPlan(
        bits=matrix.bits,
        inputs=matrix.inputs,
        outputs=matrix.outputs,
        lanes=lanes,
        extra_rows=extra_rows(matrix, lanes),
        extra_shift=matrix.extra_shift,
        activation=activation,
        accumulator=accumulator_bits(matrix.inputs, matrix.largest, activation),
    )


def lanes_for(matrix: Matrix | Shape, rows: int, most: int = MOST_LANES) -> int:
    """The fewest lanes with which main and extra rows together are at most ``rows``.

    Where no number of lanes does that, as many as there are inputs, or ``most``.
    """
    most = min(most, matrix.inputs)
    lanes = min(max(math.ceil((matrix.inputs + matrix.extras) / rows), 1), most)
    while lanes < most:
        total = math.ceil(matrix.inputs / lanes) + extra_rows(matrix, lanes)
        if total <= rows:
            break
        lanes += 1
    return lanes


GROUPS = {"qkv": ("q", "k", "v"), "o": ("o",), "mlp": ("gate", "up"), "down": ("down",)}
"""Fabrics that have one input and run at the same time, in the order of a layer."""


def group_rows(shapes: dict[str, tuple[int, int]], total: int) -> dict[str, int]:
    """Share ``total`` rows of a layer among its groups so that the adders are fewest.

    ``shapes``: inputs and outputs (all matrices of the group together) by group. Lanes times
    outputs is a group's adders; with the sum of rows given their sum is least where rows are
    proportional to the square root of inputs times outputs.
    """
    roots = {group: math.sqrt(n * m) for group, (n, m) in shapes.items()}
    scale = total / sum(roots.values())
    return {group: max(round(root * scale), 1) for group, root in roots.items()}
