"""What a width of weights costs in accuracy, where somebody measured it: a first expectation.

``compile`` and ``evaluate`` measure a model itself; this is for a model of which only the
architecture is there.
"""

import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from intaglio.quantity import Quantity, quantity

FILE = "accuracy.yaml"
BETWEEN = "between models of {} and {} parameters by the logarithm of the size: {}; {}"


@cache
def measured() -> dict[int, tuple[tuple[float, Quantity], ...]]:
    """Growth of perplexity (%) by width: parameters of the model, and what it lost; by size."""
    path = Path(str(files("intaglio.silicon") / FILE))
    found: dict[int, list[tuple[float, Quantity]]] = {}
    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
    for number, entry in enumerate(entries):
        growth = quantity(entry["growth"], f"{FILE}: entry {number}: growth")
        found.setdefault(entry["bits"], []).append((float(entry["parameters"]), growth))
    return {bits: tuple(sorted(rows, key=lambda row: row[0])) for bits, rows in found.items()}


def expected_growth(parameters: float, bits: float) -> Quantity:
    """Growth of perplexity (%) of a model of so many parameters with weights of ``bits``.

    Of a size between two that were measured: between their values, with the range of both; outside
    them that of the nearest, inferred. Null for a width of which nothing was measured.
    """
    rows = measured().get(int(bits)) if bits == int(bits) else None
    if not rows:
        return Quantity(
            None, "%", "assumed", FILE, blocked_by=f"nobody measured weights of {bits:g} bits"
        )
    above = [row for row in rows if row[0] >= parameters]
    below = [row for row in rows if row[0] <= parameters]
    if not above or not below:
        (size, nearest) = (above or below[::-1])[0]
        return restated(nearest, f"as a model of {size:,.3g} parameters: {nearest.source}")
    (small, first), (large, second) = below[-1], above[0]
    if small == large:
        return first
    share = math.log(parameters / small) / math.log(large / small)
    value = first.number * (1 - share) + second.number * share
    ends = (*first.bounds, *second.bounds)
    source = BETWEEN.format(f"{small:,.3g}", f"{large:,.3g}", first.source, second.source)
    return Quantity(value, "%", "inferred", source, min(ends), max(ends))


def restated(q: Quantity, source: str) -> Quantity:
    """The same value for another model: inferred."""
    return Quantity(q.value, q.unit, "inferred", source, q.low, q.high)


def narrowest(parameters: float, limit: float) -> int | None:
    """The fewest bits whose expected growth is at most ``limit`` percent; None where none is."""
    for bits in sorted(measured()):
        growth = expected_growth(parameters, bits)
        if growth.known and growth.number <= limit:
            return bits
    return None
