"""The shrink block against the golden op."""

import numpy as np
import pytest
from streams import Job, beats, gap, run

from intaglio.golden import ops
from intaglio.golden.number import ATTENTION, PRODUCT, Int
from intaglio.hardware.shrink import Shrink

LENGTH, BEAT = 24, 4


def vectors(source: Int) -> np.ndarray:
    """One vector per magnitude there is, corners, and random ones: int64 [T, LENGTH]."""
    rng = np.random.default_rng(source.bits)
    scales = 2.0 ** np.arange(source.bits)
    rows = [np.trunc(rng.uniform(-scale, scale, LENGTH)) for scale in scales]
    for value in (0, -1, source.low, source.high, *(1 << np.arange(source.bits - 1))):
        row = np.zeros(LENGTH)
        row[rng.integers(LENGTH)] = value
        rows.append(row)
    return np.clip(np.array(rows), source.low, source.high).astype(np.int64)


def jobs(x: np.ndarray) -> list[Job]:
    return [Job({"i": beats(row, BEAT)}, {"o": LENGTH // BEAT}) for row in x]


@pytest.mark.parametrize(("stall", "gated"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize(
    ("source", "to"),
    [(ATTENTION, Int(8)), (PRODUCT, Int(10)), (PRODUCT, Int(16)), (Int(8), Int(8))],
)
def test_shrink_computes_the_golden_op(source, to, stall, gated):
    x = vectors(source)
    block = Shrink(length=LENGTH, beat=BEAT, source=source, to=to)
    flows = run(block, jobs(x), stall=stall, gated=gated, watch=["shift"], seed=to.bits)
    values, shifts = ops.shrink(x, to)
    for flow, row, shift in zip(flows, values, shifts, strict=True):
        np.testing.assert_array_equal(flow["o"].array, row)
        assert set(flow["o"].seen["shift"]) == {shift}


@pytest.mark.parametrize("length", [BEAT, LENGTH])
def test_vectors_follow_each_other(length):
    x = vectors(PRODUCT)[-20:, :length]
    block = Shrink(length=length, beat=BEAT, source=PRODUCT, to=Int(10))
    push = {"i": [beat for row in x for beat in beats(row, BEAT)]}
    (flows,) = run(block, [Job(push, {"o": len(push["i"])})], stall=0.3, gated=True)
    np.testing.assert_array_equal(flows["o"].array, ops.shrink(x, Int(10))[0].reshape(-1))


def test_gap_and_one_beat_per_cycle():
    block = Shrink(length=LENGTH, beat=BEAT, source=PRODUCT, to=Int(10))
    for flows in run(block, jobs(vectors(PRODUCT)[:3])):
        assert gap(flows) == block.gap
        assert np.all(np.diff(flows["o"].cycles) == 1)
        assert np.all(np.diff(flows["i"].cycles) == 1)
