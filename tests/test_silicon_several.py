"""Chips of several dies: sums by hand of what links add, and what must hold."""

import math

import pytest

from intaglio.plan.outline import outline
from intaglio.plan.preset import preset
from intaglio.plan.process import process
from intaglio.quantity import numbers
from intaglio.silicon.physical import Physical, figures
from intaglio.silicon.request import Choices
from intaglio.silicon.several import BANDWIDTH, cut_at, gathered, room_of, several

N6 = process("n6")
LATE = ("redrive_cycles", "redrive_cycles_interval")


def physical(model="llama-3.1-8b", rows=40, **changes) -> Physical:
    shape = {"context": 1024, "slots": 1, "bits": 4, "beat": 64, "positions": 4, **changes}
    return figures(outline(preset(model), N6, rows=rows, **shape), N6)


@pytest.fixture(scope="module")
def made() -> Physical:
    return physical()


@pytest.fixture(scope="module")
def cut(made):
    return several(made, made.area["area_mm2"].number / 3)


def number(cut, name: str) -> float:
    return cut.figures[name].quantity.number


def test_links_by_hand(made, cut):
    dies = number(cut, "dies")
    assert dies in (3, 4)
    assert cut.cut.boundaries == dies
    residual = 4096 * 32
    each = N6["link_latency"].number * 1e-9 + residual / (BANDWIDTH * 1e12)
    assert number(cut, "link_seconds") == pytest.approx(dies * each)
    late, of_a_layer = (made.speed[name].number for name in LATE)
    token = (made.cycles.token + late) / N6["clock"].number + dies * each
    assert number(cut, "tokens_per_second_per_user") == pytest.approx(1 / token)
    energy = dies * residual * N6["link_energy"].number * 1e-12  # J
    assert number(cut, "link_w") == pytest.approx(energy / token)
    waited = late + (made.cycles.prompt - 1) * of_a_layer
    first = (made.cycles.first + waited) / N6["clock"].number + dies * each
    assert number(cut, "first_token_seconds") == pytest.approx(first)


def test_a_capped_issue_rate_holds_everybody_back(made, cut):
    choices = Choices(issue_rate=0.001)
    capped = several(figures(made.outline, N6, choices), made.area["area_mm2"].number / 3)
    full = number(cut, "tokens_per_second_full") * 0.001
    for name in ("per_user", "all", "full"):
        assert number(capped, f"tokens_per_second_{name}") == pytest.approx(full)
    assert number(capped, "first_token_seconds") > number(cut, "first_token_seconds")


def test_areas_close(made, cut):
    limit = made.area["area_mm2"].number / 3
    assert number(cut, "die_mm2") <= limit
    known = {name: q for name, q in {**made.inputs, **N6.figures}.items() if q.known}
    x = numbers(known)
    inside = sum(made.stations.values()) * (1 + x["wiring_share"])
    link = BANDWIDTH * x["link_area"]
    parts = cut_at(made, limit, x)
    assert parts.area == pytest.approx(inside + 2 * link * len(parts.dies))
    ring = sum((math.sqrt(die.area) + 2 * x["pad_ring"]) ** 2 for die in parts.dies)
    assert number(cut, "area_mm2") == pytest.approx(ring)
    assert room_of(100.0, {"pad_ring": 0.5}) == 81


def test_smaller_dies_are_more_and_slower(made, cut):
    smaller = several(made, made.area["area_mm2"].number / 6)
    assert number(smaller, "dies") > number(cut, "dies")
    assert number(smaller, "tokens_per_second_per_user") < number(cut, "tokens_per_second_per_user")
    assert number(smaller, "power_w") < number(cut, "power_w")  # of fewer tokens


def test_a_layer_cut_by_columns_gathers():
    made = physical(rows=6)
    layer = max(area for name, area in made.stations.items() if name.isdigit())
    cut = several(made, layer * 0.8)
    assert cut.cut.gathers
    a = made.outline.plan.architecture
    dense = (a.query_width * 8, a.width * 32, a.inner * 10, a.width * 32)
    assert gathered(made.outline) == dense
    assert len(cut.cut.gathers) == 4 * a.layers
    slower = made.cycles.token / N6["clock"].number
    assert number(cut, "tokens_per_second_per_user") < 1 / slower
    full = made.speed["tokens_per_second_full"].number
    assert number(cut, "tokens_per_second_full") <= full  # the head, which gathers none, may bind
    assert number(cut, "prompt_tokens_per_second") < made.speed["prompt_tokens_per_second"].number


def test_experts_scatter_and_gather_their_sums():
    mixture = physical("gpt-oss-20b", beat=32, rows=60)
    a = mixture.outline.plan.architecture
    assert gathered(mixture.outline) == (a.query_width * 8, *[a.width * 32] * 3)
