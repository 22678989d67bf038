"""The electrical check of a model: the clock that its most loaded product lines allow.

Beside it the area of what its tiles need around them.

The base die is one for all models of a shape, and so are its drivers; which line a weight selects
is the model. What a chip's own rows put on one line is counted here, and held against simulated
reads.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from intaglio.flow.package import Package
from intaglio.layout.contents import contents, fabrics, roms
from intaglio.layout.die import PROCESS, chip_tiles
from intaglio.layout.load import Load, most_loaded
from intaglio.layout.rules import rules
from intaglio.plan.process import Process, is_process, process
from intaglio.plan.reads import SLOW, TYPICAL, BitCycle, Reads
from intaglio.quantity import numbers
from intaglio.silicon.circuits import logic
from intaglio.silicon.fabric import fabric_area, placed
from intaglio.silicon.model import inputs_of

Told = Callable[[float, str], object]


@dataclass(frozen=True, slots=True)
class ArrayRead:
    """The slowest read of an array: its most loaded line, and the bit cycle of its tile."""

    load: Load
    slow: BitCycle
    typical: BitCycle

    @property
    def name(self) -> str:
        """The array's."""
        return self.load.tile.array.name

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        load, array = self.load, self.load.tile.array
        return {
            "array": array.name, "tile": load.tile.name, "lane": load.lane, "row": load.row,
            "line": load.line, "bits": array.bits, "rows": array.rows,
            "columns": load.tile.columns, "share": load.share,
            "times_even": load.share * (1 << array.bits),
            "clock_hz": {SLOW: self.slow.clock, TYPICAL: self.typical.clock},
        }  # fmt: skip


@dataclass(frozen=True)
class ChipRead:
    """The reads of all arrays of a chip, held against the clock of its target."""

    fabrics: tuple[ArrayRead, ...]
    roms: tuple[ArrayRead, ...]
    target: Process
    reads: Reads

    @property
    def worst(self) -> ArrayRead:
        """The fabric that reads most slowly."""
        return max(self.fabrics, key=lambda each: each.slow.period)

    @property
    def worst_rom(self) -> ArrayRead:
        """The ROM that reads most slowly."""
        return max(self.roms, key=lambda each: each.slow.period)

    @property
    def clock(self) -> float:
        """Hz that the target promises."""
        return self.target["clock"].number

    @property
    def slower(self) -> tuple[ArrayRead, ...]:
        """The arrays that do not hold the target's clock in the slow corner, slowest first."""
        found = [each for each in (*self.fabrics, *self.roms) if each.slow.clock < self.clock]
        return tuple(sorted(found, key=lambda each: each.slow.clock))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; docs/json.md lists the keys."""
        rom = self.worst_rom.as_dict()
        return {
            **self.worst.as_dict(), "grade": "simulated", "source": self.reads.source,
            "target": self.target.name, "target_clock_hz": self.clock, "holds": not self.slower,
            "rom": {name: rom[name] for name in ("array", "share", "clock_hz")},
            "arrays": [each.as_dict() for each in self.fabrics],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogicArea:
    """um2 per weight of what is synthesised beside the tiles, placed: ``banks`` of products,
    ``trees`` (counters, accumulators), ``frame`` (activations, control, reading, start values)."""

    banks: float
    trees: float
    frame: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.banks + self.trees + self.frame

    def as_dict(self) -> dict[str, float]:
        """Plain values, ready for JSON."""
        return asdict(self)


def logic_area(package: Package) -> LogicArea:
    """What the fabrics of a chip need beside their tiles, by synthesis on the masks' process."""
    x = numbers(inputs_of(process(PROCESS)))
    plan = package.plan
    made = [fabric_area(fabric, "select", x) for _, fabric in fabrics(plan)]
    weights = sum(fabric.cells for _, fabric in fabrics(plan))
    banks, trees, frame = (
        sum(getattr(each, name) for each in made) for name in ("banks", "trees", "frame")
    )
    for _, fabric in fabrics(plan):
        frame += placed(logic("start", sum_bits=plan.beat * fabric.accumulator).area, x)
    return LogicArea(banks / weights, trees / weights, frame / weights)


def check_reads(package: Package, told: Told | None = None) -> ChipRead:
    """Find the most loaded line of every array of a chip, and how long its reads take."""
    target = process_of(package)
    assert target.reads is not None
    found: dict[bool, list[ArrayRead]] = {False: [], True: []}
    for rom, read in array_reads(package, target.reads, told):
        found[rom].append(read)
    return ChipRead(tuple(found[False]), tuple(found[True]), target, target.reads)


def process_of(package: Package) -> Process:
    """The package's own target where it is drawn in the masks' process, else that process."""
    drawn, own = process(PROCESS), package.plan.target
    if is_process(own) and process(own).reads is drawn.reads:
        return process(own)
    return drawn


def array_reads(
    package: Package, reads: Reads, told: Told | None
) -> Iterator[tuple[bool, ArrayRead]]:
    """Every array's slowest read, and whether it is a ROM."""
    r = rules(PROCESS)
    made, cut = roms(package.plan, r), chip_tiles(package.plan, r)
    total, done = sum(each[0].array.cells for each in cut.values()), 0
    for array, codes in contents(package.model, package.plan, made):
        rom = array.name in made
        each = [read_of(most_loaded(tile, codes, rom=rom), reads) for tile in cut[array.name]]
        yield rom, max(each, key=lambda read: read.slow.period)
        done += array.cells
        if told:
            told(done / total, array.name)


def read_of(load: Load, reads: Reads) -> ArrayRead:
    """The bit cycle of a tile with that load."""
    array = load.tile.array
    slow, typical = (
        reads.cycle(array.bits, array.rows, load.tile.columns, load.share, condition)
        for condition in (SLOW, TYPICAL)
    )
    return ArrayRead(load, slow, typical)
