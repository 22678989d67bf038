"""The gated unit against the golden op."""

import numpy as np
import pytest
from streams import Job, gap, run

from intaglio.golden import ops
from intaglio.golden.number import GATE, UP
from intaglio.hardware.gate import HERE_BITS, STEP_BITS, Gate, table_words


def job(gate: np.ndarray, up: np.ndarray, beat: int) -> Job:
    rows = zip(gate.reshape(-1, beat).tolist(), up.reshape(-1, beat).tolist(), strict=True)
    return Job({"i": [{"gate": g, "up": u} for g, u in rows]}, {"o": len(gate) // beat})


def corners(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of every magnitude, and the ends of both ranges against each other."""
    ends = [GATE.low, GATE.low + 1, -65536, -65535, -1, 0, 1, 65535, 65536, GATE.high]
    gate = np.trunc(2.0 ** rng.uniform(0, 23, count) * rng.choice([-1, 1], count))
    up = np.trunc(2.0 ** rng.uniform(0, 19, count) * rng.choice([-1, 1], count))
    gate[:30] = np.repeat(ends, 3)
    up[:30] = np.tile([UP.low, -1, UP.high], 10)
    return gate.astype(np.int64), up.astype(np.int64)


@pytest.mark.parametrize(("stall", "gated"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize("beat", [2, 8])
def test_gate_computes_the_golden_op(beat, stall, gated):
    gate, up = corners(np.random.default_rng(beat), 128 * beat)
    (flows,) = run(Gate(beat=beat), [job(gate, up, beat)], stall=stall, gated=gated, seed=beat)
    np.testing.assert_array_equal(flows["o"].array, ops.gate(gate, up))


def test_every_argument_within_the_table():
    gate = np.arange(-(1 << 16) - 16, (1 << 16) + 16)
    up = np.full(len(gate), 1 << 8)  # the shift after the product is 8: SiLU itself
    (flows,) = run(Gate(beat=32), [job(gate, up, 32)])
    np.testing.assert_array_equal(flows["o"].array, ops.gate(gate, up))


def test_gap_and_one_beat_per_cycle():
    gate, up = corners(np.random.default_rng(0), 60)
    block = Gate(beat=4)
    (flows,) = run(block, [job(gate, up, 4)])
    assert gap(flows) + flows["i"].cycles[-1] - flows["i"].cycles[0] == block.gap
    assert np.all(np.diff(flows["o"].cycles) == 1)


def test_silu_needs_no_saturation_and_the_table_fits():
    within = np.arange(-(1 << 17), 1 << 17)  # beyond 2**16 the logistic function is constant
    gate = np.append(within, [GATE.low, GATE.high])
    silu = ops.round_shift(gate * ops.sigmoid(gate), 16)
    assert GATE.low <= silu.min() <= silu.max() <= GATE.high
    assert max(table_words()) < 1 << HERE_BITS + STEP_BITS
