# amaranth: UnusedElaboratable=no
"""The exponential against the golden op."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from intaglio.golden import ops
from intaglio.hardware.exponential import Exponential


def run(block: Exponential, distances: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """Weights [n, lanes] of ``distances`` [n, lanes]; ``holds`` [n] cycles stand before each."""
    got = []

    async def testbench(ctx):
        for index in range(len(distances) + block.latency):
            row = distances[min(index, len(distances) - 1)]
            for lane, distance in enumerate(row):
                ctx.set(block.distance[lane], int(distance))
            ctx.set(block.enable, 0)
            for _ in range(int(holds[index % len(holds)])):
                await ctx.tick()
            ctx.set(block.enable, 1)
            got.append([ctx.get(block.weight[lane]) for lane in range(block.lanes)])
            await ctx.tick()

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return np.array(got)[block.latency :]


def test_exponential_of_every_distance_that_leaves_anything():
    lanes, end = 8, 18 << 10
    distances = np.arange(end).reshape(-1, lanes)
    got = run(Exponential(lanes=lanes, bits=20), distances, np.zeros(1))
    np.testing.assert_array_equal(got, ops.exp2(distances))


@pytest.mark.parametrize("bits", [11, 20, 32])
def test_exponential_of_any_distance(bits):
    rng = np.random.default_rng(bits)
    distances = rng.integers(0, 1 << rng.integers(1, bits + 1, (300, 2)))
    distances[:2] = [[0, (1 << bits) - 1], [(1 << bits) - 1, 0]]
    got = run(Exponential(lanes=2, bits=bits), distances, rng.integers(0, 3, 50))
    np.testing.assert_array_equal(got, ops.exp2(distances))


def test_bits_wrong():
    with pytest.raises(ValueError, match=r"^bits must be greater than 10, not 10$"):
        Exponential(lanes=1, bits=10)
