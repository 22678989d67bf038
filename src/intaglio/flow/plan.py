"""Plan: a chip predicted from an architecture alone. No weights are read; it takes seconds.

:func:`~intaglio.flow.choose.choose` says which chip, :func:`run_plan` makes its figures and holds
them against the bounds that were asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from intaglio.errors import BadInput, DoesNotFit, IntaglioError
from intaglio.flow.choose import (
    Chosen,
    Model,
    PlanOptions,
    area_limit,
    choose,
    open_model,
    target_of,
)
from intaglio.flow.progress import Progress, silent
from intaglio.plan.outline import Outline
from intaglio.plan.process import Process
from intaglio.quantity import Quantity, numbers
from intaglio.silicon.accuracy import expected_growth, measured
from intaglio.silicon.cost import Chip, Terms, cost
from intaglio.silicon.derived import Figure, unknown
from intaglio.silicon.model import KINDS
from intaglio.silicon.physical import Physical
from intaglio.silicon.search import Change, changes
from intaglio.silicon.several import CUT_KINDS, Several
from intaglio.silicon.words import number

HEADLINE = (
    "area_mm2", "power_w", "tokens_per_second_per_user", "millijoule_per_token",
    "first_token_seconds",
)  # fmt: skip
MORE = (
    "power_full_w", "power_all_w", "leakage_w", "millijoule_per_token_full",
    "tokens_per_second_all", "tokens_per_second_full", "tokens_per_second_end_to_end",
    "prompt_tokens_per_second", "hottest_w_per_mm2", "hottest_single_w_per_mm2", "transistors",
    "femtojoule_per_weight", "redrive_cycles", "clock_hz",
)  # fmt: skip
LINKS = ("die_mm2", "link_seconds", "link_w", "link_lanes")
COMPARING = "comparing widths and contexts"
FRONT = 8
"""Chips of the front of speed against area that are shown."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound and what is held against it. ``holds``: by the value; ``surely``: over its range."""

    name: str
    limit: float
    unit: str
    value: Quantity

    @property
    def holds(self) -> bool:
        """The value keeps it."""
        return self.value.number <= self.limit

    @property
    def surely(self) -> bool:
        """All of the range keeps it."""
        return self.value.bounds[1] <= self.limit

    @property
    def excess(self) -> float:
        """The value over the bound."""
        return self.value.number / self.limit

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name, "limit": self.limit, "unit": self.unit,
            "value": self.value.number, "holds": self.holds, "surely": self.surely,
        }  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A planned chip and its figures. ``die``: what one costs."""

    name: str
    model: Model
    options: PlanOptions
    process: Process
    chosen: Chosen
    die: Figure
    bounds: tuple[Bound, ...]

    @property
    def physical(self) -> Physical:
        """The chip's figures, as if one die held it."""
        return self.chosen.physical

    @property
    def cut(self) -> Several | None:
        """The chip on several dies, where one does not hold it."""
        return self.chosen.cut

    @property
    def outline(self) -> Outline:
        """The chip."""
        return self.physical.outline

    @property
    def dies(self) -> int:
        """Dies of the chip."""
        return len(self.cut.cut.dies) if self.cut else 1

    @property
    def cost_per_die(self) -> Quantity:
        """USD of a die, packaged and tested."""
        return self.die.quantity

    @property
    def binding(self) -> str | None:
        """The bound that is exceeded, the most exceeded of several, else what keeps it slow.

        None where nothing does: all bounds are kept, and no faster chip breaks one.
        """
        broken = [bound for bound in self.bounds if not bound.holds]
        if broken:
            return max(broken, key=lambda bound: bound.excess).name
        found = self.chosen.found
        names = {"area": self.bounds[0].name, "power": "power", None: None}
        return names[found.binding] if found else None

    @property
    def derived(self) -> Mapping[str, Figure]:
        """Every figure by name, with what moves it; of all dies where there are several."""
        return {**self.physical.figures, **(self.cut.figures if self.cut else {})}

    @property
    def area_by_kind(self) -> dict[str, Quantity]:
        """mm² of every kind, of all dies: they add up to the area."""
        made, kinds = self.derived, {**KINDS, **(CUT_KINDS if self.cut else {})}
        return {kind: made[f"area_{kind}"].quantity for kind in kinds}

    @property
    def figures(self) -> Mapping[str, Quantity]:
        """The headline figures by name."""
        made = {name: self.derived[name].quantity for name in (*HEADLINE, *MORE)}
        return made | {"cost_per_die_usd": self.cost_per_die}

    @property
    def growth(self) -> Quantity:
        """Growth of perplexity, percent.

        A package's own, as it was measured; else what others' models of such a size lost.
        """
        if self.model.growth is not None:
            return self.model.growth
        if self.model.package is not None:
            reason = "the chip is there: intaglio evaluate measures it"
            return Quantity(None, "%", "assumed", "flow.plan", blocked_by=reason)
        bits = {self.outline.bits[name] for name in self.outline.bits if name != "head"}
        return expected_growth(self.model.parameters, max(bits) if len(bits) == 1 else 0.0)

    @cached_property
    def changes(self) -> list[Change]:
        """What would make the chip that was found faster, the most first; empty without search."""
        chosen = self.chosen
        return changes(chosen.question, chosen.found) if chosen.question and chosen.found else []

    @cached_property
    def on_more_dies(self) -> "Planned | None":
        """The chip of the process' own rows, cut, where it is faster than the one on one die.

        The search fills one die, however slow that is: more dies are for a person to choose.
        """
        if self.chosen.found is None or self.options.dies or self.cut:
            return None
        options = replace(self.options, rows=self.process.rows)
        made = plan_outline(self.name, self.model, self.process, options)
        rate = "tokens_per_second_per_user"
        if made.cut is None or not all(bound.holds for bound in made.bounds):
            return None
        return made if made.figures[rate].number > self.figures[rate].number else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; the keys are listed in docs/json.md."""
        plan, physical = self.outline.plan, self.physical
        rest = physical.as_dict()
        links = {name: self.derived[name].quantity.as_dict() if self.cut else None
                 for name in LINKS}  # fmt: skip
        return {
            "model": self.name, "title": self.model.title, "target": self.process.name,
            "context": plan.context, "slots": plan.slots,
            "parameters": self.model.parameters, "active_parameters": self.model.active,
            "weights": self.outline.weights, "active_weights": self.outline.active_weights,
            "bits": self.outline.bits, "positions": plan.positions, "beat": plan.beat,
            "rows": rows_of(self.outline), "lanes": lanes_of(self.outline),
            "cell": physical.cells,
            **{name: quantity.as_dict() for name, quantity in self.figures.items()},
            "perplexity_growth_percent": self.growth.as_dict(),
            "binding": self.binding, "bounds": [bound.as_dict() for bound in self.bounds],
            "area_by_kind": {
                kind: quantity.as_dict() for kind, quantity in self.area_by_kind.items()
            },
            "read": self.read_values(),
            "moved_by": {name: list(self.derived[name].moves)[:5] for name in HEADLINE},
            "cycles": rest["cycles"], "users": rest["users"], "dies": self.dies, **links,
            "search": self.search_values(),
        }  # fmt: skip

    def read_values(self) -> dict[str, Any] | None:
        """What the clock assumes of reads, ready for JSON; null where none were simulated."""
        x = numbers(self.physical.inputs)
        slowest = self.physical.silicon.slowest(x)
        if slowest is None:
            return None
        name, period = slowest
        return {
            "slowest": name, "rows": rows_of(self.outline).get(name), "clock_hz": 1e9 / period,
            "target_clock_hz": self.process["clock"].number,
            "line_share": self.physical.inputs["line_share"].as_dict(),
        }  # fmt: skip

    def search_values(self) -> dict[str, Any] | None:
        """What the search saw, ready for JSON; null without one."""
        found = self.chosen.found
        if found is None:
            return None
        more = self.on_more_dies
        return {
            "chips": len(found.points), "binding": found.binding, "ended": found.ended,
            "more_dies": more and {
                "dies": more.dies, **{name: more.figures[name].number
                                      for name in ("tokens_per_second_per_user", "power_w")},
            },
            "front": [point.as_dict() for point in thinned(found.pareto(), FRONT)],
            "changes": [
                {"input": change.name, "now": change.now, "then": change.then,
                 "unit": change.unit, "tokens_per_second_per_user": change.rate}
                for change in self.changes[:5]
            ],
        }  # fmt: skip


def thinned(points: tuple[Any, ...], most: int) -> list[Any]:
    """At most so many of the points, evenly, first and last included."""
    if len(points) <= most:
        return list(points)
    return [points[round(k * (len(points) - 1) / (most - 1))] for k in range(most)]


def rows_of(outline: Outline) -> dict[str, int]:
    """Rows of the first layer's fabrics by name, extra ones included, and the head's."""
    fabrics = {**outline.plan.layers[0], "head": outline.plan.head}
    return {name: fabric.rows + fabric.extra_rows for name, fabric in fabrics.items()}


def lanes_of(outline: Outline) -> dict[str, int]:
    """Lanes of the same."""
    fabrics = {**outline.plan.layers[0], "head": outline.plan.head}
    return {name: fabric.lanes for name, fabric in fabrics.items()}


def run_plan(name: str, options: PlanOptions | None = None) -> Planned:
    """The figures of the chip of a model, by its name or path."""
    options = options or PlanOptions()
    model = open_model(name)
    return plan_outline(name, model, target_of(model, options), options)


def plan_outline(name: str, model: Model, process: Process, options: PlanOptions) -> Planned:
    """The figures of an opened model's chip on a process."""
    chosen = choose(model, process, options)
    die, bounds = die_cost(chosen, process, options), bounds_of(chosen, process, options)
    return Planned(name, model, options, process, chosen, die, bounds)


def bounds_of(chosen: Chosen, process: Process, options: PlanOptions) -> tuple[Bound, ...]:
    """The bounds of a chip: the smallest of its areas, and power where it was asked for."""
    made, cut = chosen.physical, chosen.cut
    name, limit = area_limit(process, options)
    area = cut.figures["die_mm2"].quantity if cut else made.area["area_mm2"]
    bounds = [Bound(name, limit, "mm2", area)]
    if options.power is not None:
        power = cut.figures["power_w"].quantity if cut else made.power["power_w"]
        bounds.append(Bound("power", options.power, "W", power))
    return tuple(bounds)


def chip_of(chosen: Chosen, process: Process, options: PlanOptions) -> Chip:
    """A chip as cost looks at it.

    Raises :class:`DoesNotFit` for one that is larger than its die and not cut: nobody can make it.
    """
    made, cut = chosen.physical, chosen.cut
    whole = bounds_of(chosen, process, options)[0]
    if not whole.holds:
        raise DoesNotFit(
            f"the chip has {number(whole.value.number)} mm2, more than the "
            f"{whole.name.replace('_', ' ')} of {number(whole.limit)} mm2",
            hint="a larger --die"
            if whole.name == "die"
            else "another --target, or a shorter --context",
        )
    of = {**made.figures, **(cut.figures if cut else {})}
    return Chip(
        of["area_mm2"].quantity,
        (of["tokens_per_second_per_user"].quantity, of["power_w"].quantity),
        (of["tokens_per_second_all"].quantity, of["power_all_w"].quantity),
        cut.figures["dies"].quantity if cut else None,
    )


def die_cost(chosen: Chosen, process: Process, options: PlanOptions) -> Figure:
    """USD of a die, packaged and tested; unknown where none can be."""
    try:
        chip = chip_of(chosen, process, options)
        bill = cost(chip, process, process.node, terms_of(process, options))
    except IntaglioError as error:
        return unknown("USD", "silicon.cost", error.message)
    return bill.figures["cost_per_die_usd"]


def terms_of(process: Process, options: PlanOptions) -> Terms:
    """The terms of cost: dies of at most the area that was asked for."""
    return Terms(die=area_limit(process, options)[1])


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the comparison: a width and a context, and the fastest chip that they leave."""

    bits: int
    context: int
    planned: Planned

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        made = self.planned.figures
        return {
            "bits": self.bits, "context": self.context,
            "perplexity_growth_percent": self.planned.growth.as_dict(),
            **{name: made[name].as_dict() for name in HEADLINE}, "dies": self.planned.dies,
            "binding": self.planned.binding,
        }  # fmt: skip


def compare(planned: Planned, progress: Progress = silent) -> list[Option]:
    """The fastest chips of every width that somebody measured, at half to twice the context.

    Raises :class:`BadInput` for a chip package, whose width and context are its own.
    """
    if planned.model.package is not None:
        raise BadInput(
            "--pareto compares chips that are still to be chosen, not one that is compiled",
            hint="plan its checkpoint instead",
        )
    context = planned.outline.plan.context
    most = planned.model.architecture.context
    contexts = [c for c in (context // 2, context, 2 * context) if 1 <= c <= most]
    asked = [(bits, c) for c in contexts for bits in sorted(measured())]
    return list(compared(planned, asked, progress))


def compared(
    planned: Planned, asked: list[tuple[int, int]], progress: Progress
) -> Iterator[Option]:
    """The chips of these widths and contexts."""
    for done, (bits, context) in enumerate(asked):
        progress(COMPARING, done / len(asked), f"{bits} bits, context {context:,}")
        options = replace(planned.options, bits=bits, context=context, loss=None)
        yield Option(
            bits, context, plan_outline(planned.name, planned.model, planned.process, options)
        )
    progress(COMPARING, 1, "")
