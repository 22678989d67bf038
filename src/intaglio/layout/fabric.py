"""A fabric's tiles: which part of an array each holds, and the contacts that are the model."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from intaglio.layout.driver import Drivers
from intaglio.layout.geometry import UNIT, geometry
from intaglio.layout.oasis import Contacts
from intaglio.layout.pen import on_grid
from intaglio.layout.rules import Rules

TILE_COLUMNS = 576  # that a product line serves, 207 um of array: line_reach of the target sky130
MARGIN = 640  # nm beyond an array's right border: half of what two N wells stay apart (nwell.2a)


@dataclass(frozen=True, slots=True)
class Array:
    """Cells that hold codes of ``bits`` bits: [rows, lanes, columns]; a fabric or a ROM."""

    name: str
    bits: int
    rows: int
    lanes: int
    columns: int

    @property
    def cells(self) -> int:
        """Codes it holds."""
        return self.rows * self.lanes * self.columns


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an array: all rows of some lanes and columns."""

    array: Array
    lane: int
    lanes: int
    column: int
    columns: int

    @property
    def name(self) -> str:
        """Names its file."""
        return f"{self.array.name}.{self.lane}.{self.column}"

    @property
    def base(self) -> str:
        """Names its base cell: equal tiles have one."""
        return f"base_{self.array.bits}_{self.array.rows}_{self.lanes}_{self.columns}"

    @property
    def drawn_rows(self) -> int:
        """Rows of a lane that are drawn: an even number."""
        return self.array.rows + self.array.rows % 2

    @property
    def drawn_columns(self) -> int:
        """Columns that are drawn: a number of whole sense amplifiers."""
        return -(-self.columns // UNIT) * UNIT

    def drivers(self, r: Rules) -> Drivers:
        """What stands at the left of its arrays."""
        g = geometry(1 << self.array.bits, r)
        return Drivers(g, r, self.drawn_rows, self.drawn_columns)

    def size(self, r: Rules) -> tuple[int, int]:
        """Width and height, nm, of the whole macro: whole numbers of a router's tracks."""
        d = self.drivers(r)
        wide = d.end + d.g.width(self.drawn_columns) + MARGIN
        return on_grid(wide, r.tracks["met2"][0]), self.lanes * d.g.lane(self.drawn_rows)

    def codes(self, codes: np.ndarray) -> np.ndarray:
        """This tile's part of an array's codes, as lanes of rows from below, padded with code 0 to
        all rows and columns that are drawn: uint8 [lanes, rows, columns]."""
        lanes, columns = (
            slice(self.lane, self.lane + self.lanes),
            slice(self.column, self.column + self.columns),
        )
        part = codes[:, lanes, columns].transpose(1, 0, 2)
        padded = np.zeros((self.lanes, self.drawn_rows, self.drawn_columns), np.uint8)
        padded[:, : self.array.rows, : self.columns] = part
        return padded


def tiles(array: Array, r: Rules) -> Iterator[Tile]:
    """Cut an array into tiles of one lane and TILE_COLUMNS at most.

    A lane's outputs leave it at its own lower and upper edge. Lanes on each other would keep their
    neighbours' from getting out: two columns have a pair of outputs in every lane, and the layers
    above them less than one track.
    """
    for lane in range(array.lanes):
        for column in range(0, array.columns, TILE_COLUMNS):
            yield Tile(array, lane, 1, column, min(TILE_COLUMNS, array.columns - column))


def contacts(tile: Tile, padded: np.ndarray, r: Rules) -> Contacts:
    """A tile's contacts as rows of columns: see :class:`Contacts`. ``padded``: its own codes."""
    g = geometry(1 << tile.array.bits, r)
    lanes, rows, columns = padded.shape
    lane = np.arange(lanes, dtype=np.int64)[:, None] * g.lane(rows)
    row = np.array([g.bottom(index) for index in range(rows)], np.int64)
    return Contacts(
        codes=padded.reshape(lanes * rows, columns),
        bottoms=(lane + row).reshape(-1) + g.first - g.contact // 2,
        left=tile.drivers(r).end + g.column // 2 - g.contact // 2,
        slots=np.array([g.slot(column) for column in range(columns)], np.int64),
        column=g.column,
        line=g.line,
        lines=g.lines,
        side=g.contact,
    )
