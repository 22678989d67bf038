"""Partition: hand-counted cuts, and what must hold for every chain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import DoesNotFit
from intaglio.silicon.partition import Station, partition

FOUR = [Station(str(number), 10.0, (64, 32)) for number in range(4)]


def test_a_chain_that_fits_is_not_cut():
    made = partition(FOUR, 42, overhead=2, link=5)
    assert len(made.dies) == 1
    assert made.area == 42
    assert made.crossing_seconds(100, 1e9, 1e-9) == 0
    assert made.crossing_bits(100) == 0


def test_cut_by_stations():
    made = partition(FOUR, 33, overhead=2, link=3)  # net 25: two stations a die
    assert [die.stations for die in made.dies] == [("0", "1"), ("2", "3")]
    assert [die.area for die in made.dies] == [28, 28]
    assert made.boundaries == 2  # there, and back
    assert made.crossing_seconds(100, 1e9, 1e-9) == pytest.approx(2 * (1e-9 + 100e-9))
    assert made.crossing_bits(100) == 200


def test_the_largest_die_is_made_small():
    """Filled one after the other it would be three and one."""
    made = partition(FOUR, 30)
    assert [len(die.stations) for die in made.dies] == [2, 2]


def test_cut_by_columns():
    chain = [Station("a", 1.0), Station("b", 25.0, (64, 32)), Station("c", 1.0)]
    made = partition(chain, 10)
    assert [die.stations for die in made.dies] == [("a",), ("b",), ("b",), ("b",), ("c",)]
    assert made.gathers == ((64, 3), (32, 3))
    crossing = 5 * (1e-9 + 10e-9) + 2e-9 + (64 + 32) * 2 / 3 * 1e-9
    assert made.crossing_seconds(10, 1e9, 1e-9) == pytest.approx(crossing)
    assert made.crossing_bits(10) == 5 * 10 + 96 * 2


def test_no_room_beside_the_links():
    with pytest.raises(DoesNotFit, match=r"a die of 5 mm2 has no room .* links of 6 mm2"):
        partition(FOUR, 5, link=3)


def test_a_station_that_no_number_of_dies_holds():
    with pytest.raises(DoesNotFit, match="huge needs 1 M mm2, more than 64 dies of 100 mm2"):
        partition([Station("huge", 1e6)], 100)


CHAINS = st.lists(st.floats(0.1, 50), min_size=1, max_size=30).map(
    lambda areas: [Station(str(n), area, (8,)) for n, area in enumerate(areas)]
)


@given(CHAINS, st.floats(6, 100), st.floats(0, 1), st.floats(0, 0.9))
def test_every_station_is_somewhere_and_no_die_is_too_large(chain, room, overhead, link):
    made = partition(chain, room, overhead=overhead, link=link)
    assert all(die.area <= room * (1 + 1e-9) for die in made.dies)
    placed = [name for die in made.dies for name in die.stations]
    assert list(dict.fromkeys(placed)) == [station.name for station in chain]
    fixed = (overhead + 2 * link) * len(made.dies) if len(made.dies) > 1 else overhead
    assert made.area == pytest.approx(sum(s.area for s in chain) + fixed)


@given(CHAINS, st.floats(3, 60), st.floats(1, 2))
def test_a_larger_die_never_needs_more_of_them(chain, room, times):
    assert len(partition(chain, room * times).dies) <= len(partition(chain, room).dies)
