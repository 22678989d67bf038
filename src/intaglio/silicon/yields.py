"""How many dies of a wafer work: gross dies, and yield with and without repair.

Defects are a mixed Poisson process: their density differs from die to die, by Murphy's triangle or
by a gamma distribution (the negative binomial). Repair then has an exact form: a die works if it
has no defect where nothing can be repaired and at most so many where something can.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from intaglio.errors import BadInput

MODELS = ("murphy", "negative-binomial")
MOST_REPAIRS = 150
"""Defects that spares may repair on a die: a bound of the arithmetic, far above any die's."""


@dataclass(frozen=True, slots=True)
class Redundancy:
    """Spare columns. ``repairable``: share of a die's area that they can stand in for; ``repairs``:
    defects that they can repair on a die; ``area``: share of a die that they take themselves."""

    repairable: float = 0.0
    repairs: int = 0
    area: float = 0.0

    def __post_init__(self) -> None:
        for name in ("repairable", "area"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} share must be from 0 to 1, not {getattr(self, name):g}")
        if not 0 <= self.repairs <= MOST_REPAIRS:
            raise BadInput(f"repairs must be from 0 to {MOST_REPAIRS}, not {self.repairs}")


def check_model(name: str) -> None:
    """Raise :class:`BadInput` unless the yield model is known."""
    if name not in MODELS:
        raise BadInput(f"yield model must be one of {', '.join(MODELS)}, not {name!r}")


def gross_dies(area: float, diameter: float) -> float:
    """Whole dies of ``area`` mm² on a wafer of ``diameter`` mm: pi r²/A - pi d/sqrt(2A)."""
    whole = math.pi * (diameter / 2) ** 2 / area - math.pi * diameter / math.sqrt(2 * area)
    return whole if math.isnan(whole) else float(max(math.floor(whole), 0))


def die_yield(
    defects: float,
    model: str = "murphy",
    *,
    clustering: float = 3.0,
    redundancy: Redundancy | None = None,
) -> float:
    """Share of dies that work, at ``defects`` on an average die.

    ``clustering``: alpha of the negative binomial; Murphy's has none.
    """
    check_model(model)
    if math.isnan(defects) or defects == 0:
        return math.nan if math.isnan(defects) else 1.0
    spare = redundancy or Redundancy()
    moment: Callable[[int], float]
    if model == "murphy":
        parts = [part(defects, order) for order in range(spare.repairs + 1)]
        moment = lambda count: murphy(parts, count)  # noqa: E731
    else:
        moment = lambda count: negative_binomial(defects, clustering, count)  # noqa: E731
    return sum(spare.repairable**count * moment(count) for count in range(spare.repairs + 1))


def negative_binomial(defects: float, clustering: float, count: int) -> float:
    """E[x^count exp(-x) / count!] of x by a gamma distribution of mean ``defects``.

    For a count of 0 it is the usual (1 + defects/alpha)^-alpha: no defect at all.
    """
    alpha = clustering
    scale = math.exp(math.lgamma(alpha + count) - math.lgamma(alpha) - math.lgamma(count + 1))
    return scale * (defects / alpha) ** count * (1 + defects / alpha) ** -(alpha + count)


def murphy(parts: list[float], count: int) -> float:
    """The same of x by Murphy's triangle, the sum of two uniform halves.

    For a count of 0 it is the usual ((1 - exp(-m))/m)².
    """
    return sum(parts[first] * parts[count - first] for first in range(count + 1))


def part(width: float, order: int) -> float:
    """E[u^order exp(-u) / order!] of u uniform from 0 to ``width``: a lower incomplete gamma."""
    if order == 0:
        return -math.expm1(-width) / width
    term = width**order * math.exp(-width) / math.factorial(order) / (order + 1)
    total, step = 0.0, order + 1
    while term > total * 1e-17:
        total += term
        step += 1
        term *= width / step
    return total
