"""Masks of a chip package: engraved, read back to a package, compared."""

import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from intaglio import __version__
from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadInput
from intaglio.flow.compile import HASH, MODEL, refuse_foreign
from intaglio.flow.electrical import ChipRead, LogicArea, check_reads, logic_area
from intaglio.flow.folder import whole_folder
from intaglio.flow.package import (
    FORMAT,
    MANIFEST,
    Package,
    is_package,
    manifest_text,
    open_package,
    refuse_no_file,
    refuse_no_new_folder,
    stage_entry,
)
from intaglio.flow.progress import Progress, silent
from intaglio.flow.stages import put_folder, write_whole
from intaglio.layout.die import PROCESS, SHEET, Engraved, chip_tiles, engrave, tile_codes
from intaglio.layout.picture import Window, picture
from intaglio.layout.rules import rules
from intaglio.layout.views import write_tile_views, write_views
from intaglio.twin.engine import processors
from intaglio.verify.mask.compare import SHOWN, Compared, compare_masks, differences
from intaglio.verify.mask.read import Read, read_masks

FOLDER, STAGE = "masks", "masks"
ENGRAVING, CHECKING, READING, COMPARING, MAKING = (
    "engraving", "counting what lines bear", "reading masks", "comparing masks",
    "making the chip package",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Engraving:
    """What engraving wrote, where, and how long it took; ``read``: how fast that is read."""

    path: Path
    made: Engraved
    read: ChipRead
    logic: LogicArea
    seconds: float

    @property
    def all_in(self) -> float:
        """um2 per weight of drawn tiles and the synthesised logic of their fabrics."""
        return self.made.tile + self.logic.total

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "masks": str(self.path),
            "weights": self.made.weights,
            "rom_codes": self.made.rom_codes,
            "seconds": self.seconds,
            "bytes": self.made.bytes,
            "um2_per_weight": {
                "cell": self.made.cell, "array": self.made.array, "tile": self.made.tile,
                "all_in": self.all_in, "all_in_grade": "derived", "logic": self.logic.as_dict(),
            },
            "read": self.read.as_dict(),
        }  # fmt: skip


def shown(progress: Progress, step: str) -> Callable[[float, str], None]:
    """Progress of one step; its end is told when all is in place."""

    def show(share: float, detail: str) -> None:
        progress(step, min(share, 0.999), detail)

    return show


def engrave_package(package: Package, progress: Progress = silent) -> Engraving:
    """Write a package's masks into it, in place of those before."""
    started = time.monotonic()
    made: list[Engraved] = []
    progress(CHECKING, 0, "")
    read = check_reads(package, shown(progress, CHECKING))
    progress(CHECKING, 1, "")

    def fill(folder: Path) -> dict[str, Any]:
        progress(ENGRAVING, 0, "")
        told = shown(progress, ENGRAVING)
        made.append(engrave(package.model, package.plan, folder, told, processors()))
        return {
            "weights": made[0].weights, "bytes": made[0].bytes, "read": read.worst.as_dict()
        }  # fmt: skip

    tools = {"intaglio": __version__, "gdstk": importlib.metadata.version("gdstk")}
    put_folder(package, STAGE, fill, {"process": PROCESS}, tools)
    progress(ENGRAVING, 1, "")
    seconds = time.monotonic() - started
    return Engraving(package.path / FOLDER, made[0], read, logic_area(package), seconds)


def masks_of(path: Path) -> Path:
    """The folder of masks: a package's, or the one that is given."""
    if not is_package(path):
        return path
    open_package(path)
    if not (path / FOLDER / SHEET).is_file():
        raise BadInput(f"{path}: has no masks yet", hint=f"run intaglio masks engrave {path}")
    return path / FOLDER


@dataclass(frozen=True)
class Recovered:
    """A model read from masks, and how it differs from a package's, where one was named."""

    read: Read
    seconds: float
    against: list[dict[str, Any]] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values: dict[str, Any] = {"hash": self.read.model.hash(), "seconds": self.seconds}
        if self.against is not None:
            values |= {"equal": not self.against, "differences": self.against}
        return values


def read_chip(
    path: Path,
    *,
    output: Path | None = None,
    against: Path | None = None,
    progress: Progress = silent,
) -> Recovered:
    """Recover the model from a folder of masks alone (or a package's folder of them).

    ``output``: a chip package to make of it; the tokenizer must lie beside the masks. ``against``:
    a package whose model it is compared with; the first differences are kept.
    """
    started = time.monotonic()
    folder = masks_of(path)
    if output:
        refuse_foreign(output, output.resolve())
        refuse_without_tokenizer(folder)
    other = open_package(against) if against else None
    progress(READING, 0, "")
    # a chip to compare with names the contact that contradicts others: what it is read whole for
    strict = other is None or output is not None
    read = read_masks(folder, shown(progress, READING), strict=strict)
    progress(READING, 1, "")
    seconds = time.monotonic() - started
    found = None
    if other:
        if other.plan != read.plan:
            raise BadInput(f"{against}: not of the shape of the chip in {folder}")
        model = other.model
        equal = model.hash() == read.model.hash()
        found = [] if equal else list(islice(differences(model, read.model, read.plan), SHOWN))
    if read.fault and not found:
        raise read.fault
    if output:
        make_chip(read, folder, output, progress)
    return Recovered(read, seconds, found)


def refuse_without_tokenizer(folder: Path) -> None:
    """Raise :class:`BadInput` where no tokenizer lies beside the masks: it is not engraved."""
    place = folder.resolve().parent / "tokenizer"
    if not place.is_dir():
        raise BadInput(
            f"{place}: missing: a chip package needs a tokenizer, which masks do not hold",
            hint="put the package's folder tokenizer beside the masks, or leave out --output",
        )


def make_chip(read: Read, folder: Path, output: Path, progress: Progress) -> None:
    """Write a chip package from a model that was read; its tokenizer lies beside the masks."""
    from intaglio.hardware.emit import emit
    from intaglio.hardware.images import write_images

    progress(MAKING, 0, "")
    tokenizer = folder.resolve().parent / "tokenizer"
    Tokenizer.load(tokenizer)
    known = read.model.hash()
    with whole_folder(output.resolve()) as made:
        shutil.copytree(tokenizer, made / "tokenizer")
        read.model.save(made / MODEL)
        (made / "plan.json").write_text(json.dumps(read.plan.as_dict(), indent=1) + "\n", "utf-8")
        emit(read.plan, made / "rtl")
        write_images(read.model, read.plan, made / "rtl" / "rom")
        figures = {
            "parameters": read.plan.architecture.parameters,
            "bits_per_weight": read.model.bits_per_weight,
        }
        options = {"checkpoint": f"masks of {known}", "context": read.plan.context}
        entry = stage_entry(made, options, {"intaglio": __version__}, figures)
        manifest = {
            "format": FORMAT, "model": f"{read.plan.architecture.family} (masks)", HASH: known,
            "stages": {"compile": entry},
        }  # fmt: skip
        (made / MANIFEST).write_text(manifest_text(manifest), "utf-8")
    progress(MAKING, 1, "")


def diff_chips(first: Path, second: Path, progress: Progress = silent) -> Compared:
    """What the masks of two chips of one shape have in common, and what not."""
    progress(COMPARING, 0, "")
    compared = compare_masks(masks_of(first), masks_of(second), shown(progress, COMPARING))
    progress(COMPARING, 1, "")
    return compared


def write_chip_views(package: Package, folder: Path, names: list[str]) -> list[Path]:
    """Write what others place tiles by to a new folder: LEF and Verilog of every kind of tile, and
    netlist and GDS of the tiles that are named."""
    refuse_no_new_folder(folder)
    r = rules(PROCESS)
    with whole_folder(folder) as made:
        kinds = {tile.base: tile for each in chip_tiles(package.plan, r).values() for tile in each}
        written = [path for name in sorted(kinds) for path in write_views(kinds[name], made, r)]
        for name in names:
            tile, codes = tile_codes(package.model, package.plan, name)
            written += write_tile_views(tile, codes, made, r)
        return [folder / path.name for path in written]


def write_picture(package: Package, name: str, path: Path, window: Window | None = None) -> None:
    """Write the picture of a tile, or of a part of it, as SVG."""
    refuse_no_file(path)
    tile, codes = tile_codes(package.model, package.plan, name)
    write_whole(path, picture(tile, codes, rules(PROCESS), window).encode())
