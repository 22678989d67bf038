"""The cell: its size, and that it is what the rules allow."""

import pytest
from mask_files import RULES

from intaglio.errors import BadInput
from intaglio.layout.geometry import CELLS, geometry, line_count, weight_area


@pytest.mark.parametrize(
    ("bits", "cell", "array"), [(2, 0.6768, 0.7166), (3, 1.2096, 1.2797), (4, 2.2752, 2.4131)]
)
def test_area_of_a_select_cell(bits, cell, array):
    g = geometry(1 << bits, RULES)
    assert (g.cell_area, g.array_area) == pytest.approx((cell, array), abs=1e-4)
    assert weight_area("select", bits, RULES) == pytest.approx(cell)


@pytest.mark.parametrize("bits", [3, 4])
def test_select_is_denser_than_signed_select(bits):
    areas = {cell: weight_area(cell, bits, RULES) for cell in CELLS}
    assert min(areas, key=areas.__getitem__) == "select"
    assert areas["signed"] == pytest.approx({3: 1.8864, 4: 2.952}[bits])


def test_pitches_come_from_contacts():
    g = geometry(8, RULES)
    assert g.column == RULES["ct.1"] + RULES["ct.2"]
    assert g.line == RULES["ct.1"] + 2 * RULES["m1.4"] + RULES["m1.2"]


def test_rows_stand_above_a_strip_per_band():
    g = geometry(8, RULES)
    assert [g.bottom(row) for row in (0, 1, g.band)] == [
        g.sense.height + g.strip + height for height in (0, g.row, g.strip + g.band * g.row)
    ]
    drawn = 4 * g.row + 2 * g.strip + 2 * g.sense.height
    assert 0 <= g.lane(3) - drawn < RULES.tracks["met3"][0]
    assert g.lane(3) % RULES.tracks["met3"][0] == 0
    assert g.band * g.row / 2 + g.strip <= RULES["LU.2"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(
        BadInput, match=r"^a row of 2 lines is too low for two transistors \(4 or more\)$"
    ):
        geometry(2, RULES)
    with pytest.raises(BadInput, match=r"^cell must be one of select, signed, not 'x'$"):
        line_count("x", 3)
