"""The command ``plan``: a chip predicted from an architecture alone."""

from typing import Annotated

import typer

from intaglio.cli.screen import LOOKING, bars, say, step, write_json


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
    from intaglio.cli.plan_text import pareto_lines, plan_lines
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
