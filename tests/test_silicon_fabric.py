"""Fabrics by formula: areas and energies by hand, what grows with what, published estimates."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.golden.number import CODEBOOKS, accumulator_bits
from intaglio.layout.liberty import tables
from intaglio.plan.process import process
from intaglio.plan.tiling import FabricPlan
from intaglio.silicon.circuits import FLOP_AREA, Logic, assumptions, circuits, logic, nand2
from intaglio.silicon.fabric import (
    CELLS,
    CHOICE,
    best_cell,
    check_cell,
    code_area,
    column_gates,
    drivers,
    fabric_area,
    fabric_energy,
    fabric_logic,
    line_count,
    lines_energy,
    placed,
    sums_energy,
    transistors,
)

ROUND = {  # numbers for sums by hand
    "clock": 1e9, "supply": 2.0, "logic_scale": 0.01, "gate_area": 0.1, "rom_cell": 0.04,
    "line_pitch": 0.1, "cell_width": 0.5, "wire_capacitance": 1.0, "line_reach": 3.0,
    "full_adder_energy": 2.0, "flop_energy": 3.0, "gate_energy": 0.5, "clock_energy": 0.25,
    "utilisation": 0.5, "sizing": 1.0, "sense_gates": 2.0, "mux_gates": 1.0, "latch_gates": 3.0,
    "xor_gates": 4.0, "driver_gates": 5.0, "array_efficiency": 0.5, "device_capacitance": 2.0,
    "line_activity": 0.5, "tree_flops": 0.25, "tree_activity": 2.0, "wire_energy": 40.0,
}  # fmt: skip


def fabric(bits=3, inputs=12, outputs=20, lanes=4, extra_rows=0, activation=8) -> FabricPlan:
    largest = max(CODEBOOKS[bits])
    return FabricPlan(
        bits, inputs, outputs, lanes, extra_rows, 4 if extra_rows else 0, activation,
        accumulator_bits(inputs, largest, activation),
    )  # fmt: skip


def numbers(name="n6") -> dict[str, float]:
    made = process(name)
    figures = {key: q.number for key, q in made.figures.items() if q.known}
    return figures | {key: q.number for key, q in assumptions().items()}


sizes = st.builds(
    fabric, bits=st.sampled_from([2, 3, 4]), inputs=st.integers(1, 200),
    outputs=st.integers(1, 200), lanes=st.integers(1, 64), extra_rows=st.integers(0, 4),
    activation=st.integers(4, 12),
)  # fmt: skip
any_cell = st.sampled_from(CELLS)


# by hand: 12 inputs on 4 lanes are 3 rows of 4 x 20 codes, 12 bit cycles each


def test_a_code_is_its_lines_by_its_width():
    assert code_area(fabric(), "select", ROUND) == pytest.approx(8 * 0.1 * 0.5)
    assert code_area(fabric(), "signed", ROUND) == pytest.approx(4 * 0.1 * 0.5 + 0.04)
    assert code_area(fabric(), "decode", ROUND) == pytest.approx(3 * 0.04)


def test_what_a_lane_and_column_needs():
    assert column_gates(fabric(), "select", ROUND) == 2
    assert column_gates(fabric(), "signed", ROUND) == 2 + 2 + 4
    assert column_gates(fabric(), "decode", ROUND) == 7 * 1 + 3 * (3 + 2)


def test_area_of_a_select_fabric():
    area = fabric_area(fabric(), "select", ROUND)
    assert area.cells == pytest.approx(3 * 4 * 20 * 0.4 / 0.5)
    assert area.columns == pytest.approx(4 * 20 * 2 * 0.1)
    # 20 columns of 0.5 um are 10 um: 4 reaches of 3 um, of 8 lines in 4 lanes and 3 rows
    assert drivers(fabric(), "select", ROUND) == 3 * 4 * 8 * 4
    assert area.drivers == pytest.approx(3 * 4 * 8 * 4 * 5 * 0.1)
    registers = 4 * 20 * 0.25 * FLOP_AREA  # inside the trees
    trees = fabric_logic(fabric(), "select")["trees"].area
    assert area.trees == pytest.approx((trees + registers) * 0.02)
    parts = (area.cells, area.columns, area.drivers, area.banks, area.trees, area.frame)
    assert area.total == pytest.approx(sum(parts))


def test_lines_of_the_active_row_alone_take_energy():
    load = 20 * (0.5 * 1.0 + 0.1 * 1.0 + 2.0 * 0.5 / 8)  # fF of a line: wire, stub, drains
    falls = 0.5 * 3 * 12 * 4 * 8  # half of the bits of 8 lines in 4 lanes
    assert lines_energy(fabric(), "select", ROUND) == pytest.approx(falls * load * 2.0**2)


def test_sum_lines_take_energy_with_their_rows():
    line = 3 * (8 * 0.1 * 1.0 + 2.0 * 0.5)  # fF: the height of 3 cells, a junction each
    each = 0.5 * line * 2.0**2 + 2 * 0.5
    assert sums_energy(fabric(), "select", ROUND) == pytest.approx(4 * 20 * 36 * each)


def test_counter_trees_take_an_adder_per_lane_and_carry():
    energy = fabric_energy(fabric(), "select", ROUND)
    flops = fabric_logic(fabric(), "select")["trees"].flops
    adders = 20 * (4 + 3)  # a carry of 3 bits beside 4 lanes
    # 2 levels over lanes of 3 x 8 x 0.1 um, all before the register: twice 2 x 3 / 4 lanes' heights
    wires = 4 * 20 * 2.4e-3 * 2 * 1.5 * 40
    taken = adders * 2.0 * 2 + wires + (flops + 4 * 20 * 0.25) * 3.0
    assert energy.trees == pytest.approx(36 * taken * 1.25)
    parts = (energy.lines, energy.sums, energy.banks, energy.trees, energy.frame)
    assert energy.total == pytest.approx(sum(parts))


def test_counters_have_an_adder_for_every_weight():
    energy = fabric_energy(fabric(), "counters", ROUND)
    assert energy.trees > 12 * 20 * 8 * 2.0 * 1.25
    assert energy.lines == energy.sums == 0
    more = fabric_area(fabric(outputs=40), "counters", ROUND)
    assert more.trees == pytest.approx(2 * fabric_area(fabric(), "counters", ROUND).trees)


def test_extra_rows_are_rows():
    plain, extra = fabric_area(fabric(), "select", ROUND), fabric_area(
        fabric(extra_rows=1), "select", ROUND
    )  # fmt: skip
    assert extra.cells == pytest.approx(plain.cells * 4 / 3)


def test_contacts_are_transistors():
    one, two = (transistors(fabric(inputs=n), "select", ROUND) for n in (12, 24))
    logics = [fabric_logic(fabric(inputs=n), "select") for n in (12, 24)]
    gates = [sum(each[k].area for k in ("banks", "trees", "frame")) / nand2() for each in logics]
    # 3 rows more of 4 x 20 contacts, and the drivers of their lines
    contacts = 3 * 4 * 20 + 4 * 5 * 3 * 4 * 8 * 4
    assert two - one == pytest.approx(contacts + 4 * (gates[1] - gates[0]))


# what grows with what


@given(sizes, any_cell)
def test_every_part_is_there(plan, cell):
    x = numbers()
    assert fabric_area(plan, cell, x).total > 0
    assert fabric_energy(plan, cell, x).total > 0
    assert transistors(plan, cell, x) > 0


@given(sizes, any_cell)
def test_a_wider_code_is_never_smaller(plan, cell):
    x = numbers()
    if plan.bits < 4:
        wider = replace(plan, bits=plan.bits + 1)
        assert fabric_area(wider, cell, x).total >= fabric_area(plan, cell, x).total


@given(sizes, any_cell, st.sampled_from(["inputs", "outputs"]), st.integers(1, 50))
def test_a_larger_matrix_is_never_smaller(plan, cell, name, more):
    x = numbers()
    larger = replace(plan, **{name: getattr(plan, name) + more})
    assert fabric_area(larger, cell, x).total >= fabric_area(plan, cell, x).total


@given(sizes)
def test_the_best_cell_is_the_smallest(plan):
    x = numbers()
    areas = {cell: fabric_area(plan, cell, x).total for cell in CHOICE}
    assert areas[best_cell(plan, x)] == min(areas.values())


def test_many_rows_want_another_cell_than_few():
    x = numbers("sky130")
    few, many = (fabric(inputs=rows * 64, outputs=4096, lanes=64) for rows in (2, 256))
    assert best_cell(few, x) == "select"
    assert best_cell(many, x) != "select"


# published estimates: of the same order, not fitted


@pytest.mark.parametrize(
    ("name", "bits", "rows", "low", "high"),
    [("sky130", 3, 32, 1.26, 1.26), ("sky130", 4, 32, 2.38, 2.38), ("n6", 3, 32, 0.021, 0.039),
     ("n6", 4, 32, 0.039, 0.075)],
)  # fmt: skip
def test_a_select_cell_is_about_what_was_drawn(name, bits, rows, low, high):
    x = numbers(name)
    plan = fabric(bits=bits, inputs=rows * 256, outputs=1024, lanes=256)
    area = fabric_area(plan, "select", x)
    each = (area.cells + area.columns) / plan.cells
    assert low / 1.35 < each < high * 1.35


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_reading_takes_by_formula_what_was_simulated(bits):
    x = numbers("sky130")
    plan = fabric(bits=bits, inputs=32 * 16, outputs=576, lanes=16)
    (read,) = (
        entry for entry in tables()["tiles"]
        if (entry["bits"], entry["rows"], entry["condition"]) == (bits, plan.rows, "typical")
    )  # fmt: skip
    falls = x["line_activity"] * plan.cycles * plan.lanes * plan.outputs
    formula = (sums_energy(plan, "select", x) + lines_energy(plan, "select", x)) / falls
    assert formula == pytest.approx(read["sum_energy"] + read["sense_energy"], rel=0.25)


# circuits


def test_a_circuit_is_a_sum_of_terms():
    area, flops = circuits()["column"].terms["lanes"]
    one, two = (logic("column", lanes=n, accumulator=20, shifted=0) for n in (10, 12))
    assert two.area - one.area == pytest.approx(2 * area.number)
    assert two.flops - one.flops == pytest.approx(2 * flops.number)


def test_a_full_adder_cell_is_most_of_a_lane():
    assert 20 < circuits()["column"].terms["lanes"][0].number < 30  # the cell has 20.0 um2


def test_circuits_are_synthesised_and_have_sources():
    for circuit in circuits().values():
        for pair in circuit.terms.values():
            for quantity in pair:
                assert quantity.grade == "synthesis"
                assert "sky130" in quantity.source


def test_logic_adds_up():
    made = Logic(100.0, 2.0) + Logic(50.0, 1.0) * 2
    assert (made.area, made.flops) == (200.0, 4.0)
    assert made.gates == pytest.approx((200 - 4 * 20.02) / nand2())
    assert Logic(1.0, 1.0).gates == 0  # a flop alone has no gates beside it


def test_a_size_that_a_circuit_does_not_have():
    with pytest.raises(ValueError, match=r"has the sizes \['beat'\], not \['lanes'\]"):
        logic("norm", lanes=3)


def test_placed_logic_is_scaled():
    assert placed(100.0, ROUND) == pytest.approx(100 * 0.01 / 0.5)
    assert math.isclose(placed(100.0, {**ROUND, "sizing": 1.5}), 3.0)


def test_lines_of_a_lane():
    assert [line_count(fabric(bits=4), cell) for cell in CHOICE] == [16, 8, 16]


def test_unknown_cell():
    check_cell("auto")
    with pytest.raises(BadInput, match=r"^cell must be auto or one of select, .*, not 'rom'$"):
        check_cell("rom")
