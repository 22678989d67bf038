"""A floorplan: every tile once, on the grid, within the die, none upon another."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_files import RULES, random_codes

from intaglio.layout import fabric
from intaglio.layout.assembly import DIE, assemble, write_assembly
from intaglio.layout.die import by_file, write_tiles
from intaglio.layout.die_picture import die_picture
from intaglio.layout.fabric import Array
from intaglio.layout.floorplan import Floorplan, floorplan
from intaglio.verify.rules import BY_CONSTRUCTION, regions, violations

ARRAYS = st.lists(
    st.builds(
        Array, st.just("q"), st.integers(2, 4), st.integers(1, 20), st.integers(1, 9),
        st.integers(1, 1300),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def planned(arrays: list[Array], wanted: float = 0) -> Floorplan:
    named = [Array(f"a{n}", a.bits, a.rows, a.lanes, a.columns) for n, a in enumerate(arrays)]
    cut = {array.name: list(fabric.tiles(array, RULES)) for array in named}
    found = floorplan(cut, [name for name in cut if name != "a1"], RULES, wanted)
    assert sorted(p.tile.name for p in found.places) == sorted(
        tile.name for each in cut.values() for tile in each
    )
    return found


@settings(max_examples=25, deadline=None)
@given(arrays=ARRAYS, wanted=st.sampled_from([0, 0.5, 20]))
def test_tiles_stand_on_the_grid_and_apart(arrays, wanted):
    found = planned(arrays, wanted)
    assert found.area >= wanted
    (across, _), (up, _) = RULES.tracks["met4"], RULES.tracks["met3"]
    spans = []
    for place in found.places:
        width, height = place.tile.size(RULES)
        assert place.x % across == place.y % (4 * up) == 0
        assert place.x > 0
        assert place.y > 0
        assert place.x + width < found.width
        assert place.y + height < found.height
        spans.append((place.x, place.y, place.x + width, place.y + height))
    apart = RULES["nwell.2a"]
    spans.sort()
    for number, (left, low, right, high) in enumerate(spans):
        for other in spans[number + 1 :]:
            if other[0] >= right + apart:
                break
            assert other[1] >= high + apart or other[3] + apart <= low, (left, low, right, high)


def test_a_larger_die_has_higher_channels():
    arrays = [Array("q", 3, 8, 6, 64), Array("q", 2, 20, 1, 100)]
    small, large = planned(arrays), planned(arrays, 10)
    assert small.channel < large.channel
    assert small.area < 1


def test_a_picture_shows_every_tile_to_scale():
    found = planned([Array("q", 3, 8, 6, 64), Array("q", 2, 20, 1, 100)], 1)
    text = die_picture(found, RULES)
    assert len(re.findall(r"M\d", text)) == len(found.places) == 7
    assert "7 tiles on" in text
    assert "ROM" in text


def assembled(array: Array, folder, closer: int = 0):
    """All layers of an array's tiles as a floorplan places them; ``closer``: nm, to the left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fabric, "TILE_COLUMNS", 8)
        found = planned([array])
    codes = random_codes(array)
    for same in by_file([place.tile for place in found.places]):
        write_tiles(folder, same, [tile.codes(codes) for tile in same])
    places = list(found.places)
    if closer:
        last = places[-1]
        places[-1] = type(last)(last.tile, last.x - closer, last.y)
    write_assembly(assemble(places, folder, RULES), folder / "die.oas")
    return regions({folder / "die.oas": DIE}, RULES)


CHECKED = [rule for rule in RULES.rules.values() if rule.check not in BY_CONSTRUCTION]


@pytest.mark.parametrize("shape", [(3, 6, 5, 20), (4, 3, 2, 12)])
def test_an_assembled_array_keeps_every_rule(shape, tmp_path):
    pytest.importorskip("klayout.db")
    layers = assembled(Array("q", *shape), tmp_path)
    assert [rule.name for rule in CHECKED if violations(layers, rule)] == []


def test_a_tile_too_near_to_its_neighbour_is_caught(tmp_path):
    pytest.importorskip("klayout.db")
    layers = assembled(Array("q", 3, 2, 1, 12), tmp_path, closer=12_000)
    assert [rule.name for rule in CHECKED if violations(layers, rule)] != []
