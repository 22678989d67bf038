# amaranth: UnusedElaboratable=no
"""Linear in Verilator against golden's arithmetic: stalls, lifts, padding, cycles."""

import numpy as np
import pytest
from linear_bench import outputs, random_group, simulate

from intaglio.golden.number import Int
from intaglio.golden.ops import narrow
from intaglio.hardware.linear import Linear
from intaglio.plan.tiling import FabricPlan

QKV = [
    {"outputs": 32, "lanes": 8, "to": 16, "bits": 3, "extras": 5},
    {"outputs": 16, "lanes": 6, "to": 16},
    {"outputs": 16, "lanes": 8, "to": 8, "extras": 32},
]
MLP = [
    {"outputs": 72, "lanes": 16, "to": 24, "bits": 2},
    {"outputs": 72, "lanes": 9, "to": 20, "bits": 4, "extras": 3},
]
GROUPS = [
    random_group(1, "qkv", 32, QKV, vectors=3),
    random_group(2, "out", 48, [{"outputs": 32, "lanes": 12, "to": 32}], lift=8, vectors=3),
    random_group(3, "mlp", 32, MLP, order="parallel", beat=8),
    random_group(4, "down", 72, [{"outputs": 32, "lanes": 13, "to": 32, "bits": 3, "extras": 9}],
                 activation=10, beat=8, lift=22),
    random_group(5, "head", 32, [{"outputs": 97, "lanes": 16, "to": 24}], beat=8),
    random_group(6, "tiny", 4, [{"outputs": 3, "lanes": 4, "to": 16}]),  # one beat each way
    random_group(7, "wide", 256, [{"outputs": 16, "lanes": 256, "to": 16}], activation=16, beat=16),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("linear")


FLOWS = {
    "flowing": {"stalls": False},
    "stalled": {"stalls": True},
    "waiting": {"stalls": True, "always": True},  # rows that have their inputs go on
}


@pytest.fixture(scope="module", params=FLOWS.values(), ids=FLOWS)
def runs(request, folder):
    return simulate(GROUPS, folder, **request.param)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_outputs_are_golden(runs, group):
    for number, run in enumerate(runs[group.name]):
        found = outputs(group, run)
        for member, values in zip(group.members, found, strict=True):
            matrix = member.matrix
            expected = narrow(
                group.vectors[number] @ matrix.weights(),
                matrix.multiplier,
                matrix.shift.astype(np.int64) - group.lifts[number],
                member.to,
            )
            np.testing.assert_array_equal(values[: matrix.outputs], expected)
            assert not values[matrix.outputs :].any()


def test_some_outputs_saturate_on_either_side():
    """Or the test above would not see a wrong saturation."""
    group = GROUPS[0]
    matrix = group.members[0].matrix
    values = group.vectors @ matrix.weights() * matrix.multiplier >> matrix.shift
    assert (values < group.members[0].to.low).any() or (values > group.members[0].to.high).any()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_cycles_are_as_planned(folder, group):
    for run in simulate(GROUPS, folder, stalls=False)[group.name]:
        assert run.pushes == list(range(run.pushes[0], run.pushes[0] + len(run.pushes)))
        assert run.pulls[0] - run.pushes[-1] == group.block.gap
        assert run.pulls == list(range(run.pulls[0], run.pulls[0] + group.pulls))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_no_output_comes_early_where_beats_have_gaps(runs, group):
    for run in runs[group.name]:
        assert run.pulls[0] - run.pushes[-1] >= group.block.gap


def test_most_groups_begin_before_their_last_beat():
    """Or the tests above would show little."""
    begun = [
        max(fabric.tail(group.beat) for fabric in group.block.fabrics)
        < max(fabric.cycles for fabric in group.block.fabrics)
        for group in GROUPS
    ]
    assert sum(begun) > len(GROUPS) / 2


def test_refusals():
    def plan(inputs, outputs):
        return FabricPlan(4, inputs, outputs, 4, 0, 0, 8, 20)

    to = Int(16)
    with pytest.raises(ValueError, match=r"^matrices must share one input vector, not"):
        Linear(matrices=(("a", plan(8, 8), to), ("b", plan(16, 8), to)), order="sequence", beat=4)
    with pytest.raises(ValueError, match=r"^inputs must be a multiple of the beat 4, not 6$"):
        Linear(matrices=(("a", plan(6, 8), to),), order="sequence", beat=4)
    with pytest.raises(ValueError, match=r"^parallel matrices must have equal outputs, not"):
        Linear(matrices=(("a", plan(8, 8), to), ("b", plan(8, 16), to)), order="parallel", beat=4)
