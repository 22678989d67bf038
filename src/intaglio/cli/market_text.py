"""What ``cost``, ``turnaround`` and ``agents`` say, in lines."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from intaglio.silicon.words import measure, number, percent, ranged, valued

if TYPE_CHECKING:
    from intaglio.flow.agents import Agents
    from intaglio.flow.cost import Bill, Row
    from intaglio.flow.turnaround import Way
    from intaglio.silicon.agents import Timeline
    from intaglio.silicon.baselines import Rate
    from intaglio.silicon.derived import Figure
    from intaglio.silicon.shuttles import Seat
    from intaglio.silicon.turnaround import Condition, Step, Turnaround

BAR = 40
FULL, FAINT, THIN = "█", "░", "▏"
COST_ROWS = (
    ("Silicon", (
        ("dies", "dies of a chip"),
        ("gross_dies", "dies on a wafer"),
        ("yield", "good ones"),
        ("good_die_usd", "a good die"),
        ("cost_per_die_usd", "packaged and tested"),
        ("card_cost_usd", "a card, without margin"),
    )),
    ("Spent once", (
        ("first_chip_usd", "first chip of the shape"),
        ("next_model_usd", "every next model"),
    )),
    ("Price of a card, that spread over the cards", (
        ("card_price_usd", "first chip of the shape"),
        ("next_model_card_price_usd", "every next model"),
    )),
    ("A million tokens at that price", (
        ("one_user_usd_per_mtoken", "one user, first chip"),
        ("next_model_one_user_usd_per_mtoken", "one user, next model"),
        ("all_users_usd_per_mtoken", "all users, first chip"),
        ("next_model_all_users_usd_per_mtoken", "all users, next model"),
    )),
)  # fmt: skip
PARTS = (
    ("one_user", "one_user", "One user alone (batch 1)"),
    ("all_users", "batch", "As many users as pay (batch-optimal)"),
)
HOLDS = {
    "all": "hold over the whole range", "value": "hold, but not over the whole range",
    "low end": "hold at the good end of the range only", "none": "do not hold",
}  # fmt: skip
FITS = {
    "all": "this chip fits", "value": "this chip fits by its value",
    "low end": "this chip fits at the low end only", "none": "this chip does not fit",
}  # fmt: skip


def figure_line(label: str, each: "Figure") -> str:
    """One figure: value, range, grade, and the two inputs that move it most."""
    q = each.quantity
    if not q.known:
        return f"  {label:<25}{valued(q):>15}  blocked by: {q.blocked_by}"
    q = percent(q) if q.unit == "1" else q
    moved = ", ".join(name.replace("_", " ") for name in list(each.moves)[:2])
    line = f"  {label:<25}{valued(q):>15}  {ranged(q):<23} {q.grade:<16}{moved}"
    return line.rstrip()


def cost_lines(bill: "Bill") -> Iterable[str]:
    """A bill in lines."""
    terms, subject = bill.cost.terms, bill.subject
    used = percent(bill.cost.inputs["utilisation"])
    yield (
        f"{subject.planned.model.title} on {subject.process.name}: {terms.volume:,.0f} cards, used "
        f"{valued(used)} of the time ({ranged(used) or 'asked for'}); "
        f"{terms.model} yield"
    )
    spare = terms.redundancy
    if spare.repairs:
        yield (
            f"  spares repair up to {spare.repairs} defects on {100 * spare.repairable:.0f} % of a "
            f"die, and take {100 * spare.area:.0f} % of it"
        )
    yield f"{'':27}{'value':>15}  {'low – high':<24}{'worst grade':<16}moved most by"
    for title, rows in COST_ROWS:
        yield title
        for name, label in rows:
            yield figure_line(label, bill.cost.figures[name])
    yield from machine_lines(bill)


def machine_lines(bill: "Bill") -> Iterable[str]:
    """The machines beside the chip: one user, then as many as pay; never one beside the other."""
    work = bill.subject.work
    yield (
        f"Beside it, on the same model. Ceiling: what memory and arithmetic allow at "
        f"{work.bits:.3g} bits a weight, {bill.subject.position:,} positions"
    )
    for ours, theirs, title in PARTS:
        heads = f"{'tok/s':>10} {'ceiling':>10} {'tok/J':>7} {'$/Mtok':>9}  pays back after"
        yield f"{title:<40}{heads}"
        yield chip_line(bill, ours)
        for row in bill.rows:
            yield machine_line(row, ours, getattr(row.baseline, theirs))


def chip_line(bill: "Bill", mode: str) -> str:
    """The chip itself."""
    rate, watts = getattr(bill.subject.chip, mode)
    users = f", {bill.subject.users} users" if mode == "all_users" else ""
    joules = rate.value / watts.value if rate.known and watts.known else None
    price = bill.cost[f"{mode}_usd_per_mtoken"].value
    return (
        f"  {'this chip' + users:<38}{cell(rate.value):>10} {'':>10} {cell(joules):>7} "
        f"{cell(price):>9}  (first chip of its shape)"
    )


def machine_line(row: "Row", mode: str, each: "Rate") -> str:
    """One machine, one user or batch-optimal."""
    count = each.chips.number
    title = row.baseline.machine.title + (f" x{count:g}" if count > 1 else "")
    shown = f"  {title:<38}{cell(each.published.value):>10} "
    shown += f"{cell(each.ceiling.quantity.value):>10} "
    shown += f"{cell(each.tokens_per_joule.quantity.value):>7} "
    shown += f"{cell(each.usd_per_mtoken.quantity.value):>9}"
    back = row.back[mode]["first_chip_usd"]
    if not back.share.quantity.known:
        return shown.rstrip()
    low, value, high = (
        "never" if count is None else f"{count:,}" for count in (back.low, back.value, back.high)
    )
    if low == "never":
        return f"{shown}  never"
    noun = "card" if value == "1" else "cards"
    return f"{shown}  {value} {noun} ({low} – {high})"


def cell(value: float | None) -> str:
    """A number, or a dash where nobody knows it."""
    return "–" if value is None else number(value)


def turnaround_lines(way: "Way") -> Iterable[str]:
    """Both ways to a card in lines, and the seats of shuttles."""
    yield f"{way.title} on {way.process.name}: from the checkpoint to a card"
    yield from way_lines("A next model, base wafers waiting", way.next_model)
    yield from way_lines("The first chip of its shape", way.first_chip)
    yield "Seats on shuttles (weights of 4 bits, with all that belongs to them)"
    for seat, fits in way.seats:
        yield seat_line(seat, fits)


def way_lines(title: str, way: "Turnaround") -> Iterable[str]:
    """One way as a Gantt, and whether the promise holds."""
    total = way.total.quantity
    if total.value is None:
        yield f"{title}: not known, blocked by: {total.blocked_by}"
        return
    yield f"{title}: {valued(total)} ({ranged(total) or 'exactly'})"
    for step in way.steps:
        yield gantt(step, total.value)
    yield promise_line(way)


def gantt(step: "Step", whole: float) -> str:
    """A step as a bar on the days of the whole."""
    from intaglio.silicon.turnaround import TITLES

    start, length = step.start.number, step.days.number
    before = round(start / whole * BAR)
    bar = FULL * max(round((start + length) / whole * BAR) - before, 0) or THIN
    days, span = valued(step.days), ranged(step.days)
    if span:
        days += f" ({span})"
    return f"  {TITLES[step.name]:<17}{' ' * before + bar:<{BAR + 1}} {days}, {step.days.grade}"


def promise_line(way: "Turnaround") -> str:
    """Whether the promise holds, and what must be true for it."""
    line = f"  {way.promise:.0f} days {HOLDS[way.holds]}"
    if way.needed:
        return f"{line}; for them must be true: {'; '.join(map(condition, way.needed))}"
    return line


def condition(each: "Condition") -> str:
    """What an input must be."""
    name = each.input.replace("_", " ").replace("layers above", "mask layers above the base")
    return f"{name} at most {each.needed:.3g} (here {each.value:.3g})"


def seat_line(seat: "Seat", fits: str | None) -> str:
    """A shuttle's seat, and whether the chip fits it."""
    area, price, weeks = (seat.figures[name] for name in ("area", "price", "weeks"))
    verdict = f": {FITS[fits]}" if fits else ""
    money = valued(price) + (f" ({ranged(price)})" if ranged(price) else "")
    return (
        f"  {seat.title}: {valued(area)}, {money}, {number(weeks.number)} weeks, "
        f"{number(seat.weights.number)} weights ({ranged(seat.weights)}){verdict}"
    )


def agents_lines(made: "Agents") -> Iterable[str]:
    """A chain on both as timelines."""
    chain = made.gpu.chain
    tools = f", {chain.outside:g} s outside after each" if chain.outside else ""
    yield (
        f"{made.model}: {chain.steps:,} step{'s' * (chain.steps > 1)} of {chain.prompt:,} tokens "
        f"in and {chain.output:,} out"
        f"{tools}; one user on both"
    )
    whole = max(each.seconds.quantity.number for each in (made.gpu, made.chip))
    for each in (made.gpu, made.chip):
        yield from timeline_lines(each, whole)
    for whose, each in (("the GPU's", made.gpu), ("the chip's", made.chip)):
        own = each.seconds.quantity.number
        if own < whole / 4:
            yield f"  {whose} line, {whole / own:,.0f} times larger"
            yield f"  {picture(each, own)}"
    ratio, how = made.ratio.quantity, "sooner"
    if ratio.number < 1:
        low, high = ratio.bounds
        ends = {"low": 1 / high, "high": 1 / low}
        ratio, how = replace(ratio, value=1 / ratio.number, **ends), "later"
    yield f"{number(ratio.number)} times {how} ({ranged(ratio) or 'exactly'}), {ratio.grade}"


def timeline_lines(each: "Timeline", whole: float) -> Iterable[str]:
    """What runs the chain, and its line on the seconds of the longest."""
    q, rate = each.seconds.quantity, each.runner.rate
    span = f" ({ranged(q)})" if ranged(q) else ""
    yield f"{each.runner.name}: {valued(q)}{span}"
    yield f"  {picture(each, whole)}"
    yield (
        f"  a step {measure(each.step, 's')}: {valued(each.prompt)} of prompt, "
        f"{valued(each.output)} of output at {number(rate.number)} tok/s ({rate.grade}: "
        f"{rate.source})"
    )


def picture(each: "Timeline", whole: float) -> str:
    """Steps as alternating blocks."""
    ends = [round((i + 1) * each.step / whole * 2 * BAR) for i in range(each.chain.steps)]
    bars, last = "", 0
    for index, end in enumerate(ends):
        bars += (FAINT if index % 2 else FULL) * max(end - last, 0)
        last = max(end, last)
    return bars or THIN
