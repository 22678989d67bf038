"""Folders that appear whole: replaced in one step, by whoever, killed whenever."""

import errno
import multiprocessing
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from intaglio.flow import folder as folder_module
from intaglio.flow.folder import (
    copy_file,
    exchange,
    file_hash,
    file_hashes,
    files_below,
    make_partial,
    replace_folder,
    restore,
    sweep,
    whole_folder,
)

TESTS = Path(__file__).parent


def fill(path: Path, text: str) -> None:
    with whole_folder(path) as folder:
        (folder / "a").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "b").write_text(text)


def content(path: Path) -> set[str]:
    return {(path / name).read_text() for name in ("a", "deep/b")}


@pytest.fixture(params=["exchange", "two renames"])
def ways(request, monkeypatch):
    """With the system's exchange of names and without."""
    if request.param == "two renames":
        monkeypatch.setattr(folder_module, "exchange", lambda first, second: False)
    return request.param


def test_a_new_folder_and_its_replacement(tmp_path, ways):
    path = tmp_path / "deeper" / "chip"
    fill(path, "first")
    assert content(path) == {"first"}
    fill(path, "second")
    assert content(path) == {"second"}
    assert os.listdir(path.parent) == ["chip"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    path = tmp_path / "chip"
    fill(path, "old")
    with suppress(ZeroDivisionError), whole_folder(path) as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert content(path) == {"old"}
    assert os.listdir(tmp_path) == ["chip"]


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "chip").mkdir()
    fill(tmp_path / "chip", "new")
    assert content(tmp_path / "chip") == {"new"}


def test_permissions_are_those_of_any_new_folder(tmp_path):
    fill(tmp_path / "chip", "x")
    (tmp_path / "other").mkdir()
    assert (tmp_path / "chip").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_exchange_takes_no_name_away(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "of a").touch()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange names")
    assert os.listdir(tmp_path / "b") == ["of a"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "missing")


def test_the_old_name_vanishes_while_it_is_replaced(tmp_path, monkeypatch):
    """Somebody else moves the old folder away between the rename that fails and the exchange."""
    new, path = tmp_path / "new", tmp_path / "chip"
    for place in (new, path):
        place.mkdir()
        (place / "x").write_text(place.name)

    def vanish(first, second):
        os.rename(path, tmp_path / "elsewhere")
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(folder_module, "exchange", vanish)
    replace_folder(new, path)
    assert (path / "x").read_text() == "new"


def test_what_a_killed_process_left_is_swept_and_living_work_is_not(tmp_path):
    path = tmp_path / "chip"
    left = tmp_path / ".chip.0123abcd.partial"
    left.mkdir()
    (left / "half").touch()
    other = tmp_path / ".chip2.0123abcd.partial"
    other.mkdir()
    living, lock = make_partial(path)
    sweep(path)
    assert not left.exists()
    assert living.exists()
    assert other.exists()
    os.close(lock)
    fill(path, "x")
    assert sorted(os.listdir(tmp_path)) == [other.name, "chip"]


def test_a_folder_left_aside_comes_back(tmp_path):
    path = tmp_path / "chip"
    fill(path, "old")
    os.rename(path, tmp_path / ".chip.0123abcd.old")
    restore(path)
    assert content(path) == {"old"}
    (tmp_path / ".chip.0123abcd.old").mkdir()
    restore(path)
    assert os.listdir(tmp_path) == ["chip"]


def test_names_that_look_like_patterns(tmp_path):
    fill(tmp_path / "chip[1]*", "x")
    fill(tmp_path / "chip[1]*", "y")
    assert content(tmp_path / "chip[1]*") == {"y"}
    assert os.listdir(tmp_path) == ["chip[1]*"]


def write_often(path: Path, text: str, count: int) -> None:
    for _ in range(count):
        fill(path, text)


def test_writers_at_the_same_time_and_a_reader(tmp_path):
    """Whoever reads a file of the folder by its name gets one writer's; it is always there."""
    path = tmp_path / "chip"
    fill(path, "first")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_often, args=(path, t, 12)) for t in ("x", "y")]
    for writer in writers:
        writer.start()
    found = set()
    while any(writer.is_alive() for writer in writers):
        assert path.is_dir()
        descriptor = os.open(path, os.O_RDONLY)  # this very folder, whoever replaces it
        try:
            read = set()
            for name in ("a", "deep/b"):
                with open(os.open(name, os.O_RDONLY, dir_fd=descriptor)) as file:
                    read.add(file.read())
            assert len(read) == 1
            found |= read
        except FileNotFoundError:
            pass  # it has been replaced and is being deleted
        finally:
            os.close(descriptor)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert content(path) <= {"x", "y"}
    assert os.listdir(tmp_path) == ["chip"]


CRASHES = """
import os, sys
from pathlib import Path
from crash_moments import crash_moments
from intaglio.flow import folder
from test_flow_folder import content, fill
work, way = Path(sys.argv[1]), sys.argv[2]
if way == "two renames":
    folder.exchange = lambda first, second: False
path, moments = work / "chip", 0
fill(path, "old")
for moment in crash_moments(lambda: fill(path, "new"), work):
    folder.restore(path)
    assert content(path) in ({"old"}, {"new"}), moment
    assert len(list(work.iterdir())) <= 3
    fill(path, "old")
    assert os.listdir(work) == ["chip"], moment
    moments += 1
print(moments)
"""


@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_a_crash_at_any_moment_leaves_the_old_folder_or_the_new(tmp_path, way):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASHES), str(tmp_path), way],
        cwd=TESTS, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 6


def test_hashes_and_copies(tmp_path):
    names = [f"{index}" for index in range(5)]
    for name in names:
        (tmp_path / name).write_text(name * 3)
    assert files_below(tmp_path) == names
    hashes = list(file_hashes(tmp_path / name for name in names))
    assert hashes == [file_hash(tmp_path / name) for name in names]
    assert copy_file(tmp_path / "1", tmp_path / "copy") == hashes[1]
    assert (tmp_path / "copy").read_text() == "111"


def test_folders_of_others_beside_it_are_left(tmp_path):
    path = tmp_path / "chip"
    for name in (".chip.my-backup.old", ".chip.draft.partial", ".chip.0123abcd.old.partial"):
        (tmp_path / name).mkdir()
    restore(path)
    sweep(path)
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 3


def test_an_error_that_names_nothing_names_the_folder(tmp_path):
    """As writing to a full disk does."""
    with pytest.raises(OSError, match="No space left on device") as caught:  # noqa: SIM117
        with whole_folder(tmp_path / "chip"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "chip")
    assert not list(tmp_path.iterdir())
