"""Derived figures: what a model makes of quantities, with range, grade and what moves it most."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from intaglio.quantity import GRADES, Quantity, numbers, spread

TOGETHER = {
    "logic_scale": "logic area", "gate_area": "logic area",
    "full_adder_energy": "logic energy", "flop_energy": "logic energy",
    "gate_energy": "logic energy", "multiply_energy": "logic energy",
    "sram_energy": "memory energy", "rom_energy": "memory energy",
    "leakage_logic": "leakage", "leakage_sram": "leakage",
    "wire_capacitance": "wires", "wire_energy": "wires",
    "line_pitch": "cell rules", "cell_width": "cell rules", "rom_cell": "cell rules",
    "mask_set": "masks", "programmable_mask": "masks",
}  # fmt: skip
"""Inputs that were derived from each other or scaled by one rule: they err as one."""

NO_NUMBER = "the inputs leave no number"

Model = Callable[[Mapping[str, float]], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and how each uncertain input moves it alone, the strongest first.

    ``moves``: its value with that input at its low and at its high end. ``corners``: the least and
    the most it can be where all inputs err at once, each to the worst; None where nobody knows it.
    """

    quantity: Quantity
    moves: dict[str, tuple[float, float]]
    corners: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: the quantity's keys, ``corners`` and ``moves``."""
        return {
            **self.quantity.as_dict(), "corners": self.corners and list(self.corners),
            "moves": {k: list(v) for k, v in self.moves.items()},
        }  # fmt: skip


def derive(
    model: Model, inputs: Mapping[str, Quantity], units: Mapping[str, str], source: str
) -> dict[str, Figure]:
    """The results of ``model`` that ``units`` names, in those units.

    An input that nobody knows reaches the model as NaN; a result that becomes NaN by it is null
    and blocked by it. A result's grade is the worst of the inputs that move it, or of all inputs
    where none does; what is computed from published figures nobody published: it is inferred.
    """
    known = {name: q for name, q in inputs.items() if q.known}
    blind = {name: math.nan for name in inputs if name not in known}

    def complete(values: Mapping[str, float]) -> dict[str, float]:
        made = model({**values, **blind})
        return {name: 0.0 if math.isnan(made[name]) else made[name] for name in units}

    nominal = model({**numbers(known), **blind})
    ranges = spread(complete, known, TOGETHER)
    reason = "; ".join(str(inputs[name].blocked_by) for name in blind) or NO_NUMBER
    return {
        name: unknown(unit, source, reason)
        if math.isnan(nominal[name])
        else Figure(
            Quantity(
                ranges[name].value, unit, worst(known, ranges[name].moves), source,
                ranges[name].low, ranges[name].high,
            ),
            {key: ends for key, ends in ranges[name].moves.items() if ends[0] != ends[1]},
            (ranges[name].least, ranges[name].most),
        )
        for name, unit in units.items()
    }  # fmt: skip


def nested(made: Mapping[str, Figure], names: Sequence[str]) -> dict[str, Figure]:
    """The figures, those of ``names`` with ends that grow as they do: each is a part of the next.

    Inputs that err independently are combined for each figure alone, which may leave a part with a
    higher end than its whole. The range that is too narrow is widened to the other's end.
    """
    found, high = dict(made), -math.inf
    for name in names:
        high = max(high, found[name].quantity.bounds[1])
        found[name] = ending(found[name], found[name].quantity.bounds[0], high)
    low = math.inf
    for name in reversed(names):
        low = min(low, found[name].quantity.bounds[0])
        found[name] = ending(found[name], low, found[name].quantity.bounds[1])
    return found


def ending(figure: Figure, low: float, high: float) -> Figure:
    """A figure with other ends."""
    corners = figure.corners and (min(figure.corners[0], low), max(figure.corners[1], high))
    return replace(figure, quantity=replace(figure.quantity, low=low, high=high), corners=corners)


def unknown(unit: str, source: str, reason: str) -> Figure:
    """A figure that nobody knows."""
    return Figure(Quantity(None, unit, "assumed", source, blocked_by=reason), {})


def worst(inputs: Mapping[str, Quantity], moves: Mapping[str, tuple[float, float]]) -> str:
    """The worst grade among the inputs that move a result, or among all where none does; computed
    from published figures is inferred."""
    moving = [name for name, ends in moves.items() if ends[0] != ends[1]] or list(inputs)
    grade = max((inputs[name].grade for name in moving), key=GRADES.index)
    return "inferred" if grade == "published claim" else grade


def exactly(value: float, unit: str, source: str) -> Quantity:
    """A quantity that is counted or chosen."""
    return Quantity(value, unit, "exact", source)
