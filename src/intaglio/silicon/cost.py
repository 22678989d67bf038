"""What a chip costs: a good die, a card, what is spent once, and a million tokens.

A chip may take several dies, a card holds one chip: all dies of a model, their boards and their
share of a server. All money is USD. Every figure is computed from quantities, so that its range is
that of everything it rests on. One user and all users together are two figures, never one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from intaglio.errors import BadInput
from intaglio.quantity import Quantity, check_within
from intaglio.silicon.derived import Figure, derive, exactly
from intaglio.silicon.market import design_cost, economics, packaging
from intaglio.silicon.yields import Redundancy, check_model, die_yield, gross_dies

HOURS = 8766.0  # of a year
SECONDS = HOURS * 3600
MODES = ("one_user", "all_users")
UNITS = {
    "dies": "die", "gross_dies": "die", "yield": "1", "good_dies": "die", "good_die_usd": "USD",
    "cost_per_die_usd": "USD", "card_cost_usd": "USD", "first_chip_usd": "USD",
    "next_model_usd": "USD", "card_price_usd": "USD", "next_model_card_price_usd": "USD",
    "one_user_usd_per_mtoken": "USD/Mtoken", "all_users_usd_per_mtoken": "USD/Mtoken",
    "next_model_one_user_usd_per_mtoken": "USD/Mtoken",
    "next_model_all_users_usd_per_mtoken": "USD/Mtoken",
}  # fmt: skip
FROM_PROCESS = (
    "wafer_price", "wafer_diameter", "defect_density", "mask_set", "programmable_mask",
    "programmable_layers", "package_price", "reticle",
)  # fmt: skip
LIMITS = {
    "utilisation": (1e-6, 1, ""), "package_yield": (1e-6, 1, ""), "margin": (0, 0.99, ""),
    "years": (0.01, 100, ""), "electricity": (0, 100, "USD/kWh"), "wafer_price": (0, 1e7, "USD"),
    "defect_density": (0, 1000, "/cm2"),
}  # fmt: skip
"""What a person may put in place of a quantity."""
ONE_DIE = exactly(1.0, "die", "a chip that no plan cuts")


class Figures(Protocol):
    """Quantities by name: a process, or a mapping."""

    def __getitem__(self, name: str, /) -> Quantity: ...


@dataclass(frozen=True, slots=True)
class Chip:
    """What cost needs of a chip.

    ``area``: mm² of silicon, all dies together. ``one_user`` and ``all_users``: tokens/s and W
    with one user alone, and with the pipeline full. ``dies``: that the plan cuts it into, or None
    for as few as the area takes.
    """

    area: Quantity
    one_user: tuple[Quantity, Quantity]
    all_users: tuple[Quantity, Quantity]
    dies: Quantity | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a chip is made and used.

    ``volume``: cards that share what is spent once. ``model``: of the yield. ``die``: mm² that a
    die may have, or None for the reticle. ``changes``: quantities in place of the data's own.
    """

    volume: float = 10_000
    model: str = "murphy"
    redundancy: Redundancy = field(default_factory=Redundancy)
    die: float | None = None
    changes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_model(self.model)
        check_within("volume", self.volume, 1, 1e12, "cards")
        for name, value in self.changes.items():
            check_change(name, value)


def check_change(name: str, value: float) -> None:
    """Raise :class:`BadInput` for a value that the quantity cannot have."""
    low, high, unit = LIMITS.get(name, (0, 1e12, ""))
    check_within(name.replace("_", " "), value, low, high, unit)


@dataclass(frozen=True, slots=True)
class Cost:
    """The figures of a chip's cost (``UNITS`` lists them), and what they were computed from."""

    chip: Chip
    terms: Terms
    inputs: Mapping[str, Quantity]
    figures: Mapping[str, Figure]

    def __getitem__(self, name: str) -> Quantity:
        return self.figures[name].quantity

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: figure.as_dict() for name, figure in self.figures.items()}


def cost(chip: Chip, process: Figures, node: float, terms: Terms | None = None) -> Cost:
    """What a chip costs on a process of ``node`` nm.

    Raises :class:`BadInput` for a die that no reticle or wafer takes, or a negative price.
    """
    terms = terms or Terms()
    inputs = inputs_of(chip, process, node, terms)
    check_die(terms, inputs)
    figures = derive(lambda v: money(v, terms), inputs, UNITS, f"silicon.cost, {terms.model} yield")
    return Cost(chip, terms, inputs, figures)


def inputs_of(chip: Chip, process: Figures, node: float, terms: Terms) -> dict[str, Quantity]:
    """Everything a cost is computed from, with the terms' changes in it."""
    inputs = {name: process[name] for name in FROM_PROCESS}
    inputs |= packaging()
    inputs |= {"design_cost": design_cost(node), "area": chip.area,
               "cut": chip.dies or ONE_DIE}  # fmt: skip
    inputs |= {name: q for name, q in economics().items() if name != "prompt_share"}
    for mode in MODES:
        inputs[f"{mode}_rate"], inputs[f"{mode}_watts"] = getattr(chip, mode)
    for name, value in terms.changes.items():
        if name not in inputs:
            raise BadInput(f"what is changed must be one of {', '.join(inputs)}, not {name!r}")
        inputs[name] = exactly(value, inputs[name].unit, "asked for")
    return inputs


def check_die(terms: Terms, inputs: Mapping[str, Quantity]) -> None:
    """Raise :class:`BadInput` for a die that cannot be made."""
    area, diameter = inputs["area"], inputs["wafer_diameter"].number
    if area.known and not area.number > 0:
        raise BadInput(f"die area must be positive, not {area.number:g} mm2")
    reticle = inputs["reticle"].number
    if terms.die is not None and not 0 < terms.die <= reticle:
        raise BadInput(
            f"die must be above 0 and at most the reticle of {reticle:g} mm2, not {terms.die:g}",
            hint="without --die the model is split into as many dies as it needs",
        )
    # a die's diagonal must lie on the wafer; the tighter bound where the wafer is tiny
    limit = reticle if terms.die is None else terms.die
    die = min(area.number, limit) if area.known else limit
    if gross_dies(die, diameter) < 1:
        raise BadInput(f"die must fit the wafer of {diameter:g} mm, not have {die:g} mm2")


def money(v: Mapping[str, float], terms: Terms) -> dict[str, float]:
    """The figures of a cost, by plain arithmetic."""
    limit = v["reticle"] if terms.die is None else terms.die
    silicon = v["area"] * (1 + terms.redundancy.area)
    fewest = silicon / limit
    dies = fewest if math.isnan(fewest) else float(max(math.ceil(fewest), round(v["cut"])))
    area = silicon / dies
    gross = gross_dies(area, v["wafer_diameter"])
    share = die_yield(
        area / 100 * v["defect_density"], terms.model,
        clustering=v["clustering"], redundancy=terms.redundancy,
    )  # fmt: skip
    good = gross * share
    good_die = v["wafer_price"] / good if good else math.nan
    packaged = (good_die + v["package_price"] + v["test_price"]) / v["package_yield"]
    card = dies * (packaged + v["board_price"] + v["host_price"])
    first = v["design_cost"] + v["mask_set"]
    following = v["model_cost"] + v["programmable_mask"] * v["programmable_layers"]
    prices = [(card + once / terms.volume) / (1 - v["margin"]) for once in (first, following)]
    made = {
        "dies": dies, "gross_dies": gross, "yield": share, "good_dies": good,
        "good_die_usd": good_die, "cost_per_die_usd": packaged, "card_cost_usd": card,
        "first_chip_usd": first, "next_model_usd": following,
        "card_price_usd": prices[0], "next_model_card_price_usd": prices[1],
    }  # fmt: skip
    for mode in MODES:
        made[f"{mode}_usd_per_mtoken"] = per_mtoken(v, prices[0], mode)
        made[f"next_model_{mode}_usd_per_mtoken"] = per_mtoken(v, prices[1], mode)
    return made


def per_mtoken(v: Mapping[str, float], price: float, mode: str) -> float:
    """USD of a million tokens, of a machine of that price."""
    watts, rate = v[f"{mode}_watts"], v[f"{mode}_rate"]
    return yearly(v, price, watts) / (rate * v["utilisation"] * SECONDS) * 1e6


def yearly(v: Mapping[str, float], price: float, watts: float) -> float:
    """USD of a year: the machine's share of its life, its upkeep and its power."""
    busy = v["utilisation"] + (1 - v["utilisation"]) * v["idle"]
    energy = watts / 1000 * busy * HOURS * v["pue"] * v["electricity"]
    return price * (1 / v["years"] + v["upkeep"]) + energy


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Cards after which what is spent once is paid back.

    ``share``: of what is spent once, that one card saves over its life; ``cards``: its inverse,
    from the best end of the range to the worst; None is never.
    """

    share: Figure
    low: int | None
    value: int | None
    high: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        q = self.share.quantity
        return {
            "value": self.value, "low": self.low, "high": self.high, "unit": "card",
            "grade": q.grade, "blocked_by": q.blocked_by,
            "moved_by": list(self.share.moves)[:3],
        }  # fmt: skip


def break_even(
    made: Cost,
    mode: str,
    once: str,
    rate: Quantity,
    yearly_usd: Callable[[Mapping[str, float]], float],
    others: Mapping[str, Quantity],
) -> BreakEven:
    """After how many cards a chip pays back against another machine, both one user or both full.

    ``once``: ``first_chip_usd`` or ``next_model_usd``; ``rate``: the other's tokens/s;
    ``yearly_usd``: from the inputs, with ``others`` among them, USD of the other's year. Each card
    does the same tokens as so many of the other, at the same utilisation; it counts at its cost,
    without margin: who spends once sells to himself.
    """
    inputs = {**made.inputs, **others, "other_rate": rate}

    def model(v: Mapping[str, float]) -> dict[str, float]:
        figures = money(v, made.terms)
        ours = yearly(v, figures["card_cost_usd"], v[f"{mode}_watts"])
        theirs = yearly_usd(v) * v[f"{mode}_rate"] / v["other_rate"]
        return {"share": (theirs - ours) * v["years"] / figures[once]}

    source = f"silicon.cost, saved by a card over its life, of {once}"
    share = derive(model, inputs, {"share": "1"}, source)["share"]
    if not share.quantity.known:
        return BreakEven(share, None, None, None)
    low, high = share.quantity.bounds
    return BreakEven(share, *(cards(end) for end in (high, share.quantity.number, low)))


def cards(share: float) -> int | None:
    """Cards that pay the whole back, or None for never."""
    return math.ceil(1 / share - 1e-9) if share > 0 else None
