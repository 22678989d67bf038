"""Where drivers stand at an array's left: of a row's word lines, and of each of its product lines.

All transistors of a row stand beside each other with horizontal gates: sources, gates and
drains follow upwards from the row's lower edge, as many on each other as a row is high.
N and P regions are stripes over all rows; their supplies are stripes of met2 above them.

- ``word``: two inverters, ``row`` to ``row_n`` to the word line.
- ``line``: a NOR of ``row_n`` and ``bit_n``, and an inverter, whose output is local interconnect
  across the product lines; one contact ties it to its own.

``row_n`` runs on met3 over the line drivers, the word line on met3 at the row's lower edge.
"""

from dataclasses import dataclass
from functools import cached_property

from intaglio.layout.geometry import Geometry, finger, overhang, tap_height
from intaglio.layout.pen import Span, on_grid, pad
from intaglio.layout.rules import Rules

CURRENT = 10_080 / 576  # nm of an inverter's N transistor per column: it discharges their sum lines
PULL_UP = 3  # as much narrower is its P transistor
NOR = (1680, 420)  # nm, width of each P and N transistor of a NOR
FOLDS = 2  # parts that its P transistors come in, where a row is high enough
WORD = ((1680, 3360), (2520, 5040))  # nm, N and P of both inverters
MOST_FINGERS = 6  # of a word driver
TRACK = 940  # nm, of row_n above a row's lower edge


@dataclass(frozen=True, slots=True)
class Inverter:
    """Where one stands. ``pad``: middle of its gates' contact; ``n``, ``p``: its regions."""

    pad: int
    n: Span
    p: Span

    @property
    def link(self) -> int:
        """The middle of its output, between the regions."""
        return (self.n[1] + self.p[0]) // 2


@dataclass(frozen=True, slots=True)
class Line:
    """Where a line's driver stands: contacts of ``row_n`` and ``bit_n``, the NOR, the inverter."""

    row_n: int
    bit_n: int
    p: Span
    n: Span
    inverter: Inverter


@dataclass(frozen=True)
class Drivers:
    """Where everything stands at the left of arrays of ``rows`` rows and ``columns`` columns."""

    g: Geometry
    r: Rules
    rows: int
    columns: int

    @cached_property
    def fingers(self) -> int:
        """Gates on each other: an even number."""
        free = self.g.row - 2 * overhang(self.r) - self.r["difftap.3"]
        return free // finger(self.r) // 2 * 2

    @property
    def folds(self) -> int:
        """Parts of a NOR's pair of P transistors, above each other."""
        return FOLDS if self.fingers >= 2 * FOLDS else 1

    @property
    def word_fingers(self) -> int:
        """Of a word driver's inverters."""
        return min(self.fingers, MOST_FINGERS)

    @property
    def bus(self) -> int:
        """The pitch of the rows' wires of met2: a router's tracks."""
        return self.r.tracks["met2"][0]

    @property
    def track(self) -> int:
        """The middle of ``row_n`` above its row's lower edge."""
        return TRACK

    @cached_property
    def gap(self) -> int:
        """Between an N and a P region."""
        return self.r["difftap.9"] + self.r["difftap.8"]

    @cached_property
    def clear(self) -> int:
        """From a region to a link of local interconnect beside it."""
        return self.r["li.3"]

    def width(self, whole: float, fingers: int) -> int:
        """Of one of so many gates that are so wide together."""
        return max(on_grid(round(whole / fingers), 2 * self.r.grid), self.r["difftap.2"])

    def inverter(self, contact: int, n: float, p: float, fingers: int) -> Inverter:
        """An inverter whose gates' contact has that middle."""
        li = self.r["li.1"]
        left = contact + li // 2 + self.r["li.3"] + li + self.clear
        left = on_grid(left, 2 * self.r.grid)
        middle = left + self.width(n, fingers)
        right = middle + self.gap
        return Inverter(contact, (left, middle), (right, right + self.width(p, fingers)))

    def after(self, inverter: Inverter) -> int:
        """The first middle of a contact on poly at the right of an inverter."""
        li = self.r["li.1"]
        return on_grid(inverter.p[1] + self.clear + li + self.r["li.3"] + li // 2, 2 * self.r.grid)

    @cached_property
    def word(self) -> tuple[Inverter, Inverter]:
        """The row's two inverters, at the right of the rows' wires."""
        start = self.rows * self.bus + self.bus
        one = self.inverter(start, *WORD[0], self.word_fingers)
        return one, self.inverter(self.after(one), *WORD[1], self.word_fingers)

    @cached_property
    def lines(self) -> list[Line]:
        """The drivers of a row's product lines, from the left."""
        found: list[Line] = []
        before = self.word[1]
        for _ in range(self.g.lines):
            found.append(self.line(self.after(before)))
            before = found[-1].inverter
        return found

    def line(self, row_n: int) -> Line:
        """A line's driver whose leftmost contact has that middle."""
        r = self.r
        patch = pad("met1", "mcon", r)[0]
        bit_n = row_n + patch + r["m1.2"]
        left = bit_n + r["licon.1"] // 2 + r["licon.9"] + r["psd.5a"]
        left = on_grid(left, 2 * r.grid)
        p = left, left + NOR[0] // self.folds
        n = p[1] + self.gap, p[1] + self.gap + NOR[1]
        end = n[1] + r["poly.8"] + r["poly.2"] + (r["licon.1"] + 2 * r["licon.8"]) // 2
        needs = self.columns * CURRENT
        inverter = self.inverter(on_grid(end, 2 * r.grid), needs, needs / PULL_UP, self.fingers)
        return Line(row_n, bit_n, p, n, inverter)

    @cached_property
    def end(self) -> int:
        """Where the array begins: so that contacts stand on whole two steps of the grid."""
        last, r = self.lines[-1].inverter, self.r
        well = self.well_tap(last)[1] + r["difftap.10"]
        corner = (self.g.column - self.g.contact) // 2  # of a contact in its column
        return on_grid(max(self.after(last), well) + r["nwell.2a"] + corner, 2 * r.grid) - corner

    def well_tap(self, inverter: Inverter) -> Span:
        """The tap of an inverter's well in a strip of taps."""
        left = inverter.p[0] + self.inset
        return left, left + tap_height(self.r) + 2 * self.r["licon.7"]

    @cached_property
    def inset(self) -> int:
        """How far taps stay from the sides of their region, for implants beside them."""
        r = self.r
        return on_grid(r["nsd.2"] + r["nsd.5a"] + r["nsd.5b"] - self.gap, 2 * r.grid)

    @cached_property
    def inverters(self) -> list[tuple[Inverter, int]]:
        """All inverters, with their fingers."""
        words = [(each, self.word_fingers) for each in self.word]
        return words + [(line.inverter, self.fingers) for line in self.lines]

    @cached_property
    def grounds(self) -> list[Span]:
        """Stripes of met2 over N regions."""
        return [(each.n[0], each.n[1] - 2 * 20) for each, _ in self.inverters]

    @cached_property
    def supplies(self) -> list[Span]:
        """Stripes of met2 over P regions."""
        found = [(each.p[0] + 2 * 20, each.p[1]) for each, _ in self.inverters]
        return sorted([*found, *(line.p for line in self.lines)])

    @cached_property
    def wells(self) -> list[Span]:
        """N wells."""
        side = self.r["difftap.8"]
        found: list[Span] = []
        for each in self.word:
            found.append((each.p[0] - side, max(self.well_tap(each)[1], each.p[1]) + side))
        for line in self.lines:
            found[-1] = found[-1][0], line.p[1] + side
            each = line.inverter
            found.append((each.p[0] - side, max(self.well_tap(each)[1], each.p[1]) + side))
        return found
