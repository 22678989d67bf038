"""The text of the bundled models: the Python standard library's own source, and its split.

The split depends on nothing but a file's path relative to the library, so it is the same for
every version of Python, every platform and every order of reading. Code that evaluates a bundled
model must use :func:`held_out`: no model was ever trained on those files.
"""

import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

HELD_OUT_SHARE = 0.05
NOT_LIBRARY = {"site-packages", "dist-packages", "__pycache__", "pydoc_data"}
TESTS = {"test", "tests", "idle_test"}


def is_held_out(path: str) -> bool:
    """Say whether the file at ``path`` (relative to the library, with ``/``) is held out."""
    first = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
    return first < HELD_OUT_SHARE * 2**32


def is_library(path: str) -> bool:
    """Say whether ``path`` is the library's source: not packages, build output or tests."""
    parts = path.split("/")
    made_by_build = parts[0].startswith(("_sysconfigdata", "config-"))
    return not (set(parts) & (NOT_LIBRARY | TESTS) or made_by_build)


def is_test(path: str) -> bool:
    """Say whether ``path`` belongs to the library's test packages."""
    parts = set(path.split("/"))
    return bool(parts & TESTS) and not parts & NOT_LIBRARY


def library_root() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def _files(root: Path) -> Iterator[tuple[str, str]]:
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    for name in sorted(paths):
        try:
            text = paths[name].read_bytes().decode("utf-8")
        except UnicodeDecodeError:  # a few test files are in other encodings on purpose
            continue
        if text:
            yield name, text


def held_out(root: Path | None = None) -> dict[str, str]:
    """Return path and text of each held-out library file, sorted by path (no tests)."""
    files = _files(root or library_root())
    return {name: text for name, text in files if is_library(name) and is_held_out(name)}


def training(root: Path | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the training files: the library's, and those of its test packages.

    A test file whose own path falls under the held-out threshold is left out as well.
    """
    library, tests = {}, {}
    for name, text in _files(root or library_root()):
        if is_held_out(name):
            continue
        if is_library(name):
            library[name] = text
        elif is_test(name):
            tests[name] = text
    return library, tests
