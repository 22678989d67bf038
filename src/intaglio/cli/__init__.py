"""The command line: parses, calls, prints."""

import os
import signal
import sys

# what takes longer to import waits for `main`, which hears an interrupt meanwhile
from intaglio.cli.codes import INTERRUPTED

__all__ = ["main"]


def main() -> None:
    """Run a command; whatever ends it becomes one line on stderr and an exit code."""
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # else interrupts are ignored, or somebody's
        signal.signal(signal.SIGINT, end_at_once)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    from intaglio.cli.program import flushed, run

    sys.exit(flushed(run(interrupt)))


def end_at_once(number: int, frame: object) -> None:
    """Hear an interrupt while modules are imported, when there is nothing to put in order yet.

    An exception might be lost there: modules in C turn it into another one or drop it.
    """
    try:
        os.write(sys.stderr.fileno(), b"interrupted\n")
    except (OSError, AttributeError):
        pass  # nobody reads
    finally:
        os._exit(INTERRUPTED)
