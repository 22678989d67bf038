"""Sizes: every preset's chip as ``plan`` gives it, once searched and then from the cache."""

from dataclasses import replace

import pytest

from intaglio.flow import sizes
from intaglio.flow.cache import Store
from intaglio.flow.plan import run_plan
from intaglio.plan.process import process

N6 = process("n6")


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Two small models, and a cache of one's own."""
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sizes, "preset_names", lambda: ["smollm2-135m", "bundled"])


def test_a_size_is_what_plan_says(few):
    small, large = sizes.sizes_on(N6, "n6")
    assert (small.name, large.name) == ("bundled", "smollm2-135m")
    planned = run_plan("smollm2-135m")
    assert large.rate == planned.figures["tokens_per_second_per_user"]
    assert large.silicon == planned.figures["area_mm2"]
    assert (large.dies, large.bits) == (planned.dies, 4)


def test_a_second_time_it_comes_from_the_cache_unless_that_is_damaged(few, monkeypatch):
    first = sizes.sizes_on(N6, "n6")
    monkeypatch.setattr(sizes, "run_plan", None)
    assert sizes.sizes_on(N6, "n6") == first


def test_another_process_and_a_damaged_cache_are_planned_anew(few, monkeypatch):
    asked = []
    made = sizes.run_plan

    def seen(name, options):
        asked.append(name)
        return made(name, options)

    monkeypatch.setattr(sizes, "run_plan", seen)
    first = sizes.kept_size(N6, "n6", "bundled")
    other = replace(N6, figures={**N6.figures, "clock": process("n5")["clock"]})
    sizes.kept_size(other, "n6", "bundled")
    assert asked == ["bundled"] * 2
    for path in Store("sizes").root.glob("*/size.json"):
        path.write_text("{}")
    assert sizes.kept_size(N6, "n6", "bundled") == first
    assert asked == ["bundled"] * 3
