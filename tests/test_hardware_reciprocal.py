# amaranth: UnusedElaboratable=no
"""The reciprocal against the division that golden does."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from intaglio.hardware.reciprocal import Reciprocal


def run(block: Reciprocal, totals: list[int]) -> list[tuple[int, int]]:
    """Reciprocal and length of each of ``totals``, exactly ``gap`` cycles after its start."""
    got = []

    async def testbench(ctx):
        for total in totals:
            ctx.set(block.start, 1)
            ctx.set(block.total, total)
            await ctx.tick()
            ctx.set(block.start, 0)
            ctx.set(block.total, 0)
            await ctx.tick().repeat(block.gap - 1)
            got.append((ctx.get(block.reciprocal), ctx.get(block.length)))
            await ctx.tick().repeat(len(got) % 3 + 1)
            assert (ctx.get(block.reciprocal), ctx.get(block.length)) == got[-1]

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return got


def expected(total: int) -> tuple[int, int]:
    length = total.bit_length()
    return (1 << 31) // (total >> length - 16), length


@pytest.mark.parametrize("bits", [16, 24, 34])
def test_reciprocal_divides_as_golden(bits):
    rng = np.random.default_rng(bits)
    ends = [
        total for length in range(16, bits + 1) for total in (1 << length - 1, (1 << length) - 1)
    ]
    totals = [int(t) for t in rng.integers(1 << 15, 1 << rng.integers(16, bits + 1, 300))] + ends
    assert run(Reciprocal(bits=bits), totals) == [expected(total) for total in totals]


def test_bits_wrong():
    with pytest.raises(ValueError, match=r"^bits must be at least 16, not 15$"):
        Reciprocal(bits=15)
