"""The text of the shipped adapter: the C headers of CPython, and its split.

Every installation of Python has them. As in :mod:`corpus`, the split depends on nothing but a
file's path relative to the folder of headers.
"""

import hashlib
import sysconfig
from pathlib import Path

HELD_OUT_SHARE = 0.1
FOLDERS = ("", "cpython/", "internal/")
BY_BUILD = "pyconfig.h"  # differs from machine to machine


def is_held_out(path: str) -> bool:
    """Say whether the header at ``path`` (relative, with ``/``) is held out."""
    first = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
    return first < HELD_OUT_SHARE * 2**32


def headers(root: Path | None = None) -> dict[str, str]:
    """Return path and text of each header of CPython, sorted by path."""
    root = root or Path(sysconfig.get_path("include"))
    found = (path for folder in FOLDERS for path in (root / folder).glob("*.h"))
    paths = {path.relative_to(root).as_posix(): path for path in found if path.name != BY_BUILD}
    return {name: paths[name].read_text("utf-8") for name in sorted(paths)}


def held_out(root: Path | None = None) -> dict[str, str]:
    """Return the headers that no adapter was trained on."""
    return {name: text for name, text in headers(root).items() if is_held_out(name)}


def training(root: Path | None = None) -> dict[str, str]:
    """Return the headers to train on."""
    return {name: text for name, text in headers(root).items() if not is_held_out(name)}
