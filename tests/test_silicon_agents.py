"""Agents: a chain's seconds by hand, and how many tokens fit a step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.quantity import Quantity
from intaglio.silicon.agents import Chain, Runner, sooner, timeline, tokens_in


def runner(rate=100.0, prompt_rate=1000.0, low=None, high=None) -> Runner:
    return Runner(
        "one",
        Quantity(prompt_rate, "token/s", "assumed", "a test"),
        Quantity(rate, "token/s", "measured", "a test", low, high),
    )


def test_a_chain_by_hand():
    made = timeline(runner(), Chain(steps=10, prompt=500, output=200, outside=0.5))
    assert made.seconds.quantity.number == pytest.approx(10 * (0.5 + 2 + 0.5))
    assert made.step == pytest.approx(3)
    steps = made.as_dict()["steps"]
    assert len(steps) == 10
    assert steps[0]["start"] == 0
    assert steps[-1]["end"] == pytest.approx(30)


def test_a_range_passes_and_turns_round():
    made = timeline(runner(low=50, high=200), Chain(1, 1000, 100))
    assert made.seconds.quantity.bounds == pytest.approx((1.5, 3))
    assert made.seconds.quantity.grade == "measured"
    ratio = sooner(made, timeline(runner(1000, 1e9), Chain(1, 1000, 100))).quantity
    assert ratio.number == pytest.approx(20, rel=1e-3)
    assert ratio.bounds == pytest.approx((15, 30), rel=1e-3)


@given(seconds=st.floats(2, 100), prompt=st.integers(1, 1000), rate=st.floats(1, 1e5))
def test_as_many_tokens_as_a_step_has_time_for(seconds, prompt, rate):
    one = runner(rate)
    count = tokens_in(one, seconds, prompt)
    step = timeline(one, Chain(1, prompt, count)).step
    assert step == pytest.approx(seconds, abs=0.51 / rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chain(0, 1, 1), "steps must be at least 1, not 0"),
        (lambda: Chain(1, 0, 1), "prompt must be at least 1, not 0"),
        (lambda: Chain(1, 1, 0), "output must be at least 1, not 0"),
        (lambda: Chain(1, 1, 1, -1), "seconds outside must be from 0 to 10,000,000, not -1"),
        (lambda: runner(rate=0), "rate of one must be positive, not 0"),
        (lambda: tokens_in(runner(), -1, 1), "seconds of a step must be positive, not -1"),
        (lambda: tokens_in(runner(), 1, 1000),
         "a step of 1 s must leave time for a token after 1,000 tokens in, not 0 s"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.message == message
