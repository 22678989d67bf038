"""Folders that appear whole or not at all, and hashes of what is in them."""

import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty sibling of ``path`` to fill; it takes the name when the block ends well.

    An old folder of that name is replaced in one step: at any moment the name holds either the old
    folder or the new one. Where the block fails nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    os.chmod(temporary, 0o755)
    try:
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Give ``new`` the name ``path``; what had it, if anything, is then called ``new``."""
    if not path.exists():
        os.rename(new, path)
    elif not exchange(new, path):
        # no exchange on this file system: the name is free for the time between two renames
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
        os.rename(path, aside / "folder")
        os.rename(new, path)
        os.rename(aside / "folder", new)
        aside.rmdir()


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names atomically; False where the system cannot."""
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


def write_whole(path: Path, text: str) -> None:
    """Write a text file by a temporary sibling and a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below ``folder``, by its path within, in order."""
    return {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
