"""Partition: a chain that one die cannot hold, cut into several.

Dies hold stations (embedding, layers, head) that follow each other, so only a residual vector
crosses from die to die, once per boundary and token, and once more from the last back to the
first. A station that exceeds a die by itself is cut by columns: each of its dies computes a share
of every matrix' outputs, and the vectors that all columns take as inputs are gathered from all of
its dies to all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.errors import DoesNotFit
from intaglio.silicon.words import number

MOST_COLUMNS = 64
"""Dies that one station may be cut into: beyond, its gathers take longer than its work."""


@dataclass(frozen=True, slots=True)
class Station:
    """One link of the chain: its area in mm², and what its columns gather per token.

    ``gathered``: bits of each vector that a cut by columns must bring from every die to every
    other, in the order in which they are needed.
    """

    name: str
    area: float
    gathered: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Die:
    """A die and the stations on it.

    ``columns``: over how many dies its only station is cut, 1 where it holds whole stations.
    ``area``: mm², with what every die has (``overhead``).
    """

    stations: tuple[str, ...]
    area: float
    columns: int = 1


@dataclass(frozen=True, slots=True)
class Partition:
    """A chain on several dies.

    ``boundaries``: crossings of the residual per token, the way back to the first die included; 0
    on one die. ``gathers``: bits of every vector gathered per token, with the number of dies.
    """

    dies: tuple[Die, ...]
    boundaries: int
    gathers: tuple[tuple[int, int], ...]

    @property
    def area(self) -> float:
        """mm² of all dies."""
        return sum(die.area for die in self.dies)

    def crossing_seconds(self, residual: int, bandwidth: float, latency: float) -> float:
        """Seconds that links add to a token.

        ``residual``: bits. ``bandwidth``: bits per second of one die's link to a neighbour.
        ``latency``: seconds. Of a gather every die sends its share to the others one after the
        other, and the last bit counts: nothing is computed on half a vector.
        """
        whole = self.boundaries * (latency + residual / bandwidth)
        shares = (latency + bits * (dies - 1) / dies / bandwidth for bits, dies in self.gathers)
        return whole + sum(shares)

    def crossing_bits(self, residual: int) -> float:
        """Bits that all links together carry per token."""
        return self.boundaries * residual + sum(bits * (dies - 1) for bits, dies in self.gathers)


def partition(
    stations: Sequence[Station], room: float, *, overhead: float = 0.0, link: float = 0.0
) -> Partition:
    """Cut a chain into the fewest dies of at most ``room`` mm², then make the largest small.

    ``overhead``: mm² that every die has (pads, port). ``link``: mm² of one link to a neighbour, of
    which a die of several has two. Raises :class:`DoesNotFit` where not even columns fit.
    """
    whole = sum(station.area for station in stations) + overhead
    if whole <= room:
        return Partition((Die(tuple(s.name for s in stations), whole),), 0, ())
    fixed = overhead + 2 * link
    net = room - fixed
    if net <= 0:
        raise DoesNotFit(
            f"a die of {number(room)} mm2 has no room beside its pads and links of "
            f"{number(fixed)} mm2",
            hint="a larger --die",
        )
    fewest = len(packed(stations, net))
    low, high = 0.0, net
    for _ in range(40):  # halves: the smallest room that needs no more dies
        middle = (low + high) / 2
        if fits(stations, middle, fewest):
            high = middle
        else:
            low = middle
    dies = tuple(Die(die.stations, die.area + fixed, die.columns) for die in packed(stations, high))
    return Partition(dies, len(dies), gathers(stations, dies))


def packed(stations: Sequence[Station], room: float) -> list[Die]:
    """The chain on dies of ``room`` mm², each filled as far as it goes."""
    dies: list[Die] = []
    names: list[str] = []
    used = 0.0
    for station in stations:
        if names and used + station.area > room:
            dies.append(Die(tuple(names), used))
            names, used = [], 0.0
        if station.area > room:
            dies += cut(station, room)
            continue
        names.append(station.name)
        used += station.area
    return [*dies, Die(tuple(names), used)] if names else dies


def cut(station: Station, room: float) -> list[Die]:
    """A station by columns on as many dies as it takes."""
    columns = math.ceil(station.area / room)
    if columns > MOST_COLUMNS:
        raise DoesNotFit(
            f"{station.name} needs {number(station.area)} mm2, more than {MOST_COLUMNS} dies of "
            f"{number(room)} mm2 beside their links",
            hint="a larger --die, or fewer lanes",
        )
    return [Die((station.name,), station.area / columns, columns)] * columns


def fits(stations: Sequence[Station], room: float, most: int) -> bool:
    """Whether dies of ``room`` mm² need not more than ``most`` of them."""
    if max(station.area for station in stations) > room * MOST_COLUMNS:
        return False
    return len(packed(stations, room)) <= most


def gathers(stations: Sequence[Station], dies: Sequence[Die]) -> tuple[tuple[int, int], ...]:
    """What the stations that are cut by columns gather."""
    columns = {die.stations[0]: die.columns for die in dies if die.columns > 1}
    return tuple(
        (bits, columns[station.name])
        for station in stations
        if station.name in columns
        for bits in station.gathered
    )
