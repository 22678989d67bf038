"""The cache: results by what they were made from, complete or absent, made once."""

import multiprocessing
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from intaglio.errors import BadInput
from intaglio.flow import cache
from intaglio.flow.cache import ArrayStore, Store, cache_folder, key_of
from intaglio.flow.progress import silent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))


def test_where_it_is(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("INTAGLIO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_folder() == tmp_path / "user" / "intaglio"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/intaglio")


def test_a_cache_that_cannot_be_made_is_an_error_with_a_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"^.*/file/packages: the cache cannot be made: .*INTAGLIO_"):
        Store("packages")


def test_keys_depend_on_every_part_and_on_the_program(monkeypatch):
    first = key_of(bits=4.0, text="a")
    assert first == key_of(text="a", bits=4.0)
    assert len({first, key_of(bits=4.5, text="a"), key_of(bits=4.0, text="b")}) == 3
    monkeypatch.setattr(cache, "source_hash", lambda *_: "another program")
    assert key_of(bits=4.0, text="a") != first


def test_makers_are_there():
    root = Path(cache.__file__).parents[1]
    assert [name for name in cache.MAKERS if not (root / name).exists()] == []


def test_a_result_is_there_once_it_is_complete():
    store = Store("things")
    with suppress(ZeroDivisionError), store.make("k") as folder:
        (folder / "half").touch()
        raise ZeroDivisionError
    assert store.find("k") is None
    with store.make("k") as folder:
        assert list(folder.iterdir()) == []
        (folder / "x").touch()
    assert store.find("k") == cache_folder() / "things" / "k"
    store.drop("k")
    assert store.find("k") is None


def test_what_killed_processes_left_of_any_result_is_swept():
    store = Store("things")
    (store.root / ".other.0123abcd.partial").mkdir()
    with store.make("k"):
        pass
    assert os.listdir(store.root) == ["k"]


def hold(started: str, seconds: float) -> None:
    with Store("things").locked("k", silent):
        Path(started).touch()
        time.sleep(seconds)


def test_the_second_process_waits_and_says_so(tmp_path):
    started = tmp_path / "started"
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(str(started), 1.0))
    other.start()
    while not started.exists():
        time.sleep(0.01)
    steps = []
    with Store("things").locked("k", lambda step, share, detail: steps.append((step, share))):
        other.join(0.5)
        assert not other.is_alive()
    other.join()
    step = "waiting for another process that makes the same"
    assert steps == [(step, 0), (step, 1)]
    steps.clear()
    with Store("things").locked("other", lambda *step: steps.append(step)):
        assert steps == []


def arrays(value: int) -> dict[str, np.ndarray]:
    return {"levels": np.full((2, 3), value, np.int8), "empty": np.zeros(0, bool)}


def test_arrays_outlive_the_process_and_are_the_same():
    ArrayStore("k")["layers.0.q"] = arrays(1)
    ArrayStore("k")["a/b c"] = arrays(2)
    again = ArrayStore("k")
    assert sorted(again) == ["a/b c", "layers.0.q"]
    assert len(again) == 2
    assert "layers.0.q" in again
    for name, array in arrays(1).items():
        found = again["layers.0.q"][name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)
    assert again["layers.0.q"] is again["layers.0.q"]
    assert "layers.0.q" not in ArrayStore("another")
    again.clear()
    assert "layers.0.q" not in again
    assert len(ArrayStore("k")) == 0


def test_delete_an_array():
    store = ArrayStore("k")
    store["x"] = arrays(1)
    del store["x"]
    assert "x" not in store
    assert "x" not in ArrayStore("k")
    with pytest.raises(KeyError, match="x"):
        del store["x"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text", "pickle"])
def test_a_damaged_array_counts_as_absent(damage):
    ArrayStore("k")["x"] = {"levels": np.arange(1000)}
    (path,) = (cache_folder() / "steps" / "k").glob("*.npz")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    if damage == "pickle":
        with path.open("wb") as stream:
            np.savez(stream, levels=np.array([{}], object))  # pyright: ignore[reportArgumentType]
        data = bytearray(path.read_bytes())
    path.write_bytes(
        {"truncate": bytes(data[:-30]), "empty": b"", "text": b"hello"}.get(damage, bytes(data))
    )
    assert "x" not in ArrayStore("k")
    store = ArrayStore("k")
    store["x"] = arrays(3)
    assert ArrayStore("k")["x"]["levels"][0, 0] == 3


def test_keys_are_plain_json():
    with pytest.raises(TypeError):
        key_of(path=Path("x"))
