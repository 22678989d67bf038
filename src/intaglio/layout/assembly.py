"""The assembled die: base cells and programmable layer of every tile in its place."""

from collections.abc import Iterable
from pathlib import Path

import gdstk

from intaglio.errors import BadInput, BadPackage
from intaglio.layout.die import file_name
from intaglio.layout.floorplan import Place
from intaglio.layout.library import GDS, OASIS, new_library, write_library
from intaglio.layout.pen import UM
from intaglio.layout.rules import Rules
from intaglio.layout.tile import base_cells

DIE, PROGRAMMABLE = "die", "programmable"
AGAIN = "engrave the masks again"
SUFFIXES = (OASIS, GDS)


def programmable(
    places: Iterable[Place], masks: Path
) -> tuple[list[gdstk.Cell], list[gdstk.Reference]]:
    """Every tile's contacts, from its file in ``masks``, with the cells of codes that tiles share,
    and where they stand."""
    read: dict[str, dict[str, gdstk.Cell]] = {}
    codes: dict[str, gdstk.Cell] = {}
    tiles, found = [], []
    for place in places:
        name = file_name(place.tile)
        if name not in read:
            read[name] = cells_of(masks / name)
        cell = read[name].get(place.tile.name)
        if cell is None:
            raise BadPackage(f"{masks / name}: holds no tile {place.tile.name}", hint=AGAIN)
        for reference in cell.references:  # equal names are equal cells
            reference.cell = codes.setdefault(reference.cell_name, read[name][reference.cell_name])
        cell.name = f"codes.{place.tile.name}"
        tiles.append(cell)
        found.append(gdstk.Reference(cell, (place.x * UM, place.y * UM)))
    return [*codes.values(), *tiles], found


def cells_of(path: Path) -> dict[str, gdstk.Cell]:
    """The cells of a file of contacts, by name. Raises :class:`BadPackage`."""
    try:
        cells = gdstk.read_oas(path).cells
    except (OSError, RuntimeError, ValueError) as error:
        raise BadPackage(f"{path}: no layout that can be read: {error}", hint=AGAIN) from None
    return {cell.name: cell for cell in cells if isinstance(cell, gdstk.Cell)}


def assemble(places: Iterable[Place], masks: Path, r: Rules, base: bool = True) -> gdstk.Library:
    """The die as a library whose top cell is :data:`DIE`; without ``base`` the contacts alone, and
    the top cell is :data:`PROGRAMMABLE`."""
    placed = list(places)
    library = new_library(DIE, r)
    top = gdstk.Cell(DIE if base else PROGRAMMABLE)
    library.add(top)
    if base:
        cells = {cell.name: cell for cell in base_cells([place.tile for place in placed], r)}
        library.add(*cells.values())
        for place in placed:
            at = place.x * UM, place.y * UM
            top.add(gdstk.Reference(cells[place.tile.base], at))
    cells, references = programmable(placed, masks)
    library.add(*cells)
    top.add(*references)
    return library


def refuse_suffix(path: Path) -> None:
    """Raise :class:`BadInput` for a file that is to be neither OASIS nor GDS, by its name."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path}: must end in {' or '.join(SUFFIXES)}")


def write_assembly(library: gdstk.Library, path: Path) -> None:
    """Write a die as OASIS or GDS, by the file's name."""
    refuse_suffix(path)
    write_library(library, path)
