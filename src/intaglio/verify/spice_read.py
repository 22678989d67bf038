"""The read path of a tile as a circuit, and what is measured on it.

One row of one lane is read at a time, in two phases. *Precharge*: every ``bit_n`` is 1,
``precharge_n`` is 0, product lines and sum lines are high. *Evaluate*: a line of the active row
falls for a 1 and pulls low every sum line whose cell selects it. The line's driver so sinks the
charge of all these sum lines.

The bench has one falling line between two quiet ones over the tile's whole width, as RC lines in
pieces; at each piece the columns that select it, side by side as one. At the far end, where the
line is slowest, three columns stand alone: two that fall beside one that must not. Everything
switches at once, and no neighbour helps.

Mismatch: of the first and the middle one the transistors that matter are off by so much that a chip
has no worse column (:class:`Off`); all others are as drawn.
"""

import math
from dataclasses import dataclass, field, fields

from intaglio.layout.geometry import geometry
from intaglio.layout.rules import rules
from intaglio.verify.spice import LENGTH, NFET, PFET, Bench, Condition, Netlist, ladder, simulate
from intaglio.verify.spice_extract import STRAP, CellCircuit, Wires, cell_circuit, wires

LEAST = 0.42  # um, of a transistor's width
PIECES = 8  # of a product line
STEPS = 6  # of a sum line
START = 0.5  # ns before the evaluate phase
SLEW = 0.1  # ns of an ideal input
LONGEST = 2000.0  # ns of a phase
POINTS = 250  # time steps of a phase
SETTLED = 0.4
"""Of a phase, for the slow column to be read: all lines have fallen by its end, and what a shorter
one gives, less energy, less noise and less to precharge, is not taken for what a read takes."""
PINS = ("bit", "precharge", "row")
SUPPLIES = ("line", "sum", "sense", "gate", "idle", "word")
HIGH = 0.95  # of the supply: a line counts as precharged
SLOWER = (0.9, 0.44)
"""In parts of one standard deviation: where a cell's threshold and that of its sense's p go, for a
read to lengthen most. The derivatives' direction at 32 to 48 rows, slow; no other one that was
tried, on any tile, makes a read more than 1.3 % longer than this one does (a test)."""
NOISIER = (0.71, -0.71)
"""Likewise of a sense's n and p, for its threshold to rise most."""


@dataclass(frozen=True, slots=True)
class Periphery:
    """What stands around an array: widths in um, n and p, of transistors that are all 0.15 long.

    ``row``: the inverter behind a row's pin, whose output also opens the row's line drivers;
    ``word``: the one that drives both word lines. ``line_gate``: the NOR of that output and the
    complement of the product bit. ``line``: the inverter that drives a product line in a tile of
    ``line_columns`` columns; in others it is as wide in proportion. ``sense``: the inverter that
    reads a sum line. ``stitch``: columns between two contacts of the word lines to their strap,
    which take ``stitch_width`` um. ``leads``: um of a product line beside the array, from its
    driver, by a code's bits; ``tail``: of a sum line. A tile's width scales a lead as it does the
    drivers that a line passes.
    """

    row: tuple[float, float] = (1.68, 3.36)
    word: tuple[float, float] = (2.52, 5.04)
    line_gate: tuple[float, float] = (0.42, 1.68)
    line: tuple[float, float] = (10.08, 3.36)
    line_columns: int = 576
    precharge: float = 0.84
    sense: tuple[float, float] = (1.68, 0.42)
    stitch: int = 128
    stitch_width: float = 0.72
    leads: tuple[tuple[int, float], ...] = ((2, 51.0), (3, 70.0), (4, 121.0))
    tail: float = 3.0

    def driver(self, columns: int) -> tuple[float, float]:
        """Widths of a product line's driver in a tile so wide."""
        n, p = (max(w * columns / self.line_columns, LEAST) for w in self.line)
        return n, p

    def lead(self, bits: int, columns: int) -> float:
        """um of a product line beside an array so wide."""
        return dict(self.leads)[bits] * columns / self.line_columns


@dataclass(frozen=True, slots=True)
class ReadPath:
    """A tile as far as one read concerns it.

    ``share``: of a row's columns that select the measured line. ``load``: fF at a sense output,
    ``slew``: ns of the inputs' edges.
    """

    bits: int = 3
    rows: int = 32
    columns: int = 576
    share: float = 0.25
    load: float = 5.0
    slew: float = SLEW
    periphery: Periphery = field(default_factory=Periphery)

    def __post_init__(self) -> None:
        if self.rows < 2 or self.columns < 4 * PIECES:
            raise ValueError(f"a read path has from 2 rows and {4 * PIECES} columns")
        if not 4 / self.columns <= self.share <= 1:
            raise ValueError(f"share must be from {4 / self.columns:g} to 1, not {self.share}")

    @property
    def selecting(self) -> float:
        """Columns on the measured line."""
        return self.columns * self.share

    @property
    def stretch(self) -> float:
        """Length of a product line over the array, by that of its columns alone."""
        p = self.periphery
        column = cell_circuit(1 << self.bits).column
        return 1 + p.stitch_width / (p.stitch * column)

    @property
    def height(self) -> float:
        """Length of a sum line, in rows: strips of taps and the way to its sense included."""
        g = geometry(1 << self.bits, rules())
        strips = (math.ceil(self.rows / g.band) + 1) * g.strip / 1e3
        return self.rows + (strips + self.periphery.tail) / (g.row / 1e3)

    def sum_load(self, c: CellCircuit) -> float:
        """fF of a sum line beside its neighbours: ground, product lines, the rows' straps above."""
        return (c.sum_ground + c.lines * c.crossing) * self.height + c.strap * self.rows


@dataclass(frozen=True, slots=True)
class Reading:
    """What a read takes: times in ns, voltages in V, energies in fJ of one fall and return.

    ``line``: the far end of the product line falls; ``sum``: the far column's sum line does;
    ``read``: its sense output rises, from the evaluate phase's beginning. ``line_back``,
    ``sum_back``, ``read_back``: all are back, from the precharge phase's. ``word``: a row's word
    lines rise. ``rise``, ``fall``: of the output, from 20 to 80 % of the supply.

    ``low``: the least of a sum line that must stay high; ``threshold``: where its sense switches;
    ``glitch``: the most its output rises.

    ``sum_energy``: of one sum line that falls, with its part of the line's driver;
    ``line_energy``: of a product line in an idle row, all of it; ``sense_energy``: of an output;
    ``gate_energy``: of the gate before a line's driver; ``word_energy``: of a row that is chosen
    and left. ``bit_load``, ``precharge_load``, ``row_load``: fF of a pin, of one row, one lane and
    one row.
    """

    line: float
    sum: float
    read: float
    line_back: float
    sum_back: float
    read_back: float
    word: float
    rise: float
    fall: float
    low: float
    threshold: float
    glitch: float
    sum_energy: float
    line_energy: float
    sense_energy: float
    gate_energy: float
    word_energy: float
    bit_load: float
    precharge_load: float
    row_load: float

    @property
    def precharge(self) -> float:
        """ns of the precharge phase: everything is back and the next row's word lines are up."""
        return max(self.line_back, self.sum_back, self.read_back, self.word)

    @property
    def period(self) -> float:
        """ns of a bit cycle: both phases."""
        return self.read + self.precharge

    @property
    def margin(self) -> float:
        """V between a disturbed high sum line and the sense's threshold."""
        return self.low - self.threshold

    def as_dict(self) -> dict[str, float]:
        """Plain values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Off:
    """V by which thresholds of a column's transistors are further from 0 than drawn."""

    cell: float = 0.0
    precharge: float = 0.0
    sense_n: float = 0.0
    sense_p: float = 0.0

    @classmethod
    def slow(cls, c: CellCircuit, p: Periphery, sigmas: float) -> "Off":
        """Of a column that reads and, whatever the sign, returns so much more slowly."""
        cell, sense = (part * sigmas for part in SLOWER)
        return cls(
            cell=cell * deviation("n", c.device.width),
            precharge=abs(sigmas) * deviation("p", p.precharge),
            sense_p=sense * deviation("p", p.sense[1]),
        )

    @classmethod
    def noisy(cls, p: Periphery, sigmas: float) -> "Off":
        """Of a column whose sense, whatever the sign, takes so much less for a 1."""
        n, wide = (part * abs(sigmas) for part in NOISIER)
        return cls(
            sense_n=n * deviation("n", p.sense[0]), sense_p=wide * deviation("p", p.sense[1])
        )


AS_DRAWN = Off()


def deviation(kind: str, width: float) -> float:
    """One standard deviation of a transistor's threshold, V. ``kind``: n or p."""
    return wires().number("mismatch", kind) * 1e-3 / math.sqrt(width * LENGTH)


def read_bench(path: ReadPath, condition: Condition, phase: float) -> Bench:
    """The bench; ``phase``: ns of each of the two phases."""
    c = cell_circuit(1 << path.bits, corner=condition.wires)
    net = Netlist()
    add_inputs(net, path, condition, phase)
    add_gates(net, path, c)
    add_lines(net, path, c)
    noisy = Off.noisy(path.periphery, condition.sigmas)
    add_far_columns(net, path, c, Off.slow(c, path.periphery, condition.sigmas), noisy)
    add_idle_line(net, path, c)
    add_word_line(net, path, c, wires(corner=condition.wires))
    inverter(
        net, "threshold", "threshold", "threshold", path.periphery.sense, "vthreshold",
        shifts=(noisy.sense_n, noisy.sense_p),
    )  # fmt: skip
    net.source("threshold", "vthreshold", condition.volts)
    return Bench(net, START + 2 * phase, phase / POINTS, tuple(measures(condition, phase)))


def add_inputs(net: Netlist, path: ReadPath, condition: Condition, phase: float) -> None:
    """Supplies, one for each part whose energy is told apart; the pins; constants."""
    v = condition.volts
    for name in SUPPLIES:
        net.source(name, f"v{name}", v)
    up, down = START - path.slew / 2, START + phase - path.slew / 2
    rise = f"0 0 {up}n 0 {up + path.slew}n {v} {down}n {v} {down + path.slew}n 0"
    fall = f"0 {v} {up}n {v} {up + path.slew}n 0 {down}n 0 {down + path.slew}n {v}"
    net.source("precharge", "precharge_n", f"pwl({rise})")
    for name in ("bit", "idle_bit"):
        net.source(name, f"{name}_n", f"pwl({fall})")
    net.source("row", "row", f"pwl({rise})")
    net.source("high", "high", v)


def inverter(
    net: Netlist, name: str, a: str, out: str, sizes: tuple[float, float], supply: str,
    count: float = 1.0, shifts: tuple[float, float] = (0.0, 0.0),
) -> None:  # fmt: skip
    """An inverter; ``sizes``: widths of n and p, ``shifts``: of their thresholds, V."""
    n, p = shifts
    net.fet(f"{name}n", NFET, (out, a, "0"), sizes[0], bulk="0", count=count, shift=n)
    net.fet(f"{name}p", PFET, (out, a, supply), sizes[1], bulk=supply, count=count, shift=p)


def add_gates(net: Netlist, path: ReadPath, c: CellCircuit) -> None:
    """The drivers of the active row's lines: one that falls, quiet ones; their row is open."""
    line_driver(net, "a", "bit_n", "0", path, c, "vline")
    line_driver(net, "b", "high", "0", path, c, "vline")


def line_gate(
    net: Netlist, name: str, bit_n: str, active_n: str, out: str, p: Periphery, supply: str,
    count: float = 1.0,
) -> None:  # fmt: skip
    """The NOR: 1 where the row is active and the product bit 1."""
    n, wide = p.line_gate
    for tag, gate in (("a", bit_n), ("b", active_n)):
        net.fet(f"nor{name}n{tag}", NFET, (out, gate, "0"), n, bulk="0", count=count)
    net.fet(f"nor{name}pa", PFET, (f"{out}y", active_n, supply), wide, bulk=supply, count=count)
    net.fet(f"nor{name}pb", PFET, (out, bit_n, f"{out}y"), wide, bulk=supply, count=count)


def line_driver(
    net: Netlist, name: str, bit_n: str, closed: str, path: ReadPath, c: CellCircuit, supply: str
) -> None:  # fmt: skip
    """A product line's gate and driver, and its way to the array."""
    gates = "vidle" if supply == "vidle" else "vgate"
    line_gate(net, name, bit_n, closed, f"{name}x", path.periphery, gates)
    wide = path.periphery.driver(path.columns)
    inverter(net, f"drive{name}", f"{name}x", f"{name}lead", wide, supply)
    lead = path.periphery.lead(path.bits, path.columns) / c.column
    ground = c.line_ground + 2 * c.line_side
    ladder(net, f"lead{name}", [f"{name}lead", f"{name}0"], c.line_ohm * lead, ground * lead)


def add_lines(net: Netlist, path: ReadPath, c: CellCircuit) -> None:
    """The falling line ``a``, a quiet one ``b`` between two such, and the columns on them."""
    count = path.columns / PIECES
    ground = (c.line_ground + c.crossing) * path.columns
    for line in "ab":
        nodes = [f"{line}{k}" for k in range(PIECES + 1)]
        ladder(net, line, nodes, c.line_ohm * path.columns * path.stretch, ground)
    quiet = max(min(1 / c.lines, 1 - path.share) * path.columns, 1.0)
    for k in range(1, PIECES + 1):  # besides the far columns, two on a and one on b
        net.capacitor(f"ab{k}", f"a{k}", f"b{k}", 2 * c.line_side * count)
        columns(net, f"a{k}", f"a{k}", path, c, (path.selecting - 2) / PIECES)
        columns(net, f"b{k}", f"b{k}", path, c, (quiet - 1) / PIECES)
    columns(net, "c", "high", path, c, path.columns - path.selecting - quiet)


def columns(
    net: Netlist, name: str, line: str, path: ReadPath, c: CellCircuit, count: float
) -> None:
    """So many columns on a node of a product line, as one: cell, idle cells, sum line, sense."""
    if count <= 0:
        return
    total = path.sum_load(c) + 2 * c.sum_side * path.height
    net.capacitor(f"stub{name}", line, "0", c.stub * count)
    net.resistor(f"stub{name}", line, f"d{name}", c.stub_ohm / count)
    net.resistor(f"source{name}", f"s{name}", f"e{name}", c.source_ohm / count)
    cell(net, f"cell{name}", c, f"d{name}", "high", f"e{name}", count)
    cell(net, f"rest{name}", c, "high", "0", f"s{name}", count * (path.rows - 1))
    net.capacitor(f"sum{name}", f"s{name}", "0", total * count)
    sense(net, name, f"s{name}", f"o{name}", path, count)


def cell(
    net: Netlist, name: str, c: CellCircuit, drain: str, gate: str, source: str,
    count: float = 1.0, shift: float = 0.0,
) -> None:  # fmt: skip
    """The drawn transistor of so many cells."""
    d = c.device
    net.fet(
        name, NFET, (drain, gate, source), d.width, bulk="0", length=d.length,
        drain=d.drain, source=d.source, count=count, shift=shift,
    )  # fmt: skip


def sense(
    net: Netlist, name: str, node: str, out: str, path: ReadPath, count: float = 1.0,
    off: Off = AS_DRAWN,
) -> None:  # fmt: skip
    """Precharge and sense of so many columns, with their load."""
    p = path.periphery
    net.fet(
        f"pre{name}", PFET, (node, "precharge_n", "vsum"), p.precharge, bulk="vsum", count=count,
        shift=off.precharge,
    )  # fmt: skip
    shifts = off.sense_n, off.sense_p
    inverter(net, f"sense{name}", node, out, p.sense, "vsense", count, shifts)
    net.capacitor(f"load{name}", out, "0", path.load * count)


def add_far_columns(net: Netlist, path: ReadPath, c: CellCircuit, slow: Off, noisy: Off) -> None:
    """Columns ``x``, ``v``, ``y`` at the far end: x and y fall, v between them must not.

    Their cells are at the sum lines' far end from the sense. All other lines of v's row fall. Only
    x is slow: fast neighbours disturb v more.
    """
    far = {
        "x": (f"a{PIECES}", slow), "v": (f"b{PIECES}", noisy), "y": (f"a{PIECES}", AS_DRAWN),
    }  # fmt: skip
    for name, (line, off) in far.items():
        nodes = [f"{name}{k}" for k in range(STEPS + 1)]
        ladder(net, f"sum{name}", nodes, c.sum_ohm * path.height, path.sum_load(c))
        net.capacitor(f"stub{name}", line, "0", c.stub)
        net.resistor(f"stub{name}", line, f"d{name}", c.stub_ohm)
        net.resistor(f"source{name}", nodes[-1], f"e{name}", c.source_ohm)
        cell(net, f"cell{name}", c, f"d{name}", "high", f"e{name}", shift=off.cell)
        for node in nodes[1:]:
            cell(net, f"rest{node}", c, "high", "0", node, (path.rows - 1) / STEPS)
        sense(net, name, nodes[0], f"o{name}", path, off=off)
    for k in range(STEPS + 1):
        part = c.sum_side * path.height / (STEPS + 1)
        for name in "xy":
            net.capacitor(f"v{name}{k}", f"v{k}", f"{name}{k}", part)
            net.capacitor(f"o{name}{k}", f"{name}{k}", "0", part)  # the neighbour beyond
    net.capacitor("across", f"v{STEPS}", f"a{PIECES}", (c.lines - 1) * c.crossing)


def add_idle_line(net: Netlist, path: ReadPath, c: CellCircuit) -> None:
    """A product line of an idle row that falls all the same: what gating saves."""
    line_driver(net, "i", "idle_bit_n", "0", path, c, "vidle")
    nodes = [f"i{k}" for k in range(3)]
    ground = c.line_ground + c.crossing + 2 * c.line_side
    ladder(net, "i", nodes, c.line_ohm * path.columns, ground * path.columns)
    for node in nodes[1:]:
        count = path.columns / c.lines / 2
        net.capacitor(f"stub{node}", node, "0", c.stub * count)
        cell(net, f"cell{node}", c, node, "0", "high", count)


def add_word_line(net: Netlist, path: ReadPath, c: CellCircuit, w: Wires) -> None:
    """A row's word driver and word lines: one span to its far end, the others at the strap."""
    p = path.periphery
    inverter(net, "worda", "row", "rowb", p.row, "vword")
    line_gate(net, "w", "high", "rowb", "wx", p, "vword", count=c.lines)
    inverter(net, "wordb", "rowb", "strap", p.word, "vword")
    length = path.columns * c.column * path.stretch
    ladder(net, "strap", ["strap", "w0"], w.sheet("met3", length, STRAP), c.strap * path.columns)
    span = min(p.stitch, path.columns) / 2
    nodes = [f"w{k}" for k in range(5)]
    # of the two word lines each has every second column's gate
    ladder(net, "word", nodes, c.word_ohm * span, c.word_ground * span / 2)
    for node in nodes[1:]:
        cell(net, f"gate{node}", c, "high", node, "high", span / 2 / 4)
    rest = path.columns - span / 2
    cell(net, "gates", c, "high", "w0", "high", rest)
    net.capacitor("words", "w0", "0", c.word_ground * rest)


def measures(condition: Condition, phase: float) -> list[str]:
    """ngspice's ``meas`` lines, by the fields of :class:`Reading`."""
    v, half = condition.volts, condition.volts / 2
    far, end = f"v(a{PIECES})", START + 2 * phase
    start = f"trig v(precharge_n) val={half:g} rise=1"
    back = f"trig v(precharge_n) val={half:g} fall=1"
    found = [
        f"line {start} targ {far} val={half:g} fall=LAST",
        f"sum {start} targ v(x0) val={half:g} fall=1",
        f"read {start} targ v(ox) val={half:g} rise=1",
        f"line_back {back} targ {far} val={HIGH * v:g} rise=LAST",
        f"sum_back {back} targ v(x{STEPS}) val={HIGH * v:g} rise=LAST",
        f"read_back {back} targ v(ox) val={half:g} fall=LAST",
        f"word {start} targ v(w4) val={0.9 * v:g} rise=1",
        f"low min v(v0) from={START}n to={START + phase}n",
        "threshold avg v(threshold)",
        f"rise trig v(ox) val={0.2 * v:g} rise=1 targ v(ox) val={0.8 * v:g} rise=1",
        f"fall trig v(ox) val={0.8 * v:g} fall=LAST targ v(ox) val={0.2 * v:g} fall=LAST",
        f"glitch max v(ov) from={START}n to={START + phase}n",
    ]
    found += [f"q_{s} integ i(v{s}) from={START}n to={end}n" for s in SUPPLIES]
    return [*found, *(f"c_{s} integ i(v{s}) from=0 to={START + phase - 1}n" for s in PINS)]


def read(path: ReadPath, condition: Condition) -> Reading:
    """Simulate a read, with phases long enough that everything ends in them.

    Raises :class:`ValueError` where the far column is not read in any time.
    """
    phase = 5 * (1 + path.rows / 32 * (1.5 + 9.5 * path.share))  # five typical reads, roughly
    while phase <= LONGEST:
        found = simulate(read_bench(path, condition, phase), condition)
        known = {name: value for name, value in found.items() if value is not None}
        if len(known) == len(found) and max(known["read"], known["line"]) < SETTLED * 1e-9 * phase:
            return reading(known, path, condition)
        phase *= 2
    raise ValueError(f"no read within {LONGEST:g} ns: {path}, {condition}")


def reading(found: dict[str, float], path: ReadPath, condition: Condition) -> Reading:
    """The measurements in this page's units; energies per what they belong to."""
    times = ("line", "sum", "read", "line_back", "sum_back", "read_back", "word", "rise", "fall")
    energy = {s: -found[f"q_{s}"] * condition.volts * 1e15 for s in SUPPLIES}
    falling = path.selecting
    return Reading(
        **{name: found[name] * 1e9 for name in times},
        low=found["low"],
        threshold=found["threshold"],
        glitch=found["glitch"],
        sum_energy=(energy["line"] + energy["sum"]) / falling,
        line_energy=energy["idle"],
        sense_energy=energy["sense"] / falling,
        gate_energy=energy["gate"],
        word_energy=energy["word"],
        **{f"{s}_load": abs(found[f"c_{s}"]) / condition.volts * 1e15 for s in PINS},
    )
