"""Seats on shuttles that a person can buy, and what fits them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from intaglio.quantity import Quantity
from intaglio.silicon.derived import derive
from intaglio.silicon.market import figure, figures, table
from intaglio.silicon.turnaround import holds

FILE = "shuttles.yaml"
UNITS = {
    "area": "mm2", "price": "USD", "pieces": "chip", "weeks": "week", "cell": "um2",
}  # fmt: skip
WIDTH = 4  # bits of the weight whose cell the data states


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat. ``process``: name of its target or None where the project has none.

    ``figures``: by ``UNITS``. ``weights``: 4-bit weights that fit, with all that belongs to them;
    its high end is not beyond what the cells alone would fill.
    """

    name: str
    title: str
    process: str | None
    figures: Mapping[str, Quantity]
    weights: Quantity

    def takes(self, process: str) -> bool:
        """Chips on that target: the seat's process, or the seat itself where it is one."""
        return process in (self.process, self.name)

    def fits(self, area: Quantity, process: str) -> str | None:
        """How much of the range of a chip's mm² fits: "all", "value", "low end" or "none".

        None for a chip of another process, or of unknown area.
        """
        if not self.takes(process) or not area.known:
            return None
        return holds(area, self.figures["area"].number)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "seat": self.name, "title": self.title, "process": self.process,
            **{name: q.as_dict() for name, q in self.figures.items()},
            "weights": self.weights.as_dict(),
        }  # fmt: skip


@cache
def seats() -> tuple[Seat, ...]:
    """All seats of the data."""
    values = dict(table("shuttles"))
    share = figure(values.pop("cell_share"), "1", f"{FILE}: cell_share")
    return tuple(read_seat(name, each, share) for name, each in values.items())


def read_seat(name: str, values: Mapping[str, Any], share: Quantity) -> Seat:
    """A seat as the data file states it."""
    read = figures(values, UNITS, f"{FILE}: {name}", beside={"title", "process"})
    inputs = {"area": read["area"], "cell": read["cell"], "share": share}
    model = lambda v: {"weights": v["area"] * 1e6 * v["share"] / v["cell"]}  # noqa: E731
    source = f"silicon.shuttles, {WIDTH}-bit weights, cells filling their share of the area"
    weights = derive(model, inputs, {"weights": "1"}, source)["weights"].quantity
    return Seat(name, values["title"], values["process"], read, weights)
