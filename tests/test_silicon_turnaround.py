"""From checkpoint to card: days by hand, what must be true, and the seats of shuttles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.quantity import Quantity
from intaglio.silicon.shuttles import seats
from intaglio.silicon.turnaround import WAYS, days, inputs_of, measured, turnaround

PROCESS = {
    "mask_layers": Quantity(80, "1", "assumed", "a test", 70, 90),
    "programmable_layers": Quantity(2, "1", "assumed", "a test"),
    "days_per_mask_layer": Quantity(1.5, "day", "assumed", "a test", 1, 2),
    "fab_weeks": Quantity(18, "week", "assumed", "a test", 14, 22),
    "package_weeks": Quantity(6, "week", "assumed", "a test", 2, 8),
}
SURE = {
    "layers_above": 10.0, "days_per_mask_layer": 1.0, "package_weeks": 2.0, "mask_write_one": 3.0,
    "sign_off_model": 1.0, "bring_up_model": 4.0,
}  # fmt: skip


def test_the_days_of_a_next_model_by_hand():
    way = turnaround(PROCESS, 1.4e6, changes=SURE)["next_model"]
    computing = (50 + 62) / 86400
    assert way.total.quantity.number == pytest.approx(10 + 14 + 3 + 1 + 4 + computing)
    assert way.holds == "all"
    assert way.needed == ()


def test_steps_follow_one_another_without_gaps():
    for name, way in turnaround(PROCESS, 8e9).items():
        assert tuple(step.name for step in way.steps) == WAYS[name]
        at = 0.0
        for step in way.steps:
            assert step.start.number == pytest.approx(at)
            at += step.days.number
        assert way.total.quantity.number == pytest.approx(at)


def test_waiting_wafers_save_the_fab():
    ways = turnaround(PROCESS, 8e9)
    assert ways["next_model"].total.quantity.number < ways["first_chip"].total.quantity.number


@given(
    promise=st.floats(20, 200), layers=st.floats(1, 70), pace=st.floats(1, 2), weeks=st.floats(2, 8)
)
def test_what_is_needed_keeps_the_promise_and_nothing_less_does(promise, layers, pace, weeks):
    fixed = {**PROCESS, "package_weeks": Quantity(weeks, "week", "assumed", "a test", 1, 10)}
    changes = {"layers_above": layers}
    way = turnaround(fixed, 8e9, promise=promise, changes=changes)["next_model"]
    kept = way.total.quantity.number <= promise
    assert kept == (way.holds in ("all", "value"))
    if not way.needed:
        return
    values = {
        name: q.number for name, q in inputs_of(fixed, 8e9, changes).items()
    }  # fmt: skip
    for each in way.needed:
        assert each.needed <= each.value
        values[each.input] = each.needed
    assert days(values, "next_model")["total"] == pytest.approx(promise, abs=1e-6)
    last = way.needed[-1]
    assert days({**values, last.input: last.value}, "next_model")["total"] > promise


def test_a_promise_that_nothing_can_keep_says_so():
    way = turnaround(PROCESS, 8e9, promise=1)["next_model"]
    assert (way.holds, way.needed) == ("none", ())


def test_times_are_those_measured_and_scaled_beyond():
    own = measured(1.345e8)
    assert own["measured_compile"].number == 639
    assert own["measured_compile"].grade == "measured"
    assert own["parameters"].number == 1
    small, large = (
        turnaround(PROCESS, size)["next_model"].steps[0].days for size in (1.345e8, 8e9)
    )
    assert small.number * 86400 == pytest.approx(639)
    assert small.bounds == pytest.approx((small.number, small.number))
    low, high = large.bounds
    assert small.number < low < large.number < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"promise": 0}, "promise must be from 0.01 to 36,500 days, not 0"),
        ({"changes": {"layers_above": -1}}, "layers above must be from 0 to 90, not -1"),
        ({"changes": {"layers_above": 91}}, "layers above must be from 0 to 90, not 91"),
        ({"changes": {"weather": 1}}, "what is changed must be one of"),
        ({"parameters": 0}, "parameters must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(BadInput) as caught:
        turnaround(PROCESS, **{"parameters": 8e9, **arguments})
    assert caught.value.message.startswith(message)


def test_an_unknown_step_blocks_the_days():
    blind = Quantity(None, "week", "assumed", "a test", blocked_by="no quote")
    way = turnaround({**PROCESS, "package_weeks": blind}, 8e9)["next_model"]
    assert way.holds == "unknown"
    assert way.total.quantity.blocked_by == "no quote"


def test_seats_and_what_fits_them():
    by_name = {seat.name: seat for seat in seats()}
    assert list(by_name) == ["tiny-tapeout", "wafer-space", "chipignite", "ihp"]
    seat = by_name["chipignite"]
    # 10 mm2, cells on 30 % of it, 4.5 um2 each
    assert seat.weights.number == pytest.approx(10e6 * 0.3 / 4.5)
    small, between, large = (
        Quantity(value, "mm2", "assumed", "a test", low, high)
        for value, low, high in ((8, 6, 9), (9, 8, 12), (40, 30, 50))
    )
    assert [seat.fits(area, "sky130") for area in (small, between, large)] == [
        "all", "value", "none",
    ]  # fmt: skip
    assert seat.fits(small, "n6") is None
    for each in seats():
        assert (
            each.weights.bounds[1]
            <= each.figures["area"].number * 1e6 / each.figures["cell"].bounds[0]
        )
