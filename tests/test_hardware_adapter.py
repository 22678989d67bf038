"""The adapter block against golden: random and extreme values, stalls, reloads, cycles."""

from itertools import pairwise

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Flow, Job, beats, encode, gap, run

from intaglio.golden.adapter import LowRank
from intaglio.golden.forward import Addition
from intaglio.golden.number import LATENT
from intaglio.hardware.adapter import Adapter, adapter_gap
from intaglio.hardware.side_memory import side_memory_writes
from intaglio.plan.adapter import AdapterPlan

# inputs, outputs, rank, lanes, beat, activation
SHAPES = [
    (16, 12, 4, 4, 4, 8),
    (16, 10, 4, 2, 4, 8),  # two folds, a padded last beat
    (16, 12, 5, 2, 4, 10),  # a padded last fold
    (8, 8, 6, 6, 2, 8),  # a fold is narrowed in three beats
    (2, 9, 8, 4, 1, 16),  # and takes longer to narrow than to sum up
    (4, 4, 1, 1, 4, 8),
    (4, 3, 3, 1, 4, 4),  # one beat each way
    (40, 40, 17, 17, 20, 8),  # trees of two levels
    (8, 6, 64, 64, 2, 8),
    (8, 6, 64, 4, 2, 10),
]


def plan(*sizes: int, **options) -> AdapterPlan:
    return AdapterPlan(*sizes, **options)


def random_part(rng, shape: AdapterPlan, rank: int | None = None) -> LowRank:
    """Weights, multipliers and shifts of any size; few latents and addends are 0 or saturate."""
    rank = rank or shape.rank
    n, m = shape.inputs, shape.outputs
    down = max(shape.activation + int(np.log2(n)) + 7, 8)  # about the bits of a latent's product
    return LowRank(
        rng.integers(-128, 128, (n, rank)).astype(np.int8),
        rng.integers(0, 1 << 16, rank).astype(np.uint16),
        rng.integers(down - 4, down + 8, rank).astype(np.uint8),
        rng.integers(-128, 128, (rank, m)).astype(np.int8),
        rng.integers(0, 1 << 16, m).astype(np.uint16),
        rng.integers(0, 40, m).astype(np.uint8),
    )


def vectors(rng, shape: AdapterPlan, count: int = 3) -> np.ndarray:
    low = -(1 << shape.activation - 1)
    return rng.integers(low, -low, (count, shape.inputs))


def load(part: LowRank | None, shape: AdapterPlan, number: int = 0) -> Job:
    return Job({"write": side_memory_writes(part, shape, number)})


def jobs(x: np.ndarray, shape: AdapterPlan, number: int = 0) -> list[Job]:
    settings = {"enable": 1, "number": number}
    return [Job({"i": beats(row, shape.beat)}, {"o": shape.columns}, settings) for row in x]


def check(flows: list[dict[str, Flow]], x: np.ndarray, part: LowRank | None, outputs: int) -> None:
    """Addends as golden's, 0 where the last beat is padded."""
    expected = np.zeros((len(x), outputs), np.int64) if part is None else Addition(part)(x)
    for flow, row in zip(flows, expected, strict=True):
        found = flow["o"].array
        np.testing.assert_array_equal(found[:outputs], row)
        assert not found[outputs:].any()


@pytest.mark.parametrize(("stall", "gated"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_addends_are_golden(sizes, stall, gated):
    shape = plan(*sizes)
    rng = np.random.default_rng(sum(sizes))
    part, x = random_part(rng, shape), vectors(rng, shape)
    work = [load(part, shape), *jobs(x, shape)]
    flows = run(Adapter(shape=shape), work, stall=stall, gated=gated, seed=1)
    check(flows[1:], x, part, shape.outputs)
    assert (Addition(part)(x) != 0).mean() > 0.5


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_addends_are_golden_whatever_the_shape(data):
    beat, rank = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    shape = plan(
        beat * data.draw(st.integers(1, 6)), data.draw(st.integers(1, 14)), rank,
        data.draw(st.integers(1, rank)), beat, data.draw(st.integers(4, 16)),
        count=data.draw(st.integers(1, 2)),
    )  # fmt: skip
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    part = random_part(rng, shape, data.draw(st.integers(1, rank)))
    x, number = vectors(rng, shape, 2), shape.count - 1
    work = [load(part, shape, number), *jobs(x, shape, number)]
    stall = data.draw(st.sampled_from([0.0, 0.3]))
    flows = run(Adapter(shape=shape), work, stall=stall, gated=True)
    check(flows[1:], x, part, shape.outputs)
    if not stall:
        assert all(gap(flow) == shape.gap for flow in flows[1:])


def extreme_part(shape: AdapterPlan, down: int, up: int, shift: int) -> LowRank:
    """The largest factors of these signs, a latent that saturates, and addends of ``shift``."""
    n, m, r = shape.inputs, shape.outputs, shape.rank
    largest = np.uint16(65535)
    return LowRank(
        np.full((n, r), down, np.int8), np.full(r, largest), np.zeros(r, np.uint8),
        np.full((r, m), up, np.int8), np.full(m, largest), np.full(m, shift, np.uint8),
    )  # fmt: skip


@pytest.mark.parametrize("shift", [0, 1, 8, 31, 51, 62])
@pytest.mark.parametrize(("down", "up"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
@pytest.mark.parametrize("sizes", [(8, 3, 64, 64, 2, 16), (4, 2, 64, 16, 1, 8)], ids=str)
def test_the_largest_values_fit(sizes, down, up, shift):
    shape = plan(*sizes)
    part = extreme_part(shape, down, up, shift)
    low = -(1 << shape.activation - 1)
    x = np.array([[low] * shape.inputs, [-low - 1] * shape.inputs])
    flows = run(Adapter(shape=shape), [load(part, shape), *jobs(x, shape)])
    check(flows[1:], x, part, shape.outputs)
    latents = Addition(part).latent(x)
    assert {LATENT.low, LATENT.high} == set(latents.reshape(-1).tolist())
    if (down, up, shift) == (127, -128, 0):
        assert Addition(part)(x).max() == 64 * 2**22 * 65535 << 8  # 53 bits with the sign


def test_latents_of_every_shift_round_and_saturate_as_golden():
    shape = plan(4, 4, 63, 9, 4, 16)
    rng = np.random.default_rng(9)
    part = random_part(rng, shape)
    shifts = np.arange(63).astype(np.uint8)
    part = LowRank(
        part.down, part.down_multiplier | 1, shifts, part.up, part.up_multiplier, part.up_shift
    )
    x = np.concatenate([vectors(rng, shape, 3), [[1, 0, 0, 0], [-1, 0, 0, 0]]])
    flows = run(Adapter(shape=shape), [load(part, shape), *jobs(x, shape)])
    check(flows[1:], x, part, shape.outputs)


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_cycles_are_exactly_as_planned(sizes):
    shape = plan(*sizes)
    rng = np.random.default_rng(1)
    flows = run(Adapter(shape=shape), jobs(vectors(rng, shape), shape))
    assert adapter_gap(shape) == shape.gap
    for flow in flows:
        assert np.all(np.diff(flow["i"].cycles) == 1)
        assert gap(flow) == shape.gap
        assert np.all(np.diff(flow["o"].cycles) == shape.folds)
        assert flow["o"].cycles[-1] - flow["i"].cycles[-1] == shape.last
    # and the next vector is taken a cycle after the last beat has left
    for before, after in pairwise(flows):
        assert after["i"].cycles[0] == before["o"].cycles[-1] + 1


@pytest.mark.parametrize("sizes", [(16, 32, 4, 4, 4, 8), (16, 32, 5, 2, 4, 8)], ids=str)
def test_beats_that_were_not_taken_in_time_follow_each_other(sizes):
    shape = plan(*sizes, count=2)
    rng = np.random.default_rng(2)
    part, x = random_part(rng, shape), vectors(rng, shape, 1)
    on = {"enable": 1}
    work = [
        load(part, shape), Job({"i": beats(x[0], shape.beat)}, settings=on),
        load(None, shape, 1),  # long enough for all of it to be ready
        Job(pull={"o": shape.columns}),
    ]  # fmt: skip
    flows = run(Adapter(shape=shape), work, gated=True)
    check([flows[3]], x, part, shape.outputs)
    assert flows[3]["o"].cycles[0] == flows[2]["write"].cycles[-1] + 1
    assert np.all(np.diff(flows[3]["o"].cycles) == 1)


def test_another_adapter_can_be_loaded():
    """A smaller rank leaves nothing of the larger one; no part is 0."""
    shape = plan(8, 6, 5, 3, 2, 8)
    rng = np.random.default_rng(3)
    work, loaded = [], [random_part(rng, shape, rank) for rank in (5, 2, 5)]
    loaded.insert(2, None)
    x = vectors(rng, shape, 2)
    for part in loaded:
        work += [load(part, shape), *jobs(x, shape)]
    flows = run(Adapter(shape=shape), work, stall=0.2, gated=True)
    for index, part in enumerate(loaded):
        check(flows[3 * index + 1 : 3 * index + 3], x, part, shape.outputs)


def test_one_adapter_is_written_while_another_is_at_work():
    shape = plan(8, 6, 4, 2, 2, 8, count=3)
    rng = np.random.default_rng(4)
    parts = [random_part(rng, shape) for _ in range(3)]
    x = vectors(rng, shape, 4)
    first, second = jobs(x[:1], shape, 1)[0], jobs(x[1:2], shape, 0)[0]
    busy = Job({**second.push, "write": side_memory_writes(parts[2], shape, 2)}, second.pull,
               second.settings)  # fmt: skip
    work = [
        load(parts[0], shape, 0), load(parts[1], shape, 1), first, busy,
        *jobs(x[2:3], shape, 2), *jobs(x[3:], shape, 1),
    ]  # fmt: skip
    flows = run(Adapter(shape=shape), work, stall=0.2, gated=True)
    for flow, row, number in zip(flows[2:], x, (1, 0, 2, 1), strict=True):
        check([flow], row[None], parts[number], shape.outputs)


def test_without_enable_inputs_are_passed_by_and_addends_are_0():
    shape = plan(8, 6, 4, 2, 2, 8)
    rng = np.random.default_rng(5)
    block, part, x = Adapter(shape=shape), random_part(rng, shape), vectors(rng, shape, 3)
    passed = Job({"i": beats(x[0], shape.beat) * 3}, settings={"enable": 0})
    flows = run(
        block, [load(part, shape), jobs(x, shape)[0], passed, *jobs(x[1:], shape)],
        watch=["busy"], gated=True,
    )  # fmt: skip
    check([flows[1], *flows[3:]], x, part, shape.outputs)
    assert np.all(np.diff(flows[2]["i"].cycles) == 1)
    assert not any(flows[2]["i"].seen["busy"])


def test_the_addend_without_enable_is_exactly_0():
    shape = plan(4, 4, 2, 2, 4, 8)
    rng = np.random.default_rng(6)
    part, x = random_part(rng, shape), vectors(rng, shape, 1)
    block = Adapter(shape=shape)
    layout = block.signature.members["write"].signature.members["payload"].shape
    seen = []

    async def testbench(ctx):
        ctx.set(block.enable, 1)
        for write in side_memory_writes(part, shape):
            ctx.set(Value.cast(block.write.payload), encode(layout, write))
            ctx.set(block.write.valid, 1)
            await ctx.tick()
        ctx.set(block.write.valid, 0)
        ctx.set(
            Value.cast(block.i.payload), sum((int(v) & 255) << 8 * i for i, v in enumerate(x[0]))
        )
        ctx.set(block.i.valid, 1)
        await ctx.tick()
        ctx.set(block.i.valid, 0)
        await ctx.tick().until(block.o.valid)
        for enable in (1, 0, 1):
            ctx.set(block.enable, enable)
            seen.append(ctx.get(Value.cast(block.o.payload)))

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert seen[0] == seen[2] != 0
    assert seen[1] == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inputs": 4}, r"^part must have 8 inputs and 6 outputs, not 4 and 6$"),
        ({"outputs": 4}, r"^part must have 8 inputs and 6 outputs, not 8 and 4$"),
        ({"rank": 5}, r"^part must have a rank of at most 4, not 5$"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(change, text):
    sizes = {"inputs": 8, "outputs": 6, "rank": 4, "lanes": 2, "beat": 2, "activation": 8}
    other = random_part(np.random.default_rng(0), AdapterPlan(**{**sizes, **change}))
    with pytest.raises(ValueError, match=text):
        list(side_memory_writes(other, AdapterPlan(**sizes)))


def test_a_number_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"^number must be from 0 to 1, not 2$"):
        list(side_memory_writes(None, plan(8, 6, 4, 2, 2, 8, count=2), 2))


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_writes_are_as_many_bits_as_planned(sizes):
    """Every word of the memory once, no other."""
    shape = plan(*sizes, count=2)
    seen = [
        (write["lane"], write["word"])
        for number in range(2)
        for write in side_memory_writes(None, shape, number)
    ]
    assert len(set(seen)) == len(seen)
    weights = sum(lane < shape.lanes for lane, _ in seen) * shape.beat * 8
    constants = sum(lane == shape.lanes for lane, _ in seen) * shape.beat * 22
    assert weights + constants == shape.bits
