"""The assembled die: base cells and programmable layer of every tile in its place."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import gdstk

from intaglio.errors import BadInput
from intaglio.layout.die import file_name
from intaglio.layout.floorplan import Place
from intaglio.layout.pen import UM
from intaglio.layout.rules import Rules
from intaglio.layout.tile import base_cells
from intaglio.layout.views import EPOCH

DIE, PROGRAMMABLE = "die", "programmable"
SUFFIXES = (".oas", ".gds")


def programmable(
    places: Iterable[Place], masks: Path
) -> Iterator[tuple[gdstk.Cell, gdstk.Reference]]:
    """Every tile's contacts, from its file in ``masks``, and where they stand."""
    for place in places:
        (cell,) = gdstk.read_oas(masks / file_name(place.tile)).cells
        assert isinstance(cell, gdstk.Cell)
        cell.name = f"codes.{place.tile.name}"
        yield cell, gdstk.Reference(cell, (place.x * UM, place.y * UM))


def assemble(places: Iterable[Place], masks: Path, r: Rules, base: bool = True) -> gdstk.Library:
    """The die as a library whose top cell is :data:`DIE`; without ``base`` the contacts alone, and
    the top cell is :data:`PROGRAMMABLE`."""
    placed = list(places)
    library = gdstk.Library(DIE, unit=1e-6, precision=r.grid * 1e-9)
    top = gdstk.Cell(DIE if base else PROGRAMMABLE)
    library.add(top)
    if base:
        cells = {cell.name: cell for cell in base_cells([place.tile for place in placed], r)}
        library.add(*cells.values())
        for place in placed:
            at = place.x * UM, place.y * UM
            top.add(gdstk.Reference(cells[place.tile.base], at))
    for cell, reference in programmable(placed, masks):
        library.add(cell)
        top.add(reference)
    return library


def write_assembly(library: gdstk.Library, path: Path) -> None:
    """Write a die as OASIS or GDS, by the file's name."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path}: must end in {' or '.join(SUFFIXES)}")
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    if path.suffix == ".oas":
        library.write_oas(beside, compression_level=6)
    else:
        library.write_gds(beside, timestamp=EPOCH)
    beside.replace(path)
