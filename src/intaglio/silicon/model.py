"""The model of a chip: outline and choices, met with numbers of a process.

Plain arithmetic from numbers to numbers; :mod:`intaglio.silicon.physical` makes quantities of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.plan.reads import Reads
from intaglio.plan.tiling import FabricPlan
from intaglio.quantity import Quantity, numbers
from intaglio.silicon.blocks import Part, layer_kinds, parts
from intaglio.silicon.circuits import assumptions, loads
from intaglio.silicon.fabric import (
    Inputs,
    best_cell,
    fabric_area,
    fabric_energy,
    fabric_logic,
    gates_area,
    logic_energy,
    placed,
    transistors,
)
from intaglio.silicon.redrive import Redrives, redrives
from intaglio.silicon.request import Choices, request_cycles

if TYPE_CHECKING:
    from intaglio.plan.outline import Outline
    from intaglio.plan.process import Process

FROM_PROCESS = (
    "clock", "supply", "logic_scale", "gate_area", "sram_cell", "sram_efficiency", "rom_cell",
    "line_pitch", "cell_width", "wire_capacitance", "wire_energy", "line_reach",
    "full_adder_energy", "flop_energy", "gate_energy", "sram_energy", "rom_energy",
    "leakage_logic", "leakage_sram", "clock_energy", "utilisation",
)  # fmt: skip
KINDS = {
    "cells": "codes of all fabrics", "columns": "sum lines, latches, multiplexers",
    "adders": "counter trees, accumulators", "banks": "product banks and lines' drivers",
    "frame": "activations, control of fabrics", "attention": "attention",
    "kv": "keys and values", "buffers": "score buffers", "vectors": "norms, gates, narrowing",
    "constants": "multipliers, shifts, start values", "adapters": "adapters",
    "embedding": "embedding", "head": "final norm, sampler", "port": "host port",
    "wiring": "wires between blocks", "pads": "pad ring",
}  # fmt: skip
"""Into what the area is broken down, in words."""


@dataclass(frozen=True, slots=True)
class Work:
    """A part on a process: um2 of one by kind, of them SRAM and cells; fJ for one token, all."""

    part: Part
    kinds: Mapping[str, float]
    sram: float
    array: float
    energy: float

    @property
    def area(self) -> float:
        """um2 of one."""
        return sum(self.kinds.values())


class Silicon:
    """The model: outline and choices, to be met with numbers of a process.

    ``seat``: its place is a shuttle's seat, inside the ring of pads. :func:`silicon` makes one for
    a process, its cells chosen. ``reads``: of the process' tiles, where they were simulated, and
    ``period``, ns, of the clock that it states: a fabric that reads more slowly slows the chip.
    """

    def __init__(
        self, outline: "Outline", choices: Choices, *, seat: bool, reads: Reads | None = None,
        period: float = 0.0,
    ) -> None:  # fmt: skip
        self.outline, self.choices, self.seat = outline, choices, seat
        self.reads, self.period = reads, period
        self.cycles = request_cycles(outline, choices)
        self.parts = parts(outline, self.cycles.position)
        self.kinds = {index: len(layers) for index, layers in layer_kinds(outline)}
        self.cells: dict[FabricPlan, str] = {}

    def choose(self, x: Inputs) -> None:
        """Take the cell of every fabric by these numbers, whatever it was.

        Where tiles are drawn and simulated, theirs: the formulas call others smaller than they are.
        """
        auto, asked = self.choices.cell == "auto", self.choices.cell
        if auto and self.reads is not None:
            auto, asked = False, "select"
        fabrics = {part.fabric for part in self.parts if part.fabric}
        self.cells = {fabric: best_cell(fabric, x) if auto else asked for fabric in fabrics}

    def work(self, part: Part, x: Inputs) -> Work:
        """One part's areas and energy."""
        kinds: dict[str, float] = {}
        array, energy = 0.0, 0.0
        if part.fabric:
            cell = self.cells[part.fabric]
            area = fabric_area(part.fabric, cell, x)
            kinds = {
                "cells": area.cells, "columns": area.columns, "adders": area.trees,
                "banks": area.banks + area.drivers, "frame": area.frame,
            }  # fmt: skip
            array = area.cells
            energy = fabric_energy(part.fabric, cell, x, self.reads).total
        sram = part.sram * x["sram_cell"] / x["sram_efficiency"]
        rom = part.rom * x["rom_cell"] / x["sram_efficiency"]
        logic = placed(part.block.area, x)
        if not part.fabric:
            kinds = {part.kind: sram + rom + logic}
        energy += part.cycles * logic_energy(part.block, x)
        energy += part.sram_bits * x["sram_energy"] + part.rom_bits * x["rom_energy"]
        energy *= part.active * part.places
        return Work(part, kinds, sram, array + rom, energy)

    def area(self, x: Inputs) -> dict[str, float]:
        """mm2 of the chip by kind."""
        return self._area([self.work(part, x) for part in self.parts], x)

    def _area(self, works: list[Work], x: Inputs) -> dict[str, float]:
        by_kind = dict.fromkeys(KINDS, 0.0)
        for work in works:
            for kind, area in work.kinds.items():
                by_kind[kind] += area * work.part.count / 1e6
        by_kind["wiring"] = sum(by_kind.values()) * x["wiring_share"]
        inside = sum(by_kind.values())
        ring = 0.0 if self.seat else x["pad_ring"]
        by_kind["pads"] = 4 * ring * (math.sqrt(inside) + ring)
        made = {f"area_{kind}": area for kind, area in by_kind.items()}
        return {
            "area_mm2": inside + by_kind["pads"], "transistors": self._transistors(works, x), **made
        }  # fmt: skip

    def _transistors(self, works: list[Work], x: Inputs) -> float:
        """One per contact of ROM or fabric, six per bit of SRAM, four per gate."""
        gate = gates_area(1, x) * x["sizing"] / x["utilisation"]
        total = 0.0
        for work in works:
            part = work.part
            each = 6 * part.sram + part.rom + 4 * placed(part.block.area, x) / gate
            if part.fabric:
                each += transistors(part.fabric, self.cells[part.fabric], x)
            total += each * part.count
        return total

    def figures(self, x: Inputs) -> dict[str, float]:
        """Every figure at these numbers."""
        works = [self.work(part, x) for part in self.parts]
        area = self._area(works, x)
        speed = self.speed(x)
        return {**area, **speed, **self._power(works, area, speed, x)}

    def speed(self, x: Inputs) -> dict[str, float]:
        """tokens/s and seconds; a capped issue rate holds back prompts, and at last every user."""
        c, clock, issued, late = (
            self.cycles, self.clock(x), self.choices.issue_rate, self.redrives(x),
        )  # fmt: skip
        interval, single, full = self._rates(late, x)
        waited = late.token + (c.prompt - 1) * late.layer
        first = (c.first + waited + (c.prompt - 1) * interval * (1 / issued - 1)) / clock
        return {
            "clock_hz": clock,
            "redrive_cycles": late.token,
            "redrive_cycles_interval": late.layer,
            "tokens_per_second_per_user": single,
            "tokens_per_second_all": min(full, single * self.outline.plan.slots),
            "tokens_per_second_full": full,
            "tokens_per_second_end_to_end": c.output / (first + (c.output - 1) / single),
            "prompt_tokens_per_second": c.prompt / first,
            "first_token_seconds": first,
        }

    def clock(self, x: Inputs) -> float:
        """Hz: the process', or what the slowest fabric's read leaves of it."""
        slowest = self.slowest(x)
        return x["clock"] * min(1.0, self.period / slowest[1]) if slowest else x["clock"]

    def slowest(self, x: Inputs) -> tuple[str, float] | None:
        """The fabric with the longest bit cycle, and ns of that in the slow corner.

        Of select cells alone; None where there are none, or where nobody simulated their reads.
        """
        if self.reads is None:
            return None
        found = [
            (part.name.removesuffix(" fabric"), self._bit_cycle(part, self.reads, x))
            for part in self.parts
            if part.fabric and self.cells[part.fabric] == "select"
        ]
        return max(found, key=lambda each: each[1], default=None)

    def _bit_cycle(self, part: Part, reads: Reads, x: Inputs) -> float:
        """ns of a fabric's bit cycle."""
        fabric = part.fabric
        assert fabric is not None
        columns = min(fabric.outputs, reads.columns)
        rows = fabric.rows + fabric.extra_rows
        return reads.cycle(fabric.bits, rows, columns, x["line_share"]).period

    def redrives(self, x: Inputs) -> Redrives:
        """Cycles that re-drives of product lines add to the plan's."""
        return redrives(self.outline, self.kinds, self.cells, x)

    def _rates(self, late: Redrives, x: Inputs) -> tuple[float, float, float]:
        """Cycles of the slowest interval; tokens/s of one user and of a full pipeline."""
        c = self.cycles
        interval = max(c.layer + late.layer, c.head + late.head)
        clock = self.clock(x)
        full = clock / interval * self.choices.issue_rate
        return interval, min(clock / (c.token + late.token), full), full

    def users(self, x: Inputs) -> float:
        """Users with whom the pipeline is full."""
        late = self.redrives(x)
        return (self.cycles.token + late.token) / self._rates(late, x)[0]

    def _power(
        self, works: list[Work], area: Mapping[str, float], speed: Mapping[str, float], x: Inputs
    ) -> dict[str, float]:
        """W and mJ: what a token takes, leakage, the clock above closed gates."""
        token, leak = self._token(works, area, x)
        single, every, full = (
            speed[f"tokens_per_second_{name}"] for name in ("per_user", "all", "full")
        )
        watts = {name: token * rate / 1e3 + leak
                 for name, rate in (("one", single), ("all", every), ("full", full))}  # fmt: skip
        weights = self.outline.active_weights
        return {
            "power_w": watts["one"],
            "power_all_w": watts["all"],
            "power_full_w": watts["full"],
            "leakage_w": leak,
            "dynamic_millijoule": token,
            "millijoule_per_token": watts["one"] / single * 1e3,
            "millijoule_per_token_full": watts["full"] / full * 1e3,
            "femtojoule_per_weight": token * 1e12 / weights,
            "hottest_w_per_mm2": self._hottest(works, full, x),
            "hottest_single_w_per_mm2": self._hottest(works, single, x),
        }

    def _token(
        self, works: list[Work], area: Mapping[str, float], x: Inputs
    ) -> tuple[float, float]:
        """mJ that a token takes, and W that the chip takes without any."""
        token = (sum(work.energy for work in works) + self._wires(area, x)) * 1e-12
        return token, self._leakage(works, area, x) + self._idle(works, x)

    def token(self, x: Inputs) -> tuple[float, float]:
        """mJ that a token takes, and W that the chip takes without any."""
        works = [self.work(part, x) for part in self.parts]
        return self._token(works, self._area(works, x), x)

    def headline(self, x: Inputs) -> dict[str, float]:
        """Area, power and speed of one user alone, as in :meth:`figures` but sooner."""
        works = [self.work(part, x) for part in self.parts]
        area, (_, rate, _) = self._area(works, x), self._rates(self.redrives(x), x)
        token, leak = self._token(works, area, x)
        return {
            "area_mm2": area["area_mm2"], "power_w": token * rate / 1e3 + leak,
            "tokens_per_second_per_user": rate,
        }  # fmt: skip

    def _wires(self, area: Mapping[str, float], x: Inputs) -> float:
        """fJ of a token in the streams that cross a layer: half its side on average."""
        layers = max(len(self.outline.plan.layers), 1)
        reach = math.sqrt(area["area_mm2"] / layers) / 2
        bits = sum(part.moved * part.active * part.places for part in self.parts)
        return bits * reach * x["wire_energy"]

    def _leakage(self, works: list[Work], area: Mapping[str, float], x: Inputs) -> float:
        """W: logic, SRAM, arrays of cells, each by its area."""
        sram = sum(work.sram * work.part.count for work in works) / 1e6
        array = sum(work.array * work.part.count for work in works) / 1e6
        every = sum(work.area * work.part.count for work in works) / 1e6
        logic = max(every - sram - array, 0.0) + array * x["cell_leakage"]
        return logic * x["leakage_logic"] + sram * x["leakage_sram"]

    def _idle(self, works: list[Work], x: Inputs) -> float:
        """W of the clock above closed gates."""
        flops = 0.0
        for work in works:
            own = work.part.block.flops
            if work.part.fabric:
                own += fabric_flops(work.part.fabric, self.cells[work.part.fabric], x)
            flops += own * work.part.count
        return flops * x["flop_energy"] * 1e-15 * self.clock(x) * x["idle_clock"]

    def _hottest(self, works: list[Work], rate: float, x: Inputs) -> float:
        """W/mm2 of the block that takes most for its area, with so many tokens/s."""
        return (
            max(
                work.energy * 1e-15 * rate / (work.area * work.part.count / 1e6)
                for work in works
                if work.area
            )
            + x["leakage_logic"]
        )


def fabric_flops(fabric: FabricPlan, cell: str, x: Inputs) -> float:
    """Clocked flops of a fabric."""
    own = fabric_logic(fabric, cell)
    if cell == "counters":
        return own["frame"].flops + own["column_ends"].flops * fabric.outputs
    registers = fabric.lanes * fabric.outputs * x["tree_flops"]
    return own["banks"].flops + own["trees"].flops + registers + own["frame"].flops


def inputs_of(process: "Process") -> dict[str, Quantity]:
    """What the model takes of a process, and what it assumes beside it."""
    made = {name: process[name] for name in FROM_PROCESS} | assumptions()
    if process.reads is None:
        return made
    return made | loads() | {"read_energy": process.reads.energy_spread}


def silicon(
    outline: "Outline", process: "Process", choices: Choices, x: Inputs | None = None
) -> Silicon:
    """The model of a chip on a process; ``x``: in place of the values of what the model takes."""
    made = Silicon(
        outline, choices, seat=process["user_area"].known, reads=process.reads,
        period=1e9 / process["clock"].number,
    )  # fmt: skip
    made.choose(numbers(inputs_of(process)) if x is None else x)
    return made
