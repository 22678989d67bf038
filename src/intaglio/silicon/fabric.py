"""A fabric in silicon, by formula: its cells, product lines, counter trees; area and energy.

Four cells can hold a code; the cycles of all but the last are the plan's:

- ``select``: one transistor on one of 2**b product lines, a copy of the lines for every row;
- ``signed``: on one of 2**(b-1), a bit of ROM for the sign, an XOR per lane and column;
- ``decode``: b bits of ROM, a row's codes read ahead into latches, a multiplexer per lane and
  column;
- ``counters``: every weight a wire into the counter of its code, without rows: the organisation of
  published hardwired arrays (arXiv 2508.16151), for comparison.

Inputs of the formulas are plain numbers by name: a process' figures and those of ``cells.yaml``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from intaglio.errors import BadInput
from intaglio.plan.reads import Reads
from intaglio.plan.tiling import FabricPlan
from intaglio.silicon.circuits import FLOP_AREA, Logic, logic, nand2

CELLS = ("select", "signed", "decode", "counters")
CHOICE = CELLS[:3]
"""Cells that the plan chooses from."""

REGISTERED = 5
"""Levels of a counter tree before its register: 32 lanes."""

Inputs = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FabricArea:
    """um2 of a fabric. ``cells``: the array of codes; ``columns``: what each lane and column needs
    beside it; ``drivers``, ``banks``, ``trees`` (counters and accumulators) and ``frame``
    (activations, control, reading).
    """

    cells: float
    columns: float
    drivers: float
    banks: float
    trees: float
    frame: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.cells + self.columns + self.drivers + self.banks + self.trees + self.frame


@dataclass(frozen=True, slots=True)
class FabricEnergy:
    """fJ of one pass of a fabric, all rows, by what takes it."""

    lines: float
    sums: float
    banks: float
    trees: float
    frame: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.lines + self.sums + self.banks + self.trees + self.frame


def check_cell(cell: str) -> None:
    """Raise :class:`BadInput` for a name that is no cell's."""
    if cell != "auto" and cell not in CELLS:
        raise BadInput(f"cell must be auto or one of {', '.join(CELLS)}, not {cell!r}")


def best_cell(fabric: FabricPlan, x: Inputs) -> str:
    """The cell with the smallest area."""
    return min(CHOICE, key=lambda cell: fabric_area(fabric, cell, x).total)


def rows(fabric: FabricPlan) -> int:
    """Rows of codes, extra ones included."""
    return fabric.rows + fabric.extra_rows


def line_count(fabric: FabricPlan, cell: str) -> int:
    """Product lines of a lane."""
    return 1 << (fabric.bits - 1 if cell == "signed" else fabric.bits)


def placed(area: float, x: Inputs) -> float:
    """um2 of a block's logic on the process, of its area on sky130."""
    return area * x["logic_scale"] * x["sizing"] / x["utilisation"]


def gates_area(gates: float, x: Inputs) -> float:
    """um2 of so many gates that stand in the array, drawn for it: no utilisation."""
    return gates * x["gate_area"]


def code_area(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """um2 of one code in its array, without what a column shares."""
    if cell == "decode":
        return fabric.bits * x["rom_cell"]
    lines = line_count(fabric, cell) * x["line_pitch"] * x["cell_width"]
    return lines + (x["rom_cell"] if cell == "signed" else 0.0)


def column_gates(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """Gates that one lane and column needs beside its codes."""
    if cell == "select":
        return x["sense_gates"]
    if cell == "signed":
        return 2 * x["sense_gates"] + x["xor_gates"]
    choices = (1 << fabric.bits) - 1
    return choices * x["mux_gates"] + fabric.bits * (x["latch_gates"] + x["sense_gates"])


def fabric_area(fabric: FabricPlan, cell: str, x: Inputs) -> FabricArea:
    """um2 of one fabric."""
    own = fabric_logic(fabric, cell)
    frame = placed(own["frame"].area, x)
    if cell == "counters":
        adder = column_terms()["lanes"].area
        spatial = fabric.inputs * fabric.outputs * adder
        ends = fabric.outputs * (
            own["column_ends"].area + (1 << fabric.bits) * own["code_end"].area
        )
        return FabricArea(0.0, 0.0, 0.0, 0.0, placed(spatial + ends, x), frame)
    pairs = fabric.lanes * fabric.outputs
    codes = rows(fabric) * pairs * code_area(fabric, cell, x)
    return FabricArea(
        cells=codes / x["array_efficiency"],
        columns=gates_area(pairs * column_gates(fabric, cell, x), x),
        drivers=gates_area(drivers(fabric, cell, x) * x["driver_gates"], x),
        banks=placed(own["banks"].area, x),
        trees=placed(own["trees"].area + pairs * x["tree_flops"] * FLOP_AREA, x),
        frame=frame,
    )


def drivers(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """Drivers of product lines: one for every reach of every line."""
    copies = 1 if cell == "decode" else rows(fabric)
    return copies * fabric.lanes * line_count(fabric, cell) * tiles(fabric, cell, x)


def tiles(fabric: FabricPlan, cell: str, x: Inputs) -> int:
    """Tiles of a fabric side by side: at each edge the product lines are driven anew."""
    return math.ceil(fabric.outputs * line_length(fabric, cell, x) / x["line_reach"])


def line_length(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """um of a product line per column."""
    if cell != "decode":
        return x["cell_width"]
    # a column's codes, latches and multiplexer of one lane stand in a square
    codes = rows(fabric) * code_area(fabric, cell, x)
    return math.sqrt(codes + gates_area(column_gates(fabric, cell, x), x))


@cache
def column_terms() -> dict[str, Logic]:
    """A column's area per lane, per bit of its accumulator, and the rest."""
    base = logic("column", lanes=0, accumulator=0, shifted=0)
    made = {"base": base}
    for term in ("lanes", "accumulator", "shifted"):
        sizes = {"lanes": 0, "accumulator": 0, "shifted": 0, term: 1}
        whole = logic("column", **sizes)
        made[term] = Logic(whole.area - base.area, whole.flops - base.flops)
    return made


@cache
def fabric_logic(fabric: FabricPlan, cell: str) -> dict[str, Logic]:
    """The synthesised logic of a fabric."""
    bank = logic(f"bank_{fabric.bits}")
    if cell in ("select", "decode"):  # a line for every negative product too: a serial negation
        step = logic("bank_2") * 0.5
        bank = bank + step * (1 << fabric.bits - 1)
    shifted = fabric.accumulator if fabric.extra_shift else 0
    terms = column_terms()
    ends = terms["base"] + terms["accumulator"] * fabric.accumulator + terms["shifted"] * shifted
    return {
        "banks": bank * fabric.lanes,
        "trees": (ends + terms["lanes"] * fabric.lanes) * fabric.outputs,
        "column_ends": ends,
        # a code's sum meets its constant: a serial adder
        "code_end": terms["accumulator"] * 2,
        "frame": logic(
            "frame",
            activation_bits=fabric.inputs * fabric.activation,
            lanes=fabric.lanes,
            sum_bits=fabric.outputs * fabric.accumulator,
        ),
    }


def logic_energy(block: Logic, x: Inputs) -> float:
    """fJ of one active cycle of a block, its clock included."""
    return (block.flops * x["flop_energy"] + block.gates * x["gate_energy"]) * (
        1 + x["clock_energy"]
    )


def swing(capacitance: float, x: Inputs) -> float:
    """fJ of a line of so many fF that falls and returns."""
    return capacitance * x["supply"] ** 2


def fabric_energy(
    fabric: FabricPlan, cell: str, x: Inputs, reads: Reads | None = None
) -> FabricEnergy:
    """fJ of one pass: every row, every bit cycle.

    ``reads``: of the process' tiles of select cells, where they were simulated; they then stand in
    place of the formulas of product lines and sum lines.
    """
    own, cycles, pairs = fabric_logic(fabric, cell), fabric.cycles, fabric.lanes * fabric.outputs
    trunk = 1 + x["clock_energy"]
    frame = logic_energy(own["frame"], x) * rows(fabric)
    if cell == "counters":
        adders = fabric.inputs * fabric.outputs * fabric.activation * x["full_adder_energy"]
        codes = own["code_end"] * (1 << fabric.bits)
        ends = fabric.outputs * logic_energy(own["column_ends"] + codes, x) * fabric.activation
        return FabricEnergy(0.0, 0.0, 0.0, adders * trunk + ends, frame)
    adders = pairs + fabric.outputs * fabric.lanes.bit_length()
    registers = (own["trees"].flops + pairs * x["tree_flops"]) * x["flop_energy"]
    moved = adders * x["full_adder_energy"] * x["tree_activity"]
    trees = cycles * (moved + pairs * tree_wire(fabric, cell, x) + registers) * trunk
    lines, sums = (
        read_energy(fabric, x, reads)
        if reads and cell == "select"
        else (lines_energy(fabric, cell, x), sums_energy(fabric, cell, x))
    )
    return FabricEnergy(
        lines=lines,
        sums=sums,
        banks=cycles * logic_energy(own["banks"], x),
        trees=trees,
        frame=frame,
    )


def tree_wire(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """fJ of a bit cycle in the wires of a counter tree, per lane and column.

    Of ``L`` levels over lanes stacked ``h`` high, level ``k`` moves counts of ``k`` bits over half
    of ``2**k`` lanes: together ``L (L + 1) / 4`` times ``h`` for every lane. Up to the register
    they follow the sum lines, which return between bit cycles.
    """
    if cell == "decode":
        height = line_length(fabric, cell, x)
    else:
        height = rows(fabric) * line_count(fabric, cell) * x["line_pitch"]
    levels = math.log2(max(fabric.lanes, 1))
    first = min(levels, REGISTERED)
    moved = levels * (levels + 1) + (x["tree_activity"] - 1) * first * (first + 1)
    return height / 1e3 * moved / 4 * x["wire_energy"]


def read_energy(fabric: FabricPlan, x: Inputs, reads: Reads) -> tuple[float, float]:
    """fJ of a pass as simulated: drivers of lines, rows and pins; sum lines with their senses.

    A product line's own charge goes with the sum lines that select it.
    """
    e = reads.energy(fabric.bits, rows(fabric))
    tiles_wide = math.ceil(fabric.outputs / e.columns)
    falls = x["line_activity"] * fabric.cycles * fabric.lanes
    line = (1 << fabric.bits) * (e.gate + swing(e.bit, x))
    pins = falls * line * tiles_wide
    by_width = fabric.lanes * fabric.outputs / e.columns
    pins += by_width * (rows(fabric) * e.word + fabric.cycles * swing(e.precharge, x))
    return pins * x["read_energy"], falls * fabric.outputs * e.column * x["read_energy"]


def lines_energy(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """fJ of a pass in the product lines: those of the active row fall for a 1, and return."""
    width, wire, device = x["cell_width"], x["wire_capacitance"], x["device_capacitance"]
    count = line_count(fabric, cell)
    load = line_length(fabric, cell, x) * wire
    if cell == "decode":  # a multiplexer's input at every column
        load += device * width
    else:  # a stub crosses all lines of a lane and hangs on one
        load += x["line_pitch"] * wire + device * width / count
    falls = x["line_activity"] * fabric.cycles * fabric.lanes * count
    return falls * swing(fabric.outputs * load, x)


def sums_energy(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """fJ of a pass in what a lane and column reads: sum lines, or bit lines and multiplexers."""
    pairs = fabric.lanes * fabric.outputs
    wire, junction = x["wire_capacitance"], x["device_capacitance"] * x["cell_width"]
    bit = swing(rows(fabric) * (math.sqrt(x["rom_cell"]) * wire + junction), x)
    bit = x["line_activity"] * bit + x["gate_energy"] * (x["sense_gates"] + x["latch_gates"])
    if cell == "decode":  # a row's bits are read once; a bit passes as many stages as a code has
        stages = fabric.bits * x["mux_gates"] * x["gate_energy"]
        return pairs * (rows(fabric) * fabric.bits * bit + fabric.cycles * stages)
    height = line_count(fabric, cell) * x["line_pitch"]
    line = x["line_activity"] * swing(rows(fabric) * (height * wire + junction), x)
    line += x["sense_gates"] * x["gate_energy"]
    if cell == "select":
        return pairs * fabric.cycles * line
    line += x["xor_gates"] * x["gate_energy"]
    return pairs * (fabric.cycles * line + rows(fabric) * bit)


def transistors(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """Transistors of a fabric: one per contact, four per gate."""
    own = fabric_logic(fabric, cell)
    registers = fabric.lanes * fabric.outputs * x["tree_flops"] * FLOP_AREA
    logics = own["banks"].area + own["trees"].area + registers + own["frame"].area
    if cell == "counters":
        logics = own["frame"].area + fabric.inputs * fabric.outputs * column_terms()["lanes"].area
        return 4 * logics / nand2()
    pairs = fabric.lanes * fabric.outputs
    contacts = {"select": 1, "signed": 2, "decode": fabric.bits}[cell]
    shared = pairs * column_gates(fabric, cell, x) + drivers(fabric, cell, x) * x["driver_gates"]
    return rows(fabric) * pairs * contacts + 4 * (shared + logics / nand2())
