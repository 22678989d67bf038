"""metrics.json: every figure of a report under a METRICS2.1-style key, with its provenance.

A key reads stage, subject, detail with ``__`` between; docs/report.md lists them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from intaglio import __version__
from intaglio.quantity import Quantity
from intaglio.report.facts import Facts
from intaglio.silicon.derived import exactly

FORMAT = 1
PLAN, VERDICT = "the plan", "the last `intaglio verify` of the package"
UNVERIFIED = "not verified yet: run `intaglio verify CHIP`"
NOT_COMPILED = "only planned, not compiled: run `intaglio compile`"
NOT_EVALUATED = "not measured: run `intaglio evaluate CHIP --text FILE`"

FIGURES = {
    "area_mm2": ("plan__design__die__area", False),
    "transistors": ("plan__design__transistors", None),
    "power_w": ("plan__power__total", False),
    "power_all_w": ("plan__power__all_users", False),
    "power_full_w": ("plan__power__pipeline_full", False),
    "leakage_w": ("plan__power__leakage", False),
    "hottest_w_per_mm2": ("plan__power__density__hottest", False),
    "hottest_single_w_per_mm2": ("plan__power__density__hottest_one_user", False),
    "millijoule_per_token": ("plan__energy__token", False),
    "millijoule_per_token_full": ("plan__energy__token__pipeline_full", False),
    "dynamic_millijoule": ("plan__energy__token__dynamic", False),
    "femtojoule_per_weight": ("plan__energy__weight", False),
    "tokens_per_second_per_user": ("plan__throughput__tokens_per_second_per_user", True),
    "tokens_per_second_all": ("plan__throughput__tokens_per_second_all_users", True),
    "tokens_per_second_full": ("plan__throughput__tokens_per_second_pipeline_full", True),
    "tokens_per_second_end_to_end": ("plan__throughput__tokens_per_second_end_to_end", True),
    "prompt_tokens_per_second": ("plan__throughput__prompt_tokens_per_second", True),
    "first_token_seconds": ("plan__timing__first_token", False),
    "redrive_cycles": ("plan__timing__cycles__redrives", False),
    "redrive_cycles_interval": ("plan__timing__cycles__redrives_interval", False),
    "cost_per_die_usd": ("cost__die__packaged", False),
    "die_mm2": ("plan__design__die__largest", False),
    "link_seconds": ("plan__timing__links", False),
    "link_w": ("plan__power__links", False),
}  # fmt: skip
"""By a figure of the plan: its key, and whether more of it is better."""
COSTS = {
    "dies": ("cost__dies", False), "gross_dies": ("cost__dies_per_wafer", True),
    "yield": ("cost__yield", True), "good_dies": ("cost__good_dies_per_wafer", True),
    "good_die_usd": ("cost__die__good", False),
    "card_cost_usd": ("cost__card__cost", False),
    "first_chip_usd": ("cost__once__first_chip", False),
    "next_model_usd": ("cost__once__next_model", False),
    "card_price_usd": ("cost__card__price", False),
    "next_model_card_price_usd": ("cost__card__price__next_model", False),
    "one_user_usd_per_mtoken": ("cost__mtoken__one_user", False),
    "all_users_usd_per_mtoken": ("cost__mtoken__all_users", False),
    "next_model_one_user_usd_per_mtoken": ("cost__mtoken__one_user__next_model", False),
    "next_model_all_users_usd_per_mtoken": ("cost__mtoken__all_users__next_model", False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure under its key. ``better``: whether more is better; None where neither is."""

    key: str
    quantity: Quantity
    better: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        q = self.quantity
        return {
            "value": q.value, "low": q.low, "high": q.high, "unit": q.unit, "grade": q.grade,
            "source": q.source, "blocked_by": q.blocked_by, "higher_is_better": self.better,
        }  # fmt: skip


def metrics_of(facts: Facts) -> dict[str, Metric]:
    """Every metric of a report by its key, in order."""
    every = [
        *design(facts), *planned(facts), *costs(facts), *days(facts), *machines(facts),
        *accuracy(facts), *verification(facts),
    ]  # fmt: skip
    return {metric.key: metric for metric in every}


def metrics_values(facts: Facts, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """The object of metrics.json."""
    return {
        "format": FORMAT, "intaglio": __version__, "model": subject(facts),
        "target": facts.planned.process.name,
        "hash": facts.package.hash if facts.package else None,
        "metrics": {key: metric.as_dict() for key, metric in metrics.items()},
    }  # fmt: skip


def subject(facts: Facts) -> str:
    """What the report is of, without a path."""
    preset = facts.planned.model.preset
    return preset.name if preset else facts.planned.model.title


def counted(key: str, value: float, unit: str, source: str, better: bool | None = None) -> Metric:
    """A metric that is counted."""
    return Metric(key, exactly(value, unit, source), better)


def absent(key: str, unit: str, source: str, why: str, better: bool | None) -> Metric:
    """A metric that nobody knows yet."""
    return Metric(key, Quantity(None, unit, "assumed", source, blocked_by=why), better)


def design(facts: Facts) -> Iterator[Metric]:
    """What is counted: the model, the plan, its cycles."""
    made, outline = facts.planned, facts.planned.outline
    plan, cycles = outline.plan, made.physical.cycles
    for name, value in {
        "parameters": made.model.parameters, "parameters__active": made.model.active,
        "weights": outline.weights, "weights__active": outline.active_weights,
        "layers": len(plan.layers), "context": plan.context, "slots": plan.slots,
        "attention__positions": plan.positions, "stream__beat": plan.beat,
    }.items():  # fmt: skip
        yield counted(f"plan__design__{name}", value, "1", PLAN)
    yield counted("plan__design__die__count", made.dies, "die", PLAN, False)
    for name, bits in sorted(outline.bits.items()):
        yield counted(f"plan__design__bits__{name}", bits, "bit", PLAN)
    yield Metric("plan__timing__clock__frequency", made.derived["clock_hz"].quantity, True)
    for name, value in {
        "token": cycles.token, "first_token": cycles.first, "interval": cycles.interval,
    }.items():  # fmt: skip
        yield counted(f"plan__timing__cycles__{name}", value, "cycle", PLAN, False)
    for name, value in {"prompt": cycles.prompt, "output": cycles.output}.items():
        yield counted(f"plan__request__{name}", value, "token", "asked for")


def planned(facts: Facts) -> Iterator[Metric]:
    """Area, power, speed."""
    for name, quantity in facts.figures.items():
        if name == "dies":
            continue  # counted
        if name.startswith("area_") and name != "area_mm2":
            key, better = f"plan__design__area__{name.removeprefix('area_')}", False
        else:
            key, better = FIGURES.get(name, (f"plan__figure__{name}", None))
        yield Metric(key, quantity, better)


def costs(facts: Facts) -> Iterator[Metric]:
    """Money."""
    if facts.bill is None:
        yield absent("cost__card__price", "USD", "silicon.cost", facts.no_bill, False)
        return
    for name, figure in facts.bill.cost.figures.items():
        if name == "cost_per_die_usd":
            continue  # among the plan's
        key, better = COSTS.get(name, (f"cost__figure__{name}", None))
        yield Metric(key, figure.quantity, better)
    volume = facts.bill.cost.terms.volume
    yield counted("cost__volume", volume, "card", "asked for")
    yield Metric("cost__utilisation", facts.bill.cost.inputs["utilisation"], None)


def days(facts: Facts) -> Iterator[Metric]:
    """Both ways to a card."""
    for name, way in facts.ways.items():
        yield Metric(f"turnaround__{name}__days", way.total.quantity, False)
        for step in way.steps:
            yield Metric(f"turnaround__{name}__{step.name}", step.days, False)


def machines(facts: Facts) -> Iterator[Metric]:
    """Other machines on the same model, one user and batch-optimal apart."""
    for row in facts.bill.rows if facts.bill else ():
        for mode in ("one_user", "batch"):
            rate = getattr(row.baseline, mode)
            key = f"baseline__{row.baseline.machine.name}__{mode}"
            yield Metric(f"{key}__machines", rate.chips, None)
            yield Metric(f"{key}__published", rate.published, True)
            yield Metric(f"{key}__ceiling", rate.ceiling.quantity, True)
            yield Metric(f"{key}__tokens_per_joule", rate.tokens_per_joule.quantity, True)
            yield Metric(f"{key}__usd_per_mtoken", rate.usd_per_mtoken.quantity, False)


def accuracy(facts: Facts) -> Iterator[Metric]:
    """What hardwiring costs the model."""
    if facts.package:
        yield counted(
            "quantize__bits_per_weight", facts.package.bits_per_weight, "bit",
            "the package: average over the block weights", False,
        )  # fmt: skip
    yield Metric("plan__accuracy__growth_percent", facts.planned.growth, False)
    found = facts.package.evaluation if facts.package else None
    grown = facts.planned.model.growth
    if found is None or grown is None:
        why = NOT_EVALUATED if facts.package else NOT_COMPILED
        source = "perplexity of chip over checkpoint"
        yield absent("quantize__growth_percent", "%", source, why, False)
        return
    yield Metric("quantize__growth_percent", grown, False)
    yield counted("quantize__evaluated_tokens", found["tokens"], "token", grown.source)
    for name in ("float", "chip"):
        for key, unit in (("perplexity", "1"), ("bits_per_byte", "bit/byte")):
            measured = Quantity(found[name][key], unit, "measured", grown.source)
            yield Metric(f"quantize__{key}__{name}", measured, False)


def verification(facts: Facts) -> Iterator[Metric]:
    """The last proof."""
    verdict = facts.verdict
    if verdict is None:
        why = UNVERIFIED if facts.package else NOT_COMPILED
        yield absent("verify__equal", "1", VERDICT, why, True)
        return
    yield counted("verify__equal", int(verdict["equal"]), "1", VERDICT, True)
    yield counted("verify__positions", verdict["positions"], "position", VERDICT, True)
    yield counted("verify__generated", verdict["generated"], "token", VERDICT, True)
    for name in ("planned", "simulated"):
        cycles = verdict["cycles"][name]
        if cycles is not None:
            yield counted(f"verify__cycles__{name}", cycles, "cycle", VERDICT, False)
    if verdict["cycles_per_token"] is not None:
        yield counted(
            "verify__cycles_per_token", verdict["cycles_per_token"], "cycle", VERDICT, False
        )
