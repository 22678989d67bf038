"""The command ``report``: a chip's figures as metrics.json and one offline page."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.screen import bars, say, write_json
from intaglio.errors import BadInput

if TYPE_CHECKING:  # what a command needs it imports itself, so that --help comes at once
    from intaglio.quantity import Quantity
    from intaglio.report.write import Written


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Example: intaglio report llama-3.1-8b --target n6 -o reports/llama")(report)


def report(
    chip: Annotated[
        str, typer.Argument(help="A chip, a preset (llama-3.1-8b ...), a checkpoint or .gguf.")
    ],
    target: Annotated[
        str | None,
        typer.Option(help="A process, or the path of a .yaml; default n6, or the chip's."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; default: into the chip package."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Write metrics.json and report.html: one page that loads nothing, for a browser.

    Every figure has its range, its source, and a word for how far to trust it (docs/report.md).
    """
    from intaglio.report.write import write_report

    if output is not None and not output.name:
        raise BadInput(f"output must be a folder by its name, not {str(output)!r}")
    with bars() as progress:
        written = write_report(chip, target=target, output=output, progress=progress)
    if json_output:
        write_json(written.as_dict())
        return
    for line in report_lines(written):
        say(line)


def report_lines(written: "Written") -> Iterable[str]:
    """Where the report is, and what it says in six lines."""
    facts = written.facts
    planned, figures = facts.planned, facts.figures
    own = f", compiled for target {facts.own_target}" if facts.own_target else ""
    dies = "1 die" if facts.dies == 1 else f"{facts.dies} dies"
    yield str(written.page)
    yield f"  {planned.model.title} on {planned.process.name} ({planned.process.title}){own}"
    yield f"  speed    {said(figures['tokens_per_second_per_user'], 'tokens/s, one user')}"
    yield f"  silicon  {said(figures['area_mm2'])}; {dies}"
    yield f"  power    {said(figures['power_w'])}; {said(figures['millijoule_per_token'])} a token"
    days = facts.ways["next_model"].total.quantity
    card = said(facts.bill.cost["card_cost_usd"]) if facts.bill else facts.no_bill
    yield f"  a card   {card}; next model in {said(days)}"
    yield f"  proof    {proof(written)}"


def said(q: "Quantity", unit: str = "") -> str:
    """A figure in a line: value, range, how far to trust it."""
    from intaglio.silicon.words import badge, ranged, valued

    span = f"{ranged(q)}, " if ranged(q) else ""
    return f"{valued(q)}{' ' if unit else ''}{unit} ({span}{badge(q.grade)})"


def proof(written: "Written") -> str:
    """The verdict of the last proof."""
    verdict, package = written.facts.verdict, written.facts.package
    if verdict is None:
        path = package.path if package else "CHIP"
        return f"not verified yet: run intaglio verify {path}" if package else "planned only"
    if verdict["equal"]:
        return f"equal over {verdict['positions']:,} positions (exact)"
    return "NOT equal"
