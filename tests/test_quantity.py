"""Quantities say all they must; ranges pass through monotone models exactly."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.quantity import Quantity, quantity, read_yaml, spread

WHOLE = {"value": 2.0, "unit": "mm2", "grade": "assumed", "source": "a page", "year": 2026}


def test_a_point_is_its_own_range():
    assert quantity(WHOLE, "file: area").as_dict() == {
        **WHOLE, "low": 2.0, "high": 2.0, "blocked_by": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": None}, "unit must be a text, not None"),
        ({"source": " "}, "source must be a text, not ' '"),
        ({"grade": "sure"}, "grade must be one of"),
        ({"low": 1.0}, "low and high must both be there"),
        ({"low": 3.0, "high": 4.0}, "value must be between low and high, not"),
        ({"value": math.nan}, "value must be a finite number"),
        ({"value": 10**400}, "value must be a finite number"),
        ({"value": True}, "value must be a finite number"),
        ({"value": "2"}, "value must be a finite number"),
        ({"value": None}, "a null value must say what it is blocked_by"),
        ({"blocked_by": "no source"}, "blocked_by must be of a null value only"),
        ({"colour": 1}, "unknown key colour"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change, message):
    with pytest.raises(BadInput) as caught:
        quantity({**WHOLE, **change}, "n6.yaml: area")
    assert caught.value.message.startswith("n6.yaml: area: ")
    assert message in caught.value.message


@pytest.mark.parametrize("key", sorted(WHOLE))
def test_every_key_must_be_there(key):
    with pytest.raises(BadInput, match=rf"^x: has no {key}$"):
        quantity({name: value for name, value in WHOLE.items() if name != key}, "x")
    with pytest.raises(BadInput, match="must be a mapping"):
        quantity(3, "x")


def test_a_null_blocks():
    unknown = Quantity(None, "J", "assumed", "nobody", blocked_by="no source gives it")
    assert not unknown.known
    with pytest.raises(BadInput, match="no source gives it"):
        _ = unknown.number


@pytest.mark.parametrize("text", ["- 1", "a: [", "\xff"])
def test_a_file_that_is_no_mapping_is_named(tmp_path, text):
    path = tmp_path / "n6.yaml"
    path.write_text(text, "latin-1")
    with pytest.raises(BadInput, match=r"n6\.yaml: "):
        read_yaml(path)


RANGES = st.lists(st.tuples(*[st.floats(0.1, 10)] * 3).map(sorted), min_size=3, max_size=3)


@given(RANGES, st.tuples(*[st.sampled_from([-1, 0, 1])] * 3))
def test_the_range_of_a_monotone_model_is_that_of_its_corners(ranges, powers):
    def model(x):
        return {"y": math.prod(v**p for v, p in zip(x.values(), powers, strict=True))}

    inputs = {
        name: Quantity(value, "1", "assumed", "test", low, high)
        for name, (low, value, high) in zip("abc", ranges, strict=True)
    }
    got = spread(model, inputs)["y"]
    corners = [
        model(dict(zip("abc", corner, strict=True)))["y"]
        for corner in itertools.product(*[(low, high) for low, _, high in ranges])
    ]
    assert got.least == pytest.approx(min(corners), rel=1e-12)
    assert got.most == pytest.approx(max(corners), rel=1e-12)
    assert got.least <= got.low <= got.value <= got.high <= got.most
    down = [math.log(got.value / min(*ends, got.value)) for ends in got.moves.values()]
    assert got.low == pytest.approx(got.value * math.exp(-math.hypot(*down)), rel=1e-9)
    sizes = [abs(high - low) for low, high in got.moves.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_a_certain_input_moves_nothing():
    got = spread(lambda x: {"y": x["a"]}, {"a": Quantity(3.0, "1", "exact", "test")})["y"]
    assert (got.value, got.low, got.high, got.moves) == (3.0, 3.0, 3.0, {})
    assert (got.least, got.most) == (3.0, 3.0)


def test_independent_errors_and_errors_together():
    inputs = {
        name: Quantity(1.0, "1", "assumed", "test", math.exp(-size), math.exp(size))
        for name, size in (("a", 0.3), ("b", 0.4), ("c", 0.0))
    }

    def model(x):
        return {"y": x["a"] * x["b"] * x["c"]}

    alone = spread(model, inputs)["y"]
    assert math.log(alone.high) == pytest.approx(0.5)
    assert math.log(alone.most) == pytest.approx(0.7)
    as_one = spread(model, inputs, {"a": "group", "b": "group"})["y"]
    assert math.log(as_one.high) == pytest.approx(0.7)
    assert math.log(as_one.low) == pytest.approx(-0.7)
    assert as_one.most == alone.most


def test_a_result_that_may_be_negative_has_its_errors_added_as_they_are():
    inputs = {
        name: Quantity(1.0, "1", "assumed", "test", 1.0 - size, 1.0 + size)
        for name, size in (("a", 3.0), ("b", 4.0))
    }
    got = spread(lambda x: {"y": x["a"] - x["b"]}, inputs)["y"]
    assert (got.low, got.value, got.high) == (-5.0, 0.0, 5.0)
    assert (got.least, got.most) == (-7.0, 7.0)
