# amaranth: UnusedElaboratable=no
"""A Linear with adapters in Verilator against golden: reloads, none, stalls, lifts, cycles."""

from dataclasses import replace

import numpy as np
import pytest
from adapter_bench import adapted_group, simulate
from linear_bench import outputs

from intaglio.golden.forward import Addition
from intaglio.golden.ops import narrow
from intaglio.hardware.adapted import Adapted
from intaglio.hardware.library import Library

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
    # two adapters at once, of other ranks, one without a part for v; then one of them again
    adapted_group(1, "qkv", 32, QKV, rank=5, lanes=[5, 2, 1], count=2,
                  loads=[(0, 0, [5, 3, 1]), (0, 1, [2, 5, 0]), (4, 0, [1, 0, 4])],
                  choices=[0, 1, None, 1, 0, 1]),
    adapted_group(2, "out", 48, [{"outputs": 32, "lanes": 12, "to": 32}], rank=8, lanes=[4],
                  lift=8, loads=[(1, 0, [8])], choices=[None, 0, 0, None]),
    adapted_group(3, "mlp", 32, MLP, order="parallel", beat=8, rank=4, lanes=[4, 2],
                  loads=[(0, 0, [4, 4]), (2, 0, [0, 3])], choices=[0, 0, 0]),
    adapted_group(4, "down", 72, [{"outputs": 32, "lanes": 13, "to": 32, "bits": 3, "extras": 9}],
                  activation=10, beat=8, lift=22, rank=16, lanes=[16],
                  loads=[(0, 0, [16])], choices=[0, None, 0]),
    # the fabric is done long before the adapter
    adapted_group(5, "slow", 16, [{"outputs": 24, "lanes": 16, "to": 16}], rank=12, lanes=[2],
                  loads=[(0, 0, [12])], choices=[0, None, 0]),
    adapted_group(6, "late", 4, [{"outputs": 12, "lanes": 4, "to": 16}], activation=4, beat=2,
                  rank=20, lanes=[20], loads=[(0, 0, [20])], choices=[0, 0]),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module", params=[False, True], ids=["flowing", "stalled"])
def runs(request, folder):
    return simulate(GROUPS, folder, stalls=request.param)


def expected(adapted, vector, *, without=False):
    """What golden gives of every matrix for one vector."""
    group = adapted.group
    for member, part in zip(group.members, adapted.parts(vector), strict=True):
        matrix, x = member.matrix, group.vectors[vector][None]
        addend = 0 if part is None or without else Addition(part)(x)
        shift = matrix.shift.astype(np.int64) - group.lifts[vector]
        yield narrow(x @ matrix.weights(), matrix.multiplier, shift, member.to, addend)[0]


@pytest.mark.parametrize("adapted", GROUPS, ids=lambda adapted: adapted.name)
def test_outputs_are_golden(runs, adapted):
    for number, run in enumerate(runs[adapted.name]):
        for values, wanted in zip(
            outputs(adapted.group, run), expected(adapted, number), strict=True
        ):
            np.testing.assert_array_equal(values[: len(wanted)], wanted)
            assert not values[len(wanted) :].any()


@pytest.mark.parametrize("adapted", GROUPS, ids=lambda adapted: adapted.name)
def test_every_part_changes_most_outputs(adapted):
    """Or the test above would not see a missing addend."""
    for vector in range(len(adapted.choices)):
        pairs = zip(expected(adapted, vector), expected(adapted, vector, without=True), strict=True)
        for part, (wanted, without) in zip(adapted.parts(vector), pairs, strict=True):
            if part is not None:
                assert (wanted != without).mean() > 0.5


def leaving(adapted, *, enabled: bool) -> list[int]:
    """Cycles from the last beat in to each beat out, from what the plan says of every adapter."""
    block = adapted.group.block
    end, found = block.gap - 4, []
    rounds = [[shape] for shape in adapted.shapes]
    if adapted.group.order == "parallel":
        rounds = [list(adapted.shapes)]
    for shapes in rounds:
        for column in range(shapes[0].columns):
            offered = max(shape.gap + shape.folds * column for shape in shapes) if enabled else 0
            end = max(end + 1, offered)
            found.append(end + 3)
    return found


@pytest.mark.parametrize("adapted", GROUPS, ids=lambda adapted: adapted.name)
def test_cycles_are_as_planned(folder, adapted):
    runs = simulate(GROUPS, folder, stalls=False)[adapted.name]
    for choice, run in zip(adapted.choices, runs, strict=True):
        assert run.pushes == list(range(run.pushes[0], run.pushes[0] + len(run.pushes)))
        found = [cycle - run.pushes[-1] for cycle in run.pulls]
        assert found == leaving(adapted, enabled=choice is not None)
        block = adapted.group.block if choice is None else adapted.block
        assert found[0] == block.gap


def test_some_groups_hide_their_adapters_and_some_do_not():
    hidden = {
        adapted.name: leaving(adapted, enabled=True) == leaving(adapted, enabled=False)
        for adapted in GROUPS
    }
    assert hidden == {
        "qkv": True, "out": True, "mlp": True, "down": True, "slow": False, "late": False,
    }  # fmt: skip


def test_adapters_of_one_block_hold_equally_many():
    first, *others = GROUPS[0].shapes
    parameters = {**GROUPS[0].parameters, "adapters": (replace(first, count=3), *others)}
    with pytest.raises(ValueError, match=r"^adapters must hold equally many at once$"):
        Adapted(library=Library(), **parameters)
