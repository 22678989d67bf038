"""A layout file is whole, or not there."""

import gdstk
import pytest

from intaglio.layout.library import is_whole, write_library


def library() -> gdstk.Library:
    made = gdstk.Library("some", unit=1e-6, precision=1e-9)
    cell = made.new_cell("cell")
    cell.add(*(gdstk.rectangle((x, 0), (x + 0.5, 1), layer=x % 7) for x in range(300)))
    return made


class Cut:
    """A library whose files are cut short, as on a full disk."""

    def __init__(self, content: bytes) -> None:
        self.write_oas = self.write_gds = lambda path, **_: path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".oas", ".gds"])
def test_a_file_is_whole_or_not_there(tmp_path, suffix):
    path = tmp_path / f"some{suffix}"
    write_library(library(), path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    read = (gdstk.read_oas if suffix == ".oas" else gdstk.read_gds)(path)
    [cell] = read.top_level()
    assert isinstance(cell, gdstk.Cell)
    assert len(cell.polygons) == 300
    content = path.read_bytes()
    for size in range(0, len(content), max(len(content) // 50, 1)):
        path.write_bytes(content[:size])
        assert not is_whole(path)
        with pytest.raises(OSError, match="written in part only"):
            write_library(Cut(content[:size]), tmp_path / f"other{suffix}")  # type: ignore[arg-type]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_same_library_is_the_same_file(tmp_path):
    for suffix in (".oas", ".gds"):
        for name in ("a", "b"):
            write_library(library(), tmp_path / f"{name}{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
