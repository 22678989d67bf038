"""Baselines: every machine's data is whole; ceilings by hand; one user never beside a batch."""

import pytest

from intaglio.errors import BadInput
from intaglio.quantity import Quantity
from intaglio.silicon.baselines import Machine, Work, baseline, baselines, machine, machines

LLAMA = Work("llama-3.1-8b", stored=8e9, active=8e9, bits=4, cache=1e8)
USED = Quantity(0.5, "1", "exact", "a test")


def made(chips=None, **changes) -> Machine:
    """A machine of 1 TB/s, 10 GB, 100 Top/s, 100 W, 2 USD an hour."""
    units = {
        "bandwidth": (1e12, "B/s"), "memory": (1e10, "B"), "compute": (1e14, "op/s"),
        "power": (100, "W"), "price": (10000, "USD"), "hourly": (2.0, "USD/h"),
    }  # fmt: skip
    figures = {
        name: Quantity(changes.get(name, value), unit, "silicon", "a test")
        if changes.get(name, value) is not None
        else Quantity(None, unit, "silicon", "a test", blocked_by="not published")
        for name, (value, unit) in units.items()
    }
    return Machine("made", "Made", figures, changes.get("published", {}), chips or {})


def test_the_machines_asked_for_are_all_there():
    assert list(machines()) == ["h100", "h200", "b200", "groq", "sambanova", "cerebras", "hc1"]
    published = {
        name: each.published["llama-3.1-8b"]["one_user"].value for name, each in machines().items()
    }
    assert published == {
        "h100": None, "h200": 230, "b200": 353, "groq": 594, "sambanova": 932, "cerebras": 1981,
        "hc1": 16960,
    }  # fmt: skip


def test_ceilings_by_hand():
    row = baseline(made(), LLAMA, USED)
    # one user: 4 GB of weights and 0.1 GB of keys and values at 1 TB/s
    assert row.one_user.ceiling.quantity.number == pytest.approx(1e12 / 4.1e9)
    # batch: 6 GB of room are 60 users; all memory is read once for 60 tokens
    assert row.batch.ceiling.quantity.number == pytest.approx(60 * 1e12 / 1e10)
    assert row.batch.tokens_per_joule.quantity.number == pytest.approx(60)
    # 2 USD an hour, half of the hours
    usd = 2 / (6000 * 0.5 * 3600) * 1e6
    assert row.batch.usd_per_mtoken.quantity.number == pytest.approx(usd)


def test_arithmetic_binds_where_memory_does_not():
    row = baseline(made(compute=1.6e13), LLAMA, USED)
    assert row.batch.ceiling.quantity.number == pytest.approx(1000)


def test_a_mixture_reads_its_active_weights_alone_and_all_of_them_in_a_batch():
    work = Work("moe", stored=16e9, active=2e9, bits=4, cache=1e8)
    row = baseline(made(), work, USED)
    assert row.one_user.ceiling.quantity.number == pytest.approx(1e12 / 1.1e9)
    assert row.batch.ceiling.quantity.number == pytest.approx(20 * 1e12 / 1e10)


def test_more_machines_where_one_has_no_room():
    work = Work("large", stored=40e9, active=40e9, bits=4, cache=1e8)  # 20.1 GB in tens
    row = baseline(made(), work, USED)
    assert row.one_user.chips.number == 3
    assert row.one_user.ceiling.quantity.number == pytest.approx(3e12 / 20.1e9)


def test_fewer_bits_are_never_slower():
    rates = [
        baseline(made(), Work("w", 8e9, 8e9, bits, 1e8), USED).one_user.ceiling.quantity.number
        for bits in (8, 6, 4, 3, 2)
    ]
    assert rates == sorted(rates)


def test_what_is_published_counts_before_the_ceiling():
    rates = {
        "llama-3.1-8b": {
            "one_user": Quantity(100, "token/s", "published claim", "a chart", year=2026),
            "batch": Quantity(
                None, "token/s", "published claim", "none", year=2026, blocked_by="unpublished"
            ),
        }
    }
    row = baseline(made(published=rates), LLAMA, USED)
    assert (row.one_user.counted, row.one_user.rate.number) == ("published", 100)
    assert row.one_user.tokens_per_joule.quantity.number == pytest.approx(1)
    assert row.batch.counted == "ceiling"
    assert row.batch.published.blocked_by == "unpublished"


def test_a_machine_that_nobody_rents_is_owned_and_one_without_a_price_has_none():
    owned = baseline(made(hourly=None), LLAMA, USED).batch.usd_per_mtoken.quantity
    assert owned.known
    none = baseline(made(hourly=None, price=None), LLAMA, USED).batch.usd_per_mtoken.quantity
    assert none.value is None
    assert none.blocked_by == "not published"


def test_what_is_computed_here_is_nobodys_published_figure():
    for row in baselines(LLAMA):
        for rate in (row.one_user, row.batch):
            for figure in (rate.ceiling, rate.tokens_per_joule, rate.usd_per_mtoken):
                assert figure.quantity.grade in ("inferred", "assumed")
    groq = next(row for row in baselines(LLAMA) if row.machine.name == "groq")
    assert groq.batch.ceiling.quantity.grade == "inferred"  # its assumed price is not in it


def test_both_comparisons_are_always_there_and_named():
    rows = baselines(LLAMA)
    assert {row.machine.name for row in rows} == set(machines())
    for row in rows:
        values = row.as_dict()
        assert {"one_user", "batch"} <= set(values)
        assert values["one_user"]["counted"] in ("published", "ceiling")
    h200 = next(row for row in rows if row.machine.name == "h200")
    assert h200.one_user.rate.number == 230
    assert h200.batch.rate.number == 17744
    # no published rate is beyond its own machine's ceiling at the same bits
    for row in rows:
        for rate in (row.one_user, row.batch):
            if rate.published.known and rate.ceiling.quantity.known:
                assert rate.published.number <= rate.ceiling.quantity.bounds[1]


def test_an_unknown_machine_is_named():
    with pytest.raises(BadInput, match=r"^machine must be one of h100, .*, not 'h300'$"):
        machine("h300")
