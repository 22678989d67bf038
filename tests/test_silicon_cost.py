"""Cost: yields and dies by hand, published chips, repair, break-even, and what cannot be."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.quantity import Quantity
from intaglio.silicon.cost import UNITS, Chip, Terms, break_even, cost
from intaglio.silicon.market import design_cost, figures
from intaglio.silicon.yields import Redundancy, die_yield, gross_dies

DEFECTS = st.floats(0.01, 8)
PROCESS = {
    "wafer_price": (9346, "USD"), "wafer_diameter": (300, "mm"), "defect_density": (0.09, "1/cm2"),
    "mask_set": (10e6, "USD"), "programmable_mask": (150e3, "USD"),
    "programmable_layers": (2, "1"), "package_price": (20, "USD"), "reticle": (858, "mm2"),
}  # fmt: skip


def known(value: float | None, unit: str = "1", low=None, high=None, grade="assumed") -> Quantity:
    blocked = None if value is not None else "nobody knows"
    return Quantity(value, unit, grade, "a test", low, high, blocked_by=blocked)


def process(**changes) -> dict[str, Quantity]:
    return {name: known(value, unit) for name, (value, unit) in PROCESS.items()} | changes


def chip(area=815.0, rate=1000.0, watts=100.0) -> Chip:
    alone = (known(rate, "token/s"), known(watts, "W"))
    full = (known(20 * rate, "token/s"), known(2 * watts, "W"))
    return Chip(known(area, "mm2"), alone, full)


def changed(**changes) -> Terms:
    return Terms(changes=changes)


def test_the_known_die_at_7_nm():
    """815 mm2 at 9,346 USD a wafer and D0 0.09: 63 gross dies, 50.2 % good, 295 USD each."""
    made = cost(chip(), process(), 7)
    assert made["gross_dies"].number == 63
    assert made["yield"].number == pytest.approx(0.502, abs=0.0005)
    assert made["good_die_usd"].number == pytest.approx(295, abs=1)


def test_the_published_die_at_5_nm():
    """HNLPU (arXiv 2508.16151): 827.08 mm2, D0 0.11, 16,988 USD: 43 %, 27 of 62, 629 USD."""
    values = process(
        wafer_price=known(16988, "USD"), defect_density=known(0.11, "1/cm2")
    )  # fmt: skip
    made = cost(chip(827.08), values, 5)
    assert made["gross_dies"].number == 62
    assert round(made["yield"].number, 2) == 0.43
    assert round(made["good_dies"].number) == 27
    # the paper divides by whole good dies; the average wafer has 26.7
    assert 16988 / round(made["good_dies"].number) == pytest.approx(629, abs=0.5)
    assert made["good_die_usd"].number == pytest.approx(629, rel=0.012)


def test_yields_by_hand():
    assert die_yield(0.0) == 1
    assert die_yield(1.0) == pytest.approx((1 - math.exp(-1)) ** 2)
    assert die_yield(1.5, "negative-binomial", clustering=3) == pytest.approx(1.5**-3)
    # one repairable defect: the chance of none, and of one
    one = Redundancy(repairable=1, repairs=1)
    assert die_yield(3.0, "negative-binomial", clustering=1, redundancy=one) == pytest.approx(
        1 / 4 + 3 / 16
    )


@pytest.mark.parametrize("model", ["murphy", "negative-binomial"])
@given(defects=DEFECTS, share=st.floats(0, 1), repairs=st.integers(0, 6))
def test_repair_never_hurts_and_never_makes_more_than_all(model, defects, share, repairs):
    plain = die_yield(defects, model)
    mended = die_yield(defects, model, redundancy=Redundancy(share, repairs))
    more = die_yield(defects, model, redundancy=Redundancy(share, repairs + 1))
    assert plain <= mended + 1e-12
    assert mended <= more + 1e-12
    assert more <= 1 + 1e-9


@pytest.mark.parametrize("model", ["murphy", "negative-binomial"])
def test_repair_without_end_mends_what_can_be_repaired(model):
    """What is left is the yield of the part that cannot be repaired, by the same distribution."""
    all_of_it = die_yield(2.0, model, redundancy=Redundancy(1.0, 150))
    half = die_yield(2.0, model, redundancy=Redundancy(0.5, 150))
    assert all_of_it == pytest.approx(1, abs=1e-6)
    assert half == pytest.approx(die_yield(1.0, model), abs=1e-6)


def test_spares_cost_their_area():
    plain = cost(chip(), process(), 7)
    spared = cost(chip(), process(), 7, Terms(redundancy=Redundancy(0.0, 0, area=0.05)))
    assert spared["good_die_usd"].number > plain["good_die_usd"].number


@given(area=st.floats(1, 850), wafers=st.floats(100, 30000))
def test_larger_dies_are_fewer_and_dearer(area, wafers):
    values = process(wafer_price=known(wafers, "USD"))
    small, large = (cost(chip(size), values, 7) for size in (area * 0.7, area))
    assert small["gross_dies"].number >= large["gross_dies"].number
    assert small["good_die_usd"].number <= large["good_die_usd"].number


def test_a_card_and_a_token_by_hand():
    terms = changed(
        test_price=0, package_yield=1, board_price=100, host_price=0, margin=0.5, years=4,
        upkeep=0.0, electricity=0.1, pue=1.0, idle=0.0, utilisation=0.5, design_cost=20e6,
        model_cost=200e3,
    )  # fmt: skip
    made = cost(chip(), process(), 7, terms)
    die = made["good_die_usd"].number + 20
    assert made["cost_per_die_usd"].number == pytest.approx(die)
    assert made["card_cost_usd"].number == pytest.approx(die + 100)
    assert made["first_chip_usd"].number == 30e6  # design and the whole mask set
    assert made["next_model_usd"].number == 500e3  # work and two masks
    price = 2 * (die + 100 + 30e6 / 10_000)
    assert made["card_price_usd"].number == pytest.approx(price)
    year = price / 4 + 0.1 * 0.5 * 8766 * 0.1  # 100 W, half of the hours
    tokens = 1000 * 0.5 * 8766 * 3600 / 1e6
    assert made["one_user_usd_per_mtoken"].number == pytest.approx(year / tokens)
    assert made["all_users_usd_per_mtoken"].number < made["one_user_usd_per_mtoken"].number


def test_more_silicon_than_a_reticle_becomes_several_dies():
    made = cost(chip(2000), process(), 7)
    assert made["dies"].number == 3
    assert cost(chip(2000), process(), 7, Terms(die=400))["dies"].number == 5
    assert made["gross_dies"].number == gross_dies(2000 / 3, 300)


def test_a_chip_has_as_many_dies_as_its_plan_cuts_it_into():
    cut = replace(chip(area=1000), dies=known(4.0, "die"))
    made = cost(cut, process(), 7)
    assert made["dies"].number == 4
    assert made["gross_dies"].number == gross_dies(250, 300)


def test_ranges_and_grades_come_from_the_inputs():
    sure = {name: known(q.number, q.unit, grade="silicon") for name, q in process().items()}
    spread = {**sure, "wafer_price": known(9346, "USD", 9000, 10000, "published claim")}
    made = cost(chip(), spread, 7)
    low, high = made["good_die_usd"].bounds
    assert (low, high) == pytest.approx(
        [made["good_die_usd"].number * price / 9346 for price in (9000, 10000)]
    )
    assert made["good_die_usd"].grade == "inferred"  # arithmetic on what was published
    assert list(made.figures["good_die_usd"].moves) == ["wafer_price"]
    assert set(made.figures) == set(UNITS)


def test_what_nobody_knows_blocks_what_rests_on_it_and_nothing_else():
    made = cost(chip(), process(wafer_price=known(None, "USD")), 7)
    assert made["good_die_usd"].blocked_by == "nobody knows"
    assert made["card_price_usd"].value is None
    assert made["gross_dies"].number == 63
    assert made["first_chip_usd"].known


def back(made, other_usd_a_year: float, rate=1000.0, mode="one_user", once="first_chip_usd"):
    return break_even(
        made, mode, once, known(rate, "token/s"), lambda v: v["other_year"],
        {"other_year": known(other_usd_a_year, "USD")},
    )  # fmt: skip


def test_break_even_by_hand_and_never():
    terms = changed(
        test_price=0, package_yield=1, board_price=0, host_price=0, years=4, upkeep=0,
        electricity=0, design_cost=0, package_price=0, wafer_price=0,
    )  # fmt: skip
    free = cost(chip(), process(), 7, terms)  # cards for nothing, once 10 M USD of masks
    assert back(free, 1000).value == 2500  # 4,000 USD saved a card
    assert back(free, 1000, rate=500).value == 1250  # the other is half as fast
    dear = cost(chip(), process(), 7)
    never = back(dear, 0)
    assert (never.low, never.value, never.high) == (None, None, None)
    some = back(dear, 3000)
    assert some.low is not None
    assert some.high is None or some.low < some.high


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (lambda: changed(wafer_price=-3), "wafer price must be from 0 to 10,000,000 USD, not -3"),
        (lambda: changed(utilisation=0), "utilisation must be from 1e-06 to 1, not 0"),
        (lambda: changed(margin=1), "margin must be from 0 to 0.99, not 1"),
        (lambda: Terms(model="poisson"),
         "yield model must be one of murphy, negative-binomial, not 'poisson'"),
        (lambda: Terms(volume=0), "volume must be from 1 to 1,000,000,000,000 cards, not 0"),
        (lambda: Terms(die=900), "die must be above 0 and at most the reticle of 858 mm2, not 900"),
        (lambda: Terms(redundancy=Redundancy(1.5, 1)),
         "repairable share must be from 0 to 1, not 1.5"),
        (lambda: Terms(redundancy=Redundancy(0.5, -1)), "repairs must be from 0 to 150, not -1"),
        (lambda: Terms(redundancy=Redundancy(0.5, 10**6)),
         "repairs must be from 0 to 150, not 1000000"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(terms, message):
    with pytest.raises(BadInput) as caught:
        cost(chip(), process(), 7, terms())
    assert caught.value.message == message


def test_a_die_larger_than_the_wafer_is_refused():
    small = process(wafer_diameter=known(25, "mm"))
    with pytest.raises(BadInput, match=r"^die must fit the wafer of 25 mm, not have 815 mm2$"):
        cost(chip(), small, 7)


def test_design_cost_is_of_the_nearest_node():
    assert design_cost(6) == design_cost(7)
    assert design_cost(180) == design_cost(130)
    assert design_cost(28).number > design_cost(130).number
    with pytest.raises(BadInput, match="node must be positive"):
        design_cost(0)


def test_a_data_file_must_be_whole_and_in_its_units():
    values = {"value": 1, "unit": "USD", "grade": "assumed", "source": "a test", "year": 2026}
    with pytest.raises(BadInput, match=r"^x\.yaml: has no price$"):
        figures({}, {"price": "USD"}, "x.yaml")
    with pytest.raises(BadInput, match=r"^x\.yaml: unknown key prise$"):
        figures({"price": values, "prise": values}, {"price": "USD"}, "x.yaml")
    with pytest.raises(BadInput, match=r"^x\.yaml: price: unit must be EUR, not USD$"):
        figures({"price": values}, {"price": "EUR"}, "x.yaml")
    bare = {name: value for name, value in values.items() if name != "unit"}
    with pytest.raises(BadInput, match=r"^x\.yaml: price: has no unit$"):
        figures({"price": bare}, {"price": "USD"}, "x.yaml")
