"""What others published: the data file's sources, and the arithmetic of the comparison with it."""

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_module import load
from hypothesis import given
from hypothesis import strategies as st

from intaglio.quantity import Quantity
from intaglio.silicon.market import table

DOCUMENT = Path(__file__).parents[1] / "docs" / "validation.md"


@pytest.fixture(scope="module")
def validation() -> ModuleType:
    """benchmarks/validation.py, which is no package."""
    return load("validation")


@pytest.fixture(scope="module")
def hnlpu(validation):
    """HNLPU's figures, predicted."""
    return validation.hnlpu()


def test_every_published_value_has_its_unit_source_and_year(validation):
    parts = {chip: set(values) - {"title"} for chip, values in table("published").items()}
    assert parts == {chip: set(units) for chip, units in validation.UNITS.items()}
    for chip, names in parts.items():
        for part in names:
            for q in validation.section(chip, part).values():
                assert q.known
                assert q.year
                assert len(q.source) > 10


def test_every_published_figure_of_hnlpu_has_a_row(validation, hnlpu):
    rows = validation.hnlpu_rows(hnlpu)
    assert {row.name for row in rows} == set(validation.section("hnlpu", "published"))
    lines = list(validation.hnlpu_lines(rows))
    assert {len(line) for line in lines} == {8}
    for row in rows:
        assert 0 < row.predicted.low < row.predicted.middle < row.predicted.high


def test_the_document_shows_what_is_predicted(validation, hnlpu, capsys):
    validation.show(validation.hnlpu_lines(validation.hnlpu_rows(hnlpu)))
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 7
    asides = [
        f"  {name.replace('_', ' ')}: {validation.number(hnlpu[name].quantity.number)} {unit} "
        f"({validation.span(*hnlpu[name].quantity.bounds)})"
        for name, unit in validation.ASIDE.items()
    ]
    assert "\n".join([*rows, *asides]) in DOCUMENT.read_text()


def test_hnlpu_by_hand(hnlpu):
    # Murphy: 8.2708 cm2 times 0.11; 62 dies of a wafer of 16,988 USD
    assert hnlpu["yield"].quantity.number == pytest.approx(0.4312, abs=1e-4)
    assert hnlpu["good_die"].quantity.number == pytest.approx(16988 / (62 * 0.4312), rel=1e-3)
    # 320 MiB of 0.021 um2 cells at 55 %
    assert hnlpu["sram_area"].quantity.number == pytest.approx(102.5, abs=0.1)


def test_the_power_of_the_array_is_the_sum_of_its_parts(hnlpu):
    parts = [hnlpu[name].quantity.number for name in ("dynamic", "clock_above_gates", "leakage")]
    power = hnlpu["array_power"].quantity.number
    assert power == pytest.approx(sum(parts))
    # of 16 chips, over 249,960 tokens/s with 5.1 G weights each
    energy = hnlpu["weight_energy"].quantity.number
    assert energy * 1e-12 * 249_960 * 5.13e9 / 16 == pytest.approx(power, rel=0.01)


def test_a_row_says_how_far_off_and_whether_inside(validation):
    published = Quantity(100, "W", "published claim", "a page", 90, 110)
    row = validation.Row("power", validation.Interval(115, 130, 150), published)
    assert row.deviation == pytest.approx(0.3)
    assert not row.met
    assert not row.inside
    assert validation.Row("power", validation.Interval(109, 124, 150), published).inside
    assert validation.Row("power", validation.Interval(109, 124, 150), published).met


@given(st.floats(0, 1))
def test_draws_stay_in_their_range_with_the_value_in_the_middle(validation, u):
    for low, value, high in ((1.0, 2.0, 8.0), (0.0, 0.15, 0.3)):
        q = Quantity(value, "1", "assumed", "a page", low, high)
        assert low <= validation.place_in(q, u) <= high * (1 + 1e-12)
        assert validation.place_in(q, 0.5) == pytest.approx(value)


def test_draws_use_every_slice_once_and_err_together(validation):
    inputs = validation.inputs_of("n6") | validation.section("hc1", "unknown")
    drawn = list(validation.worlds(inputs, 8))
    low, high = inputs["clock"].bounds
    below = [x for x in drawn if x["clock"] < inputs["clock"].number]
    assert len(below) == 4
    assert all(low <= x["clock"] <= high for x in drawn)
    order = sorted(drawn, key=lambda x: x["logic_scale"])
    assert order == sorted(drawn, key=lambda x: x["gate_area"])  # one error: both logic's area
    assert drawn == list(validation.worlds(inputs, 8))


def test_the_mix_of_bits_comes_near_its_share(validation):
    a = validation.preset("llama-3.1-8b").architecture
    assert validation.mix(a, 0.0) == ()
    assert "down" in validation.mix(a, 0.3)
    assert validation.mix(a, 0.1) == ("v", "k", "head")
