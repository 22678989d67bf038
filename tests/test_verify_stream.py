"""The bulk reader of masks: it reads what is plain, and leaves everything else to a general one."""

import gdstk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_files import RULES, random_codes, read_corners, write_corners, write_tile

from intaglio.layout.fabric import Array, tiles
from intaglio.verify.mask.shapes import read_contacts, read_layers
from intaglio.verify.mask.stream import read_stream

LAYERS = read_layers("sky130", "mcon")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    array = Array("q", 3, 4, 1, 150)
    tile = next(tiles(array, RULES))
    made = tmp_path_factory.mktemp("stream") / "q.oas"
    write_tile(tile, random_codes(array), made)
    return made


def test_it_reads_what_gdstk_reads(path):
    found = read_stream(path)
    assert found is not None
    assert len(found.placements) == 2 * 152
    got = sorted(map(tuple, read_contacts(path, LAYERS)["codes"].tolist()))
    assert got == sorted(map(tuple, read_corners(path).tolist()))


@settings(max_examples=200, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_what_is_damaged_is_left_to_the_general_reader_or_read(path, at, value, cut):
    """No byte makes it fail, whatever it becomes, and no file that ends too early is read."""
    raw = bytearray(path.read_bytes())
    place = int(at * len(raw))
    raw[place] = value
    damaged = path.with_name("damaged.oas")
    damaged.write_bytes(raw[:place] if cut else raw)
    found = read_stream(damaged)
    assert found is None or not cut


def other_repetition(cell, below):
    cell.add(gdstk.Reference(below, (1, 1), columns=2, rows=2, spacing=(1, 1)))


def turned(cell, below):
    cell.add(gdstk.Reference(below, (1, 1), rotation=np.pi / 2))


def a_polygon(cell, below):
    cell.add(gdstk.Polygon([(0, 0), (1, 0), (0, 1)], 67, 44), gdstk.Reference(below))


@pytest.mark.parametrize("add", [other_repetition, turned, a_polygon])
def test_what_is_not_plain_is_not_read(tmp_path, add):
    library = gdstk.Library("q", unit=1e-6, precision=1e-9)
    below, cell = library.new_cell("code"), library.new_cell("codes")
    below.add(gdstk.rectangle((0, 0), (0.17, 0.17), 67, 44))
    add(cell, below)
    library.write_oas(tmp_path / "q.oas")
    assert read_stream(tmp_path / "q.oas") is None


def test_files_of_other_writers_come_back_the_same(tmp_path):
    corners = np.random.default_rng(0).integers(0, 99999, (50, 2)) * 5
    write_corners(tmp_path / "q.oas", corners)
    got = read_contacts(tmp_path / "q.oas", LAYERS)["codes"]
    assert sorted(map(tuple, got.tolist())) == sorted(map(tuple, corners.tolist()))
