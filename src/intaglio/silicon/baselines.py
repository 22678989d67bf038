"""The machines that a chip is compared with, on the same model.

One user alone (batch 1) and as many users as pay (batch-optimal) are two comparisons and are never
mixed. Beside what was published stand the ceilings that memory and arithmetic allow at the same
bits per weight: no software goes beyond them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from intaglio.errors import BadInput
from intaglio.quantity import Quantity
from intaglio.silicon.cost import HOURS, SECONDS, yearly
from intaglio.silicon.derived import Figure, derive, exactly, unknown
from intaglio.silicon.market import economics, figure, figures, table

FILE = "accelerators.yaml"
UNITS = {
    "bandwidth": "B/s", "memory": "B", "compute": "op/s", "power": "W", "price": "USD",
    "hourly": "USD/h",
}  # fmt: skip
RATES = ("one_user", "batch")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine: its figures by name (``UNITS``), and what was published of it, by model.

    ``published``: by model, ``one_user`` tokens/s of a user and ``batch`` tokens/s of ONE machine;
    ``chips``: by model, how many the one-user figure took, where that is known.
    """

    name: str
    title: str
    figures: Mapping[str, Quantity]
    published: Mapping[str, Mapping[str, Quantity]]
    chips: Mapping[str, Quantity]


@cache
def machines() -> dict[str, Machine]:
    """All machines of the data, by name."""
    return {name: read_machine(name, values) for name, values in table("accelerators").items()}


def machine(name: str) -> Machine:
    """The machine of that name. Raises :class:`BadInput` for an unknown one."""
    known = machines()
    if name not in known:
        raise BadInput(f"machine must be one of {', '.join(known)}, not {name!r}")
    return known[name]


def read_machine(name: str, values: Mapping[str, Any]) -> Machine:
    """A machine as the data file states it."""
    place = f"{FILE}: {name}"
    read = figures(values, UNITS, place, beside={"title", "models"})
    published, chips = {}, {}
    for model, rates in values["models"].items():
        where = f"{place}: {model}"
        if unknown_keys := set(rates) - {*RATES, "chips"}:
            raise BadInput(f"{where}: unknown key {', '.join(sorted(unknown_keys))}")
        published[model] = {
            kind: figure(rates.get(kind), "token/s", f"{where}: {kind}") for kind in RATES
        }
        if "chips" in rates:
            chips[model] = figure(rates["chips"], "machine", f"{where}: chips")
    return Machine(name, values["title"], read, published, chips)


@dataclass(frozen=True, slots=True)
class Work:
    """A model as work: what a machine must hold, read and multiply for a token.

    ``name``: the preset's. ``stored`` and ``active``: weights in all and per token; ``bits`` of a
    weight; ``cache``: bytes of keys and values of a user at the position asked.
    """

    name: str
    stored: float
    active: float
    bits: float
    cache: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Machines with one user, or with as many as pay.

    ``published`` and ``ceiling``: tokens/s of ``chips`` machines together; ``counted``: the one of
    the two that joules and money are computed from, the published one where there is one.
    """

    chips: Quantity
    published: Quantity
    ceiling: Figure
    counted: str
    tokens_per_joule: Figure
    usd_per_mtoken: Figure

    @property
    def rate(self) -> Quantity:
        """Tokens/s that joules and money are computed from."""
        return self.published if self.counted == "published" else self.ceiling.quantity

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "machines": self.chips.as_dict(), "published": self.published.as_dict(),
            "ceiling": self.ceiling.as_dict(), "counted": self.counted,
            "tokens_per_joule": self.tokens_per_joule.as_dict(),
            "usd_per_mtoken": self.usd_per_mtoken.as_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Baseline:
    """A machine on a model: one user alone, and batch-optimal."""

    machine: Machine
    one_user: Rate
    batch: Rate

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "machine": self.machine.name, "title": self.machine.title,
            "one_user": self.one_user.as_dict(), "batch": self.batch.as_dict(),
        }  # fmt: skip


def baselines(work: Work, utilisation: Quantity | None = None) -> list[Baseline]:
    """Every machine on a model, in the data's order; those nothing is known of are left out."""
    made = [baseline(each, work, utilisation) for each in machines().values()]
    return [each for each in made if each.one_user.rate.known or each.batch.rate.known]


def baseline(of: Machine, work: Work, utilisation: Quantity | None = None) -> Baseline:
    """One machine on a model."""
    used = utilisation or economics()["utilisation"]
    alone, full = (rate_of(of, work, kind, used) for kind in RATES)
    return Baseline(of, alone, full)


def rate_of(of: Machine, work: Work, kind: str, used: Quantity) -> Rate:
    """One user, or batch-optimal, on a machine."""
    fit = machines_needed(of, work)
    chips = of.chips.get(work.name, fit) if kind == "one_user" else fit
    published = published_rate(of, work, kind, chips)
    source = (
        f"silicon.baselines, ceiling of memory and arithmetic: {chips.number:g} x {of.title}, "
        f"{work.bits:.3g} bits a weight"
    )
    inputs = {name: of.figures[name] for name in ("bandwidth", "memory", "compute")}
    inputs["chips"] = chips
    model = lambda v: {"rate": ceiling_of(v, work, kind)}  # noqa: E731
    ceiling = derive(model, inputs, {"rate": "token/s"}, source)["rate"]
    counted = "published" if published.known or not ceiling.quantity.known else "ceiling"
    rate = published if counted == "published" else ceiling.quantity
    return Rate(chips, published, ceiling, counted, *per_token(of, chips, rate, used))


def published_rate(of: Machine, work: Work, kind: str, chips: Quantity) -> Quantity:
    """What was published, of ``chips`` machines together; the data states a batch of one."""
    if work.name not in of.published:
        return Quantity(
            None, "token/s", "published claim", f"{FILE}: {of.name}",
            blocked_by="nothing published of this machine on this model",
        )  # fmt: skip
    found = of.published[work.name][kind]
    if kind == "one_user" or not found.known or chips.number == 1:
        return found
    low, high = found.bounds
    by = chips.number
    return Quantity(
        found.number * by, found.unit, found.grade, f"{found.source}; times {by:g} machines",
        low * by, high * by, found.year,
    )  # fmt: skip


def machines_needed(of: Machine, work: Work) -> Quantity:
    """How many of them hold the weights and a user's keys and values; as published, or 1, where
    their memory is unknown."""
    memory = of.figures["memory"]
    if not memory.known:
        return of.chips.get(work.name, exactly(1, "machine", "one machine"))
    count = math.ceil((work.stored * work.bits / 8 + work.cache) / memory.number)
    return exactly(max(count, 1), "machine", f"weights of {work.bits:.3g} bits over its memory")


def ceiling_of(v: Mapping[str, float], work: Work, kind: str) -> float:
    """Tokens/s that memory and arithmetic allow.

    One user: the active weights and that user's keys and values are read for every token. Batch:
    all stored weights once for as many users as have room, or what the arithmetic allows.
    """
    active, stored = (count * work.bits / 8 for count in (work.active, work.stored))
    arithmetic = v["compute"] * v["chips"] / (2 * work.active)
    bandwidth = v["bandwidth"] * v["chips"]
    if kind == "one_user":
        return min_known(bandwidth / (active + work.cache), arithmetic)
    if not work.cache:  # users without end
        return min_known(arithmetic)
    users = max_known((v["memory"] * v["chips"] - stored) / work.cache, 1.0)
    return min_known(users * bandwidth / (stored + users * work.cache), arithmetic)


def min_known(*values: float) -> float:
    """The smallest, or NaN where one is not known."""
    return math.nan if any(map(math.isnan, values)) else min(values)


def max_known(*values: float) -> float:
    """The largest, or NaN where one is not known."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def per_token(
    of: Machine, chips: Quantity, rate: Quantity, used: Quantity
) -> tuple[Figure, Figure]:
    """Tokens per joule at full power, and USD of a million tokens."""
    source = f"silicon.baselines, {chips.number:g} x {of.title}"
    joule = derive(
        lambda v: {"joule": v["rate"] / (v["power"] * v["chips"])},
        {"rate": rate, "power": of.figures["power"], "chips": chips}, {"joule": "token/J"}, source,
    )["joule"]  # fmt: skip
    usd = derive(
        lambda v: {"usd": year_of(of, v) / (v["rate"] * v["utilisation"] * SECONDS) * 1e6},
        economics() | other_inputs(of, chips) | {"utilisation": used, "rate": rate},
        {"usd": "USD/Mtoken"}, source,
    )["usd"]  # fmt: skip
    if usd.quantity.known:
        return joule, usd
    why = rate.blocked_by or of.figures["price"].blocked_by
    return joule, unknown("USD/Mtoken", source, str(why))


def other_inputs(of: Machine, chips: Quantity) -> dict[str, Quantity]:
    """What a machine's year costs by, under names of their own."""
    named = {f"other_{name}": of.figures[name] for name in ("power", "price", "hourly")}
    return {**named, "other_chips": chips}


def year_of(of: Machine, v: Mapping[str, float]) -> float:
    """USD of a year of the machines: rent by the hour, or owned where nobody rents them."""
    if of.figures["hourly"].known:
        return v["other_chips"] * v["other_hourly"] * HOURS
    return v["other_chips"] * yearly(v, v["other_price"], v["other_power"])
