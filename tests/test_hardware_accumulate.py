# amaranth: UnusedElaboratable=no
"""The column: counted bits, weighted and summed."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from intaglio.hardware.accumulate import Accumulate


def accumulate(block: Accumulate, bits: np.ndarray, extra_rows: int) -> int:
    """The sum after rows of selected bits [rows, product, lanes]; the last rows are extra."""
    result = 0

    async def testbench(ctx):
        nonlocal result
        ctx.set(block.start, 1)
        await ctx.tick()
        ctx.set(block.start, 0)
        for row, cycles in enumerate(bits):
            for cycle, lanes in enumerate(cycles):
                ctx.set(block.enable, 1)
                ctx.set(block.first, cycle == 0)
                ctx.set(block.last, cycle == len(cycles) - 1)
                ctx.set(block.extra, row >= len(bits) - extra_rows)
                ctx.set(block.bits, sum(int(bit) << lane for lane, bit in enumerate(lanes)))
                await ctx.tick()
        ctx.set(block.enable, 0)
        await ctx.tick()
        result = ctx.get(block.sum)
        await ctx.tick()
        assert ctx.get(block.sum) == result

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return result


@pytest.mark.parametrize("lanes", [1, 2, 3, 7, 8, 21])
@pytest.mark.parametrize(("shift", "extra_rows"), [(0, 0), (0, 2), (3, 1), (6, 3)])
@pytest.mark.parametrize("spare", [0, 1, 9])
def test_sums_are_exact(lanes, shift, extra_rows, spare):
    rng = np.random.default_rng(lanes + shift)
    product, rows = 9, 4
    accumulator = product + shift + spare
    block = Accumulate(lanes=lanes, product=product, accumulator=accumulator, shift=shift)
    bits = rng.integers(0, 2, (rows + extra_rows, product, lanes))
    bits[0] = 1
    weights = (1 << np.arange(product)) @ bits.sum(2).T
    expected = (int(weights[:rows].sum()) << shift) + int(weights[rows:].sum())
    found = accumulate(block, bits, extra_rows)
    assert found == expected & (1 << accumulator) - 1


def test_a_product_must_fit():
    with pytest.raises(ValueError, match=r"^accumulator must hold a product, 13 bits, not 12$"):
        Accumulate(lanes=4, product=9, accumulator=12, shift=4)
