"""The cache: folders and arrays by the hash of everything they were made from."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import intaglio
from intaglio.flow.folder import whole_folder


def cache_folder() -> Path:
    """``INTAGLIO_CACHE``, else ``intaglio`` in the user's cache folder."""
    named = os.environ.get("INTAGLIO_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intaglio"


@cache
def source_hash() -> str:
    """SHA-256 of this package's own sources: another program makes other results."""
    root = Path(intaglio.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".sv", ".cpp", ".yaml", ".txt") and "models" not in path.parts:
            digest.update(str(path.relative_to(root)).encode())
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

    def find(self, key: str) -> Path | None:
        """The folder of ``key``, if it is there."""
        path = self.root / key
        return path if path.is_dir() else None

    @contextmanager
    def make(self, key: str) -> Iterator[Path]:
        """Yield an empty folder to fill for ``key``; it is there once the block ends well."""
        with whole_folder(self.root / key) as folder:
            yield folder

    def drop(self, key: str) -> None:
        """Forget ``key``."""
        shutil.rmtree(self.root / key, ignore_errors=True)


class ArrayStore:
    """Named groups of arrays that an interrupted step left, so that it goes on where it stopped."""

    def __init__(self, key: str) -> None:
        self.root = cache_folder() / "steps" / key

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays kept under ``name``; None where there are none or the file is damaged."""
        path = self._path(name)
        try:
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def put(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep ``arrays`` under ``name``."""
        self.root.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)

    def clear(self) -> None:
        """Forget everything: the step is done."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.root / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
