"""A tile as it is drawn: arrays, drivers at their left, sense amplifiers at the lanes' ends.

Nothing here depends on codes: a tile's base cell is what all models share. Its origin is its lower
left corner; lane 0 and row 0 are lowest.
"""

from dataclasses import dataclass

import gdstk

from intaglio.layout.access import Access, draw_access, row_wire
from intaglio.layout.cell import unit
from intaglio.layout.driver import Drivers
from intaglio.layout.driver_shapes import draw_driver_taps, draw_row, draw_stripes, draw_top
from intaglio.layout.fabric import Tile
from intaglio.layout.geometry import (
    DUMMIES,
    STRAP,
    Geometry,
    finger,
    gate,
    overhang,
    tap_height,
)
from intaglio.layout.pen import Pen, Span, around
from intaglio.layout.rules import Rules
from intaglio.layout.sense import draw_strip, middle, wires

Cells = dict[str, gdstk.Cell]
GROUND_TRACK = 100  # nm that a ground wire of met3 lies below the middle of its strip of taps


@dataclass(frozen=True, slots=True)
class Pin:
    """One terminal of a tile: its name, which way it goes, and the rectangle that is it, nm."""

    name: str
    direction: str
    layer: str
    x: Span
    y: Span


def base_cells(made: list[Tile], r: Rules) -> list[gdstk.Cell]:
    """The base cells of tiles, with everything that they refer to; each once, in order of names."""
    cells: Cells = {}
    for tile in made:
        if tile.base not in cells:
            draw_tile(tile, r, cells)
    return [cells[name] for name in sorted(cells)]


def draw_tile(tile: Tile, r: Rules, cells: Cells) -> None:
    """Draw a tile's base cell, and those below it that are not in ``cells`` yet."""
    d = tile.drivers(r)
    pen = Pen(tile.base, r)
    pitch = d.g.lane(d.rows)
    pen.place(lane_cell(d, cells), 0, 0, (1, tile.lanes), (0, pitch))
    for row in range(d.rows):
        x = row_wire(d, row)
        pen.box("met2", around(x, r["m2.1"]), (0, tile.lanes * pitch))
    cells[tile.base] = pen.cell


def lane_cell(d: Drivers, cells: Cells) -> gdstk.Cell:
    """One lane with all that belongs to it."""
    name = f"lane_{d.g.lines}_{d.rows}_{d.columns}"
    if name in cells:
        return cells[name]
    g, r = d.g, d.r
    pen = Pen(name, r)
    for first in range(0, d.rows, g.band):
        rows = min(g.band, d.rows - first)
        y = g.bottom(first) - g.strip
        pen.place(band_cell(g, rows, d.columns, r, cells), d.end, y)
        pen.place(driver_cell(d, rows, cells), 0, y)
    top = g.sense.height + g.rows_height(d.rows)
    array = Pen(f"{name}_top", r)
    draw_taps(array, g, d.columns, 0)
    pen.place(cells.setdefault(array.cell.name, array.cell), d.end, top - g.strip)
    draw_driver_taps(pen, d, top - g.strip // 2)
    draw_ground(pen, d, top - g.strip // 2)
    for odd in (False, True):
        strip = strip_cell(d, odd, cells)
        pen.place(strip, d.end, top if odd else 0)
    draw_sums(pen, d)
    draw_supplies(pen, d)
    draw_buses(pen, d)
    draw_access(pen, Access(d))
    cells[name] = pen.cell
    return pen.cell


def strip_cell(d: Drivers, odd: bool, cells: Cells) -> gdstk.Cell:
    """The sense amplifiers of every second column; those of even ones stand below their array."""
    name = f"sense_{'odd' if odd else 'even'}_{d.columns}"
    if name not in cells:
        height = d.g.sense.height
        pen = Pen(name, d.r, base=0 if odd else height, up=1 if odd else -1)
        draw_strip(pen, d.g, d.columns, odd)
        cells[name] = pen.cell
    return cells[name]


def driver_cell(d: Drivers, rows: int, cells: Cells) -> gdstk.Cell:
    """The drivers of so many rows above a strip of taps."""
    name = f"drivers_{d.g.lines}_{d.rows}_{d.columns}_{rows}"
    if name in cells:
        return cells[name]
    g = d.g
    below = f"driver_{d.g.lines}_{d.rows}_{d.columns}"
    if below not in cells:
        row = Pen(below, d.r)
        draw_row(row, d)
        cells[below] = row.cell
    pen = Pen(name, d.r, base=g.strip)
    pen.place(cells[below], 0, g.strip, (1, rows), (0, g.row))
    draw_top(pen, d, rows * g.row)
    last = max(d.fingers, 2) * finger(d.r) + overhang(d.r) + d.r["nsd.5a"]
    draw_stripes(pen, d, (rows - 1) * g.row + last)
    draw_driver_taps(pen, d, -g.strip // 2)
    draw_ground(pen, d, -g.strip // 2)
    cells[name] = pen.cell
    return pen.cell


def band_cell(g: Geometry, rows: int, columns: int, r: Rules, cells: Cells) -> gdstk.Cell:
    """So many rows above a strip of taps: units, word lines and product lines."""
    name = f"band_{g.lines}_{rows}_{columns}"
    if name in cells:
        return cells[name]
    below = cells.setdefault(f"unit_{g.lines}", unit(g.lines, r))
    dummy = cells.setdefault(f"dummy_{g.lines}", unit(g.lines, r, dummy=True))
    pen = Pen(name, r)
    width = g.width(columns)
    draw_taps(pen, g, columns, 0)
    pitch = (2 * g.column, 2 * g.row)
    for left, count in g.groups(columns):
        pen.place(below, left, g.strip, (count // 2, rows // 2), pitch)
    side = STRAP * g.column
    for left in (side, width - side - DUMMIES * g.column):
        pen.place(dummy, left, g.strip, (1, rows // 2), pitch)
    straps = g.straps(columns)
    low, high = gate(r)
    for ends in ((low, high), (g.row - high, g.row - low)):
        y = g.strip + ends[0], g.strip + ends[1]
        pen.box("poly", (straps[0], straps[-1]), y, (1, rows), (0, g.row))
    for line in range(g.lines):
        y = around(g.strip + g.first + line * g.line, g.line_width)
        pen.box("met1", (0, width), y, (1, rows), (0, g.row))
    track = r["via2.1a"] + 2 * r["m3.4"]
    pen.box("met3", (0, width), around(g.strip, track), (1, rows), (0, g.row))
    outside = overhang(r) + r["nsd.5a"]
    pen.box("nsdm", (0, width), (g.strip - outside, g.strip + rows * g.row + outside))
    strap = cells.setdefault(f"strap_{g.lines}", strap_cell(g, r))
    for x in straps:
        pen.place(strap, x, g.strip, (1, rows), (0, g.row))
    cells[name] = pen.cell
    return pen.cell


def strap_cell(g: Geometry, r: Rules) -> gdstk.Cell:
    """A row's two word lines tied to each other and to its wire of met3; its middle is at 0."""
    pen = Pen(f"strap_{g.lines}", r)
    low, high = gate(r)
    wide, tall = (r["licon.1"] + 2 * r[name] for name in ("licon.8a", "licon.8"))
    pen.box("poly", around(0, r["poly.1a"]), (low, g.row - low))
    y = high - r["poly.1a"] // 2
    pen.box("poly", around(0, wide), around(y, tall))
    pen.square("licon", 0, y)
    side = r["licon.1"] + 2 * r["licon.15"]
    pen.box("npc", around(0, side), around(y, side))
    pen.box("li1", around(0, r["li.1"]), (-r["ct.1"] // 2, y + r["licon.1"] // 2 + r["li.5"]))
    pen.stack(0, 0, "mcon", "via", "via2")
    return pen.cell


def draw_taps(pen: Pen, g: Geometry, columns: int, bottom: int) -> None:
    """A strip of substrate contacts up to a rail of met1, and its wire of met3 at the straps."""
    r, width, y = pen.r, g.width(columns), bottom + g.strip // 2
    side = r["licon.7"] + r["licon.1"] // 2
    first = 2 * g.column
    pen.box("tap", (first - side, width - first + side), around(y, tap_height(r)))
    implant = tap_height(r) + 2 * r["psd.5b"]
    edge = side + r["psd.5b"]
    pen.box("psdm", (first - edge, width - first + edge), around(y, max(implant, r["psd.1"])))
    pen.box("li1", (first - side, width - first + side), around(y, r["licon.1"]))
    pen.box("met1", (0, width), around(y, g.line_width))
    repeat = (width // first - 1, 1)
    for cut in ("licon", "mcon"):
        pen.square(cut, first, y, repeat, (first, 0))
    for x in g.straps(columns):
        pen.stack(x, y, "via")
        pen.stack(x, y - GROUND_TRACK, "via2")
    track = r["via2.1a"] + 2 * r["m3.4"]
    pen.box("met3", (0, width), around(y - GROUND_TRACK, track))


def draw_ground(pen: Pen, d: Drivers, y: int) -> None:
    """A strip's wire of met3 over the drivers, and its vias to their stripes of ground."""
    track = d.r["via2.1a"] + 2 * d.r["m3.4"]
    y -= GROUND_TRACK
    pen.box("met3", (d.grounds[0][0], d.end), around(y, track))
    for span in d.grounds:
        pen.stack(middle(span), y, "via2")


def draw_sums(pen: Pen, d: Drivers) -> None:
    """The columns' sum lines: even ones run down to their sense amplifiers, odd ones up."""
    g, r, s = d.g, d.r, d.g.sense
    half = r["via.1a"] // 2 + r["m2.5"]
    top = s.height + g.rows_height(d.rows)
    ends = (
        (s.height - s.drains[1], g.bottom(d.rows - 1) + g.row + half),
        (g.bottom(1) - half, top + s.drains[1]),
    )
    for left, count in g.groups(d.columns):
        for odd in (0, 1):
            x = d.end + left + odd * g.column + g.column // 2
            pen.box("met2", around(x, r["m2.1"]), ends[odd], (count // 2, 1), (2 * g.column, 0))


def draw_supplies(pen: Pen, d: Drivers) -> None:
    """Wells, stripes of supply and ground over the drivers, and their ties to the wires of met3."""
    g, r, s = d.g, d.r, d.g.sense
    top = s.height + g.rows_height(d.rows)
    grounds = wires(g, r)["VGND"]
    for span in d.wells:
        pen.box("nwell", span, (s.height, top))
    for span in (*d.grounds, *d.supplies):
        pen.box("met2", span, (s.height - grounds[1], top + grounds[1]))
    track = r["via2.1a"] + 2 * r["m3.4"]
    for name, ends in wires(g, r).items():
        stripes = {"VPWR": d.supplies, "VGND": d.grounds, "precharge": []}[name]
        left = row_wire(d, d.rows) - track // 2 if name == "precharge" else d.grounds[0][0]
        for y in ((s.height - ends[1], s.height - ends[0]), (top + ends[0], top + ends[1])):
            pen.box("met3", (left, d.end), y)
            for span in stripes:
                pen.stack(middle(span), middle(y), "via2")
            if name == "precharge":
                pen.stack(row_wire(d, d.rows), middle(y), "via2")


def draw_buses(pen: Pen, d: Drivers) -> None:
    """The lane's product bits up along all rows, and the rows' own wires' vias."""
    g, r = d.g, d.r
    ends = g.sense.height - g.sense.output, g.bottom(d.rows - 1) + g.row
    for line in d.lines:
        pen.box("met2", around(line.bit_n, r["m2.1"]), ends)
    for row in range(d.rows):
        pen.stack(row_wire(d, row), g.bottom(row) + d.track, "via")


def pins(tile: Tile, r: Rules) -> list[Pin]:
    """Every terminal of a tile: signals where they end, supplies along their wires."""
    d = tile.drivers(r)
    access, pitch = Access(d), d.g.lane(d.rows)
    found: list[Pin] = []
    for lane in range(tile.lanes):
        base = lane * pitch
        ends = access.own(lane)
        ends += [wire for wire in access.rows() if lane == (tile.lanes - 1 if wire.upper else 0)]
        for wire in ends:
            for x, y in (access.landing(wire), access.end(wire)):
                y = base + y[0], base + y[1]
                found.append(Pin(wire.name, wire.direction, "met2", x, y))
        found += supply_pins(d, access, base)
    return found


def supply_pins(d: Drivers, access: Access, base: int) -> list[Pin]:
    """A lane's wires of supply and ground over its sense amplifiers."""
    x = d.grounds[0][0], d.end + d.g.width(d.columns)
    found: list[Pin] = []
    for upper in (False, True):
        for name, ends in wires(d.g, d.r).items():
            if name == "precharge":
                continue
            low, high = sorted(base + access.sense(end, upper) for end in ends)
            found.append(Pin(name, "INOUT", "met3", x, (low, high)))
    return found
