"""From a checkpoint to a card: steps in days, and whether a promise of days holds.

Two ways. A next model waits for its programmable layer only: base wafers of the shape lie ready.
The first chip of a shape needs its design, all masks and all layers. Steps follow one another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intaglio.errors import BadInput
from intaglio.quantity import Quantity, check_within, numbers
from intaglio.silicon.cost import Figures
from intaglio.silicon.derived import Figure, derive, exactly
from intaglio.silicon.market import figure, figures, table

FILE = "turnaround.yaml"
PROMISE = 61.0
DAY = 86400.0
WEEK = 7.0
UNITS = {
    "layers_above": "1", "mask_write_one": "day", "mask_write_set": "day",
    "sign_off_model": "day", "design_shape": "day", "bring_up_model": "day",
    "bring_up_shape": "day", "compile_exponent": "1", "proof_exponent": "1",
}  # fmt: skip
FROM_PROCESS = (
    "mask_layers", "programmable_layers", "days_per_mask_layer", "fab_weeks", "package_weeks",
)  # fmt: skip
WAYS = {
    "next_model": (
        "compile", "proof", "sign_off_model", "mask_write_one", "metal", "package",
        "bring_up_model",
    ),
    "first_chip": (
        "compile", "proof", "design_shape", "mask_write_set", "fab", "package", "bring_up_shape",
    ),
}  # fmt: skip
TITLES = {
    "compile": "compile", "proof": "proof in RTL", "sign_off_model": "sign-off",
    "design_shape": "physical design", "mask_write_one": "mask write", "mask_write_set":
    "mask write", "metal": "metal layers", "fab": "wafers", "package": "package, test",
    "bring_up_model": "bring-up", "bring_up_shape": "bring-up",
}  # fmt: skip
NOT_TO_BE_HAD = ("compile_exponent", "proof_exponent", "mask_layers", "parameters")
"""What nobody can agree on with a foundry, so that no promise is made to depend on it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``start`` and ``days``: when it begins and how long it takes, in days."""

    name: str
    start: Quantity
    days: Quantity

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name, "title": TITLES[self.name], "start": self.start.as_dict(),
            "days": self.days.as_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """What an input must be for the promise: at most ``needed``; it is now ``value``."""

    input: str
    value: float
    needed: float
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "input": self.input, "value": self.value, "at_most": self.needed, "unit": self.unit,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turnaround:
    """One way to a card.

    ``holds``: "all" where the whole range keeps the promise, "value" where the value does,
    "low end" where only the best of the range does, "none" where not even that. ``needed``: what
    must be true, together, for the value to keep it; empty where it does, and where nothing helps.
    """

    steps: tuple[Step, ...]
    total: Figure
    promise: float
    holds: str
    needed: tuple[Condition, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "days": self.total.as_dict(), "promise_days": self.promise, "holds": self.holds,
            "needed": [each.as_dict() for each in self.needed],
            "steps": [each.as_dict() for each in self.steps],
        }  # fmt: skip


def turnaround(
    process: Figures,
    parameters: float,
    *,
    promise: float = PROMISE,
    changes: Mapping[str, float] | None = None,
) -> dict[str, Turnaround]:
    """Both ways to a card of a model of so many ``parameters``, by name.

    ``changes``: values in place of the data's own; of ``layers_above`` a number of mask layers.
    """
    check_within("promise", promise, 0.01, 36_500, "days")
    inputs = inputs_of(process, parameters, changes or {})
    return {way: one_way(way, inputs, promise) for way in WAYS}


def inputs_of(
    process: Figures, parameters: float, changes: Mapping[str, float]
) -> dict[str, Quantity]:
    """Everything the days are computed from."""
    if not parameters >= 1:
        raise BadInput(f"parameters must be at least 1, not {parameters:g}")
    inputs = {name: process[name] for name in FROM_PROCESS}
    inputs |= figures(table("turnaround"), UNITS, FILE, beside={"measured"})
    inputs["layers_above"] = layers_above(inputs.pop("layers_above"), inputs["mask_layers"])
    for name, value in changes.items():
        if name not in inputs:
            raise BadInput(f"what is changed must be one of {', '.join(inputs)}, not {name!r}")
        most = inputs["mask_layers"].bounds[1] if name == "layers_above" else 10_000
        check_within(name.replace("_", " "), value, 0, most)
        inputs[name] = exactly(value, inputs[name].unit, "asked for")
    return inputs | measured(parameters)


def layers_above(share: Quantity, layers: Quantity) -> Quantity:
    """Mask layers from the programmable one on, as one input: a share of a process's."""
    inputs = {"share": share, "layers": layers}
    model = lambda v: {"above": v["share"] * v["layers"]}  # noqa: E731
    return derive(model, inputs, {"above": "1"}, share.source)["above"].quantity


def measured(parameters: float) -> dict[str, Quantity]:
    """The measured times of the nearest model, in seconds, and how much larger this one is."""
    known = table("turnaround")["measured"]
    size = {name: float(values["parameters"]) for name, values in known.items()}
    name = min(size, key=lambda key: max(size[key] / parameters, parameters / size[key]))
    place = f"{FILE}: measured: {name}"
    return {
        "measured_compile": figure(known[name]["compile"], "s", f"{place}: compile"),
        "measured_proof": figure(known[name]["proof"], "s", f"{place}: proof"),
        "parameters": exactly(parameters / size[name], "1", f"parameters over those of {name}"),
    }


def days(v: Mapping[str, float], way: str) -> dict[str, float]:
    """Every step of a way in days, and ``total``."""
    every = {
        "compile": v["measured_compile"] * v["parameters"] ** v["compile_exponent"] / DAY,
        "proof": v["measured_proof"] * v["parameters"] ** v["proof_exponent"] / DAY,
        "metal": v["layers_above"] * v["days_per_mask_layer"],
        "fab": v["fab_weeks"] * WEEK,
        "package": v["package_weeks"] * WEEK,
        **{name: v[name] for name in UNITS if UNITS[name] == "day"},
    }
    made = {name: every[name] for name in WAYS[way]}
    return {**made, "total": sum(made.values())}


def one_way(way: str, inputs: Mapping[str, Quantity], promise: float) -> Turnaround:
    """One way as steps, and what becomes of the promise."""
    names = WAYS[way]

    def model(v: Mapping[str, float]) -> dict[str, float]:
        made, starts, at = days(v, way), {}, 0.0
        for name in names:
            starts[f"start {name}"] = at
            at += made[name]
        return {**made, **starts}

    units = dict.fromkeys([*names, *(f"start {name}" for name in names), "total"], "day")
    made = derive(model, inputs, units, f"silicon.turnaround, {way.replace('_', ' ')}")
    steps = tuple(Step(name, made[f"start {name}"].quantity, made[name].quantity) for name in names)
    total = made["total"]
    verdict = holds(total.quantity, promise)
    needed = () if verdict in ("all", "value", "unknown") else needs(way, inputs, total, promise)
    return Turnaround(steps, total, promise, verdict, needed)


def holds(total: Quantity, promise: float) -> str:
    """How much of a range keeps a promise."""
    if not total.known:
        return "unknown"
    low, high = total.bounds
    for end, word in ((high, "all"), (total.number, "value"), (low, "low end")):
        if end <= promise:
            return word
    return "none"


def needs(
    way: str, inputs: Mapping[str, Quantity], total: Figure, promise: float
) -> tuple[Condition, ...]:
    """What must be true, together, for the value to keep the promise.

    The inputs that move the days most go to their best ends first, the last of them only as far as
    it must; empty where even all of them do not help. Days grow with every input.
    """
    values = numbers(inputs)
    needed: list[Condition] = []
    for name in total.moves:
        if name in NOT_TO_BE_HAD:
            continue
        before, best = values[name], inputs[name].bounds[0]
        values[name] = best
        if days(values, way)["total"] > promise:
            needed.append(Condition(name, before, best, inputs[name].unit))
            continue
        low, high = best, before
        for _ in range(60):
            values[name] = (low + high) / 2
            kept = days(values, way)["total"] <= promise
            low, high = (values[name], high) if kept else (low, values[name])
        return (*needed, Condition(name, before, low, inputs[name].unit))
    return ()
