"""What people see: bars and errors on stderr, results on stdout."""

import errno
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


class Screen(Console):
    """Rich's console on stderr; that nobody reads is for whoever prints to hear."""

    def on_broken_pipe(self) -> None:
        """Raise what Rich would make an exit of."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE), "standard error")


screen = Screen(stderr=True, highlight=False)
CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def fail(kind: str, message: str, *, hint: str = "") -> None:
    """Print an error as one line, and one more with what to do about it."""
    line = Text.assemble((kind, "bold red"), f": {one_line(message)}" if message else "")
    screen.print(line, soft_wrap=True)
    if hint:
        screen.print(Text(f"  hint: {one_line(hint)}"), soft_wrap=True)


def note(text: str) -> None:
    """Print a remark on stderr."""
    screen.print(Text(text, "dim"), soft_wrap=True)


def one_line(text: str) -> str:
    """Text without line ends and without characters that would steer the terminal."""
    return " ".join(text.split()).translate(CONTROLS)


@contextmanager
def bars() -> Iterator[Any]:
    """Yield a ``progress(step, share, detail)`` that shows one bar per step.

    Where stderr is no terminal: a line when a step begins and when it ends.
    """
    if not screen.is_terminal:
        yield Lines()
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}[/]"),
    )  # fmt: skip
    with Progress(*columns, console=screen) as shown:
        tasks: dict[str, TaskID] = {}

        def show(step: str, share: float, detail: str) -> None:
            if step not in tasks:
                tasks[step] = shown.add_task(step, total=1.0, detail="")
            shown.update(tasks[step], completed=share, detail=detail)

        yield show


LOOKING = "looking for the fastest chip"


@contextmanager
def step(name: str) -> Iterator[None]:
    """Show a step that cannot say how far it is."""
    with bars() as progress:
        progress(name, 0, "")
        yield
        progress(name, 1, "")


class Lines:
    """Steps as lines, for logs."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}

    def __call__(self, step: str, share: float, detail: str) -> None:
        if step not in self.started:
            self.started[step] = time.monotonic()
            if share < 1:
                screen.print(Text(f"{step} ..."), soft_wrap=True)
        if share >= 1:
            seconds = time.monotonic() - self.started.pop(step)
            screen.print(Text(f"{step}: done in {seconds:.1f} s"), soft_wrap=True)


def waiting(text: str) -> Any:
    """A context that shows ``text`` with a spinner, on a terminal."""
    return screen.status(Text(text)) if screen.is_terminal else nullcontext()


class NobodyReads(Exception):
    """Whoever read stdout went away."""


def write(text: str) -> None:
    """Write a piece of text at once; on a terminal, without what would steer it."""
    try:
        sys.stdout.write(text.translate(CONTROLS) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise NobodyReads from None
    except OSError as error:  # the disk is full
        raise OSError(error.errno, error.strerror, "standard output") from None


def say(text: str) -> None:
    """Write a line."""
    write(f"{text}\n")


def write_json(values: dict[str, Any]) -> None:
    """Write one JSON object; what is not a finite number becomes null."""
    say(json.dumps(finite(values), allow_nan=False))


def finite(value: Any) -> Any:
    """The value with null for every number that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
