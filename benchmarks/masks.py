"""Masks at scale: contacts a second, bits of file per code, reading back; of random codes.

``python benchmarks/masks.py [MILLIONS] [COLUMNS]``: engraves so many million 3-bit codes tile by
tile, each of 40 rows by COLUMNS columns (default: the widest tile), reads the last tile back, and
writes as many by one process and by one per processor.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from intaglio.layout.die import CODES, pool, write_base, write_tile
from intaglio.layout.fabric import TILE_COLUMNS, Array, contacts, tiles
from intaglio.layout.oasis import write_contacts
from intaglio.layout.rules import rules
from intaglio.twin.engine import processors
from intaglio.verify.mask.read import read_tile
from intaglio.verify.mask.shapes import find_crossings, read_cells, read_layers

BITS, ROWS = 3, 40


def main(millions: float, columns: int | None) -> None:
    """Measure and print."""
    r = rules("sky130")
    columns = min(columns or TILE_COLUMNS, TILE_COLUMNS)
    array = Array("random", BITS, ROWS, 1, columns)
    (tile,) = tiles(array, r)
    rng = np.random.default_rng(0)
    count = max(math.ceil(millions * 1e6 / array.cells), 1)
    seconds = size = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tile.oas"
        codes = np.zeros(0, np.uint8)
        for _ in range(count):
            shape = (array.rows, array.lanes, array.columns)
            codes = rng.integers(0, 1 << BITS, shape, dtype=np.uint8)
            started = time.process_time()
            with path.open("wb") as stream:
                made = contacts(tile, tile.codes(codes), r)
                stream.writelines(write_contacts(CODES, made, r.layers["mcon"], r.grid))
            seconds += time.process_time() - started
            size += path.stat().st_size
        written = count * array.cells
        rate, bits = written / seconds, size * 8 / written
        print(f"{written:,} codes in {count} tiles of {columns} columns")
        print(f"written  {rate / 1e6:.1f} M contacts/s (processor time), {bits:.2f} bits per code")
        print(f"entropy  {BITS:.2f} bits per code")
        print(f"8 B      {8e9 / rate / 60:.0f} minutes of a core, {bits:.1f} GB (projected)")
        write_base([tile], Path(folder) / "base.oas", r)
        started = time.process_time()
        layers = read_layers("sky130", "mcon")
        (base,) = [c for c in read_cells(Path(folder) / "base.oas") if c.name == tile.base]
        where = find_crossings(base, layers, 1 << BITS)
        print(f"base     {time.process_time() - started:.2f} s, once for all tiles of a kind")
        started = time.process_time()
        found = np.full_like(codes, 255)
        sheet = {"name": "random", "rows": array.rows}
        part = {"base": tile.base, "lane": 0, "lanes": tile.lanes, "column": 0, "columns": columns}
        read_tile(path, sheet, part, where, layers, found)
        seconds = time.process_time() - started
        assert np.array_equal(found, codes)
        print(f"read     {array.cells / seconds / 1e6:.1f} M contacts/s, equal")


def parallel(millions: float) -> None:
    """The same codes by one process and by one per processor: wall time."""
    r = rules("sky130")
    shape = (ROWS, 1, TILE_COLUMNS)
    count = max(math.ceil(millions * 1e6 / math.prod(shape)), 1)
    codes = np.random.default_rng(0).integers(0, 1 << BITS, shape, dtype=np.uint8)
    for jobs in (1, processors()):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            with pool(jobs) as submit:
                for number in range(count):
                    (tile,) = tiles(Array(f"random{number}", BITS, *shape), r)
                    submit(write_tile, Path(folder), tile, tile.codes(codes))
            seconds = time.monotonic() - started
        rate = count * math.prod(shape) / seconds / 1e6
        print(f"{jobs} process{'es' if jobs > 1 else ''}: {seconds:.1f} s, {rate:.1f} M contacts/s")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(float(given[0]) if given else 16, int(given[1]) if given[1:] else None)
    parallel(float(given[0]) if given else 16)
