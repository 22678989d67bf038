"""The command ``bench``: how fast the twin is here, or how a server answers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from intaglio.cli.screen import bars, say, write_json
from intaglio.errors import BadInput


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Example: intaglio bench chips/bundled --batch 1,8 --threads 1,2")(bench)


def bench(
    chip: Annotated[
        Path | None, typer.Argument(help="A chip package, made by `intaglio compile`.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            help="Lengths of prompts. [default: 512, or what a server holds]",
        ),
    ] = None,
    tokens: Annotated[str, typer.Option("--tokens", "-n", help="Lengths generated.")] = "128",
    batch: Annotated[str, typer.Option("--batch", "-b", help="Sequences together.")] = "1",
    threads: Annotated[
        str, typer.Option("--threads", "-t", help="Numbers of threads; default all processors.")
    ] = "",
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", help="Runs of each.")] = 5,
    serve: Annotated[
        str | None,
        typer.Option(help="Measure the server at this URL instead, as `vllm bench serve` does."),
    ] = None,
    requests: Annotated[int, typer.Option(help="With --serve: how many.")] = 100,
    concurrency: Annotated[
        int | None, typer.Option(help="With --serve: how many together; default all.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="With --serve: requests a second, at random times; default all at once."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --serve: the model; default the first it lists.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="INTAGLIO_API_KEY", help="With --serve: the server's key.")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """How fast the twin is here: prompt (pp) and generation (tg), as llama-bench measures.

    With --serve URL: how any server of OpenAI's API answers many clients at once, every one with a
    prompt of --prompt random tokens that wants --tokens more.
    """
    if (chip is None) == (serve is None):
        raise BadInput("bench needs a chip package or --serve URL, one of them")
    if serve is not None:
        from intaglio.serve.measure import Load

        prompts = None if prompt is None else numbers(prompt, "--prompt")
        counts = numbers(tokens, "--tokens")
        if len(prompts or "1") != 1 or len(counts) != 1:
            raise BadInput("with --serve, --prompt and --tokens must be one length each")
        load = Load(requests, prompts[0] if prompts else None, counts[0], rate, concurrency)
        values = of_server(serve, load, name, (api_key or "").split(), json_output)
    else:
        assert chip
        lengths = "512" if prompt is None else prompt
        values = of_package(chip, lengths, tokens, batch, threads, repetitions, json_output)
    if json_output:
        write_json(values)


def of_server(
    url: str, load: Any, model: str | None, keys: list[str], quiet: bool
) -> dict[str, Any]:
    """Measure a server; print it unless ``quiet``."""
    from intaglio.serve.measure import measure_server, table

    with bars() as progress:
        values = measure_server(
            url, load, model=model, key=keys[0] if keys else None, progress=progress
        )
    if not quiet:
        for line in table(values):
            say(line)
    if not values["completed"]:
        raise BadInput(f"{url}: no request had an answer: {values['first_error']}")
    return values


def of_package(
    chip: Path, prompt: str, tokens: str, batch: str, threads: str, repetitions: int, quiet: bool
) -> dict[str, Any]:
    """Measure a package's twin; print it unless ``quiet``."""
    from intaglio.flow.bench import bench_package
    from intaglio.flow.package import open_package

    with bars() as progress:
        values = bench_package(
            open_package(chip),
            prompts=numbers(prompt, "--prompt"),
            generated=numbers(tokens, "--tokens"),
            batches=numbers(batch, "--batch"),
            threads=numbers(threads, "--threads"),
            repetitions=repetitions,
            progress=progress,
        )
    if not quiet:
        show(values)
    return values


def show(values: dict[str, Any]) -> None:
    """Print the rows."""
    say(
        f"{values['engine']}: {values['weight_bytes'] / 1e6:,.1f} MB of weights, "
        f"{values['sequence_bytes'] / 1e6:,.1f} MB per sequence"
    )
    say("test    batch  threads     tokens/s")
    for row in values["tests"]:
        say(
            f"{row['test']:<7} {row['batch']:5}  {row['threads']:7}  "
            f"{row['tokens_per_second']:11,.0f} ± {row['sd']:,.0f}"
        )


def numbers(text: str, option: str) -> list[int]:
    """Integers from ``1,2,4``."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadInput(f"{option} must be integers with commas between, not {text!r}") from None
