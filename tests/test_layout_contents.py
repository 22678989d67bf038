"""ROMs: words of fields as bits of cells in an array."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mask_files import RULES, mixed_model

from intaglio.layout.contents import BANK_ROWS, PAIR, Rom, contents, rom, roms
from intaglio.layout.fabric import TILE_COLUMNS
from intaglio.layout.geometry import geometry
from intaglio.plan.chip import make_plan


def test_two_words_share_their_cells():
    """The first has the cells' low bits, the next one the high bits; then comes the next group."""
    rom = Rom("x", 5, (("a", 3), ("b", 4)), fold=2)
    codes = rom.codes(np.array([5, 2, 7, 0, 1]), np.array([-1, 3, 8, 9, 4]))
    assert (rom.width, codes.shape) == (7, (2, 1, 14))
    words = [0b1111_101, 0b0011_010, 0b1000_111, 0b1001_000, 0b0100_001, 0, 0, 0]
    for address, word in enumerate(words):
        row, group, which = address >> 2, address >> 1 & 1, address & 1
        cells = codes[row, 0, 7 * group : 7 * group + 7] >> which & 1
        assert cells.tolist() == [word >> place & 1 for place in range(7)]


def test_elements_of_a_word_follow_each_other():
    rom = Rom("x", 2, (("a", 2), ("b", 1)), repeat=2)
    codes = rom.codes(np.array([1, 2, 3]), np.array([0, 1, 0]))  # the last element is not there
    words = [0b1_10_0_01, 0b0_00_0_11]
    cells = codes[0, 0].tolist()
    assert cells == [(words[0] >> place & 1) + 2 * (words[1] >> place & 1) for place in range(6)]


@given(words=st.integers(1, 300_000), width=st.integers(1, 1200))
def test_a_rom_is_banked_by_whole_powers_of_two(words, width):
    made = rom("x", words, 1, (("a", width),), geometry(4, RULES))
    array = made.array
    assert made.fold.bit_count() == 1
    assert array.columns == made.fold * width
    assert array.columns <= TILE_COLUMNS or made.fold == 1
    assert array.rows <= BANK_ROWS
    assert array.lanes == 1 or array.rows == BANK_ROWS
    held = PAIR * made.fold * array.rows * array.lanes
    assert words <= held < words + PAIR * made.fold * (array.rows if array.lanes > 1 else 1)


def test_every_array_has_codes_of_its_shape():
    model = mixed_model()
    plan = make_plan(model)
    made = roms(plan, RULES)
    names = []
    for array, codes in contents(model, plan, made):
        assert codes.shape == (array.rows, array.lanes, array.columns)
        assert codes.max(initial=0) < 1 << array.bits
        names.append(array.name)
    assert len(set(names)) == len(names)
    assert {*made} < {*names}
