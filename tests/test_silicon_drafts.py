"""Drafts by prompt lookup: what is drafted, what is believed, and the exact cycles of both."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import random_model

from intaglio.errors import BadInput
from intaglio.golden.sample import Sampling
from intaglio.plan.chip import make_plan
from intaglio.plan.schedule import EMBEDDING_GAP, RING, Schedule
from intaglio.silicon.drafts import Drafted, Round, drafted, lookup, rounds

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=24)
SCHEDULE = Schedule(make_plan(random_model(1)))


@pytest.mark.parametrize(
    ("tokens", "most", "want"),
    [
        ([1, 2, 3, 4, 1, 2], 2, [3, 4]),
        ([1, 2, 3, 4, 1, 2], 9, [3, 4, 1, 2]),
        ([1, 2, 5, 1, 2, 6, 1, 2], 1, [6]),  # the latest place
        ([9, 1, 2, 3, 7, 2, 3, 8, 1, 2, 3], 1, [7]),  # the longest ending
        ([1, 2, 3], 4, []),
        ([5], 4, []),
        ([5, 5], 4, [5]),
        ([1, 2, 1], 0, []),
    ],
)
def test_what_followed_before_is_drafted(tokens, most, want):
    assert lookup(tokens, most) == want


def test_an_answer_that_repeats_its_prompt_by_hand():
    prompt, answer = [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 9, 8]
    # after the first 1: 2, 3, 4 are right; after the 9: nothing stood before
    assert rounds(prompt, answer, 3) == [Round(6, 3, 3), Round(10, 0, 0)]


@given(TOKENS, TOKENS, st.integers(0, 5), st.integers(1, 4))
def test_rounds_say_the_answer(prompt, answer, most, longest):
    """Token by token: what entered, what was drafted and what was believed give the answer."""
    said, known = 1, [*prompt, answer[0]]
    for one in rounds(prompt, answer, most, longest):
        assert one.position == len(known) - 1
        assert one.drafted <= most
        new = answer[said : said + one.tokens]
        draft = lookup(known, min(most, len(answer) - said - 1), longest)
        assert len(draft) == one.drafted
        assert draft[: one.believed] == new[:-1]
        assert one.believed == one.drafted or draft[one.believed] != new[-1]
        known += new
        said += one.tokens
    assert known == [*prompt, *answer]


@given(TOKENS, TOKENS)
def test_without_drafts_cycles_are_those_of_the_run(prompt, answer):
    got = drafted(SCHEDULE, prompt, answer, 0)
    assert got.cycles_drafted == got.cycles_alone
    assert got.rounds == got.tokens == len(answer) - 1
    assert got.acceptance is None


@given(st.integers(0, 20), st.integers(0, 8))
def test_a_check_is_the_recurrence_over_layers_and_positions(position, count):
    """A station takes a position when the one before gave it and the last one's beats went on."""
    layers, head = len(SCHEDULE.plan.layers), SCHEDULE.head(Sampling())

    @cache
    def into(station: int, place: int) -> int:
        if place < 0:
            return -SCHEDULE.beats
        came = EMBEDDING_GAP + (into(0, place - 1) + SCHEDULE.beats if place else 0)
        if station:
            came = into(station - 1, place) + SCHEDULE.layer(station - 1, position + place)
        free = into(station, place - 1) + head + 1 if station == layers else 0
        if station < layers:
            free = into(station + 1, place - 1) + SCHEDULE.beats
        return came if place == 0 else max(came, free)

    assert SCHEDULE.check(position, count) == into(layers, count) + head
    assert SCHEDULE.check(position, 0) == SCHEDULE.token(position) - RING


def test_a_deep_chain_checks_a_draft_in_little_more_than_a_token():
    """Half of what the round would take token by token is a bound that any chain beats."""
    four = SCHEDULE.check(4, 3)
    assert four < 4 * SCHEDULE.token(4)


def test_sums_and_a_slow_host():
    one = drafted(SCHEDULE, [1, 2, 3, 1], [2, 3, 1, 2], 2)
    both = one + one
    assert (both.tokens, both.faster, both.acceptance) == (6, one.faster, one.acceptance)
    late = drafted(SCHEDULE, [1, 2, 3, 1], [2, 3, 1, 2], 2, between=RING + 1000)
    assert late.cycles_drafted == one.cycles_drafted + 1000 * one.rounds
    assert Drafted(0, 0, 0, 0, 0, 0).faster == 1.0


@pytest.mark.parametrize(
    "arguments", [([1], [2], -1, 3), ([1], [2], 1, 0), ([], [1], 1, 1), ([1], [], 1, 1)]
)
def test_what_cannot_be_drafted_is_refused(arguments):
    with pytest.raises(BadInput, match="draft"):
        rounds(*arguments)
