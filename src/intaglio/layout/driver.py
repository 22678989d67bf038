"""Drivers at an array's left: of a row's word lines, and of each of its product lines.

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

from intaglio.layout.geometry import Geometry, finger, gate, overhang, tap_height
from intaglio.layout.pen import Pen, Span, around, on_grid, pad
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
        """The pitch of the rows' wires of met2."""
        return 460

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
        """Where the array begins."""
        last, r = self.lines[-1].inverter, self.r
        well = self.well_tap(last)[1] + r["difftap.10"]
        return on_grid(max(self.after(last), well) + r["nwell.2a"], 2 * r.grid)

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


def contacts_in(span: Span, r: Rules) -> tuple[int, int]:
    """The middle of the first contact in a region, and how many stand there."""
    pitch = r["ct.1"] + r["ct.2"]
    free = span[1] - span[0] - 2 * (r["licon.1"] // 2) - r["licon.1"]
    count = max(free // pitch + 1, 1)
    middle = (span[0] + span[1]) // 2
    return on_grid(middle - (count - 1) * pitch // 2, r.grid), count


def draw_bar(pen: Pen, span: Span, y: int, left: int | None, right: int | None) -> None:
    """Contacts along a region, and local interconnect on them, to either side where it leads."""
    r = pen.r
    first, count = contacts_in(span, r)
    pitch = r["ct.1"] + r["ct.2"]
    pen.square("licon", first, y, (count, 1), (pitch, 0))
    half = r["licon.1"] // 2 + r["li.5"]
    ends = first - half, first + (count - 1) * pitch + half
    low = ends[0] if left is None else left
    high = ends[1] if right is None else right
    pen.box("li1", (low, high), around(y, r["li.1"]))


def draw_inverter(pen: Pen, d: Drivers, each: Inverter, fingers: int, output: Span) -> None:
    """An inverter of a row; ``output``: heights that its output reaches besides its own."""
    r, step, low = d.r, finger(d.r), gate(d.r)[0]
    half, top = r["li.1"] // 2, fingers * finger(d.r)
    for span in (each.n, each.p):
        pen.box("diff", span, (-overhang(r), top + overhang(r)))
    for number in range(fingers):
        y = low + number * step, low + number * step + r["poly.1a"]
        pen.box("poly", (each.pad - r["poly.1a"] // 2, each.p[1] + r["poly.8"]), y)
    over = low + (fingers - 1) * step + r["poly.1a"]
    pen.box("poly", around(each.pad, r["poly.1a"]), (low, over))
    draw_gate(pen, each.pad, step, upright=True)
    ground = each.n[0] - d.clear - r["li.1"], each.n[0] - d.clear
    supply = each.p[1] + d.clear, each.p[1] + d.clear + r["li.1"]
    link = each.n[1] + d.clear, each.p[0] - d.clear
    for number in range(fingers + 1):
        y, out = number * step, number % 2
        draw_bar(pen, each.n, y, None if out else ground[0], link[1] if out else None)
        draw_bar(pen, each.p, y, link[0] if out else None, None if out else supply[1])
    for x in (ground, supply):
        pen.box("li1", x, (-half, top + half))
    pen.box("li1", link, (min(step - half, output[0]), max(top - step + half, output[1])))


def draw_gate(pen: Pen, x: int, y: int, upright: bool) -> None:
    """A contact on poly, and its local interconnect."""
    r = pen.r
    wide, tall = (r["licon.1"] + 2 * r[name] for name in ("licon.8", "licon.8a"))
    if not upright:
        wide, tall = tall, wide
    pen.box("poly", around(x, wide), around(y, tall))
    pen.square("licon", x, y)
    side = r["licon.1"] + 2 * r["licon.15"]
    pen.box("npc", around(x, side), around(y, side))
    pen.box("li1", around(x, r["li.1"]), around(y, r["licon.1"] + 2 * r["li.5"]))


def draw_nor(pen: Pen, d: Drivers, line: Line) -> None:
    """The NOR of a line's driver, its inputs at the row's two edges, its output at the inverter."""
    r, step, low = d.r, finger(d.r), gate(d.r)[0]
    half, top = r["li.1"] // 2, 2 * finger(d.r)
    pads = (
        low + r["poly.1a"] - (r["licon.1"] // 2 + r["licon.8"]),
        low + step + (r["licon.1"] // 2 + r["licon.8"]),
    )
    for span, height in ((line.p, top * d.folds), (line.n, top)):
        pen.box("diff", span, (-overhang(r), height + overhang(r)))
    for number, (x, y) in enumerate(zip((line.row_n, line.bit_n), pads, strict=True)):
        ends = low + number * step, low + number * step + r["poly.1a"]
        pen.box("poly", (x, line.n[1] + r["poly.8"]), ends)
        draw_gate(pen, x, y, upright=False)
    if d.folds > 1:
        draw_fold(pen, d, line)
    side = (r["licon.1"] + 2 * r["licon.15"]) // 2  # the two openings are too near to be two
    pen.box("npc", (line.row_n - side, line.bit_n + side), (pads[0] - side, pads[1] + side))
    pen.box("li1", around(line.row_n, r["li.1"]), (-half, pads[0]))
    pen.box("li1", around(line.bit_n, r["li.1"]), (pads[1], d.g.row + half))
    link = line.p[1] + d.clear, line.n[0] - d.clear
    draw_bar(pen, line.p, 0, None, None)
    draw_bar(pen, line.p, top, None, link[1])
    draw_bar(pen, line.n, 0, None, None)
    draw_bar(pen, line.n, step, link[0], line.inverter.pad)
    draw_bar(pen, line.n, top, None, None)
    pen.box("li1", link, (step - half, top + half))
    middle = (line.n[0] + line.n[1]) // 2
    pen.box("li1", around(middle, r["li.1"]), (top, d.g.row + half))


def draw_fold(pen: Pen, d: Drivers, line: Line) -> None:
    """The second part of a NOR's P transistors, mirrored above the first, its supply above it."""
    r, step, low = d.r, finger(d.r), gate(d.r)[0]
    wide = r["licon.1"] + 2 * r["licon.8a"]  # as its contact's pad, or a notch would be left
    for first, x, side in ((1, line.bit_n, wide), (0, line.row_n, r["poly.1a"])):
        y = low + (3 - first) * step, low + (3 - first) * step + r["poly.1a"]
        pen.box("poly", (x - r["poly.1a"] // 2, line.p[1] + r["poly.8"]), y)
        pen.box("poly", around(x, side), (low + first * step, y[1]))
    draw_bar(pen, line.p, 4 * step, None, None)
    middle = (line.p[0] + line.p[1]) // 2
    pen.box("li1", around(middle, r["li.1"]), (4 * step, d.g.row + r["li.1"] // 2))


def draw_edge(pen: Pen, d: Drivers) -> None:
    """Supply and ground at a row's lower edge, up to their stripes of met2."""
    for line in d.lines:
        n = line.inverter.n
        draw_supply(pen, d, (line.n[0], n[1]), n, 0)
        pen.square("mcon", (line.n[0] + line.n[1]) // 2, 0)
        draw_supply(pen, d, line.p, line.p, 0)
        draw_supply(pen, d, line.inverter.p, line.inverter.p, 0)
    for each in d.word:
        for span in (each.n, each.p):
            draw_supply(pen, d, span, span, 0)


def draw_top(pen: Pen, d: Drivers, y: int) -> None:
    """The upper edge of the last row below a strip of taps: supply and ground of its NORs."""
    high = pad("met1", "mcon", d.r)[1]
    for line in d.lines:
        n = line.inverter.n
        pen.square("mcon", (line.n[0] + line.n[1]) // 2, y)
        pen.box("met1", (line.n[0], n[1]), around(y, high))
        pen.square("via", (n[0] + n[1]) // 2 - 20, y)
        if d.folds > 1:
            middle = (line.p[0] + line.p[1]) // 2
            pen.stack(middle, y, "mcon", "via")


def draw_supply(pen: Pen, d: Drivers, bar: Span, region: Span, y: int) -> None:
    """A bar of met1, contacts below it in a region, and vias above those to the stripe."""
    r, high = d.r, pad("met1", "mcon", d.r)[1]
    pen.box("met1", bar, around(y, high))
    first, count = contacts_in(region, r)
    pitch = (r["ct.1"] + r["ct.2"], 0)
    pen.square("mcon", first, y, (count, 1), pitch)
    pen.square("via", first, y, (count, 1), pitch)


def draw_row(pen: Pen, d: Drivers) -> None:
    """The drivers of one row, whose lower edge is at height 0, without wells and implants."""
    g, r = d.g, d.r
    half = r["licon.1"] // 2
    for each, fingers in d.inverters[:2]:
        draw_inverter(pen, d, each, fingers, (TRACK - half, TRACK + half))
    draw_word_wires(pen, d)
    for number, line in enumerate(d.lines):
        y = g.first + number * g.line
        draw_nor(pen, d, line)
        draw_inverter(pen, d, line.inverter, d.fingers, (y - half, y + half))
        pen.square("mcon", line.inverter.link, y)
        over = r["ct.1"] // 2 + r["m1.5"]
        pen.box("met1", (line.inverter.link - over, d.end), around(y, g.line_width))
        pen.stack(line.bit_n, g.row, "mcon", "via")
        pen.stack(line.row_n, 0, "mcon", "via")
        pen.stack(line.row_n, TRACK, "via2")
        pen.box("met2", around(line.row_n, r["m2.1"]), (0, TRACK))
    draw_edge(pen, d)
    track = r["via2.1a"] + 2 * r["m3.4"]
    word = d.word[1].link, d.end
    row_n = d.word[0].link, d.lines[-1].row_n
    for x, y in ((word, 0), (row_n, TRACK)):
        pen.box("met3", (x[0] - track // 2, x[1] + track // 2), around(y, track))


def draw_word_wires(pen: Pen, d: Drivers) -> None:
    """A word driver's wires: its input from the left, from inverter to inverter, and up to met3."""
    r, (one, other) = d.r, d.word
    wide, high = pad("met1", "mcon", r)
    wire = around(TRACK, r["m1.1"])
    for each in (one, other):
        pen.box("li1", around(each.pad, r["li.1"]), (finger(r), TRACK + r["li.1"] // 2))
        pen.square("mcon", each.pad, TRACK)
        pen.box("met1", around(each.pad, wide), around(TRACK, high))
    pen.box("met1", (d.bus // 2, one.pad), wire)
    pen.box("met1", (one.link, other.pad), wire)
    pen.stack(one.link, TRACK, "mcon", "via", "via2")
    pen.stack(other.link, TRACK, "mcon", "via")
    pen.box("met2", around(other.link, r["m2.1"]), (0, TRACK))
    pen.stack(other.link, 0, "via2")


def draw_stripes(pen: Pen, d: Drivers, height: int) -> None:
    """Wells and implants of rows up to a height, above height 0: the lower edge of the first."""
    r = d.r
    low = -overhang(r)
    n = [each.n for each, _ in d.inverters] + [line.n for line in d.lines]
    p = [each.p for each, _ in d.inverters] + [line.p for line in d.lines]
    for spans, implant in ((n, "nsdm"), (p, "psdm")):
        side = r[f"{implant[0]}sd.5a"]
        for span in spans:
            pen.box(implant, (span[0] - side, span[1] + side), (low - side, height))


def draw_driver_taps(pen: Pen, d: Drivers, y: int) -> None:
    """Taps of substrate and wells in a strip about a height, and their way to the stripes."""
    r = d.r
    high = pad("met1", "mcon", r)[1]
    for each, _ in d.inverters:
        left = next((line.n[0] for line in d.lines if line.inverter is each), each.pad)
        tap, middle = (left + d.inset, each.n[1] - d.inset), (each.n[0] + each.n[1]) // 2 - 20
        draw_tap(pen, d, tap, y, "psdm")
        half = pad("met1", "via", r)[0] // 2
        pen.box("met1", (tap[0], max(middle + half, tap[1])), around(y, high))
        pen.square("via", middle, y)
        draw_tap(pen, d, d.well_tap(each), y, "nsdm")
        middle, tap = (each.p[0] + each.p[1]) // 2 + 20, d.well_tap(each)
        ends = min(middle - half, tap[0]), max(middle + half, tap[1])
        pen.box("met1", ends, around(y, high))
        pen.square("via", middle, y)
    for line in d.lines:
        draw_tap(pen, d, (line.p[0] + d.inset, line.p[1] - d.inset), y, "nsdm")
        pen.box("met1", line.p, around(y, high))
        pen.square("via", (line.p[0] + line.p[1]) // 2, y)


def draw_tap(pen: Pen, d: Drivers, span: Span, y: int, implant: str) -> None:
    """One tap, with contacts up to met1."""
    r = d.r
    edge = r["nsd.5b"]
    pen.box("tap", span, around(y, tap_height(r)))
    high = tap_height(r) // 2 + edge
    pen.box(implant, (span[0] - edge, span[1] + edge), (y - high, y + high))
    inner = span[0] + r["licon.7"] - r["licon.1"] // 2, span[1] - r["licon.7"] + r["licon.1"] // 2
    first, count = contacts_in(inner, r)
    pitch = r["ct.1"] + r["ct.2"]
    for cut in ("licon", "mcon"):
        pen.square(cut, first, y, (count, 1), (pitch, 0))
    half = r["licon.1"] // 2 + r["li.5"]
    pen.box("li1", (first - half, first + (count - 1) * pitch + half), around(y, r["li.1"]))
