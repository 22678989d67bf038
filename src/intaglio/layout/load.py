"""What of a row's columns select one product line: the load of that line's driver.

A line discharges every sum line that selects it, so the most loaded line of a tile says how long
its reads take. All lines of a fabric count: no magnitude is 0, and a lane without an input still
drives its sign bit. Of a ROM, whose lines carry constants, line 0 never falls.
"""

from dataclasses import dataclass

import numpy as np

from intaglio.layout.fabric import Tile


@dataclass(frozen=True, slots=True)
class Load:
    """The most loaded line of a tile. ``share``: of the columns of its row that select it."""

    tile: Tile
    lane: int
    row: int
    line: int
    share: float


def most_loaded(tile: Tile, codes: np.ndarray, *, rom: bool = False) -> Load:
    """The most loaded line of a tile, the first of several. ``codes``: of the tile's array.

    Columns that are drawn as padding count. ``share`` is 0 in a ROM whose codes are all 0.
    """
    padded = tile.codes(codes)[:, : tile.array.rows]
    best, place = -1, (0, 0, 0)
    for line in range(1 if rom else 0, 1 << tile.array.bits):
        counts = (padded == line).sum(2)
        if (most := int(counts.max())) > best:
            lane, row = divmod(int(counts.argmax()), tile.array.rows)
            best, place = most, (lane, row, line)
    lane, row, line = place
    return Load(tile, tile.lane + lane, row, line, best / padded.shape[2])
