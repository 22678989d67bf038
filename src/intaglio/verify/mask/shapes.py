"""Shapes of layout files: where a base array can hold contacts, and where a tile's contacts stand.

A cell's code is the number of the product line, counted from below, at whose crossing with the
cell's stub a contact sits. Stubs are the shapes of local interconnect that cross a whole row of
lines; rows and columns are counted from where they are. Nothing here knows how the shapes were
drawn: it shares no code with ``layout`` but reads the same rule file for the layers' numbers.
"""

import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from math import pi
from pathlib import Path
from typing import Any

import gdstk
import numpy as np

from intaglio.errors import BadPackage
from intaglio.quantity import read_yaml
from intaglio.verify.mask.stream import Stream, has_checksum, is_whole, read_stream

AGAIN = "engrave the masks again"
LINES, STUBS = "met1", "li1"
CONTACT_SIZE = "ct.1"
NM = 1e3  # of a micrometre
UNREADABLE = (
    RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError,
    MemoryError,
)  # fmt: skip
MOST = 1 << 24  # shapes in a cell: no tile is so large
GDS, GDS_BEGINS, GDS_ENDS = ".gds", b"\0\6\0\2", b"\4\4"
PROBE = """
import sys, warnings, gdstk
warnings.simplefilter("error")
try:
    (gdstk.read_gds if sys.argv[1].endswith(".gds") else gdstk.read_oas)(sys.argv[1])
except Exception as error:
    sys.exit(str(error))
"""
"""A damaged file may end the process that reads it: this is another one."""


def told(error: Exception) -> str:
    """An error of :data:`UNREADABLE` in words."""
    return f"no {error.args[0]!r} in it" if isinstance(error, KeyError) else str(error)


@dataclass(frozen=True, slots=True)
class Layers:
    """Layer and datatype of what decides a code, and a contact's side in nm."""

    programmable: tuple[int, int]
    lines: tuple[int, int]
    stubs: tuple[int, int]
    contact: int


@dataclass(frozen=True, eq=False)
class Crossings:
    """Where a base array can hold contacts; nm, ascending.

    ``columns``: int64 [columns, 2], left and right of a stub. ``lines``: int64 [lines, 2], lower
    and upper end of every product line. ``stubs``: int64 [rows, columns, 2], lower and upper end.
    ``first``: int64 [rows], each row's lowest line. ``count``: lines of a row.
    """

    columns: np.ndarray
    lines: np.ndarray
    stubs: np.ndarray
    first: np.ndarray
    count: int


def read_layers(process: str, programmable: str) -> Layers:
    """The numbers of the layers, from the rule file of a process."""
    if not process.isidentifier():
        raise BadPackage(f"process must be a name, not {process!r}")
    values = read_yaml(Path(str(files("intaglio") / "layout" / f"{process}.yaml")))
    numbers = {name: tuple(entry["gds"]) for name, entry in values["layers"].items()}
    contact = round(values["rules"][CONTACT_SIZE]["value"] * NM)
    return Layers(numbers[programmable], numbers[LINES], numbers[STUBS], contact)


def read_content(path: Path) -> bytes:
    """The bytes of a layout file. Raises :class:`BadPackage` where it is missing, cut off, or not
    what its own checksum says; GDS has none, and a file of another writer may have none."""
    if not path.is_file():
        raise BadPackage(f"{path}: missing", hint=AGAIN)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadPackage(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix == GDS:
        if not (raw.startswith(GDS_BEGINS) and raw.rstrip(b"\0").endswith(GDS_ENDS)):
            raise BadPackage(f"{path}: not a GDS file, or not a whole one")
        return raw
    if not is_whole(raw):
        raise BadPackage(f"{path}: not an OASIS file, or not a whole one", hint=AGAIN)
    if has_checksum(raw) is False:
        raise BadPackage(f"{path}: damaged: its checksum says that it held another content",
                         hint=AGAIN)  # fmt: skip
    return raw


def read_cells(path: Path) -> list[gdstk.Cell]:
    """The cells of a layout file. Raises :class:`BadPackage` where it is missing or damaged."""
    gds = path.suffix == GDS
    raw = read_content(path)
    if gds or has_checksum(raw) is None:
        probe(path)
    try:
        cells = (gdstk.read_gds if gds else gdstk.read_oas)(path, unit=1e-6).cells
    except (OSError, *UNREADABLE) as error:
        raise BadPackage(
            f"{path}: not a layout file that can be read: {error}", hint=AGAIN
        ) from None
    return [cell for cell in cells if isinstance(cell, gdstk.Cell)]


def probe(path: Path) -> None:
    """Raise :class:`BadPackage` where gdstk cannot read a file to its end."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, str(path)], capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else "its records make no sense"
        raise BadPackage(f"{path}: not a layout file that can be read: {reason}", hint=AGAIN)


def offsets(shape: Any) -> np.ndarray:
    """Where a shape repeats, in nm: int64 [times, 2], 0, 0 where it does not."""
    repetition = shape.repetition
    if repetition is None or not repetition.size:
        return np.zeros((1, 2), np.int64)
    if repetition.size > MOST:
        raise ValueError(f"a shape that repeats {repetition.size:,} times")
    return in_nm(np.asarray(repetition.get_offsets()).reshape(-1, 2))


def in_nm(lengths: Any) -> np.ndarray:
    """Micrometres as whole nanometres."""
    return np.rint(np.asarray(lengths, np.float64) * NM).astype(np.int64)


def box(polygon: Any) -> np.ndarray:
    """Left, lower, right and upper end of a rectangle, nm. Raises ``ValueError`` for others."""
    points = in_nm(polygon.points)
    low, high = points.min(0), points.max(0)
    corners = {(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])}
    if len(points) != 4 or {tuple(point) for point in points} != corners:
        raise ValueError("a shape that is no rectangle")
    return np.concatenate([low, high])


def boxes(
    cell: gdstk.Cell, layer: tuple[int, int], known: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    """All rectangles of a layer in a cell and below: int64 [shapes, 4].

    ``known``: those of the cells below that have been looked at.
    """
    found, known = [np.zeros((0, 4), np.int64)], {} if known is None else known
    for polygon in cell.polygons:
        if (polygon.layer, polygon.datatype) == layer:
            each = offsets(polygon)
            found.append(box(polygon) + np.tile(each, 2))
    for reference in cell.references:
        below = reference.cell
        if not isinstance(below, gdstk.Cell):
            raise ValueError(f"a reference to {below}, which is not there")
        if below.name not in known:
            known[below.name] = boxes(below, layer, known)
        places = offsets(reference) + in_nm(reference.origin)
        inner = turned(known[below.name], reference)
        if sum(map(len, found)) + len(inner) * len(places) > MOST:
            raise ValueError(f"cell {cell.name} has more than {MOST:,} shapes")
        found.append((inner[None] + np.tile(places, 2)[:, None]).reshape(-1, 4))
    return np.concatenate(found)


def turned(ends: np.ndarray, reference: gdstk.Reference) -> np.ndarray:
    """Rectangles as a reference turns them: over, and by quarters. Raises ``ValueError`` where it
    turns them by less, or makes them larger."""
    quarters = round(reference.rotation / (pi / 2))
    if abs(reference.rotation - quarters * pi / 2) > 1e-9 or reference.magnification != 1:
        raise ValueError("a reference that is turned by part of a quarter, or magnified")
    if reference.x_reflection:
        ends = ends * [1, -1, 1, -1]
        ends = ends[:, [0, 3, 2, 1]]
    for _ in range(quarters % 4):
        ends = np.stack([-ends[:, 3], ends[:, 0], -ends[:, 1], ends[:, 2]], 1)
    return ends


def find_crossings(cell: gdstk.Cell, layers: Layers, count: int) -> Crossings:
    """Where the stubs and lines of a base array cross; a stub crosses ``count`` lines.

    Lines are the most shapes of their layer with the same two ends; what is beside them is no stub.
    """
    metal = boxes(cell, layers.lines)
    ends = metal[:, 0] << 32 | metal[:, 2]
    found, times = np.unique(ends, return_counts=True)
    lines = metal[ends == found[times.argmax()]]
    lines = lines[np.argsort(lines[:, 1], kind="stable")]
    if (lines[1:, 1] < lines[:-1, 3]).any():
        raise ValueError(f"{cell.name}: lines touch")
    local = boxes(cell, layers.stubs)
    local = local[(local[:, 0] >= lines[:, 0].min()) & (local[:, 2] <= lines[:, 2].max())]
    low = np.searchsorted(lines[:, 3], local[:, 1], side="right")
    high = np.searchsorted(lines[:, 1], local[:, 3], side="left")
    chosen = high - low == count
    local, low = local[chosen], low[chosen]
    if not len(local):
        raise ValueError(f"{cell.name}: no stub crosses {count} lines")
    first, row = np.unique(low, return_inverse=True)
    lefts, column = np.unique(local[:, 0], return_inverse=True)
    if (np.diff(first) < count).any():
        raise ValueError(f"{cell.name}: two rows share a line")
    taken = row * len(lefts) + column
    if (np.bincount(taken, minlength=len(first) * len(lefts)) != 1).any():
        raise ValueError(f"{cell.name}: stubs must stand in whole rows and columns")
    stubs = np.zeros((len(first), len(lefts), 2), np.int64)
    stubs[row, column] = local[:, [1, 3]]
    columns = np.zeros((len(lefts), 2), np.int64)
    columns[column] = local[:, [0, 2]]
    if (columns[1:, 0] < columns[:-1, 1]).any():
        raise ValueError(f"{cell.name}: stubs touch")
    return Crossings(columns, lines[:, [1, 3]], stubs, first, count)


def read_contacts(path: Path, layers: Layers) -> dict[str, np.ndarray]:
    """Every contact of a file of tiles, by its lower left corner: int64 [contacts, 2], nm, of every
    cell that no other refers to, by its name."""
    found = read_stream(read_content(path))
    if found is not None:
        corners = stream_contacts(found, layers)
        if corners is not None:
            return corners
    cells = read_cells(path)
    below = {name for cell in cells for name in names_below(cell)}
    tops = [cell for cell in cells if cell.name not in below]
    if any(cell.paths or cell.labels for cell in cells):
        raise BadPackage(f"{path}: must hold cells of contacts and nothing else", hint=AGAIN)
    try:
        inner = {cell.name: squares(path, cell, layers) for cell in cells}
        deep = any(cell.references for cell in cells if cell.name in below)
        return {
            top.name: boxes(top, layers.programmable)[:, :2]
            if deep or any(map(is_odd, top.references))
            else placed(top, inner)
            for top in tops
        }
    except UNREADABLE as error:
        raise BadPackage(f"{path}: {told(error)}", hint=AGAIN) from None


def stream_contacts(found: Stream, layers: Layers) -> dict[str, np.ndarray] | None:
    """The contacts of the cells that are placed nowhere, with those of the cells placed in them,
    which place none; None where a file holds anything else."""
    made, put = found.squares, found.placements
    count = len(found.names)
    own, placing, below = (
        np.bincount(each, minlength=count) for each in (made[:, 0], put[:, 0], put[:, 1])
    )
    wanted = [*layers.programmable, layers.contact, layers.contact]
    if (placing[below > 0] > 0).any() or (made[:, [1, 2, 5, 6]] != wanted).any():
        return None
    made = made[np.argsort(made[:, 0], kind="stable")]
    put = put[np.argsort(put[:, 0], kind="stable")]
    first = np.cumsum(own) - own
    ends = np.cumsum(placing)
    corners = {}
    for top in np.flatnonzero(below == 0).tolist():
        mine = put[ends[top] - placing[top] : ends[top]]
        times = own[mine[:, 1]]
        if times.sum() > MOST:
            return None
        place = np.repeat(np.arange(len(mine)), times)
        inner = np.arange(len(place)) - (np.cumsum(times) - times)[place]
        inside = made[first[mine[place, 1]] + inner, 3:5] + mine[place, 2:4]
        flat = made[first[top] : first[top] + own[top], 3:5]
        corners[found.names[top]] = np.concatenate([flat, inside])
    return corners


def names_below(cell: gdstk.Cell) -> list[str]:
    """The names of cells that a cell refers to, each as often as it does."""
    return [reference.cell_name for reference in cell.references]


def squares(path: Path, cell: gdstk.Cell, layers: Layers) -> np.ndarray:
    """A cell's own contacts, by their lower left corners: int64 [contacts, 2], nm."""
    found = [np.zeros((0, 2), np.int64)]
    for polygon in cell.polygons:
        if (polygon.layer, polygon.datatype) != layers.programmable:
            raise BadPackage(
                f"{path}: a shape on layer {polygon.layer}/{polygon.datatype}: only the "
                f"programmable layer {layers.programmable[0]}/{layers.programmable[1]} may differ"
            )
        left, low, right, high = box(polygon)
        if right - left != layers.contact or high - low != layers.contact:
            raise BadPackage(
                f"{path}: a contact must be {layers.contact} nm wide and high, not "
                f"{right - left} by {high - low}"
            )
        found.append(offsets(polygon) + np.array([left, low]))
    return np.concatenate(found)


def is_odd(reference: gdstk.Reference) -> bool:
    """Whether a reference does more than to place a cell once, as it is."""
    turned = reference.rotation or reference.x_reflection or reference.magnification != 1
    return bool(turned or reference.repetition.size)


def placed(top: gdstk.Cell, inner: dict[str, np.ndarray]) -> np.ndarray:
    """The contacts of a cell, and of those it refers to: cells of contacts alone, none odd. So many
    that what :func:`boxes` does with each would take ten times as long."""
    references, names = top.references, names_below(top)
    if missing := {*names} - {*inner}:
        raise ValueError(f"a reference to {min(missing)}, which is not there")
    flat = chain.from_iterable(each.origin for each in references)
    origins = in_nm(np.fromiter(flat, np.float64, 2 * len(references))).reshape(-1, 2)
    number = {name: index for index, name in enumerate(inner)}
    which = np.fromiter(map(number.__getitem__, names), np.int64, len(names))
    counts = np.array([len(corners) for corners in inner.values()])
    times = counts[which]
    if times.sum() > MOST:
        raise ValueError(f"cell {top.name} has more than {MOST:,} contacts")
    place = np.repeat(np.arange(len(which)), times)
    own = np.arange(len(place)) - (np.cumsum(times) - times)[place]
    below = np.concatenate([*inner.values()])[(np.cumsum(counts) - counts)[which][place] + own]
    return np.concatenate([inner[top.name], origins[place] + below])


def locate(
    corners: np.ndarray, where: Crossings, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and code of every contact; row -1 where it is not whole on a crossing."""
    x, y = corners.T
    column = np.clip(np.searchsorted(where.columns[:, 0], x, side="right") - 1, 0, None)
    line = np.clip(np.searchsorted(where.lines[:, 0], y, side="right") - 1, 0, None)
    row = np.clip(np.searchsorted(where.first, line, side="right") - 1, 0, None)
    code = line - where.first[row]
    stub = where.stubs[row, column]
    on_stub = (x >= where.columns[column, 0]) & (x + side <= where.columns[column, 1])
    on_stub &= (y >= stub[:, 0]) & (y + side <= stub[:, 1])
    on_line = (y >= where.lines[line, 0]) & (y + side <= where.lines[line, 1])
    right = on_stub & on_line & (code >= 0) & (code < where.count)
    return np.where(right, row, -1), column, code


def nearest(corner: np.ndarray, where: Crossings, side: int) -> tuple[int, int]:
    """Row and column of the cell nearest to a contact."""
    x, y = corner + side // 2
    column = int(np.abs(where.columns.mean(1) - x).argmin())
    middles = where.stubs[:, column].mean(1)
    return int(np.abs(middles - y).argmin()), column
