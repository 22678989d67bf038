"""Stages after compile, put into a package: small files beside the manifest, or a folder.

At any moment, even if the machine stops, the package is whole: a stage leaves the manifest before
its files change and comes back when the new ones are there. Unlisted files beside the manifest are
no part of a package, so what an interrupted stage left is ignored.
"""

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from intaglio.errors import BadPackage
from intaglio.flow.folder import named, whole_folder
from intaglio.flow.package import (
    FOLDERS,
    LATER,
    MANIFEST,
    RESTING,
    Package,
    manifest_text,
    read_manifest,
    stage_entry,
)

PARTIAL = ".partial"


def put_stage(
    package: Package,
    name: str,
    files: Mapping[str, bytes],
    options: dict[str, Any],
    tools: dict[str, str],
    figures: dict[str, Any],
) -> Package:
    """Write a stage's files and its entry; the package with it.

    ``name`` and the names of ``files`` are those of ``LATER``. The stages that rest on what it
    said leave the package, unless nothing changes. Raises :class:`BadPackage` where another
    chip has taken the folder meanwhile, ``OSError`` where it cannot be written.
    """
    if tuple(files) != LATER[name]:
        raise ValueError(f"files of stage {name} must be {LATER[name]}, not {tuple(files)}")
    hashes = {key: hashlib.sha256(content).hexdigest() for key, content in files.items()}
    entry = {"files": hashes, "options": options, "tools": tools, "figures": figures}
    with locked(package.path):
        manifest = read_manifest(package.path)
        if manifest["stages"]["compile"] != package.manifest["stages"]["compile"]:
            raise BadPackage(f"{package.path}: another chip has been compiled there meanwhile")
        if manifest["stages"].get(name) == entry and holds_files(package.path, files):
            return Package(package.path, manifest)
        stages = manifest["stages"]
        after = (name, *RESTING[name])
        kept = {key: stage for key, stage in stages.items() if key not in after}
        if kept != stages:
            write_whole(package.path / MANIFEST, bytes_of({**manifest, "stages": kept}))
        for stale in after:
            for file in LATER[stale]:
                (package.path / file).unlink(missing_ok=True)
        for file, content in files.items():
            write_whole(package.path / file, content)
        manifest = {**manifest, "stages": {**kept, name: entry}}
        write_whole(package.path / MANIFEST, bytes_of(manifest))
    return Package(package.path, manifest)


def bytes_of(manifest: dict[str, Any]) -> bytes:
    """The manifest as it is written."""
    return manifest_text(manifest).encode()


def holds_files(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether the files are in ``folder`` with that content."""
    try:
        return all((folder / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all: a sibling that takes its name."""
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with sibling.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        sibling.replace(path)
    except OSError as error:
        raise named(error, path) from None
    finally:
        sibling.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One stage at a time, where the file system can; what killed ones left is removed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        names = [MANIFEST, *(name for files in LATER.values() for name in files)]
        mine = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.[0-9a-f]{{8}}\.partial")
        for path in folder.iterdir():
            if mine.fullmatch(path.name):
                path.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def put_folder(
    package: Package,
    name: str,
    fill: Callable[[Path], dict[str, Any]],
    options: dict[str, Any],
    tools: dict[str, str],
) -> Package:
    """Write a stage that is a folder of its own, and its entry.

    ``name``: of ``FOLDERS``. ``fill`` writes the files to an empty folder and returns the entry's
    figures. The package is whole throughout, as by :func:`put_stage`; other stages stay.
    """
    if name not in FOLDERS:
        raise ValueError(f"name must be one of {FOLDERS}, not {name!r}")
    with locked(package.path):
        manifest = read_manifest(package.path)
        if manifest["stages"]["compile"] != package.manifest["stages"]["compile"]:
            raise BadPackage(f"{package.path}: another chip has been compiled there meanwhile")
        kept = {key: stage for key, stage in manifest["stages"].items() if key != name}
        with whole_folder(package.path / name) as folder:
            figures = fill(folder)
            entry = stage_entry(folder, options, tools, figures)
            entry["files"] = {f"{name}/{file}": found for file, found in entry["files"].items()}
            if kept != manifest["stages"]:
                write_whole(package.path / MANIFEST, bytes_of({**manifest, "stages": kept}))
        manifest = {**manifest, "stages": {**kept, name: entry}}
        write_whole(package.path / MANIFEST, bytes_of(manifest))
    return Package(package.path, manifest)
