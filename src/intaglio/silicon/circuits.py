"""Areas of logic blocks from synthesis, and what is assumed beside them: three data files.

``circuits.yaml`` has the areas on sky130 and the flops of every synthesised block, as a sum of
terms in its sizes (written by ``benchmarks/synthesis.py``); ``cells.yaml`` has what no synthesis
gives; ``loads.yaml`` what of a row's columns models put on one product line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from intaglio.errors import BadInput
from intaglio.quantity import Quantity, quantity, read_yaml

HERE = Path(__file__).parent
FLOP_AREA = 20.02  # um2 of sky130's dfxtp_1, which the synthesis counts as a flop


@dataclass(frozen=True, slots=True)
class Logic:
    """Logic as synthesised on sky130: ``area`` in um2 (flops included), and ``flops``."""

    area: float = 0.0
    flops: float = 0.0

    def __add__(self, other: "Logic") -> "Logic":
        return Logic(self.area + other.area, self.flops + other.flops)

    def __mul__(self, count: float) -> "Logic":
        return Logic(self.area * count, self.flops * count)

    @property
    def gates(self) -> float:
        """NAND2 equivalents beside the flops."""
        return max(self.area - self.flops * FLOP_AREA, 0.0) / nand2()


@dataclass(frozen=True, slots=True)
class Circuit:
    """A synthesised block: area and flops of each term, with their sources."""

    title: str
    terms: Mapping[str, tuple[Quantity, Quantity]]

    def logic(self, **sizes: float) -> Logic:
        """The block at these sizes: one for every term but ``base``."""
        if set(sizes) != set(self.terms) - {"base"}:
            wanted = sorted(set(self.terms) - {"base"})
            raise ValueError(f"{self.title} has the sizes {wanted}, not {sorted(sizes)}")
        made = Logic()
        for term, (area, flops) in self.terms.items():
            made = made + Logic(area.number, flops.number) * sizes.get(term, 1.0)
        return made


@cache
def circuits() -> dict[str, Circuit]:
    """All blocks by name. Raises :class:`BadInput` naming file and key."""
    values = read_yaml(HERE / "circuits.yaml")
    made = {}
    for name, block in values.items():
        terms = {
            term: (
                quantity(figures["area"], f"circuits.yaml: {name} {term} area"),
                quantity(figures["flops"], f"circuits.yaml: {name} {term} flops"),
            )
            for term, figures in block["terms"].items()
        }
        made[name] = Circuit(block["title"], terms)
    return made


def logic(block: str, **sizes: float) -> Logic:
    """A block of ``circuits.yaml`` at these sizes."""
    return circuits()[block].logic(**sizes)


@cache
def nand2() -> float:
    """um2 of sky130's NAND2."""
    return circuits()["nand2"].terms["base"][0].number


@cache
def assumptions() -> dict[str, Quantity]:
    """The figures of ``cells.yaml`` by name."""
    return figures_of("cells.yaml")


@cache
def loads() -> dict[str, Quantity]:
    """The figures of ``loads.yaml`` by name: how models load the lines of select cells."""
    return figures_of("loads.yaml")


def figures_of(file: str) -> dict[str, Quantity]:
    """The figures of a data file by name, each above 0."""
    values = read_yaml(HERE / file)
    made = {name: quantity(figure, f"{file}: {name}") for name, figure in values.items()}
    for name, figure in made.items():
        if figure.bounds[0] <= 0:
            raise BadInput(f"{file}: {name}: must be more than 0, not {figure.bounds[0]:g}")
    return made
