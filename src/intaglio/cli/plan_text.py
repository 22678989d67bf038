"""What ``plan`` says, in lines."""

from collections.abc import Iterable

from intaglio.flow.plan import FRONT, Bound, Option, Planned, thinned
from intaglio.quantity import Quantity
from intaglio.silicon.model import KINDS
from intaglio.silicon.search import MOST_POSITIONS
from intaglio.silicon.several import CUT_KINDS
from intaglio.silicon.words import measure, number, ranged, valued

WIDTH = 100
MOST_KINDS = 9
CONTEXTS = (0, 2, 4, 8)  # eighths of the context


def plan_lines(made: Planned) -> Iterable[str]:
    """A planned chip on one screen."""
    yield from subject_lines(made)
    physical, cycles = made.physical, made.physical.cycles
    yield f"{'':24}{'value':>12}   {'low – high':<20}{'grade':<9}moved most by"
    yield row(made, "area" if made.cut is None else "area, all dies", "area_mm2")
    yield from area_lines(made)
    if made.cut is not None:
        yield row(made, f"  the largest of {made.dies}", "die_mm2")
        yield row(made, "  links, of each token", "link_seconds")
    yield row(made, "power, one user", "power_w")
    yield row(made, "  of that leakage", "leakage_w")
    yield row(made, "  pipeline full", "power_full_w")
    yield row(made, "  its hottest block", "hottest_w_per_mm2")
    yield row(made, "tokens/s, one user", "tokens_per_second_per_user")
    yield row(made, "  prompt included", "tokens_per_second_end_to_end")
    users = f"  {plan_users(physical.users['slots'])} ({physical.users['full']:.0f} fill it)"
    yield row(made, users, "tokens_per_second_all")
    yield row(made, "energy of a token", "millijoule_per_token")
    yield row(made, "first token", "first_token_seconds")
    yield figure_row("a die, packaged", made.cost_per_die, list(made.die.moves))
    moves = [] if made.model.growth else ["size and width of the model"]
    yield figure_row("perplexity grows by", made.growth, moves)
    yield (
        f"Cycles: {cycles.token:,.0f} a token ({cycles.prompt:,} in, {cycles.output:,} out), "
        f"{cycles.first:,} to the first, {cycles.interval:,} between positions"
    )
    if made.derived["redrive_cycles"].quantity.bounds[1]:
        yield redrive_line(made)
    yield from clock_lines(made)
    yield speeds_line(made)
    for bound in made.bounds:
        yield bound_line(bound)
    yield from search_lines(made)


def subject_lines(made: Planned) -> Iterable[str]:
    """What model on what chip."""
    outline, model = made.outline, made.model
    plan = outline.plan
    mixture = f", {number(model.active)} at work" if model.active < 0.9 * model.parameters else ""
    yield (f"{model.title}: {number(model.parameters)} parameters{mixture}; {made.process.title}")
    widths = sorted({f"{bits:.3g}" for name, bits in outline.bits.items() if name != "head"})
    cells = sorted(set(made.physical.cells.values()))
    head = f"head {outline.bits['head']:.3g}"
    yield (
        f"  {len(plan.layers)} layers, {'/'.join(widths)}-bit weights ({head}), context "
        f"{plan.context:,}, keys and values of {plan_users(plan.slots)}"
    )
    yield (
        f"  a cycle takes {plan.positions} position{'s' * (plan.positions > 1)} in attention, "
        f"{plan.beat} elements in "
        f"streams; cell: {', '.join(cells)}"
    )


def search_lines(made: Planned) -> Iterable[str]:
    """What a search found: what binds, and what would make it faster."""
    found = made.chosen.found
    if found is None:
        if made.cut and made.model.package is None and made.options.rows is None:
            yield (
                "Rows: the process' own, or more so that a layer fits a die; "
                f"--dies {made.dies} looks for the fastest chip"
            )
        return
    free = "no bound: fewer rows are not faster"
    if found.ended:
        free = f"no bound, but {MOST_POSITIONS} positions are the most that it takes"
    binds = bound_names(made).get(found.binding or "", free)
    yield f"The fastest of {len(found.points):,} chips looked at; what keeps it so slow: {binds}"
    best = found.best.rate
    most = [
        f"{change.name.replace('_', ' ')} {measure(change.then, change.unit)} "
        f"(+{100 * (change.rate / best - 1):.0f} %)"
        for change in made.changes[:3]
        if change.rate >= 1.005 * best
    ]
    if most:
        yield listed("Faster with: ", most)
    if made.on_more_dies is not None:
        yield more_dies_line(made.on_more_dies)


def bound_names(made: Planned) -> dict[str, str]:
    """The bounds of a search in words."""
    return {"area": f"the {made.bounds[0].name.replace('_', ' ')}", "power": "the power"}


def more_dies_line(more: Planned) -> str:
    """What a chip on several dies would give."""
    rate = more.figures["tokens_per_second_per_user"].number
    return f"On {more.dies} dies: {rate:,.0f} tokens/s or more (--dies {more.dies})"


def pareto_lines(made: Planned, options: Iterable[Option]) -> Iterable[str]:
    """Widths and contexts beside each other, and speed against area."""
    yield "Width and context, each the fastest chip under the bounds:"
    yield "  bits  context  perplexity   tokens/s   one user   area, all   dies"
    for option in options:
        f, growth = option.planned.figures, option.planned.growth
        lost = f"+{growth.number:.1f} %" if growth.known else "?"
        yield (
            f"  {option.bits:>4}  {option.context:>7,}  {lost:>10}  "
            f"{f['tokens_per_second_per_user'].number:>9,.0f}   "
            f"{valued(f['power_w']):>8}   {valued(f['area_mm2']):>9}   "
            f"{option.planned.dies:>4}"
        )
    found = made.chosen.found
    if found is None:
        return
    yield "Speed against area, the fastest of each size that were looked at:"
    for point in thinned(found.pareto(), FRONT):
        yield (
            f"  {measure(point.area, 'mm2'):>10}  {point.rate:>9,.0f} tokens/s  "
            f"{measure(point.power, 'W'):>8}  rows "
            + ", ".join(f"{group} {rows}" for group, rows in point.rows.items())
            + "".join(f"; over {bound_names(made)[name]}" for name in point.broken)
        )


def row(made: Planned, label: str, name: str) -> str:
    """One figure of a plan by its name."""
    figure = made.derived[name]
    return figure_row(label, figure.quantity, list(figure.moves))


def figure_row(label: str, quantity: Quantity, moves: list[str]) -> str:
    """One figure: value, range, grade, what moves it."""
    if quantity.value is None:
        return f"{label:<24}{valued(quantity):>12}   blocked by: {quantity.blocked_by}"
    before = f"{label:<24}{valued(quantity):>12}   {ranged(quantity):<20}{quantity.grade:<9}"
    return listed(before, [move.replace("_", " ") for move in moves[:3]]).rstrip()


def plan_users(count: float) -> str:
    """Users, as a word."""
    return "1 user" if count == 1 else f"{count:.0f} users"


def area_lines(made: Planned) -> Iterable[str]:
    """Where the area goes, in percent, the largest first."""
    whole, words = made.figures["area_mm2"].number, {**KINDS, **CUT_KINDS}
    shares = {kind: area.number / whole for kind, area in made.area_by_kind.items()}
    order = [kind for kind in sorted(shares, key=lambda k: -shares[k]) if shares[kind] >= 0.005]
    line = "  "
    for kind in order[:MOST_KINDS]:
        part = f"{100 * shares[kind]:.0f} % {words[kind]}"
        if len(line) + len(part) + 2 > WIDTH:
            yield line.rstrip(", ") + ","
            line = "  "
        line += f"{part}, "
    yield line.rstrip(", ")


def redrive_line(made: Planned) -> str:
    """What product lines that are driven anew add to the cycles."""
    late = made.derived["redrive_cycles"].quantity
    return (
        f"Beside them {number(late.number)} a token ({ranged(late) or 'exactly'}, {late.grade}) "
        "where product lines are driven anew"
    )


def clock_lines(made: Planned) -> Iterable[str]:
    """What the clock assumes of a model, where reads of tiles were simulated."""
    read = made.read_values()
    if read is None:
        return
    share, clock = made.physical.inputs["line_share"], made.derived["clock_hz"].quantity
    held = read["clock_hz"] >= read["target_clock_hz"]
    yield (
        f"Clock: {valued(clock)} ({ranged(clock) or 'exactly'}, {clock.grade}); the target has "
        f"{measure(read['target_clock_hz'], 'Hz')}{'' if held else ', which is not held'}:"
    )
    yield (
        f"  {read['slowest']}, {read['rows']} rows, reads at {measure(read['clock_hz'], 'Hz')} in "
        f"the slow corner where {number(share.number)} of a row's weights"
    )
    yield (f"  are on one line ({ranged(share)}, {share.grade}); masks engrave says it of a model")


def speeds_line(made: Planned) -> str:
    """tokens/s against the position."""
    context = made.outline.plan.context
    places = sorted({min(context * eighth // 8, context - 1) for eighth in CONTEXTS})
    rates = made.physical.at_context(places)
    shown = ", ".join(f"{rate:,.0f} at {place + 1:,}" for place, rate in rates.items())
    return f"tokens/s by position: {shown}"


def bound_line(bound: Bound) -> str:
    """A bound, and whether it holds."""
    what = f"{bound.name.replace('_', ' ')} of {measure(bound.limit, bound.unit)}"
    if not bound.holds:
        excess = measure(bound.value.number - bound.limit, bound.unit)
        return f"Binding: the {what} is exceeded by {excess}"
    return f"The {what} holds, {'' if bound.surely else 'but not '}over the whole range"


def listed(before: str, items: Iterable[str]) -> str:
    """``before`` with as many of the items, comma-joined, as fit on the line; at least one."""
    line, joint = before, ""
    for item in items:
        if joint and len(line) + len(joint) + len(item) > WIDTH:
            break
        line, joint = f"{line}{joint}{item}", ", "
    return line
