"""The contract model of a fabric against integer dot products, at shapes of every kind."""

import numpy as np
import pytest
from fabric_bench import due, random_case, simulate, sums

from intaglio.hardware.fabric import cycles, fabric_module, fabric_sources
from intaglio.plan.tiling import FabricPlan
from intaglio.verify.verilator import lint

CASES = [
    random_case(1, 2, 32, 24, 8),
    random_case(2, 3, 32, 24, 8, extras=5),
    random_case(3, 4, 32, 70, 8, extras=32),
    random_case(4, 4, 36, 130, 5, extras=7),  # lanes that do not divide, three words
    random_case(5, 3, 28, 8, 1, extras=3),
    random_case(6, 2, 40, 20, 40, extras=11),  # one row
    random_case(7, 3, 24, 9, 7, activation=10, beat=8),
    random_case(8, 4, 96, 64, 37, extras=20, activation=16, beat=32),
    random_case(9, 4, 64, 600, 33, activation=4, beat=2),
    random_case(10, 2, 300, 65, 100, extras=40, activation=10, beat=4),
]


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    return simulate(CASES, tmp_path_factory.mktemp("fabrics"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sums_are_the_dot_products(passes, case):
    np.testing.assert_array_equal(sums(case, passes[case.name]), case.expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sums_come_in_their_cycle(passes, case):
    """The plan's, where beats flow; with gaps, when the rows that waited for them are done."""
    planned = cycles(case.fabric, case.beat)
    for number, each in enumerate(passes[case.name]):
        expected = due(case, each.loads)
        assert expected == planned if number < len(case.vectors) else expected <= planned
        assert [edge for edge, beat in each.reads.items() if not beat] == list(range(1, expected))


def test_rows_begin_before_the_last_beat_and_wait_for_theirs():
    """Or the test above would show little."""
    begun = [case for case in CASES if case.fabric.tail(case.beat) < case.fabric.cycles]
    held = [
        case for case in begun
        if case.fabric.rows > 1 and case.fabric.lanes > case.beat * case.fabric.product_bits
    ]  # fmt: skip
    assert len(begun) > len(CASES) / 2
    assert held


def test_gaps_make_rows_wait(passes):
    waited = [
        due(case, each.loads) < cycles(case.fabric, case.beat)
        for case in CASES
        for each in passes[case.name]
    ]
    assert any(waited)


def test_one_module_serves_all_sizes():
    shapes = [FabricPlan(4, 32, outputs, 8, 0, 0, 8, 20) for outputs in (8, 16)]
    assert list(fabric_sources(shapes)) == ["fabric_b4_l8_a8.sv"]


@pytest.mark.parametrize(("bits", "lanes", "activation"), [(2, 3, 8), (3, 40, 10), (4, 16, 8)])
def test_the_module_is_clean(tmp_path, bits, lanes, activation):
    source = tmp_path / f"fabric_b{bits}_l{lanes}_a{activation}.sv"
    source.write_text(fabric_module(bits, lanes, activation))
    lint([source], source.stem)
