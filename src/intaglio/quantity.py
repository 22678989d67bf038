"""Quantities: a value with its range, unit, grade and source; and how ranges pass through models.

A data file states each as a mapping; a value that nobody knows is null and says what that blocks.
"""

import math
import re
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
    "drawn",
    "simulated",
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
        for name, number in (("value", self.value), ("low", low), ("high", high)):
            if not is_number(number):
                raise BadInput(f"{name} must be a finite number, not {number!r}")
        if not low <= self.value <= high:
            raise BadInput(f"value must be between low and high, not {self.value} in {low}..{high}")
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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


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


def check_within(what: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise :class:`BadInput` for a number that somebody gave outside of ``low`` to ``high``."""
    if not low <= value <= high:  # NaN neither
        ends = f"{low:g} to {high:,.15g}{unit and ' '}{unit}"
        raise BadInput(f"{what} must be from {ends}, not {value:g}")


def numbers(quantities: Mapping[str, Quantity]) -> dict[str, float]:
    """The values by name. Raises :class:`BadInput` where nobody knows one."""
    return {name: q.number for name, q in quantities.items()}


class Loader(yaml.SafeLoader):
    """YAML in which 1e9 is a number, as everywhere else, and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises a :class:`yaml.YAMLError` for a key that stands twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"{', '.join(twice)} stands twice")
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    [*"+-.0123456789"],
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a data file. Raises :class:`BadInput` naming the file."""
    try:
        values = yaml.load(path.read_text("utf-8"), Loader)  # a safe one
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: cannot be read: {reason}") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: must be a mapping")
    return values


@dataclass(frozen=True, slots=True)
class Spread:
    """A result of a model, and how each input that is not certain moves it alone.

    ``low``, ``high``: where inputs err independently. ``least``, ``most``: where all err at once,
    each to the worst for this result. ``moves``: result with the input at its low and at its high
    end, all others at their values; the input that moves it most first.
    """

    value: float
    low: float
    high: float
    least: float
    most: float
    moves: dict[str, tuple[float, float]]


def spread(
    model: Callable[[Mapping[str, float]], Mapping[str, float]],
    inputs: Mapping[str, Quantity],
    together: Mapping[str, str] | None = None,
) -> dict[str, Spread]:
    """Results of ``model`` over the ranges of its inputs.

    ``low`` and ``high`` are the root of the sum of the squares of what each input does alone, as
    ratios where a result is positive (the propagation of independent errors, ISO GUM 5.1.2). Inputs
    that ``together`` puts into one group err as one: what they do is added first. ``least`` and
    ``most`` are taken at the corner to which every input alone moves the result: exact for a model
    that is monotone in each input, whatever the others are. All inputs must be known.
    """
    nominal = numbers(inputs)
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
        result: _spread(model, inputs, nominal, result, value, moves[result], together or {})
        for result, value in central.items()
    }


def _spread(
    model: Callable[[Mapping[str, float]], Mapping[str, float]],
    inputs: Mapping[str, Quantity],
    nominal: dict[str, float],
    result: str,
    value: float,
    moves: dict[str, tuple[float, float]],
    together: Mapping[str, str],
) -> Spread:
    """The ranges of one result, and its moves in order."""
    least, most = dict(nominal), dict(nominal)
    for name, (at_low, at_high) in moves.items():
        ends = inputs[name].bounds
        least[name], most[name] = ends if at_low <= at_high else ends[::-1]
    seen = [value, *(end for pair in moves.values() for end in pair)]
    seen += [model(least)[result], model(most)[result]]
    order = sorted(moves, key=lambda name: -abs(moves[name][1] - moves[name][0]))
    corners = min(seen), max(seen)
    low, high = independent(value, moves, together)
    return Spread(
        value, max(low, corners[0]), min(high, corners[1]), *corners,
        {name: moves[name] for name in order},
    )  # fmt: skip


def independent(
    value: float, moves: Mapping[str, tuple[float, float]], together: Mapping[str, str]
) -> tuple[float, float]:
    """The ends of a result whose inputs err independently, group by group."""
    ratios = value > 0 and all(end > 0 for pair in moves.values() for end in pair)
    down: dict[str, float] = {}
    up: dict[str, float] = {}
    for name, pair in moves.items():
        group = together.get(name, name)
        for ends, end in ((down, min(*pair, value)), (up, max(*pair, value))):
            step = abs(math.log(end / value)) if ratios else abs(end - value)
            ends[group] = ends.get(group, 0.0) + step
    low, high = math.hypot(*down.values()), math.hypot(*up.values())
    if ratios:
        return value * math.exp(-low), value * math.exp(high)
    return value - low, value + high
