# amaranth: UnusedElaboratable=no
"""The reciprocal against the division that golden does."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from intaglio.hardware.reciprocal import Reciprocal


def run(block: Reciprocal, rows: np.ndarray) -> list[list[tuple[int, int]]]:
    """Reciprocals and lengths of ``rows`` [n, lanes], exactly ``gap`` cycles after each start."""
    got = []

    async def testbench(ctx):
        def results():
            return [
                (ctx.get(r), ctx.get(n))
                for r, n in zip(block.reciprocal, block.length, strict=True)
            ]

        for row in rows:
            ctx.set(block.start, 1)
            for port, total in zip(block.total, row, strict=True):
                ctx.set(port, int(total))
            await ctx.tick()
            ctx.set(block.start, 0)
            for port in block.total:
                ctx.set(port, 0)
            await ctx.tick().repeat(block.gap - 1)
            got.append(results())
            await ctx.tick().repeat(len(got) % 3 + 1)
            assert results() == got[-1]

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return got


def expected(total: int) -> tuple[int, int]:
    length = total.bit_length()
    return (1 << 31) // (total >> length - 16), length


@pytest.mark.parametrize(("bits", "lanes"), [(16, 1), (24, 3), (34, 2)])
def test_reciprocal_divides_as_golden(bits, lanes):
    rng = np.random.default_rng(bits)
    sizes = range(16, bits + 1)
    totals = [t for size in sizes for t in (1 << size - 1, (1 << size - 1) + 1, (1 << size) - 1)]
    totals += rng.integers(1 << 15, 1 << rng.integers(16, bits + 1, 300)).tolist()
    rows = np.array(totals[: len(totals) // lanes * lanes], np.int64).reshape(-1, lanes)
    got = run(Reciprocal(lanes=lanes, bits=bits), rows)
    assert got == [[expected(int(total)) for total in row] for row in rows]


def test_bits_wrong():
    with pytest.raises(ValueError, match=r"^bits must be at least 16, not 15$"):
        Reciprocal(lanes=1, bits=15)
