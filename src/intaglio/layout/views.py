"""Views of a tile for those who place it: LEF, Liberty, a Verilog stub; netlist, GDS, contacts."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import gdstk
import numpy as np

from intaglio.layout.access import Access
from intaglio.layout.fabric import Tile, contacts
from intaglio.layout.geometry import reserved
from intaglio.layout.liberty import CONDITIONS, Macro, is_simulated, liberty
from intaglio.layout.library import write_cells
from intaglio.layout.netlist import netlist
from intaglio.layout.oasis import Contacts
from intaglio.layout.pen import UM, Span
from intaglio.layout.rules import Rules
from intaglio.layout.sense import wires
from intaglio.layout.tile import Pin, base_cells, pins

BLOCKED = ("li1", "met1")
POWER = {"VPWR": "POWER", "VGND": "GROUND"}


def lef(tile: Tile, r: Rules) -> str:
    """A tile's abstract: its size, its terminals, and where wires must not run."""
    width, height = tile.size(r)
    lines = [
        "VERSION 5.8 ;", 'BUSBITCHARS "[]" ;', 'DIVIDERCHAR "/" ;', f"MACRO {tile.base}",
        "  CLASS BLOCK ;", f"  FOREIGN {tile.base} 0 0 ;", "  ORIGIN 0 0 ;",
        f"  SIZE {um(width)} BY {um(height)} ;", "  SYMMETRY X Y ;",
    ]  # fmt: skip
    by_name = sorted(pins(tile, r), key=lambda pin: pin.name)
    for name, same in groupby(by_name, key=lambda pin: pin.name):
        lines += lef_pin(name, list(same))
    lines.append("  OBS")
    for layer, spans in obstructions(tile, r):
        lines.append(f"    LAYER {layer} ;")
        lines += [f"      RECT {rectangle(x, y)} ;" for x, y in spans]
    return "\n".join([*lines, "  END", f"END {tile.base}", "END LIBRARY", ""])


def lef_pin(name: str, same: list[Pin]) -> list[str]:
    """One terminal's part of a LEF."""
    lines = [
        f"  PIN {name}", f"    DIRECTION {same[0].direction} ;",
        f"    USE {POWER.get(name, 'SIGNAL')} ;", "    PORT",
    ]  # fmt: skip
    for layer, shapes in groupby(same, key=lambda pin: pin.layer):
        lines.append(f"      LAYER {layer} ;")
        lines += [f"        RECT {rectangle(pin.x, pin.y)} ;" for pin in shapes]
    return [*lines, "    END", f"  END {name}"]


def obstructions(tile: Tile, r: Rules) -> Iterator[tuple[str, list[tuple[Span, Span]]]]:
    """What a tile uses itself: li1 and met1 whole, met2 between the signals' ends, met3 over its
    rows and along precharge."""
    width, height = tile.size(r)
    d = tile.drivers(r)
    access, lane = Access(d), d.g.lane(d.rows)
    for layer in BLOCKED:
        yield layer, [((0, width), (0, height))]
    edge = reserved(r)
    bases = [lane * number for number in range(tile.lanes)]
    yield "met2", [((0, width), (base + edge, base + lane - edge)) for base in bases]
    spans = [(access.d.g.sense.height, access.top)]
    for upper in (False, True):
        ends = (access.sense(end, upper) for end in wires(d.g, r)["precharge"])
        low, high = sorted(ends)
        spans.append((low, high))
    yield "met3", [((0, width), (base + low, base + high)) for base in bases for low, high in spans]


def um(length: int) -> str:
    """A length in um."""
    return f"{length * UM:.3f}"


def rectangle(x: Span, y: Span) -> str:
    """Its corners in um."""
    return " ".join(um(value) for value in (x[0], y[0], x[1], y[1]))


def verilog(tile: Tile, r: Rules) -> str:
    """A tile's ports, and nothing inside."""
    d, lanes = tile.drivers(r), tile.lanes
    ports = (
        ("input", d.rows, "row"), ("input", lanes * d.g.lines, "bit_n"),
        ("input", 2 * lanes, "precharge_n"), ("output", lanes * d.columns, "out"),
    )  # fmt: skip
    listed = ",\n".join(f"    {way} wire [{count - 1}:0] {name}" for way, count, name in ports)
    return (
        f"(* blackbox *)\nmodule {tile.base} (\n`ifdef USE_POWER_PINS\n"
        f"    inout wire VPWR,\n    inout wire VGND,\n`endif\n{listed}\n);\nendmodule\n"
    )


def write_views(tile: Tile, folder: Path, r: Rules) -> list[Path]:
    """Write what all tiles of a kind share to a folder; Liberty where its reads were simulated."""
    views = {f"{tile.base}.lef": lef(tile, r), f"{tile.base}.v": verilog(tile, r)}
    own = macro(tile, r)
    if is_simulated(own):
        views |= {f"{own.name}_{name}.lib": liberty(own, name) for name in CONDITIONS}
    for name, text in views.items():
        (folder / name).write_text(text, "utf-8")
    return [folder / name for name in views]


def macro(tile: Tile, r: Rules) -> Macro:
    """A tile as Liberty knows it."""
    d, (width, height) = tile.drivers(r), tile.size(r)
    area = width * height * UM * UM
    return Macro(tile.base, tile.array.bits, d.rows, tile.lanes, d.columns, area)


def write_tile_views(tile: Tile, codes: np.ndarray, folder: Path, r: Rules) -> list[Path]:
    """Write one tile whole, contacts included: netlist and GDS. ``codes``: of its array."""
    path = folder / f"{tile.name}.cdl"
    with path.open("w", encoding="utf-8") as stream:
        stream.write(f"* {tile.name}\n")
        stream.writelines(f"{line}\n" for line in netlist(tile, codes, r))
    cells = base_cells([tile], r)
    own = gdstk.Cell(f"{tile.base}_codes")
    own.add(*contact_shapes(contacts(tile, tile.codes(codes), r), r))
    (top,) = (cell for cell in cells if cell.name == tile.base)
    top.add(gdstk.Reference(own))
    drawn = folder / f"{tile.name}.gds"
    write_cells(tile.name, [*cells, own], drawn, r)
    return [path, drawn]


def contact_shapes(made: Contacts, r: Rules) -> Iterator[gdstk.Polygon]:
    """One square per contact."""
    number, datatype = r.layers[r.programmable]
    for codes, bottom in zip(made.codes.tolist(), made.bottoms.tolist(), strict=True):
        for slot, code in zip(made.slots.tolist(), codes, strict=True):
            x, y = made.left + slot * made.column, bottom + code * made.line
            ends = (x * UM, y * UM), ((x + made.side) * UM, (y + made.side) * UM)
            yield gdstk.rectangle(*ends, layer=number, datatype=datatype)
