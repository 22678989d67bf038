"""An adapter's side memory, multipliers and cycles in the plan."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapter import random_adapter
from random_model import random_architecture, random_model

from intaglio.errors import BadInput, Overflow
from intaglio.golden.model import MATRICES
from intaglio.plan import chip
from intaglio.plan.adapter import (
    ROUNDS,
    AdapterPlan,
    added_cycles,
    first_sums,
    foldings,
    layer_adapters,
)
from intaglio.plan.chip import ChipPlan, make_plan
from intaglio.plan.schedule import Schedule, User
from intaglio.plan.target import Target, target_names
from intaglio.plan.tiling import DRAIN, GROUPS, FabricPlan

MODEL = random_model(architecture=random_architecture())


def fabric(inputs: int, outputs: int, lanes: int, activation: int = 8) -> FabricPlan:
    return FabricPlan(4, inputs, outputs, lanes, 0, 0, activation, 40)


def large_layer() -> dict[str, FabricPlan]:
    """A layer of an 8 B model with 37 rows."""
    sizes = {
        "q": (4096, 4096, 650), "k": (4096, 1024, 650), "v": (4096, 1024, 650),
        "o": (4096, 4096, 800), "gate": (4096, 14336, 300), "up": (4096, 14336, 300),
        "down": (14336, 4096, 1490, 10),
    }  # fmt: skip
    return {name: fabric(*size) for name, size in sizes.items()}


def test_a_block_of_one_fold():
    block = AdapterPlan(4096, 1024, rank=16, lanes=16, beat=16, activation=8)
    assert (block.folds, block.beats, block.columns, block.groups) == (1, 256, 64, 1)
    assert block.accumulator == 28  # 4096 times 128 times 128: 26 bits of magnitude
    assert block.sum_bits == 28  # 16 times 128 times 32768, likewise
    assert block.addend_bits == 51
    assert block.bits == 16 * 8 * (4096 + 1024) + 22 * (16 + 1024)
    assert block.buffer_bits == 0
    assert (block.multipliers, block.scalers, block.scaler_bits) == (256, 16, 28)
    assert block.adders == 256 * 128 + 16 * 28 * 16
    assert block.gap == 14
    assert block.last == 14 + 63


def test_a_block_of_many_folds():
    block = AdapterPlan(64, 20, rank=24, lanes=5, beat=2, activation=10, count=3)
    assert (block.folds, block.beats, block.columns, block.groups) == (5, 32, 10, 3)
    assert block.words == 5 * 42
    assert block.constant_words == 15 + 10
    assert block.bits == 3 * 2 * (210 * 5 * 8 + 25 * 22)
    assert block.buffer_bits == 2 * (32 * 10 + 10 * block.sum_bits)
    # four passes of 32 and 2 more, down 6 + 1 + 2, up 4 + 6 + 1, the buffer 2
    assert block.gap == 4 * 34 + 9 + 11 + 2
    assert block.last == block.gap + 5 * 9


def test_the_widest_block_fits_goldens_widths():
    block = AdapterPlan(1 << 16, 16, rank=64, lanes=64, beat=16, activation=16)
    assert block.sum_bits == 30
    assert block.addend_bits == 53
    assert block.accumulator <= 46
    with pytest.raises(Overflow):
        AdapterPlan(1 << 24, 16, rank=64, lanes=64, beat=16, activation=16)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rank": 0}, "adapter rank must be from 1 to 64, not 0"),
        ({"rank": 65}, "adapter rank must be from 1 to 64, not 65"),
        ({"lanes": 0}, "adapter lanes must be from 1 to the rank 4, not 0"),
        ({"lanes": 5}, "adapter lanes must be from 1 to the rank 4, not 5"),
        ({"count": 0}, "adapter count must be at least 1, not 0"),
        ({"inputs": 7}, "inputs must be a multiple of the beat 2, not 7"),
    ],
)
def test_refusals(change, text):
    sizes = {"inputs": 8, "outputs": 6, "rank": 4, "lanes": 2, "beat": 2, "activation": 8}
    with pytest.raises(BadInput) as caught:
        AdapterPlan(**{**sizes, **change})
    assert caught.value.message == text


def leaving(group: str, fabrics, adapters) -> list[int]:
    """When each beat of sums meets its addends, beat by beat."""
    end, found = first_sums([fabrics[name] for name in GROUPS[group]], BEAT) - 1, []
    for names in ROUNDS[group]:
        for column in range(-(-fabrics[names[0]].outputs // BEAT)):
            end = max(
                end + 1,
                *(adapters[n].gap + adapters[n].folds * column for n in names if n in adapters),
                0,
            )
            found.append(end)
    return found


BEAT = 4
LAYERS = st.builds(
    lambda width, kv, inner, lanes: {
        name: fabric(BEAT * n, BEAT * m, min(lane, BEAT * n))
        for (name, (n, m)), lane in zip(
            {
                "q": (width, width), "k": (width, kv), "v": (width, kv), "o": (width, width),
                "gate": (width, inner), "up": (width, inner), "down": (inner, width),
            }.items(),
            lanes, strict=True,
        )
    },
    st.integers(1, 12), st.integers(1, 6), st.integers(1, 30),
    st.lists(st.integers(1, 60), min_size=7, max_size=7),
)  # fmt: skip


@settings(deadline=None)
@given(LAYERS, st.integers(1, 64), st.randoms(use_true_random=False))
def test_added_cycles_are_the_last_beats(fabrics, rank, random):
    adapters = {
        name: random.choice(list(foldings(each, rank, BEAT, 1))) for name, each in fabrics.items()
    }
    for group in GROUPS:
        late = leaving(group, fabrics, adapters)[-1] - leaving(group, fabrics, {})[-1]
        assert added_cycles(group, fabrics, adapters) == late


@settings(deadline=None)
@given(LAYERS, st.integers(1, 64))
def test_lanes_are_the_fewest_that_are_hidden(fabrics, rank):
    chosen = layer_adapters(fabrics, rank, BEAT)
    assert tuple(chosen) == MATRICES
    for group, names in GROUPS.items():
        hidden = leaving(group, fabrics, {})
        found = leaving(group, fabrics, chosen)
        if all(block.lanes < block.rank for name, block in chosen.items() if name in names):
            assert found == hidden
        for name in names:
            fewer = [b for b in foldings(fabrics[name], rank, BEAT, 1)
                     if b.lanes < chosen[name].lanes]  # fmt: skip
            for block in fewer:
                alone = leaving(group, fabrics, {name: block})
                assert alone != hidden


def test_a_large_layer_hides_its_adapters():
    fabrics = large_layer()
    for rank in (8, 16, 64):
        chosen = layer_adapters(fabrics, rank, 16)
        # the fabrics' last row begins with the last beat too: 64 latents take longer
        late = int(rank == 64)
        assert {group: added_cycles(group, fabrics, chosen) for group in GROUPS} == {
            "qkv": late, "o": 0, "mlp": late, "down": 0,
        }  # fmt: skip
    chosen = layer_adapters(fabrics, 16, 16)
    assert {name: block.lanes for name, block in chosen.items()} == {
        "q": 16, "k": 16, "v": 8, "o": 16, "gate": 16, "up": 16, "down": 16,
    }  # fmt: skip
    adders = sum(block.adders for block in chosen.values())
    assert adders < 0.02 * sum(each.lanes * each.outputs for each in fabrics.values())


def test_first_sums_follow_the_drain():
    assert first_sums([fabric(8, 8, 4), fabric(8, 8, 2)], 8) == 4 * 12 + DRAIN + 1


def test_a_plan_without_side_memory_is_what_it_was():
    plan = make_plan(MODEL)
    assert (plan.adapter_rank, plan.side_memory_bits, plan.adapter_buffer_bits) == (0, 0, 0)
    assert (plan.adapter_multipliers, plan.adapter_adders) == (0, 0)
    assert plan.side_memory_area() == 0
    assert plan.adapters == ({}, {})
    values = plan.as_dict()
    assert not [key for key in values if "adapter" in key]
    assert ChipPlan.from_dict(json.loads(json.dumps(values))) == plan


def test_a_plan_with_side_memory_is_read_as_it_was_written():
    plan = make_plan(MODEL, adapter_rank=6, adapter_count=2)
    values = json.loads(json.dumps(plan.as_dict()))
    assert (values["adapter_rank"], values["adapter_count"]) == (6, 2)
    read = ChipPlan.from_dict(values)
    assert read == plan
    assert read.adapters == plan.adapters
    assert make_plan(MODEL, base=plan) == plan
    assert make_plan(MODEL) != plan


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"adapter_rank": -1}, "adapter rank must be from 0 to 64, not -1"),
        ({"adapter_rank": 65}, "adapter rank must be from 0 to 64, not 65"),
        ({"adapter_rank": 4, "adapter_count": 0},
         "adapters held at once must be from 1 to 256, not 0"),
        ({"adapter_rank": 4, "adapter_count": 257},
         "adapters held at once must be from 1 to 256, not 257"),
    ],
)  # fmt: skip
def test_a_plan_refuses_what_no_side_memory_can_be(change, text):
    with pytest.raises(BadInput) as caught:
        make_plan(MODEL, **change)
    assert caught.value.message == text


@pytest.mark.parametrize("count", [1, 3])
def test_side_memory_is_as_large_as_the_adapters(count):
    """Where the rank fills whole beats of latents nothing is padded but the last of the heads."""
    plan = make_plan(MODEL, adapter_rank=8, adapter_count=count)
    adapter = random_adapter(MODEL, rank=8)
    padding = sum(
        block.bits // count - adapter.parts[layer, name].bits
        for layer, blocks in enumerate(plan.adapters)
        for name, block in blocks.items()
    )
    latents = sum(
        22 * (block.folds * block.groups * block.beat - 8)
        + 8 * (block.folds * block.lanes - 8) * (block.inputs + block.outputs)
        for blocks in plan.adapters
        for block in blocks.values()
    )
    assert padding == latents
    assert plan.side_memory_bits == count * (adapter.bits + padding)


def test_area_is_unknown_where_the_target_has_no_process():
    for name in target_names():
        area = make_plan(MODEL, name, adapter_rank=4).side_memory_area()
        assert (area is None) == (name == "generic")


def test_area_is_bits_times_the_targets_figure(monkeypatch):
    process = Target("made", 1e9, 37, None, {}, sram=0.25)
    monkeypatch.setattr(chip, "target", lambda name: process)
    plan = make_plan(MODEL, "made", adapter_rank=4)
    bits = plan.side_memory_bits + plan.adapter_buffer_bits
    assert plan.side_memory_area() == pytest.approx(bits * 0.25 / 1e6)


def late_plan() -> ChipPlan:
    """So many lanes that the fabrics are done first."""
    return make_plan(MODEL, lanes=48, adapter_rank=64)


def test_the_schedule_without_an_adapter_is_what_it_was():
    plain, cycles = Schedule(make_plan(MODEL, lanes=48)), Schedule(late_plan())
    for position in (0, 7):
        assert cycles.layer(0, position) == plain.layer(0, position)
        assert cycles.token(position) == plain.token(position)
    users = [User(3, 4), User(5, 2)]
    assert cycles.run(users) == plain.run(users)


def test_an_adapter_adds_what_is_not_hidden():
    cycles = Schedule(late_plan())
    added = [sum(cycles.adapter_cycles(index).values()) for index in range(2)]
    assert min(added) > 0
    for index in range(2):
        more = cycles.layer(index, 5, adapted=True) - cycles.layer(index, 5)
        assert more == added[index]
        assert cycles.interval(index, 5, adapted=True) - cycles.interval(index, 5) == more
    assert cycles.token(5, adapted=True) - cycles.token(5) == sum(added)
    longer = cycles.run([User(1, 4, adapted=True)]) - cycles.run([User(1, 4)])
    assert longer == 4 * sum(added)


def test_a_hidden_adapter_adds_nothing():
    cycles = Schedule(make_plan(MODEL, lanes=4, adapter_rank=8))
    assert set(cycles.adapter_cycles(0).values()) == {0}
    assert cycles.run([User(3, 4, adapted=True)]) == cycles.run([User(3, 4)])


def test_users_beside_an_adapted_one_wait_for_him_only():
    cycles = Schedule(late_plan())
    alone = cycles.run([User(3, 4)])
    both = cycles.run([User(3, 4), User(3, 4, adapted=True)])
    assert alone <= cycles.run([User(3, 4), User(3, 4)]) < both
    assert both <= cycles.run([User(3, 4, adapted=True)] * 2)


def test_no_user_is_adapted_without_side_memory():
    with pytest.raises(ValueError, match=r"^adapted users must have a chip with side memory$"):
        Schedule(make_plan(MODEL)).run([User(3, 4, adapted=True)])


def test_lanes_follow_from_the_shape_alone():
    """Or a package's schedule would not be its chip's."""
    plan = make_plan(MODEL, adapter_rank=8)
    other = make_plan(random_model(5, random_architecture()), adapter_rank=8)
    assert plan.adapters == other.adapters
    assert np.all([block.lanes <= 8 for layer in plan.adapters for block in layer.values()])
