"""A second opinion on the design rules: the deck that OpenRAM ships, run by klayout in batch."""

import importlib.util
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import gdstk
import pytest
from mask_files import RULES, random_codes, write_tile

from intaglio.layout.die import write_base
from intaglio.layout.fabric import Array, tiles

DECK = "technology/sky130/tech/sky130.lydrc"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deck() -> Path:
    """Where the deck is installed; it is not part of this project (GPL)."""
    if shutil.which("klayout") is None:
        pytest.skip("the program klayout is not installed: apt-get install klayout")
    found = importlib.util.find_spec("openram")
    if found is None:
        pytest.skip("the deck is not installed: pip install --no-deps openram==1.2.48")
    return Path(next(iter(found.submodule_search_locations or []))) / DECK


def markers(deck: Path, library: gdstk.Library, top: str, folder: Path) -> list[str]:
    """The rules that the deck finds broken."""
    library.write_gds(folder / "drawn.gds")
    subprocess.run(
        ["klayout", "-b", "-r", deck, "-rd", f"input={folder / 'drawn.gds'}", "-rd",
         f"topcell={top}", "-rd", f"output={folder / 'found.xml'}"],
        check=True, capture_output=True, timeout=600, env={"HOME": str(folder), "PATH": "/usr/bin"},
    )  # fmt: skip
    return [
        item.findtext("category", "").strip("'")
        for item in ElementTree.parse(folder / "found.xml").iter("item")
    ]


def whole_tile(array: Array, folder: Path) -> tuple[gdstk.Library, gdstk.Cell]:
    """A tile with its contacts, as one library."""
    *_, tile = tiles(array, RULES)
    write_base([tile], folder / "base.oas", RULES)
    write_tile(tile, random_codes(array), folder / "q.oas")
    library = gdstk.read_oas(folder / "base.oas")
    contacts = gdstk.read_oas(folder / "q.oas")
    (codes,) = contacts.top_level()
    (top,) = (cell for cell in library.cells if cell.name == tile.base)
    assert isinstance(codes, gdstk.Cell)
    assert isinstance(top, gdstk.Cell)
    library.add(*contacts.cells)
    top.add(gdstk.Reference(codes))
    return library, top


@pytest.mark.parametrize("shape", [(2, 15, 2, 12), (3, 11, 2, 140), (4, 5, 2, 7)])
def test_the_deck_finds_nothing_in_a_tile(deck, shape, tmp_path):
    library, top = whole_tile(Array("q", *shape), tmp_path)
    assert markers(deck, library, top.name, tmp_path) == []


def test_the_deck_finds_a_planted_violation(deck, tmp_path):
    library, top = whole_tile(Array("q", 3, 4, 1, 8), tmp_path)
    number, datatype = RULES.layers["met1"]
    top.add(gdstk.rectangle((-3, 0), (-2.9, 3), layer=number, datatype=datatype))
    assert set(markers(deck, library, top.name, tmp_path)) == {"m1.1"}
