"""The cell: one transistor and one programmable contact per weight, drawn from the rules.

A column of cells runs upwards. Each weight has an NMOS whose gate is its row's word line (poly),
whose source goes to the column's sum line (met2) and whose drain to a stub (li1) that crosses the
row's product lines (met1). One mcon where the stub crosses a line stores the code.

Two neighbouring columns share the width of one transistor: the even column's transistors stand at
the even row edges, the odd column's at the odd ones, so that a row has two word lines and each
source serves the rows below and above its edge. So a column is as wide as two contacts side by
side ask for (ct.1, ct.2), and a row as high as its lines and one source.

The origin of a unit is a row edge at a column's left border.
"""

import math

import gdstk

from intaglio.errors import BadInput
from intaglio.layout.geometry import Geometry, drain_end, gate, geometry, overhang
from intaglio.layout.pen import Pen, around, on_grid
from intaglio.layout.rules import Rules


def unit(lines: int, r: Rules, dummy: bool = False) -> gdstk.Cell:
    """Two columns of two rows: four weights without their word, product and sum lines and contacts.

    ``dummy``: the same transistors at an array's edge, their stubs cut in two and tied to nothing.
    """
    g = geometry(lines, r)
    pen = Pen(f"{'dummy' if dummy else 'unit'}_{lines}", r)
    even, odd = g.column // 2, g.column // 2 + g.column
    for edge, x, sides in ((0, even, (1,)), (1, odd, (-1, 1)), (2, even, (-1,))):
        draw_source(pen, x, edge * g.row, dummy)
        for side in sides:
            draw_transistor(pen, x, edge * g.row, side, r)
    low, high = stub_ends(g, r)
    for row in (0, 1):  # the end beside the own source reaches further, over the drain's contact
        bottom, top = row * g.row, (row + 1) * g.row
        for x, turned in ((even, row == 1), (odd, row == 0)):
            ends = (bottom + high, top - low) if turned else (bottom + low, top - high)
            middle = (ends[0] + ends[1]) // (2 * r.grid) * r.grid
            cut = r["li.3"] // (2 * r.grid) * r.grid + r.grid
            parts = ((ends[0], middle - cut), (middle + cut, ends[1])) if dummy else (ends,)
            for part in parts:
                pen.box("li1", around(x, r["li.1"]), part)
    return pen.cell


def stub_ends(g: Geometry, r: Rules) -> tuple[int, int]:
    """How far a stub's two ends stay from the row's edges: at its drain, and at the other end."""
    drain = gate(r)[1] + r["licon.11"] - r["li.5"]
    line = g.first - g.contact // 2
    nearest = r["li.1"] // 2 + r["li.3"]
    if min(drain, line) < nearest:
        raise BadInput("li.3: a stub would come too near to its source")
    return min(drain, line), line


def draw_source(pen: Pen, x: int, y: int, dummy: bool) -> None:
    """From diffusion at a row's edge up to the sum line."""
    r = pen.r
    long = on_grid(max(r["licon.1"] + 2 * r["li.5"], math.ceil(r["li.6"] / r["li.1"])), 2)
    pen.square("licon", x, y)
    pen.box("li1", around(x, long), around(y, r["li.1"]))
    if not dummy:
        pen.stack(x, y, "mcon", "via")


def draw_transistor(pen: Pen, x: int, y: int, side: int, r: Rules) -> None:
    """Diffusion and drain contact; ``side``: 1 above the edge, -1 below it."""
    ends = sorted((y - side * overhang(r), y + side * drain_end(r)))
    pen.box("diff", around(x, r["difftap.2"]), (ends[0], ends[1]))
    drain = gate(r)[1] + r["licon.11"] + r["licon.1"] // 2
    pen.square("licon", x, y + side * drain)
