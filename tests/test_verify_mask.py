"""Masks read back: the whole model, and every kind of damage by its name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gdstk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_files import RULES, edit_sheet, mixed_model, open_cell, read_corners, write_corners

from intaglio.errors import BadPackage, Mismatch
from intaglio.layout import die
from intaglio.layout.die import engrave
from intaglio.layout.fabric import Array, tiles
from intaglio.layout.geometry import geometry
from intaglio.plan.chip import make_plan
from intaglio.verify.mask.compare import differences
from intaglio.verify.mask.read import read_masks

MODEL = mixed_model()
PLAN = make_plan(MODEL)
FABRICS = {f"layers.0.{name}": fabric for name, fabric in PLAN.layers[0].items()}


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    engrave(MODEL, PLAN, folder)
    return folder


@pytest.fixture
def copy(masks, tmp_path) -> Path:
    return Path(shutil.copytree(masks, tmp_path / "copy"))


def test_the_whole_model_comes_back(masks):
    read = read_masks(masks)
    assert read.model.hash() == MODEL.hash()
    assert read.plan == PLAN
    assert list(differences(MODEL, read.model, PLAN)) == []


def as_gds(folder: Path) -> None:
    """Every file of masks as GDS, by klayout."""
    db = pytest.importorskip("klayout.db")
    for path in folder.glob("*.oas"):
        layout = db.Layout()
        layout.read(str(path))
        layout.write(str(path.with_suffix(".gds")))
        path.unlink()


def test_the_whole_model_comes_back_from_gds(copy):
    as_gds(copy)
    assert not list(copy.glob("*.oas"))
    assert read_masks(copy).model.hash() == mixed_model().hash()


def test_a_damaged_gds_is_told(copy):
    as_gds(copy)
    path = copy / "head.0.0.gds"
    raw = path.read_bytes()
    for content, message in (
        (raw[: len(raw) // 2], "not a GDS file, or not a whole one"),
        (b"", "not a GDS file, or not a whole one"),
        (raw[:200] + raw[-4:], r"head\.0\.0\.gds: not a layout file that can be read: \S"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadPackage, match=message):
            read_masks(copy)


def test_the_data_sheet_holds_the_shape_and_nothing_else(masks):
    sheet = json.loads((masks / "die.json").read_text())
    assert set(sheet) == {"format", "process", "programmable", "shape", "arrays", "roms", "sha256"}
    assert sheet["shape"] == json.loads(json.dumps(PLAN.as_dict()))


def test_masks_of_two_models_of_a_shape_share_sheet_and_base(masks, tmp_path):
    head = replace(MODEL.head, codes=MODEL.head.codes ^ 1)
    other = replace(MODEL, head=head, embedding=MODEL.embedding[::-1].copy())
    folder = tmp_path / "other"
    folder.mkdir()
    engrave(other, PLAN, folder)
    same = [p.name for p in folder.iterdir() if p.read_bytes() == (masks / p.name).read_bytes()]
    assert {"die.json", "base.oas"} <= set(same)
    changed = {p.name for p in folder.iterdir()} - set(same)
    assert {name.split(".")[0] for name in changed} <= {"head", "embedding"}
    for name in ("die.json", "base.oas"):  # swapping them changes nothing
        shutil.copy(masks / name, folder / name)
    assert read_masks(folder).model.hash() == other.hash()


def test_processes_write_the_same_files(masks, tmp_path, monkeypatch):
    monkeypatch.setattr(die, "PARALLEL", 0)
    engrave(MODEL, PLAN, tmp_path, jobs=2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in masks.iterdir()}
    assert all((tmp_path / name).read_bytes() == (masks / name).read_bytes() for name in names)


def cells_of(name: str) -> st.SearchStrategy[tuple[str, int, int, int]]:
    f = FABRICS[name]
    return st.tuples(
        st.just(name), st.integers(0, f.rows + f.extra_rows - 1), st.integers(0, f.lanes - 1),
        st.integers(0, f.outputs - 1),
    )  # fmt: skip


CELLS = st.sampled_from(sorted(FABRICS)).flatmap(cells_of)


def contact_of(masks: Path, cell: tuple[str, int, int, int]) -> tuple[Path, np.ndarray, int, int]:
    """A cell's file, the contacts in it, the number of its own, and that one's code."""
    name, row, lane, column = cell
    f = FABRICS[name]
    array = Array(name, f.bits, f.rows + f.extra_rows, f.lanes, f.outputs)
    tile = [*tiles(array, RULES)][lane]
    g, path = geometry(1 << f.bits, RULES), masks / die.file_name(tile)
    corners = read_corners(path, tile.name)
    left = tile.drivers(RULES).end
    x = left + g.slot(column) * g.column + (g.column - g.contact) // 2
    y = g.bottom(row) + g.first - g.contact // 2
    inside = (corners[:, 0] == x) & (corners[:, 1] >= y) & (corners[:, 1] < y + g.lines * g.line)
    (index,) = np.flatnonzero(inside)
    return path, corners, int(index), int((corners[index, 1] - y) // g.line)


def tile_of(cell: tuple[str, int, int, int]) -> str:
    """The name of a cell's tile."""
    return f"{cell[0]}.{cell[2]}.0"


def named(cell: tuple[str, int, int, int]) -> str:
    return "{}, row {}, lane {}, column {} ".format(*cell)


@settings(max_examples=8, deadline=None)
@given(cell=CELLS, kind=st.sampled_from(["missing", "doubled", "sideways", "between"]))
def test_a_damaged_contact_is_named_by_its_cell(masks, tmp_path_factory, cell, kind):
    folder = Path(shutil.copytree(masks, tmp_path_factory.mktemp("damaged") / "masks"))
    path, corners, index, code = contact_of(folder, cell)
    g = geometry(1 << FABRICS[cell[0]].bits, RULES)
    if kind == "missing":
        corners = np.delete(corners, index, 0)
    elif kind == "doubled":
        step = g.line if code == 0 else -g.line
        corners = np.concatenate([corners, corners[index : index + 1] + np.array([0, step])])
    else:
        corners[index] += (RULES.grid, 0) if kind == "sideways" else (0, g.line // 2)
    write_corners(path, corners, tile_of(cell))
    what = "has more than one contact" if kind == "doubled" else "has no contact"
    with pytest.raises(Mismatch, match=named(cell) + what):
        read_masks(folder)


@settings(max_examples=8, deadline=None)
@given(cell=CELLS, code=st.integers(0, 15))
def test_a_contact_on_another_line_is_named(masks, tmp_path_factory, cell, code):
    """A sign that changes contradicts the column's start value; a magnitude is another model."""
    folder = Path(shutil.copytree(masks, tmp_path_factory.mktemp("moved") / "masks"))
    path, corners, index, before = contact_of(folder, cell)
    name, row, lane, column = cell
    fabric = FABRICS[name]
    g, code = geometry(1 << fabric.bits, RULES), code % (1 << fabric.bits)
    corners[index, 1] += (code - before) * g.line
    write_corners(path, corners, tile_of(cell))
    if code == before:
        assert read_masks(folder).model.hash() == MODEL.hash()
        return
    if (code ^ before) >> fabric.bits - 1:
        with pytest.raises(Mismatch, match=f"{name}, column {column}: its start value|must hold"):
            read_masks(folder)
        return
    try:
        found = read_masks(folder).model
    except Mismatch as error:
        assert " must hold " in error.message  # noqa: PT017 - padding, or a named cell below
        return
    assert list(differences(MODEL, found, PLAN)) == [
        {"where": name, "row": row, "lane": lane, "column": column, "expected": before,
         "found": code}
    ]  # fmt: skip


def test_a_stray_contact_is_told(copy):
    path = copy / "layers.0.q.0.0.oas"
    corners = read_corners(path, "layers.0.q.0.0")
    more = np.concatenate([corners, corners[:1] + np.array([0, -250])])
    write_corners(path, more, "layers.0.q.0.0")
    with pytest.raises(
        Mismatch, match=r"is on no crossing; the cell nearest to it is layers\.0\.q"
    ):
        read_masks(copy)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def foreign_layer(path: Path) -> None:
    library, cell = open_cell(path)
    cell.add(gdstk.rectangle((0, 0), (1, 1), layer=68, datatype=20))
    library.write_oas(path)


def large_contact(path: Path) -> None:
    library, cell = open_cell(path)
    cell.add(gdstk.rectangle((0, 0), (1, 1), layer=67, datatype=44))
    library.write_oas(path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("die.json", Path.unlink, r"die\.json: no such file"),
        ("die.json", lambda p: p.write_text("{"), r"die\.json: damaged"),
        ("die.json", lambda p: p.write_text('{"format": 9}'), r"not a data sheet of format 3"),
        ("die.json", lambda p: p.write_text('{"format": 3}'), r"die\.json: damaged: its sha256"),
        ("base.oas", Path.unlink, r"base\.oas: missing"),
        ("base.oas", damaged, r"base\.oas: not an OASIS file"),
        ("head.0.0.oas", Path.unlink, r"head\.0\.0\.oas: missing"),
        ("head.0.0.oas", lambda p: p.write_text("x"), r"head\.0\.0\.oas: (not an OASIS|must hold)"),
        ("head.0.0.oas", foreign_layer, r"a shape on layer 68/20: only the programmable layer"),
        ("head.0.0.oas", large_contact, r"a contact must be 170 nm wide and high, not 1000 by"),
    ],
)
def test_bad_files_are_refused(copy, name, damage, message):
    damage(copy / name)
    with pytest.raises(BadPackage, match=message):
        read_masks(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("arrays"), "damaged: no 'arrays'"),
        (lambda v: v["shape"].pop("head"), r"shape: missing or unknown key: 'head'"),
        (lambda v: v["shape"].update(slots=0), r"shape: slots must be from 1 to 256, not 0"),
        (lambda v: v["arrays"][0].update(rows=10**30), "damaged: "),
        (
            lambda v: v["arrays"][0].update(columns=10**9),
            r"layers\.0\.q: its tiles do not cover it",
        ),
        (lambda v: v["arrays"][0]["tiles"].append(v["arrays"][0]["tiles"][0]), "do not cover it"),
        (lambda v: v["arrays"][0]["tiles"][0].update(file="../x"), "file must be a name"),
    ],
)
def test_a_sheet_that_makes_no_sense_is_named(copy, change, message):
    edit_sheet(copy, change)
    with pytest.raises(BadPackage, match=rf"die\.json: {message}|die\.json: .*{message}"):
        read_masks(copy)


@pytest.mark.parametrize(
    "change",
    ['"slots": 2|"slots": 3', '"rope_base": 10000.0|"rope_base": 1000.0', '{|{"slots": 1,'],
)
def test_a_sheet_that_was_changed_is_refused(copy, change):
    """Any of it would be another model, or the same one on another chip."""
    path, (before, after) = copy / "die.json", change.split("|")
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(BadPackage, match=r"die\.json: damaged: its sha256"):
        read_masks(copy)


def move(masks: Path, array: str, row: int, lane: int, column: int, code: int) -> None:
    """Move a cell's contact from code 0, which must be under it, to another line."""
    sheet = json.loads((masks / "die.json").read_text())
    (own,) = (each for each in sheet["arrays"] if each["name"] == array)
    tile = [
        *tiles(Array(*(own[key] for key in ("name", "bits", "rows", "lanes", "columns"))), RULES)
    ][lane]
    g, path = geometry(1 << own["bits"], RULES), masks / die.file_name(tile)
    corners = read_corners(path, tile.name)
    x = tile.drivers(RULES).end + g.slot(column) * g.column + (g.column - g.contact) // 2
    y = g.bottom(row) + g.first - g.contact // 2
    inside = (corners[:, 0] == x) & (corners[:, 1] >= y) & (corners[:, 1] < y + g.lines * g.line)
    (index,) = np.flatnonzero(inside)
    corners[index, 1] = y + code * g.line
    write_corners(path, corners, tile.name)


def test_contacts_where_the_model_is_not_are_named(copy):
    """Cells that fill up a tile, that have no input, and that hold no word of a ROM."""
    q = PLAN.layers[0]["q"]
    assert (q.rows + q.extra_rows) % 2
    move(copy, "layers.0.q", q.rows + q.extra_rows, 0, 5, 3)
    with pytest.raises(
        Mismatch,
        match=rf"oas: layers\.0\.q, row {q.rows + q.extra_rows}, lane 0, column 5 is padding",
    ):
        read_masks(copy)


def test_a_contact_of_a_lane_without_input_is_named(copy):
    name, f = next((n, f) for n, f in FABRICS.items() if f.rows * f.lanes > f.inputs)
    row, lane = divmod(f.rows * f.lanes - 1, f.lanes)
    move(copy, name, row, lane, 2, 0)
    with pytest.raises(
        Mismatch,
        match=f"{name}, row {row}, lane {lane}, column 2 has no input and must hold code 2, not 0",
    ):
        read_masks(copy)


def test_a_contact_of_no_word_of_a_rom_is_named(copy):
    """A single word has the low bits of its cells; the high ones are of a second, which is not."""
    move(copy, "norm", 0, 0, 63, 3)
    with pytest.raises(
        Mismatch, match="norm, row 0, lane 0, column 63 holds a bit of a word beyond the last"
    ):
        read_masks(copy)
