"""The pictures of a report: floorplan, speed against context, model size and area."""

from collections.abc import Iterator
from html import escape

from intaglio.flow.sizes import Size
from intaglio.report.charts import (
    WIDE,
    Axis,
    Mark,
    Room,
    across,
    area,
    frame,
    labels,
    line,
    svg,
    text,
    upward,
)
from intaglio.report.facts import Facts
from intaglio.report.floorplan import GROUPS, Box, Die, Floorplan
from intaglio.silicon.baselines import machines
from intaglio.silicon.words import number, ranged, valued

UNITS = 1000.0  # of the floorplan's width
GAP = 0.06  # of a die between dies
MOST_ARROWS = 4  # dies for which the way of a token is drawn
REFERENCES = ("hc1", "h200")


def dies_wide(count: int) -> int:
    """Dies in a row."""
    wide = 1
    while wide * wide < count:
        wide += 1
    return wide


def floor_svg(plan: Floorplan) -> str:
    """All dies to one scale, a scale bar below."""
    count, largest = len(plan.dies), max(plan.dies, key=lambda die: die.area)
    side, high = (max(getattr(die, s) for die in plan.dies) for s in ("width", "height"))
    wide = 2 if count == 2 else dies_wide(count)
    deep = -(-count // wide)
    gap = side * GAP if count > 1 else 0.0
    scale = UNITS / (wide * side + (wide - 1) * gap)
    height = (deep * high + (deep - 1) * gap) * scale
    parts = []
    for index, die in enumerate(plan.dies):
        x, y = (index % wide) * (side + gap) * scale, (index // wide) * (high + gap) * scale
        inside = "".join(die_parts(die, plan, scale))
        parts.append(f'<g transform="translate({x:.2f} {y:.2f})">{inside}</g>')
    parts += scale_bar(largest, scale, height, count > 1)
    return (
        f'<svg class="floor" viewBox="0 0 {UNITS:.0f} {height + 56:.0f}" role="img" '
        f'aria-label="Floorplan to scale">{"".join(parts)}</svg>'
    )


def die_parts(die: Die, plan: Floorplan, scale: float) -> Iterator[str]:
    """A die: its pad ring, its pieces, its tiles' outlines and names, the way of a token."""
    ring = die.area - sum(each.box.area for each in die.drawn)
    yield rect(Box(0, 0, die.width, die.height), scale, "g-pads", share("pad ring", "", ring, plan))
    for each in die.drawn:
        words = share(each.piece.name, each.station, each.box.area, plan)
        yield rect(each.box, scale, f"g-{each.piece.group}", words)
    several = len(plan.dies) > MOST_ARROWS
    for _, box in die.tiles:
        yield rect(box, scale, "tile", "")
    if len(die.tiles) > 2 and not several:
        middles = [(scale * (b.x + b.width / 2), scale * (b.y + b.height / 2))
                   for _, b in die.tiles]  # fmt: skip
        yield line(middles, "way")
    for name, box in die.tiles:
        short = name.removeprefix("layer ").partition(",")[0]
        size = min(box.height * scale * 0.3, 26.0)
        if size >= 11 and box.width * scale > 0.62 * size * len(short) + 8:
            yield (
                f'<text x="{scale * box.x + 6:.1f}" y="{scale * box.y + size + 2:.1f}" '
                f'class="name" font-size="{size:.1f}">{escape(short)}</text>'
            )


def share(name: str, station: str, mm2: float, plan: Floorplan) -> str:
    """What is said of a piece: block, layer, area, share."""
    where = f" · {station}" if station else ""
    return f"{name}{where} · {mm2:.3g} mm² · {100 * mm2 / plan.area:.2g} % of the chip"


def rect(box: Box, scale: float, style: str, words: str) -> str:
    """A rectangle, with its words if it has any."""
    x, y, width, height = (scale * v for v in (box.x, box.y, box.width, box.height))
    open_tag = f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    if not words:
        return f'{open_tag} class="{style}"/>'
    return f'{open_tag} class="{style}"><title>{escape(words)}</title></rect>'


def scale_bar(die: Die, scale: float, y: float, several: bool) -> Iterator[str]:
    """A bar of a round length, and the sides of the die."""
    third = die.width / 3
    length = max((m for m in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if m <= third),
                 default=third)  # fmt: skip
    end = length * scale
    yield f'<path class="bar" d="M1 {y + 14:.1f}v12h{end:.1f}v-12"/>'
    yield (
        f'<text x="{end + 14:.1f}" y="{y + 30:.1f}" class="scale">{length:g} mm</text>'
        f'<text x="{UNITS:.0f}" y="{y + 30:.1f}" class="scale" text-anchor="end">'
        f"{'largest ' if several else ''}die {die.width:.3g} × {die.height:.3g} mm</text>"
    )


def context_chart(facts: Facts) -> str:
    """tokens/s of one user by position, with the range that the clock gives."""
    rate = facts.figures["tokens_per_second_per_user"]
    low, high = (end / rate.number for end in rate.bounds)
    points = sorted(facts.contexts.items())
    x = across([position + 1 for position, _ in points])
    x = Axis(1, max(facts.contexts) + 1, x.start, x.end)
    y = upward([value * high for _, value in points])
    lower = [(x(p + 1), y(v * low)) for p, v in points]
    upper = [(x(p + 1), y(v * high)) for p, v in points]
    middle = [(x(p + 1), y(v)) for p, v in points]
    parts = [
        *frame(x, y, "position in the context", "tokens/s, one user"),
        area([*lower, *reversed(upper)], "band"), line(middle, "curve"),
    ]  # fmt: skip
    for position, value in (points[0], points[-1]):
        first = position == points[0][0]
        parts.append(f'<circle class="dot" r="4" cx="{x(position + 1):.1f}" cy="{y(value):.1f}"/>')
        parts.append(text(x(position + 1) + (8 if first else -4), y(value) - 9,
                          number(value), "label", "start" if first else "end"))  # fmt: skip
    return svg(parts, "Tokens per second by position in the context")


def size_mark(size: Size) -> Mark:
    """A model among sizes."""
    low, high = size.rate.bounds
    dies = f"{size.dies} {'die' if size.dies == 1 else 'dies'}"
    mixture = size.active < 0.9 * size.parameters
    title = (
        f"{size.title}: {valued(size.rate)} tok/s ({ranged(size.rate)}), "
        f"{valued(size.silicon)} in {dies}"
    )
    label = size.title.removesuffix(" v0.3").removesuffix(" of 1.4 M weights")
    label = f"{label}, {dies}" if size.dies > 1 else label
    return Mark(size.parameters, size.rate.number, low, high, label, title,
                "diamond" if mixture else "dot")  # fmt: skip


def reference_marks(sizes: tuple[Size, ...]) -> Iterator[Mark]:
    """What was published of HC1 and H200 with one user, on models that stand among the sizes."""
    for name in REFERENCES:
        machine = machines()[name]
        for size in sizes:
            published = machine.published.get(size.name, {}).get("one_user")
            if published is not None and published.known:
                low, high = published.bounds
                title = f"{machine.title}, {size.title}: {valued(published)}, {published.source}"
                yield Mark(size.parameters, published.number, low, high, machine.title, title,
                           "diamond other" if size.active < 0.9 * size.parameters
                           else "dot other")  # fmt: skip


def sizes_chart(facts: Facts) -> str:
    """tokens/s of one user by the model's size, each on as much silicon as it needs."""
    sizes = [size for size in facts.sizes if size.rate.known]
    marks = [size_mark(size) for size in sizes]
    others = list(reference_marks(tuple(sizes)))
    own = facts.figures["tokens_per_second_per_user"]
    here = Mark(facts.planned.model.parameters, own.number, *own.bounds, "this chip",
                f"this chip: {valued(own)} tok/s", "dot here")  # fmt: skip
    every = [*marks, here, *others]
    x = across([mark.x for mark in every], log=True, width=WIDE)
    y = upward([v for mark in every for v in (mark.low, mark.high)], log=True)
    parts = frame(x, y, "parameters of the model", "tokens/s, one user")
    parts += [mark.draw(x, y) for mark in every]
    return svg(
        [*parts, *labels([here, *others, *marks], x, y)], "Tokens per second by model size", WIDE
    )


def lanes_chart(facts: Facts) -> str:
    """tokens/s of one user by silicon, over the rows of a layer; the planned chip among them."""
    rate, silicon = (facts.figures[n] for n in ("tokens_per_second_per_user", "area_mm2"))
    low, high = rate.bounds
    here = Mark(silicon.number, rate.number, low, high, "this chip",
                f"this chip: {valued(rate)} tok/s, {valued(silicon)}", "dot here")  # fmt: skip
    known = [each for each in facts.lanes if each.area.known and each.rate.known]
    marks = [
        Mark(
            each.area.number, each.rate.number, *each.rate.bounds,
            f"{each.rows} rows" if index % 2 == 0 else "",
            f"{each.rows} rows a layer: {valued(each.rate)} tok/s, {valued(each.area)}", "dot",
        )
        for index, each in enumerate(known)
    ]  # fmt: skip
    every = [here, *marks]
    ends = min(mark.x for mark in every), max(mark.x for mark in every)
    x = across(ends, log=ends[1] > 4 * ends[0])
    y = upward([v for mark in every for v in (mark.low, mark.high)], log=True)
    parts = frame(x, y, "silicon, mm²", "tokens/s, one user")
    reticle = facts.planned.process["reticle"].number
    taken: list[Room] = []
    if x.low < reticle < x.high:
        at, low = x(reticle), y.start - 10
        parts.append(f'<path class="limit" d="M{at:.1f} {y.end:.1f}V{y.start:.1f}"/>')
        parts.append(text(at + 6, low, f"reticle {reticle:.0f} mm²", "note"))
        taken += [(at, low - 12, at + 116, low + 4), (at - 3, y.end, at + 3, y.start)]
    order = sorted(marks, key=lambda mark: mark.x)
    parts.append(line([(x(mark.x), y(mark.y)) for mark in order], "curve thin"))
    parts += [mark.draw(x, y) for mark in every]
    return svg([*parts, *labels(every, x, y, taken)], "Tokens per second by silicon area")


def legend(plan: Floorplan) -> list[dict[str, str]]:
    """The colours, their words and shares."""
    return [
        {"group": name, "words": GROUPS[name], "share": f"{100 * part:.3g} %"}
        for name, part in plan.shares.items()
    ]  # fmt: skip
