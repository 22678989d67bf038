"""Search: the fastest chip under bounds of area and power.

What is searched: rows of each group of a layer and of the head (and by them lanes), positions that
attention takes per cycle, elements of a beat. The cell of every fabric is the smallest for its
rows. Nothing is drawn at random: the same question has the same answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from intaglio.architecture import Architecture
from intaglio.errors import DoesNotFit
from intaglio.plan.outline import Outline, outline, spine, widest_beat
from intaglio.plan.preset import Preset
from intaglio.plan.process import Process
from intaglio.plan.tiling import GROUPS, group_rows
from intaglio.quantity import numbers
from intaglio.silicon.model import inputs_of, silicon
from intaglio.silicon.request import Choices
from intaglio.silicon.words import number

MOST_ROWS = 4096
"""Rows of a layer beyond which no chip is looked for."""
MOST_POSITIONS = 128
NARROWEST_BEAT = 8
STEPS = (1, 2)
"""Rows that a move of the refinement takes from a group or gives to it."""

Rows = Mapping[str, int]
Model = Preset | Architecture


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a chip may not exceed: mm² and, for one user, W; None for no bound."""

    area: float | None = None
    power: float | None = None

    def broken(self, area: float, power: float) -> tuple[str, ...]:
        """The bounds that a chip breaks."""
        limits = {"area": (area, self.area), "power": (power, self.power)}
        return tuple(n for n, (value, most) in limits.items() if most is not None and value > most)


@dataclass(frozen=True)
class Point:
    """A chip that was looked at. ``rate``: tokens/s of one user, ``area``: mm², ``power``: W."""

    outline: Outline
    rows: Rows
    rate: float
    area: float
    power: float
    broken: tuple[str, ...]

    @property
    def better(self) -> tuple[float, float]:
        """What is larger for a better chip: speed, then smallness."""
        return (self.rate, -self.area)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plan = self.outline.plan
        return {
            "rows": dict(self.rows), "positions": plan.positions, "beat": plan.beat,
            "tokens_per_second_per_user": self.rate, "area_mm2": self.area, "power_w": self.power,
            "breaks": list(self.broken),
        }  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The fastest chip, and all that were looked at.

    ``binding``: the bound that keeps it slow. ``ended``: no bound does, but more positions per
    cycle than are looked for would be faster.
    """

    best: Point
    binding: str | None
    points: tuple[Point, ...]
    ended: bool

    def pareto(self) -> tuple[Point, ...]:
        """The chips than which none is smaller and as fast, the smallest first."""
        front: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.area, -point.rate)):
            if not front or point.rate > front[-1].rate:
                front.append(point)
        return tuple(front)


@dataclass
class Search:
    """One question: a model on a process, its shape, how it is used, under bounds.

    ``shape``: what :func:`~intaglio.plan.outline.outline` takes besides rows, positions and beat.
    ``numbers``: in place of a process' values, by name. ``beat``, ``positions``: where they are
    given already.
    """

    model: Model
    process: Process
    bounds: Bounds
    choices: Choices
    shape: Mapping[str, Any]
    numbers: Mapping[str, float] = field(default_factory=dict)
    beat: int | None = None
    positions: int | None = None

    def __post_init__(self) -> None:
        self.x = {**numbers(inputs_of(self.process)), **self.numbers}
        self.seen: dict[tuple, Point] = {}
        self.sizes = self._sizes()

    def run(self) -> Found:
        """The fastest chip. Raises :class:`DoesNotFit` where none keeps the bounds."""
        starts = list(self._starts())
        if not starts:
            raise self._nothing_fits()
        ranked = sorted(starts, key=lambda point: point.better, reverse=True)
        best = max((self._refined(point) for point in ranked[:2]), key=lambda point: point.better)
        binding, points = self._binding(best), tuple(self.seen.values())
        return Found(best, binding, points, binding is None and self._ended(best))

    def _starts(self) -> Iterator[Point]:
        """The fastest chips of each beat and number of positions, from the widest beat down.

        More positions take area from the fabrics, narrower beats cycles from everything: after two
        that are slower than the best none is faster.
        """
        fastest = 0.0
        for beat in reversed(self.beats()):
            best, worse = 0.0, 0
            for positions in self.positions_tried():
                found = self._fewest_rows(beat, positions)
                rate = found.rate if found else 0.0
                if found:
                    yield found
                worse = 0 if rate > best else worse + 1
                best = max(best, rate)
                if best and worse > 1:
                    break
            if best < fastest:
                return
            fastest = best

    def near(self, point: Point) -> Point | None:
        """The fastest chip with the beat and the positions of ``point``, not refined."""
        return self._fewest_rows(point.outline.plan.beat, point.outline.plan.positions)

    def beats(self) -> list[int]:
        """Beats to try."""
        if self.beat is not None:
            return [self.beat]
        most = widest_beat(spine(self.model))
        return list(powers(min(NARROWEST_BEAT, most), most))

    def positions_tried(self) -> list[int]:
        """Positions per cycle to try."""
        if self.positions is not None:
            return [self.positions]
        return list(powers(1, MOST_POSITIONS))

    def look(self, rows: Rows, beat: int, positions: int) -> Point:
        """The chip of these rows."""
        key = (*sorted(rows.items()), beat, positions)
        if key not in self.seen:
            made = outline(
                self.model, self.process, rows=rows, beat=beat, positions=positions, **self.shape
            )
            got = silicon(made, self.process, self.choices, self.x).headline(self.x)
            area, power = got["area_mm2"], got["power_w"]
            rate = got["tokens_per_second_per_user"]
            broken = self.bounds.broken(area, power)
            self.seen[key] = Point(made, dict(rows), rate, area, power, broken)
        return self.seen[key]

    def shared(self, total: int) -> dict[str, int]:
        """``total`` rows of a layer by the rule of fewest adders, and the head's as the mean's."""
        rows = group_rows(self.sizes, total)
        return {**rows, "head": max(total // len(GROUPS), 1)}

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Weights of every group of a layer, stored copies counted, as an area to be shared."""
        made = outline(self.model, self.process, rows=len(GROUPS), **self.shape)
        last = len(made.plan.layers) - 1  # of a mixture's layers, one that is
        stored, fabrics = made.stored(last), made.fabrics(last)
        return {
            group: (1, sum(fabrics[n].inputs * fabrics[n].outputs * stored[n] for n in names))
            for group, names in GROUPS.items()
        }

    def _fewest_rows(self, beat: int, positions: int) -> Point | None:
        """The fewest rows of a layer that keep the bounds; None where no number does."""
        low, high = len(GROUPS), len(GROUPS)
        while self.look(self.shared(high), beat, positions).broken:
            if high >= MOST_ROWS:
                return None
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self.look(self.shared(middle), beat, positions).broken:
                low = middle
            else:
                high = middle
        return self.look(self.shared(high), beat, positions)

    def _refined(self, point: Point) -> Point:
        """Rows moved within and between groups as long as it makes the chip better."""
        while True:
            better = max(self._moves(point), key=lambda other: other.better, default=point)
            if better.better <= point.better:
                return point
            point = better

    def _moves(self, point: Point) -> Iterator[Point]:
        """The chips around ``point`` that keep the bounds."""
        plan = point.outline.plan
        for rows in moved(point.rows):
            other = self.look(rows, plan.beat, plan.positions)
            if not other.broken:
                yield other

    def _binding(self, best: Point) -> str | None:
        """The bound that most of the faster chips around the best one break."""
        plan = best.outline.plan
        around = [
            self.look({**best.rows, group: rows - 1}, plan.beat, plan.positions)
            for group, rows in best.rows.items()
            if rows > 1
        ]
        broken = [name for point in around if point.rate > best.rate for name in point.broken]
        return max(sorted(set(broken)), key=broken.count) if broken else None

    def _ended(self, best: Point) -> bool:
        """Twice the most positions that are looked for would be faster, within the bounds."""
        positions = best.outline.plan.positions
        if self.positions is not None or positions < MOST_POSITIONS:
            return False
        wider = self.look(best.rows, best.outline.plan.beat, 2 * positions)
        return not wider.broken and wider.rate > best.rate

    def _nothing_fits(self) -> DoesNotFit:
        """The error for bounds that no chip keeps."""
        least = min(self.seen.values(), key=lambda point: point.area)
        bounds = " and ".join(
            f"{limit:,.6g} {unit}"
            for limit, unit in ((self.bounds.area, "mm2"), (self.bounds.power, "W"))
            if limit is not None
        )
        return DoesNotFit(
            f"no chip of this shape keeps to {bounds} on {self.process.name}: the smallest that "
            f"was found takes {number(least.area)} mm2 and {number(least.power)} W",
            hint="fewer bits, a smaller context, or a larger --die",
        )


def moved(rows: Rows) -> Iterator[dict[str, int]]:
    """Rows with a group's changed by a step, alone or with another group's in return."""
    for group in rows:
        for step in STEPS:
            if rows[group] <= step:
                continue
            fewer = {**rows, group: rows[group] - step}
            yield fewer
            for other in rows:
                if other != group:
                    for back in STEPS:
                        yield {**fewer, other: rows[other] + back}


def powers(low: int, high: int) -> Iterator[int]:
    """Powers of two times ``low`` up to ``high``."""
    while low <= high:
        yield low
        low *= 2


def search(
    model: Model,
    process: Process,
    bounds: Bounds,
    choices: Choices | None = None,
    **shape: Any,
) -> Found:
    """The fastest chip of ``model`` under ``bounds``; ``shape``: context, slots, bits ..."""
    return Search(model, process, bounds, choices or Choices(), shape).run()


@dataclass(frozen=True, slots=True)
class Change:
    """Another value of an input, and ``rate``: tokens/s of the fastest chip with it."""

    name: str
    now: float
    then: float
    unit: str
    rate: float


def changes(question: Search, found: Found) -> list[Change]:
    """What would make the answer faster, the most first.

    Every uncertain number at either end, one slot, and the next narrower width. Beat and positions
    stay, rows are chosen anew. What the chip cannot gain by is left out.
    """
    made = []
    for change, other in others(question):
        point = other.near(found.best)
        if point is not None and point.rate > found.best.rate:
            made.append(replace(change, rate=point.rate))
    return sorted(made, key=lambda change: -change.rate)


def others(question: Search) -> Iterator[tuple[Change, Search]]:
    """The same question with one thing changed."""
    for name, q in inputs_of(question.process).items():
        for end in sorted(set(q.bounds) - {q.number}):
            others = {**question.numbers, name: end}
            yield Change(name, q.number, end, q.unit, 0.0), replace(question, numbers=others)
    narrower = {3: 2, 4: 3, 6: 4, 8: 6}
    shape = question.shape
    for name, now, then in (
        ("slots", shape.get("slots"), 1),
        ("bits", shape.get("bits"), narrower.get(shape.get("bits", 0))),
    ):
        if isinstance(now, int) and then is not None and then < now:
            changed = replace(question, shape={**shape, name: then})
            yield Change(name, now, then, "", 0.0), changed
