"""The commands ``cost``, ``turnaround`` and ``agents``: a chip's price, its days, its use."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from intaglio.cli.screen import LOOKING, say, step, write_json

DEFAULT_MODEL = "llama-3.1-8b"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Target = Annotated[
    str | None,
    typer.Option(help="A process, or the path of a .yaml; default n6, or the package's."),
]
Model = Annotated[
    str,
    typer.Argument(help="A preset (llama-3.1-8b ...), a checkpoint's folder, a .gguf, or a chip."),
]


def add(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Example: intaglio cost llama-3.1-8b --target n6 --volume 10000")(cost)
    app.command(epilog="Example: intaglio turnaround llama-3.1-8b --target n6")(turnaround)
    app.command(epilog="Example: intaglio agents llama-3.1-8b --steps 10 --gpu h200")(agents)


def cost(
    model: Model = DEFAULT_MODEL,
    target: Target = None,
    context: Annotated[
        int | None, typer.Option(help="Positions; default: the model's, at most 2048.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(help="Users at once, of whom the batch consists; default 2.")
    ] = None,
    volume: Annotated[float, typer.Option(help="Cards that share what is spent once.")] = 10_000,
    utilisation: Annotated[
        float | None, typer.Option(help="Share of hours in which tokens flow; default 0.5.")
    ] = None,
    yield_model: Annotated[
        str, typer.Option("--yield", help="murphy or negative-binomial.")
    ] = "murphy",
    repairable: Annotated[
        float, typer.Option(help="Share of a die's area that spare columns can repair.")
    ] = 0.0,
    repairs: Annotated[int, typer.Option(help="Defects that they can repair on a die.")] = 0,
    spare_area: Annotated[
        float, typer.Option(help="Share of a die that the spares take themselves.")
    ] = 0.0,
    die: Annotated[
        float | None, typer.Option(help="mm2 that a die may have; default the reticle.")
    ] = None,
    wafer_price: Annotated[float | None, typer.Option(help="USD; default the target's.")] = None,
    defect_density: Annotated[
        float | None, typer.Option(help="Defects per cm2; default the target's.")
    ] = None,
    electricity: Annotated[float | None, typer.Option(help="USD per kWh.")] = None,
    margin: Annotated[float | None, typer.Option(help="Gross margin on a card, below 1.")] = None,
    years: Annotated[float | None, typer.Option(help="Years in which a card pays.")] = None,
    json_output: Json = False,
) -> None:
    """What a model's chip costs: die, card, masks, tokens; beside it, the machines it replaces.

    One user and batches stand apart. Every figure has its range (docs/cost.md).
    """
    from intaglio.cli.market_text import cost_lines
    from intaglio.flow.choose import PlanOptions
    from intaglio.flow.cost import run_cost
    from intaglio.silicon.cost import Terms
    from intaglio.silicon.yields import Redundancy

    changes = given(
        utilisation=utilisation, wafer_price=wafer_price, defect_density=defect_density,
        electricity=electricity, margin=margin, years=years,
    )  # fmt: skip
    spares = Redundancy(repairable, repairs, spare_area)
    terms = Terms(volume, yield_model, spares, die, changes)
    options = PlanOptions(target=target, context=context, slots=slots)
    with step(LOOKING):
        made = run_cost(model, options, terms)
    show(made, cost_lines, json_output)


def turnaround(
    model: Model = DEFAULT_MODEL,
    target: Target = None,
    promise: Annotated[float, typer.Option(help="Days that must hold.")] = 61.0,
    layers_above: Annotated[
        float | None, typer.Option(help="Mask layers that waiting wafers still need.")
    ] = None,
    days_per_layer: Annotated[float | None, typer.Option(help="Days of each of them.")] = None,
    package_weeks: Annotated[
        float | None, typer.Option(help="Weeks of packaging and test.")
    ] = None,
    json_output: Json = False,
) -> None:
    """From a checkpoint to a card: every step in days, and whether two months hold.

    Twice: a next model on base wafers that wait for their one layer, and the first chip of a shape.
    """
    from intaglio.cli.market_text import turnaround_lines
    from intaglio.flow.turnaround import run_turnaround

    chosen = given(
        layers_above=layers_above, days_per_mask_layer=days_per_layer, package_weeks=package_weeks
    )
    way = run_turnaround(model, target=target, promise=promise, chosen=chosen)
    show(way, turnaround_lines, json_output)


def agents(
    model: Model = DEFAULT_MODEL,
    target: Target = None,
    gpu: Annotated[str, typer.Option(help="h100, h200, b200 or another machine.")] = "h200",
    steps: Annotated[int, typer.Option(help="Steps, each of which waits for the last.")] = 10,
    prompt: Annotated[
        int | None,
        typer.Option("--prompt-tokens", help="Tokens in of a step; default 1024."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", "-n", help="Tokens out; default: what the GPU says in --seconds."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="A step on the GPU, without --tokens.")] = 10.0,
    outside: Annotated[
        float, typer.Option(help="Seconds of tools and networks after every step.")
    ] = 0.0,
    rate: Annotated[
        float | None,
        typer.Option("--tokens-per-second", help="Of the chip, in place of its plan's cycles."),
    ] = None,
    prompt_rate: Annotated[
        float | None,
        typer.Option("--prompt-tokens-per-second", help="The same of its prompt."),
    ] = None,
    gpu_rate: Annotated[
        float | None, typer.Option("--gpu-tokens-per-second", help="In place of the published.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Positions of the chip; default: what a step needs.")
    ] = None,
    json_output: Json = False,
) -> None:
    """A chain of steps, each waiting for the last, on a GPU and on the chip.

    The chip's cycles are exact, its clock is the target's; a GPU's rate is the published one.
    """
    from intaglio.cli.market_text import agents_lines
    from intaglio.flow.agents import AgentOptions, run_agents

    options = AgentOptions(
        target=target, gpu=gpu, steps=steps, prompt=prompt, output=tokens, seconds=seconds,
        outside=outside, rate=rate, prompt_rate=prompt_rate, gpu_rate=gpu_rate, context=context,
    )  # fmt: skip
    with step(LOOKING):
        made = run_agents(model, options)
    show(made, agents_lines, json_output)


def given(**values: float | None) -> dict[str, float]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def show(result: Any, lines: Callable[[Any], Iterable[str]], json_output: bool) -> None:
    """Print a result, as one object or as lines."""
    if json_output:
        write_json(result.as_dict())
        return
    for line in lines(result):
        say(line)
