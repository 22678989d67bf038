"""The most loaded line of a tile, against a plain count; padding counts, a ROM's line 0 not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.layout.fabric import Array, Tile
from intaglio.layout.load import most_loaded


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([2, 3, 4]), rom=st.booleans())
def test_it_is_the_largest_count(seed, bits, rom):
    rng = np.random.default_rng(seed)
    array = Array("a", bits, 3, 5, 23)
    codes = rng.integers(0, 1 << bits, (3, 5, 23), dtype=np.uint8)
    tile = Tile(array, 2, 3, 8, 15)  # 16 columns are drawn
    found = most_loaded(tile, codes, rom=rom)
    counts = {
        (lane, row, line): int((codes[row, lane, 8:23] == line).sum()) + (line == 0)
        for lane in (2, 3, 4) for row in range(3) for line in range(rom, 1 << bits)
    }  # fmt: skip
    assert found.share == max(counts.values()) / 16
    assert counts[found.lane, found.row, found.line] == max(counts.values())


def test_rows_that_are_never_read_do_not_count():
    tile = Tile(Array("a", 3, 3, 1, 16), 0, 1, 0, 16)  # a fourth row is drawn, all of code 0
    codes = np.broadcast_to(np.arange(16, dtype=np.uint8) % 8, (3, 1, 16))
    assert most_loaded(tile, codes).share == 2 / 16


def test_a_rom_of_zeros_has_no_line_that_falls():
    tile = Tile(Array("a", 2, 4, 1, 16), 0, 1, 0, 16)
    zeros = np.zeros((4, 1, 16), np.uint8)
    assert most_loaded(tile, zeros, rom=True).share == 0
    assert most_loaded(tile, zeros).share == 1


@pytest.mark.parametrize("line", [0, 5])
def test_a_planted_line_is_named(line):
    codes = np.broadcast_to(np.arange(64, dtype=np.uint8) % 8, (4, 2, 64)).copy()
    codes[2, 1, :40] = line
    found = most_loaded(Tile(Array("a", 3, 4, 2, 64), 0, 2, 0, 64), codes)
    assert (found.lane, found.row, found.line, found.share) == (1, 2, line, 43 / 64)
