"""A gdstk library as a layout file: whole, or not there."""

import errno
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import gdstk

from intaglio.layout.rules import Rules

OASIS, GDS = ".oas", ".gds"
EPOCH = datetime(2000, 1, 1)  # the same input gives the same file
OASIS_END, GDS_END = 256, b"\x00\x04\x04\x00"  # bytes of END; ENDLIB


def write_cells(name: str, cells: Iterable[gdstk.Cell], path: Path, r: Rules) -> None:
    """Write cells as a library of their own, see :func:`write_library`."""
    library = new_library(name, r)
    library.add(*cells)
    write_library(library, path)


def new_library(name: str, r: Rules) -> gdstk.Library:
    """An empty library in um, on the rules' grid."""
    return gdstk.Library(name, unit=1e-6, precision=r.grid * 1e-9)


def write_library(library: gdstk.Library, path: Path) -> None:
    """Write as OASIS or GDS, by the file's name.

    Raises ``OSError`` where it cannot be written whole: the library itself does not tell.
    """
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        if path.suffix == OASIS:
            library.write_oas(beside, compression_level=6, validation="crc32")
        else:
            library.write_gds(beside, timestamp=EPOCH)
        if not is_whole(beside):
            raise OSError(errno.ENOSPC, "written in part only; is the disk full?", str(path))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether a file that gdstk wrote ends as one does."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - OASIS_END, 0))
        end = file.read()
    if path.suffix == GDS:
        return end.endswith(GDS_END)
    return len(end) == OASIS_END and end[0] == 2 and gdstk.oas_validate(path)[0] is True
