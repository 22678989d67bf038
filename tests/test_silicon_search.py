"""Search: bounds are kept, nothing near is better, rows follow the square-root rule."""

import math
from dataclasses import replace
from typing import Any

import pytest

from intaglio.errors import DoesNotFit
from intaglio.plan.outline import outline
from intaglio.plan.preset import preset
from intaglio.plan.process import process
from intaglio.silicon.physical import figures
from intaglio.silicon.request import Choices
from intaglio.silicon.search import Bounds, Search, changes, moved, search

N6 = process("n6")
SHAPE: dict[str, Any] = {"context": 1024, "slots": 1, "bits": 4}
LARGE = "smollm2-1.7b"


def question(area=250.0, power=None, model=LARGE, **options) -> Search:
    return Search(preset(model), N6, Bounds(area, power), Choices(), SHAPE, **options)


@pytest.fixture(scope="module")
def asked() -> Search:
    return question()


@pytest.fixture(scope="module")
def found(asked):
    return asked.run()


def test_the_same_question_has_the_same_answer(found):
    assert question().run().best == found.best


def test_the_figures_are_the_models(found):
    made = figures(found.best.outline, N6)
    assert found.best.area == made.area["area_mm2"].number
    assert found.best.power == pytest.approx(made.power["power_w"].number, rel=1e-12)
    assert found.best.rate == made.speed["tokens_per_second_per_user"].number


def test_bounds_are_kept_and_the_one_that_binds_is_named(found):
    assert found.best.area <= 250
    assert found.binding == "area"
    tight = question(power=found.best.power * 0.5).run()
    assert tight.best.power <= found.best.power * 0.5
    assert tight.best.rate < found.best.rate
    assert tight.binding == "power"


def test_nothing_near_the_best_is_faster(asked, found):
    plan = found.best.outline.plan
    for rows in moved(found.best.rows):
        other = asked.look(rows, plan.beat, plan.positions)
        assert other.broken or other.rate <= found.best.rate
    for beat, positions in ((plan.beat, 2 * plan.positions), (plan.beat, plan.positions // 2),
                            (plan.beat // 2, plan.positions)):  # fmt: skip
        other = replace(asked, beat=beat, positions=max(positions, 1))
        assert other.run().best.rate <= found.best.rate


def test_rows_follow_the_square_root_rule_where_area_binds(asked, found):
    """A layer's adders are fewest where rows go with the root of a group's weights."""
    rows = {group: count for group, count in found.best.rows.items() if group != "head"}
    roots = {group: math.sqrt(size) for group, (_, size) in asked.sizes.items()}
    whole = sum(rows.values())
    for group, count in rows.items():
        ideal = whole * roots[group] / sum(roots.values())
        # a row is a step of its group's cycles, activations of down are wider: within a quarter
        assert count == pytest.approx(ideal, rel=0.25, abs=2), group


def test_a_larger_die_is_never_slower(found):
    larger = question(area=300.0).run()
    assert larger.best.rate > found.best.rate
    assert larger.best.area <= 300


def test_the_front_is_of_chips_than_which_none_is_better(found):
    front = found.pareto()
    assert [p.area for p in front] == sorted(p.area for p in front)
    assert [p.rate for p in front] == sorted(p.rate for p in front)
    for point in found.points:
        assert not any(point.area < p.area and point.rate > p.rate for p in front[-1:])
        assert any(p.area <= point.area and p.rate >= point.rate for p in front)


def test_without_a_bound_that_matters_none_binds():
    loose = question(area=1e9, model="smollm2-135m").run()
    assert loose.binding is None
    assert min(loose.best.rows.values()) == 1


def test_the_most_positions_that_are_looked_for_are_named():
    asked = question(area=858.0, model="smollm2-135m")
    loose = asked.run()
    assert (loose.best.outline.plan.positions, loose.binding, loose.ended) == (128, None, True)
    wider = replace(asked, positions=256).run()
    assert wider.best.rate > loose.best.rate
    assert not wider.ended
    assert not question(area=loose.best.area, model="smollm2-135m").run().ended


def test_nothing_fits():
    with pytest.raises(DoesNotFit) as caught:
        search(preset(LARGE), N6, Bounds(1.0, 5.0), **SHAPE)
    assert caught.value.message.startswith(
        "no chip of this shape keeps to 1 mm2 and 5 W on n6: the smallest that was found takes "
    )


def test_what_would_make_it_faster(asked, found):
    made = changes(asked, found)
    assert [change.rate for change in made] == sorted((c.rate for c in made), reverse=True)
    assert all(change.rate > found.best.rate for change in made)
    clock = next(change for change in made if change.name == "clock")
    assert clock.then == N6["clock"].bounds[1]
    assert clock.rate == pytest.approx(found.best.rate * clock.then / clock.now, rel=0.05)
    assert {change.name for change in made} >= {"bits", "logic_scale"}


def test_the_head_of_given_rows_is_taken():
    made = outline(
        preset(LARGE), N6, **SHAPE,
        rows={"qkv": 4, "o": 4, "mlp": 8, "down": 6, "head": 9},
    )  # fmt: skip
    assert made.plan.head.rows + made.plan.head.extra_rows <= 9


def test_a_seat_is_searched_as_it_is_figured():
    seat = process("sky130")
    shape = {"context": 16, "slots": 1, "bits": 3}
    asked = Search(preset("bundled"), seat, Bounds(), Choices(), shape, beat=8, positions=1)
    point = asked.look({"qkv": 64, "o": 64, "mlp": 64, "down": 64, "head": 64}, 8, 1)
    made = figures(point.outline, seat)
    assert made.area["area_pads"].number == 0
    assert point.area == made.area["area_mm2"].number


def test_a_capped_issue_rate_is_the_searched_rate():
    choices = Choices(issue_rate=0.02)
    asked = Search(preset(LARGE), N6, Bounds(250.0), choices, SHAPE, positions=16)
    found = asked.run()
    made = figures(found.best.outline, N6, choices)
    rate = made.speed["tokens_per_second_per_user"].number
    assert found.best.rate == rate == made.speed["tokens_per_second_full"].number
    assert found.best.power == pytest.approx(made.power["power_w"].number)
