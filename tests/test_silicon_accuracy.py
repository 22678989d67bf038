"""Expected losses: what was measured, between two models, and what nobody knows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.silicon.accuracy import expected_growth, measured, narrowest


def test_what_was_measured_is_said_as_it_was():
    for bits, rows in measured().items():
        for parameters, growth in rows:
            assert expected_growth(parameters, bits) == growth


def test_between_two_models():
    got = expected_growth((1.34515e8 * 8.03e9) ** 0.5, 3)
    assert got.number == pytest.approx((12.81 + 6.8) / 2)
    assert got.bounds == (6.8, 30.9)
    assert got.grade == "inferred"


@given(st.floats(1e5, 1e13), st.sampled_from([3, 4]))
def test_fewer_bits_never_lose_less(parameters, bits):
    wide, narrow = expected_growth(parameters, 4), expected_growth(parameters, 3)
    assert wide.number < narrow.number
    got = expected_growth(parameters, bits)
    assert got.bounds[0] <= got.number <= got.bounds[1]


def test_outside_what_was_measured_it_is_inferred():
    for parameters in (1e5, 7e11):
        assert expected_growth(parameters, 3).grade == "inferred"


@pytest.mark.parametrize("bits", [2, 3.5])
def test_a_width_that_nobody_measured(bits):
    got = expected_growth(1e9, bits)
    assert got.value is None
    assert got.blocked_by == f"nobody measured weights of {bits:g} bits"


def test_the_narrowest_under_a_limit():
    assert narrowest(8.03e9, 10) == 3
    assert narrowest(8.03e9, 5) == 4
    assert narrowest(1.34515e8, 10) == 4
    assert narrowest(1.34515e8, 1) is None
