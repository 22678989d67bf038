"""Published hardwired chips, predicted from what they state of their design: one table.

    python benchmarks/validation.py

HNLPU (arXiv 2508.16151) in its own organisation, a wire and a counter's input per weight; its rate
and clock set the activity. HC1 (Taalas) states a die but neither clock, lanes, memory nor bits: its
rows are those that fill the die, whatever else is assumed, and its figures are intervals. All data
are in ``market/published.yaml`` and ``targets/``; nothing is fitted. docs/validation.md explains.
"""

import math
import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from intaglio.architecture import Architecture
from intaglio.plan.outline import Outline, outline, spine, widest_beat
from intaglio.plan.preset import Preset, preset
from intaglio.plan.process import process
from intaglio.plan.tiling import GROUPS, FabricPlan
from intaglio.quantity import Quantity
from intaglio.silicon.circuits import assumptions
from intaglio.silicon.derived import TOGETHER, Figure, derive
from intaglio.silicon.fabric import Inputs, fabric_area, fabric_energy, fabric_logic
from intaglio.silicon.market import figures, table
from intaglio.silicon.model import FROM_PROCESS, Silicon
from intaglio.silicon.request import Choices
from intaglio.silicon.yields import die_yield, gross_dies

WITHIN = 0.25  # deviation that counts as met
WIDEST = 3.0  # high over low that still says something
ROWS = tuple(round(16 * 1.15**step) for step in range(24))  # 16 to 398, of a layer
WORLDS = 200  # draws of everything that is not known
POSITIONS = (2, 4, 8, 16)  # that attention may take per cycle

UNITS = {
    "hnlpu": {
        "design": {
            "chips": "1", "bits": "bit", "clock": "Hz", "context": "token", "slots": "1",
            "rate": "1/s", "sram": "bit", "die_area": "mm2",
        },
        "published": {
            "array_area": "mm2", "array_power": "W", "weight_energy": "pJ", "sram_area": "mm2",
            "yield": "1", "good_die": "USD",
        },
    },
    "hc1": {
        "design": {"die_area": "mm2", "slots": "1", "prompt": "token", "output": "token"},
        "unknown": {
            "six_bit_share": "1", "context": "token", "adapter_rank": "1",
        },
        "published": {"tokens_per_second": "1/s", "transistors": "1", "power": "W"},
    },
}  # fmt: skip
HC1_ROWS = {
    "tokens_per_second": "tokens_per_second", "transistors": "transistors",
    "power_one": "power", "power_full": "power",
}  # fmt: skip
"""Predicted figures of HC1, and the published one that each is held against."""

ASIDE_HC1 = ("rows", "positions")
"""Rows of a layer, and positions that attention takes per cycle."""

ASIDE = {
    "um2_per_weight": "um2", "dynamic": "W", "clock_above_gates": "W", "leakage": "W",
    "power_on_published_area": "W",
}  # fmt: skip
"""Of what HNLPU's array power is made, and the same with the published area instead of ours."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What a figure may be."""

    low: float
    middle: float
    high: float

    @property
    def ratio(self) -> float:
        """High over low."""
        return self.high / self.low


@dataclass(frozen=True, slots=True)
class Row:
    """A prediction beside what was published."""

    name: str
    predicted: Interval
    published: Quantity

    @property
    def deviation(self) -> float:
        """Predicted over published, less 1."""
        return self.predicted.middle / self.published.number - 1

    @property
    def met(self) -> bool:
        """The prediction is within 25 % of the published value."""
        return abs(self.deviation) <= WITHIN

    @property
    def inside(self) -> bool:
        """The published value, or a part of its range, lies in the interval."""
        low, high = self.published.bounds
        return low <= self.predicted.high and high >= self.predicted.low


def section(chip: str, part: str) -> dict[str, Quantity]:
    """The checked quantities of a part of ``market/published.yaml``."""
    place = f"published.yaml: {chip}"
    return figures(table("published")[chip][part], UNITS[chip][part], f"{place}: {part}")


def inputs_of(target: str) -> dict[str, Quantity]:
    """What the model takes from a process and assumes beside it."""
    own = process(target)
    more = ("wafer_price", "wafer_diameter", "defect_density")
    return {name: own[name] for name in (*FROM_PROCESS, *more)} | assumptions()


def hnlpu() -> dict[str, Figure]:
    """HNLPU's published figures and those of ``ASIDE``, predicted."""
    design, published = section("hnlpu", "design"), section("hnlpu", "published")
    model, bits = preset("gpt-oss-120b"), int(design["bits"].number)
    made = outline(
        model, process("n5"), context=int(design["context"].number),
        slots=int(design["slots"].number), rows=dict.fromkeys(GROUPS, 1),
        bits={**{name: bits for names in GROUPS.values() for name in names},
              "head": bits, "router": bits},
    )  # fmt: skip
    inputs = inputs_of("n5") | design | {"published_area": published["array_area"]}
    units = {name: q.unit for name, q in published.items()} | ASIDE
    return derive(
        lambda x: hnlpu_figures(made, model, x), inputs, units, "benchmarks/validation.py"
    )


def hnlpu_figures(made: Outline, model: Preset, x: Inputs) -> dict[str, float]:
    """The figures of one chip of HNLPU at these numbers."""
    area, energy, flops = array(made, x)
    area, flops = area / x["chips"], flops / x["chips"]
    rate = x["rate"] / x["chips"]  # every chip has its share of every layer
    dynamic = energy * 1e-15 * rate
    # every counter is logic: no array of single transistors leaks less
    leakage = area * x["leakage_logic"]
    clock = flops * x["flop_energy"] * 1e-15 * x["clock"] * x["idle_clock"]
    power = dynamic + leakage + clock
    good = die_yield(x["die_area"] / 100 * x["defect_density"])
    gross = gross_dies(x["die_area"], x["wafer_diameter"])
    return {
        "array_area": area, "array_power": power,
        "weight_energy": power / (rate * model.active) * 1e12,
        "sram_area": x["sram"] * x["sram_cell"] / x["sram_efficiency"] / 1e6,
        "yield": good, "good_die": x["wafer_price"] / (gross * good),
        "um2_per_weight": area * x["chips"] * 1e6 / model.parameters,
        "dynamic": dynamic, "clock_above_gates": clock, "leakage": leakage,
        "power_on_published_area": dynamic + clock + x["published_area"] * x["leakage_logic"],
    }  # fmt: skip


def array(made: Outline, x: Inputs) -> tuple[float, float, float]:
    """mm2 of all fabrics as one counter per code; fJ that a token takes in them; their flops."""
    area = energy = flops = 0.0
    kinds: list[tuple[FabricPlan, int, int]] = [(made.plan.head, 1, 1)]
    for index in range(len(made.plan.layers)):
        stored, working = made.stored(index), made.working(index)
        kinds += [(f, stored[name], working[name]) for name, f in made.fabrics(index).items()]
    for fabric, copies, active in kinds:
        own = fabric_logic(fabric, "counters")
        area += fabric_area(fabric, "counters", x).total * copies / 1e6
        energy += fabric_energy(fabric, "counters", x).total * active
        flops += (own["frame"].flops + own["column_ends"].flops * fabric.outputs) * copies
    return area, energy, flops


@dataclass(frozen=True, slots=True)
class Shape:
    """A design point of HC1, but for its rows: ``six``: matrices of 6 bits, others have 3."""

    six: tuple[str, ...]
    context: int
    adapter_rank: int
    positions: int


def shapes_of(x: Inputs) -> Iterator[Shape]:
    """The design points nearest to these numbers, one for every width of attention."""
    six = mix(preset("llama-3.1-8b").architecture, x["six_bit_share"])
    for positions in POSITIONS:
        yield Shape(six, round(x["context"]), round(x["adapter_rank"]), positions)


def mix(a: Architecture, share: float) -> tuple[str, ...]:
    """The set of matrices, most sensitive first, whose share of the weights comes nearest."""
    sizes = {
        "v": a.kv_width * a.width, "k": a.kv_width * a.width, "head": 0,
        "o": a.query_width * a.width, "q": a.query_width * a.width, "down": a.inner * a.width,
    }  # fmt: skip
    layer = sum(sizes.values()) + 2 * a.inner * a.width
    whole = layer * a.layers + a.vocabulary * a.width
    shares = {name: size * a.layers / whole for name, size in sizes.items()}
    shares["head"] = a.vocabulary * a.width / whole
    names = tuple(shares)
    sets = [names[:count] for count in range(len(names))] + [("v", "k", "down")]
    return min(sets, key=lambda chosen: abs(sum(shares[name] for name in chosen) - share))


@cache
def hc1_silicon(shape: Shape, rows: int, prompt: int, output: int) -> Silicon:
    """A design point of HC1."""
    model, own = preset("llama-3.1-8b"), process("n6")
    names = [name for group in GROUPS.values() for name in group]
    made = outline(
        model, own, context=shape.context, slots=int(section("hc1", "design")["slots"].number),
        bits={name: 6 if name in shape.six else 3 for name in [*names, "head"]}, rows=rows,
        positions=shape.positions, beat=widest_beat(spine(model)),
        adapter_rank=shape.adapter_rank,
    )  # fmt: skip
    return Silicon(made, Choices(prompt=prompt, output=output), seat=False)


def drawn(silicon: Silicon, x: Inputs) -> Silicon:
    """The same with the smallest cells at these numbers: its makers know their process."""
    silicon.choose(x)
    return silicon


def filling_rows(shape: Shape, x: Inputs) -> int | None:
    """The fewest of ``ROWS`` with which the chip fits HC1's die; None where none do."""

    def fits(rows: int) -> bool:
        made = drawn(hc1_silicon(shape, rows, 1, 1), x)
        return made.area(x)["area_mm2"] <= x["die_area"]

    first = bisect_left(ROWS, True, key=fits)
    return ROWS[first] if first < len(ROWS) else None


def hc1_figures(x: Inputs) -> dict[str, float] | None:
    """The figures of an HC1 that fills its die at these numbers, with the fastest attention.

    None where these numbers leave no such chip: it exists, so they cannot be.
    """
    prompt, output = int(x["prompt"]), int(x["output"])
    designs = [(shape, rows) for shape in shapes_of(x) if (rows := filling_rows(shape, x))]
    if not designs:
        return None
    shape, rows = min(designs, key=lambda design: cycles_at(*design, prompt + output // 2))
    made = drawn(hc1_silicon(shape, rows, prompt, output), x).figures(x)
    return {
        "tokens_per_second": made["tokens_per_second_per_user"],
        "transistors": made["transistors"],
        "power_one": made["power_w"],
        "power_full": made["power_full_w"],
        "rows": rows,
        "positions": shape.positions,
    }


def cycles_at(shape: Shape, rows: int, position: int) -> int:
    """Cycles of a token there."""
    return hc1_silicon(shape, rows, 1, 1).outline.schedule().token(position)


def place_in(q: Quantity, u: float) -> float:
    """Where ``u`` of 1 lies in a range: its half below the value, and its half above."""
    (low, high), value = q.bounds, q.number
    start, end, part = (low, value, 2 * u) if u < 0.5 else (value, high, 2 * u - 1)
    return start * (end / start) ** part if start > 0 else start + (end - start) * part


def worlds(inputs: Mapping[str, Quantity], count: int) -> Iterator[dict[str, float]]:
    """Numbers drawn from every range, each range cut into ``count`` slices that all occur once.

    What ``TOGETHER`` groups errs as one. Sizes come in steps: powers of two, ranks by 16.
    """
    draw, places = random.Random(0), {}
    for name in inputs:
        group = TOGETHER.get(name, name)
        if group not in places:
            places[group] = [(slice_ + draw.random()) / count for slice_ in range(count)]
            draw.shuffle(places[group])
    for index in range(count):
        x = {n: place_in(q, places[TOGETHER.get(n, n)][index]) for n, q in inputs.items()}
        x["context"] = 2.0 ** round(math.log2(x["context"]))
        x["adapter_rank"] = 16.0 * round(x["adapter_rank"] / 16)
        yield x


def hc1(count: int = WORLDS) -> tuple[dict[str, Interval], int]:
    """The figures of ``HC1_ROWS`` and ``ASIDE_HC1``; and in how many worlds there is an HC1."""
    inputs = inputs_of("n6") | section("hc1", "design") | section("hc1", "unknown")
    found = [made for x in worlds(inputs, count) if (made := hc1_figures(x))]
    return {name: interval([made[name] for made in found]) for name in found[0]}, len(found)


def interval(values: list[float]) -> Interval:
    """Median, and the ends between which nine tenths of the values lie."""
    ordered, last = sorted(values), len(values) - 1
    low, middle, high = (ordered[round(last * share)] for share in (0.05, 0.5, 0.95))
    return Interval(low, middle, high)


def hnlpu_rows(made: Mapping[str, Figure]) -> list[Row]:
    """A row for every published figure of HNLPU."""
    published = section("hnlpu", "published")
    found = {name: made[name].quantity for name in published}
    return [
        Row(name, Interval(q.bounds[0], q.number, q.bounds[1]), published[name])
        for name, q in found.items()
    ]


def hc1_rows(made: Mapping[str, Interval]) -> list[Row]:
    """A row for every figure of ``HC1_ROWS``."""
    published = section("hc1", "published")
    return [Row(name, made[name], published[of]) for name, of in HC1_ROWS.items()]


def number(value: float) -> str:
    """Four digits."""
    return (
        f"{value:,.4g}" if abs(value) < 1e4 else f"{value:.3g}" if value > 1e7 else f"{value:,.0f}"
    )


def span(low: float, high: float) -> str:
    """Low and high in words."""
    return number(low) if low == high else f"{number(low)} - {number(high)}"


def answer(yes: bool) -> str:
    """Yes or no."""
    return "yes" if yes else "no"


def hnlpu_lines(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """The table of HNLPU."""
    yield "HNLPU, a chip", "predicted", "range", "published", "unit", "off by", "25 %", "in range"
    for row in rows:
        made = row.predicted
        yield (
            row.name, number(made.middle), span(made.low, made.high),
            number(row.published.number), row.published.unit, f"{row.deviation:+.1%}",
            answer(row.met), answer(row.inside),
        )  # fmt: skip


def hc1_lines(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """The table of HC1."""
    yield "HC1", "median", "interval", "ratio", f"<= {WIDEST:g}", "published", "unit", "inside"
    for row in rows:
        made = row.predicted
        yield (
            row.name, number(made.middle), span(made.low, made.high), f"{made.ratio:.1f}",
            answer(made.ratio <= WIDEST), span(*row.published.bounds), row.published.unit,
            answer(row.inside),
        )  # fmt: skip


def show(lines: Iterator[tuple[str, ...]]) -> None:
    """Print a table, its first column to the left."""
    made = list(lines)
    widths = [max(map(len, column)) for column in zip(*made, strict=True)]
    for first, *rest in made:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def main() -> None:
    """Print both tables."""
    first = hnlpu()
    show(hnlpu_lines(hnlpu_rows(first)))
    for name, unit in ASIDE.items():
        q = first[name].quantity
        print(f"  {name.replace('_', ' ')}: {number(q.number)} {unit} ({span(*q.bounds)})")
    print()
    second, found = hc1()
    show(hc1_lines(hc1_rows(second)))
    for name in ASIDE_HC1:
        made = second[name]
        print(f"  {name}: {number(made.middle)} ({span(made.low, made.high)})")
    print(f"  {found} of {WORLDS} draws leave a chip on that die")


if __name__ == "__main__":
    main()
