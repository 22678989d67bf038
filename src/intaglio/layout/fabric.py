"""A fabric's tiles: the base array all models share, and the contacts that are the model."""

from collections.abc import Iterator
from dataclasses import dataclass

import gdstk
import numpy as np

from intaglio.layout.cell import Geometry, Pen, around, gate, geometry, tap_height, unit
from intaglio.layout.oasis import Contacts
from intaglio.layout.rules import Rules

TILE_WIDTH = 2_000_000  # nm that a product line runs before it is driven again: line_reach
TILE_HEIGHT = 2_000_000  # nm


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

    def codes(self, codes: np.ndarray) -> np.ndarray:
        """This tile's part of an array's codes, as lanes of rows from below, padded with code 0 to
        an even number of rows and columns: uint8 [lanes, rows, columns]."""
        lanes, columns = (
            slice(self.lane, self.lane + self.lanes),
            slice(self.column, self.column + self.columns),
        )
        part = codes[:, lanes, columns].transpose(1, 0, 2)
        rows = self.array.rows
        padded = np.zeros((self.lanes, rows + rows % 2, self.columns + self.columns % 2), np.uint8)
        padded[:, :rows, : self.columns] = part
        return padded


def tiles(array: Array, r: Rules) -> Iterator[Tile]:
    """Cut an array into tiles of at most TILE_WIDTH and, where a lane allows it, TILE_HEIGHT."""
    g = geometry(1 << array.bits, r)
    wide = TILE_WIDTH // g.column // 2 * 2
    high = max(TILE_HEIGHT // g.lane(array.rows), 1)
    for lane in range(0, array.lanes, high):
        for column in range(0, array.columns, wide):
            lanes, columns = min(high, array.lanes - lane), min(wide, array.columns - column)
            yield Tile(array, lane, lanes, column, columns)


def base_cells(made: list[Tile], r: Rules) -> list[gdstk.Cell]:
    """The base cells of tiles, with everything that they refer to; each once, in order of names."""
    cells: dict[str, gdstk.Cell] = {}
    for tile in made:
        if tile.base not in cells:
            draw_base(tile, r, cells)
    return [cells[name] for name in sorted(cells)]


def draw_base(tile: Tile, r: Rules, cells: dict[str, gdstk.Cell]) -> None:
    """Draw a tile's base cell, and those below it that are not in ``cells`` yet."""
    g = geometry(1 << tile.array.bits, r)
    rows, columns = tile.array.rows + tile.array.rows % 2, tile.columns + tile.columns % 2
    pen = Pen(tile.base, r)
    full, rest = divmod(rows, g.band)
    step = g.band * g.row + g.strip
    if full:
        band = band_cell(g, g.band, columns, r, cells)
        if rest or full == 1:
            for index in range(full):
                pen.place(band, 0, index * step, (1, tile.lanes), (0, g.lane(rows)))
        else:
            pen.place(band, 0, 0, (1, tile.lanes * full), (0, step))
    if rest:
        band = band_cell(g, rest, columns, r, cells)
        pen.place(band, 0, full * step, (1, tile.lanes), (0, g.lane(rows)))
    draw_taps(pen, g, columns, tile.lanes * g.lane(rows), r)
    cells[tile.base] = pen.cell


def band_cell(
    g: Geometry, rows: int, columns: int, r: Rules, cells: dict[str, gdstk.Cell]
) -> gdstk.Cell:
    """So many rows above a strip of taps: units, word lines and product lines."""
    name = f"band_{g.lines}_{rows}_{columns}"
    if name in cells:
        return cells[name]
    below = cells.setdefault(f"unit_{g.lines}", unit(g.lines, r))
    pen = Pen(name, r)
    width = columns * g.column
    draw_taps(pen, g, columns, 0, r)
    pen.place(below, 0, g.strip, (columns // 2, rows // 2), (2 * g.column, 2 * g.row))
    over = overhang(g, r) + r["poly.8"]
    ends = (-over, width + over)
    low, high = gate(r)
    for low_end, high_end in ((low, high), (g.row - high, g.row - low)):
        pen.box("poly", ends, (g.strip + low_end, g.strip + high_end), (1, rows), (0, g.row))
    for line in range(g.lines):
        y = around(g.strip + g.first + line * g.line, g.line_width)
        pen.box("met1", (0, width), y, (1, rows), (0, g.row))
    outside = r["licon.1"] // 2 + r["licon.5c"] + r["nsd.5a"]
    pen.box("nsdm", sides(g, width, r), (g.strip - outside, g.strip + rows * g.row + outside))
    cells[name] = pen.cell
    return pen.cell


def overhang(g: Geometry, r: Rules) -> int:
    """How far the outer columns' diffusions reach beyond the array's sides."""
    return max(r["difftap.2"] - g.column, 0) // 2


def sides(g: Geometry, width: int, r: Rules) -> tuple[int, int]:
    """Left and right end of an implant over an array of that width."""
    over = overhang(g, r) + max(r["nsd.5a"], r["licon.7"] + r["psd.5b"])
    return -over, width + over


def draw_taps(pen: Pen, g: Geometry, columns: int, bottom: int, r: Rules) -> None:
    """A strip of substrate contacts up to a rail of met1."""
    width, y = columns * g.column, bottom + g.strip // 2
    left = (-r["licon.7"], width + r["licon.7"])
    pen.box("tap", left, around(y, tap_height(r)))
    pen.box("psdm", sides(g, width, r), around(y, max(tap_height(r) + 2 * r["psd.5b"], r["psd.1"])))
    pen.box("li1", (0, width), around(y, r["licon.1"]))
    pen.box("met1", (0, width), around(y, g.line_width))
    pitch = (2 * g.column, 0)
    for layer, side in (("licon", r["licon.1"]), ("mcon", r["ct.1"])):
        pen.box(layer, around(g.column, side), around(y, side), (columns // 2, 1), pitch)


def contacts(tile: Tile, codes: np.ndarray, r: Rules) -> Contacts:
    """A tile's contacts as rows of columns: see :class:`Contacts`. ``codes``: of the array."""
    g = geometry(1 << tile.array.bits, r)
    padded = tile.codes(codes)
    lanes, rows, columns = padded.shape
    lane = np.arange(lanes, dtype=np.int64)[:, None] * g.lane(rows)
    row = np.array([g.bottom(index) for index in range(rows)], np.int64)
    return Contacts(
        codes=padded.reshape(lanes * rows, columns),
        bottoms=(lane + row).reshape(-1) + g.first - g.contact // 2,
        left=g.column // 2 - g.contact // 2,
        column=g.column,
        line=g.line,
        lines=g.lines,
        side=g.contact,
    )
