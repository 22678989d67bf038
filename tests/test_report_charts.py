"""Charts: places of values, round ticks, labels that keep out of each other's way."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.report.charts import (
    LETTER,
    Axis,
    Mark,
    across,
    frame,
    labels,
    log_ticks,
    round_step,
    svg,
    text,
    upward,
)


def test_an_axis_puts_its_ends_at_its_ends():
    linear, log = Axis(0, 10, 100, 200), Axis(1, 100, 0, 100, log=True)
    assert [linear(0), linear(5), linear(10)] == [100, 150, 200]
    assert [log(1), log(10), log(100)] == pytest.approx([0, 50, 100])


@given(st.floats(1e-6, 1e9))
def test_steps_are_round_and_no_smaller(raw):
    step = round_step(raw)
    assert raw * (1 - 1e-6) <= step <= raw * 2.5 * (1 + 1e-6)
    lead = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert lead == pytest.approx(1) or lead == pytest.approx(2) or lead == pytest.approx(5)


def test_logarithmic_ticks_are_enough_and_within():
    assert log_ticks(1, 1e6) == [10.0**p for p in range(7)]
    assert log_ticks(100, 5000) == [100, 300, 1000, 3000]
    assert log_ticks(100, 500) == [100, 200, 500]
    assert all(130 <= tick <= 900 for tick in log_ticks(130, 900))


def test_text_is_escaped_and_a_chart_is_well_formed():
    x, y = across([1, 10]), upward([1, 10], log=True)
    marks = [Mark(5, 5, 3, 8, "a <b> & c", '"quoted" <title>', "diamond")]
    parts = [*frame(x, y, "x < y", "y"), *(m.draw(x, y) for m in marks), *labels(marks, x, y)]
    root = ElementTree.fromstring(svg(parts, 'a "label"'))
    assert root.get("aria-label") == 'a "label"'
    assert "a <b> & c" in [element.text for element in root.iter("text")]
    assert text(1, 2, "<") == '<text x="1.0" y="2.0" class="" text-anchor="start">&lt;</text>'


def test_labels_of_near_points_do_not_cover_each_other():
    x, y = across([1e6, 1e12], log=True), upward([100, 1e6], log=True)
    marks = [
        Mark(8e9 * (1 + i / 20), 2e4 * (1 + i / 50), 1.8e4, 2.2e4, f"model {i}", "t")
        for i in range(4)
    ]
    rooms = []
    for part in labels(marks, x, y):
        found = re.match(r'<text x="([\d.]+)" y="([\d.]+)" class="label" text-anchor="(\w+)"', part)
        if found:
            wide = LETTER * len("model 0")
            left = float(found[1]) - wide * {"start": 0, "middle": 0.5, "end": 1}[found[3]]
            rooms.append((left, float(found[2]) - 12, left + wide, float(found[2]) + 3))
    assert len(rooms) == 4
    for i, one in enumerate(rooms):
        for other in rooms[:i]:
            wide = min(one[2], other[2]) - max(one[0], other[0])
            tall = min(one[3], other[3]) - max(one[1], other[1])
            assert min(wide, tall) <= 0.2
