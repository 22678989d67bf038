"""Where every tile stands on a die: an array's lanes above each other, arrays on shelves.

Above every lane of a fabric is a channel for the cells of its counters and product banks; all
channels are as high as the wanted area of the die allows. ROMs stand closer. Tiles stand on a
router's tracks and on rows of standard cells.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from intaglio.layout.fabric import Tile
from intaglio.layout.pen import on_grid
from intaglio.layout.rules import Rules

ROWS = 4  # tracks of met3 that a row of standard cells is high
MARGIN_ROWS, LEAST_ROWS = 12, 4  # rows at the die's edges, and between lanes
BESIDE = 10  # tracks of met4 from tile to tile


@dataclass(frozen=True, slots=True)
class Place:
    """A tile and its lower left corner on the die, nm."""

    tile: Tile
    x: int
    y: int


@dataclass(frozen=True)
class Floorplan:
    """A die, nm, and where its tiles stand. ``channel``: between lanes of a fabric."""

    width: int
    height: int
    channel: int
    places: tuple[Place, ...]

    @property
    def area(self) -> float:
        """mm2 of the die."""
        return self.width * self.height * 1e-12

    def of(self, array: str) -> list[Place]:
        """The tiles of one array."""
        return [place for place in self.places if place.tile.array.name == array]


@dataclass(frozen=True)
class Block:
    """An array's tiles in their places within it."""

    width: int
    height: int
    places: tuple[Place, ...]


def floorplan(
    cut: Mapping[str, Sequence[Tile]], fabrics: Iterable[str], r: Rules, wanted: float = 0
) -> Floorplan:
    """The die of all arrays, of ``wanted`` mm2 at least. ``fabrics``: the arrays with counters."""
    row = ROWS * r.tracks["met3"][0]
    counted = set(fabrics)

    def made(rows: int) -> Floorplan:
        blocks = [
            block(tiles, (rows if name in counted else LEAST_ROWS) * row, r)
            for name, tiles in cut.items()
        ]
        return shelves(blocks, rows * row, r)

    low, high = LEAST_ROWS, LEAST_ROWS
    while (found := made(high)).area < wanted:
        low, high = high, 2 * high
    while high - low > 1:  # shelves come out now and then with more left over: the least is kept
        middle = (low + high) // 2
        tried = made(middle)
        if tried.area < wanted:
            low = middle
            continue
        high, found = middle, min(found, tried, key=lambda each: each.area)
    return found


def block(tiles: Sequence[Tile], channel: int, r: Rules) -> Block:
    """An array's tiles, a channel above each; its lanes in as many piles as make it square."""
    beside, row = BESIDE * r.tracks["met4"][0], ROWS * r.tracks["met3"][0]
    sizes = {tile.base: tile.size(r) for tile in tiles}
    first = [tile for tile in tiles if tile.lane == 0]
    lefts = [0]
    for tile in first:
        lefts.append(on_grid(lefts[-1] + sizes[tile.base][0] + beside, r.tracks["met4"][0]))
    step = on_grid(max(high for _, high in sizes.values()) + channel, row)
    lanes = tiles[0].array.lanes
    piles = min(max(round(math.sqrt(lanes * step / lefts[-1])), 1), lanes)
    high = -(-lanes // piles)
    left = {tile.column: x for tile, x in zip(first, lefts, strict=False)}
    places = tuple(
        Place(tile, tile.lane // high * lefts[-1] + left[tile.column], tile.lane % high * step)
        for tile in tiles
    )
    return Block(-(-lanes // high) * lefts[-1], high * step, places)


def shelves(blocks: Sequence[Block], channel: int, r: Rules) -> Floorplan:
    """Blocks in their order beside each other on shelves, so wide that the die is most square."""
    side = math.isqrt(sum(each.width * each.height for each in blocks))
    widest = max(each.width for each in blocks)
    tried = (
        shelved(blocks, channel, max(side * share // 20, widest), r) for share in range(16, 36)
    )
    return min(tried, key=lambda each: max(each.width, each.height))


def shelved(blocks: Sequence[Block], channel: int, limit: int, r: Rules) -> Floorplan:
    """Blocks on shelves of a width at most."""
    row, grid = ROWS * r.tracks["met3"][0], r.tracks["met4"][0]
    edge = MARGIN_ROWS * row
    left = on_grid(edge, grid)
    places: list[Place] = []
    x, y, high, wide = left, edge, 0, 0
    for each in blocks:
        if x > left and x - left + each.width > limit:
            x, y, high = left, y + high, 0
        places += [Place(p.tile, x + p.x, y + p.y) for p in each.places]
        x, high = x + each.width, max(high, each.height)
        wide = max(wide, x)
    return Floorplan(
        on_grid(wide + edge, grid), on_grid(y + high + edge, row), channel, tuple(places)
    )
