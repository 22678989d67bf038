"""Masks of a whole chip: the base arrays, a programmable layer per tile, and the data sheet."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gdstk

from intaglio.golden.model import IntModel
from intaglio.layout.contents import ROM_BITS, Rom, contents, fabric_array, fabrics, roms
from intaglio.layout.fabric import Array, Tile, contacts, tiles
from intaglio.layout.geometry import geometry
from intaglio.layout.oasis import write_contacts
from intaglio.layout.rules import Rules, rules
from intaglio.layout.tile import base_cells
from intaglio.plan.chip import ChipPlan

FORMAT = 1
BASE, SHEET, CODES = "base.oas", "die.json", "codes"
PROCESS = "sky130"

Progress = Callable[[float, str], object]


@dataclass(frozen=True, slots=True)
class Engraved:
    """What was written. ``weights``: codes of the fabrics, padding included; ``rom_codes``: of the
    ROMs. ``cell``, ``array``, ``tile``: um2 per weight, averaged over the fabrics' codes: of the
    bare cell, with strips of taps, straps and padding, and of the whole macro."""

    weights: int
    rom_codes: int
    bytes: int
    cell: float
    array: float
    tile: float


def engrave(
    model: IntModel, plan: ChipPlan, folder: Path, progress: Progress | None = None
) -> Engraved:
    """Write the masks of a model to an empty folder: :data:`SHEET`, :data:`BASE`, a file per tile.

    The first two depend on the shape alone.
    """
    r = rules(PROCESS)
    made = roms(plan, geometry(1 << ROM_BITS, r))
    arrays = [fabric_array(name, fabric) for name, fabric in fabrics(plan)]
    total = sum(array.cells for array in [*arrays, *(rom.array for rom in made.values())])
    cut = {array.name: list(tiles(array, r)) for array in arrays}
    cut |= {name: list(tiles(rom.array, r)) for name, rom in made.items()}
    write_base([tile for each in cut.values() for tile in each], folder / BASE, r)
    (folder / SHEET).write_text(sheet(plan, made, cut, r), "utf-8")
    done = 0
    for array, codes in contents(model, plan, made):
        for tile in cut[array.name]:
            with (folder / file_name(tile)).open("xb") as stream:
                pieces = write_contacts(
                    CODES, contacts(tile, codes, r), r.layers[r.programmable], r.grid
                )
                stream.writelines(pieces)
        done += array.cells
        if progress:
            progress(done / total, array.name)
    return measured(arrays, total, cut, folder, r)


def measured(
    arrays: list[Array], total: int, cut: dict[str, list[Tile]], folder: Path, r: Rules
) -> Engraved:
    """The figures of what is now in ``folder``."""
    weights = sum(array.cells for array in arrays)
    sizes = {bits: geometry(1 << bits, r) for bits in {array.bits for array in arrays}}
    cell = sum(array.cells * sizes[array.bits].cell_area for array in arrays)
    bare = whole = 0
    for tile in (tile for array in arrays for tile in cut[array.name]):
        g, (width, height) = sizes[tile.array.bits], tile.size(r)
        bare += tile.lanes * g.rows_height(tile.drawn_rows) * g.width(tile.drawn_columns)
        whole += width * height
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Engraved(
        weights=weights, rom_codes=total - weights, bytes=size, cell=cell / weights,
        array=bare * 1e-6 / weights, tile=whole * 1e-6 / weights,
    )  # fmt: skip


def file_name(tile: Tile) -> str:
    """The file of a tile's programmable layer."""
    return f"{tile.name}.oas"


def write_base(made: list[Tile], path: Path, r: Rules) -> None:
    """Write the base cells of all tiles as OASIS."""
    library = gdstk.Library("base", unit=1e-6, precision=r.grid * 1e-9)
    library.add(*base_cells(made, r))
    library.write_oas(path, compression_level=6)


def sheet(plan: ChipPlan, made: dict[str, Rom], cut: dict[str, list[Tile]], r: Rules) -> str:
    """The base die's data sheet: its shape, and which tile holds what; nothing of a model."""
    values = {
        "format": FORMAT,
        "process": r.process,
        "programmable": r.programmable,
        "shape": plan.as_dict(),
        "arrays": [array_entry(parts) for parts in cut.values()],
        "roms": {name: rom.as_dict() for name, rom in made.items()},
    }
    return json.dumps(values, indent=1) + "\n"


def array_entry(parts: list[Tile]) -> dict[str, Any]:
    """An array and its tiles."""
    return {
        **asdict(parts[0].array),
        "tiles": [
            {
                "file": file_name(tile), "base": tile.base, "lane": tile.lane,
                "lanes": tile.lanes, "column": tile.column, "columns": tile.columns,
            }
            for tile in parts
        ],
    }  # fmt: skip
