"""Which integers a weight can be: the levels of every width, of one digit or of two.

A width up to 4 bits is one digit, a magnitude of ``golden.number.CODEBOOKS`` with a sign. A width
of 6 or 8 bits is two digits of half the width, the second stored in extra rows; a matrix between
two widths has extra rows for some of its inputs only.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.number import code_values

WIDTHS = (2, 3, 4, 6, 8)
DIGITS = {2: (2, 1), 3: (3, 1), 4: (4, 1), 6: (3, 2), 8: (4, 2)}  # bits of a digit, digits
EXTRA_SHIFT = {2: 2, 3: 2, 4: 4}  # bits the first digit stands above the second, per digit width


@dataclass(frozen=True, eq=False)
class Grid:
    """The levels of a matrix of ``bits``-bit digits; ``extra`` is about inputs with two digits.

    ``levels``, ``extra_levels``: ascending int64. ``nearest`` and ``extra_nearest``: int16 [2 *
    ``reach`` + 1], the level nearest to x at index ``floor(2 x) + reach``.
    """

    bits: int
    extra_shift: int
    levels: np.ndarray
    extra_levels: np.ndarray
    reach: int
    nearest: np.ndarray
    extra_nearest: np.ndarray

    def codes(self, levels: np.ndarray, extra: bool) -> tuple[np.ndarray, np.ndarray]:
        """The first and second digits' codes of ``levels``: uint8, same shape."""
        values = code_values(self.bits)
        second = values if extra else np.zeros(1, np.int64)
        sums = (values[:, None] << self.extra_shift) + second[None, :]
        place = np.zeros(2 * self.reach + 1, np.int64)
        place[sums.reshape(-1)[::-1] + self.reach] = np.arange(sums.size)[::-1]
        pair = place[levels.astype(np.int64) + self.reach]
        return (pair // len(second)).astype(np.uint8), (pair % len(second)).astype(np.uint8)


@cache
def grid(bits: int, extra: bool = False) -> Grid:
    """The grid of ``bits``-bit digits, of which some inputs have a second one if ``extra``."""
    return grid_of(bits, code_values(bits), EXTRA_SHIFT[bits] if extra else 0)


def grid_of(bits: int, values: np.ndarray, shift: int) -> Grid:
    """The grid of digits that have ``values``, the first ``shift`` bits above the second."""
    levels = np.unique(values << shift)
    extra_levels = np.unique(((values << shift)[:, None] + values[None, :]).reshape(-1))
    reach = 2 * int(max(levels.max(), extra_levels.max())) + 2
    return Grid(
        bits, shift, levels, extra_levels, reach,
        nearest_table(levels, reach), nearest_table(extra_levels, reach),
    )  # fmt: skip


def nearest_table(levels: np.ndarray, reach: int) -> np.ndarray:
    """The level nearest to every half-open interval [i / 2, (i + 1) / 2): int16 [2 reach + 1].

    Exact, for the middle between two integers is a multiple of a half.
    """
    middle = (np.arange(-reach, reach + 1) + 0.5) / 2
    place = np.clip(np.searchsorted(levels, middle), 1, len(levels) - 1)
    below, above = levels[place - 1], levels[place]
    return np.where(middle - below < above - middle, below, above).astype(np.int16)


def digits(width: float) -> tuple[int, int]:
    """Bits of a digit and number of digits of a width."""
    if width not in DIGITS:
        raise BadInput(f"width of a matrix must be one of {WIDTHS} bits, not {width!r}")
    return DIGITS[int(width)]
