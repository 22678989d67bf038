"""Where a router reaches a tile: every signal ends on a track of its own at the lower or upper
edge.

All signals leave a tile on met2, whose tracks run upwards. Even columns' outputs and product bits
end at the lower edge, odd columns' outputs at the upper one, the rows' wires at both. Each wire
ends beside the edge, where a router goes on in met2, and carries a landing for a via to met3 where
two tracks cross. The landings of even and odd tracks stand in two rows, so that all signals of an
edge can take their via at once: in one row, neighbours' met3 would come too near to each other.

A tile must stand on the tracks: its origin a multiple of their pitches from the grid's.
"""

from dataclasses import dataclass
from functools import cached_property

from intaglio.layout.driver import Drivers
from intaglio.layout.geometry import landings
from intaglio.layout.pen import Pen, Span, around, pad
from intaglio.layout.sense import gates, middle, pairs, wires


@dataclass(frozen=True, slots=True)
class Wire:
    """A signal's way out on met2: from ``x`` at height ``y`` to ``track``, and on it to an edge.

    ``upper``: to the lane's upper edge.
    """

    name: str
    direction: str
    x: int
    y: int
    track: int
    upper: bool


@dataclass(frozen=True)
class Access:
    """The ends of a lane's signals. Heights are above the lane's lower edge."""

    d: Drivers

    @cached_property
    def height(self) -> int:
        """Of the lane."""
        return self.d.g.lane(self.d.rows)

    @cached_property
    def top(self) -> int:
        """The upper end of the rows, where the odd columns' sense amplifiers begin."""
        return self.d.g.sense.height + self.d.g.rows_height(self.d.rows)

    @property
    def track(self) -> tuple[int, int]:
        """Pitch and offset of the tracks."""
        return self.d.r.tracks["met2"]

    def sense(self, distance: int, upper: bool) -> int:
        """The height that is so far from the array in a strip of sense amplifiers."""
        return self.top + distance if upper else self.d.g.sense.height - distance

    def nearest(self, x: int, low: int, high: int) -> int:
        """The track between two places that is nearest to a third."""
        pitch, offset = self.track
        first, last = -(-(low - offset) // pitch), (high - offset) // pitch
        assert first <= last, f"no track from {low} to {high}"
        index = round((x - offset) / pitch)
        return offset + pitch * min(max(index, first), last)

    def outputs(self, lane: int) -> list[Wire]:
        """Of every column of a lane, in their order."""
        found = [*self.strip_outputs(lane, False), *self.strip_outputs(lane, True)]
        return sorted(found, key=lambda wire: wire.x)

    def strip_outputs(self, lane: int, odd: bool) -> list[Wire]:
        """Of the columns of one strip of sense amplifiers, in their order.

        A wire keeps clear of its neighbours' vias, of straps, and of what leads sideways to them.
        """
        d, r = self.d, self.d.r
        places = [
            d.end + first + pair * 4 * d.g.column + side * gates(r)[1]
            for first, count in pairs(d.g, d.columns, odd)
            for pair in range(count)
            for side in (-1, 1)
        ]
        via, wide = pad("met2", "via", r)[0], pad("met2", "via2", r)[0]
        beside = via // 2 + r["m2.2"] + r["m2.1"] // 2
        strap = wide + r["m2.2"]
        fences = [(d.end + x, strap) for x in d.g.straps(d.columns)]
        fences += [(x, beside) for x in places]
        y = self.sense(d.g.sense.output, odd)
        tracks: list[int] = []
        for x in places:
            low = max(at + away for at, away in fences if at < x)
            high = min(at - away for at, away in fences if at > x)
            tracks.append(self.nearest(x, low, high))
        assert len(set(tracks)) == len(tracks), "two outputs on a track"
        first = lane * d.columns + odd
        return [
            Wire(f"out[{first + 2 * number}]", "OUTPUT", x, y, track, odd)
            for number, (x, track) in enumerate(zip(places, tracks, strict=True))
        ]

    def bits(self, lane: int) -> list[Wire]:
        """Of a lane's product bits, from their wires up along all rows."""
        d, r, found = self.d, self.d.r, []
        apart = pad("met2", "via2", r)[0] // 2 + r["m2.2"]
        y = self.sense(d.g.sense.output, False)
        for number, line in enumerate(d.lines):
            left = max(span[1] for span in (*d.supplies, *d.grounds) if span[1] < line.bit_n)
            track = self.nearest(line.bit_n, left + apart, line.p[0] - apart)
            name = f"bit_n[{lane * d.g.lines + number}]"
            found.append(Wire(name, "INPUT", line.bit_n, y, track, False))
        return found

    def precharges(self, lane: int) -> list[Wire]:
        """Of a lane's two strips of sense amplifiers, beside the rows' wires."""
        x = row_wire(self.d, self.d.rows)
        y = middle(wires(self.d.g, self.d.r)["precharge"])
        return [
            Wire(f"precharge_n[{2 * lane + odd}]", "INPUT", x, self.sense(y, odd), x, odd)
            for odd in (False, True)
        ]

    def rows(self) -> list[Wire]:
        """Of the rows' wires, which are on tracks from one edge to the other."""
        return [
            Wire(f"row[{row}]", "INPUT", row_wire(self.d, row), self.height // 2,
                 row_wire(self.d, row), upper)
            for row in range(self.d.rows)
            for upper in (False, True)
        ]  # fmt: skip

    def own(self, lane: int) -> list[Wire]:
        """Every wire of a lane but the rows'."""
        return [*self.outputs(lane), *self.bits(lane), *self.precharges(lane)]

    def landing(self, wire: Wire) -> tuple[Span, Span]:
        """The rectangle where a via may stand on a wire."""
        wide, high = pad("met2", "via2", self.d.r)
        y = landings(self.d.r)[wire.track // self.track[0] % 2]
        return around(wire.track, wide), around(self.height - y if wire.upper else y, high)

    def end(self, wire: Wire) -> tuple[Span, Span]:
        """The rectangle of a wire from its landing to beside the edge."""
        r, (low, high) = self.d.r, self.landing(wire)[1]
        edge = r["m2.2"] // 2
        ends = (high, self.height - edge) if wire.upper else (edge, low)
        return around(wire.track, r["m2.1"]), ends


def row_wire(d: Drivers, row: int) -> int:
    """The middle of a row's wire across all lanes."""
    pitch, offset = d.r.tracks["met2"]
    return offset + row * pitch


def draw_access(pen: Pen, access: Access) -> None:
    """The wires of a lane from their places to their tracks, and on to the edges."""
    r = access.d.r
    half, tall = r["m2.1"] // 2, pad("met2", "via", r)[1]  # as a via's, or a notch is left
    for wire in access.own(0):
        ends = sorted((wire.x, wire.track))
        pen.box("met2", (ends[0] - half, ends[1] + half), around(wire.y, tall))
        edge = access.end(wire)[1][1 if wire.upper else 0]
        low, high = sorted((wire.y, edge))
        pen.box("met2", around(wire.track, r["m2.1"]), (low, high))
        pen.box("met2", *access.landing(wire))
    for wire in access.rows():
        pen.box("met2", *access.landing(wire))
