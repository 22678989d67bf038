"""Layout against netlist: equal on every kind of tile, and planted errors are caught."""

from dataclasses import replace

import gdstk
import numpy as np
import pytest
from mask_files import RULES, random_codes, write_tile

from intaglio.layout.die import write_base
from intaglio.layout.fabric import Array, Tile, tiles
from intaglio.layout.netlist import netlist
from intaglio.layout.tile import pins
from intaglio.verify.extract import Terminal, differences, extract, read_netlist
from intaglio.verify.rules import regions, violations

pytest.importorskip("klayout.db")


def drawn_layers(tile: Tile, codes: np.ndarray, folder, added: dict[str, tuple] | None = None):
    """All layers of a tile with its contacts; ``added``: rectangles by layer, nm."""
    write_base([tile], folder / "base.oas", RULES)
    write_tile(tile, codes, folder / "q.oas")
    library = gdstk.Library("added", unit=1e-6, precision=RULES.grid * 1e-9)
    cell = library.new_cell("added")
    for layer, (left, low, right, high) in (added or {}).items():
        number, datatype = RULES.layers[layer]
        ends = (left / 1000, low / 1000), (right / 1000, high / 1000)
        cell.add(gdstk.rectangle(*ends, layer=number, datatype=datatype))
    library.write_oas(folder / "added.oas")
    files = {"base.oas": tile.base, "q.oas": "codes", "added.oas": "added"}
    return regions({folder / name: cell for name, cell in files.items()}, RULES)


def compared(tile: Tile, codes: np.ndarray, layers, folder) -> list[str]:
    """How what is drawn differs from the netlist of a tile with those codes."""
    path = folder / "intended.cdl"
    path.write_text("\n".join(["* intended", *netlist(tile, codes, RULES), ".end", ""]))
    terminals = [
        Terminal(pin.name, pin.layer, sum(pin.x) // 2, sum(pin.y) // 2) for pin in pins(tile, RULES)
    ]
    found = extract(layers, terminals, tile.base, RULES)
    return differences(found, read_netlist(path, tile.base))


def one_tile(*shape: int) -> tuple[Tile, np.ndarray]:
    array = Array("q", *shape)
    *_, tile = tiles(array, RULES)
    return tile, random_codes(array)


@pytest.mark.parametrize("shape", [(2, 15, 2, 12), (3, 11, 2, 9), (4, 3, 1, 5), (3, 4, 1, 140)])
def test_what_is_drawn_is_the_intended_netlist(shape, tmp_path):
    tile, codes = one_tile(*shape)
    assert compared(tile, codes, drawn_layers(tile, codes, tmp_path), tmp_path) == []


@pytest.mark.slow
def test_a_tile_of_64_thousand_weights_is_the_intended_netlist(tmp_path):
    tile, codes = one_tile(3, 128, 1, 512)
    assert tile.array.cells == 1 << 16
    assert compared(tile, codes, drawn_layers(tile, codes, tmp_path), tmp_path) == []


def test_another_selected_line_is_caught(tmp_path):
    tile, codes = one_tile(3, 4, 1, 8)
    layers = drawn_layers(tile, codes, tmp_path)
    codes[2, 0, 5] ^= 1
    assert compared(tile, codes, layers, tmp_path)


def line_span(tile: Tile) -> tuple[int, int, int, int]:
    """The lowest line of row 0 of a tile's array, all of it."""
    d = tile.drivers(RULES)
    middle = d.g.bottom(0) + d.g.first
    half = d.g.line_width // 2
    return d.end, middle - half, d.end + d.g.width(d.columns), middle + half


def test_a_planted_short_is_caught(tmp_path):
    tile, codes = one_tile(3, 4, 1, 8)
    left, low, _, high = line_span(tile)
    across = {"met1": (left, low, left + 200, high + 370)}
    layers = drawn_layers(tile, codes, tmp_path, across)
    assert compared(tile, codes, layers, tmp_path)


def test_a_planted_open_is_caught(tmp_path):
    tile, codes = one_tile(3, 4, 1, 8)
    layers = drawn_layers(tile, codes, tmp_path)
    kdb = pytest.importorskip("klayout.db")
    left, low, _, high = line_span(tile)
    cut = kdb.Region(kdb.Box(left + 200, low, left + 400, high))
    assert compared(tile, codes, layers | {"met1": layers["met1"] - cut}, tmp_path)


def test_a_transistor_of_another_size_is_caught(tmp_path):
    tile, codes = one_tile(3, 4, 1, 8)
    layers = drawn_layers(tile, codes, tmp_path)
    d = tile.drivers(RULES)
    kdb = pytest.importorskip("klayout.db")
    wider = kdb.Region(kdb.Box(d.lines[0].p[1], d.g.bottom(0) - 145, d.lines[0].p[1] + 50, 9000))
    more = (layers["pdiff"].sized(50) & wider).merged()
    grown = layers | {name: (layers[name] + more).merged() for name in ("diff", "pdiff")}
    grown["gate"] = grown["diff"] & layers["poly"]
    assert compared(tile, codes, grown, tmp_path)


def test_a_planted_spacing_error_is_caught(tmp_path):
    tile, codes = one_tile(3, 4, 1, 8)
    left, _, _, high = line_span(tile)
    near = {"met1": (left + 100, high + 50, left + 400, high + 140)}
    layers = drawn_layers(tile, codes, tmp_path, near)
    assert violations(layers, RULES.rules["m1.2"]) > 0
    wrong = replace(RULES.rules["m1.2"], value=RULES["m1.2"] - 100)
    assert violations(layers, wrong) == 0
