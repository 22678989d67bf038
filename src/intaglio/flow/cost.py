"""What a model's chip costs, and beside it the machines that it would replace."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from intaglio.flow.choose import Model, PlanOptions
from intaglio.flow.plan import Planned, chip_of, run_plan, terms_of
from intaglio.plan.outline import Outline, stored_bits
from intaglio.plan.process import Process
from intaglio.silicon.baselines import Baseline, Work, baselines, other_inputs, year_of
from intaglio.silicon.cost import MODES, BreakEven, Chip, Cost, Terms, break_even, cost

ONCE = ("first_chip_usd", "next_model_usd")
THEIRS = {"one_user": "one_user", "all_users": "batch"}
"""What of a machine stands beside which figure of the chip: one user beside one user."""


@dataclass(frozen=True)
class Subject:
    """A planned chip as cost looks at it.

    ``chip``: its silicon and rates, ``users``: of the rate of all; ``work``: the same model for
    another machine, ``position``: the mean one of the request of both.
    """

    planned: Planned
    chip: Chip
    users: int
    work: Work
    position: int

    @property
    def process(self) -> Process:
        """What it is made on."""
        return self.planned.process


def subject_of(planned: Planned) -> Subject:
    """A planned chip as cost looks at it."""
    chip = chip_of(planned.chosen, planned.process, planned.options)
    position = round(planned.physical.cycles.position)
    work = work_of(planned.name, planned.model, planned.outline, position)
    return Subject(planned, chip, planned.outline.plan.slots, work, position)


def work_of(name: str, model: Model, outline: Outline, position: int) -> Work:
    """A model as work for another machine, a user's keys and values up to ``position`` in bytes."""
    layers = range(len(outline.plan.layers))
    kept = sum(min(position, outline.positions_kept(layer)) for layer in layers)
    known = model.preset.name if model.preset else name
    return Work(
        known, model.parameters, model.active, mean_bits(outline), kept * outline.cache_width
    )


def mean_bits(outline: Outline) -> float:
    """Bits that a weight of the fabrics takes on average, the head's included."""
    bits = weights = 0.0
    fabrics = [(outline.plan.head, 1)]
    for layer in range(len(outline.plan.layers)):
        stored = outline.stored(layer)
        fabrics += [(fabric, stored[name]) for name, fabric in outline.fabrics(layer).items()]
    for fabric, count in fabrics:
        size = count * fabric.inputs * fabric.outputs
        bits, weights = bits + size * stored_bits(fabric), weights + size
    return bits / weights


@dataclass(frozen=True)
class Row:
    """A machine beside the chip. ``back``: by mode and by what is spent once, when it pays back."""

    baseline: Baseline
    back: Mapping[str, Mapping[str, BreakEven]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = self.baseline.as_dict()
        for mode, theirs in THEIRS.items():
            values[theirs]["break_even_cards"] = {
                once: back.as_dict() for once, back in self.back[mode].items()
            }
        return values


@dataclass(frozen=True)
class Bill:
    """What a model's chip costs, and the machines beside it."""

    subject: Subject
    cost: Cost
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``cost``."""
        subject, terms = self.subject, self.cost.terms
        return {
            "model": subject.planned.name, "target": subject.process.name, "volume": terms.volume,
            "utilisation": self.cost.inputs["utilisation"].as_dict(),
            "yield_model": terms.model, "repairable": terms.redundancy.repairable,
            "repairs": terms.redundancy.repairs, "spare_area": terms.redundancy.area,
            "bits_per_weight": subject.work.bits, "position": subject.position,
            "chip": chip_values(subject), **self.cost.as_dict(),
            "baselines": [row.as_dict() for row in self.rows],
        }  # fmt: skip


def chip_values(subject: Subject) -> dict[str, Any]:
    """What the chip is, in the words of the machines beside it."""
    modes = {
        mode: dict(
            zip(
                ("tokens_per_second", "watts"),
                (q.as_dict() for q in getattr(subject.chip, mode)),
                strict=True,
            )
        )
        for mode in MODES
    }
    return {"area_mm2": subject.chip.area.as_dict(), "users": subject.users, **modes}


def run_cost(model: str, options: PlanOptions | None = None, terms: Terms | None = None) -> Bill:
    """What the chip of ``model`` (a preset, a checkpoint or a package) costs.

    The chip is the one that is planned with the terms' die.
    """
    terms, options = terms or Terms(), options or PlanOptions()
    planned = run_plan(model, options if terms.die is None else replace(options, die=terms.die))
    if terms.die is None:
        terms = replace(terms, die=terms_of(planned.process, planned.options).die)
    subject = subject_of(planned)
    made = cost(subject.chip, subject.process, subject.process.node, terms)
    rows = baselines(subject.work, made.inputs["utilisation"])
    return Bill(subject, made, tuple(Row(row, pays_back(made, row)) for row in rows))


def pays_back(made: Cost, row: Baseline) -> dict[str, dict[str, BreakEven]]:
    """After how many cards what is spent once comes back, one user and all users apart."""
    of = row.machine
    return {
        mode: {
            once: break_even(
                made, mode, once, rate.rate, partial(year_of, of), other_inputs(of, rate.chips)
            )
            for once in ONCE
        }
        for mode, rate in ((mode, getattr(row, theirs)) for mode, theirs in THEIRS.items())
    }
