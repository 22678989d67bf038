"""A picture of a die: every tile to scale where it stands, coloured by what it holds, as SVG."""

from collections.abc import Iterator

from intaglio.layout.floorplan import Floorplan, Place
from intaglio.layout.pen import UM
from intaglio.layout.rules import Rules

COLOURS = {
    "q": ("#2f6fb7", "query (q)"), "k": ("#57a0d9", "key (k)"), "v": ("#9cc7ea", "value (v)"),
    "o": ("#2a8f85", "attention output (o)"), "gate": ("#c8702a", "gate"),
    "up": ("#e0a24a", "up"), "down": ("#a8442f", "down"), "head": ("#7a52a3", "head"),
    "rom": ("#6f6f6f", "ROM: embedding, constants"),
}  # fmt: skip
GROUND = "#f4f1ea"  # where no tile stands
WIDTH, KEY, LINE, TOP = 900, 330, 24, 44  # of the die, its key, a line of it, the heading


def die_picture(plan: Floorplan, r: Rules) -> str:
    """A die with its tiles. The rest of it is for standard cells and memories."""
    scale = WIDTH / (plan.width * UM)
    tall = plan.height * UM * scale
    whole = max(tall, LINE * (len(COLOURS) + 8)) + TOP + 8
    mm = [length * 1e-6 for length in (plan.width, plan.height)]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + KEY} {whole:.0f}" '
        'font-family="sans-serif" font-size="15">',
        f'<rect width="{WIDTH + KEY}" height="{whole:.0f}" fill="#ffffff"/>',
        f'<text x="2" y="26" font-size="19" fill="#222222">{len(plan.places):,} tiles on '
        f"{mm[0]:.2f} by {mm[1]:.2f} mm</text>",
        f'<rect x="1" y="{TOP}" width="{WIDTH - 2}" height="{tall:.1f}" fill="{GROUND}" '
        'stroke="#222222"/>',
    ]
    paths, areas = shapes(plan, r, scale, TOP)
    out += paths
    return "\n".join([*out, *key(plan, areas, scale), "</svg>", ""])


def shapes(
    plan: Floorplan, r: Rules, scale: float, top: float = 0
) -> tuple[list[str], dict[str, float]]:
    """A path of every colour, and the mm2 of its tiles.

    ``scale``: of um; ``top``: where the die's upper edge is.
    """
    areas = dict.fromkeys(COLOURS, 0.0)
    paths: dict[str, list[str]] = {name: [] for name in COLOURS}
    for place in plan.places:
        width, height = (length * UM for length in place.tile.size(r))
        name = group(place)
        areas[name] += width * height * 1e-6
        x, y = place.x * UM * scale, top + ((plan.height - place.y) * UM - height) * scale
        wide, high = width * scale, height * scale
        paths[name].append(f"M{x:.2f} {y:.2f}h{wide:.2f}v{high:.2f}h{-wide:.2f}z")
    made = [
        f'<path fill="{COLOURS[name][0]}" d="{"".join(path)}">'
        f"<title>{COLOURS[name][1]}</title></path>"
        for name, path in paths.items() if path
    ]  # fmt: skip
    return made, {name: area for name, area in areas.items() if paths[name]}


def group(place: Place) -> str:
    """What a tile's colour is by: its matrix, or that it holds a ROM."""
    name = place.tile.array.name.rpartition(".")[2]
    return name if name in COLOURS else "rom"


def key(plan: Floorplan, areas: dict[str, float], scale: float) -> Iterator[str]:
    """The colours in words with their tiles' area, and a bar of a millimetre or less."""
    x, y = WIDTH + 18, TOP + 14
    for name, area in areas.items():
        fill, text = COLOURS[name]
        yield f'<rect x="{x}" y="{y - 13}" width="22" height="15" fill="{fill}"/>'
        yield f'<text x="{x + 32}" y="{y}" fill="#222222">{text}: {area:.2f} mm²</text>'
        y += LINE
    rest = plan.area - sum(areas.values())
    yield f'<rect x="{x}" y="{y - 13}" width="22" height="15" fill="{GROUND}" stroke="#222222"/>'
    yield f'<text x="{x + 32}" y="{y}" fill="#222222">counters, memories ...: {rest:.2f} mm²</text>'
    length = next(step for step in (2000, 1000, 500, 200, 100, 50, 20, 10) if step * scale < 220)
    y += 2 * LINE
    yield f'<rect x="{x}" y="{y}" width="{length * scale:.1f}" height="4" fill="#222222"/>'
    yield f'<text x="{x}" y="{y + LINE}" fill="#222222">{length / 1000:g} mm</text>'
