"""The command line: parses, calls, prints."""

import os
import sys

import typer

from intaglio.cli.commands import app
from intaglio.cli.screen import NobodyReads, fail
from intaglio.errors import IntaglioError

INTERRUPTED, NOBODY_READS = 130, 141

__all__ = ["app", "main"]


def main() -> None:
    """Run a command; whatever ends it becomes one line on stderr and an exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(run())


def run() -> int:
    """The exit code of the command in ``sys.argv``."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:
            fail("interrupted", "", hint="what compile has finished is kept: run it again to go on")
        return code
    except IntaglioError as error:
        fail(type(error).__name__, error.message, hint=error.hint)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", "", hint="what compile has finished is kept: run it again to go on")
        return INTERRUPTED
    except (NobodyReads, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        fail("system", f"{place}{error.strerror or error}")
        return 2
    except Exception as error:
        usage = getattr(error, "format_message", None)  # what the parser of arguments raises
        if usage is None:
            raise
        fail("usage", usage(), hint="add --help")
        return 2
