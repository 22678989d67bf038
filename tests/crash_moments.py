"""Kill a process at every moment at which it touches a file, and look at what it leaves.

Run in a process of its own, without threads, so that it can fork: ``crash_moments(work)`` runs
``work`` in a child that dies at its first such moment, then in one that dies at its second, until
one lives to the end.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TOUCHES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree")


def crash_moments(
    work: Callable[[], object], within: Path, step: int = 1, *, first: int = 1
) -> Iterator[int]:
    """Yield after every death the number of the moment; ``step``: only every so many-th."""
    moment = first
    while not lives(work, within, moment):
        yield moment
        moment += step


def lives(work: Callable[[], object], within: Path, moment: int = 0) -> bool:
    """Run ``work`` in a child that dies at its ``moment``-th touch of a file below ``within``.

    0: never. Work that starts threads must always be done in a child.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            arm(within, moment)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"the child failed at moment {moment}"
    return code == 0


def arm(within: Path, moment: int) -> None:
    """Die at the ``moment``-th touch."""
    left = moment

    def hear(event: str, arguments: tuple) -> None:
        nonlocal left
        if event == "open":
            path, mode, flags = arguments
            touches = bool(flags & WRITING) or "w" in (mode or "") or "x" in (mode or "")
        elif event == "ctypes.dlsym":  # about to exchange two names, or to flush
            path, touches = str(within), arguments[1] in ("renameat2", "syncfs")
        else:
            path, touches = (arguments or ("",))[0], event in TOUCHES
        if touches and str(within) in os.fsdecode(path if isinstance(path, str | bytes) else b""):
            left -= 1
            if left == 0:
                os._exit(9)

    sys.addaudithook(hear)
