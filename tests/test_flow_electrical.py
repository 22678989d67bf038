"""The clock that a model's lines allow, of a compiled chip: counted, held, and missed."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from intaglio.cli.masks import print_check
from intaglio.flow.electrical import check_reads, logic_area, process_of
from intaglio.flow.package import open_package
from intaglio.golden.model import IntModel
from intaglio.layout.contents import fabrics
from intaglio.plan.place import padding, place
from intaglio.plan.process import process


@pytest.fixture(scope="module")
def chip(made_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("electrical") / "chip"
    return open_package(Path(shutil.copytree(made_home(64) / "chip", folder)))


def like(chip, **other) -> Any:
    """What the check takes of a package, some of it in place of its own."""
    return SimpleNamespace(**{"model": chip.model, "plan": chip.plan, **other})


def crowded(model: IntModel, share: float) -> IntModel:
    """The model with so much of the head's first row on one line."""
    codes = model.head.codes.copy()
    codes[0, : round(share * codes.shape[1])] = 3
    return replace(model, head=replace(model.head, codes=codes))


def test_every_fabric_and_rom_is_read(chip):
    found = check_reads(chip)
    assert [each.name for each in found.fabrics] == [name for name, _ in fabrics(chip.plan)]
    assert len(found.roms) > len(found.fabrics)
    assert found.worst.slow.period == max(each.slow.period for each in found.fabrics)
    for each in found.fabrics:
        assert each.slow.clock < each.typical.clock
    values = found.as_dict()
    assert values["share"] == found.worst.load.share
    assert values["times_even"] == values["share"] * 2 ** values["bits"]
    assert values["target_clock_hz"] == process("sky130")["clock"].number
    assert values["holds"] == (not found.slower)
    assert values["rom"]["array"] == found.worst_rom.name


def test_a_crowded_line_is_found_and_warned_of(chip, capsys):
    calm, found = check_reads(chip), check_reads(like(chip, model=crowded(chip.model, 1.0)))
    assert found.worst.name == "head"
    assert (found.worst.load.lane, found.worst.load.row, found.worst.load.line) == (0, 0, 3)
    assert found.worst.slow.period > calm.worst.slow.period
    for clock, warned in ((9e8, True), (1e6, False)):
        stated = replace(found.target["clock"], value=clock, low=clock, high=clock)
        target = replace(found.target, figures={**found.target.figures, "clock": stated})
        print_check(replace(found, target=target))
        told = capsys.readouterr()
        assert (f"arrays are too slow for {clock / 1e6:.0f} MHz" in told.out + told.err) == warned


def test_a_lane_without_an_input_does_not_load_one_line(chip):
    for _, fabric in fabrics(chip.plan):
        codes = padding(fabric.bits, fabric.outputs)
        counts = np.bincount(codes, minlength=1 << fabric.bits)
        assert not counts[1 << fabric.bits - 1 :].any()  # a negative code would count in the start
        assert counts.max() - counts[: 1 << fabric.bits - 1].min() <= 1
    matrix = chip.model.head
    fabric = replace(chip.plan.head, lanes=matrix.inputs - 1, extra_rows=0)
    if not len(matrix.extra_inputs):
        codes, _ = place(matrix, fabric)
        np.testing.assert_array_equal(codes[1, -1], padding(fabric.bits, fabric.outputs))


def test_whose_clock_it_is_held_against(chip):
    assert process_of(chip).name == "sky130"  # compiled for none, or for another process
    for target, expected in (("tiny-tapeout", "tiny-tapeout"), ("n6", "sky130")):
        assert process_of(like(chip, plan=replace(chip.plan, target=target))).name == expected


def test_logic_beside_the_tiles(chip):
    area = logic_area(chip)
    assert area.total == area.banks + area.trees + area.frame
    assert min(area.banks, area.trees, area.frame) > 0
