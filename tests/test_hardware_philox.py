"""The random generator against golden's and its authors' known answers."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from intaglio.golden.sample import philox
from intaglio.hardware.philox import Philox

ONES = 0xFFFFFFFF
KNOWN = [  # kat_vectors of Random123, philox4x32 10
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def joined(words) -> int:
    return sum(int(word) << 32 * i for i, word in enumerate(words))


def run(block: Philox, cases: list[tuple[int, int]]) -> list[int]:
    """Results of (counter, key) cases, exactly ``gap`` cycles after each start."""
    got = []

    async def testbench(ctx):
        for counter, key in cases:
            ctx.set(block.start, 1)
            ctx.set(block.counter, counter)
            ctx.set(block.key, key)
            await ctx.tick()
            ctx.set(block.start, 0)
            ctx.set(block.counter, 0)
            ctx.set(block.key, 0)
            for _ in range(block.gap - 1):
                assert ctx.get(block.busy)
                await ctx.tick()
            assert not ctx.get(block.busy)
            got.append(ctx.get(block.o))
            await ctx.tick().repeat(len(got) % 3 + 1)
            assert ctx.get(block.o) == got[-1]

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return got


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert run(Philox(), [(joined(counter), joined(key))]) == [joined(answer)]


def test_philox_computes_the_golden_function():
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 32, (40, 6)).tolist()
    got = run(Philox(), [(joined(row[:4]), joined(row[4:])) for row in words])
    assert got == [joined(philox(tuple(row[:4]), tuple(row[4:]))) for row in words]
