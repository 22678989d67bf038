"""Everything a report shows, gathered once: the planned chip, its cost, its days, its curves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intaglio.errors import IntaglioError
from intaglio.flow.choose import PlanOptions
from intaglio.flow.cost import Bill, Row, pays_back, subject_of
from intaglio.flow.package import Package, is_package, open_package
from intaglio.flow.plan import Planned, plan_outline, run_plan, terms_of
from intaglio.flow.progress import Progress, silent
from intaglio.flow.sizes import Size, sizes_on
from intaglio.quantity import Quantity
from intaglio.silicon.baselines import baselines
from intaglio.silicon.cost import cost
from intaglio.silicon.turnaround import Turnaround, turnaround

ROWS = (24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
"""Rows of a layer for which speed is held against area."""
CONTEXT_POINTS = 24
BITS = (2, 3, 4, 6, 8)
PLANNING, COMPARING = "planning the chip", "planning other rows"


@dataclass(frozen=True, slots=True)
class Lanes:
    """The same model with so many rows a layer, or as planned: speed against area."""

    rows: int | None
    area: Quantity
    rate: Quantity


@dataclass(frozen=True)
class Facts:
    """What a report is made of.

    ``package``: what was compiled, or None for a model that is only planned. ``bill`` is None where
    no die can be made, and ``no_bill`` says why. ``contexts``: tokens/s of one user by position.
    """

    planned: Planned
    package: Package | None
    bill: Bill | None
    no_bill: str
    ways: Mapping[str, Turnaround]
    sizes: tuple[Size, ...]
    lanes: tuple[Lanes, ...]
    contexts: Mapping[int, float]

    @property
    def figures(self) -> dict[str, Quantity]:
        """Every figure of the chip by name, those of the plan before the silicon's own."""
        derived = {name: figure.quantity for name, figure in self.planned.derived.items()}
        return {**derived, **self.planned.figures}

    @property
    def verdict(self) -> dict[str, Any] | None:
        """What the last proof of the package said."""
        return self.package.verdict if self.package else None

    @property
    def own_target(self) -> str | None:
        """The target that the package was compiled for, where the figures are of another."""
        own = self.package.plan.target if self.package else None
        return None if own == self.planned.process.name else own

    @property
    def dies(self) -> int:
        """Dies of the chip."""
        return self.planned.dies


def gather(name: str, options: PlanOptions | None = None, *, progress: Progress = silent) -> Facts:
    """The facts of a chip package, a preset or a checkpoint, planned with these options.

    A folder that holds a package is that, even where it is called as a preset is.
    """
    progress(PLANNING, 0, "")
    path = Path(name)
    package = open_package(path) if is_package(path) else None
    planned = run_plan(str(path.absolute()) if package else name, options)
    bill, no_bill = bill_of(planned)
    ways = turnaround(planned.process, planned.model.parameters)
    progress(PLANNING, 1, "")
    sizes = sizes_on(planned.process, planned.options.target or planned.process.name, progress)
    progress(COMPARING, 0, "")
    lanes = tuple(lanes_of(planned))
    progress(COMPARING, 1, "")
    return Facts(planned, package, bill, no_bill, ways, sizes, lanes, contexts_of(planned))


def bill_of(planned: Planned) -> tuple[Bill | None, str]:
    """What the chip costs beside other machines; where that has no answer, why."""
    process = planned.process
    try:
        subject = subject_of(planned)
        terms = terms_of(process, planned.options)
        made = cost(subject.chip, process, process.node, terms)
        rows = baselines(subject.work, made.inputs["utilisation"])
        return Bill(subject, made, tuple(Row(row, pays_back(made, row)) for row in rows)), ""
    except IntaglioError as error:
        return None, error.message


def lanes_of(planned: Planned) -> Iterator[Lanes]:
    """The model's chip for each of ``ROWS``, all else as planned; a package's shape is let go."""
    model = replace(planned.model, package=None)
    shape = shape_of(planned)
    for rows in ROWS:
        try:
            options = replace(shape, rows=rows)
            made = plan_outline(planned.name, model, planned.process, options).figures
        except IntaglioError:
            continue  # no such chip
        yield Lanes(rows, made["area_mm2"], made["tokens_per_second_per_user"])


def shape_of(planned: Planned) -> PlanOptions:
    """The options of a chip like the planned one. A package's bits become the nearest width."""
    plan, options = planned.outline.plan, planned.options
    alike = replace(options, context=plan.context, slots=plan.slots, dies=None)
    if planned.model.package is None:
        return alike
    mean = sum(planned.outline.bits.values()) / len(planned.outline.bits)
    bits = min(BITS, key=lambda bits: abs(bits - mean))
    return replace(alike, bits=bits, beat=plan.beat, positions=plan.positions)


def contexts_of(planned: Planned) -> dict[int, float]:
    """tokens/s of one user by position, from the first to the last, links between dies included."""
    last = planned.outline.plan.context - 1
    places = sorted({round(last * i / CONTEXT_POINTS) for i in range(CONTEXT_POINTS + 1)})
    links = planned.derived.get("link_seconds")
    seconds = links.quantity.number if links else 0.0
    rates = planned.physical.at_context(places)
    return {place: 1 / (1 / rate + seconds) for place, rate in rates.items()}
