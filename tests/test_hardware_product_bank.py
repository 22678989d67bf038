# amaranth: UnusedElaboratable=no
"""The product bank: every activation times every magnitude."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from intaglio.golden.number import CODEBOOKS, product_bits
from intaglio.hardware.product_bank import ProductBank, recipe


def products(bits: int, values: list[int], activation: int) -> np.ndarray:
    """Products [values, magnitudes] that the bank gives, sign bit as it comes."""
    bank, cycles = ProductBank(bits=bits), product_bits(activation)
    found = np.zeros((len(values), len(CODEBOOKS[bits])), np.int64)

    async def testbench(ctx):
        ctx.set(bank.enable, 1)
        for index, value in enumerate(values):
            for cycle in range(cycles):
                ctx.set(bank.x, value >> min(cycle, activation - 1) & 1)
                ctx.set(bank.first, cycle == 0)
                ctx.set(bank.last, cycle == cycles - 1)
                await ctx.tick()
                lines = ctx.get(bank.lines)
                for rank in range(found.shape[1]):
                    found[index, rank] |= (lines >> rank & 1) << cycle

    simulator = Simulator(bank)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return found


@pytest.mark.parametrize("bits", CODEBOOKS)
@pytest.mark.parametrize("activation", [4, 8])
def test_lines_are_the_products(bits, activation):
    low = -(1 << activation - 1)
    values = list(range(low, -low))
    cycles = product_bits(activation)
    expected = np.outer(values, CODEBOOKS[bits]) & (1 << cycles) - 1
    np.testing.assert_array_equal(products(bits, values, activation), expected ^ 1 << cycles - 1)


def test_a_wide_activation():
    values = [-(1 << 15), (1 << 15) - 1, -1, 0, 1, 12345, -23456]
    expected = np.outer(values, CODEBOOKS[4]) & (1 << 20) - 1
    np.testing.assert_array_equal(products(4, values, 16), expected ^ 1 << 19)


@pytest.mark.parametrize("bits", CODEBOOKS)
def test_the_recipe_makes_every_magnitude(bits):
    known = {1}
    steps = recipe(CODEBOOKS[bits])
    for step in steps:
        assert {step.a, step.b} <= known
        b = step.b << step.b_delay
        assert (step.a << step.a_delay) + (-b if step.minus else b) == step.target
        known.add(step.target)
    assert {m // (m & -m) for m in CODEBOOKS[bits]} <= known


@pytest.mark.parametrize("magnitude", range(1, 32))
def test_any_magnitude_has_a_recipe_of_two_adders(magnitude):
    assert len(recipe((magnitude,))) <= 2
