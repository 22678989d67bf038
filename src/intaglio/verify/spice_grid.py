"""Many reads: a grid of conditions and tiles, simulated in parallel and kept by content.

A point that was simulated before, of the same circuit under the same conditions, is taken from the
cache, so that an interrupted grid goes on where it stopped.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from intaglio.verify.spice import CORNERS, Condition, find_models, find_ngspice
from intaglio.verify.spice_read import SLEW, Reading, ReadPath, read, read_bench

SIGMAS = 6.4
"""Of mismatch: 99 in 100 chips of 135 M cells have none beyond (:func:`without`)."""
TYPICAL = Condition(sigmas=SIGMAS)
SLOW = Condition("ss", -40.0, 1.62, "high", SIGMAS)
FAST = Condition("ff", -40.0, 1.98, sigmas=-SIGMAS)
NOISIEST = Condition("fs", -40.0, 1.62, sigmas=SIGMAS)
"""Where sum lines that stay high come nearest to their sense's threshold."""
LIBRARY = {"typical": TYPICAL, "slow": SLOW, "fast": FAST}
CELSIUS = (-40.0, 25.0, 100.0)
VOLTS = (1.62, 1.8, 1.98)
ROWS = (16, 32, 48, 64, 128, 256)
BITS = (2, 3, 4)
CORNER_BITS = (3, 4)
"""2-bit cells, with four lines a row, are quieter and faster."""
COLUMNS = (144, 288, 576, 1024, 2048)
TABLE = (3, 32)
LOADS = (2.0, 5.0, 20.0)  # fF at a sense output
SLEWS = (0.1, 0.4)  # ns of the inputs' edges

SHARES = {
    2: (1 / 4, 1 / 2, 1.0),
    3: (1 / 8, 1 / 4, 1 / 2, 1.0),
    4: (1 / 16, 1 / 5, 2 / 5, 1.0),
}
"""By a code's bits: shares of a row's columns on one line, from even codes to all of them."""
SHARE_ROWS = (8, 32, 128, 256)
SHARE_COLUMNS = (64, 192, 576)
TIMES = {"typical": TYPICAL, "slow": SLOW}
"""The conditions in which a model's shares are held against the clock."""

SKEWED = (4, 48, 576, 0.32)
"""Bits, rows, columns and share of the worst row found in a model: in the bundled one's head."""

Told = Callable[[int, int], object]
"""What progress is told: points done, and points in all."""


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation."""

    path: ReadPath
    condition: Condition

    def digest(self) -> str:
        """Names its result."""
        return read_bench(self.path, self.condition, 1.0).digest(self.condition)


def without(cells: int, sigmas: float = SIGMAS) -> float:
    """The part of chips of so many cells that have none beyond so many standard deviations."""
    return math.exp(-cells * math.erfc(sigmas / math.sqrt(2)) / 2)


def even_share(bits: int, times: float = 2.0) -> float:
    """The share of a row's columns on one line: so many times that of codes spread evenly."""
    return min(times / (1 << bits), 1.0)


def tile(
    bits: int = 3, rows: int = 32, columns: int = 576, *, share: float | None = None,
    load: float = 5.0, slew: float = SLEW,
) -> ReadPath:  # fmt: skip
    """A read path; a line has twice its even share of columns if not told otherwise."""
    share = even_share(bits) if share is None else share
    return ReadPath(bits, rows, columns, share, load, slew)


def corner_points() -> Iterator[Point]:
    """Every process corner, temperature and supply, at every number of rows."""
    for bits, rows, corner, celsius, volts in product(
        CORNER_BITS, ROWS, CORNERS, CELSIUS, VOLTS
    ):  # fmt: skip
        yield Point(tile(bits, rows), Condition(corner, celsius, volts, sigmas=SIGMAS))


def library_points() -> Iterator[Point]:
    """Every code width and number of rows under the library's three conditions."""
    for bits, rows, condition in product(BITS, ROWS, LIBRARY.values()):
        yield Point(tile(bits, rows), condition)


def width_points(bits: int = 3, rows: int = 32) -> Iterator[Point]:
    """Every width of tile, with even codes, twice that, all columns on one line; a skewed row."""
    for columns, times in product(COLUMNS, (1, 2, 1 << bits)):
        yield Point(tile(bits, rows, columns, share=even_share(bits, times)), SLOW)
    yield skewed()


def share_points() -> Iterator[Point]:
    """Code widths, rows and widths of tile against what of a row is on one line."""
    for bits, rows, columns, condition in product(BITS, SHARE_ROWS, SHARE_COLUMNS, TIMES.values()):
        for share in SHARES[bits]:
            yield Point(tile(bits, rows, columns, share=share), condition)


def skewed() -> Point:
    """The worst row of a model, in the slow corner."""
    bits, rows, columns, share = SKEWED
    return Point(tile(bits, rows, columns, share=share), SLOW)


def table_points() -> Iterator[Point]:
    """Loads and slews at one code width and number of rows, for the library's tables."""
    for condition, load, slew in product(LIBRARY.values(), LOADS, SLEWS):
        yield Point(tile(*TABLE, load=load, slew=slew), condition)


def measure(
    points: Iterable[Point], cache: Path, jobs: int | None = None, told: Told | None = None
) -> dict[Point, Reading]:
    """Simulate points, each once, in so many processes at a time.

    Raises what the first failing point raises; what was done by then stays in the cache.
    """
    wanted = list(dict.fromkeys(points))
    find_ngspice()
    find_models()
    cache.mkdir(parents=True, exist_ok=True)
    made: dict[Point, Reading] = {}
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:  # ngspice runs beside this process
        try:
            results = pool.map(lambda point: kept(point, cache), wanted)
            for point, found in zip(wanted, results, strict=True):
                made[point] = found
                if told:
                    told(len(made), len(wanted))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return made


def kept(point: Point, cache: Path) -> Reading:
    """The reading of a point, from the cache if it is there and whole."""
    path = cache / f"{point.digest()}.json"
    try:
        return Reading(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        found = read(point.path, point.condition)
    partial = path.with_suffix(f".{os.getpid()}.{id(point)}.partial")
    partial.write_text(json.dumps(found.as_dict()), "utf-8")
    partial.replace(path)
    return found


def worst(readings: dict[Point, Reading], **of: float) -> tuple[Point, Reading]:
    """The slowest point among those whose read path has these values."""
    fitting = {
        point: found for point, found in readings.items()
        if all(getattr(point.path, name) == value for name, value in of.items())
    }  # fmt: skip
    if not fitting:
        raise ValueError(f"no reading has {of}")
    point = max(fitting, key=lambda p: fitting[p].period)
    return point, fitting[point]


def least_margin(readings: dict[Point, Reading]) -> tuple[Point, Reading]:
    """The point whose high sum lines come nearest to the sense's threshold."""
    point = min(readings, key=lambda p: readings[p].margin)
    return point, readings[point]
