"""The command ``serve``: the chip's twin behind OpenAI's API."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.screen import bars, note, say
from intaglio.errors import BadInput

if TYPE_CHECKING:  # what a command needs it imports itself, so that --help comes at once
    from intaglio.serve.served import Served


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Example: intaglio serve chips/bundled --adapter c-headers")(serve)


def serve(
    chip: Annotated[Path, typer.Argument(help="A chip package, made by `intaglio compile`.")],
    host: Annotated[
        str, typer.Option(envvar="INTAGLIO_HOST", help="Address to listen at.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="INTAGLIO_PORT", help="Port; 0 takes one that is free.")
    ] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="INTAGLIO_API_KEY", help="A key that clients must have; repeat it."),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            envvar="INTAGLIO_ADAPTER", help="NAME=DIR, a PEFT LoRA folder, or c-headers; repeat it."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(envvar="INTAGLIO_NAME", help="The model's name; default: the package's."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="INTAGLIO_MODEL",
            help="The float checkpoint, which adapters are quantized beside.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(envvar="INTAGLIO_THREADS", help="Threads of the twin; default all."),
    ] = None,
    max_running: Annotated[
        int, typer.Option(envvar="INTAGLIO_MAX_RUNNING", help="Sequences that run together.")
    ] = 64,
    max_waiting: Annotated[
        int, typer.Option(envvar="INTAGLIO_MAX_WAITING", help="Sequences that may wait for them.")
    ] = 1024,
) -> None:
    """Serve a chip's twin by OpenAI's API: completions, chats, their streams and logprobs.

    A browser at its address shows the chip's speed beside a GPU's. Ctrl-C ends it: answers that
    run have ten seconds to end. What is supported, and what is refused: docs/serve.md.
    """
    if not 0 <= port < 1 << 16:
        raise BadInput(f"port must be from 0 to 65535, not {port}")
    if max_running < 1 or max_waiting < 0:
        raise BadInput("--max-running must be at least 1, --max-waiting at least 0")
    keys = api_key or []
    if not all(keys):
        raise BadInput("an API key must not be empty")
    from intaglio.serve.app import make_app
    from intaglio.serve.server import listen, url_of
    from intaglio.serve.server import serve as run

    limits = {"threads": threads, "most_running": max_running, "most_waiting": max_waiting}
    served = open_served(chip, adapter or [], model, name, limits)
    listening = listen(host, port)
    if not keys and not host.startswith(("127.", "localhost", "::1")):
        note("no --api-key: whoever reaches this address can use it")

    def ready() -> None:
        url = url_of(listening)
        say(f"{served.name} at {url}/v1 on the twin ({served.twin.engine})")
        say(f"{url} in a browser shows its speed; Ctrl-C stops it")

    run(make_app(served, keys=keys), served.engine, listening, ready)


def open_served(
    chip: Path,
    adapters: list[str],
    model: str | None,
    name: str | None,
    limits: dict[str, int | None],
) -> "Served":
    """The chip and its adapters, loaded."""
    from intaglio.flow.adapters import open_adapter
    from intaglio.flow.package import open_package
    from intaglio.serve.served import Served

    package = open_package(chip)
    with bars() as progress:
        opened = [
            open_adapter(package, given, model=model, progress=progress) for given in adapters
        ]
    return Served(package, opened, name=name, **limits)
