"""Quantities: a value with its range, unit, grade and source; and how ranges pass through models.

A data file states each as a mapping; a value that nobody knows is null and says what that blocks.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from intaglio.errors import BadInput

GRADES = (
    "exact",
    "silicon",
    "post-layout",
    "synthesis",
    "measured",
    "published claim",
    "inferred",
    "assumed",
)
"""How far a quantity can be trusted, best first. "exact": counted, from a plan or a model."""

KEYS = {"value", "low", "high", "unit", "grade", "source", "year", "blocked_by"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """One figure.

    ``value`` is null only with ``blocked_by``, the reason. ``low`` and ``high``: what it may be,
    both given or the value itself. ``year``: of the source, or None for what is derived here.
    """

    value: float | None
    unit: str
    grade: str
    source: str
    low: float | None = None
    high: float | None = None
    year: int | None = None
    blocked_by: str | None = None

    def __post_init__(self) -> None:
        if self.grade not in GRADES:
            raise BadInput(f"grade must be one of {', '.join(GRADES)}, not {self.grade!r}")
        for name in ("unit", "source"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise BadInput(f"{name} must be a text, not {text!r}")
        if self.value is None:
            if not self.blocked_by or self.low is not None or self.high is not None:
                raise BadInput("a null value must say what it is blocked_by, without low and high")
            return
        if self.blocked_by is not None:
            raise BadInput("blocked_by must be of a null value only")
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not all(map(is_number, (low, self.value, high))) or not low <= self.value <= high:
            raise BadInput(
                f"value must be finite and between low and high, not {self.value} in {low}..{high}"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def known(self) -> bool:
        """There is a value."""
        return self.value is not None

    @property
    def number(self) -> float:
        """The value. Raises :class:`BadInput` where nobody knows it."""
        if self.value is None:
            raise BadInput(f"unknown: {self.blocked_by}")
        return self.value

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high. Raises :class:`BadInput` where nobody knows them."""
        number = self.number
        return (
            number if self.low is None else self.low,
            number if self.high is None else self.high,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: every key, always."""
        return asdict(self)


def is_number(value: Any) -> bool:
    """A finite real number that is no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def quantity(values: Any, place: str) -> Quantity:
    """The quantity that a data file states at ``place``. Raises :class:`BadInput` naming it."""
    if not isinstance(values, Mapping):
        raise BadInput(f"{place}: must be a mapping with value, unit, grade and source")
    missing = {"value", "unit", "grade", "source", "year"} - set(values)
    if missing:
        raise BadInput(f"{place}: has no {', '.join(sorted(missing))}")
    if unknown := {str(key) for key in values} - KEYS:
        raise BadInput(f"{place}: unknown key {', '.join(sorted(unknown))}")
    if ("low" in values) != ("high" in values):
        raise BadInput(f"{place}: low and high must both be there, or neither")
    try:
        return Quantity(**values)
    except BadInput as error:
        raise BadInput(f"{place}: {error.message}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a data file. Raises :class:`BadInput` naming the file."""
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: cannot be read: {reason}") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: must be a mapping")
    return values


@dataclass(frozen=True, slots=True)
class Spread:
    """A result of a model, and how each input that is not certain moves it alone.

    ``moves``: result with the input at its low and at its high end, all others at their values;
    the input that moves it most first.
    """

    value: float
    low: float
    high: float
    moves: dict[str, tuple[float, float]]


def spread(
    model: Callable[[Mapping[str, float]], Mapping[str, float]], inputs: Mapping[str, Quantity]
) -> dict[str, Spread]:
    """Results of ``model`` over the ranges of its inputs.

    Each result's range is taken at the corner to which every input alone moves it: exact for a
    model that is monotone in each input, whatever the other inputs are. All inputs must be known.
    """
    nominal = {name: q.number for name, q in inputs.items()}
    central = dict(model(nominal))
    moves: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in central}
    for name, q in inputs.items():
        low, high = q.bounds
        if low == high:
            continue
        ends = [model({**nominal, name: end}) for end in (low, high)]
        for result in central:
            moves[result][name] = (ends[0][result], ends[1][result])
    return {
        result: _corner(model, inputs, nominal, result, value, moves[result])
        for result, value in central.items()
    }


def _corner(
    model: Callable[[Mapping[str, float]], Mapping[str, float]],
    inputs: Mapping[str, Quantity],
    nominal: dict[str, float],
    result: str,
    value: float,
    moves: dict[str, tuple[float, float]],
) -> Spread:
    """The range of one result, and its moves in order."""
    least, most = dict(nominal), dict(nominal)
    for name, (at_low, at_high) in moves.items():
        ends = inputs[name].bounds
        least[name], most[name] = ends if at_low <= at_high else ends[::-1]
    seen = [value, *(end for pair in moves.values() for end in pair)]
    seen += [model(least)[result], model(most)[result]]
    order = sorted(moves, key=lambda name: -abs(moves[name][1] - moves[name][0]))
    return Spread(value, min(seen), max(seen), {name: moves[name] for name in order})
