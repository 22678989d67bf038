"""A tile's intended netlist: every transistor, with the line that each cell's contact selects.

SPICE (CDL) text of subcircuits, one for each kind of cell; the tile's own instances follow from the
shape and the codes alone, not from what is drawn.
"""

from collections.abc import Iterator

import numpy as np

from intaglio.layout.driver import NOR, Drivers, Inverter
from intaglio.layout.fabric import Tile
from intaglio.layout.geometry import DUMMIES, pull_down_width
from intaglio.layout.pen import UM
from intaglio.layout.rules import Rules
from intaglio.layout.tile import pins

N, P = "sky130_fd_pr__nfet_01v8", "sky130_fd_pr__pfet_01v8"
SUPPLIES = "VPWR VGND"


def netlist(tile: Tile, codes: np.ndarray, r: Rules) -> Iterator[str]:
    """The lines of a tile's netlist. ``codes``: of its array, uint8 [rows, lanes, columns]."""
    d = tile.drivers(r)
    yield from subcircuits(d, r)
    names = list(dict.fromkeys(pin.name for pin in pins(tile, r)))
    yield f".subckt {tile.base}"
    yield from (f"+ {' '.join(names[at : at + 8])}" for at in range(0, len(names), 8))
    for lane, rows in enumerate(tile.codes(codes)):
        yield from drivers(d, lane)
        yield from senses(d, lane)
        for row, columns in enumerate(rows.tolist()):
            yield from (
                f"Xcell_{lane}_{row}_{column} line_{lane}_{row}_{code} word_{lane}_{row} "
                f"sum_{lane}_{column} VGND cell"
                for column, code in enumerate(columns)
            )
            yield from dummies(d, lane, row)
    yield ".ends"


def transistor(name: str, nets: str, kind: str, width: int, r: Rules) -> str:
    """One transistor: drain, gate, source, bulk."""
    return f"M{name} {nets} {kind} w={width * UM:.3f}u l={r['poly.1a'] * UM:.3f}u"


def inverter(name: str, nets: tuple[str, str], each: Inverter, fingers: int, r: Rules) -> list[str]:
    """An inverter from the first net to the second."""
    source, to = nets
    widths = [fingers * (span[1] - span[0]) for span in (each.n, each.p)]
    return [
        transistor(f"{name}n", f"{to} {source} VGND VGND", N, widths[0], r),
        transistor(f"{name}p", f"{to} {source} VPWR VPWR", P, widths[1], r),
    ]


def subcircuits(d: Drivers, r: Rules) -> Iterator[str]:
    """What tiles are made of."""
    least = r["difftap.2"]
    line, fingers = d.lines[0].inverter, d.word_fingers
    yield from (
        ".subckt cell line word sum VGND",
        transistor("0", "line word sum VGND", N, least, r),
        ".ends",
        f".subckt word_driver row row_n word {SUPPLIES}",
        *inverter("a", ("row", "row_n"), d.word[0], fingers, r),
        *inverter("b", ("row_n", "word"), d.word[1], fingers, r),
        ".ends",
        f".subckt line_driver bit_n row_n line {SUPPLIES}",
        *nor_pull_up(d, r),
        transistor("2", "x row_n VGND VGND", N, NOR[1], r),
        transistor("3", "x bit_n VGND VGND", N, NOR[1], r),
        *inverter("4", ("x", "line"), line, d.fingers, r),
        ".ends",
        f".subckt sense sum precharge_n out {SUPPLIES}",
        transistor("0", "sum precharge_n VPWR VPWR", P, 2 * least, r),
        transistor("1", "out sum VPWR VPWR", P, least, r),
        transistor("2", "out sum VGND VGND", N, pull_down_width(r), r),
        ".ends",
    )


def nor_pull_up(d: Drivers, r: Rules) -> Iterator[str]:
    """The P transistors of a line driver's NOR: pairs in series, beside each other."""
    for part in range(d.folds):
        width = NOR[0] // d.folds
        yield transistor(f"p{part}", f"middle{part} row_n VPWR VPWR", P, width, r)
        yield transistor(f"q{part}", f"x bit_n middle{part} VPWR", P, width, r)


def drivers(d: Drivers, lane: int) -> Iterator[str]:
    """A lane's drivers of word lines and product lines."""
    for row in range(d.rows):
        own = f"{lane}_{row}"
        yield f"Xword_{own} row[{row}] row_n_{own} word_{own} {SUPPLIES} word_driver"
        for line in range(d.g.lines):
            bit = f"bit_n[{lane * d.g.lines + line}]"
            yield f"Xline_{own}_{line} {bit} row_n_{own} line_{own}_{line} {SUPPLIES} line_driver"


def senses(d: Drivers, lane: int) -> Iterator[str]:
    """A lane's sense amplifiers: even columns' below, odd ones' above."""
    for column in range(d.columns):
        nets = f"sum_{lane}_{column} precharge_n[{2 * lane + column % 2}]"
        yield f"Xsense_{lane}_{column} {nets} out[{lane * d.columns + column}] {SUPPLIES} sense"


def dummies(d: Drivers, lane: int, row: int) -> Iterator[str]:
    """A row's transistors beside the array: tied to the word line and to nothing else.

    Two of them share a source, as those of columns do: at the row's lower or at its upper edge.
    """
    band, inner = divmod(row, d.g.band)
    for column in range(2 * DUMMIES):
        edge = inner + (inner + column) % 2
        own = f"{lane}_{row}_{column}"
        source = f"idle_{lane}_{band}_{edge}_{column}"
        yield f"Xdummy_{own} open_{own} word_{lane}_{row} {source} VGND cell"
