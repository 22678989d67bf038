"""A picture of a tile: its layers in colour from below, as SVG, with a key and a scale."""

from dataclasses import dataclass
from math import inf

import gdstk
import numpy as np

from intaglio.errors import BadInput
from intaglio.layout.fabric import Tile, contacts
from intaglio.layout.pen import UM
from intaglio.layout.rules import Rules
from intaglio.layout.tile import base_cells
from intaglio.layout.views import contact_shapes

LAYERS = { # from below: fill, opacity, what it is
    "nwell": ("#d9c89a", 0.35, "N well"),
    "diff": ("#4f9d4f", 0.85, "diffusion"),
    "tap": ("#8fbf5f", 0.85, "tap"),
    "poly": ("#c9463d", 0.85, "poly: gates"),
    "licon": ("#3a3a3a", 0.7, "contact to poly, diffusion"),
    "li1": ("#8a63b8", 0.55, "local interconnect: stubs"),
    "met1": ("#3f78c9", 0.42, "metal 1: product lines"),
    "mcon": ("#111111", 0.55, "contact to metal 1, fixed"),
    "via": ("#6b6b6b", 0.6, "via"),
    "met2": ("#e0a63a", 0.35, "metal 2: sum lines"),
    "via2": ("#6b6b6b", 0.6, "via 2"),
    "met3": ("#5fb7b0", 0.35, "metal 3: word lines, pins"),
}  # fmt: skip
WEIGHT = ("#ff2fd0", 1, "contact to metal 1: the model")
WIDTH, KEY, LINE = 1000, 270, 22  # of the picture, its key, a line of it
MOST = 60_000  # shapes in a picture


Shapes = dict[str, list[tuple[float, float, float, float]]]
"""By layer: left, lower, right and upper ends of rectangles, um."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a tile, um."""

    x: float
    y: float
    width: float
    height: float


def picture(tile: Tile, codes: np.ndarray, r: Rules, window: Window | None = None) -> str:
    """A tile, or a part of it, as SVG. ``codes``: of the tile's array."""
    width, height = (length * UM for length in tile.size(r))
    view = window or Window(0, 0, width, height)
    # a window that is no number lies nowhere
    beside = view.x + view.width, view.y + view.height, width - view.x, height - view.y
    if not all(0 < size < inf for size in (view.width, view.height, *beside)):
        raise BadInput(
            f"the window must lie in the tile's {width:.2f} by {height:.2f} um and not be empty"
        )
    shapes = layers_of(tile, codes, r, view)
    count = sum(len(boxes) for boxes in shapes.values())
    if count > MOST:
        raise BadInput(
            f"{tile.name}: {count:,} shapes are too many for a picture, at most {MOST:,}",
            hint="show a part of it: --window X,Y,WIDTH,HEIGHT (um)",
        )
    scale = WIDTH / view.width
    styles = {**LAYERS, "weight": WEIGHT}
    tall = max(view.height * scale, LINE * (len(styles) + 4))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + KEY} {tall:.0f}" '
        'font-family="sans-serif" font-size="14">',
        f'<rect width="{WIDTH + KEY}" height="{tall:.0f}" fill="#ffffff"/>',
        f'<svg width="{WIDTH}" height="{view.height * scale:.1f}" '
        f'viewBox="0 0 {WIDTH} {view.height * scale:.1f}" shape-rendering="geometricPrecision">',
        *paths(shapes, view, scale),
    ]
    return "\n".join([*out, "</svg>", *key(view, scale, styles, shapes), "</svg>", ""])


def paths(shapes: Shapes, view: Window, scale: float) -> list[str]:
    """One element of SVG for every layer that is seen, from below."""
    return [
        f'<path fill="{fill}" fill-opacity="{opacity}" '
        f'd="{"".join(drawn(box, view, scale) for box in shapes[name])}"/>'
        for name, (fill, opacity, _) in {**LAYERS, "weight": WEIGHT}.items()
        if shapes[name]
    ]


def layers_of(tile: Tile, codes: np.ndarray, r: Rules, view: Window) -> Shapes:
    """What is seen of every layer."""
    (top,) = (cell for cell in base_cells([tile], r) if cell.name == tile.base)
    found = {}
    for name in LAYERS:
        number, datatype = r.layers[name]
        found[name] = seen(top.get_polygons(layer=number, datatype=datatype), view)
    found["weight"] = seen([*contact_shapes(contacts(tile, tile.codes(codes), r), r)], view)
    return found


def seen(polygons: list[gdstk.Polygon], view: Window) -> list[tuple[float, float, float, float]]:
    """Ends of the rectangles that reach into a window."""
    found = []
    for polygon in polygons:
        points = np.asarray(polygon.points)
        (left, low), (right, high) = points.min(0), points.max(0)
        if (
            right > view.x and left < view.x + view.width
            and high > view.y and low < view.y + view.height
        ):  # fmt: skip
            found.append((left, low, right, high))
    return found


def drawn(box: tuple[float, float, float, float], view: Window, scale: float) -> str:
    """A rectangle of the picture."""
    left, low, right, high = box
    left, right = max(left, view.x), min(right, view.x + view.width)
    low, high = max(low, view.y), min(high, view.y + view.height)
    x, y = (left - view.x) * scale, (view.y + view.height - high) * scale
    wide, tall = (right - left) * scale, (high - low) * scale
    return f"M{x:.1f} {y:.1f}h{wide:.1f}v{tall:.1f}h-{wide:.1f}z"


def key(
    view: Window,
    scale: float,
    styles: dict[str, tuple[str, float, str]],
    shapes: Shapes,
) -> list[str]:
    """What the colours are, of the layers that are seen, and a bar of a round length."""
    out, y = [], LINE
    for name in reversed(styles):
        fill, opacity, text = styles[name]
        if not shapes[name]:
            continue
        out += [
            f'<rect x="{WIDTH + 16}" y="{y - 12}" width="22" height="14" fill="{fill}" '
            f'fill-opacity="{max(opacity, 0.6)}"/>',
            f'<text x="{WIDTH + 46}" y="{y}" fill="#222222">{text}</text>',
        ]
        y += LINE
    length = next(
        step for step in (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0) if step * scale < 180
    )
    y += LINE
    return [
        *out,
        f'<rect x="{WIDTH + 16}" y="{y}" width="{length * scale:.1f}" height="4" fill="#222222"/>',
        f'<text x="{WIDTH + 16}" y="{y + LINE}" fill="#222222">{length:g} um</text>',
    ]
