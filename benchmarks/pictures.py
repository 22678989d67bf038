"""The pictures of docs/masks.md: sixteen columns of two rows, and a whole small tile.

``python benchmarks/pictures.py FOLDER``: of random 3-bit codes, always the same.
"""

import sys
from pathlib import Path

import numpy as np

from intaglio.layout.fabric import Array, tiles
from intaglio.layout.pen import UM
from intaglio.layout.picture import Window, picture
from intaglio.layout.rules import rules

ROWS, COLUMNS = 4, 24


def main(folder: Path) -> None:
    """Draw both."""
    r, array = rules("sky130"), Array("fabric", 3, ROWS, 1, COLUMNS)
    (tile,) = tiles(array, r)
    codes = np.random.default_rng(0).integers(0, 8, (ROWS, 1, COLUMNS), dtype=np.uint8)
    d = tile.drivers(r)
    g = d.g
    left, low = d.end + g.slot(0) * g.column, g.bottom(0)
    view = (left, low - g.first, 16 * g.column, 2 * g.row + 2 * g.first)
    folder.mkdir(parents=True, exist_ok=True)
    for name, window in (("tile", None), ("cell", Window(*(length * UM for length in view)))):
        path = folder / f"{name}.svg"
        path.write_text(picture(tile, codes, r, window), "utf-8")
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
