"""From a model's checkpoint to its card, and the shuttle seats beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intaglio.flow.choose import PlanOptions, open_model, target_of
from intaglio.flow.plan import plan_outline
from intaglio.plan.process import Process
from intaglio.silicon.shuttles import Seat, seats
from intaglio.silicon.turnaround import PROMISE, Turnaround, turnaround


@dataclass(frozen=True, slots=True)
class Way:
    """Both ways to a card of a model, and every seat with how much of the chip's range fits it."""

    name: str
    title: str
    process: Process
    parameters: int
    next_model: Turnaround
    first_chip: Turnaround
    seats: tuple[tuple[Seat, str | None], ...]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``turnaround``."""
        return {
            "model": self.name, "target": self.process.name,
            "parameters": self.parameters,
            "next_model": self.next_model.as_dict(), "first_chip": self.first_chip.as_dict(),
            "seats": [{**seat.as_dict(), "fits": fits} for seat, fits in self.seats],
        }  # fmt: skip


def run_turnaround(
    model: str,
    *,
    target: str | None = None,
    promise: float = PROMISE,
    chosen: Mapping[str, float] | None = None,
) -> Way:
    """Both ways to a card; ``chosen``: values in place of the data's own."""
    opened, options = open_model(model), PlanOptions(target=target)
    process = target_of(opened, options)
    ways = turnaround(process, opened.parameters, promise=promise, changes=chosen)
    fitting: list[tuple[Seat, str | None]] = [(seat, None) for seat in seats()]
    if any(seat.takes(process.name) for seat in seats()):  # else the area says nothing
        area = plan_outline(model, opened, process, options).physical.area["area_mm2"]
        fitting = [(seat, seat.fits(area, process.name)) for seat in seats()]
    return Way(
        model, opened.title, process, opened.parameters, ways["next_model"], ways["first_chip"],
        tuple(fitting),
    )  # fmt: skip
