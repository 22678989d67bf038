"""Masks of a chip package: engraved into it, read back to another one, compared."""

import json
import re
import shutil
from pathlib import Path

import gdstk
import numpy as np
import pytest
from mask_files import edit_sheet, open_cell, read_corners, write_corners
from tiny_chip import QUICK, PlayedChip, quick_emit, tiny_checkpoint

from intaglio.errors import BadInput, Mismatch
from intaglio.flow.compile import compile_model
from intaglio.flow.die import write_die, write_die_picture
from intaglio.flow.librelane import write_librelane
from intaglio.flow.masks import (
    diff_chips,
    engrave_package,
    read_chip,
    write_chip_views,
    write_picture,
)
from intaglio.flow.package import MANIFEST, Package, open_package
from intaglio.flow.verify import Proof, keep_verdict
from intaglio.golden.forward import Golden
from intaglio.hardware import emit
from intaglio.layout.picture import Window


@pytest.fixture(scope="module")
def engraved(made_home, tmp_path_factory) -> Path:
    """A folder with two engraved chips: ``chip``, and ``other`` under its shape."""
    home, folder = made_home(64), tmp_path_factory.mktemp("engraved")
    shutil.copytree(home / "chip", folder / "chip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "emit", quick_emit)
        patch.setenv("INTAGLIO_CACHE", str(home / "cache"))
        tiny_checkpoint(folder / "second", 1, max_position_embeddings=64)
        compile_model(str(folder / "second"), folder / "other", QUICK, base=folder / "chip")
    for name in ("chip", "other"):
        engrave_package(open_package(folder / name))
    return folder


@pytest.fixture
def home(engraved, tmp_path, monkeypatch) -> Path:
    """A copy of the two chips."""
    monkeypatch.setattr(emit, "emit", quick_emit)
    return Path(shutil.copytree(engraved, tmp_path / "home"))


def test_masks_are_a_stage_of_the_package(home):
    package = open_package(home / "chip")
    stage = package.manifest["stages"]["masks"]
    assert {"masks/die.json", "masks/base.oas", "masks/head.0.0.oas"} <= set(stage["files"])
    before = (home / "chip" / MANIFEST).read_bytes()
    engrave_package(package)
    assert (home / "chip" / MANIFEST).read_bytes() == before
    open_package(home / "chip")


def test_other_stages_stay(home):
    from test_flow_simulator import VERDICT

    keep_verdict(open_package(home / "chip"), Proof(VERDICT, "a prompt", "said", 1.5))
    stages = open_package(home / "chip").manifest["stages"]
    assert sorted(stages) == ["compile", "masks", "verify"]
    engrave_package(open_package(home / "chip"))
    assert open_package(home / "chip").verdict is not None


def test_what_an_interrupted_engraving_left_is_ignored(home):
    manifest = json.loads((home / "chip" / MANIFEST).read_text())
    del manifest["stages"]["masks"]
    (home / "chip" / MANIFEST).write_text(json.dumps(manifest))
    (home / "chip" / "masks" / "die.json").unlink()
    engrave_package(open_package(home / "chip"))
    assert read_chip(home / "chip").read.model.hash() == manifest["hash"]


def test_the_base_die_is_the_same_for_two_models_of_a_shape(home):
    one, other = home / "chip" / "masks", home / "other" / "masks"
    assert open_package(home / "chip").hash != open_package(home / "other").hash
    for name in ("die.json", "base.oas"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    found = diff_chips(home / "chip", home / "other")
    assert 0 < found.changed < 2 * found.contacts
    assert found.changed_files <= found.files
    assert diff_chips(home / "chip", home / "chip").changed == 0


def more_slots(sheet):
    sheet["shape"]["slots"] += 1


def test_a_difference_in_the_base_die_is_named(home):
    path = home / "other" / "masks" / "base.oas"
    library, cell = open_cell(path, "unit_")
    cell.add(gdstk.rectangle((0, 0), (1, 1), layer=66, datatype=20))
    library.write_oas(path)
    with pytest.raises(Mismatch, match=r"cell \w+ differs on layer poly"):
        diff_chips(home / "chip" / "masks", home / "other" / "masks")
    edit_sheet(home / "other" / "masks", more_slots)
    with pytest.raises(Mismatch, match="their data sheets differ in sha256, shape"):
        diff_chips(home / "chip" / "masks", home / "other" / "masks")


def test_a_chip_comes_back_from_its_masks_and_tokenizer_alone(home):
    chip, kept = home / "chip", home / "kept"
    expected = open_package(chip)
    ids = expected.tokenizer.encode("the list")
    logits = Golden(expected.model).logits(Golden(expected.model).residual(np.array(ids), 0))
    kept.mkdir()
    for name in ("masks", "tokenizer"):
        shutil.move(chip / name, kept / name)
    shutil.rmtree(chip)
    found = read_chip(kept / "masks", output=home / "back")
    back = open_package(home / "back")
    assert found.read.model.hash() == back.hash == expected.hash
    assert back.model.hash() == expected.hash
    assert back.plan == found.read.plan
    again = Golden(back.model)
    assert np.array_equal(again.logits(again.residual(np.array(ids), 0)), logits)
    assert back.tokenizer.encode("the list") == ids
    assert PlayedChip(back.model).context == 64
    engrave_package(back)
    assert diff_chips(home / "back", kept / "masks").changed == 0


@pytest.mark.parametrize("lines", [1, 8], ids=["another magnitude", "another sign"])
def test_a_changed_contact_is_found_against_the_package(home, lines):
    """Also one that contradicts its column's start value, which alone is told without a chip."""
    assert read_chip(home / "chip", against=home / "chip").against == []
    copied = home / "masks"
    for part in ("masks", "tokenizer"):
        shutil.copytree(home / "chip" / part, home / part)
    path = copied / "head.0.0.oas"
    corners = read_corners(path, "head.0.0")
    lowest = np.lexsort(corners.T[::-1])[0]  # the leftmost, lowest: row 0, column 0
    code = int(open_package(home / "chip").model.head.codes[0, 0])
    moved = code ^ lines
    corners[lowest, 1] += 370 * (moved - code)
    write_corners(path, corners, "head.0.0")
    found = read_chip(copied, against=home / "chip").against
    assert found == [
        {"where": "head", "row": 0, "lane": 0, "column": 0, "expected": code, "found": moved}
    ]
    if lines == 8:
        message = f"{copied}: head, column 0: its start value contradicts its codes"
        for output in (None, home / "back"):
            with pytest.raises(Mismatch, match=re.escape(message)):
                read_chip(copied, output=output, against=output and home / "chip")
        assert not (home / "back").exists()


def test_what_cannot_be_done_is_told(home):
    (home / "loose").mkdir()
    shutil.copytree(home / "other" / "masks", home / "loose" / "masks")
    edit_sheet(home / "loose" / "masks", more_slots)
    with pytest.raises(BadInput, match="not of the shape"):
        read_chip(home / "loose" / "masks", against=home / "chip")
    with pytest.raises(BadInput, match=r"tokenizer: missing: a chip package needs"):
        read_chip(home / "loose" / "masks", output=home / "back")
    assert not (home / "back").exists()


def write_reading(package: Package, output: Path) -> None:
    read_chip(package.path, output=output)


def write_views(package: Package, output: Path) -> None:
    write_chip_views(package, output, [])


def write_tile_picture(package: Package, output: Path) -> None:
    write_picture(package, "norm.0.0", output)


FILES = [write_die, write_die_picture, write_tile_picture]
FOLDERS = [write_reading, write_views, write_librelane]


@pytest.mark.parametrize("write", [*FILES, *FOLDERS])
@pytest.mark.parametrize("name", ["masks/x.oas", "plan.json", "rtl/x.gds", "views"])
def test_no_output_goes_into_a_package(home, write, name):
    """It would be a file that the package does not list, or one of its own, lost."""
    with pytest.raises(BadInput, match=rf"{name}: lies in the chip package \S+chip"):
        write(open_package(home / "chip"), home / "chip" / name)
    open_package(home / "chip")


@pytest.mark.parametrize("write", FILES)
def test_an_output_that_can_be_no_file_is_refused_at_once(home, write):
    (home / "some.oas").mkdir()
    for name, message in (
        ("some.oas", "some.oas: is a folder, not a file"),
        ("none/some.oas", "none/some.oas: cannot be written: .*none is not a folder"),
    ):
        with pytest.raises(BadInput, match=message):
            write(open_package(home / "chip"), home / name)
    assert not [path for path in home.iterdir() if "part" in path.name]


def test_a_die_that_is_no_layout_is_refused_at_once(home):
    with pytest.raises(BadInput, match=r"die\.txt: must end in \.oas or \.gds"):
        write_die(Package(home / "no such chip", {}), home / "die.txt")


@pytest.mark.parametrize(
    "window", [(float("nan"), 0, 5, 5), (0, 0, float("inf"), 5), (-9, 0, 8, 5), (0, 999, 8, 5)]
)
def test_a_window_beside_the_tile_is_refused(home, window):
    with pytest.raises(BadInput, match="the window must lie in the tile's"):
        write_picture(open_package(home / "chip"), "norm.0.0", home / "x.svg", Window(*window))
    assert not (home / "x.svg").exists()
