"""Re-drives: counted by hand, in the order in which a layer's fabrics work."""

import math

import pytest

from intaglio.plan.outline import Outline, outline
from intaglio.plan.preset import preset
from intaglio.plan.process import process
from intaglio.plan.tiling import GROUPS
from intaglio.quantity import numbers
from intaglio.silicon.model import inputs_of, silicon
from intaglio.silicon.redrive import crossings, passes
from intaglio.silicon.request import Choices

N6 = process("n6")
X = numbers(inputs_of(N6))


def chip(name="smollm2-1.7b", **changes) -> Outline:
    shape = {"context": 512, "slots": 1, "bits": 4, "positions": 2, "rows": 60, **changes}
    return outline(preset(name), N6, **shape)


def test_edges_of_tiles_by_hand():
    made = chip()
    model = silicon(made, N6, Choices(cell="signed"), X)
    late = model.redrives(X)
    reach = X["line_reach"] / X["cell_width"]
    a = made.plan.architecture
    wide = {"qkv": a.width, "o": a.width, "mlp": a.inner, "down": a.width}
    layer = sum(math.ceil(columns / reach) - 1 for columns in wide.values())
    head = math.ceil(a.vocabulary / reach) - 1
    assert layer > 0
    assert late.layer == layer * X["crossing_cycles"]
    assert late.head == head * X["crossing_cycles"]
    assert late.token == pytest.approx((a.layers * layer + head) * X["crossing_cycles"])


def test_a_line_that_reaches_everything_is_driven_once():
    model = silicon(chip(), N6, Choices(), X)
    late = model.redrives({**X, "line_reach": 1e9})
    assert (late.token, late.layer, late.head) == (0, 0, 0)


def test_a_shorter_reach_is_never_faster():
    model = silicon(chip(), N6, Choices(), X)
    rates = [model.speed({**X, "line_reach": reach})["tokens_per_second_per_user"]
             for reach in (50, 100, 200, 400)]  # fmt: skip
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_a_wire_per_weight_has_no_tiles():
    made = chip()
    fabric = made.plan.layers[0]["gate"]
    assert crossings(fabric, {fabric: "counters"}, X) == 0
    assert crossings(fabric, {fabric: "decode"}, X) > 0


@pytest.mark.parametrize("name", ["smollm2-135m", "gpt-oss-20b", "deepseek-r1"])
def test_every_fabric_of_a_layer_has_its_pass(name):
    made = chip(name, bits=3, beat=8, context=256)
    for layer in range(len(made.plan.layers)):
        seen = {each for names in passes(made, layer) for each in names}
        assert seen == {n for n in made.fabrics(layer) if n != "router" or not made.dense(layer)}
    assert passes(chip(), 0) == tuple(GROUPS.values())
