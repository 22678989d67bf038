"""Sense amplifiers: what is beyond the end of an array's sum lines, one for every second column.

Outwards from the array: a transistor that pulls the sum line high while ``precharge_n`` is low, and
an inverter whose output is the column's bit. Two inverters share their supplies, so that a pair is
four columns wide. The wires of met3 above: supply, precharge, ground. Outputs go on in met2.
"""

from intaglio.layout.geometry import (
    Geometry,
    finger,
    overhang,
    pull_down_width,
    reserved,
    tap_height,
)
from intaglio.layout.pen import Pen, around, on_grid, pad
from intaglio.layout.rules import Rules


def pairs(g: Geometry, columns: int, odd: bool) -> list[tuple[int, int]]:
    """The middle of the first pair of every group of columns, and how many pairs it has."""
    middle = (2 if odd else 1) * g.column + g.column // 2
    return [(left + middle, count // 4) for left, count in g.groups(columns)]


def draw_strip(pen: Pen, g: Geometry, columns: int, odd: bool) -> None:
    """A strip below (or above, with the pen turned) an array of so many columns, at its left."""
    s, r, width = g.sense, pen.r, g.width(columns)
    for first, count in pairs(g, columns, odd):
        repeat, pitch = (count, 1), (4 * g.column, 0)
        draw_precharge(pen, g, first, repeat, pitch)
        draw_inverters(pen, g, first, repeat, pitch)
        last = first + (count - 1) * 4 * g.column
        over = g.column + r["difftap.2"] // 2 + r["psd.5a"]
        pen.box("psdm", (first - over, last + over), s.psdm[0])
        half = pair_width(r) // 2 + r["psd.5a"]
        pen.box("psdm", (first - half, last + half), s.psdm[1])
        tall = pull_down_width(r) + 2 * r["nsd.5a"]
        pen.box("nsdm", (first - half, last + half), around(s.pull_down, tall))
        ends = s.well_tap, s.pull_up
        pen.box("met1", around(first, r["m1.1"]), ends, repeat, pitch)
    draw_wells(pen, g, width)
    straps = g.straps(columns)
    for x in straps:
        draw_strap(pen, g, x)
    for y in s.gates:
        over = r["poly.1a"] // 2
        pen.box("poly", (straps[0] - over, straps[-1] + over), around(y, r["poly.1a"]))
    draw_rails(pen, g, columns)


def draw_precharge(
    pen: Pen, g: Geometry, middle: int, repeat: tuple[int, int], pitch: tuple[int, int]
) -> None:
    """The transistors on two sum lines, two gates each, and their drains' way up to them."""
    s, r = g.sense, pen.r
    flat = r["licon.1"] + 2 * r["li.5"], r["li.1"]
    for x in (middle - g.column, middle + g.column):
        ends = s.drains[0] - overhang(r), s.drains[1] + overhang(r)
        pen.box("diff", around(x, r["difftap.2"]), ends, repeat, pitch)
        for y in (s.source, *s.drains):
            for cut in ("licon", "mcon"):
                pen.square(cut, x, y, repeat, pitch)
            pen.box("li1", around(x, flat[0]), around(y, flat[1]), repeat, pitch)
        for y in s.drains:
            wide, high = pad("met1", "mcon", r)[::-1]
            pen.box("met1", around(x, wide), around(y, high), repeat, pitch)
            pen.square("via", x, y, repeat, pitch)
            wide, high = pad("met2", "via", r)
            pen.box("met2", around(x, wide), around(y, high), repeat, pitch)


def gates(r: Rules) -> tuple[int, int]:
    """Of a pair of inverters, from its middle: the centre of a gate, and of its output."""
    return finger(r) // 2, finger(r)


def pair_width(r: Rules) -> int:
    """The width of a pair's diffusion."""
    return 2 * (finger(r) + overhang(r))


def draw_inverters(
    pen: Pen, g: Geometry, middle: int, repeat: tuple[int, int], pitch: tuple[int, int]
) -> None:
    """Two inverters whose supply contacts are in the middle."""
    s, r = g.sense, pen.r
    centre, out = gates(r)
    for y, wide in ((s.pull_up, r["difftap.2"]), (s.pull_down, pull_down_width(r))):
        pen.box("diff", around(middle, pair_width(r)), around(y, wide), repeat, pitch)
        pen.square("licon", middle, y, repeat, pitch)
        pen.square("mcon", middle, y, repeat, pitch)
        tall = r["licon.1"] + 2 * r["li.5"]
        pen.box("li1", around(middle, r["li.1"]), around(y, tall), repeat, pitch)
    tall, inputs = r["licon.1"] + 2 * r["licon.8a"], []
    for side in (-1, 1):
        x = middle + side * centre
        ends = s.input - tall // 2, s.pull_down + pull_down_width(r) // 2 + r["poly.8"]
        pen.box("poly", around(x, r["poly.1a"]), ends, repeat, pitch)
        contact = middle + side * (
            on_grid(r["poly.2"] // 2, 2 * r.grid) + r["licon.8"] + r["licon.1"] // 2
        )
        inputs.append(contact)
        draw_input(pen, g, contact, middle + side * g.column, repeat, pitch)
        x = middle + side * out
        for y in (s.pull_up, s.pull_down):
            pen.square("licon", x, y, repeat, pitch)
        ends = (
            s.pull_up - r["licon.1"] // 2 - r["li.5"],
            s.pull_down + r["licon.1"] // 2 + r["li.5"],
        )
        pen.box("li1", around(x, r["li.1"]), ends, repeat, pitch)
        draw_output(pen, g, x, repeat, pitch)
    over = r["licon.1"] // 2 + r["licon.15"]  # two openings would be too near to each other
    pen.box("npc", (inputs[0] - over, inputs[1] + over), around(s.input, 2 * over), repeat, pitch)


def draw_input(
    pen: Pen, g: Geometry, x: int, sum_line: int, repeat: tuple[int, int], pitch: tuple[int, int]
) -> None:
    """From a sum line's drain to the gate of its inverter, in local interconnect."""
    s, r = g.sense, pen.r
    wide, tall = r["licon.1"] + 2 * r["licon.8"], r["licon.1"] + 2 * r["licon.8a"]
    pen.box("poly", around(x, wide), around(s.input, tall), repeat, pitch)
    pen.square("licon", x, s.input, repeat, pitch)
    half = r["li.1"] // 2
    ends = min(x, sum_line) - half, max(x, sum_line) + half
    pen.box(
        "li1", around(x, r["li.1"]), around(s.input, r["licon.1"] + 2 * r["li.5"]), repeat, pitch
    )
    pen.box("li1", ends, around(s.input, r["li.1"]), repeat, pitch)
    pen.box("li1", around(sum_line, r["li.1"]), (s.drains[1], s.input + half), repeat, pitch)


def draw_output(
    pen: Pen, g: Geometry, x: int, repeat: tuple[int, int], pitch: tuple[int, int]
) -> None:
    """From an inverter's output up to met2."""
    for cut, metal in (("mcon", "met1"), ("via", "met2")):
        pen.square(cut, x, g.sense.output, repeat, pitch)
        wide, high = pad(metal, cut, pen.r)
        pen.box(metal, around(x, wide), around(g.sense.output, high), repeat, pitch)


def draw_wells(pen: Pen, g: Geometry, width: int) -> None:
    """The well of the strip's P transistors, and taps of well and substrate."""
    s, r = g.sense, pen.r
    edge = tap_height(r) // 2 + r["nsd.5b"]
    pen.box("nwell", (0, width), (0, s.well))
    inner = (r["difftap.10"], width - r["difftap.10"])
    pitch = (2 * g.column, 0)
    for y, implant in ((s.well_tap, "nsdm"), (s.tap, "psdm")):
        pen.box("tap", inner, around(y, tap_height(r)))
        top = g.sense.height if implant == "psdm" else y + edge
        pen.box(implant, (inner[0] - r["nsd.5b"], inner[1] + r["nsd.5b"]), (y - edge, top))
        pen.box("li1", (g.column // 2, width - g.column // 2), around(y, r["li.1"]))
        repeat = (width // pitch[0] - 1, 1)
        for cut in ("licon", "mcon"):
            pen.square(cut, 2 * g.column, y, repeat, pitch)


def draw_strap(pen: Pen, g: Geometry, x: int) -> None:
    """From the precharge poly to its wire of met3, and the supplies between met1 and met3."""
    s, r = g.sense, pen.r
    tracks = wires(g, r)
    wide, tall = r["licon.1"] + 2 * r["licon.8a"], r["licon.1"] + 2 * r["licon.8"]
    contact = s.gates[1]
    pen.box("poly", around(x, r["poly.1a"]), s.gates)
    pen.box("poly", around(x, wide), around(contact, tall))
    pen.square("licon", x, contact)
    side = r["licon.1"] + 2 * r["licon.15"]
    pen.box("npc", around(x, side), around(contact, side))
    y = middle(tracks["precharge"])
    pen.box(
        "li1", around(x, r["li.1"]), (contact - r["licon.1"] // 2 - r["li.5"], y + r["ct.1"] // 2)
    )
    pen.stack(x, y, "mcon", "via", "via2")
    pen.stack(x, s.well_tap + r.grid, "via", "via2")
    ground = middle(tracks["VGND"])
    pen.stack(x, s.pull_down, "via")
    pen.stack(x, ground, "via2")
    pen.box("met2", around(x, pad("met2", "via2", r)[0]), (ground, s.pull_down))


def middle(span: tuple[int, int]) -> int:
    """The middle of a span, on a grid of 10 nm."""
    return (span[0] + span[1]) // 20 * 10


def wires(g: Geometry, r: Rules) -> dict[str, tuple[int, int]]:
    """The strip's wires of met3, by the heights of their edges."""
    space, end = r["m3.2"], g.sense.height - reserved(r)
    low = g.sense.input
    precharge = low - on_grid(r["via2.1a"] + 2 * r["m3.4"], 4 * r.grid), low
    return {
        "VPWR": (space // 2, precharge[0] - space),
        "precharge": precharge,
        "VGND": (precharge[1] + space, end),
    }


def draw_rails(pen: Pen, g: Geometry, columns: int) -> None:
    """Supply and ground on met1, as long as product lines, and the wires of met3."""
    s, r, width = g.sense, pen.r, g.width(columns)
    half = r["ct.1"] // 2 + r["m1.4"]
    for low, high in (
        (s.well_tap - half, s.well_tap + half),
        (s.source - half, s.source + half),
        (s.pull_up - half, s.pull_up + half),
        (s.pull_down - half, s.tap + half),
    ):
        pen.box("met1", (0, width), (low, high))
    for y in wires(g, r).values():
        pen.box("met3", (0, width), y)
