# amaranth: UnusedElaboratable=no
"""A fabric as gates reads, cycle by cycle, what its contract model reads."""

import numpy as np
import pytest
from amaranth.back import verilog
from fabric_bench import VERILOG, due, random_case, simulate, sums

from intaglio.hardware.fabric import cycles
from intaglio.hardware.select import Select
from intaglio.verify.verilator import lint

CASES = [
    random_case(1, 2, 16, 6, 4, beat=2),
    random_case(2, 2, 18, 5, 5, extras=4, beat=2),
    random_case(3, 3, 16, 9, 16, beat=4),
    random_case(4, 3, 20, 6, 7, extras=9, activation=10, beat=4),
    random_case(5, 4, 24, 7, 6, beat=8),
    random_case(6, 4, 20, 66, 3, extras=20, activation=6, beat=4),
    random_case(7, 4, 12, 3, 1, extras=1, activation=16, beat=4),
    random_case(8, 3, 50, 8, 20, extras=5, activation=4, beat=2),  # rows wait for beats that flow
]


def gates(case, name: str) -> str:
    block = Select(name=name, fabric=case.fabric, beat=case.beat)
    return verilog.convert(block, name=name, emit_src=False, strip_internal_attrs=True)


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    structural = {case.name: gates(case, f"{case.name}_gates") for case in CASES}
    return simulate(CASES, tmp_path_factory.mktemp("gates"), structural=structural)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gates_and_contract_model_read_the_same(passes, case):
    contract, structural = passes[case.name], passes[f"{case.name}_gates"]
    assert [each.loads for each in contract] == [each.loads for each in structural]
    np.testing.assert_array_equal(sums(case, contract), sums(case, structural))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gates_compute_the_dot_products(passes, case):
    np.testing.assert_array_equal(sums(case, passes[f"{case.name}_gates"]), case.expected)


def test_gates_are_ready_in_their_cycle(passes):
    """From then on the first beat stays; a cycle before it is another one in some fabric."""
    differences = []
    for case in CASES:
        for number, each in enumerate(passes[f"{case.name}_gates"]):
            flowing, expected = number < len(case.vectors), due(case, each.loads)
            first = each.reads[expected]
            early = range(expected, cycles(case.fabric, case.beat) + 1)
            assert {each.reads[edge] for edge in early} == {first}
            differences.append((flowing, each.reads[expected - 1] != first))
    assert (True, True) in differences
    assert (False, True) in differences


def test_the_cells_are_clean():
    for top in ("selection", "rom"):
        source = VERILOG / ("rom.sv" if top == "rom" else "selection.sv")
        lint([source], top)
