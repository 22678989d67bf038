# amaranth: UnusedElaboratable=no
"""A fabric as gates reads, cycle by cycle, what its contract model reads."""

import numpy as np
import pytest
from amaranth.back import verilog
from fabric_bench import VERILOG, random_case, simulate, sums

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
]


def gates(case, name: str) -> str:
    block = Select(name=name, fabric=case.fabric, beat=case.beat)
    return verilog.convert(block, name=name, emit_src=False, strip_internal_attrs=True)


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    structural = {case.name: gates(case, f"{case.name}_gates") for case in CASES}
    return simulate(CASES, tmp_path_factory.mktemp("gates"), structural=structural)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gates_and_contract_model_read_the_same(reads, case):
    contract, structural = reads[case.name], reads[f"{case.name}_gates"]
    assert [read[:2] for read in contract] == [read[:2] for read in structural]
    np.testing.assert_array_equal(sums(case, contract), sums(case, structural))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gates_compute_the_dot_products(reads, case):
    expected = case.vectors @ case.matrix.weights()
    np.testing.assert_array_equal(sums(case, reads[f"{case.name}_gates"]), expected)


def test_gates_are_not_ready_a_cycle_early(reads):
    """The first beat, read one edge before the sums are due, is another one in some fabric."""
    differences = []
    for case in CASES:
        beats = {edge: beat for _, edge, beat in reads[f"{case.name}_gates"]}
        due = cycles(case.fabric)
        differences.append(beats[due - 1] != beats[due])
    assert any(differences)


def test_the_cells_are_clean():
    for top in ("selection", "start_values", "rom"):
        source = VERILOG / ("rom.sv" if top == "rom" else "selection.sv")
        lint([source], top)
