"""Masks read back: from layout files and a data sheet to the whole integer model, by geometry.

A cell's code is the number of the product line, counted from below, at whose crossing with the
cell's stub a contact sits. Stubs are the shapes of local interconnect that cross a whole row of
lines; rows and columns are counted from where they are. Nothing here knows how the shapes were
drawn: it shares no code with ``layout`` but reads the same rule file for the layers' numbers.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import gdstk
import numpy as np

from intaglio.errors import BadPackage, IntaglioError, Mismatch
from intaglio.golden.model import MATRICES, IntModel, Layer, Matrix, Norm
from intaglio.golden.number import product_bits
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import FabricPlan
from intaglio.quantity import read_yaml

FORMAT = 1
SHEET, BASE = "die.json", "base.oas"
AGAIN = "engrave the masks again"
LINES, STUBS = "met1", "li1"
CONTACT_SIZE = "ct.1"
NM = 1e3  # of a micrometre
UNREADABLE = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError)
SHOWN = 20
"""Differences that are named."""

Progress = Callable[[float, str], object]


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


@dataclass(frozen=True)
class Read:
    """What masks hold: ``model`` under the shape ``plan``."""

    model: IntModel
    plan: ChipPlan


def read_masks(folder: Path, progress: Progress | None = None) -> Read:
    """Recover the model from the layout files and the data sheet in ``folder``.

    Raises :class:`BadPackage` for files that are missing, damaged or of another kind, and
    :class:`Mismatch` naming the cell where a contact is missing, doubled or on no crossing, or the
    ROM that contradicts the codes.
    """
    sheet = read_sheet(folder / SHEET)
    try:
        plan = ChipPlan.from_dict(sheet["shape"])
        layers = read_layers(sheet["process"], sheet["programmable"])
        codes = read_arrays(folder, sheet, layers, progress)
        return Read(Assembly(plan, sheet["roms"], codes).model(), plan)
    except IntaglioError:
        raise
    except UNREADABLE as error:
        raise BadPackage(f"{folder / SHEET}: damaged: {error!r}", hint=AGAIN) from None


def read_sheet(path: Path) -> dict[str, Any]:
    """The data sheet, of this format."""
    try:
        sheet = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadPackage(f"{path}: no such file: {path.parent} holds no masks") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadPackage(f"{path}: damaged: {error}", hint=AGAIN) from None
    if not isinstance(sheet, dict) or sheet.get("format") != FORMAT:
        raise BadPackage(f"{path}: not a data sheet of format {FORMAT}", hint=AGAIN)
    return sheet


def read_layers(process: str, programmable: str) -> Layers:
    """The numbers of the layers, from the rule file of a process."""
    if not process.isidentifier():
        raise BadPackage(f"process must be a name, not {process!r}")
    values = read_yaml(Path(str(files("intaglio") / "layout" / f"{process}.yaml")))
    numbers = {name: tuple(entry["gds"]) for name, entry in values["layers"].items()}
    contact = round(values["rules"][CONTACT_SIZE]["value"] * NM)
    return Layers(numbers[programmable], numbers[LINES], numbers[STUBS], contact)


def read_cells(path: Path) -> list[gdstk.Cell]:
    """The cells of a layout file. Raises :class:`BadPackage` where it is missing or damaged."""
    if not path.is_file():
        raise BadPackage(f"{path}: missing", hint=AGAIN)
    try:
        cells = gdstk.read_oas(path, unit=1e-6).cells
    except UNREADABLE as error:
        raise BadPackage(f"{path}: not an OASIS file: {error}", hint=AGAIN) from None
    return [cell for cell in cells if isinstance(cell, gdstk.Cell)]


def read_arrays(
    folder: Path, sheet: dict[str, Any], layers: Layers, progress: Progress | None
) -> dict[str, np.ndarray]:
    """The codes of every array by name: uint8 [rows, lanes, columns]."""
    cells = {cell.name: cell for cell in read_cells(folder / BASE)}
    known: dict[str, Crossings] = {}
    found: dict[str, np.ndarray] = {}
    for number, array in enumerate(sheet["arrays"]):
        codes = np.full((array["rows"], array["lanes"], array["columns"]), 255, np.uint8)
        for tile in array["tiles"]:
            path = inside(folder, tile["file"])
            if tile["base"] not in cells:
                raise BadPackage(f"{folder / BASE}: has no cell {tile['base']}", hint=AGAIN)
            if tile["base"] not in known:
                count = 1 << array["bits"]
                known[tile["base"]] = find_crossings(cells[tile["base"]], layers, count)
            read_tile(path, array, tile, known[tile["base"]], layers, codes)
        if (codes == 255).any():
            raise BadPackage(f"{folder / SHEET}: {array['name']}: its tiles do not cover it")
        found[array["name"]] = codes
        if progress:
            progress((number + 1) / len(sheet["arrays"]), array["name"])
    return found


def inside(folder: Path, name: str) -> Path:
    """A file of that name in ``folder``."""
    if Path(name).name != name:
        raise BadPackage(f"{folder / SHEET}: file must be a name, not {name!r}")
    return folder / name


def offsets(shape: Any) -> np.ndarray:
    """Where a shape repeats, in nm: int64 [times, 2], 0, 0 where it does not."""
    repetition = shape.repetition
    if repetition is None or not repetition.size:
        return np.zeros((1, 2), np.int64)
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


def boxes(cell: gdstk.Cell, layer: tuple[int, int]) -> np.ndarray:
    """All rectangles of a layer in a cell and below: int64 [shapes, 4]."""
    found = [np.zeros((0, 4), np.int64)]
    for polygon in cell.polygons:
        if (polygon.layer, polygon.datatype) == layer:
            each = offsets(polygon)
            found.append(box(polygon) + np.tile(each, 2))
    for reference in cell.references:
        if reference.rotation or reference.x_reflection or reference.magnification != 1:
            raise ValueError("a reference that is turned")
        below = reference.cell
        if not isinstance(below, gdstk.Cell):
            raise ValueError(f"a reference to {below}, which is not there")
        places = offsets(reference) + in_nm(reference.origin)
        inner = boxes(below, layer)
        found.append((inner[None] + np.tile(places, 2)[:, None]).reshape(-1, 4))
    return np.concatenate(found)


def find_crossings(cell: gdstk.Cell, layers: Layers, count: int) -> Crossings:
    """Where the stubs and lines of a base array cross; a stub crosses ``count`` lines."""
    metal = boxes(cell, layers.lines)
    wide = metal[:, 2] - metal[:, 0]
    lines = metal[wide == wide.max()]
    lines = lines[np.argsort(lines[:, 1], kind="stable")]
    if (lines[1:, 1] < lines[:-1, 3]).any():
        raise ValueError(f"{cell.name}: lines touch")
    local = boxes(cell, layers.stubs)
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


def read_contacts(path: Path, layers: Layers) -> np.ndarray:
    """Every contact of a tile's file, by its lower left corner: int64 [contacts, 2], nm."""
    tops = read_cells(path)
    if len(tops) != 1 or tops[0].references or tops[0].paths or tops[0].labels:
        raise BadPackage(f"{path}: must hold one cell of contacts and nothing else", hint=AGAIN)
    found = [np.zeros((0, 2), np.int64)]
    for polygon in tops[0].polygons:
        if (polygon.layer, polygon.datatype) != layers.programmable:
            raise BadPackage(
                f"{path}: a shape on layer {polygon.layer}/{polygon.datatype}: only the "
                f"programmable layer {layers.programmable[0]}/{layers.programmable[1]} may differ"
            )
        try:
            left, low, right, high = box(polygon)
        except ValueError as error:
            raise BadPackage(f"{path}: {error}", hint=AGAIN) from None
        if right - left != layers.contact or high - low != layers.contact:
            raise BadPackage(
                f"{path}: a contact must be {layers.contact} nm wide and high, not "
                f"{right - left} by {high - low}"
            )
        found.append(offsets(polygon) + np.array([left, low]))
    return np.concatenate(found)


def read_tile(
    path: Path,
    array: dict[str, Any],
    tile: dict[str, Any],
    where: Crossings,
    layers: Layers,
    codes: np.ndarray,
) -> None:
    """Read a tile's contacts into its part of an array's ``codes``."""
    rows, columns = array["rows"] + array["rows"] % 2, tile["columns"] + tile["columns"] % 2
    if where.stubs.shape[:2] != (tile["lanes"] * rows, columns):
        raise BadPackage(
            f"{path}: {tile['base']} must have {tile['lanes'] * rows} rows of {columns} columns, "
            f"not {where.stubs.shape[0]} of {where.stubs.shape[1]}", hint=AGAIN,
        )  # fmt: skip
    corners = read_contacts(path, layers)
    row, column, code = locate(corners, where, layers.contact)

    def named(at_row: int, at_column: int) -> str:
        lane, inner = divmod(int(at_row), rows)
        return cell_name(array["name"], inner, tile["lane"] + lane, tile["column"] + int(at_column))

    stray = row < 0
    counts = np.bincount(row[~stray] * columns + column[~stray], minlength=where.stubs[..., 0].size)
    for wrong, what in ((counts == 0, "has no contact"), (counts > 1, "has more than one contact")):
        if wrong.any():
            total = int(wrong.sum())
            more = f", and {total - 1} cells more" if total > 1 else ""
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
    if np.count_nonzero(grid) != np.count_nonzero(inner):
        raise Mismatch(f"{path}: {array['name']}: padding must hold code 0")
    part = codes[
        :, tile["lane"] : tile["lane"] + tile["lanes"],
        tile["column"] : tile["column"] + tile["columns"],
    ]  # fmt: skip
    part[:] = inner.transpose(1, 0, 2)


def cell_name(array: str, row: int, lane: int, column: int) -> str:
    """What a cell is called."""
    return f"{array}, row {row}, lane {lane}, column {column}"


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


class Assembly:
    """Puts a model together from the codes of all arrays."""

    def __init__(self, plan: ChipPlan, roms: dict[str, Any], codes: dict[str, np.ndarray]) -> None:
        self.plan, self.roms, self.codes = plan, roms, codes

    def model(self) -> IntModel:
        """The whole model; its own checks are made."""
        a, last = self.plan.architecture, self.words("constants")
        layers = []
        for index, fabrics in enumerate(self.plan.layers):
            place = f"layers.{index}"
            own = self.words(f"{place}.constants")
            layers.append(
                Layer(
                    norm_attention=norm(own, "norm_attention"),
                    norm_mlp=norm(own, "norm_mlp"),
                    score_shift=int(own["score_shift"][0]),
                    **{name: self.matrix(f"{place}.{name}", fabrics[name]) for name in MATRICES},
                )
            )
        elements = self.words("embedding")["element"].astype(np.uint8).view(np.int8)
        step = int(last["residual_step"][0])
        return IntModel(
            architecture=a,
            widths=self.plan.widths,
            residual_step=step - 256 if step > 127 else step,
            rotary=np.array(self.plan.rotary, np.int64),
            embedding=elements.reshape(a.vocabulary, a.width),
            embedding_multiplier=self.words("embedding_multiplier")["multiplier"].astype(np.uint16),
            embedding_shift=int(last["embedding_shift"][0]),
            layers=tuple(layers),
            norm=norm(last, "norm"),
            head=self.matrix("head", self.plan.head),
        )

    def words(self, name: str) -> dict[str, np.ndarray]:
        """The fields of a ROM's words: uint64 [words] by name."""
        rom = self.roms[name]
        rows = self.codes[name].transpose(1, 0, 2).reshape(-1, rom["digits"])
        digits, beyond = rows[: rom["words"]], rows[rom["words"] :]
        bits = np.stack([digits & 1, digits >> 1], -1).reshape(len(digits), -1)
        found, at = {}, 0
        for field, width in rom["fields"]:
            value = np.zeros(len(bits), np.uint64)
            for bit in range(width):
                value |= bits[:, at + bit].astype(np.uint64) << np.uint64(bit)
            found[field] = value
            at += width
        if bits[:, at:].any() or beyond.any():
            raise Mismatch(f"{name}: a contact outside its words")
        return found

    def matrix(self, name: str, fabric: FabricPlan) -> Matrix:
        """A fabric's codes and what stands behind it."""
        codes, narrow = self.codes[name], self.words(f"{name}.narrow")
        self.check_start(name, fabric)
        main = codes[: fabric.rows].reshape(-1, fabric.outputs)
        if main[fabric.inputs :].any():
            raise Mismatch(f"{name}: lanes without an input must hold code 0")
        inputs, extra = self.extras(name, fabric)
        return Matrix(
            bits=fabric.bits,
            codes=np.ascontiguousarray(main[: fabric.inputs]),
            extra_shift=fabric.extra_shift,
            extra_inputs=inputs,
            extra_codes=extra,
            multiplier=narrow["multiplier"].astype(np.uint16),
            shift=narrow["shift"].astype(np.uint8),
        )

    def extras(self, name: str, fabric: FabricPlan) -> tuple[np.ndarray, np.ndarray]:
        """The inputs that have a second digit, ascending, and those digits."""
        second = self.codes[name][fabric.rows :]
        if not fabric.extra_rows:
            return np.zeros(0, np.int32), np.zeros((0, fabric.outputs), np.uint8)
        rows = self.words(f"{name}.map")["row"].astype(np.int64)
        rows = rows.reshape(fabric.extra_rows, fabric.lanes)
        used = rows < fabric.rows
        if (rows > fabric.rows).any() or second[~used].any():
            raise Mismatch(f"{name}: extra rows without an input must hold code 0")
        extra, lane = np.nonzero(used)
        inputs = rows[extra, lane] * fabric.lanes + lane
        order = np.argsort(inputs, kind="stable")
        return inputs[order].astype(np.int32), second[extra[order], lane[order]]

    def check_start(self, name: str, fabric: FabricPlan) -> None:
        """Raise :class:`Mismatch` unless start values follow from the codes.

        A negative product comes without its last 1; the sign's bit cycle counts every cell once too
        much: see docs/spec.md.
        """
        codes = self.codes[name]
        start = np.zeros(fabric.outputs, np.int64)
        for row, cells in enumerate(codes):
            each = (cells >> fabric.bits - 1).sum(0, dtype=np.int64)
            each -= len(cells) << product_bits(fabric.activation) - 1
            start += each << (fabric.extra_shift if row < fabric.rows else 0)
        expected = start & (1 << fabric.accumulator) - 1
        wrong = expected != self.words(f"{name}.start")["start"].astype(np.int64)
        if wrong.any():
            raise Mismatch(
                f"{name}, column {int(wrong.argmax())}: its start value contradicts its codes"
            )


def norm(words: dict[str, np.ndarray], name: str) -> Norm:
    """The constants of a norm from the words that hold them."""
    return Norm(*(int(words[f"{name}.{part}"][0]) for part in ("epsilon", "multiplier", "shift")))


def differences(expected: IntModel, found: IntModel, plan: ChipPlan) -> Iterator[dict[str, Any]]:
    """Where two models of one shape differ: codes by row, lane and column, the rest by index."""
    others = dict(found.matrices())
    fabrics = {
        f"layers.{index}.{name}": fabric
        for index, layer in enumerate(plan.layers)
        for name, fabric in layer.items()
    } | {"head": plan.head}
    for name, matrix in expected.matrices():
        yield from matrix_differences(name, matrix, others[name], fabrics[name])
    for field in ("rotary", "embedding", "embedding_multiplier"):
        yield from array_differences(field, getattr(expected, field), getattr(found, field))
    for field in ("residual_step", "embedding_shift", "norm"):
        if getattr(expected, field) != getattr(found, field):
            yield entry(field)
    for index, (own, other) in enumerate(zip(expected.layers, found.layers, strict=True)):
        for field in ("norm_attention", "norm_mlp", "score_shift"):
            if getattr(own, field) != getattr(other, field):
                yield entry(f"layers.{index}.{field}")


def matrix_differences(
    name: str, expected: Matrix, found: Matrix, fabric: FabricPlan
) -> Iterator[dict[str, Any]]:
    """Where two matrices of one shape differ."""
    for source, column in np.argwhere(expected.codes != found.codes).tolist():
        row, lane = divmod(source, fabric.lanes)
        codes = int(expected.codes[source, column]), int(found.codes[source, column])
        yield entry(name, row, lane, column, codes)
    if not np.array_equal(expected.extra_inputs, found.extra_inputs):
        yield entry(f"{name}.map")
    else:
        lanes = expected.extra_inputs % fabric.lanes
        for index, column in np.argwhere(expected.extra_codes != found.extra_codes).tolist():
            lane = int(lanes[index])
            row = fabric.rows + int((lanes[:index] == lane).sum())
            codes = int(expected.extra_codes[index, column]), int(found.extra_codes[index, column])
            yield entry(name, row, lane, column, codes)
    for field in ("multiplier", "shift"):
        yield from array_differences(
            f"{name}.{field}", getattr(expected, field), getattr(found, field)
        )


def array_differences(
    name: str, expected: np.ndarray, found: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Where two arrays of one shape differ, by the first index and the last."""
    for place in np.argwhere(expected != found).tolist():
        values = int(expected[tuple(place)]), int(found[tuple(place)])
        yield entry(name, place[0], None, place[-1] if len(place) > 1 else None, values)


def entry(
    name: str,
    row: int | None = None,
    lane: int | None = None,
    column: int | None = None,
    values: tuple[int | None, int | None] = (None, None),
) -> dict[str, Any]:
    """One difference: where, what should be there and what is."""
    return {
        "where": name, "row": row, "lane": lane, "column": column,
        "expected": values[0], "found": values[1],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """Two sets of masks of one shape: contacts altogether, those that stand in one only, files."""

    contacts: int
    changed: int
    files: int
    changed_files: int


def compare_masks(first: Path, second: Path, progress: Progress | None = None) -> Compared:
    """Take two chips' masks from each other (XOR), shape by shape.

    Raises :class:`Mismatch` naming what differs where anything but the programmable layer does:
    their data sheets, or a layer of a base cell. A tile's file must hold nothing else.
    """
    sheets = read_sheet(first / SHEET), read_sheet(second / SHEET)
    if sheets[0] != sheets[1]:
        keys = sorted(key for key in sheets[0] if sheets[0][key] != sheets[1].get(key))
        raise Mismatch(
            f"{first} and {second}: not masks of one shape: their data sheets differ in "
            f"{', '.join(keys) or 'their keys'}",
            hint="compile one of the two with --base",
        )
    try:
        compare_bases(first / BASE, second / BASE, sheets[0]["process"])
        layers = read_layers(sheets[0]["process"], sheets[0]["programmable"])
        names = [tile["file"] for array in sheets[0]["arrays"] for tile in array["tiles"]]
        total = changed = files = 0
        for number, name in enumerate(names):
            both = [
                keys_of(read_contacts(inside(place, name), layers)) for place in (first, second)
            ]
            odd = len(np.setxor1d(both[0], both[1]))
            total, changed, files = total + len(both[0]), changed + odd, files + (odd > 0)
            if progress:
                progress((number + 1) / len(names), name)
        return Compared(total, changed, len(names), files)
    except IntaglioError:
        raise
    except UNREADABLE as error:
        raise BadPackage(f"{first / SHEET}: damaged: {error!r}", hint=AGAIN) from None


def keys_of(corners: np.ndarray) -> np.ndarray:
    """Corners as one number each."""
    return corners[:, 0] << 32 | corners[:, 1] & 0xFFFFFFFF


def compare_bases(first: Path, second: Path, process: str) -> None:
    """Raise :class:`Mismatch` unless two files of base cells hold the same shapes."""
    if first.is_file() and second.is_file() and first.read_bytes() == second.read_bytes():
        return
    cells = [{cell.name: cell for cell in read_cells(path)} for path in (first, second)]
    if odd := sorted({*cells[0]} ^ {*cells[1]}):
        raise Mismatch(f"{first} and {second}: cell {odd[0]} is in one only")
    values = read_yaml(Path(str(files("intaglio") / "layout" / f"{process}.yaml")))
    for name in sorted(cells[0]):
        for layer, numbers in values["layers"].items():
            shapes = [np.unique(boxes(own[name], tuple(numbers["gds"])), axis=0) for own in cells]
            if not np.array_equal(shapes[0], shapes[1]):
                raise Mismatch(f"{first} and {second}: cell {name} differs on layer {layer}")
