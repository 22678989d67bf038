"""``intaglio serve`` as a process, for tests."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tiny_chip import environment

PROGRAM = [sys.executable, str(Path(__file__).with_name("tiny_chip.py")), "serve", "chip"]
KEY = "secret"


class Running(NamedTuple):
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def serving(home: Path, *words: str, log: int = subprocess.PIPE) -> Iterator[Running]:
    """Serve the package ``chip`` of a folder; the process is killed at the end.

    ``log``: where its lines go; a pipe that nobody reads holds some hundreds of them.
    """
    process = subprocess.Popen(
        [*PROGRAM, "--port", "0", "--api-key", KEY, *words], cwd=home, text=True,
        env={**environment(), "INTAGLIO_CACHE": str(home / "cache")},
        stdout=subprocess.PIPE, stderr=log, preexec_fn=hear_interrupts,
    )  # fmt: skip
    killer = threading.Timer(300, process.kill)
    killer.start()
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.fullmatch(r"chip at (http://127\.0\.0\.1:\d+)/v1 on the twin \(.*\)\n", line)
        assert found, line
        hint = f"{found[1]} in a browser shows its speed; Ctrl-C stops it\n"
        assert process.stdout.readline() == hint
        yield Running(process, found[1])
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def hear_interrupts() -> None:
    """As in a terminal: a background job's interrupts would be ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
