"""Tiles: contacts as other programs read them, and the design rules by klayout."""

from dataclasses import replace

import gdstk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_files import LAYER, RULES, SIDE, random_codes, read_corners, write_tile

from intaglio.layout.die import write_base, write_tiles
from intaglio.layout.fabric import Array, Tile, contacts, tiles
from intaglio.layout.geometry import geometry
from intaglio.layout.oasis import Contacts, write_contacts
from intaglio.verify.mask.shapes import read_contacts, read_layers
from intaglio.verify.rules import BY_CONSTRUCTION, regions, violations

ARRAYS = [(2, 15, 2, 12), (3, 11, 2, 9), (4, 5, 2, 7), (3, 2, 1, 570)]


def expected_corners(tile: Tile, codes: np.ndarray) -> set[tuple[int, int]]:
    """Every contact's corner, one cell after the other."""
    g, found = geometry(1 << tile.array.bits, RULES), set()
    rows, columns, left = tile.drawn_rows, tile.drawn_columns, tile.drivers(RULES).end
    for lane in range(tile.lanes):
        for row in range(rows):
            for column in range(columns):
                padding = row >= tile.array.rows or column >= tile.columns
                code = 0 if padding else codes[row, tile.lane + lane, tile.column + column]
                x = left + g.slot(column) * g.column + g.column // 2 - SIDE // 2
                y = lane * g.lane(rows) + g.bottom(row) + g.first + int(code) * g.line - SIDE // 2
                found.add((x, y))
    return found


@pytest.mark.parametrize("shape", ARRAYS)
def test_contacts_stand_where_the_codes_say(shape, tmp_path):
    array = Array("q", *shape)
    codes = random_codes(array)
    *_, tile = tiles(array, RULES)
    write_tile(tile, codes, tmp_path / "q.oas")
    corners = [tuple(corner) for corner in read_corners(tmp_path / "q.oas").tolist()]
    assert len(corners) == len(set(corners))
    assert set(corners) == expected_corners(tile, codes)


def made_contacts(lines: int, codes: np.ndarray, gaps: list[int]) -> Contacts:
    """Contacts at any columns and pairs of rows."""
    rows = len(codes)
    bottoms = np.arange(rows) * 3360 + np.arange(rows) // 2 * 5 + 95
    slots = np.cumsum(np.array(gaps[: codes.shape[1]]))
    return Contacts(codes, bottoms, 4095, slots, 360, 370, lines, SIDE)


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([2, 3, 4]),
    pairs=st.integers(1, 6),
    gaps=st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 3, 200]), min_size=1, max_size=40),
    spread=st.integers(1, 16),
    seed=st.integers(0, 99),
)
def test_every_reader_finds_the_contacts_of_any_codes(
    tmp_path_factory, bits, pairs, gaps, spread, seed
):
    """gdstk, klayout and the reader of masks; few codes that occur make many copies."""
    kdb = pytest.importorskip("klayout.db")
    shape, most = (2 * pairs, len(gaps)), min(spread, 1 << bits)
    codes = np.random.default_rng(seed).integers(0, most, shape, dtype=np.uint8)
    made = made_contacts(1 << bits, codes, gaps)
    x, y = made.left + made.slots * made.column, made.bottoms[:, None] + codes.astype(int) * 370
    expected = sorted(zip(np.tile(x, len(codes)).tolist(), y.reshape(-1).tolist(), strict=True))
    path = tmp_path_factory.mktemp("any") / "q.oas"
    path.write_bytes(b"".join(write_contacts({"codes": made}, LAYER, RULES.grid)))
    layers = read_layers("sky130", "mcon")
    assert sorted(map(tuple, read_contacts(path, layers)["codes"].tolist())) == expected
    assert sorted(map(tuple, read_corners(path).tolist())) == expected
    layout = kdb.Layout()
    layout.read(str(path))
    shapes = layout.top_cell().begin_shapes_rec(layout.find_layer(*LAYER))
    boxes = [each.shape().bbox().transformed(each.trans()) for each in iterated(shapes)]
    scale = round(layout.dbu * 1000)
    assert sorted((box.left * scale, box.bottom * scale) for box in boxes) == expected
    assert {(box.width() * scale, box.height() * scale) for box in boxes} == {(SIDE, SIDE)}


def iterated(shapes):
    """klayout's iterator, place by place."""
    while not shapes.at_end():
        yield shapes
        shapes.next()


def test_tiles_of_a_file_are_each_a_cell(tmp_path):
    array = Array("q", 3, 6, 5, 140)
    made = [*tiles(array, RULES)]
    codes = [tile.codes(random_codes(array)) for tile in made]
    write_tiles(tmp_path, made, codes)
    (path,) = tmp_path.iterdir()
    found = read_contacts(path, read_layers("sky130", "mcon"))
    assert [*found] == [tile.name for tile in made]
    for tile in made:
        expected = expected_corners(tile, random_codes(array))
        assert set(map(tuple, found[tile.name].tolist())) == expected
        assert set(map(tuple, read_corners(path, tile.name).tolist())) == expected


def test_tiles_that_differ_share_no_file():
    one, other = (
        contacts(tile, tile.codes(random_codes(tile.array)), RULES)
        for array in (Array("q", 3, 4, 1, 12), Array("q", 3, 4, 1, 16))
        for tile in tiles(array, RULES)
    )
    with pytest.raises(ValueError, match="must be equal but for their codes"):
        list(write_contacts({"one": one, "other": other}, LAYER, RULES.grid))


def test_a_code_takes_no_more_bits_of_file_than_was_aimed_at(tmp_path):
    array = Array("q", 3, 40, 16, 576)
    made = [*tiles(array, RULES)]
    write_tiles(tmp_path, made, [tile.codes(random_codes(array)) for tile in made])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size * 8 / array.cells <= 4.5


def test_tiles_cover_an_array_once():
    array = Array("q", 3, 40, 40, 6000)
    covered = np.zeros((array.lanes, array.columns), int)
    for tile in tiles(array, RULES):
        covered[tile.lane : tile.lane + tile.lanes, tile.column : tile.column + tile.columns] += 1
    assert (covered == 1).all()


def test_base_cells_do_not_depend_on_codes_and_the_same_bytes_come_again(tmp_path):
    array = Array("q", 3, 11, 2, 9)
    for name in ("a", "b"):
        write_base([*tiles(array, RULES)], tmp_path / f"{name}.oas", RULES)
    assert (tmp_path / "a.oas").read_bytes() == (tmp_path / "b.oas").read_bytes()


@pytest.fixture(scope="module", params=ARRAYS[:3])
def drawn(request, tmp_path_factory):
    """All layers of a small tile with random codes, merged, as klayout reads them."""
    pytest.importorskip("klayout.db")
    folder = tmp_path_factory.mktemp("tile")
    array = Array("q", *request.param)
    *_, tile = tiles(array, RULES)
    write_base([tile], folder / "base.oas", RULES)
    write_tile(tile, random_codes(array), folder / "q.oas")
    return regions({folder / "base.oas": tile.base, folder / "q.oas": "codes"}, RULES)


CHECKED = [rule for rule in RULES.rules.values() if rule.check not in BY_CONSTRUCTION]


@pytest.mark.parametrize("rule", CHECKED, ids=lambda rule: rule.name)
def test_a_tile_keeps_the_rule(drawn, rule):
    assert violations(drawn, rule) == 0


TIGHT = (
    "poly.1a", "poly.8", "licon.1", "licon.11", "li.1", "li.5", "li.6", "ct.1", "ct.2",
    "m1.2", "m1.4", "via.1a", "via.4a", "via.5a", "m2.1", "m2.4", "m2.5", "nsd.5a", "psd.5b",
    "difftap.3",
)  # fmt: skip


@pytest.mark.parametrize("name", TIGHT)
def test_a_rule_two_grid_steps_stricter_is_broken(drawn, name):
    """The checks can fail, and the cell is as small as these rules allow."""
    rule = RULES.rules[name]
    assert violations(drawn, replace(rule, value=rule.value + 2 * RULES.grid)) > 0


def test_every_shape_is_on_the_grid(drawn):
    for region in drawn.values():
        assert region.grid_check(RULES.grid, RULES.grid).is_empty()


def test_klayout_and_gdstk_read_the_same_contacts(tmp_path):
    kdb = pytest.importorskip("klayout.db")
    array = Array("q", 3, 11, 2, 300)
    *_, tile = tiles(array, RULES)
    write_tile(tile, random_codes(array), tmp_path / "q.oas")
    layout = kdb.Layout()
    layout.read(str(tmp_path / "q.oas"))
    shapes = kdb.Region(layout.top_cell().begin_shapes_rec(layout.find_layer(*LAYER)))
    scale = round(layout.dbu * 1000)
    found = sorted((p.bbox().left * scale, p.bbox().bottom * scale) for p in shapes.each())
    assert found == sorted(map(tuple, read_corners(tmp_path / "q.oas").tolist()))
    assert [cell.name for cell in gdstk.read_oas(tmp_path / "q.oas").top_level()] == ["codes"]
