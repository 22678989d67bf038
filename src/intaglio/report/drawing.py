"""Pictures of a chip's own masks: cells with the model's contacts, a tile's corner, its parts,
and the die.

All are of sky130's drawn tiles (``layout``), whatever process the figures are of.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np

from intaglio.flow.die import chip_floorplan
from intaglio.flow.package import Package
from intaglio.layout.die import PROCESS, chip_tiles, tile_codes
from intaglio.layout.die_picture import COLOURS, GROUND, shapes
from intaglio.layout.fabric import Tile
from intaglio.layout.pen import UM
from intaglio.layout.picture import LAYERS, WEIGHT, Shapes, Window, layers_of, paths
from intaglio.layout.rules import Rules, rules

WIDTH = 1000.0  # of every picture
ARRAY = "head"
"""The array whose first tile is shown: every chip has it."""
COLUMNS, ROWS = 32, 2  # of the picture of cells
BESIDE = (24.0, 16.0)  # um of a corner's drivers and of its array
BARS = (20000, 10000, 5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1, 0.5)  # um
PARTS = {
    "rows": ("#e0a63a", "wires of the rows"), "word": ("#c9463d", "word line drivers"),
    "line": ("#8a63b8", "product line drivers"), "cells": ("#7fb2e5", "the array: weights"),
    "strap": ("#5fb7b0", "straps of word lines"), "sense": ("#4f9d4f", "precharge and sense"),
}  # fmt: skip
"""A tile's parts: colour and words."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture, and what its colours are: colour and words, the uppermost layer first."""

    title: str
    svg: str
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Drawings:
    """The pictures of a chip. ``read``: of its slowest read, where masks were engraved."""

    tile: Tile
    made: tuple[Drawing, ...]
    size: tuple[float, float]
    read: dict[str, Any] | None


def drawings(package: Package) -> Drawings:
    """The pictures of a chip's masks, the same for the same model."""
    r = rules(PROCESS)
    whole = chip_tiles(package.plan, r)[ARRAY][0]
    _, codes = tile_codes(package.model, package.plan, whole.name)
    lane = codes[:, :1, : whole.columns]
    array = replace(whole.array, lanes=1, columns=whole.columns)
    one = Tile(array, 0, 1, 0, whole.columns)
    width, height = (length * UM for length in whole.size(r))
    stage = package.manifest["stages"].get("masks", {})
    made = (cells(one, lane, r), corner(one, lane, r), parts(whole, r), die(package, r))
    return Drawings(whole, made, (width, height), stage.get("figures", {}).get("read"))


def cells(tile: Tile, codes: np.ndarray, r: Rules) -> Drawing:
    """Some columns of two rows, with the model's own contacts."""
    d = tile.drivers(r)
    g, columns = d.g, min(COLUMNS, tile.columns)
    left, low = d.end + g.slot(0) * g.column, g.bottom(0) - g.first
    view = (left, low, columns * g.column, ROWS * g.row + 2 * g.first)
    return shapes_of("Cells: the model is the bright contacts", tile, codes, r, view)


def corner(tile: Tile, codes: np.ndarray, r: Rules) -> Drawing:
    """The last drivers of product lines, the array's first columns, senses below."""
    d = tile.drivers(r)
    driven, columns = (round(length / UM) for length in BESIDE)
    left = max(d.end - driven, 0)
    columns = min(columns, d.g.width(tile.drawn_columns))
    view = (left, 0, d.end - left + columns, d.g.bottom(ROWS))
    return shapes_of("A corner of a tile: drivers, array, sense below", tile, codes, r, view)


def shapes_of(
    title: str, tile: Tile, codes: np.ndarray, r: Rules, view: tuple[int, int, int, int]
) -> Drawing:
    """The shapes that are drawn within a window, nm."""
    window = Window(*(length * UM for length in view))
    seen = layers_of(tile, codes, r, window)
    scale = WIDTH / window.width
    inside = "".join(paths(seen, window, scale))
    return Drawing(title, picture(title, inside, window.height, scale), legend(seen))


def legend(seen: Shapes) -> tuple[tuple[str, str], ...]:
    """The layers that are seen, from above."""
    styles = {**LAYERS, "weight": WEIGHT}
    return tuple((fill, words) for name, (fill, _, words) in reversed(styles.items()) if seen[name])


def parts(tile: Tile, r: Rules) -> Drawing:
    """What a tile is made of, to scale; of several lanes the lowest."""
    d, (width, _) = tile.drivers(r), tile.size(r)
    scale = WIDTH / (width * UM)
    high = d.g.lane(tile.drawn_rows) * UM
    inside = "".join(
        f'<rect x="{x * UM * scale:.1f}" y="{(high - (y + tall) * UM) * scale:.1f}" '
        f'width="{wide * UM * scale:.1f}" height="{tall * UM * scale:.1f}" '
        f'fill="{PARTS[part][0]}"><title>{escape(PARTS[part][1])}</title></rect>'
        for part, x, y, wide, tall in lane_parts(tile, r, 0)
    )
    title = "A tile’s parts, to scale"
    return Drawing(title, picture(title, inside, high, scale), tuple(PARTS.values()))


def die(package: Package, r: Rules) -> Drawing:
    """Every tile of the chip in its place; the rest is for standard cells and memories."""
    plan = chip_floorplan(package)
    scale = WIDTH / (plan.width * UM)
    paths, areas = shapes(plan, r, scale)
    high = plan.height * UM
    ground = f'<rect width="{WIDTH:.0f}" height="{high * scale:.1f}" fill="{GROUND}"/>'
    rest = plan.area - sum(areas.values())
    words = [(name, f"{COLOURS[name][1]}: {area:.3g} mm²") for name, area in areas.items()]
    title = (
        f"The die’s {len(plan.places):,} tiles, placed on {plan.width * 1e-6:.3g} × "
        f"{plan.height * 1e-6:.3g} mm"
    )
    key = tuple((COLOURS[name][0], text) for name, text in words)
    between = (GROUND, f"counters, memories and all else, not drawn: {rest:.3g} mm²")
    return Drawing(title, picture(title, ground + "".join(paths), high, scale), (*key, between))


def lane_parts(tile: Tile, r: Rules, lane: int) -> Iterator[tuple[str, int, int, int, int]]:
    """Parts of a lane: name, left and lower end, width and height, nm."""
    d = tile.drivers(r)
    g, pitch = d.g, d.g.lane(tile.drawn_rows)
    low, strip = lane * pitch, g.sense.height
    rows, inner = low + strip, pitch - 2 * strip
    word, line = d.word[0].pad, d.lines[0].row_n
    ends = {"rows": (0, word), "word": (word, line), "line": (line, d.end)}
    for part, (left, right) in ends.items():
        high = pitch if part == "rows" else inner  # wires of rows cross all lanes
        yield part, left, low if part == "rows" else rows, right - left, high
    wide = g.width(tile.drawn_columns)
    yield "cells", d.end, rows, wide, inner
    for middle in g.straps(tile.drawn_columns):
        yield "strap", d.end + middle - g.column, rows, 2 * g.column, inner
    for below in (low, low + pitch - strip):
        yield "sense", d.end, below, wide, strip


def picture(title: str, inside: str, high: float, scale: float) -> str:
    """A picture with a bar of a round length. ``high``: um; ``scale``: of um."""
    tall = high * scale
    length = next((bar for bar in BARS if bar * scale < WIDTH / 4), BARS[-1])
    words = f"{length:g} µm" if length < 1000 else f"{length / 1000:g} mm"
    return (
        f'<svg class="drawn" viewBox="0 0 {WIDTH:.0f} {tall + 50:.0f}" role="img" '
        f'aria-label="{escape(title)}">'
        f'<rect width="{WIDTH:.0f}" height="{tall:.1f}" fill="#ffffff"/>{inside}'
        f'<path class="bar" d="M1 {tall + 12:.1f}v12h{length * scale:.1f}v-12"/>'
        f'<text class="scale" x="{length * scale + 16:.1f}" y="{tall + 34:.1f}">{words}'
        "</text></svg>"
    )
