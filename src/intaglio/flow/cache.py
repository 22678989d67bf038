"""The cache: folders and arrays by the hash of everything they were made from."""

import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

import intaglio
from intaglio.errors import BadInput
from intaglio.flow.folder import PARTIAL, sweep, whole_folder
from intaglio.flow.progress import Progress

MAKERS = (  # the parts of this program that decide what is made
    "architecture.py", "checkpoint", "flow", "golden", "hardware", "plan", "quantize", "targets",
)  # fmt: skip
SUFFIXES = (".py", ".sv", ".yaml", ".txt")
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def cache_folder() -> Path:
    """``INTAGLIO_CACHE``, else ``intaglio`` in the user's cache folder; deleting it is safe."""
    named = os.environ.get("INTAGLIO_CACHE")
    if named:
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intaglio"


@cache
def source_hash(makers: tuple[str, ...] = MAKERS) -> str:
    """SHA-256 of this program's own sources: another program makes other results."""
    root = Path(intaglio.__file__).parent
    digest = hashlib.sha256()
    for name in makers:
        for path in sorted([root / name, *(root / name).rglob("*")]):
            if path.suffix in SUFFIXES:
                digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(**parts: Any) -> str:
    """The hash that names a result made from ``parts`` (JSON values) by this program."""
    text = json.dumps({"source": source_hash(), **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """Results of one kind, each a folder named by its key; complete or absent."""

    def __init__(self, kind: str) -> None:
        self.root = cache_folder() / kind
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"{self.root}: the cache cannot be made: {error.strerror}",
                hint="set INTAGLIO_CACHE to a folder that can be written",
            ) from None

    def find(self, key: str) -> Path | None:
        """The folder of ``key``, if it is there."""
        path = self.root / key
        return path if path.is_dir() else None

    @contextmanager
    def locked(self, key: str, show: Progress) -> Iterator[None]:
        """Keep other processes from making or dropping ``key``; wait for one that does."""
        with (self.root / f".{key}.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                step = "waiting for another process that makes the same"
                show(step, 0, "")
                fcntl.flock(file, fcntl.LOCK_EX)
                show(step, 1, "")
            except OSError:
                pass  # a file system without locks: the work is done twice, with one result
            yield

    @contextmanager
    def make(self, key: str) -> Iterator[Path]:
        """Yield an empty folder to fill for ``key``; it is there once the block ends well."""
        self._sweep()
        with whole_folder(self.root / key) as folder:
            yield folder

    def drop(self, key: str) -> None:
        """Forget ``key``."""
        shutil.rmtree(self.root / key, ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what killed processes left of any result."""
        for folder in self.root.glob(f".*{PARTIAL}"):
            sweep(folder.with_name(folder.name[1:].split(".")[0]))


class ArrayStore(MutableMapping[str, dict[str, np.ndarray]]):
    """Named groups of arrays that outlive an interrupted step, which then goes on where it stopped.

    A file that is damaged counts as absent.
    """

    def __init__(self, key: str) -> None:
        self.root = cache_folder() / "steps" / key
        self._known: dict[str, dict[str, np.ndarray]] = {}

    def __getitem__(self, name: str) -> dict[str, np.ndarray]:
        if name not in self._known:
            try:
                with (
                    self._path(name).open("rb") as stream,
                    np.load(stream, allow_pickle=False) as file,
                ):
                    self._known[name] = {key: file[key] for key in file.files}
            except UNREADABLE:
                raise KeyError(name) from None
        return self._known[name]

    def __setitem__(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        temporary = path.with_suffix(f".{os.getpid()}{PARTIAL}")
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)
        self._known[name] = arrays

    def __delitem__(self, name: str) -> None:
        self[name]
        del self._known[name]
        self._path(name).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[str]:
        return (unquote(path.stem) for path in sorted(self.root.glob("*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Forget everything: the step is done."""
        self._known.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.root / f"{quote(name, safe='')}.npz"
