"""One run of the program: its command, and what ends it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import typer

from intaglio.cli.codes import FAILED, INTERRUPTED, NOBODY_READS
from intaglio.cli.commands import app
from intaglio.cli.screen import NobodyReads, fail
from intaglio.errors import IntaglioError

KEPT = "what compile has finished is kept: run it again to go on"
SOON = 0.02  # seconds
KEEPING = ("compile", "demo")  # the commands of which that is true


def run(interrupt: Any) -> int:
    """The exit code of the command in ``sys.argv``; ``interrupt``: the handler of SIGINT for it."""
    try:
        with no_interrupt_lost():
            signal.signal(signal.SIGINT, interrupt)
            code = app(standalone_mode=False) or 0
        return interrupted() if code == INTERRUPTED else code
    except IntaglioError as error:
        tell(type(error).__name__, error.message, hint=error.hint)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return interrupted()
    except (NobodyReads, BrokenPipeError):
        return NOBODY_READS
    except SystemExit as end:  # Rich's answer to a pipe that nobody reads
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return NOBODY_READS
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        tell("system", f"{place}{error.strerror or error}")
        return FAILED
    except Exception as error:
        if from_interrupt(error):
            return interrupted()
        usage = getattr(error, "format_message", None)  # what the parser of arguments raises
        if usage is None:
            raise
        tell("usage", usage(), hint="add --help")
        return FAILED


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Where Python has to drop an interrupt, as in a destructor, it comes once more soon after."""
    before = sys.unraisablehook

    def hear(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            main = threading.main_thread().ident
            threading.Timer(SOON, signal.pthread_kill, [main, signal.SIGINT]).start()
        else:
            before(dropped)

    sys.unraisablehook = hear
    try:
        yield
    finally:
        sys.unraisablehook = before


def from_interrupt(error: BaseException | None) -> bool:
    """Whether an error is what a module in C made of an interrupt."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def interrupted() -> int:
    """Say so, and what the command in ``sys.argv`` has kept."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    tell("interrupted", "", hint=KEPT if command in KEEPING else "")
    return INTERRUPTED


def tell(kind: str, message: str, *, hint: str = "") -> None:
    """Print an error; where stderr does not take it, the exit code alone must say it."""
    with suppress(OSError):
        fail(kind, message, hint=hint)


def flushed(code: int) -> int:
    """The exit code, which is not 0 where something that was written is lost."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            discard(stream)
            code = code or (NOBODY_READS if isinstance(error, BrokenPipeError) else FAILED)
    return code


def discard(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere, so that Python does not stumble over it at last."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
