"""Shapes of the drivers at an array's left; where they stand is :class:`Drivers`'."""

from intaglio.layout.driver import TRACK, Drivers, Inverter, Line
from intaglio.layout.geometry import finger, gate, overhang, tap_height
from intaglio.layout.pen import Pen, Span, around, on_grid, pad
from intaglio.layout.rules import Rules


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
