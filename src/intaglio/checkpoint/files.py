"""The files of a checkpoint: kept inside their folder, parsed strictly, hashed without names."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from intaglio.errors import BadCheckpoint

CHUNK = 1 << 20


def inside(folder: Path, name: str) -> Path:
    """Give the path of file ``name`` of ``folder``; refuse a name or a link that leaves the folder.

    The one exception is the Hugging Face cache, whose snapshots are links into the ``blobs``
    folder of the same model.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
        raise BadCheckpoint(f"{folder.name}: file name must stay in the folder, not {name!r}")
    path = folder / name
    if not path.is_file():
        raise BadCheckpoint(f"{folder.name}: {name} must be a file and is missing")
    home = folder.resolve()
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    if not any(path.resolve().is_relative_to(allowed) for allowed in homes):
        raise BadCheckpoint(
            f"{folder.name}: {name} is a link that leaves the folder",
            hint="copy the folder with its links resolved: cp -rL",
        )
    return path


def read_text(path: Path) -> str:
    """Read a UTF-8 file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadCheckpoint(f"{path.name} must be UTF-8 text: {error}") from None


def parse_json(text: str | bytes, label: str) -> dict[str, Any]:
    """Parse a JSON object; a duplicate key, NaN and Infinity are errors that name ``label``."""
    try:
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{label} must be valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise BadCheckpoint(f"{label} must be a JSON object, not {type(values).__name__}")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object."""
    return parse_json(read_text(path), path.name)


def check_name(name: str, label: str) -> str:
    """Pass a name of a tensor or key on; refuse one that would not print on one line."""
    if not name.isprintable():
        raise BadCheckpoint(f"{label}: names must be printable, not {name[:40]!r}")
    return name


def one_line(error: Exception) -> str:
    """Put the text of another package's error on one line."""
    return " ".join(str(error).split())


def sha256(paths: Iterable[Path]) -> str:
    """Hash the bytes of ``paths``, in order, each with its length; no name and no time enters."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        _update(digest, path)
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hash one file, as ``sha256sum`` does."""
    digest = hashlib.sha256()
    _update(digest, path)
    return digest.hexdigest()


def _update(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(n for n in names if names.count(n) > 1)!r}")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
