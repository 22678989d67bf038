"""The cell as a circuit: devices and wires measured on the drawn shapes, loads from the process.

A small array is drawn by ``layout``, merged layer by layer, and everything is measured in a window
of whole cells, so that what repeats counts once. Fringing is counted in full although neighbours
shield it, and all that a sum line crosses but product lines counts as ground: the high side.

Lengths in um, areas in um2, capacitances in fF, resistances in ohm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gdstk

from intaglio.layout.fabric import Array, Tile
from intaglio.layout.geometry import Geometry, geometry
from intaglio.layout.rules import Rules, rules
from intaglio.layout.tile import base_cells
from intaglio.quantity import read_yaml

RIM = 0.005  # um: width of the rim by which lengths of edges are measured
STRAP = 0.33  # um: the wire of met3 over a row to which its word lines are tied
FINE = 1e-6  # um: to which shapes are combined
WIRES = ("nominal", "high")
FF = 1e-3  # of an aF

Polygons = list[gdstk.Polygon]


@dataclass(frozen=True)
class Wires:
    """What wires of a process load and resist, at one of its wire corners."""

    values: Mapping[str, Mapping[str, Mapping[str, Any]]]
    corner: str = "nominal"

    def __post_init__(self) -> None:
        if self.corner not in WIRES:
            raise ValueError(f"wires must be one of {', '.join(WIRES)}, not {self.corner!r}")

    def number(self, kind: str, name: str) -> float:
        """A value of the file, 0 where there is none of that pair of layers."""
        entry = self.values[kind].get(name)
        return 0.0 if entry is None else entry["value" if self.corner == "nominal" else "high"]

    def sheet(self, layer: str, length: float, width: float) -> float:
        """Ohm of a wire."""
        return self.number("sheet", layer) * length / width

    def crossing(self, pair: str, upper: float, lower: float) -> float:
        """fF where two bars of these widths cross."""
        plate = self.number("plate", pair) * upper * lower
        edges = self.number("fringe", pair) * 2 * lower + self.number("back", pair) * 2 * upper
        return (plate + edges) * FF

    def side(self, layer: str, length: float, spacing: float) -> float:
        """fF between two parallel edges."""
        key = "offset" if self.corner == "nominal" else "high_offset"
        offset = self.values["side"][layer][key]
        return self.number("side", layer) * length / (spacing + offset) * FF


@cache
def wires(process: str = "sky130", corner: str = "nominal") -> Wires:
    """The wires of a process."""
    return Wires(read_yaml(Path(__file__).with_name(f"{process}.yaml")), corner)


@dataclass(frozen=True, slots=True)
class Device:
    """A transistor as drawn; the junctions' areas and perimeters are without the gate's edge."""

    width: float
    length: float
    drain: tuple[float, float]
    source: tuple[float, float]


@dataclass(frozen=True, slots=True)
class CellCircuit:
    """One cell's part of every wire, and its transistor.

    ``column``, ``row``: pitch. Of a product line per column: ``line_ohm``, ``line_side`` to each
    of its two neighbours, ``line_ground``. Of a sum line per row: ``sum_ohm``, ``sum_side``,
    ``sum_ground``; ``crossing``: between one product line and one sum line. ``stub``: what hangs on
    the product line with a cell, ``stub_ohm`` at most. ``source_ohm``: from sum line to source.
    Of a word line per column: ``word_ohm``, ``word_ground`` without the gate. ``strap``: between a
    sum line and the wire that a row's word lines are tied to.
    """

    lines: int
    column: float
    row: float
    device: Device
    line_ohm: float
    line_side: float
    line_ground: float
    sum_ohm: float
    sum_side: float
    sum_ground: float
    crossing: float
    stub: float
    stub_ohm: float
    source_ohm: float
    word_ohm: float
    word_ground: float
    strap: float


class Shapes:
    """Merged layers of a drawn array, and the window of four cells in its middle.

    The window is two columns wide and two rows high: there the pattern repeats.
    """

    def __init__(self, lines: int, r: Rules) -> None:
        self.g: Geometry = geometry(lines, r)
        rows = min(8, self.g.band)
        (tile,) = [Tile(Array("extract", lines.bit_length() - 1, rows, 1, 8), 0, 1, 0, 8)]
        x0, y0 = tile.drivers(r).end + self.g.slot(2) * self.g.column, self.g.bottom(2)
        x1, y1 = x0 + 2 * self.g.column, y0 + 2 * self.g.row
        self.ends = (x0 / 1e3, y0 / 1e3, x1 / 1e3, y1 / 1e3)
        self.window = [gdstk.rectangle(self.ends[:2], self.ends[2:])]
        found = near(tile, self.ends, self.g.row / 1e3, r)
        self.layers = {name: merged(shapes) for name, shapes in found.items()}
        whole = 8 * self.g.column / 1e3
        self.lines = [p for p in self.layers["met1"] if width(p) >= whole - RIM]
        self.patches = [p for p in self.layers["met1"] if width(p) < whole - RIM]
        contacts = self.layers["mcon"]  # of the base: at sources and taps alone
        self.stubs = [
            p for p in self.layers["li1"] if not both([p], contacts) and height(p) > width(p)
        ]

    def inside(self, shapes: Polygons) -> Polygons:
        """Those whose centre lies in the window."""
        x0, y0, x1, y1 = self.ends
        return [p for p in shapes if x0 <= centre(p)[0] < x1 and y0 <= centre(p)[1] < y1]

    def area(self, shapes: Polygons) -> float:
        """um2 in the window."""
        return area(both(shapes, self.window))

    def edges(self, shapes: Polygons, over: Polygons | None = None) -> float:
        """um of the shapes' edges in the window, over other shapes if given."""
        rim = gdstk.boolean(
            gdstk.offset(shapes, RIM, precision=FINE), shapes, "not", precision=FINE
        )
        rim = both(rim, self.window)
        return area(rim if over is None else both(rim, over)) / RIM


def near(
    tile: Tile, ends: tuple[float, float, float, float], far: float, r: Rules
) -> dict[str, Polygons]:
    """A tile's shapes by layer, those that come as near to a window as ``far``."""
    cells = {cell.name: cell for cell in base_cells([tile], r)}
    numbers = {number: name for name, number in r.layers.items()}
    found: dict[str, Polygons] = {name: [] for name in r.layers}
    for polygon in cells[tile.base].get_polygons():
        (x0, y0), (x1, y1) = box(polygon)
        outside = (x0 - ends[2], ends[0] - x1, y0 - ends[3], ends[1] - y1)
        if max(outside) <= far:
            found[numbers[polygon.layer, polygon.datatype]].append(polygon)
    return found


def merged(shapes: Polygons) -> Polygons:
    """The union."""
    return gdstk.boolean(shapes, [], "or", precision=FINE) if shapes else []


def both(a: Polygons, b: Polygons) -> Polygons:
    """What is covered by both."""
    return gdstk.boolean(a, b, "and", precision=FINE) if a and b else []


def area(shapes: Polygons) -> float:
    """um2 of shapes that do not overlap."""
    return sum(p.area() for p in shapes)


def box(p: gdstk.Polygon) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lower left and upper right corner."""
    ends = p.bounding_box()
    assert ends is not None
    return ends


def width(p: gdstk.Polygon) -> float:
    """Its extent from left to right."""
    return box(p)[1][0] - box(p)[0][0]


def height(p: gdstk.Polygon) -> float:
    """Its extent upwards."""
    return box(p)[1][1] - box(p)[0][1]


def centre(p: gdstk.Polygon) -> tuple[float, float]:
    """The middle of its extent."""
    (x0, y0), (x1, y1) = box(p)
    return (x0 + x1) / 2, (y0 + y1) / 2


def device(s: Shapes) -> Device:
    """The transistor, with its share of a source that two have."""
    gates = both(s.layers["poly"], s.layers["diff"])
    ends = gdstk.boolean(s.layers["diff"], s.layers["poly"], "not", precision=FINE)
    (gate, *others) = s.inside(gates)
    assert len(others) == 3, "four transistors in a window"
    shared = [p for p in ends if touching(p, gates) == 2]
    single = [p for p in ends if touching(p, gates) == 1]
    source, drain = s.inside(shared)[0], s.inside(single)[0]
    w = width(gate)
    return Device(
        width=w,
        length=height(gate),
        drain=(area([drain]), 2 * (width(drain) + height(drain)) - w),
        source=(area([source]) / 2, height(source)),
    )


def touching(p: gdstk.Polygon, gates: Polygons) -> int:
    """Gates that a piece of diffusion borders."""
    return len(both(gdstk.offset([p], RIM, precision=FINE), gates))


def between(s: Shapes, upper: Polygons, lower: Polygons, pair: str, w: Wires) -> float:
    """fF between shapes of two layers in the window."""
    return FF * (
        w.number("plate", pair) * s.area(both(upper, lower))
        + w.number("fringe", pair) * s.edges(upper, lower)
        + w.number("back", pair) * s.edges(lower, upper)
    )


def down(s: Shapes, upper: Polygons, layer: str, shields: Polygons, w: Wires) -> float:
    """fF from shapes to the well, where nothing lies between."""
    bare = gdstk.boolean(upper, shields, "not", precision=FINE) if shields else upper
    open_edges = s.edges(upper) - (s.edges(upper, shields) if shields else 0.0)
    return FF * (
        w.number("plate", f"{layer}/well") * s.area(bare)
        + w.number("fringe", f"{layer}/well") * open_edges
    )


@cache
def cell_circuit(lines: int, process: str = "sky130", corner: str = "nominal") -> CellCircuit:
    """The circuit of the select cell with so many product lines."""
    r, w = rules(process), wires(process, corner)
    s = Shapes(lines, r)
    column, row = s.g.column / 1e3, s.g.row / 1e3
    line_width, line_space = s.g.line_width / 1e3, (s.g.line - s.g.line_width) / 1e3
    stubs, sums = s.stubs, s.layers["met2"]
    stub_length = max(height(p) for p in s.inside(stubs))
    stub_width = width(s.inside(stubs)[0])
    sum_width = r["m2.1"] / 1e3
    lines_down = between(s, s.lines, stubs, "met1/li1", w) / 4  # per cell: all its lines
    crossings = between(s, sums, s.lines, "met2/met1", w) / 4
    over = merged(s.layers["met1"] + stubs)
    contact = {name: w.number("contact", name) for name in ("licon", "mcon", "via")}
    sources = [p for p in s.layers["li1"] if p not in stubs]
    return CellCircuit(
        lines=lines,
        column=column,
        row=row,
        device=device(s),
        line_ohm=w.sheet("met1", column, line_width),
        line_side=w.side("met1", column, line_space),
        line_ground=(lines_down + down(s, s.lines, "met1", stubs, w) / 4) / lines,
        sum_ohm=w.sheet("met2", row, sum_width),
        sum_side=sum_side(s, column, row, r, w),
        sum_ground=(
            between(s, sums, outside(stubs, s.lines), "met2/li1", w)
            + down(s, sums, "met2", over, w)
            + down(s, sources, "li1", [], w)
            + down(s, s.patches, "met1", [], w)
        ) / 4 + patch_side(s, r, w),
        crossing=crossings / lines,
        stub=down(s, stubs, "li1", [], w) / 4
        + 2 * w.side("li1", stub_length, column - stub_width)
        + lines_down * (lines - 1) / lines
        + between(s, sums, outside(stubs, s.lines), "met2/li1", w) / 4,
        stub_ohm=contact["licon"] + w.sheet("li1", stub_length, stub_width) + contact["mcon"],
        source_ohm=contact["licon"] + contact["mcon"] + contact["via"],
        word_ohm=w.sheet("poly", column, r["poly.1a"] / 1e3),
        word_ground=word_ground(s, w),
        strap=w.crossing("met3/met2", STRAP, sum_width),
    )  # fmt: skip


def outside(shapes: Polygons, of: Polygons) -> Polygons:
    """What of the shapes lies beside others."""
    return gdstk.boolean(shapes, of, "not", precision=FINE)


def sum_side(s: Shapes, column: float, row: float, r: Rules, w: Wires) -> float:
    """fF per row from a sum line to each neighbour: each has a pad in every second row."""
    narrow = r["m2.1"] / 1e3
    wide, high = (r["via.1a"] + 2 * r["m2.4"]) / 1e3, (r["via.1a"] + 2 * r["m2.5"]) / 1e3
    beside = column - narrow / 2 - wide / 2
    return w.side("met2", row - high, column - narrow) + w.side("met2", high, beside)


def patch_side(s: Shapes, r: Rules, w: Wires) -> float:
    """fF per row from a source's patch of met1 to the lines above and below it."""
    patch = s.inside(s.patches)[0]
    return 2 * w.side("met1", width(patch), r["m1.2"] / 1e3) / 2


def word_ground(s: Shapes, w: Wires) -> float:
    """fF per column of both word lines of a row together, over field."""
    return down(s, s.layers["poly"], "poly", s.layers["diff"], w) / 4
