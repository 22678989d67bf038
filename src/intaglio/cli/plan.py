"""The command ``plan``: a chip predicted from an architecture alone."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.screen import say, write_json

if TYPE_CHECKING:  # what a command needs it imports itself, so that --help comes at once
    from intaglio.flow.plan import Bound, Planned
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
    die: Annotated[float | None, typer.Option(help="mm2 that the chip must fit.")] = None,
    power: Annotated[float | None, typer.Option(help="W that one user may take.")] = None,
    context: Annotated[
        int | None, typer.Option(help="Positions; default: the model's, at most 2048.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Users at once; default 2.")] = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits of a weight: 2, 3, 4, 6 or 8; default 4.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Rows of a layer's four groups together.")
    ] = None,
    cell: Annotated[str, typer.Option(help="auto, select, signed, decode or counters.")] = "auto",
    positions: Annotated[
        int | None, typer.Option(help="Positions that attention takes per cycle.")
    ] = None,
    beat: Annotated[
        int | None, typer.Option(help="Elements of a stream per cycle; default the most.")
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
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Predict a chip from the architecture alone: area, power, speed, cost. No weights are read.

    Every figure has its range; docs/silicon-model.md says what is counted and what is assumed.
    """
    from intaglio.flow.plan import PlanOptions, run_plan
    from intaglio.silicon.request import Choices

    choices = Choices(prompt=prompt, output=tokens, issue_rate=issue_rate, cell=cell)
    options = PlanOptions(
        target=target, die=die, power=power, context=context, slots=slots, bits=bits, rows=rows,
        positions=positions, beat=beat, choices=choices,
    )  # fmt: skip
    made = run_plan(model, options)
    if json_output:
        write_json(made.as_dict())
        return
    for line in plan_lines(made):
        say(line)


def plan_lines(made: "Planned") -> Iterable[str]:
    """A planned chip on one screen."""
    yield from subject_lines(made)
    physical, cycles = made.physical, made.physical.cycles
    area, power, speed = physical.area, physical.power, physical.speed
    yield f"{'':24}{'value':>12}   {'low - high':<20}{'grade':<9}moved most by"
    yield row(made, "area", area["area_mm2"], "area_mm2")
    yield from area_lines(made)
    yield row(made, "power, one user", power["power_w"], "power_w")
    yield row(made, "  of that leakage", power["leakage_w"], "leakage_w")
    yield row(made, "  pipeline full", power["power_full_w"], "power_full_w")
    yield row(made, "  its hottest block", power["hottest_w_per_mm2"], "hottest_w_per_mm2")
    yield row(made, "tokens/s, one user", speed["tokens_per_second_per_user"],
              "tokens_per_second_per_user")  # fmt: skip
    yield row(made, "  prompt included", speed["tokens_per_second_end_to_end"],
              "tokens_per_second_end_to_end")  # fmt: skip
    users = f"  {plan_users(physical.users['slots'])} ({physical.users['full']:.0f} fill it)"
    yield row(made, users, speed["tokens_per_second_all"], "tokens_per_second_all")
    yield row(made, "energy of a token", power["millijoule_per_token"], "millijoule_per_token")
    yield row(made, "first token", speed["first_token_seconds"], "first_token_seconds")
    several = f", one of {made.dies}" if made.dies and made.dies > 1 else ""
    yield row(made, f"a die{several}", made.cost_per_die, "")
    yield (
        f"Cycles: {cycles.token:,.0f} a token ({cycles.prompt:,} in, {cycles.output:,} out), "
        f"{cycles.first:,} to the first, {cycles.interval:,} between positions"
    )
    yield speeds_line(made)
    for bound in made.bounds:
        yield bound_line(bound)


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
        f"{plan.context:,}, {plan.slots} users' keys and values"
    )
    yield (
        f"  a cycle takes {plan.positions} positions in attention, {plan.beat} elements in "
        f"streams; cell: {', '.join(cells)}"
    )


def row(made: "Planned", label: str, quantity: "Quantity", name: str) -> str:
    """One figure: value, range, grade, what moves it."""
    if quantity.value is None:
        return f"{label:<24}{'-':>12}   blocked by: {quantity.blocked_by}"
    low, high = quantity.bounds
    unit = UNITS.get(quantity.unit, quantity.unit)
    value, scale, unit = scaled(quantity.number, unit)
    span = f"{human(low * scale, '')} - {human(high * scale, '')}"
    before = f"{label:<24}{human(value, unit):>12}   {span:<20}{quantity.grade:<9}"
    moves = made.physical.moves.get(name) or list(made.die.moves)
    return listed(before, [move.replace("_", " ") for move in moves[:3]]).rstrip()


def plan_users(count: float) -> str:
    """Users, as a word."""
    return "1 user" if count == 1 else f"{count:.0f} users"


UNITS = {"mm2": "mm²", "W/mm2": "W/mm²", "1/s": "", "USD": "$"}


def scaled(value: float, unit: str) -> tuple[float, float, str]:
    """A value in the unit in which it reads well, with the factor to it."""
    if unit == "s" and value < 0.1:
        return value * 1e3, 1e3, "ms"
    return value, 1.0, unit


def area_lines(made: "Planned") -> Iterable[str]:
    """Where the area goes, in percent, the largest first."""
    from intaglio.silicon.physical import KINDS

    area = made.physical.area
    whole = area["area_mm2"].number
    shares = {kind: area[f"area_{kind}"].number / whole for kind in KINDS}
    order = [kind for kind in sorted(shares, key=lambda k: -shares[k]) if shares[kind] >= 0.005]
    line = "  "
    for kind in order[:MOST_KINDS]:
        part = f"{100 * shares[kind]:.0f} % {KINDS[kind]}"
        if len(line) + len(part) + 2 > WIDTH:
            yield line.rstrip(", ") + ","
            line = "  "
        line += f"{part}, "
    yield line.rstrip(", ")


def speeds_line(made: "Planned") -> str:
    """tokens/s against the position."""
    context = made.outline.plan.context
    places = sorted({min(context * eighth // 8, context - 1) for eighth in CONTEXTS})
    rates = made.physical.at_context(places)
    shown = ", ".join(f"{rate:,.0f} at {place + 1:,}" for place, rate in rates.items())
    return f"tokens/s by position: {shown}"


def bound_line(bound: "Bound") -> str:
    """A bound, and whether it holds."""
    unit = UNITS.get(bound.unit, bound.unit)
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
