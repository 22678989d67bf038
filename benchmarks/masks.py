"""Masks at scale: contacts a second, bits of file per code, memory, reading back; of random codes.

``python benchmarks/masks.py [MILLIONS] [COLUMNS]``: engraves so many million 3-bit codes file by
file, of as many tiles as share one, each of 40 rows by COLUMNS columns (default: the widest tile),
by one process and by one per processor, and reads the first files back.
"""

import math
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from intaglio.layout.die import FILE_ROWS, array_entry, pool, write_base, write_tiles
from intaglio.layout.fabric import TILE_COLUMNS, Array, Tile, tiles
from intaglio.layout.rules import rules
from intaglio.twin.engine import processors
from intaglio.verify.mask.read import read_file, read_tile
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


def an_array(columns: int) -> Array:
    """An array whose tiles fill one file."""
    return Array("random", BITS, ROWS, FILE_ROWS // ROWS, min(columns, TILE_COLUMNS))


def tiles_of(array: Array, number: int) -> list[Tile]:
    """Its tiles under a name of their own."""
    return [*tiles(replace(array, name=f"random{number}"), rules("sky130"))]


def codes_of(array: Array, number: int) -> np.ndarray:
    """The random codes of one file."""
    shape = (array.rows, array.lanes, array.columns)
    return np.random.default_rng(number).integers(0, 1 << BITS, shape, dtype=np.uint8)


def write(array: Array, count: int, jobs: int, folder: Path) -> Run:
    """Write so many files."""
    processor, started = 0.0, time.monotonic()
    with pool(jobs) as submit:
        for number in range(count):
            made, codes = tiles_of(array, number), codes_of(array, number)
            before = time.process_time()
            submit(write_tiles, folder, made, [tile.codes(codes) for tile in made])
            processor += time.process_time() - before
    seconds = time.monotonic() - started
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Run(count * array.cells, seconds, processor, size)


def read(array: Array, count: int, folder: Path) -> tuple[float, float]:
    """Read files back and compare; contacts a second of processor time, seconds of the base."""
    write_base(tiles_of(array, 0)[:1], folder / "base.oas", rules("sky130"))
    started = time.process_time()
    layers = read_layers("sky130", "mcon")
    base = {cell.name: cell for cell in read_cells(folder / "base.oas")}
    where = find_crossings(base[tiles_of(array, 0)[0].base], layers, 1 << BITS)
    once = time.process_time() - started
    seconds = 0.0
    for number in range(count):
        codes, entry = codes_of(array, number), array_entry(tiles_of(array, number))
        found, path = np.full_like(codes, 255), folder / entry["tiles"][0]["file"]
        started = time.process_time()
        corners = read_file(path, entry["tiles"], layers)
        for tile in entry["tiles"]:
            read_tile(path, entry, tile, where, layers, corners[tile["cell"]], found)
        seconds += time.process_time() - started
        assert np.array_equal(found, codes)
    return count * array.cells / seconds, once


def peak(who: int) -> float:
    """MiB that a process held at most."""
    return resource.getrusage(who).ru_maxrss / KIB


def main(millions: float, columns: int) -> None:
    """Measure and print."""
    array = an_array(columns)
    count = max(math.ceil(millions * 1e6 / array.cells), 1)
    with tempfile.TemporaryDirectory() as folder:
        one = write(array, count, 1, Path(folder))
        held = peak(resource.RUSAGE_SELF)
        back, once = read(array, min(count, max(READ // array.cells, 1)), Path(folder))
    jobs = processors()
    with tempfile.TemporaryDirectory() as folder:
        many = write(array, count, jobs, Path(folder))
    rate, bits = one.codes / one.processor, one.size * 8 / one.codes
    print(
        f"{one.codes:,} codes in {count} files of {array.lanes} tiles of {array.columns} columns, "
        f"{one.size:,} bytes"
    )
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
