"""Folders that appear whole or not at all, and hashes of what is in them."""

import ctypes
import errno
import fcntl
import glob
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100
PARTIAL, OLD = ".partial", ".old"
CHUNK = 1 << 20
HASHERS = 2
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty sibling of ``path`` to fill; it takes the name when the block ends well.

    An old folder of that name is replaced in one step: at any moment, even if the machine stops,
    the name holds either the old folder or the new one. Where the block fails nothing is left
    behind; what a killed process left, the next one to make the same folder removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    restore(path)
    sweep(path)
    temporary, lock = make_partial(path)
    try:
        yield temporary
        flush(temporary)
        replace_folder(temporary, path)
    except OSError as error:
        raise named(error, path) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def named(error: OSError, path: Path) -> OSError:
    """An error of the system with what was to be written, where it names nothing: a full disk."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, error.strerror, str(path))


def make_partial(path: Path) -> tuple[Path, int]:
    """Make an empty sibling of ``path``, locked as long as the descriptor is open."""
    while True:
        folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        folder.mkdir()
        lock = lock_folder(folder)
        # a sweep of another process may have come between the two
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:
            os.close(lock)


def lock_folder(folder: Path) -> int | None:
    """Lock a folder, where the file system can; None where somebody else has the lock."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass  # a file system without locks
    return descriptor


def sweep(path: Path) -> None:
    """Delete the unfinished siblings of ``path`` that no living process works on."""
    for folder in siblings(path, PARTIAL):
        lock = lock_folder(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def siblings(path: Path, ending: str) -> list[Path]:
    """Folders that this module put beside ``path``, by the random digits in their names."""
    mine = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(ending)}")
    found = path.parent.glob(f".{glob.escape(path.name)}.*{ending}")
    return sorted(folder for folder in found if mine.fullmatch(folder.name))


def replace_folder(new: Path, path: Path) -> None:
    """Give ``new`` the name ``path``; what had it, if anything, is then called ``new``."""
    while True:
        try:
            os.rename(new, path)  # the name is free, or an empty folder
            return
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        try:
            if not exchange(new, path):
                replace_by_two_renames(new, path)
            return
        except OSError as error:  # somebody else has just taken it away, or put another there
            if error.errno not in (errno.ENOENT, *TAKEN):
                raise


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    arguments = (AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE)
    if rename(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def replace_by_two_renames(new: Path, path: Path) -> None:
    """Like :func:`exchange`; :func:`restore` mends what a crash between the two leaves."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{OLD}")
    os.rename(path, aside)
    os.rename(new, path)
    with suppress(OSError):  # `restore` in another process may have deleted it
        os.rename(aside, new)


def restore(path: Path) -> None:
    """Where a crash left the old folder of a missing ``path`` aside, bring it back."""
    for aside in siblings(path, OLD):
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with suppress(OSError):
                os.rename(aside, path)


def flush(folder: Path) -> None:
    """Bring everything written on the folder's file system to the disk, so that a name given after
    it never names less."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_hashes(paths: Iterable[Path]) -> Iterator[str]:
    """SHA-256 of files, in order; two at a time."""
    with ThreadPoolExecutor(HASHERS) as pool:
        yield from pool.map(file_hash, paths)


def copy_file(source: Path, to: Path) -> str:
    """Copy a file's bytes; return their SHA-256."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, to.open("xb") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def files_below(folder: Path) -> list[str]:
    """Every file below ``folder`` by its path within, with ``/``, in order."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
