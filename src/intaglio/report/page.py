"""The page: what the template shows, as words and numbers."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from intaglio import __version__
from intaglio.layout.die import PROCESS
from intaglio.plan.process import process
from intaglio.quantity import Quantity
from intaglio.report.drawing import drawings
from intaglio.report.facts import Facts
from intaglio.report.floorplan import Floorplan, floorplan
from intaglio.report.metrics import Metric
from intaglio.report.pictures import context_chart, floor_svg, lanes_chart, legend, sizes_chart
from intaglio.report.tables import (
    cost_steps,
    energies,
    hero,
    inputs_of,
    kinds,
    machine_rows,
    reference,
    size_rows,
    ways_of,
)
from intaglio.silicon.words import BADGE_MEANS, badge, number, percent, ranged, valued, words

CARDS = (
    ("tokens_per_second_per_user", "tokens/s, one user"),
    ("area_mm2", "silicon"),
    ("power_w", "power, one user"),
    ("millijoule_per_token", "energy of a token"),
    ("first_token_seconds", "to the first token"),
    ("power_full_w", "power, pipeline full"),
)  # fmt: skip


@cache
def environment() -> Environment:
    """Templates of this package, escaping everything."""
    made = Environment(
        loader=PackageLoader("intaglio.report", "."), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
    made.filters |= {
        "valued": valued, "ranged": ranged, "badge": badge, "words": words, "number": number,
        "percent": percent,
    }  # fmt: skip
    return made


def page(facts: Facts, metrics: Mapping[str, Metric]) -> str:
    """The whole page; the same facts give the same text."""
    plan = floorplan(facts.planned)
    return environment().get_template("report.html.j2").render(context(facts, metrics, plan))


def context(facts: Facts, metrics: Mapping[str, Metric], plan: Floorplan) -> dict[str, Any]:
    """What the template is given."""
    made, outline = facts.planned, facts.planned.outline
    bill = facts.bill
    return {
        "version": __version__, "title": made.model.title, "process": made.process,
        "own_target": facts.own_target, "package": facts.package, "verdict": facts.verdict,
        "facts": facts, "outline": outline, "plan": outline.plan, "cycles": made.physical.cycles,
        "bits": bits_words(facts), "growth": made.growth,
        "cards": list(cards(facts)), "dies": facts.dies,
        "badges": BADGE_MEANS, "hero": hero(facts), "reference": reference(facts),
        "floor": floor_svg(plan), "floorplan": plan, "legend": legend(plan),
        "drawings": drawings(facts.package) if facts.package else None,
        "drawn_process": made.process.reads is process(PROCESS).reads,
        "kinds": kinds(facts), "energies": energies(facts),
        "context_chart": context_chart(facts), "sizes_chart": sizes_chart(facts),
        "sizes": size_rows(facts), "lanes_chart": lanes_chart(facts),
        "modes": machine_rows(facts), "bill": bill, "cost": cost_steps(facts),
        "ways": ways_of(facts), "metrics": list(metrics.values()), "inputs": inputs_of(facts),
    }  # fmt: skip


def cards(facts: Facts) -> Iterator[dict[str, Any]]:
    """The headline figures, each with where its value lies in its range."""
    every: list[tuple[Quantity, str]] = [(facts.figures[name], label) for name, label in CARDS]
    if facts.bill:
        every.append((facts.bill.cost["card_cost_usd"], "a card, at cost"))
    every.append((facts.ways["next_model"].total.quantity, "next model, in a card"))
    for quantity, label in every:
        yield {"label": label, "q": quantity, "at": place_in_range(quantity)}


def place_in_range(q: Quantity) -> float | None:
    """Where a value lies between low and high, in percent; None without a range."""
    if q.value is None:
        return None
    low, high = q.bounds
    return None if low == high else 100 * (q.value - low) / (high - low)


def bits_words(facts: Facts) -> str:
    """The widths of weights: layers', then the head's."""
    widths = sorted(bits for name, bits in facts.planned.outline.bits.items() if name != "head")
    low, high = f"{widths[0]:.3g}", f"{widths[-1]:.3g}"
    return low if low == high else f"{low} to {high}"
