"""The cell: one transistor and one programmable contact per weight, drawn from the rules.

A column of cells runs upwards. Each weight has an NMOS whose gate is its row's word line (poly),
whose source goes to the column's sum line (met2) and whose drain to a stub (li1) that crosses the
row's product lines (met1). One mcon where the stub crosses a line stores the code.

Two neighbouring columns share the width of one transistor: the even column's transistors stand at
the even row edges, the odd column's at the odd ones, so that a row has two word lines and each
source serves the rows below and above its edge. So a column is as wide as two contacts side by
side ask for (ct.1, ct.2), and a row as high as its lines and one source.

Lengths are integers in nanometres; the origin of a unit is a row edge at a column's left border.
"""

import math
from dataclasses import dataclass

import gdstk

from intaglio.errors import BadInput
from intaglio.layout.rules import Rules

UM = 1e-3  # of a nanometre
SELECT, SIGNED = "select", "signed"
CELLS = (SELECT, SIGNED)
STATIC_LINES = 2  # of a signed cell's sign: one that is always low, one always high


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where things stand in an array of cells with so many product lines.

    ``column``: pitch of columns. ``row``: pitch of rows. ``line``: pitch of lines. ``first``:
    centre of a row's lowest line above the row's lower edge. ``contact``: side of a contact.
    ``strip``: height of the tap strip below every band of ``band`` rows.
    """

    lines: int
    column: int
    row: int
    line: int
    line_width: int
    first: int
    contact: int
    strip: int
    band: int

    @property
    def cell_area(self) -> float:
        """um2 of one cell."""
        return self.column * self.row * 1e-6

    @property
    def array_area(self) -> float:
        """um2 of one cell, with its share of a tap strip where bands are full."""
        return self.column * (self.row + self.strip / self.band) * 1e-6

    def bottom(self, row: int) -> int:
        """The lower edge of a row above its lane's."""
        return self.strip + row * self.row + row // self.band * self.strip

    def lane(self, rows: int) -> int:
        """The pitch of lanes of so many rows."""
        rows += rows % 2
        return rows * self.row + math.ceil(rows / self.band) * self.strip


def line_count(cell: str, bits: int) -> int:
    """Product lines that a row of such cells crosses."""
    if cell not in CELLS:
        raise BadInput(f"cell must be one of {', '.join(CELLS)}, not {cell!r}")
    return 1 << bits if cell == SELECT else (1 << bits - 1) + STATIC_LINES


def weight_area(cell: str, bits: int, r: Rules) -> float:
    """um2 of one weight: a signed one takes two columns, magnitude and sign.

    The sign cannot stand above the magnitude in one column: it has a sum line of its own, and two
    of met2 do not fit the width of one.
    """
    columns = 1 if cell == SELECT else 2
    return columns * geometry(line_count(cell, bits), r).cell_area


def geometry(lines: int, r: Rules) -> Geometry:
    """The smallest array of cells with so many lines that keeps the rules."""
    contact = r["ct.1"]
    line_width = contact + 2 * r["m1.4"]
    line = max(line_width + r["m1.2"], contact + r["ct.2"])
    isolated = r["difftap.2"] + r["difftap.3"]  # of two columns
    pad = r["via.1a"] + 2 * r["m2.4"]
    column = on_grid(
        max(
            contact + r["ct.2"],
            r["li.1"] + r["li.3"],
            math.ceil(isolated / 2),
            math.ceil((pad + r["m2.1"]) / 2) + r["m2.2"],
        ),
        2 * r.grid,
    )
    patch = source_patch(r)[1]
    first = patch // 2 + r["m1.2"] + line_width // 2
    row = 2 * first + (lines - 1) * line
    if row < 2 * drain_end(r) + r["difftap.3"]:
        raise BadInput(f"a row of {lines} lines is too low for two transistors", hint="4 or more")
    overhang = r["licon.1"] // 2 + r["licon.5c"]
    strip = 2 * overhang + 2 * r["difftap.3"] + tap_height(r)
    band = max(int((2 * r["LU.2"] - strip) // row) // 2 * 2, 2)
    return Geometry(lines, column, row, line, line_width, first, contact, strip, band)


def on_grid(length: int, grid: int) -> int:
    """A length rounded up to the grid."""
    return -(-length // grid) * grid


def source_patch(r: Rules) -> tuple[int, int]:
    """Width and height of the met1 between a source's mcon and its via."""
    width = max(r["via.1a"] + 2 * r["via.5a"], r["ct.1"] + 2 * r["m1.5"])
    height = max(r["via.1a"] + 2 * r["via.4a"], r["ct.1"] + 2 * r["m1.4"])
    if width * height < r["m1.6"]:
        width = on_grid(math.ceil(r["m1.6"] / height), 2 * r.grid)
    return width, height


def gate(r: Rules) -> tuple[int, int]:
    """Lower and upper end of the gate above its source's edge."""
    low = r["licon.1"] // 2 + r["licon.11"]
    return low, low + r["poly.1a"]


def drain_end(r: Rules) -> int:
    """The end of the drain above its source's edge."""
    high = gate(r)[1]
    return high + max(r["licon.11"] + r["licon.1"] + r["licon.5c"], r["poly.7"])


def tap_height(r: Rules) -> int:
    """Height of a strip of substrate contacts."""
    return r["licon.1"] + 2 * r["licon.5c"]


class Pen:
    """Draws rectangles of named layers, given in nm, into a cell; shapes may repeat."""

    def __init__(self, name: str, r: Rules) -> None:
        self.cell, self.layers = gdstk.Cell(name), r.layers

    def box(
        self,
        layer: str,
        x: tuple[int, int],
        y: tuple[int, int],
        repeat: tuple[int, int] = (1, 1),
        pitch: tuple[int, int] = (0, 0),
    ) -> None:
        """A rectangle from ``x[0], y[0]`` to ``x[1], y[1]``."""
        number, datatype = self.layers[layer]
        made = gdstk.rectangle(
            (x[0] * UM, y[0] * UM), (x[1] * UM, y[1] * UM), layer=number, datatype=datatype
        )
        if repeat != (1, 1):
            made.repetition = gdstk.Repetition(
                columns=repeat[0], rows=repeat[1], spacing=(pitch[0] * UM, pitch[1] * UM)
            )
        self.cell.add(made)

    def square(self, layer: str, x: int, y: int, side: int) -> None:
        """A square about a centre."""
        self.box(layer, around(x, side), around(y, side))

    def place(
        self,
        cell: gdstk.Cell,
        x: int,
        y: int,
        repeat: tuple[int, int] = (1, 1),
        pitch: tuple[int, int] = (0, 0),
    ) -> None:
        """A reference, or an array of them."""
        self.cell.add(
            gdstk.Reference(
                cell, (x * UM, y * UM), columns=repeat[0], rows=repeat[1],
                spacing=(pitch[0] * UM, pitch[1] * UM),
            )
        )  # fmt: skip


def around(centre: int, size: int) -> tuple[int, int]:
    """Both ends of a length about its centre."""
    return centre - size // 2, centre - size // 2 + size


def unit(lines: int, r: Rules) -> gdstk.Cell:
    """Two columns of two rows: four weights without their word and product lines and contacts."""
    g = geometry(lines, r)
    pen = Pen(f"unit_{lines}", r)
    even, odd = g.column // 2, g.column // 2 + g.column
    for edge, x, sides in ((0, even, (1,)), (1, odd, (-1, 1)), (2, even, (-1,))):
        draw_source(pen, x, edge * g.row, r)
        for side in sides:
            draw_transistor(pen, x, edge * g.row, side, r)
    low, high = stub_ends(g, r)
    for row in (0, 1):  # the end beside the own source reaches further, over the drain's contact
        bottom, top = row * g.row, (row + 1) * g.row
        for x, turned in ((even, row == 1), (odd, row == 0)):
            ends = (bottom + high, top - low) if turned else (bottom + low, top - high)
            pen.box("li1", around(x, r["li.1"]), ends)
    for x in (even, odd):
        reach = (r["via.1a"] // 2 + r["m2.5"], 2 * g.row + r["via.1a"] // 2 + r["m2.5"])
        pen.box("met2", around(x, r["m2.1"]), (-reach[0], reach[1]))
    return pen.cell


def stub_ends(g: Geometry, r: Rules) -> tuple[int, int]:
    """How far a stub's two ends stay from the row's edges: at its drain, and at the other end."""
    drain = gate(r)[1] + r["licon.11"] - r["li.5"]
    line = g.first - g.contact // 2
    nearest = r["li.1"] // 2 + r["li.3"]
    if min(drain, line) < nearest:
        raise BadInput("li.3: a stub would come too near to its source")
    return min(drain, line), line


def draw_source(pen: Pen, x: int, y: int, r: Rules) -> None:
    """From diffusion at a row's edge up to the sum line."""
    long = on_grid(max(r["licon.1"] + 2 * r["li.5"], math.ceil(r["li.6"] / r["li.1"])), 2)
    width, height = source_patch(r)
    pen.square("licon", x, y, r["licon.1"])
    pen.box("li1", around(x, long), around(y, r["li.1"]))
    pen.square("mcon", x, y, r["ct.1"])
    pen.box("met1", around(x, width), around(y, height))
    pen.square("via", x, y, r["via.1a"])
    wide, high = r["via.1a"] + 2 * r["m2.4"], r["via.1a"] + 2 * r["m2.5"]
    pen.box("met2", around(x, wide), around(y, high))


def draw_transistor(pen: Pen, x: int, y: int, side: int, r: Rules) -> None:
    """Diffusion and drain contact; ``side``: 1 above the edge, -1 below it."""
    overhang = r["licon.1"] // 2 + r["licon.5c"]
    ends = sorted((y - side * overhang, y + side * drain_end(r)))
    pen.box("diff", around(x, r["difftap.2"]), (ends[0], ends[1]))
    drain = gate(r)[1] + r["licon.11"] + r["licon.1"] // 2
    pen.square("licon", x, y + side * drain, r["licon.1"])
