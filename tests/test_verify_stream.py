"""The bulk reader of masks: it reads what is plain, and leaves everything else to a general one."""

import gdstk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_files import RULES, random_codes, read_corners, write_corners, write_tile

from intaglio.errors import BadPackage
from intaglio.layout.fabric import Array, tiles
from intaglio.verify.mask import stream
from intaglio.verify.mask.shapes import MOST, read_cells, read_contacts, read_layers
from intaglio.verify.mask.stream import END_BYTES, has_checksum, read_stream

LAYERS = read_layers("sky130", "mcon")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    array = Array("q", 3, 4, 1, 150)
    tile = next(tiles(array, RULES))
    made = tmp_path_factory.mktemp("stream") / "q.oas"
    write_tile(tile, random_codes(array), made)
    return made


def test_it_reads_what_gdstk_reads(path):
    found = read_stream(path.read_bytes())
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
    found = read_stream(damaged.read_bytes())
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
    assert read_stream((tmp_path / "q.oas").read_bytes()) is None


def test_files_of_other_writers_come_back_the_same(tmp_path):
    corners = np.random.default_rng(0).integers(0, 99999, (50, 2)) * 5
    write_corners(tmp_path / "q.oas", corners)
    got = read_contacts(tmp_path / "q.oas", LAYERS)["codes"]
    assert sorted(map(tuple, got.tolist())) == sorted(map(tuple, corners.tolist()))


@settings(max_examples=100, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_byte_that_changes_is_told_by_the_checksum(path, at, value):
    """But for one in the end: where it says that there is no checksum, nothing else changed."""
    raw = bytearray(path.read_bytes())
    assert has_checksum(bytes(raw)) is True
    assert gdstk.oas_validate(path)[0] is True
    place = int(at * len(raw))
    raw[place] ^= value
    damaged = path.with_name("changed.oas")
    damaged.write_bytes(raw)
    if place >= len(raw) - END_BYTES:
        return
    with pytest.raises(
        BadPackage, match=r"changed\.oas: (damaged: its checksum|not an OASIS file)"
    ):
        read_contacts(damaged, LAYERS)


def without_checksum(path):
    """A file as it is, and one that says that it has no checksum."""
    raw = path.read_bytes()
    end = stream.MAGIC + raw[len(stream.MAGIC) : -END_BYTES]
    return end + b"\2\xfc\1" + bytes(END_BYTES - 3)


@pytest.mark.parametrize("flip", [1557, 700, 60])
def test_what_has_no_checksum_and_makes_no_sense_ends_no_process(path, flip):
    """gdstk falls over records that are none: another process finds that out."""
    raw = bytearray(without_checksum(path))
    assert has_checksum(bytes(raw)) is None
    assert read_stream(bytes(raw)) is not None
    raw[flip % (len(raw) - END_BYTES)] ^= 0x55
    damaged = path.with_name("damaged.oas")
    damaged.write_bytes(raw)
    with pytest.raises(BadPackage, match=r"damaged\.oas: not a layout file that can be read: \S"):
        read_cells(damaged)


@pytest.mark.parametrize("kind", ["crc32", "checksum32"])
def test_checksums_of_other_writers_are_known(tmp_path, kind):
    library = gdstk.Library("q", unit=1e-6, precision=1e-9)
    library.new_cell("codes").add(gdstk.rectangle((0, 0), (0.17, 0.17), 67, 44))
    library.write_oas(tmp_path / "q.oas", validation=kind)
    raw = bytearray((tmp_path / "q.oas").read_bytes())
    assert has_checksum(bytes(raw)) is True
    raw[20] ^= 1
    assert has_checksum(bytes(raw)) is False


def test_what_klayout_writes_again_is_read(path):
    """Its files end in padding that is a length, of bytes that say nothing, and no checksum."""
    layout = pytest.importorskip("klayout.db").Layout()
    layout.read(str(path))
    again = path.with_name("again.oas")
    layout.write(str(again))
    assert has_checksum(again.read_bytes()) is None
    got = [
        sorted(map(tuple, read_contacts(each, LAYERS)["codes"].tolist())) for each in (path, again)
    ]
    assert got[0] == got[1]


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_cells_in_cells_turned_and_repeated_are_read(tmp_path, quarters, mirrored):
    library = gdstk.Library("q", unit=1e-6, precision=1e-9)
    low, middle, top = (library.new_cell(name) for name in ("code", "row", "codes"))
    low.add(gdstk.rectangle((0.1, 0.2), (0.27, 0.37), 67, 44))
    middle.add(gdstk.Reference(low, (1, 0), columns=3, rows=2, spacing=(0.36, 0.74)))
    turn = quarters * np.pi / 2
    top.add(gdstk.Reference(middle, (5, 7), turn, x_reflection=mirrored))
    library.write_oas(tmp_path / "q.oas")
    got = read_contacts(tmp_path / "q.oas", LAYERS)["codes"].tolist()
    assert sorted(map(tuple, got)) == sorted(map(tuple, read_corners(tmp_path / "q.oas").tolist()))


@pytest.mark.parametrize("how", [{"rotation": 0.1}, {"magnification": 2}])
def test_what_leaves_the_grid_is_refused(tmp_path, how):
    library = gdstk.Library("q", unit=1e-6, precision=1e-9)
    low, top = library.new_cell("code"), library.new_cell("codes")
    low.add(gdstk.rectangle((0, 0), (0.17, 0.17), 67, 44))
    top.add(gdstk.Reference(low, (1, 1), **how))
    library.write_oas(tmp_path / "q.oas")
    with pytest.raises(BadPackage, match="turned by part of a quarter, or magnified"):
        read_contacts(tmp_path / "q.oas", LAYERS)


def test_a_shape_that_repeats_without_end_is_refused(tmp_path):
    library = gdstk.Library("q", unit=1e-6, precision=1e-9)
    square = gdstk.rectangle((0, 0), (0.17, 0.17), 67, 44)
    square.repetition = gdstk.Repetition(1 << 20, 1 << 20, spacing=(1, 1))
    library.new_cell("codes").add(square)
    library.write_oas(tmp_path / "q.oas")
    with pytest.raises(BadPackage, match="repeats 1,099,511,627,776 times"):
        read_contacts(tmp_path / "q.oas", LAYERS)
    assert MOST < 1 << 40
