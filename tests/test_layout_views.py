"""Views of a tile: what others place it by says what is drawn."""

import re

import gdstk
import pytest
from mask_files import RULES, random_codes

from intaglio.errors import BadInput
from intaglio.layout.fabric import Array, Tile, tiles
from intaglio.layout.picture import Window, picture
from intaglio.layout.tile import base_cells, pins
from intaglio.layout.views import lef, verilog, write_tile_views

ARRAY = Array("q", 3, 5, 2, 10)


@pytest.fixture(scope="module")
def tile() -> Tile:
    return next(tiles(ARRAY, RULES))


def test_lef_names_every_terminal_where_metal_is(tile):
    """Each terminal of the LEF lies on drawn metal of its layer, and no two overlap."""
    text = lef(tile, RULES)
    (top,) = (cell for cell in base_cells([tile], RULES) if cell.name == tile.base)
    ports = re.findall(r"  PIN (\S+)\n.*?    PORT\n(.*?)    END", text, re.DOTALL)
    assert len({name for name, _ in ports}) == len(ports) == 6 + 8 + 2 + 12 + 2
    for layer in ("met2", "met3"):
        metal = top.get_polygons(layer=RULES.layers[layer][0], datatype=RULES.layers[layer][1])
        shapes = [
            gdstk.rectangle(*((float(r[0]), float(r[1])), (float(r[2]), float(r[3]))))
            for _, port in ports
            if f"LAYER {layer} " in port
            for r in re.findall(r"RECT (\S+) (\S+) (\S+) (\S+)", port)
        ]
        assert shapes
        assert gdstk.boolean(shapes, metal, "not", precision=1e-4) == []
        area = sum(shape.area() for shape in shapes)
        assert sum(p.area() for p in gdstk.boolean(shapes, [], "or")) == pytest.approx(area)


def test_all_is_drawn_within_the_outline(tile):
    width, height = tile.size(RULES)
    (top,) = (cell for cell in base_cells([tile], RULES) if cell.name == tile.base)
    ends = top.bounding_box()
    assert ends is not None
    (left, low), (right, high) = ends
    assert left >= 0
    assert low >= 0
    assert right <= width / 1000
    assert high <= height / 1000 + 1e-9
    assert f"SIZE {width / 1000:.3f} BY {height / 1000:.3f} ;" in lef(tile, RULES)


def test_verilog_has_the_ports_of_the_lef(tile):
    buses = {pin.name.partition("[")[0] for pin in pins(tile, RULES)}
    text = verilog(tile, RULES)
    assert set(re.findall(r"wire (?:\[\d+:0\] )?(\w+)", text)) == buses
    assert "output wire [11:0] out" in text


def test_a_tile_whole_has_one_contact_per_cell(tile, tmp_path):
    codes = random_codes(ARRAY)
    netlist, drawn = write_tile_views(tile, codes, tmp_path, RULES)
    cells = re.findall(
        r"^Xcell_\d+_\d+_\d+ line_\d+_(\d+)_(\d) ", netlist.read_text(), re.MULTILINE
    )
    assert len(cells) == 6 * 12
    library = gdstk.read_gds(drawn)
    own = next(cell for cell in library.cells if cell.name == f"{tile.base}_codes")
    assert isinstance(own, gdstk.Cell)
    assert len(own.polygons) == len(cells)
    again = tmp_path / "again"
    again.mkdir()
    assert write_tile_views(tile, codes, again, RULES)[1].read_bytes() == drawn.read_bytes()


def test_a_picture_shows_its_weights(tile):
    text = picture(tile, random_codes(ARRAY), RULES)
    weights = text.split('fill="#ff2fd0"')[1].split("/>")[0]
    assert weights.count("M") == 6 * 12
    assert "the model" in text
    part = picture(tile, random_codes(ARRAY), RULES, Window(60, 5, 3, 3))
    assert 0 < part.count("M") < text.count("M")


def test_a_window_outside_is_refused(tile):
    with pytest.raises(BadInput, match="the window must lie in the tile's"):
        picture(tile, random_codes(ARRAY), RULES, Window(1e6, 0, 1, 1))
