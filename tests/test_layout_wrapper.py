# amaranth: UnusedElaboratable=no
"""Fabrics whose cells are tiles read what their contract models read, with the masks' own codes."""

import numpy as np
import pytest
from amaranth.back import verilog
from fabric_bench import Case, random_case, simulate, sums
from mask_files import RULES

from intaglio.hardware.library import Library
from intaglio.hardware.select import Select
from intaglio.layout import fabric
from intaglio.layout.contents import fabric_array
from intaglio.layout.fabric import Tile
from intaglio.layout.wrapper import behaviour, cells, image, image_name
from intaglio.plan.place import place

CASES = [
    random_case(1, 2, 16, 6, 4, beat=2),
    random_case(2, 3, 20, 6, 7, extras=9, activation=10, beat=4),
    random_case(3, 4, 12, 3, 1, extras=1, activation=16, beat=4),
    random_case(4, 3, 6, 22, 2, beat=2),
]
COLUMNS = 8  # of a tile here: the last fabric has three beside each other


def tiles_of(case: Case) -> list[Tile]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fabric, "TILE_COLUMNS", COLUMNS)
        return [*fabric.tiles(fabric_array(f"{case.name}_gates", case.fabric), RULES)]


def gates(case: Case) -> str:
    """A fabric down to its tiles, in one text."""
    name, library, own = f"{case.name}_gates", Library(), tiles_of(case)
    block = Select(
        name=name, fabric=case.fabric, beat=case.beat, cells=f"{name}_cells", library=library
    )
    top = verilog.convert(block, name=name, emit_src=False, strip_internal_attrs=True)
    texts = {name: top, "cells": cells(f"{name}_cells", name, own, RULES)}
    for part, text in library.texts().items():  # other cases have parts of these names
        texts[part] = text
    texts |= {tile.base: behaviour(tile, RULES) for tile in own}
    whole = "`define SIMULATION\n" + "\n".join(texts.values())
    for part in library.texts():
        whole = whole.replace(f"module {part}(", f"module {case.name}_{part}(")
        whole = whole.replace(f"  {part} \\", f"  {case.name}_{part} \\")
    return whole


def images_of(case: Case, change: int = 0) -> dict[str, str]:
    """Every tile's codes; ``change``: of the first one."""
    codes, _ = place(case.matrix, case.fabric)
    codes = codes.copy()
    codes[0, 0, 0] ^= change
    name = f"{case.name}_gates"
    return {image_name(name, 7, tile): image(tile, codes) for tile in tiles_of(case)}


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    structural = {case.name: gates(case) for case in CASES}
    images = {name: text for case in CASES for name, text in images_of(case).items()}
    return simulate(CASES, tmp_path_factory.mktemp("tiles"), structural=structural, images=images)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tiles_compute_the_dot_products(passes, case):
    """The sums are golden's, bit for bit, in the cycles of the contract model."""
    own = passes[f"{case.name}_gates"]
    np.testing.assert_array_equal(sums(case, own), case.expected)
    contract = passes[case.name]
    assert [each.loads for each in contract] == [each.loads for each in own]


def test_another_code_in_a_tile_is_another_sum(tmp_path):
    case = CASES[0]
    found = simulate(
        [case], tmp_path, structural={case.name: gates(case)}, images=images_of(case, 1)
    )
    wrong = sums(case, found[f"{case.name}_gates"]) != case.expected
    assert wrong[:, 0].any()
    assert not wrong[:, 1:].any()
