"""The residual adder against the golden op."""

import numpy as np
import pytest
from streams import Job, beats, gap, run

from intaglio.golden import ops
from intaglio.golden.number import RESIDUAL
from intaglio.hardware.residual import Residual


def vectors(beat: int, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    corners = [RESIDUAL.low, RESIDUAL.low + 1, -1, 0, 1, RESIDUAL.high - 1, RESIDUAL.high]
    x = rng.integers(RESIDUAL.low, RESIDUAL.high + 1, count * beat)
    y = rng.integers(RESIDUAL.low, RESIDUAL.high + 1, count * beat)
    x[:49], y[:49] = np.repeat(corners, 7), np.tile(corners, 7)
    return x, y


@pytest.mark.parametrize(("stall", "gated"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize("beat", [4, 16])
def test_residual_computes_the_golden_op(beat, stall, gated):
    x, y = vectors(beat)
    push = {"x": beats(x, beat), "y": beats(y, beat)}
    (flows,) = run(
        Residual(beat=beat), [Job(push, {"o": len(push["x"])})], stall=stall, gated=gated, seed=beat
    )
    np.testing.assert_array_equal(flows["o"].array, ops.add(x, y))


def test_one_beat_per_cycle():
    x, y = vectors(4)
    (flows,) = run(Residual(beat=4), [Job({"x": beats(x, 4), "y": beats(y, 4)}, {"o": 24})])
    assert flows["o"].cycles[0] - flows["x"].cycles[0] == Residual.gap
    assert gap(flows, "y") == flows["o"].cycles[0] - flows["y"].cycles[-1] <= Residual.gap
    assert np.all(np.diff(flows["o"].cycles) == 1)
