"""Masks of a whole chip: the base arrays, a programmable layer per tile, and the data sheet."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.model import IntModel
from intaglio.layout.contents import Rom, contents, fabric_array, fabrics, roms
from intaglio.layout.fabric import Array, Tile, contacts, tiles
from intaglio.layout.geometry import geometry
from intaglio.layout.library import write_cells
from intaglio.layout.oasis import write_contacts
from intaglio.layout.rules import Rules, rules
from intaglio.layout.tile import base_cells
from intaglio.plan.chip import ChipPlan

FORMAT = 3
BASE, SHEET = "base.oas", "die.json"
PROCESS = "sky130"
FILE_ROWS = 640  # of tiles that share a file: the more, the fewer bits a code takes
PARALLEL = 30_000_000  # codes below which processes cost more time to start than they save
WAITING = 2  # tiles per process whose codes are held in memory

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
    model: IntModel,
    plan: ChipPlan,
    folder: Path,
    progress: Progress | None = None,
    jobs: int = 1,
) -> Engraved:
    """Write the masks of a model to an empty folder: :data:`SHEET`, :data:`BASE`, tiles.

    The first two depend on the shape alone. ``jobs``: processes that write tiles, for large models.
    """
    r = rules(PROCESS)
    made = roms(plan, r)
    cut = chip_tiles(plan, r)
    arrays = [cut[name][0].array for name, _ in fabrics(plan)]
    total = sum(each[0].array.cells for each in cut.values())
    write_base([tile for each in cut.values() for tile in each], folder / BASE, r)
    (folder / SHEET).write_text(sheet(plan, made, cut, r), "utf-8")
    write = partial(write_tiles, folder)
    jobs = jobs if total >= PARALLEL else 1
    done = 0
    with pool(jobs) as submit:
        for array, codes in contents(model, plan, made):
            for same in by_file(cut[array.name]):
                submit(write, same, [tile.codes(codes) for tile in same])
            done += array.cells
            if progress:
                progress(done / total, array.name)
    return measured(arrays, total, cut, folder, r)


def chip_tiles(plan: ChipPlan, r: Rules) -> dict[str, list[Tile]]:
    """Every array's tiles, by its name: the fabrics' in the order of the chain, then the ROMs'."""
    arrays = [fabric_array(name, fabric) for name, fabric in fabrics(plan)]
    arrays += [rom.array for rom in roms(plan, r).values()]
    return {array.name: list(tiles(array, r)) for array in arrays}


def tile_codes(model: IntModel, plan: ChipPlan, wanted: str) -> tuple[Tile, np.ndarray]:
    """A tile by its name, and its array's codes. Raises :class:`BadInput` where there is none."""
    r = rules(PROCESS)
    made, cut = roms(plan, r), chip_tiles(plan, r)
    names = {tile.name: tile for each in cut.values() for tile in each}
    if wanted not in names:
        some = ", ".join([*names][:3])
        raise BadInput(f"no tile is called {wanted!r}", hint=f"one of {some} ... of masks/die.json")
    tile = names[wanted]
    for array, codes in contents(model, plan, made):
        if array.name == tile.array.name:
            return tile, codes
    raise AssertionError(wanted)


def by_file(made: list[Tile]) -> list[list[Tile]]:
    """Tiles of an array, those of a file together."""
    found: dict[str, list[Tile]] = {}
    for tile in made:
        found.setdefault(file_name(tile), []).append(tile)
    return [*found.values()]


def write_tiles(folder: Path, made: list[Tile], padded: list[np.ndarray]) -> None:
    """Write the programmable layer of the tiles of a file. ``padded``: see :meth:`Tile.codes`."""
    r = rules(PROCESS)
    cells = {tile.name: contacts(tile, codes, r) for tile, codes in zip(made, padded, strict=True)}
    with (folder / file_name(made[0])).open("xb") as stream:
        stream.writelines(write_contacts(cells, r.layers[r.programmable], r.grid))


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


@contextmanager
def pool(jobs: int) -> Iterator[Callable[..., None]]:
    """Something that runs calls, in so many processes; at the end all are done, or one's error is
    raised."""
    if jobs == 1:
        yield lambda call, *arguments: call(*arguments)
        return
    running: set[Future[None]] = set()

    def submit(call: Callable[..., None], *arguments: Any) -> None:
        nonlocal running
        if len(running) >= WAITING * jobs:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for each in finished:
                each.result()
        running.add(workers.submit(call, *arguments))

    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as workers:
        try:
            yield submit
            for each in running:
                each.result()
        except BaseException:
            workers.shutdown(wait=True, cancel_futures=True)
            raise


def file_name(tile: Tile) -> str:
    """The file of a tile's programmable layer; it shares it with those on the lanes beside it."""
    lanes = max(FILE_ROWS // tile.drawn_rows, 1)
    return f"{tile.array.name}.{tile.lane // lanes * lanes}.{tile.column}.oas"


def write_base(made: list[Tile], path: Path, r: Rules) -> None:
    """Write the base cells of all tiles as OASIS."""
    write_cells("base", base_cells(made, r), path, r)


def sheet(plan: ChipPlan, made: dict[str, Rom], cut: dict[str, list[Tile]], r: Rules) -> str:
    """The base die's data sheet: its shape, and which tile holds what; nothing of a model.

    ``sha256`` is of everything else in it, as JSON with sorted keys.
    """
    values = {
        "format": FORMAT,
        "process": r.process,
        "programmable": r.programmable,
        "shape": plan.as_dict(),
        "arrays": [array_entry(parts) for parts in cut.values()],
        "roms": {name: rom.as_dict() for name, rom in made.items()},
    }
    told = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return json.dumps({**values, "sha256": told}, indent=1) + "\n"


def array_entry(parts: list[Tile]) -> dict[str, Any]:
    """An array and its tiles."""
    return {
        **asdict(parts[0].array),
        "tiles": [
            {
                "file": file_name(tile), "cell": tile.name, "base": tile.base, "lane": tile.lane,
                "lanes": tile.lanes, "column": tile.column, "columns": tile.columns,
            }
            for tile in parts
        ],
    }  # fmt: skip
