"""The floorplan is to scale: what is drawn has the areas that the figures say."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.flow.choose import PlanOptions
from intaglio.flow.plan import Planned, run_plan
from intaglio.report.floorplan import (
    GROUPS,
    Box,
    Piece,
    Station,
    draw_die,
    fill,
    floorplan,
    gathered,
    group_of,
    lot_of,
    ring_of,
    sides_of,
)
from intaglio.silicon.partition import Die as Cut

CHIPS = {  # one die, several, and layers cut by columns
    "bundled": PlanOptions(rows=64), "llama-3.1-8b": PlanOptions(rows=37),
    "llama-3.1-70b": PlanOptions(rows=37, die=80),
}  # fmt: skip


@pytest.fixture(scope="module", params=CHIPS)
def planned(request) -> Planned:
    return run_plan(request.param, CHIPS[request.param])


def test_the_chips_are_what_they_stand_for():
    kinds = [run_plan(name, options).cut for name, options in CHIPS.items()]
    assert [len(made.cut.dies) if made else 1 for made in kinds][:2] == [1, 2]
    assert kinds[2] is not None
    assert any(die.columns > 1 for die in kinds[2].cut.dies if "layer 0" in die.stations)


def test_dies_add_up_to_the_chip_and_pieces_to_its_blocks(planned):
    plan = floorplan(planned)
    assert len(plan.dies) == planned.dies
    area = planned.figures["area_mm2"].number
    assert sum(die.area for die in plan.dies) == pytest.approx(area, rel=1e-9)
    assert sum(die.width * die.height for die in plan.dies) == pytest.approx(area, rel=1e-9)
    blocks = sum(block.count * block.area.number for block in planned.physical.blocks)
    drawn = [each for die in plan.dies for each in die.drawn]
    found = sum(each.box.area for each in drawn if each.piece.group not in ("wires", "links"))
    assert found == pytest.approx(blocks, rel=1e-6)
    assert sum(plan.shares.values()) == pytest.approx(1)
    assert set(plan.shares) <= set(GROUPS)


def test_keys_and_values_have_their_area(planned):
    plan, figures = floorplan(planned), planned.physical.figures
    wanted = sum(figures[f"area_{kind}"].quantity.number for kind in ("kv", "buffers"))
    assert plan.shares["kv"] * plan.area == pytest.approx(wanted, rel=0.02)


def test_nothing_overlaps_and_nothing_sticks_out(planned):
    die = floorplan(planned).dies[-1]
    edge = 1e-6 * die.width
    for each in die.drawn:
        assert each.box.x >= die.ring - edge
        assert each.box.y >= die.ring - edge
        assert each.box.x + each.box.width <= die.width - die.ring + edge
        assert each.box.y + each.box.height <= die.height - die.ring + edge
    for one, other in combinations([each.box for each in die.drawn[:150]], 2):
        wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        tall = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert min(wide, tall) <= edge


def test_the_chain_runs_to_and_fro(planned):
    """Tiles that follow each other touch, or one row ends where the next begins."""
    for die in floorplan(planned).dies:
        for (_, one), (_, other) in pairwise(die.tiles):
            apart_x = max(one.x, other.x) - min(one.x + one.width, other.x + other.width)
            apart_y = max(one.y, other.y) - min(one.y + one.height, other.y + other.height)
            assert max(apart_x, apart_y) < 1e-6 * die.width


areas = st.lists(st.floats(0.001, 100), min_size=1, max_size=12)


@given(areas, st.floats(0.1, 10), st.floats(0.1, 10))
def test_pieces_fill_their_tile(sizes, width, height):
    station = Station("x", tuple(Piece(str(i), "mlp", area) for i, area in enumerate(sizes)))
    drawn = list(fill(station, Box(1, 2, width, height)))
    assert [each.piece.area for each in drawn] == sorted(sizes, reverse=True)
    for each in drawn:
        share = each.piece.area / station.area
        assert each.box.area == pytest.approx(share * width * height, rel=1e-6, abs=1e-12)


lengths = st.floats(0.1, 40)


@given(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=9), st.floats(0, 2))
def test_the_ring_is_what_makes_the_area(sides, ring):
    area = sum((width + 2 * ring) * (height + 2 * ring) for width, height in sides)
    assert ring_of(sides, area) == pytest.approx(ring, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("inner", "sides"),
    [(9.0, (3.0, 3.0)), (676.0, (26.0, 26.0)), (780.0, (26.0, 30.0)), (858.0, (26.0, 33.0)),
     (900.0, (30.0, 30.0))],
)  # fmt: skip
def test_a_die_stands_in_a_scanners_field(inner, sides):
    assert sides_of(inner, 1.0) == pytest.approx(sides)


def test_a_chip_that_fills_the_reticle_is_no_wider_than_the_field():
    (die,) = floorplan(run_plan("llama-3.1-8b")).dies
    assert (die.width, die.height) == pytest.approx((26.0, 33.0), abs=0.05)


def test_a_station_cut_by_columns_is_drawn_on_each_of_its_dies():
    stations = [Station("layer 0", (Piece("p", "mlp", 8.0),)),
                Station("layer 1", (Piece("q", "kv", 3.0),))]  # fmt: skip
    (part, links) = lot_of(Cut(("layer 0",), 2.5, 4), stations)
    assert (part.name, part.area) == ("layer 0, 1 of 4", 2.0)
    assert (links.pieces[0].group, links.area) == ("links", 0.5)
    assert [s.name for s in lot_of(Cut(("layer 0", "layer 1"), 11.0), stations)] == [
        "layer 0", "layer 1",
    ]  # fmt: skip


def test_a_single_station_is_the_whole_die():
    die = draw_die([Station("only", (Piece("p", "mlp", 9.0),))], 3.0, 3.0, 0.5)
    (drawn,) = die.drawn
    assert (drawn.box.x, drawn.box.y) == (0.5, 0.5)
    assert (drawn.box.width, drawn.box.height) == pytest.approx((3, 3))
    assert die.area == pytest.approx(16)


def test_small_pieces_are_drawn_together_with_all_their_area():
    pieces = [Piece("large", "mlp", 100.0)]
    pieces += [Piece(f"s{i}", "vectors", 0.01) for i in range(5)] + [Piece("one", "kv", 0.02)]
    made = gathered(pieces)
    assert [piece.name for piece in made] == ["large", "5 small blocks", "one"]
    assert sum(piece.area for piece in made) == pytest.approx(100.07)


@pytest.mark.parametrize(
    ("name", "kind", "group"),
    [
        ("q fabric", "fabric", "projections"), ("gate fabric", "fabric", "mlp"),
        ("router fabric", "fabric", "mlp"), ("head fabric", "fabric", "head"),
        ("keys and values", "kv", "kv"), ("norms", "vectors", "vectors"),
        ("something new", "unheard of", "vectors"),
    ],
)  # fmt: skip
def test_groups(name, kind, group):
    assert group_of(name, kind) == group
