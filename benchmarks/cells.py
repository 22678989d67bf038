"""Four cells for the same weights, in sky130: area, energy, area times cycles, each with its grade.

    python benchmarks/cells.py [--bits 3] [--inputs 4096] [--outputs 4096] [--rows 16]
    python benchmarks/cells.py --chip CHIP: the area alone, at the rows of each of its fabrics

*select*, *signed select* and *decode* are the cells a fabric can be made of; *counters* gives every
code of an output a counter of its own, without rows, as published hardwired arrays do. They store
the same matrix and meet the same 8-bit activations.

- **drawn**: shapes that keep sky130's rules (``layout``);
- **simulated**: ngspice on the drawn cell (``targets/circuit/sky130.yaml``);
- **derived**: the formulas of ``silicon.fabric`` from synthesised blocks and the target's figures;
  of a signed cell's or a ROM's lines, from the simulated select cell by their heights.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from intaglio.flow.package import open_package
from intaglio.golden.number import CODEBOOKS, accumulator_bits
from intaglio.layout.fabric import Array, tiles
from intaglio.layout.geometry import SELECT, SIGNED, geometry, line_count, weight_area
from intaglio.layout.liberty import tables
from intaglio.layout.rules import rules
from intaglio.plan.process import process
from intaglio.plan.tiling import FabricPlan
from intaglio.silicon.circuits import assumptions
from intaglio.silicon.fabric import CELLS, CHOICE, fabric_area, fabric_energy

ACTIVATION = 8
ROM_BITS = 2  # of a ROM's cell
DRAWN, SIMULATED, DERIVED = "drawn", "simulated", "derived"


@dataclass(frozen=True, slots=True)
class Row:
    """One cell's figures per weight: value and grade. ``code``: what one stored code takes;
    ``reading``: the energy of a pass in product lines, sum lines and senses; ``area``, ``energy``:
    all of the fabric, trees and banks included. ``cycles``: of a pass."""

    cell: str
    code: tuple[float, str]
    area: tuple[float, str]
    reading: tuple[float, str]
    energy: tuple[float, str]
    cycles: int

    @property
    def area_cycles(self) -> tuple[float, str]:
        """um2 of a weight times cycles of a pass: what a rate of products takes."""
        return self.area[0] * self.cycles, DERIVED


def plan(bits: int, inputs: int, outputs: int, rows: int) -> FabricPlan:
    """The matrix as a fabric of so many rows."""
    return FabricPlan(
        bits, inputs, outputs, -(-inputs // rows), 0, 0, ACTIVATION,
        accumulator_bits(inputs, max(CODEBOOKS[bits]), ACTIVATION),
    )  # fmt: skip


def numbers() -> dict[str, float]:
    """sky130's figures and what the model assumes beside them."""
    figures = {key: q.number for key, q in process("sky130").figures.items() if q.known}
    return figures | {key: q.number for key, q in assumptions().items()}


def simulated(bits: int, rows: int) -> dict[str, float]:
    """The typical read of a tile of at least so many rows."""
    fitting = [
        entry for entry in tables()["tiles"]
        if entry["bits"] == bits and entry["condition"] == "typical" and entry["rows"] >= rows
    ]  # fmt: skip
    return min(fitting, key=lambda entry: entry["rows"])


def code_area(cell: str, bits: int) -> tuple[float, str]:
    """um2 of one stored code, without anything that columns share."""
    r = rules("sky130")
    if cell in (SELECT, SIGNED):
        return weight_area(cell, bits, r), DRAWN
    if cell == "decode":  # ROM of select cells whose lines carry constants
        return bits * geometry(1 << ROM_BITS, r).cell_area / ROM_BITS, DRAWN
    return 0.0, DERIVED


def tile_area(fabric: FabricPlan) -> float:
    """um2 per weight of a fabric's drawn tiles."""
    r = rules("sky130")
    array = Array("", fabric.bits, fabric.rows, fabric.lanes, fabric.outputs)
    sizes = [tile.size(r) for tile in tiles(array, r)]
    return sum(width * height for width, height in sizes) * 1e-6 / array.cells


def column_energy(cell: str, fabric: FabricPlan) -> tuple[float, str]:
    """fJ of one column and lane for a pass over its rows: sum lines and senses, active line."""
    x, rows = numbers(), fabric.rows
    read = simulated(fabric.bits, rows)
    share = rows / read["rows"]
    falls = x["line_activity"] * fabric.cycles
    if cell == SELECT:
        return falls * (read["sum_energy"] * share + read["sense_energy"]), SIMULATED
    r = rules("sky130")
    high = geometry(1 << fabric.bits, r).row
    if cell == SIGNED:  # magnitude every bit cycle, sign once a row; each has its own sum line
        part = geometry(line_count(SIGNED, fabric.bits), r).row / high
        one = read["sum_energy"] * share * part + read["sense_energy"]
        xor = x["xor_gates"] * x["gate_energy"]
        return falls * (one + 2 * xor) + x["line_activity"] * rows * one, DERIVED
    if cell == "decode":  # each bit of a code once a row, and the multiplexer every bit cycle
        part = geometry(1 << ROM_BITS, r).row / high / ROM_BITS
        one = read["sum_energy"] * share * part + read["sense_energy"]
        stages = fabric.bits * x["mux_gates"] * x["gate_energy"]
        latch = x["latch_gates"] * x["gate_energy"]
        bits = x["line_activity"] * one + latch
        return fabric.cycles * stages + rows * fabric.bits * bits, DERIVED
    return 0.0, DERIVED


def weight_um2(cell: str, fabric: FabricPlan) -> float:
    """um2 per weight of the whole fabric by formula, of its codes' cells as they are drawn."""
    x, weights = numbers(), fabric.inputs * fabric.outputs
    area, code = fabric_area(fabric, cell, x), code_area(cell, fabric.bits)[0]
    codes = (fabric.rows + fabric.extra_rows) * fabric.lanes * fabric.outputs
    cells = codes * code / x["array_efficiency"] if code else area.cells
    return (area.total - area.cells + cells) / weights


def row(cell: str, fabric: FabricPlan) -> Row:
    """The figures of one cell."""
    x, weights = numbers(), fabric.inputs * fabric.outputs
    energy = fabric_energy(fabric, cell, x)
    code = code_area(cell, fabric.bits)
    area = weight_um2(cell, fabric)
    if cell == SELECT:  # its tiles are drawn, with drivers, precharge and sense
        whole = fabric_area(fabric, cell, x)
        area = tile_area(fabric) + (whole.banks + whole.trees + whole.frame) / weights
    each, grade = column_energy(cell, fabric)
    pairs = fabric.lanes * fabric.outputs
    reading = pairs * each + (energy.lines if cell == "decode" else 0.0)
    shared = energy.banks + energy.trees + energy.frame
    return Row(
        cell,
        code=code,
        area=(area, DERIVED),
        reading=(reading / weights, grade),
        energy=((reading + shared) / weights, DERIVED),
        cycles=ACTIVATION if cell == "counters" else fabric.cycles,
    )


def table(fabric: FabricPlan) -> list[Row]:
    """All four."""
    return [row(cell, fabric) for cell in CELLS]


def shown(value: tuple[float, str]) -> str:
    """A number and its grade."""
    return f"{value[0]:,.3g} {value[1]}" if value[0] < 1000 else f"{value[0]:,.0f} {value[1]}"


def markdown(rows: list[Row]) -> str:
    """The table as a page shows it."""
    lines = [
        "| cell | um2 of a code | um2 per weight, all | fJ per weight, reading | "
        "fJ per weight, all | cycles | um2 x cycles |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        values = (each.code, each.area, each.reading, each.energy)
        cells = [shown(value) if value[0] else "-" for value in values]
        lines.append(
            f"| {each.cell} | {' | '.join(cells)} | {each.cycles:,} | {shown(each.area_cycles)} |"
        )
    return "\n".join(lines)


def chip_table(chip: Path) -> str:
    """um2 per weight of a chip's fabrics, one line for all of a width and of so many rows."""
    made = open_package(chip).plan
    kinds: dict[tuple[int, int], list[FabricPlan]] = {}
    for fabric in [made.head, *(each for layer in made.layers for each in layer.values())]:
        kinds.setdefault((fabric.bits, fabric.rows + fabric.extra_rows), []).append(fabric)
    lines = [f"| bits | rows | fabrics | {' | '.join(CHOICE)} |", "|---" * (3 + len(CHOICE)) + "|"]
    for (bits, rows), fabrics in sorted(kinds.items()):
        weights = [fabric.inputs * fabric.outputs for fabric in fabrics]
        means = [
            sum(weight_um2(cell, f) * w for f, w in zip(fabrics, weights, strict=True))
            for cell in CHOICE
        ]
        cells = [f"{each / sum(weights):.2f}" for each in means]
        lines.append(f"| {bits} | {rows} | {len(fabrics)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bits", type=int, default=3, choices=(2, 3, 4))
    parser.add_argument("--inputs", type=int, default=4096)
    parser.add_argument("--outputs", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--chip", type=Path, metavar="CHIP")
    given = parser.parse_args()
    if given.chip:
        print("um2 per weight of the whole fabric, derived, sky130\n")
        print(chip_table(given.chip))
        return
    fabric = plan(given.bits, given.inputs, given.outputs, given.rows)
    print(
        f"{given.inputs} x {given.outputs} weights of {given.bits} bits, {given.rows} rows of "
        f"{fabric.lanes} lanes, {ACTIVATION}-bit activations, sky130\n"
    )
    print(markdown(table(fabric)))


if __name__ == "__main__":
    main()
