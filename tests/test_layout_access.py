"""A router reaches every signal of a tile: by klayout, with its wires and vias put there."""

import pytest
from mask_files import RULES

from intaglio.layout import access as layout_access
from intaglio.layout.access import Access
from intaglio.layout.die import write_base
from intaglio.layout.fabric import Array, Tile
from intaglio.layout.pen import around, pad
from intaglio.layout.tile import Pin, pins
from intaglio.verify.rules import regions, violations

kdb = pytest.importorskip("klayout.db")

KINDS = [(2, 20, 100), (2, 1, 42), (3, 8, 64), (3, 14, 512), (4, 10, 192), (4, 8, 576)]
SIGNALS = ("row", "bit_n", "precharge_n", "out")
VIA = [rule for rule in RULES.rules.values() if rule.name.startswith(("via2.", "m3."))]
WIRE = [rule for rule in RULES.rules.values() if rule.name in ("m2.1", "m2.2")]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def drawn(request, tmp_path_factory):
    bits, rows, columns = request.param
    tile = Tile(Array("q", bits, rows, 1, columns), 0, 1, 0, columns)
    return tile, layers_of(tile, tmp_path_factory.mktemp("tile"))


def layers_of(tile: Tile, folder) -> dict:
    """The layers that a router meets."""
    write_base([tile], folder / "base.oas", RULES)
    found = regions({folder / "base.oas": tile.base}, RULES)
    return {name: found[name] for name in ("met2", "via2", "met3")}


def ends_of(tile: Tile) -> dict[tuple[str, bool], list[Pin]]:
    """A signal's landing and the end of its wire, by its name and edge."""
    height, found = tile.size(RULES)[1], {}
    for pin in pins(tile, RULES):
        if pin.name.startswith(SIGNALS):
            found.setdefault((pin.name, pin.y[0] > height // 2), []).append(pin)
    return found


def box(x: tuple[int, int], y: tuple[int, int]):
    return kdb.Box(x[0], y[0], x[1], y[1])


def landings_at(tile: Tile) -> list[tuple[int, int]]:
    """Where every signal's via may stand: the middle of its landing."""
    return [(sum(p.x) // 2, sum(p.y) // 2) for p, _ in ends_of(tile).values()]


def with_vias(layers: dict, places: list[tuple[int, int]]) -> dict:
    """The layers with a via to met3 on each place, and the least wire of met3 on it."""
    side, wide = RULES["via2.1a"], RULES["via2.1a"] + 2 * RULES["m3.4"]
    long = -(-RULES["m3.6"] // wide // 10) * 10 + 10
    cuts, metal = kdb.Region(), kdb.Region()
    for x, y in places:
        cuts.insert(box(around(x, side), around(y, side)))
        metal.insert(box(around(x, long), around(y, wide)))
    return layers | {
        "via2": (layers["via2"] + cuts).merged(), "met3": (layers["met3"] + metal).merged(),
    }  # fmt: skip


def test_every_signal_has_its_own_track(drawn):
    """All of an edge are on tracks of met2, each on another, in the order in which they stand."""
    tile, _ = drawn
    names = {name for name, _ in ends_of(tile)}
    assert names == {pin.name for pin in pins(tile, RULES)} - {"VPWR", "VGND"}
    pitch, offset = RULES.tracks["met2"]
    for upper in (False, True):
        xs = [sum(p.x) // 2 for (_, edge), (p, _) in ends_of(tile).items() if edge == upper]
        assert all(x % pitch == offset for x in xs)
        assert len(set(xs)) == len(xs)


def test_every_landing_is_where_tracks_cross(drawn):
    """With the tile's origin on the grid, turned upside down or mirrored too."""
    tile, _ = drawn
    width, height = tile.size(RULES)
    (pitch, offset), (high, first) = RULES.tracks["met2"], RULES.tracks["met3"]
    for x, y in landings_at(tile):
        assert x % pitch == offset == (width - x) % pitch
        assert y % high == first == (height - y) % high


def test_all_signals_leave_at_once(drawn):
    """Wires of least width straight on from every end, beyond the edge."""
    tile, layers = drawn
    height, wires = tile.size(RULES)[1], kdb.Region()
    for (_, upper), (_, end) in ends_of(tile).items():
        ends = (end.y[0], height + 3000) if upper else (-3000, end.y[1])
        wires.insert(box(end.x, ends))
    met2 = (layers["met2"] + wires).merged()
    count = layers["met2"].merged().count()
    assert met2.count() == count  # no wire joins another
    assert [rule.name for rule in WIRE if violations({"met2": met2}, rule)] == []


@pytest.mark.parametrize("turn", range(4))
def test_every_signal_takes_a_via(drawn, turn):
    """Those of every fourth track at once, each with the least area of met3."""
    tile, layers = drawn
    pitch = RULES.tracks["met2"][0]
    own = [(x, y) for x, y in landings_at(tile) if x // pitch % 4 == turn]
    made = with_vias(layers, own)
    assert made["met3"].count() == layers["met3"].merged().count() + len(own)
    assert [rule.name for rule in VIA if violations(made, rule)] == []


def test_vias_of_all_signals_stand_beside_each_other(drawn):
    """All at once, with no more met3 than a via needs."""
    tile, layers = drawn
    side, over = RULES["via2.1a"], RULES["m3.4"]
    cuts, metal = kdb.Region(), kdb.Region()
    for x, y in landings_at(tile):
        cuts.insert(box(around(x, side), around(y, side)))
        metal.insert(box(around(x, side + 2 * over), around(y, side + 2 * over)))
    made = layers | {
        "via2": (layers["via2"] + cuts).merged(), "met3": (layers["met3"] + metal).merged(),
    }  # fmt: skip
    rules = [rule for rule in VIA if rule.name != "m3.6"]
    assert [rule.name for rule in rules if violations(made, rule)] == []


def test_landings_in_one_row_are_caught(monkeypatch, tmp_path):
    """Neighbours' vias would come too near to each other: the check sees it."""
    first = layout_access.landings(RULES)[0]
    monkeypatch.setattr(layout_access, "landings", lambda r: (first, first))
    tile = Tile(Array("q", 3, 8, 1, 64), 0, 1, 0, 64)
    with pytest.raises(AssertionError, match=r"m3\.2"):
        test_vias_of_all_signals_stand_beside_each_other((tile, layers_of(tile, tmp_path)))


def test_a_wire_off_its_track_is_caught(monkeypatch):
    tile = Tile(Array("q", 3, 8, 1, 64), 0, 1, 0, 64)
    monkeypatch.setattr(Access, "nearest", lambda self, x, low, high: x)
    with pytest.raises(AssertionError):
        test_every_signal_has_its_own_track((tile, {}))


def test_landings_hold_a_via(drawn):
    """A landing is what via2.4 and via2.5 ask for, and lies on drawn metal."""
    tile, layers = drawn
    wide, high = pad("met2", "via2", RULES)
    shapes = kdb.Region()
    for landing, end in ends_of(tile).values():
        assert (landing.x[1] - landing.x[0], landing.y[1] - landing.y[0]) == (wide, high)
        shapes.insert(box(landing.x, landing.y))
        shapes.insert(box(end.x, end.y))
    assert (shapes - layers["met2"]).is_empty()


def test_the_grid_is_the_published_one():
    assert RULES.tracks == {"met2": (460, 230), "met3": (680, 340), "met4": (920, 460)}
