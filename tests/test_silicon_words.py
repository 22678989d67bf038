"""Figures as people read them, the same in the terminal and in the report."""

import pytest

from intaglio.quantity import Quantity
from intaglio.silicon.words import measure, number, percent, ranged, valued


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0113, "0.0113"), (1.4423, "1.44"), (21356.6, "21,357"), (99.97, "100"),
        (8.03e9, "8.03 G"), (999_999, "1 M"), (8.4e-4, "8.4·10⁻⁴"), (-12.5, "-12.5"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (33300.4, "1/s", "33,300"), (815.27, "mm2", "815 mm²"), (2.8765, "mJ", "2.88 mJ"),
        (1.3e9, "Hz", "1.3 GHz"), (4e8, "Hz", "400 MHz"), (1.71e-7, "s", "0.171 µs"),
        (0.44, "day", "10.6 h"), (0.01, "day", "14.4 min"), (63.2, "day", "63.2 days"),
        (0, "W", "0 W"), (0.0024, "mJ", "2.4 µJ"), (0.6, "1", "0.6"), (399.2, "USD", "$399"),
        (0.0101, "USD/Mtoken", "$0.0101"), (3.1, "USD/h", "$3.1/h"),
    ],
)  # fmt: skip
def test_a_value_in_the_unit_in_which_it_reads_well(value, unit, text):
    assert measure(value, unit) == text


def test_figures_for_people():
    q = Quantity(0.00127, "s", "assumed", "x", 0.001, 0.0016)
    assert (valued(q), ranged(q)) == ("1.27 ms", "1 – 1.6")
    assert valued(Quantity(2677, "USD", "assumed", "x")) == "$2,677"
    assert ranged(Quantity(5, "W", "exact", "x")) == ""
    unknown = Quantity(None, "W", "assumed", "x", blocked_by="nobody knows")
    assert (valued(unknown), ranged(unknown)) == ("–", "")
    half = Quantity(0.6, "1", "assumed", "x", 0.4, 0.7)
    assert valued(percent(half)) == "60 %"
