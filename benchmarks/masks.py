"""Masks at scale: contacts a second, bits of file per code, memory, reading back; of random codes.

``python benchmarks/masks.py [MILLIONS] [COLUMNS]``: engraves so many million 3-bit codes tile by
tile, each of 40 rows by COLUMNS columns (default: the widest tile) and up to 2 mm high, by one
process and by one per processor, and reads the first tiles back.
"""

import math
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from intaglio.layout.die import file_name, pool, write_base, write_tile
from intaglio.layout.fabric import TILE_COLUMNS, Array, Tile, tiles
from intaglio.layout.geometry import geometry
from intaglio.layout.rules import rules
from intaglio.twin.engine import processors
from intaglio.verify.mask.read import read_tile
from intaglio.verify.mask.shapes import find_crossings, read_cells, read_layers

BITS, ROWS = 3, 40
READ = 10_000_000  # codes that are read back
PRESET = 8e9  # weights that are projected
KIB, GIB = 1024, 1e9


@dataclass(frozen=True, slots=True)
class Run:
    """Codes written, seconds on the wall and of the processor (of one process alone), bytes."""

    codes: int
    seconds: float
    processor: float
    size: int


def one_tile(columns: int) -> Tile:
    """The tile that is written again and again."""
    r = rules("sky130")
    lanes = max(2_000_000 // geometry(1 << BITS, r).lane(ROWS), 1)
    (tile,) = tiles(Array("random", BITS, ROWS, lanes, min(columns, TILE_COLUMNS)), r)
    return tile


def numbered(tile: Tile, number: int) -> Tile:
    """The same under another name."""
    return replace(tile, array=replace(tile.array, name=f"random{number}"))


def codes_of(tile: Tile, number: int) -> np.ndarray:
    """The random codes of one tile."""
    array = tile.array
    shape = (array.rows, array.lanes, array.columns)
    return np.random.default_rng(number).integers(0, 1 << BITS, shape, dtype=np.uint8)


def write(tile: Tile, count: int, jobs: int, folder: Path) -> Run:
    """Write so many tiles."""
    processor, started = 0.0, time.monotonic()
    with pool(jobs) as submit:
        for number in range(count):
            padded = tile.codes(codes_of(tile, number))
            before = time.process_time()
            submit(write_tile, folder, numbered(tile, number), padded)
            processor += time.process_time() - before
    seconds = time.monotonic() - started
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Run(count * tile.array.cells, seconds, processor, size)


def read(tile: Tile, count: int, folder: Path) -> tuple[float, float]:
    """Read tiles back and compare; contacts a second of processor time, seconds of the base."""
    write_base([tile], folder / "base.oas", rules("sky130"))
    started = time.process_time()
    layers = read_layers("sky130", "mcon")
    (base,) = [cell for cell in read_cells(folder / "base.oas") if cell.name == tile.base]
    where = find_crossings(base, layers, 1 << BITS)
    once = time.process_time() - started
    sheet = {"name": "random", "rows": tile.array.rows}
    part = {
        "base": tile.base, "lane": 0, "lanes": tile.lanes, "column": 0, "columns": tile.columns,
    }  # fmt: skip
    seconds = 0.0
    for number in range(count):
        codes = codes_of(tile, number)
        found = np.full_like(codes, 255)
        started = time.process_time()
        read_tile(folder / file_name(numbered(tile, number)), sheet, part, where, layers, found)
        seconds += time.process_time() - started
        assert np.array_equal(found, codes)
    return count * tile.array.cells / seconds, once


def peak(who: int) -> float:
    """MiB that a process held at most."""
    return resource.getrusage(who).ru_maxrss / KIB


def main(millions: float, columns: int) -> None:
    """Measure and print."""
    tile = one_tile(columns)
    count = max(math.ceil(millions * 1e6 / tile.array.cells), 1)
    with tempfile.TemporaryDirectory() as folder:
        one = write(tile, count, 1, Path(folder))
        held = peak(resource.RUSAGE_SELF)
        back, once = read(tile, min(count, max(READ // tile.array.cells, 1)), Path(folder))
    jobs = processors()
    with tempfile.TemporaryDirectory() as folder:
        many = write(tile, count, jobs, Path(folder))
    rate, bits = one.codes / one.processor, one.size * 8 / one.codes
    print(f"{one.codes:,} codes in {count} tiles of {tile.columns} columns, {one.size:,} bytes")
    print(f"written  {rate / 1e6:.1f} M contacts/s of processor time, {bits:.2f} bits per code")
    print(f"entropy  {BITS:.2f} bits per code")
    print(f"memory   {held:.0f} MiB at most, numpy and gdstk included")
    print(f"base     {once:.2f} s to read, once for all tiles of a kind")
    print(f"read     {back / 1e6:.1f} M contacts/s of processor time, equal")
    for run, processes in ((one, 1), (many, jobs)):
        wall = run.codes / run.seconds
        print(f"{processes} process(es): {run.seconds:.1f} s, {wall / 1e6:.1f} M contacts/s")
    print(f"memory   {peak(resource.RUSAGE_CHILDREN):.0f} MiB at most, a process of several")
    print(f"gain     {one.seconds / many.seconds:.2f} of {jobs} processors")
    minutes = [PRESET / run.codes * run.seconds / 60 for run in (one, many)]
    print(
        f"8 B      {minutes[0]:.0f} minutes by one process, {minutes[1]:.0f} by {jobs}, "
        f"{PRESET * bits / 8 / GIB:.1f} GB (projected)"
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    main(float(given[0]) if given else 16, int(given[1]) if given[1:] else TILE_COLUMNS)
