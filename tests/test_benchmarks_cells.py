"""Four cells for the same weights: the table closes, and says of every figure where it is from."""

from types import ModuleType

import pytest
from benchmark_module import load

from intaglio.layout.cell import geometry
from intaglio.layout.rules import rules
from intaglio.silicon.fabric import CELLS


@pytest.fixture(scope="module")
def cells() -> ModuleType:
    """benchmarks/cells.py, which is no package."""
    return load("cells")


@pytest.fixture(scope="module")
def rows(cells):
    return {row.cell: row for row in cells.table(cells.plan(3, 1024, 1024, 16))}


def test_every_figure_has_its_grade(cells, rows):
    assert tuple(rows) == CELLS
    for row in rows.values():
        for value, grade in (row.code, row.area, row.reading, row.energy, row.area_cycles):
            assert value >= 0
            assert grade in (cells.DRAWN, cells.SIMULATED, cells.DERIVED)
    assert rows["select"].code == (geometry(8, rules()).cell_area, "drawn")
    assert rows["select"].reading[1] == "simulated"
    assert rows["counters"].code[0] == 0


def test_parts_are_no_more_than_the_whole(rows):
    for row in rows.values():
        assert row.code[0] < row.area[0]
        assert row.reading[0] < row.energy[0]


def test_a_select_cell_reads_what_was_simulated(cells, rows):
    read = cells.simulated(3, 16)
    fabric = cells.plan(3, 1024, 1024, 16)
    half = cells.numbers()["line_activity"] * fabric.product_bits
    by_hand = half * (read["sum_energy"] + read["sense_energy"])
    assert rows["select"].reading[0] == pytest.approx(by_hand)


def test_more_rows_take_less_area_and_more_cycles(cells):
    few, many = (cells.table(cells.plan(3, 1024, 1024, n))[0] for n in (16, 64))
    assert many.area[0] < few.area[0]
    assert many.cycles == 4 * few.cycles


def test_few_rows_are_not_for_decode(cells):
    """At the bundled model's rows a multiplexer and latches for every column are too much."""
    for bits in (3, 4):
        few = {cell: cells.weight_um2(cell, cells.plan(bits, 128, 128, 8)) for cell in cells.CHOICE}
        many = {
            cell: cells.weight_um2(cell, cells.plan(bits, 4096, 4096, 256)) for cell in cells.CHOICE
        }
        assert max(few, key=few.__getitem__) == "decode"
        assert many["decode"] / many["select"] < few["decode"] / few["select"]


def test_the_table_as_a_page_shows_it(cells, rows):
    lines = cells.markdown(list(rows.values())).splitlines()
    assert len(lines) == 2 + len(CELLS)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| select | 1.21 drawn | ")
