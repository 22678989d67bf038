"""ROMs: words of fields as digits in an array."""

import numpy as np
from mask_files import RULES, mixed_model

from intaglio.layout.contents import Rom, contents, roms
from intaglio.plan.chip import make_plan


def test_a_word_stands_in_digits_the_lowest_first():
    rom = Rom("x", 3, (("a", 3), ("b", 4)), fold=2)
    codes = rom.codes(np.array([5, 2, 7]), np.array([-1, 3, 8]))
    assert (rom.digits, codes.shape) == (4, (2, 1, 8))
    words = [0b1111_101, 0b0011_010, 0b1000_111, 0]
    digits = codes.transpose(1, 0, 2).reshape(4, 4).tolist()
    assert digits == [[word >> 2 * place & 3 for place in range(4)] for word in words]


def test_a_tall_rom_is_folded_and_banked():
    array = Rom("x", 10_000, (("a", 16),), fold=20).array
    assert array.rows <= 128
    assert array.lanes * array.rows * 20 >= 10_000
    assert array.columns == 160


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
