"""Reads of a tile as they were simulated: how long a bit cycle takes, and its energy.

The numbers are those of ``targets/circuit/PROCESS.yaml``, of the select cell: by bits of a code,
rows, columns of a tile, and the share of a row's columns that select one product line, which sinks
the charge of all of them. Between simulated points a straight line; beyond the last rows its
continuation, for the charge grows with the rows; narrower than the narrowest tile, that one's.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from intaglio.errors import BadInput
from intaglio.plan.target import target_folder
from intaglio.quantity import Quantity, read_yaml

TYPICAL, SLOW, FAST = "typical", "slow", "fast"
REFERENCE = (3, 32)
"""Bits and rows of the tile whose energies say how far conditions move them."""


Shares = Sequence[tuple[float, float, float]]
"""Share, ns of read and of precharge; ascending."""
Table = Sequence[tuple[int, Sequence[tuple[int, Shares]]]]
"""By columns, then by rows; ascending."""


@dataclass(frozen=True, slots=True)
class BitCycle:
    """ns of the two phases of a bit cycle."""

    read: float
    precharge: float

    @property
    def period(self) -> float:
        """ns of both."""
        return self.read + self.precharge

    @property
    def clock(self) -> float:
        """Hz that it allows."""
        return 1e9 / self.period


@dataclass(frozen=True, slots=True)
class ReadEnergy:
    """fJ in a tile of ``columns`` columns, typical, and loads in fF.

    ``column``: of a sum line that falls, with its part of the product line and its sense; ``gate``:
    before a product line's driver that falls; ``word``: of a row of a lane that is chosen and left;
    ``bit``: fF of ``bit_n`` of a line, all rows; ``precharge``: fF of ``precharge_n`` of a lane.
    """

    columns: int
    column: float
    gate: float
    word: float
    bit: float
    precharge: float


class Reads:
    """The simulated reads of a process. ``values``: its data file."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.columns: int = values["columns"]
        self.source = f"{values['source']} ({values['year']}), between its points by straight lines"
        self._times: dict[tuple[int, str], Table] = {}
        for bits, condition in {(e["bits"], e["condition"]) for e in values["shares"]}:
            self._times[bits, condition] = self._table(bits, condition)
        self._cycles: dict[tuple, BitCycle] = {}

    def _table(self, bits: int, condition: str) -> Table:
        """The times of a code width under a condition."""
        entries = [
            e for e in self.values["shares"] if (e["bits"], e["condition"]) == (bits, condition)
        ]
        return [
            (columns, sorted(
                (e["rows"], list(zip(e["share"], e["read"], e["precharge"], strict=True)))
                for e in entries if e["columns"] == columns
            ))
            for columns in sorted({e["columns"] for e in entries})
        ]  # fmt: skip

    def cycle(
        self, bits: int, rows: int, columns: int, share: float, condition: str = SLOW
    ) -> BitCycle:
        """The bit cycle of a tile, with so much of a row on one line.

        Raises :class:`BadInput` for what was not simulated: other bits, wider tiles.
        """
        key = (bits, rows, columns, share, condition)
        if key not in self._cycles:
            self._check(bits, columns, share, condition)
            table = self._times[bits, condition]
            read, precharge = (between(table, columns, rows, share, part) for part in (1, 2))
            self._cycles[key] = BitCycle(read, precharge)
        return self._cycles[key]

    def _check(self, bits: int, columns: int, share: float, condition: str) -> None:
        """Raise :class:`BadInput` for what was not simulated."""
        if (bits, condition) not in self._times:
            raise BadInput(f"reads of {bits} bits, {condition!r}, were not simulated")
        if columns > self.columns:
            raise BadInput(
                f"tiles of up to {self.columns} columns were simulated, not of {columns}"
            )
        if not 0 <= share <= 1:
            raise BadInput(f"share of a row on one line must be from 0 to 1, not {share:g}")

    def energy(self, bits: int, rows: int, condition: str = TYPICAL) -> ReadEnergy:
        """The energies of a tile of :attr:`columns` columns."""
        entries = sorted(
            (
                e for e in self.values["tiles"]
                if (e["bits"], e["condition"]) == (bits, condition)
            ),
            key=lambda e: e["rows"],
        )  # fmt: skip
        if not entries:
            raise BadInput(f"reads of {bits} bits, {condition!r}, were not simulated")

        def at(*keys: str) -> float:
            return along(rows, [(e["rows"], sum(e[key] for key in keys)) for e in entries])

        return ReadEnergy(
            self.columns, column=at("sum_energy", "sense_energy"), gate=at("gate_energy"),
            word=at("word_energy"), bit=rows * at("bit_load"), precharge=at("precharge_load"),
        )  # fmt: skip

    def spread(self, what: str, low: float, high: float) -> Quantity:
        """A factor of 1 with these ends, simulated."""
        ends = sorted((low, 1.0, high))
        return Quantity(
            1.0, "1", "simulated", f"{self.values['source']}: {what}", ends[0], ends[2],
            self.values["year"],
        )  # fmt: skip

    @property
    def energy_spread(self) -> Quantity:
        """By what a read's energy may differ from the typical: the slow and fast conditions."""
        each = {c: self.energy(*REFERENCE, c).column for c in (SLOW, TYPICAL, FAST)}
        return self.spread(
            "energy of a sum line in the slow and fast conditions over the typical",
            each[SLOW] / each[TYPICAL], each[FAST] / each[TYPICAL],
        )  # fmt: skip


def along(
    x: float, points: Sequence[tuple[Any, Any]], value: Callable[[Any], float] = float, *,
    held: bool = False,
) -> float:  # fmt: skip
    """What straight lines through the points say at ``x``.

    ``value``: of a point's second. Below the first point its own, beyond the last the last line's
    continuation; ``held``: there too the point's own.
    """
    places = [place for place, _ in points]
    if x <= places[0] or len(points) == 1:
        return value(points[0][1])
    if held and x >= places[-1]:
        return value(points[-1][1])
    right = min(bisect_right(places, x), len(points) - 1)
    (a, one), (b, other) = points[right - 1], points[right]
    low, high = value(one), value(other)
    return low + (high - low) * (x - a) / (b - a)


def between(table: Table, columns: int, rows: int, share: float, part: int) -> float:
    """A phase's ns: ``part`` 1 is the read, 2 the precharge."""

    def of_shares(shares: Shares) -> float:
        return along(share, [(each[0], each[part]) for each in shares], held=True)

    def of_rows(tall: Sequence[tuple[int, Shares]]) -> float:
        return along(rows, tall, of_shares)

    return along(columns, table, of_rows, held=True)


@cache
def reads_of(process: str) -> Reads | None:
    """The simulated reads of a process, by its name; None where there are none."""
    path = target_folder() / "circuit" / f"{process}.yaml"
    return Reads(read_yaml(path)) if path.is_file() else None
