"""Where things stand in an array of cells: the pitches that the rules allow.

Lengths are integers in nanometres. A lane is, from below: sense amplifiers of its even columns,
bands of rows with a strip of taps below and above each, sense amplifiers of its odd columns. A row
is, from the left: a strap, dummy cells, groups of columns with a strap between two, dummy cells, a
strap. In a strap both poly word lines of a row are tied to the row's wire of met3.
"""

import math
from dataclasses import dataclass

from intaglio.errors import BadInput
from intaglio.layout.pen import on_grid, pad
from intaglio.layout.rules import Rules

SELECT, SIGNED = "select", "signed"
CELLS = (SELECT, SIGNED)
STATIC_LINES = 2  # of a signed cell's sign: one that is always low, one always high
GROUP = 128  # columns from strap to strap: a poly word line's own delay stays below that of a read
STRAP = 2  # columns that a strap takes the place of
DUMMIES = 2  # columns without contacts on either side
PULL_DOWN = 4
"""Least widths that a sense amplifier's N transistor has: so that it takes a sum line for low only
far below where its neighbours' fall leaves one that must stay high."""
UNIT = 4  # columns that two sense amplifiers of one strip serve: tiles are padded to them


@dataclass(frozen=True, slots=True)
class Strip:
    """Heights in a strip of sense amplifiers, outwards from its array.

    ``well_tap``, ``source``, ``drains``: centres of contacts of the precharge row. ``gates``: of
    its polys. ``input``: contacts of the inverters' gates. ``pull_up``, ``output``, ``pull_down``:
    contacts of the inverters. ``tap``: of the substrate. ``psdm``: both P implants. ``well``: end
    of the N well. ``height``: of the strip.
    """

    well_tap: int
    source: int
    gates: tuple[int, int]
    drains: tuple[int, int]
    input: int
    pull_up: int
    output: int
    pull_down: int
    tap: int
    psdm: tuple[tuple[int, int], tuple[int, int]]
    well: int
    height: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where things stand in an array of cells with so many product lines.

    ``column``: pitch of columns. ``row``: pitch of rows. ``line``: pitch of lines. ``first``:
    centre of a row's lowest line above the row's lower edge. ``contact``: side of a contact.
    ``strip``: height of the tap strip below every band of ``band`` rows. ``sense``: the strips
    below and above a lane's rows. ``track``: pitch of a router's tracks across.
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
    sense: Strip
    track: int

    @property
    def cell_area(self) -> float:
        """um2 of one cell."""
        return self.column * self.row * 1e-6

    @property
    def array_area(self) -> float:
        """um2 of one cell, with its share of a tap strip where bands are full and of a strap."""
        return self.cell_area * (1 + self.strip / self.band / self.row) * (1 + STRAP / GROUP)

    def bottom(self, row: int) -> int:
        """The lower edge of a row above its lane's."""
        return self.sense.height + self.strip + row * self.row + row // self.band * self.strip

    def rows_height(self, rows: int) -> int:
        """The height of so many rows with their strips of taps."""
        rows += rows % 2
        return rows * self.row + (math.ceil(rows / self.band) + 1) * self.strip

    def lane(self, rows: int) -> int:
        """The height of a lane of so many rows, a number of whole tracks."""
        return on_grid(self.rows_height(rows) + 2 * self.sense.height, self.track)

    def slot(self, column: int) -> int:
        """How many columns a column's left border is from the array's."""
        return STRAP + DUMMIES + column + column // GROUP * STRAP

    def width(self, columns: int) -> int:
        """The width of an array of so many columns."""
        return (self.slot(columns - 1) + 1 + DUMMIES + STRAP) * self.column

    def groups(self, columns: int) -> list[tuple[int, int]]:
        """Left border of every group of columns, and how many it has."""
        return [
            (self.slot(first) * self.column, min(GROUP, columns - first))
            for first in range(0, columns, GROUP)
        ]

    def straps(self, columns: int) -> list[int]:
        """The centres of straps."""
        half = STRAP * self.column // 2
        inner = [left - half for left, _ in self.groups(columns)[1:]]
        return [half, *inner, self.width(columns) - half]


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
    wide = r["via.1a"] + 2 * r["m2.4"]
    column = on_grid(
        max(
            contact + r["ct.2"],
            r["li.1"] + r["li.3"],
            math.ceil(isolated / 2),
            math.ceil((wide + r["m2.1"]) / 2) + r["m2.2"],
        ),
        2 * r.grid,
    )
    patch = pad("met1", "mcon", r)[1]
    first = patch // 2 + r["m1.2"] + line_width // 2
    row = 2 * first + (lines - 1) * line
    if row < 2 * drain_end(r) + r["difftap.3"]:
        raise BadInput(f"a row of {lines} lines is too low for two transistors", hint="4 or more")
    strip = 2 * overhang(r) + 2 * r["difftap.3"] + tap_height(r)
    band = max(int((2 * r["LU.2"] - strip) // row) // 2 * 2, 2)
    return Geometry(
        lines, column, row, line, line_width, first, contact, strip, band, sense_strip(r),
        r.tracks["met3"][0],
    )  # fmt: skip


def gate(r: Rules) -> tuple[int, int]:
    """Lower and upper end of the gate above its source's edge."""
    low = r["licon.1"] // 2 + r["licon.11"]
    return low, low + r["poly.1a"]


def finger(r: Rules) -> int:
    """The pitch of contacted gates."""
    return r["licon.1"] + 2 * r["licon.11"] + r["poly.1a"]


def overhang(r: Rules) -> int:
    """How far diffusion reaches beyond the centre of its last contact."""
    return r["licon.1"] // 2 + r["licon.5c"]


def drain_end(r: Rules) -> int:
    """The end of the drain above its source's edge."""
    high = gate(r)[1]
    return high + max(r["licon.11"] + r["licon.1"] + r["licon.5c"], r["poly.7"])


def tap_height(r: Rules) -> int:
    """Height of a strip of substrate contacts."""
    return r["licon.1"] + 2 * r["licon.5c"]


def landings(r: Rules) -> tuple[int, int]:
    """How far from a lane's edge signals can take a via to met3: on the first two tracks."""
    pitch, offset = r.tracks["met3"]
    return offset, offset + pitch


def reserved(r: Rules) -> int:
    """How far a lane's edge is kept free of other met2 and met3 than its signals' ends."""
    return landings(r)[1] + r["via2.1a"] // 2 + r["m3.4"] + r["m3.2"]


def pull_down_width(r: Rules) -> int:
    """The width of a sense amplifier's N transistor."""
    return PULL_DOWN * r["difftap.2"]


def sense_strip(r: Rules) -> Strip:
    """The heights in a strip of sense amplifiers."""
    half, implant, contact = tap_height(r) // 2, r["psd.5b"], r["licon.1"]
    well_tap = r["difftap.10"] + half
    source = well_tap + half + r["difftap.3"] + overhang(r) + finger(r)
    beside = finger(r) // 2
    drains = source - finger(r), source + finger(r)
    first = drains[0] - overhang(r) - implant, drains[1] + overhang(r) + implant
    inputs = first[1] + r["licon.9"] + contact // 2
    second = max(inputs + contact // 2 + r["licon.9"], first[1] + r["psd.2"])
    pull_up = second + implant + r["difftap.2"] // 2
    diff_end = pull_up + r["difftap.2"] // 2
    well = diff_end + r["difftap.8"]
    wide = pull_down_width(r)
    pull_down = well + r["difftap.9"] + wide // 2
    tap = pull_down + wide // 2 + r["difftap.3"] + half
    return Strip(
        well_tap=well_tap,
        source=source,
        gates=(source - beside, source + beside),
        drains=drains,
        input=inputs,
        pull_up=pull_up,
        output=(diff_end + well + r["difftap.9"]) // (2 * r.grid) * r.grid,
        pull_down=pull_down,
        tap=tap,
        psdm=(first, (second, diff_end + implant)),
        well=well,
        height=on_grid(tap + half + implant + r["difftap.3"] // 2, 20 * r.grid),
    )
