"""The norm block against the golden op."""

import math

import numpy as np
import pytest
from streams import Flow, Job, beats, gap, run

from intaglio.golden import ops
from intaglio.golden.number import RESIDUAL, Int
from intaglio.hardware.norm import Norm


def constants(rng: np.random.Generator) -> dict[str, int]:
    return {
        "epsilon": int(2 ** rng.uniform(0, 48)),
        "multiplier": int(rng.integers(1, 1 << 16)),
        "shift": int(rng.integers(40, 63)),
    }


def vectors(width: int, count: int) -> tuple[np.ndarray, list[dict[str, int]]]:
    """Vectors of every magnitude with constants that give outputs of some bits, and corners."""
    rng = np.random.default_rng(width)
    x = np.trunc(rng.uniform(-1, 1, (count, width)) * 2.0 ** rng.uniform(0, 31, (count, 1)))
    settings = [constants(rng) for _ in range(count)]
    for setting in settings[: count // 2]:  # as quantize chooses them: no saturation
        setting.update(epsilon=int(rng.integers(1, 1 << 20)), shift=int(rng.integers(46, 54)))
    x[0], settings[0] = 0, {"epsilon": 1, "multiplier": 65535, "shift": 62}
    x[1], settings[1] = 0, {"epsilon": (1 << 48) - 1, "multiplier": 1, "shift": 40}
    x[2], settings[2] = RESIDUAL.low, {"epsilon": (1 << 48) - 1, "multiplier": 65535, "shift": 40}
    x[3], settings[3] = RESIDUAL.high, {"epsilon": 1, "multiplier": 65535, "shift": 55}
    x[4], settings[4] = 0, {"epsilon": 1, "multiplier": 65535, "shift": 40}
    x[4, -1] = 1
    return x.astype(np.int64), settings


def jobs(x: np.ndarray, settings: list[dict[str, int]], beat: int) -> list[Job]:
    count = x.shape[1] // beat
    return [
        Job({"i": beats(row, beat)}, {"o": count, "x": count}, setting)
        for row, setting in zip(x, settings, strict=True)
    ]


def check(flows: list[dict[str, Flow]], x, settings, to: Int) -> None:
    for flow, row, c in zip(flows, x, settings, strict=True):
        expected = ops.norm(row[None], c["epsilon"], c["multiplier"], c["shift"], to)[0]
        np.testing.assert_array_equal(flow["o"].array, expected)
        np.testing.assert_array_equal(flow["x"].array, row)
        assert flow["x"].cycles[0] > flow["o"].cycles[-1]


@pytest.mark.parametrize(("stall", "gated"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize(
    ("width", "beat", "to"), [(24, 4, Int(8)), (8, 8, Int(12)), (64, 32, Int(16)), (6, 2, Int(4))]
)
def test_norm_computes_the_golden_op(width, beat, to, stall, gated):
    x, settings = vectors(width, 40)
    block = Norm(width=width, beat=beat, to=to)
    flows = run(block, jobs(x, settings, beat), stall=stall, gated=gated, seed=width, asleep=["x"])
    check(flows, x, settings, to)


def test_every_entry_of_the_table():
    rng = np.random.default_rng(0)
    x, settings = np.zeros((384, 2), np.int64), []
    for index, row in enumerate(x):
        mantissa = (64 + index // 2 << 16) + int(rng.integers(1 << 16))
        square = mantissa << 38 >> 2 * int(rng.integers(19))
        row[0] = math.isqrt(square - 1)
        epsilon = square - int(row[0]) ** 2
        settings.append({"epsilon": epsilon, "multiplier": 60000, "shift": 41})
    block = Norm(width=2, beat=2, to=Int(16))
    check(run(block, jobs(x, settings, 2), deadline=20_000), x, settings, Int(16))


def test_vectors_follow_each_other():
    x, settings = vectors(24, 12)
    push, pull = [beat for row in x for beat in beats(row, 4)], len(x) * 6
    block = Norm(width=24, beat=4, to=Int(8))
    job = Job({"i": push}, {"o": pull, "x": pull}, settings[5])
    (flows,) = run(block, [job], stall=0.3, gated=True, asleep=["x"])
    c = settings[5]
    expected = ops.norm(x, c["epsilon"], c["multiplier"], c["shift"], Int(8))
    np.testing.assert_array_equal(flows["o"].array, expected.reshape(-1))
    np.testing.assert_array_equal(flows["x"].array, x.reshape(-1))


@pytest.mark.parametrize(("beat", "expected"), [(2, 16), (16, 16), (32, 17)])
def test_gap_and_one_beat_per_cycle(beat, expected):
    x, settings = vectors(4 * beat, 5)
    block = Norm(width=4 * beat, beat=beat, to=Int(8))
    assert block.gap == expected
    for flows in run(block, jobs(x, settings, beat), asleep=["x"]):
        assert gap(flows) == expected
        for name in ("i", "o", "x"):
            assert np.all(np.diff(flows[name].cycles) == 1)
        assert flows["x"].cycles[0] - flows["o"].cycles[-1] == 2
