"""The command line: parses, calls, prints."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from intaglio import __version__
from intaglio.errors import BadInput, IntaglioError
from intaglio.golden.sample import Sampling

app = typer.Typer(
    name="intaglio",
    help="Engrave a language model into silicon: checkpoint in, verified chip out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
screen = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Chip = Annotated[Path, typer.Argument(help="A chip package, made by `intaglio compile`.")]
Engine = Annotated[
    str, typer.Option(help="golden (NumPy integers) or rtl (the simulated chip itself).")
]
Temperature = Annotated[float, typer.Option(help="0 takes the largest logit.")]
TopK = Annotated[int, typer.Option(help="Candidates kept, at most 64; 0 keeps all 64.")]
TopP = Annotated[float, typer.Option(help="Cumulative probability kept.")]
Seed = Annotated[int, typer.Option(help="Seed of the chip's random bits.")]
Tokens = Annotated[int, typer.Option("--tokens", "-n", help="Tokens to generate.")]


def main() -> None:
    """Entry point: errors become one line on stderr and an exit code."""
    try:
        app(standalone_mode=False)
    except IntaglioError as error:
        screen.print(f"[bold red]{type(error).__name__}[/]: {escape(error.message)}")
        if error.hint:
            screen.print(f"  hint: {escape(error.hint)}")
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        screen.print("interrupted; run the same command again to go on")
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of typer's parser
            screen.print(f"[bold red]usage[/]: {escape(error.format_message())}")
            sys.exit(2)
        raise


def escape(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", "\\[")


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a ``progress(step, done, total)`` that draws one bar per step on stderr."""
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description}"),
        BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=screen, transient=not screen.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=max(total, 1))

        yield show


def emit_json(values: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")


def version(show: bool) -> None:
    """Print the version and stop."""
    if show:
        typer.echo(f"intaglio {__version__}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Engrave a language model into silicon."""


@app.command(epilog="Example: intaglio compile bundled --bits 4 -o chips/bundled")
def compile(
    model: Annotated[
        str,
        typer.Argument(help="bundled, bundled-float, smollm2, a Hugging Face folder or a .gguf."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The chip package to write.")],
    bits: Annotated[float, typer.Option(help="Average bits over block weights, 2 to 8.")] = 4.0,
    uniform: Annotated[bool, typer.Option(help="The same width for every matrix.")] = False,
    target: Annotated[str, typer.Option(help="generic or sky130.")] = "generic",
    context: Annotated[
        int | None, typer.Option(help="Positions; default: the model's, at most 2048.")
    ] = None,
    slots: Annotated[int, typer.Option(help="Users at once.")] = 2,
    lanes: Annotated[
        str, typer.Option(help="Inputs per row, auto or a number for every fabric.")
    ] = "auto",
    die: Annotated[float | None, typer.Option(help="mm2 the cells must fit.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Text to calibrate on; default: the shipped one.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Solve under the shape of this chip package.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Compile a checkpoint to a chip package: codes, plan, Verilog, ROM images."""
    from intaglio.flow.compile import CompileOptions, compile_model

    chosen = CompileOptions(
        bits=bits, uniform=uniform, target=target, context=context, slots=slots,
        lanes=parse_lanes(lanes), die=die,
        calibration=read_text(calibration) if calibration else None,
    )  # fmt: skip
    with progress_bars() as progress:
        made = compile_model(model, output, chosen, base=base, progress=progress)
    package = made.package
    values = {
        "package": str(output),
        "hash": package.hash,
        "parameters": package.plan.architecture.parameters,
        "bits_per_weight": package.model.bits_per_weight,
        "seconds": made.seconds,
        "peak_memory_bytes": made.peak_memory,
        "cached": made.cached,
    }
    if json_output:
        return emit_json(values)
    state = "from the cache" if made.cached else f"in {made.seconds:.0f} s"
    typer.echo(f"{output}: {package.source}, {values['parameters']:,} parameters, {state}")
    typer.echo(
        f"  {values['bits_per_weight']:.2f} bits per block weight, "
        f"{package.plan.cells:,} contacts, hash {package.hash[:16]}"
    )


def parse_lanes(text: str) -> int | None:
    """A number of lanes, or None for ``auto``."""
    if text == "auto":
        return None
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise BadInput(f"--lanes must be auto or a number from 1 to 256, not {text!r}")
    return int(text)


def read_text(path: Path) -> str:
    """A UTF-8 text file."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: must be UTF-8 text, byte {error.start} is not") from None


def read_prompt(prompt: str | None, file: Path | None, default: str) -> str:
    """The prompt from an option, a file, or the default."""
    if prompt is not None and file is not None:
        raise BadInput("give --prompt or --prompt-file, not both")
    return read_text(file) if file else default if prompt is None else prompt


DEFAULT_PROMPT = "def main():\n    parser = argparse."
DEFAULT_QUESTION = "What is the capital of France?"
Prompt = Annotated[str | None, typer.Option(help="The text to start from.")]
PromptFile = Annotated[Path | None, typer.Option(help="Read the prompt from a file.")]
ChatFlag = Annotated[bool, typer.Option("--chat", help="Put the prompt into the chat template.")]


@app.command(epilog='Example: intaglio verify chips/bundled --prompt "import os" --tokens 256')
def verify(
    chip: Chip,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = 64,
    chat: ChatFlag = False,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    waves: Annotated[Path | None, typer.Option(help="Write FST waves to this file.")] = None,
    json_output: Json = False,
) -> None:
    """Run the chip's RTL beside the integer model and compare every operation of every token.

    Exit code 0 where all is equal bit for bit, 1 at the first difference.
    """
    from intaglio.flow.package import open_package
    from intaglio.flow.verify import verify_package

    package = open_package(chip)
    text = read_prompt(prompt, prompt_file, DEFAULT_QUESTION if chat else DEFAULT_PROMPT)
    sampling = Sampling.of(temperature, top_k, top_p, seed)
    with progress_bars() as progress:
        verdict = verify_package(
            package, text, tokens, sampling=sampling, chat=chat, waves=waves, progress=progress
        )
    if json_output:
        emit_json(verdict.as_dict())
    else:
        print_verdict(verdict, package)
    if not verdict.equal:
        raise typer.Exit(1)


def print_verdict(verdict: Any, package: Any) -> None:
    """A verdict in words."""
    if verdict.equal:
        typer.echo(
            f"equal: {verdict.positions} positions ({verdict.generated} generated), "
            "every operation of the RTL is bit for bit the integer model's"
        )
    else:
        where = verdict.first_difference
        typer.echo(
            f"NOT equal: token {where['token']}, layer {where['layer']}, {where['op']}, "
            f"element {where['element']}: expected {where['expected']}, got {where['got']}"
        )
    typer.echo(
        f"  {verdict.simulated_tokens_per_second:.1f} simulated tokens/s after a build of "
        f"{verdict.build_seconds:.0f} s"
    )
    planned, simulated = verdict.cycles["planned"], verdict.cycles["simulated"]
    same = "as planned" if planned == simulated else f"PLANNED {planned:,}"
    typer.echo(f"  {simulated:,} cycles, {same}; {verdict.cycles_per_token:,.0f} per token")
    typer.echo(f"  {package.tokenizer.decode(verdict.tokens)!r}")


@app.command(epilog='Example: intaglio generate chips/bundled --prompt "import os" --tokens 100')
def generate(
    chip: Chip,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = 128,
    chat: ChatFlag = False,
    engine: Engine = "golden",
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    json_output: Json = False,
) -> None:
    """Complete a text, token by token."""
    from intaglio.flow.package import open_package
    from intaglio.flow.talk import Talk

    package = open_package(chip)
    text = read_prompt(prompt, prompt_file, DEFAULT_QUESTION if chat else DEFAULT_PROMPT)
    sampling = Sampling.of(temperature, top_k, top_p, seed)
    with progress_bars() as progress:
        talk = Talk(package, engine, progress=progress)
    with talk:
        ids = talk.encode(text, chat=chat)
        pieces = []
        if not (json_output or chat):
            sys.stdout.write(text)
        for piece in talk.complete(ids, tokens, sampling):
            pieces.append(piece)
            if not json_output:
                sys.stdout.write(piece)
                sys.stdout.flush()
        values = talk.summary(len(ids))
    if json_output:
        return emit_json({"text": "".join(pieces), **values})
    sys.stdout.write("\n")
    print_speed(values)


def print_speed(values: dict[str, Any]) -> None:
    """What a generation took here and would take on the chip."""
    took = (
        f"{values['tokens']} tokens in {values['seconds']:.2f} s on the {values['engine']} engine"
    )
    chip = values["chip"]
    screen.print(
        f"[dim]{took}; the chip at {chip['clock_hz'] / 1e6:.0f} MHz (assumed): "
        f"{chip['seconds'] * 1e3:.2f} ms, {chip['tokens_per_second']:,.0f} tokens/s (modelled from "
        f"{chip['cycles']:,} exact cycles)[/]"
    )


@app.command(epilog="Example: intaglio chat chips/smollm2 --engine rtl")
def chat(
    chip: Chip,
    engine: Engine = "golden",
    tokens: Tokens = 256,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
) -> None:
    """Talk to a chip whose model has a chat template. An empty line or Ctrl-D ends the talk."""
    from intaglio.flow.package import open_package
    from intaglio.flow.talk import Talk

    package = open_package(chip)
    if package.tokenizer.chat_template is None:
        raise BadInput(f"{chip}: its model has no chat template", hint="use `intaglio generate`")
    sampling = Sampling.of(temperature, top_k, top_p, seed)
    with progress_bars() as progress:
        talk = Talk(package, engine, progress=progress)
    messages: list[dict[str, str]] = []
    with talk:
        while True:
            question = ask("you> ")
            if not question:
                return
            messages.append({"role": "user", "content": question})
            ids = talk.encode_chat(messages)
            sys.stdout.write("chip> ")
            pieces = []
            for piece in talk.complete(ids, tokens, sampling):
                pieces.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
            sys.stdout.write("\n")
            print_speed(talk.summary(len(ids)))
            messages.append({"role": "assistant", "content": "".join(pieces)})


def ask(prompt: str) -> str:
    """One line from the person, empty at the end of the input."""
    try:
        return input(prompt).strip()
    except EOFError:
        sys.stdout.write("\n")
        return ""


@app.command(epilog="Example: intaglio evaluate chips/bundled --text heldout.txt")
def evaluate(
    chip: Chip,
    text: Annotated[Path, typer.Option("--text", help="A UTF-8 text the model has not seen.")],
    model: Annotated[
        str | None,
        typer.Option(help="The float checkpoint; default: the name the chip was compiled from."),
    ] = None,
    window: Annotated[int, typer.Option(help="Tokens per window.")] = 512,
    limit: Annotated[int | None, typer.Option(help="Use at most so many tokens.")] = None,
    json_output: Json = False,
) -> None:
    """Perplexity and bits per byte on a text, float checkpoint beside chip."""
    from intaglio.flow.evaluate import evaluate_package
    from intaglio.flow.package import open_package

    package = open_package(chip)
    with progress_bars() as progress:
        values = evaluate_package(
            package, read_text(text), model=model, window=window, limit=limit, progress=progress
        )
    if json_output:
        return emit_json(values)
    typer.echo(f"{values['tokens']:,} tokens, {values['bytes']:,} bytes, windows of {window}")
    for name in ("float", "chip"):
        row = values[name]
        typer.echo(
            f"  {name:5}  perplexity {row['perplexity']:.3f}  "
            f"bits per byte {row['bits_per_byte']:.4f}"
        )
    typer.echo(f"  growth {values['growth_percent']:+.2f} %  ({values['seconds']:.0f} s)")


@app.command(epilog="Example: intaglio demo")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the chip goes.")] = Path(
        "chips/bundled"
    ),
    json_output: Json = False,
) -> None:
    """The whole way on the bundled model: compile, prove in RTL, complete code."""
    from intaglio.flow.compile import compile_model
    from intaglio.flow.talk import Talk
    from intaglio.flow.verify import verify_package

    with progress_bars() as progress:
        made = compile_model("bundled", output, progress=progress)
        verdict = verify_package(made.package, DEFAULT_PROMPT, 64, progress=progress)
        talk = Talk(made.package, "golden", progress=progress)
    with talk:
        ids = talk.encode(DEFAULT_PROMPT)
        text = "".join(talk.complete(ids, 64, Sampling()))
        values = talk.summary(len(ids))
    if json_output:
        emit_json(
            {
                "package": str(output), "hash": made.package.hash, "verify": verdict.as_dict(),
                "generate": {"text": text, **values},
            }
        )  # fmt: skip
    else:
        print_demo(output, made, verdict, text, values)
    if not verdict.equal:
        raise typer.Exit(1)


def print_demo(output: Path, made: Any, verdict: Any, text: str, values: dict[str, Any]) -> None:
    """The demo's outcome in words."""
    plan = made.package.plan
    typer.echo(
        f"\ncompiled  {made.package.source}: {plan.architecture.parameters:,} parameters, "
        f"{plan.cells:,} contacts -> {output}"
    )
    typer.echo("proved    ", nl=False)
    print_verdict(verdict, made.package)
    typer.echo(f"completed\n{DEFAULT_PROMPT}{text}\n")
    print_speed(values)
    typer.echo(f"talk on:  intaglio generate {output} --prompt 'import ' --tokens 64 --engine rtl")
