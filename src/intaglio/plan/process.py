"""Processes: every physical and price figure of a target, read from ``targets/*.yaml``.

A file states each figure of ``UNITS`` once, with range, unit, grade, source and year.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from intaglio.errors import BadInput
from intaglio.plan.reads import Reads, reads_of
from intaglio.plan.target import check_keys, read_rows, read_target, target_names, target_path
from intaglio.quantity import Quantity, is_number, quantity

UNITS = {
    "clock": "Hz",
    "supply": "V",
    "density_average": "MTr/mm2",  # whole dies, memory and pads included
    "density_peak": "MTr/mm2",  # densest standard cells
    "logic_scale": "1",  # area of a sky130 standard-cell netlist here over its area on sky130
    "gate_area": "um2",  # a NAND2
    "sram_cell": "um2",  # six transistors
    "sram_efficiency": "1",  # area of the bits over area of the macro
    "rom_cell": "um2",  # one mask-ROM bit
    "metal_pitch": "um",  # of the thinnest metal
    "line_pitch": "um",  # of product lines, wide enough for a contact
    "cell_width": "um",  # of a select cell: one transistor with its word line and sum line
    "poly_pitch": "um",
    "wire_resistance": "ohm/um",
    "wire_capacitance": "fF/um",
    "wire_energy": "fJ/bit/mm",  # per bit sent, at random data
    "line_reach": "um",  # the longest product line without a re-drive
    "full_adder_energy": "fJ",  # per operation at random data
    "flop_energy": "fJ",  # per clock of a clocked flop, its clock pin included
    "gate_energy": "fJ",  # per NAND2 equivalent and active cycle, at random data
    "multiply_energy": "fJ",  # 8 by 8 bits
    "sram_energy": "fJ/bit",  # read from a bank of 8 KB
    "rom_energy": "fJ/bit",
    "leakage_logic": "W/mm2",  # at operating temperature
    "leakage_sram": "W/mm2",
    "clock_energy": "1",  # the clock tree's share, added to dynamic logic power
    "wafer_price": "USD",
    "wafer_diameter": "mm",
    "defect_density": "1/cm2",
    "mask_set": "USD",
    "programmable_mask": "USD",  # one metal or via mask
    "mask_layers": "1",  # masks of a whole set
    "programmable_layers": "1",  # masks changed per model
    "days_per_mask_layer": "day",
    "fab_weeks": "week",
    "package_weeks": "week",
    "package_price": "USD",
    "reticle": "mm2",
    "utilisation": "1",  # placed cell area over block area, logic
    "user_area": "mm2",  # fixed area of a shuttle seat; null for a die of one's own
    "link_bandwidth": "Gbit/s",  # one lane between two dies
    "link_energy": "pJ/bit",
    "link_latency": "ns",
    "link_area": "mm2",  # per Tbit/s
}
"""The figures that a process states, and their units."""

SHARES = {"sram_efficiency", "utilisation", "logic_scale", "clock_energy"}
"""Figures without a unit that cannot exceed 1."""
SMALLEST, LARGEST = 1e-9, 1e12
"""Beyond these no figure of any process is, in its unit; products of them stay finite."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process with all its figures.

    ``node``: its name in nm. ``figures``: by key of UNITS. ``rows``: what a layer's four fabric
    groups share under automatic lanes. ``reads``: of its tiles, where they were simulated.
    """

    name: str
    title: str
    node: float
    figures: Mapping[str, Quantity]
    rows: int = 37
    reads: Reads | None = None

    def __getitem__(self, key: str) -> Quantity:
        """A figure. Raises :class:`BadInput` naming the target where there is none of that key."""
        if key not in self.figures:
            raise BadInput(f"target {self.name} has no figure {key!r}")
        return self.figures[key]


@cache
def is_process(name: str) -> bool:
    """Whether the target of that name is a process. Raises :class:`BadInput` for an unknown one."""
    return read_target(target_path(name))["node"] is not None


def process_names() -> list[str]:
    """The targets that are processes."""
    return [name for name in target_names() if is_process(name)]


@cache
def process(name: str) -> Process:
    """The process of that name, or in the file at a path that ends in .yaml.

    Raises :class:`BadInput` for an unknown name, and for a file that does not state every figure,
    each in its unit; the message names file and key.
    """
    path = target_path(name)
    values = read_target(path)
    if values["node"] is None:
        raise BadInput(
            f"target {values['name']} has no process, so it has no figures",
            hint=f"choose one of {', '.join(process_names())}",
        )
    figures = values["figures"]
    check_keys(figures, set(UNITS), f"{path.name}: figures")
    return Process(
        name=values["name"],
        title=values["title"],
        node=float(values["node"]),
        figures={key: figure(figures[key], key, path) for key in UNITS},
        rows=read_rows(values, path),
        reads=reads_of(values["circuit"]) if values["circuit"] else None,
    )


def figure(values: Any, key: str, path: Path) -> Quantity:
    """One figure of a file. Raises :class:`BadInput` for a wrong unit or an impossible value."""
    place = f"{path.name}: {key}"
    found = quantity(values, place)
    if found.unit != UNITS[key]:
        raise BadInput(f"{place}: unit must be {UNITS[key]}, not {found.unit}")
    if not is_number(found.year):
        raise BadInput(f"{place}: year must be a number, not {found.year!r}")
    if not found.known:  # the reason is read far from the file: it names what nobody knows
        return replace(found, blocked_by=f"{place}: {found.blocked_by}")
    low, high = found.bounds
    if low <= 0:
        raise BadInput(f"{place}: must be more than 0, not {low:g}")
    if low < SMALLEST or high > LARGEST:
        raise BadInput(f"{place}: must be from {SMALLEST:g} to {LARGEST:g} {UNITS[key]}")
    if key in SHARES and high > 1:
        raise BadInput(f"{place}: must be at most 1, not {high:g}")
    return found
