"""Levels of every width, and the way from a level to its codes and back."""

import numpy as np
import pytest

from intaglio.errors import BadInput
from intaglio.golden.number import code_values
from intaglio.quantize.codebook import DIGITS, digits, grid


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("extra", [False, True])
def test_codes_stand_for_their_level(bits, extra):
    table = grid(bits, extra)
    values = code_values(bits)
    first, none = table.codes(table.levels, extra=False)
    np.testing.assert_array_equal(values[first] << table.extra_shift, table.levels)
    assert not none.any()
    if extra:
        first, second = table.codes(table.extra_levels, extra=True)
        both = (values[first] << table.extra_shift) + values[second]
        np.testing.assert_array_equal(both, table.extra_levels)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_nearest_is_nearest(bits):
    table = grid(bits, True)
    x = np.random.default_rng(bits).uniform(-table.reach, table.reach, 4000) / 2
    found = table.extra_nearest[np.floor(2 * x).astype(int) + table.reach]
    best = np.abs(x[:, None] - table.extra_levels[None, :]).min(1)
    np.testing.assert_allclose(np.abs(x - found), best)


def test_widths_are_digits():
    assert {width: digits(width) for width in DIGITS} == DIGITS
    with pytest.raises(BadInput, match=r"must be one of .* bits, not 5"):
        digits(5)
    with pytest.raises(BadInput, match=r"not 3\.5"):
        digits(3.5)
