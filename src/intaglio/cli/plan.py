"""The command ``plan``: a chip predicted from an architecture alone."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.screen import LOOKING, bars, say, step, write_json

if TYPE_CHECKING:  # what a command needs it imports itself, so that --help comes at once
    from intaglio.flow.plan import Bound, Option, Planned
    from intaglio.quantity import Quantity

WIDTH = 100
MOST_KINDS = 9
CONTEXTS = (0, 2, 4, 8)  # eighths of the context


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Example: intaglio plan llama-3.1-8b --target n6 --die 815")(plan)


def plan(
    model: Annotated[
        str,
        typer.Argument(help="A preset (llama-3.1-8b ...), a chip, a checkpoint's folder or .gguf."),
    ] = "llama-3.1-8b",
    target: Annotated[
        str | None,
        typer.Option(help="A process, or the path of a .yaml; default n6, or the chip's."),
    ] = None,
    die: Annotated[
        float | None, typer.Option(help="mm2 that a die may have; default the reticle.")
    ] = None,
    power: Annotated[float | None, typer.Option(help="W that one user may take.")] = None,
    dies: Annotated[
        int | None, typer.Option(help="Dies to spread over; default as many as it takes.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Positions; default: the model's, at most 2048.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Users at once; default 2.")] = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits of a weight: 2, 3, 4, 6 or 8; default: by --loss.")
    ] = None,
    loss: Annotated[
        float | None, typer.Option(help="Most growth of perplexity, percent; default 10.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Rows of a layer's groups; default: by search.")
    ] = None,
    cell: Annotated[str, typer.Option(help="auto, select, signed, decode or counters.")] = "auto",
    positions: Annotated[
        int | None, typer.Option(help="Positions attention takes per cycle; default: by search.")
    ] = None,
    beat: Annotated[
        int | None, typer.Option(help="Elements of a stream per cycle; default: by search.")
    ] = None,
    prompt: Annotated[
        int | None, typer.Option("--prompt-tokens", help="Tokens in; default 1024.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", "-n", help="Tokens out; default 1024.")
    ] = None,
    issue_rate: Annotated[
        float, typer.Option(help="Share of intervals in which a position enters: caps power.")
    ] = 1.0,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Compare widths and contexts, speed and area, too.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Predict a chip from the architecture alone: area, power, speed, cost. No weights are read.

    The fastest chip under the bounds is searched for; a model too large for a die is cut. Every
    figure has its range; docs/silicon-model.md says what is counted and what is assumed.
    """
    from intaglio.flow.choose import PlanOptions
    from intaglio.flow.plan import compare, run_plan
    from intaglio.silicon.request import Choices

    choices = Choices(prompt=prompt, output=tokens, issue_rate=issue_rate, cell=cell)
    options = PlanOptions(
        target=target, die=die, power=power, context=context, slots=slots, bits=bits, rows=rows,
        positions=positions, beat=beat, dies=dies, loss=loss, choices=choices,
    )  # fmt: skip
    with step(LOOKING):
        made = run_plan(model, options)
        _ = made.changes, made.on_more_dies  # looked for while the bar is there
    with bars() as progress:
        rows_of = compare(made, progress) if pareto else None
    if json_output:
        rest = {} if rows_of is None else {"pareto": [row.as_dict() for row in rows_of]}
        write_json({**made.as_dict(), **rest})
        return
    for line in plan_lines(made):
        say(line)
    if rows_of is not None:
        for line in pareto_lines(made, rows_of):
            say(line)


def plan_lines(made: "Planned") -> Iterable[str]:
    """A planned chip on one screen."""
    yield from subject_lines(made)
    physical, cycles = made.physical, made.physical.cycles
    yield f"{'':24}{'value':>12}   {'low - high':<20}{'grade':<9}moved most by"
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
    yield figure_row("perplexity grows by", made.growth, ["size and width of the model"])
    yield (
        f"Cycles: {cycles.token:,.0f} a token ({cycles.prompt:,} in, {cycles.output:,} out), "
        f"{cycles.first:,} to the first, {cycles.interval:,} between positions"
    )
    yield redrive_line(made)
    yield speeds_line(made)
    for bound in made.bounds:
        yield bound_line(bound)
    yield from search_lines(made)


def subject_lines(made: "Planned") -> Iterable[str]:
    """What model on what chip."""
    outline, model = made.outline, made.model
    plan = outline.plan
    mixture = (
        f", {human(model.active, '')} at work" if model.active < 0.9 * model.parameters else ""
    )
    yield (
        f"{model.title}: {human(model.parameters, '')} parameters{mixture}; {made.process.title}"
    )
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


def search_lines(made: "Planned") -> Iterable[str]:
    """What a search found: what binds, and what would make it faster."""
    found = made.chosen.found
    if found is None:
        return
    names = {"area": f"the {made.bounds[0].name.replace('_', ' ')}", "power": "the power"}
    binds = names.get(found.binding or "", "no bound: more rows are not faster")
    yield f"The fastest of {len(found.points):,} chips looked at; what keeps it so slow: {binds}"
    best = found.best.rate
    most = [
        f"{change.name.replace('_', ' ')} {with_unit(change.then, unit_of(change.unit))} "
        f"(+{100 * (change.rate / best - 1):.0f} %)"
        for change in made.changes[:3]
    ]
    if most:
        yield listed("Faster with: ", most)
    if made.on_more_dies is not None:
        yield more_dies_line(made.on_more_dies)


def more_dies_line(more: "Planned") -> str:
    """What a chip on several dies would give."""
    rate = more.figures["tokens_per_second_per_user"].number
    return f"On {more.dies} dies: {rate:,.0f} tokens/s or more (--dies {more.dies})"


def pareto_lines(made: "Planned", options: "Iterable[Option]") -> Iterable[str]:
    """Widths and contexts beside each other, and speed against area."""
    yield "Width and context, each the fastest chip under the bounds:"
    yield "  bits  context  perplexity   tokens/s   one user   area, all   dies"
    for option in options:
        f, growth = option.planned.figures, option.planned.growth
        lost = f"+{growth.number:.1f} %" if growth.known else "?"
        yield (
            f"  {option.bits:>4}  {option.context:>7,}  {lost:>10}  "
            f"{f['tokens_per_second_per_user'].number:>9,.0f}   "
            f"{human(f['power_w'].number, 'W'):>8}   {human(f['area_mm2'].number, 'mm²'):>9}   "
            f"{option.planned.dies:>4}"
        )
    found = made.chosen.found
    if found is None:
        return
    from intaglio.flow.plan import FRONT, thinned

    yield "Speed against area, the fastest of each size that were looked at:"
    for point in thinned(found.pareto(), FRONT):
        yield (
            f"  {human(point.area, 'mm²'):>10}  {point.rate:>9,.0f} tokens/s  "
            f"{human(point.power, 'W'):>8}  rows "
            + ", ".join(f"{group} {rows}" for group, rows in point.rows.items())
        )


def row(made: "Planned", label: str, name: str) -> str:
    """One figure of a plan by its name."""
    figure = made.derived[name]
    return figure_row(label, figure.quantity, list(figure.moves))


def figure_row(label: str, quantity: "Quantity", moves: "list[str]") -> str:
    """One figure: value, range, grade, what moves it."""
    if quantity.value is None:
        return f"{label:<24}{'-':>12}   blocked by: {quantity.blocked_by}"
    low, high = quantity.bounds
    unit = unit_of(quantity.unit)
    value, scale, unit = scaled(quantity.number, unit)
    span = f"{human(low * scale, '')} - {human(high * scale, '')}"
    before = f"{label:<24}{human(value, unit):>12}   {span:<20}{quantity.grade:<9}"
    return listed(before, [move.replace("_", " ") for move in moves[:3]]).rstrip()


def plan_users(count: float) -> str:
    """Users, as a word."""
    return "1 user" if count == 1 else f"{count:.0f} users"


UNITS = {"mm2": "mm²", "W/mm2": "W/mm²", "1/s": "", "1": "", "USD": "$"}


def with_unit(value: float, unit: str) -> str:
    """A number and its unit, a prefix at the unit."""
    shown = human(value, "")
    return f"{shown}{unit}" if shown[-1:].isalpha() else f"{shown} {unit}".rstrip()


def unit_of(unit: str) -> str:
    """A unit as it is printed."""
    return UNITS.get(unit, unit)


def scaled(value: float, unit: str) -> tuple[float, float, str]:
    """A value in the unit in which it reads well, with the factor to it."""
    if unit == "s" and value < 1e-4:
        return value * 1e6, 1e6, "us"
    if unit == "s" and value < 0.1:
        return value * 1e3, 1e3, "ms"
    return value, 1.0, unit


def area_lines(made: "Planned") -> Iterable[str]:
    """Where the area goes, in percent, the largest first."""
    from intaglio.silicon.physical import KINDS
    from intaglio.silicon.several import CUT_KINDS

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


def redrive_line(made: "Planned") -> str:
    """What product lines that are driven anew add to the cycles."""
    late = made.derived["redrive_cycles"].quantity
    low, high = late.bounds
    return (
        f"Beside them {late.number:,.0f} a token ({low:,.0f} - {high:,.0f}, {late.grade}) where "
        "product lines are driven anew"
    )


def speeds_line(made: "Planned") -> str:
    """tokens/s against the position."""
    context = made.outline.plan.context
    places = sorted({min(context * eighth // 8, context - 1) for eighth in CONTEXTS})
    rates = made.physical.at_context(places)
    shown = ", ".join(f"{rate:,.0f} at {place + 1:,}" for place, rate in rates.items())
    return f"tokens/s by position: {shown}"


def bound_line(bound: "Bound") -> str:
    """A bound, and whether it holds."""
    unit = unit_of(bound.unit)
    what = f"{bound.name.replace('_', ' ')} of {human(bound.limit, unit)}"
    if not bound.holds:
        return f"Binding: the {what} is exceeded by {human(bound.value.number - bound.limit, unit)}"
    return f"The {what} holds, {'' if bound.surely else 'but not '}over the whole range"


def human(value: float, unit: str) -> str:
    """A number with as many digits as say something, and its unit."""
    size = abs(value)
    if size >= 1e9:
        shown = f"{value / 1e9:,.3g} G" if size < 1e12 else f"{value / 1e12:,.3g} T"
    elif size >= 1e6:
        shown = f"{value / 1e6:,.3g} M"
    elif size >= 100:
        shown = f"{value:,.0f}"
    elif size >= 0.001 or not value:
        shown = f"{value:.3g}"
    else:
        shown = f"{value:.2g}"
    return f"{shown} {unit}".rstrip()


def listed(before: str, items: Iterable[str]) -> str:
    """``before`` with as many of the items, comma-joined, as fit on the line; at least one."""
    line, joint = before, ""
    for item in items:
        if joint and len(line) + len(joint) + len(item) > WIDTH:
            break
        line, joint = f"{line}{joint}{item}", ", "
    return line
