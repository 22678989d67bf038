"""The plan of a chip against the area there is."""

import pytest
from random_model import random_architecture, random_model

from intaglio.errors import DoesNotFit
from intaglio.plan.chip import in_mm2, make_plan


@pytest.mark.parametrize(
    ("area", "text"),
    [
        (1234.56, "1234.6 mm2"), (1.0, "1.0 mm2"), (0.96, "0.96 mm2"), (0.0512, "0.051 mm2"),
        (0.001, "0.001 mm2"), (1e-9, "1e-09 mm2"),
    ],
)  # fmt: skip
def test_an_area_has_the_digits_that_say_something(area, text):
    assert in_mm2(area) == text


@pytest.mark.parametrize("share", [0.999, 0.5, 1e-6])
def test_no_die_is_0_mm2(share):
    model = random_model(architecture=random_architecture())
    area = make_plan(model, "sky130").cell_area()
    assert area
    with pytest.raises(DoesNotFit) as caught:
        make_plan(model, "sky130", die=area * share)
    assert caught.value.message == (
        f"the fabrics' cells alone need {in_mm2(area)} on sky130, {in_mm2(area * (1 - share))} "
        f"more than the {in_mm2(area * share)} there are"
    )
    assert " 0 mm2" not in caught.value.message
    assert " 0.0 mm2" not in caught.value.message
