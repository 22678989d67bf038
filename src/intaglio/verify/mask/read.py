"""Masks read back: from layout files and a data sheet to the whole integer model."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import gdstk
import numpy as np

from intaglio.errors import BadPackage, IntaglioError, Mismatch
from intaglio.golden.model import IntModel
from intaglio.plan.chip import ChipPlan
from intaglio.verify.mask.assemble import Assembly, cell_name
from intaglio.verify.mask.shapes import (
    AGAIN,
    GDS,
    NM,
    UNREADABLE,
    Crossings,
    Layers,
    find_crossings,
    locate,
    nearest,
    read_cells,
    read_contacts,
    read_layers,
    told,
)

FORMAT = 3
FILE = itemgetter("file")
SHEET, BASE, CHECKSUM = "die.json", "base.oas", "sha256"
UNIT = 4
"""Columns are drawn in so many: those of two sense amplifiers at one end of their sum lines."""

Progress = Callable[[float, str], object]


@dataclass(frozen=True)
class Read:
    """What masks hold: ``model`` under the shape ``plan``.

    ``fault``: the first thing in which its contacts contradict each other.
    """

    model: IntModel
    plan: ChipPlan
    fault: Mismatch | None = None


def read_masks(folder: Path, progress: Progress | None = None, *, strict: bool = True) -> Read:
    """Recover the model from the layout files and the data sheet in ``folder``.

    Raises :class:`BadPackage` for files that are missing, damaged or of another kind, and
    :class:`Mismatch` naming the cell where a contact is missing, doubled or on no crossing, or
    where contacts contradict each other; not ``strict``, the latter is kept as :attr:`Read.fault`.
    """
    sheet = read_sheet(folder / SHEET)
    try:
        plan = read_shape(folder / SHEET, sheet["shape"])
        layers = read_layers(sheet["process"], sheet["programmable"])
        codes = read_arrays(folder, sheet, layers, progress)
        assembly = Assembly(folder, plan, sheet["roms"], codes)
        model = assembly.model()
    except (IntaglioError, OSError):
        raise
    except UNREADABLE as error:
        raise BadPackage(f"{folder / SHEET}: damaged: {told(error)}", hint=AGAIN) from None
    if strict and assembly.fault:
        raise assembly.fault
    return Read(model, plan, assembly.fault)


def read_sheet(path: Path) -> dict[str, Any]:
    """The data sheet, of this format and with the checksum that it says."""
    try:
        if not path.is_file():
            raise BadPackage(f"{path}: no such file: {path.parent} holds no masks")
        sheet = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadPackage(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadPackage(f"{path}: damaged: {error}", hint=AGAIN) from None
    if not isinstance(sheet, dict) or sheet.get("format") != FORMAT:
        raise BadPackage(f"{path}: not a data sheet of format {FORMAT}", hint=AGAIN)
    rest = json.dumps({key: sheet[key] for key in sheet if key != CHECKSUM}, sort_keys=True)
    if sheet.get(CHECKSUM) != hashlib.sha256(rest.encode()).hexdigest():
        raise BadPackage(f"{path}: damaged: its {CHECKSUM} says that it held something else",
                         hint=AGAIN)  # fmt: skip
    return sheet


def read_shape(path: Path, values: dict[str, Any]) -> ChipPlan:
    """The shape that a data sheet has."""
    try:
        return ChipPlan.from_dict(values)
    except IntaglioError as error:
        message = error.message.removeprefix("plan.json: ")
        raise BadPackage(f"{path}: shape: {message}", hint=AGAIN) from None


def read_arrays(
    folder: Path, sheet: dict[str, Any], layers: Layers, progress: Progress | None
) -> dict[str, np.ndarray]:
    """The codes of every array by name: uint8 [rows, lanes, columns]."""
    base = inside(folder, BASE)
    cells = {cell.name: cell for cell in read_cells(base)}
    known: dict[str, Crossings] = {}
    found: dict[str, np.ndarray] = {}
    for number, array in enumerate(sheet["arrays"]):
        tiled = sum(tile["lanes"] * tile["columns"] for tile in array["tiles"])
        if tiled != array["lanes"] * array["columns"]:
            raise BadPackage(f"{folder / SHEET}: {array['name']}: its tiles do not cover it")
        codes = np.full((array["rows"], array["lanes"], array["columns"]), 255, np.uint8)
        for name, group in groupby(sorted(array["tiles"], key=FILE), FILE):
            made, path = list(group), inside(folder, name)
            contacts = read_file(path, made, layers)
            for tile in made:
                if tile["base"] not in cells:
                    raise BadPackage(f"{base}: has no cell {tile['base']}", hint=AGAIN)
                if tile["base"] not in known:
                    count = 1 << array["bits"]
                    known[tile["base"]] = crossings(base, cells[tile["base"]], layers, count)
                where = known[tile["base"]]
                read_tile(path, array, tile, where, layers, contacts[tile["cell"]], codes)
        if (codes == 255).any():
            raise BadPackage(f"{folder / SHEET}: {array['name']}: its tiles do not cover it")
        found[array["name"]] = codes
        if progress:
            progress((number + 1) / len(sheet["arrays"]), array["name"])
    return found


def crossings(base: Path, cell: gdstk.Cell, layers: Layers, count: int) -> Crossings:
    """Where a base array can hold contacts. Raises :class:`BadPackage` where it is none."""
    try:
        return find_crossings(cell, layers, count)
    except UNREADABLE as error:
        raise BadPackage(f"{base}: {told(error)}", hint=AGAIN) from None


def inside(folder: Path, name: str) -> Path:
    """A file of that name in ``folder``, or the GDS of its name where that is there instead."""
    if Path(name).name != name:
        raise BadPackage(f"{folder / SHEET}: file must be a name, not {name!r}")
    path = folder / name
    other = path.with_suffix(GDS)
    return other if other.is_file() and not path.is_file() else path


def read_file(path: Path, made: list[dict[str, Any]], layers: Layers) -> dict[str, np.ndarray]:
    """The contacts of the tiles of a file, which must hold no other, by their cells."""
    contacts = read_contacts(path, layers)
    if odd := sorted({*contacts} ^ {tile["cell"] for tile in made}):
        raise BadPackage(f"{path}: must hold one cell for each of its tiles: {odd[0]}", hint=AGAIN)
    return contacts


def read_tile(
    path: Path,
    array: dict[str, Any],
    tile: dict[str, Any],
    where: Crossings,
    layers: Layers,
    corners: np.ndarray,
    codes: np.ndarray,
) -> None:
    """Read a tile's contacts, by their ``corners``, into its part of an array's ``codes``."""
    rows = array["rows"] + array["rows"] % 2
    columns = -(-tile["columns"] // UNIT) * UNIT
    if where.stubs.shape[:2] != (tile["lanes"] * rows, columns):
        raise BadPackage(
            f"{path}: {tile['base']} must have {tile['lanes'] * rows} rows of {columns} columns, "
            f"not {where.stubs.shape[0]} of {where.stubs.shape[1]}", hint=AGAIN,
        )  # fmt: skip
    row, column, code = locate(corners, where, layers.contact)

    def named(at_row: int, at_column: int) -> str:
        lane, inner = divmod(int(at_row), rows)
        return cell_name(array["name"], inner, tile["lane"] + lane, tile["column"] + int(at_column))

    stray = row < 0
    counts = np.bincount(row[~stray] * columns + column[~stray], minlength=where.stubs[..., 0].size)
    for wrong, what in ((counts == 0, "has no contact"), (counts > 1, "has more than one contact")):
        if wrong.any():
            total = int(wrong.sum())
            more = f", and {total - 1} more" if total > 1 else ""
            raise Mismatch(f"{path}: {named(*divmod(int(wrong.argmax()), columns))} {what}{more}")
    if stray.any():
        x, y = corners[stray][0] / NM
        raise Mismatch(
            f"{path}: the contact at {x:.3f}, {y:.3f} um is on no crossing; the cell nearest to it "
            f"is {named(*nearest(corners[stray][0], where, layers.contact))}"
        )
    grid = np.zeros((tile["lanes"] * rows, columns), np.uint8)
    grid[row, column] = code
    grid = grid.reshape(tile["lanes"], rows, columns)
    inner = grid[:, : array["rows"], : tile["columns"]]
    beyond = grid.copy()
    beyond[:, : array["rows"], : tile["columns"]] = 0
    if beyond.any():
        lane, at_row, at_column = np.argwhere(beyond)[0].tolist()
        found = beyond[lane, at_row, at_column]
        cell = named(lane * rows + at_row, at_column)
        raise Mismatch(f"{path}: {cell} is padding and must hold code 0, not {found}")
    part = codes[
        :, tile["lane"] : tile["lane"] + tile["lanes"],
        tile["column"] : tile["column"] + tile["columns"],
    ]  # fmt: skip
    part[:] = inner.transpose(1, 0, 2)
