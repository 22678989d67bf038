"""The commands and their options."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio import __version__
from intaglio.cli import bench, market, masks, plan, report, serve
from intaglio.cli.screen import bars, fail, note, say, waiting, write, write_json
from intaglio.errors import BadInput, IntaglioError
from intaglio.golden.sample import Sampling

if TYPE_CHECKING:  # what a command needs it imports itself, so that --help comes at once
    from intaglio.flow.compile import Compiled
    from intaglio.flow.package import Package
    from intaglio.flow.talk import Talk
    from intaglio.flow.verify import Proof

app = typer.Typer(
    name="intaglio",
    help="Engrave a language model into silicon: a checkpoint in, a verified chip out.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

plan.add(app)

DEFAULT_PROMPT = "def read(path):\n    with open("
DEFAULT_QUESTION = "What is the capital of France?"
DEMO_TOKENS = 64

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Chip = Annotated[Path, typer.Argument(help="A chip package, made by `intaglio compile`.")]
Engine = Annotated[
    str,
    typer.Option(
        help="twin (fast), golden (the meaning, in NumPy) or rtl (the simulated chip itself)."
    ),
]
Temperature = Annotated[float, typer.Option(help="0 takes the largest logit.")]
TopK = Annotated[int, typer.Option(help="Candidates kept, at most 64; 0 keeps all 64.")]
TopP = Annotated[float, typer.Option(help="Cumulative probability kept.")]
Seed = Annotated[int, typer.Option(help="Seed of the chip's random bits.")]
Tokens = Annotated[int, typer.Option("--tokens", "-n", help="Tokens to generate.")]
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="The text to start from.")]
PromptFile = Annotated[Path | None, typer.Option(help="Read the prompt from a UTF-8 file.")]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter", help="NAME=DIR, a PEFT LoRA folder for the chip's model; or c-headers."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="The float checkpoint; default: the name the chip was compiled from."),
]
ChatFlag = Annotated[bool, typer.Option("--chat", help="Put the prompt into the chat template.")]


def show_version(show: bool) -> None:
    """Print the version and stop."""
    if show:
        say(f"intaglio {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Engrave a language model into silicon: a checkpoint in, a verified chip out."""
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command(epilog="Example: intaglio compile bundled --bits 4 -o chips/bundled")
def compile(
    model: Annotated[
        str,
        typer.Argument(help="bundled, bundled-float, smollm2, a Hugging Face folder or a .gguf."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The chip package to write.")],
    bits: Annotated[
        float | None, typer.Option(help="Average bits over block weights, 2 to 8; default 4.")
    ] = None,
    uniform: Annotated[bool, typer.Option("--uniform", help="One width for all.")] = False,
    target: Annotated[
        str | None, typer.Option(help="generic (the default: no process), sky130, n65, n28 ... n3.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Positions; default: the model's, at most 2048.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Users at once; default 2.")] = None,
    lanes: Annotated[
        str | None, typer.Option(help="Inputs per row of every fabric; default auto.")
    ] = None,
    die: Annotated[float | None, typer.Option(help="mm2 that the cells must fit.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="UTF-8 text to calibrate on; default: the one inside.")
    ] = None,
    adapter_rank: Annotated[
        int | None, typer.Option(help="Side memory for LoRA adapters of this rank; default none.")
    ] = None,
    adapter_count: Annotated[
        int | None, typer.Option(help="Adapters that it holds at once; default 1.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="A chip package whose shape (bits, lanes, side memory ...) is taken."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Compile a checkpoint to a chip package: codes, plan, Verilog, ROM images.

    What was compiled before comes from the cache; an interrupted run goes on where it stopped.
    """
    from intaglio.flow.compile import CompileOptions, compile_model

    shape: dict[str, Any] = {
        "bits": bits, "uniform": uniform or None, "target": target, "context": context,
        "slots": slots, "lanes": lanes, "adapter_rank": adapter_rank,
        "adapter_count": adapter_count,
    }  # fmt: skip
    given = {name: value for name, value in shape.items() if value is not None}
    if base and given:
        option = next(iter(given)).replace("_", "-")
        raise BadInput(f"--{option} is the base chip's", hint="leave it out with --base")
    if "lanes" in given:
        given["lanes"] = parse_lanes(given["lanes"])
    chosen = CompileOptions(
        **given, die=die, calibration=None if calibration is None else read_text(calibration)
    )
    with bars() as progress:
        made = compile_model(model, output, chosen, base=base, progress=progress)
    if json_output:
        write_json(compile_values(output, made))
    else:
        print_compiled(output, made)


def compile_values(output: Path, made: "Compiled") -> dict[str, Any]:
    """The JSON object of ``compile``."""
    return {
        "package": str(output),
        "hash": made.package.hash,
        "parameters": made.package.parameters,
        "bits_per_weight": made.package.bits_per_weight,
        "seconds": made.seconds,
        "peak_memory_bytes": made.peak_memory,
        "cached": made.cached,
    }


def print_compiled(output: Path, made: "Compiled") -> None:
    """What came out, in words."""
    plan = made.package.plan
    how = "from the cache" if made.cached else f"in {made.seconds:.0f} s"
    say(f"{made.source}: {made.package.parameters:,} parameters -> {output}, {how}")
    say(
        f"  {made.package.bits_per_weight:.2f} bits per block weight, {plan.cells:,} contacts, "
        f"hash {made.package.hash[:16]}"
    )
    if plan.adapter_rank:
        room = f"{plan.adapter_count} adapters" if plan.adapter_count > 1 else "an adapter"
        say(
            f"  side memory for {room} of rank {plan.adapter_rank}: "
            f"{plan.side_memory_bits / 8 / 1024:,.0f} KiB"
        )


def parse_lanes(text: str) -> int | None:
    """A number of lanes, or None for ``auto``."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadInput(f"lanes must be auto or a number, not {text!r}")
    return int(text)


def read_text(path: Path) -> str:
    """A UTF-8 text file."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: must be UTF-8 text, byte {error.start} is not") from None


def read_prompt(prompt: str | None, file: Path | None, chat: bool) -> str:
    """The prompt from an option, a file, or a default."""
    if prompt is not None and file is not None:
        raise BadInput("give --prompt or --prompt-file, not both")
    if file is not None:
        return read_text(file)
    if prompt is None:
        return DEFAULT_QUESTION if chat else DEFAULT_PROMPT
    try:  # where the locale cannot read it, the command line still holds UTF-8
        return os.fsencode(prompt).decode("utf-8")
    except UnicodeError:
        return prompt


@app.command(epilog='Example: intaglio verify chips/bundled --prompt "import os" --tokens 256')
def verify(
    chip: Chip,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = 64,
    chat: ChatFlag = False,
    adapter: AdapterOption = None,
    model: Model = None,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    waves: Annotated[Path | None, typer.Option(help="Write FST waves to this file.")] = None,
    json_output: Json = False,
) -> int:
    """Run the chip's RTL beside the integer model and compare every operation of every token.

    Exit code 0 where all is equal bit for bit, 1 at the first difference. End of text does not
    stop it. The package keeps the verdict for `intaglio report`.
    """
    from intaglio.flow.package import open_package
    from intaglio.flow.verify import keep_verdict, verify_package

    text = read_prompt(prompt, prompt_file, chat)
    sampling = Sampling.of(temperature, top_k, top_p, seed)
    package = open_package(chip)
    with bars() as progress:
        proof = verify_package(
            package, text, tokens, sampling=sampling, chat=chat, adapter=adapter, model=model,
            waves=waves, progress=progress,
        )  # fmt: skip
    keep("verdict", package, lambda: keep_verdict(package, proof))
    if json_output:
        write_json(proof.as_dict())
    else:
        print_proof(proof)
    return 0 if proof.verdict.equal else 1


def keep(what: str, package: "Package", put: Callable[[], object]) -> None:
    """Keep what was found in its package by ``put``; a remark where that cannot be."""
    try:
        put()
    except OSError as error:
        note(f"{package.path}: the {what} is not kept there: {error.strerror}")
    except IntaglioError as error:
        note(f"the {what} is not kept: {error.message}")


def print_proof(proof: "Proof") -> None:
    """A proof in words."""
    verdict, where = proof.verdict, proof.verdict.first_difference
    if where is None:
        say(
            f"equal: {verdict.positions} positions, {verdict.generated} of them generated; every "
            "operation of the RTL gave the integer model's bits"
        )
    else:
        say(f"NOT equal: {where}")
    say(f"  the chip said: {proof.text!r}")
    say(
        f"  {verdict.simulated_tokens_per_second:.1f} simulated tokens/s, after a build of "
        f"{proof.build_seconds:.0f} s"
    )
    if verdict.simulated_cycles:
        print_cycles(verdict.planned_cycles, verdict.simulated_cycles, verdict.cycles_per_token)


def print_cycles(planned: int | None, simulated: int, per_token: float | None) -> None:
    """Cycles, and whether they are as planned."""
    how = "as planned" if planned == simulated else f"NOT the {planned or 0:,} of the plan"
    rate = f"; {per_token:,.0f} from token to token" if per_token else ""
    say(f"  {simulated:,} cycles, {how}{rate}")


@app.command(epilog='Example: intaglio generate chips/bundled --prompt "import os" --tokens 100')
def generate(
    chip: Chip,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = 128,
    chat: ChatFlag = False,
    engine: Engine = "twin",
    adapter: AdapterOption = None,
    model: Model = None,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    json_output: Json = False,
) -> None:
    """Complete a text, token by token, up to the model's end of text."""
    from intaglio.flow.package import open_package
    from intaglio.flow.talk import Talk, check_length

    text = read_prompt(prompt, prompt_file, chat)
    sampling = Sampling.of(temperature, top_k, top_p, seed)
    with Talk(open_package(chip), engine, adapter=adapter, model=model) as talk:
        ids = talk.encode(text, chat=chat)
        check_length(talk.context, len(ids), tokens)
        start(talk)
        before = "" if chat else text
        said = stream(talk, ids, tokens, sampling, before=before, show=not json_output)
        values = talk.summary()
    if json_output:
        write_json({"text": said, **values})
    else:
        write("\n")
        print_speed(values)


def start(talk: "Talk") -> None:
    """Start the engine of a talk, and say what a person should know of it."""
    with bars() as progress:
        talk.start(progress)
    if talk.source and talk.source.remark:
        note(talk.source.remark)


def stream(
    talk: "Talk",
    ids: list[int],
    tokens: int,
    sampling: Sampling,
    *,
    before: str = "",
    show: bool = True,
    interrupted: list[int] | None = None,
) -> str:
    """Complete ``ids``, writing as it comes; ``interrupted``: not empty once it shall end."""
    pieces = talk.complete(ids, tokens, sampling)
    with waiting(f"reading {len(ids)} tokens"):
        said = [next(pieces, "")]
    if show:
        write(before + said[0])
    while not interrupted and (piece := next(pieces, None)) is not None:
        said.append(piece)
        if show:
            write(piece)
    pieces.close()
    return "".join(said)


def print_speed(values: dict[str, Any]) -> None:
    """What a generation took here and would take on the chip."""
    chip = values["chip"]
    note(
        f"{values['tokens']} tokens in {values['seconds']:.2f} s on {values['runs_on']}; "
        f"the chip at {chip['clock_hz'] / 1e6:.0f} MHz (assumed): {chip['seconds'] * 1e3:.2f} ms, "
        f"the first token after {chip['prefill_seconds'] * 1e6:,.0f} us, "
        f"{chip['tokens_per_second']:,.0f} tokens/s{energy_words(chip)} (modelled from "
        f"{chip['cycles']:,} exact cycles)"
    )


def energy_words(chip: dict[str, Any]) -> str:
    """What a run takes of energy on the chip, where its target is a process."""
    if chip["joules"] is None:
        return ""
    return f", {chip['joules'] * 1e3:,.3g} mJ on {chip['target']}"


@app.command(epilog="Example: intaglio chat chips/smollm2 --engine rtl")
def chat(
    chip: Chip,
    engine: Engine = "twin",
    adapter: AdapterOption = None,
    model: Model = None,
    tokens: Annotated[int, typer.Option("--tokens", "-n", help="Most tokens of an answer.")] = 256,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
) -> int:
    """Talk to a chip whose model has a chat template.

    An empty line or Ctrl-D ends the talk; Ctrl-C ends an answer.
    """
    from intaglio.flow.package import open_package
    from intaglio.flow.talk import Talk

    sampling = Sampling.of(temperature, top_k, top_p, seed)
    if tokens < 1:
        raise BadInput(f"tokens to generate must be at least 1, not {tokens}")
    package = open_package(chip)
    if package.tokenizer.chat_template is None:
        raise BadInput(f"{chip}: its model has no chat template", hint="use `intaglio generate`")
    code = 0
    messages: list[dict[str, str]] = []
    with Talk(package, engine, adapter=adapter, model=model) as talk:
        start(talk)
        while question := ask("you> "):
            try:
                messages += answer(talk, messages, question, tokens, sampling)
            except IntaglioError as error:
                fail(type(error).__name__, error.message, hint=error.hint)
                code = error.exit_code
    return code


def ask(prompt: str) -> str:
    """One line from the person, empty at the end of the input."""
    try:
        return input(prompt).strip()
    except EOFError:
        write("\n")
        return ""


def answer(
    talk: "Talk",
    messages: list[dict[str, str]],
    question: str,
    tokens: int,
    sampling: Sampling,
) -> list[dict[str, str]]:
    """Let the chip answer; return the question and what was said as messages."""
    asked = {"role": "user", "content": question}
    ids = talk.encode_chat([*messages, asked])
    room = talk.context - len(ids) + 1
    if room < 1:
        raise BadInput(
            f"the conversation is {len(ids)} tokens long, the chip has {talk.context} positions",
            hint="start a new one, ask for less, or compile with a larger --context",
        )
    with interruptible() as interrupted:
        said = stream(
            talk, ids, min(tokens, room), sampling, before="chip> ", interrupted=interrupted
        )
    write("\n")
    print_speed(talk.summary())
    return [asked, {"role": "assistant", "content": said}]


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Yield a list that the first Ctrl-C puts something into; the second is as always."""
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


@app.command(epilog="Example: intaglio evaluate chips/bundled --text your-text.txt")
def evaluate(
    chip: Chip,
    text: Annotated[Path, typer.Option("--text", help="A UTF-8 text the model has not seen.")],
    model: Model = None,
    engine: Engine = "twin",
    adapter: AdapterOption = None,
    window: Annotated[int, typer.Option(help="Tokens per window.")] = 512,
    limit: Annotated[
        int | None, typer.Option(help="Use about so many tokens, in whole windows.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Perplexity and bits per byte on a text, float checkpoint beside chip.

    The package keeps the result, and the text's name and hash, for `intaglio report`.
    """
    from intaglio.flow.evaluate import evaluate_package, keep_evaluation
    from intaglio.flow.package import open_package

    words = read_text(text)
    package = open_package(chip)
    with bars() as progress:
        values = evaluate_package(
            package,
            words,
            name=text.name,
            model=model,
            engine=engine,
            adapter=adapter,
            window=window,
            limit=limit,
            progress=progress,
        )
    keep("evaluation", package, lambda: keep_evaluation(package, values))
    if json_output:
        write_json(values)
        return
    say(f"{values['tokens']:,} tokens, {values['bytes']:,} bytes")
    for name in ("float", "chip"):
        row = values[name]
        say(
            f"  {name:5}  perplexity {row['perplexity']:.3f}  "
            f"bits per byte {row['bits_per_byte']:.4f}"
        )
    say(f"  growth {values['growth_percent']:+.2f} %  ({values['seconds']:.0f} s)")


@app.command(epilog="Example: intaglio demo")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the chip goes.")] = Path(
        "chips/bundled"
    ),
    json_output: Json = False,
) -> int:
    """The whole way on the bundled model: compile, prove, complete code, engrave, report."""
    from intaglio.flow.compile import compile_model
    from intaglio.flow.masks import engrave_package, read_chip
    from intaglio.flow.package import open_package
    from intaglio.flow.talk import Talk
    from intaglio.flow.verify import keep_verdict, verify_package
    from intaglio.report.write import write_report

    with bars() as progress:
        made = compile_model("bundled", output, progress=progress)
        proof = verify_package(made.package, DEFAULT_PROMPT, DEMO_TOKENS, progress=progress)
    keep("verdict", made.package, lambda: keep_verdict(made.package, proof))
    if not json_output:
        print_compiled(output, made)
        print_proof(proof)
        write("\nThe same chip completes code:\n\n")
    with Talk(made.package) as talk:
        ids = talk.encode(DEFAULT_PROMPT)
        before, show = DEFAULT_PROMPT, not json_output
        said = stream(talk, ids, DEMO_TOKENS, Sampling(), before=before, show=show)
        values = talk.summary()
    if not json_output:
        write("\n\n")
        print_speed(values)
    with bars() as progress:
        engraved = engrave_package(open_package(output), progress)
        found = read_chip(output, against=output, progress=progress)
        written = write_report(str(output), progress=progress)
    if json_output:
        write_json({
            **compile_values(output, made), "verify": proof.as_dict(),
            "generate": {"text": said, **values}, "engrave": engraved.as_dict(),
            "read": found.as_dict(), "report": str(written.page),
        })  # fmt: skip
    else:
        say("\nIts model, engraved in one mask layer and read back from those files alone:")
        masks.print_engraving(engraved)
        masks.print_reading(engraved.path, found, against=output)
        say("\nWhat it would be in silicon, for a browser:")
        for line in report.report_lines(written):
            say(line)
        say(f"Talk to its RTL: {sys.argv[0]} generate {output} --prompt 'import ' --engine rtl")
    return 0 if proof.verdict.equal and not found.against else 1


report.add(app)
masks.add(app)
serve.add(app)
bench.add(app)
market.add(app)
