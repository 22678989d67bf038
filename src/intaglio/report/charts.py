"""Charts as inline SVG, coloured by the page's style sheet so that they read in light and dark.

Hand-written, for looks and so that the same input gives the same bytes. Text goes through
:func:`text`, which escapes it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from intaglio.silicon.words import number

WIDTH, HEIGHT = 520, 340
WIDE = 1080  # of a chart that has the page's width
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 30, 46
LETTER = 7.0  # width of a letter of the charts' text, at most


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to places. ``log``: equal ratios take equal room."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(max(at, self.low * 1e-6))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within."""
        if self.log:
            return log_ticks(self.low, self.high)
        step = round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_step(raw: float) -> float:
    """1, 2 or 5 times a power of ten, at least ``raw``."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        found = [m * 10.0**p for p in powers for m in steps]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if len(found) >= 4 or steps == (1, 2, 5):
            return found
    return []


def linear(values: Iterable[float], start: float, end: float) -> Axis:
    """An axis from 0 to a little above the values."""
    return Axis(0.0, max(values) * 1.08, start, end)


def logarithmic(values: Iterable[float], start: float, end: float) -> Axis:
    """A logarithmic axis around the values."""
    known = [value for value in values if value > 0]
    low, high = min(known), max(known)
    room = max(math.log(high / low) * 0.08, 0.25)
    return Axis(low * math.exp(-room), high * math.exp(room), start, end, log=True)


def across(values: Iterable[float], *, log: bool = False, width: float = WIDTH) -> Axis:
    """The axis of x on a chart of that width."""
    make = logarithmic if log else linear
    return make(values, LEFT, width - RIGHT)


def upward(values: Iterable[float], *, log: bool = False) -> Axis:
    """The axis of y."""
    make = logarithmic if log else linear
    return make(values, HEIGHT - BOTTOM, TOP)


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """A text, escaped."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def frame(x: Axis, y: Axis, x_title: str, y_title: str) -> list[str]:
    """Grid, ticks and titles of both axes."""
    parts = []
    for value in y.ticks():
        at = y(value)
        parts.append(f'<path class="grid" d="M{x.start:.1f} {at:.1f}H{x.end:.1f}"/>')
        parts.append(text(x.start - 8, at + 4.5, number(value), "tick", "end"))
    for value in x.ticks():
        at, shown = x(value), number(value).replace(" ", "")
        parts.append(f'<path class="grid" d="M{at:.1f} {y.end:.1f}V{y.start:.1f}"/>')
        parts.append(text(at, y.start + 18, shown, "tick", "middle"))
    parts.append(text((x.start + x.end) / 2, y.start + BOTTOM - 8, x_title, "title", "middle"))
    parts.append(text(x.start - 54, y.end - 15, y_title, "title"))
    return parts


def svg(parts: Iterable[str], label: str, width: float = WIDTH) -> str:
    """A whole chart."""
    style = "chart wide" if width > WIDTH else "chart"
    return (
        f'<svg class="{style}" viewBox="0 0 {width} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def line(points: Sequence[tuple[float, float]], style: str) -> str:
    """A line through places."""
    return f'<polyline class="{style}" points="{places(points)}"/>'


def area(points: Sequence[tuple[float, float]], style: str) -> str:
    """A filled outline."""
    return f'<polygon class="{style}" points="{places(points)}"/>'


def places(points: Iterable[tuple[float, float]]) -> str:
    """Places as SVG lists them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with its range upwards, what stands beside it, and what it says when pointed at."""

    x: float
    y: float
    low: float
    high: float
    label: str
    title: str
    style: str = "dot"

    def draw(self, across: Axis, up: Axis) -> str:
        """The point and its range."""
        x, y = across(self.x), up(self.y)
        low, high = up(self.low), up(self.high)
        shape = (
            f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" class="{self.style}">'
            if "diamond" in self.style
            else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{self.style}">'
        )
        close = "</path>" if "diamond" in self.style else "</circle>"
        bar = f'<line class="whisker {self.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2='
        bar += f'"{high:.1f}"/>'
        return f"{bar}{shape}<title>{escape(self.title)}</title>{close}"


Room = tuple[float, float, float, float]


def labels(marks: Sequence[Mark], across: Axis, up: Axis, taken: Sequence[Room] = ()) -> list[str]:
    """The labels of marks, each where it covers the least of what is there."""
    rooms: list[Room] = list(taken)
    for mark in marks:
        x, y = across(mark.x), up(mark.y)
        rooms.append((x - 7, y - 7, x + 7, y + 7))
        rooms.append((x - 2, up(mark.high), x + 2, up(mark.low)))
    parts = []
    for mark in marks:
        if not mark.label:
            continue
        x, y = across(mark.x), up(mark.y)
        wide = LETTER * len(mark.label)
        choices = [
            (x + dx - wide * share, y + dy, anchor, share)
            for dy in (4.5, -10, 19, -24, 33, -38, 47, -52, 61)
            for dx, anchor, share in ((10, "start", 0), (-10, "end", 1), (0, "middle", 0.5))
        ]
        best = min(
            choices,
            key=lambda c: (
                covered((c[0], c[1] - 12, c[0] + wide, c[1] + 3), rooms, across, up) + abs(c[1] - y)
            ),
        )
        left, base, anchor, share = best
        rooms.append((left, base - 12, left + wide, base + 3))
        if abs(base - y) > 20:  # far away: a thin line leads back
            end = base + 3 if base < y else base - 11
            parts.append(f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" '
                         f'x2="{left + wide * share:.1f}" y2="{end:.1f}"/>')  # fmt: skip
        parts.append(text(left + wide * share, base, mark.label, "label", anchor))
    return parts


def covered(room: Room, rooms: Iterable[Room], across: Axis, up: Axis) -> float:
    """How much of others a label would cover; leaving the chart is worst."""
    left, top, right, bottom = room
    out = max(across.start - left, 0) + max(right - across.end - RIGHT, 0)
    out += max(up.end - top, 0) + max(bottom - up.start, 0)
    total = 50 * out
    for a, b, c, d in rooms:
        wide, tall = min(right, c) - max(left, a), min(bottom, d) - max(top, b)
        if wide > 0 and tall > 0:
            total += wide * tall
    return total
