"""OASIS: the programmable layer of a tile, written in bulk from codes.

There is a small cell for every code, or for every pair of codes of one row above the other, and a
row is a series of placements (SEMI P39): the same few bytes from column to column but for the
cell's number. A list of a row's contacts on each line, by their gaps, would say 1.35 bits per code
more than the codes do (8 lines), and its heads 0.6. Here the bytes that do not change, and pairs of
columns that stood like this before, are copies of the compressed stream (CBLOCK,
:mod:`intaglio.layout.deflate`). Nothing but the contacts is in the file: no date, no name of a
model."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from intaglio.layout.deflate import LEAST, LONGEST, WINDOW, Tokens, deflate

MAGIC = b"%SEMI-OASIS\r\n"
START, END, NAME, CELL, RELATIVE, PLACEMENT, RECTANGLE, CBLOCK = 1, 2, 3, 13, 16, 17, 20, 34
SQUARE = 0x80 | 0x40 | 0x10 | 0x08 | 0x02 | 0x01  # width, x, y, datatype and layer are given
AGAIN = 0x10 | 0x08  # x and y
NEXT, NEXT_ROW = bytes([PLACEMENT, 0xE0]), bytes([PLACEMENT, 0xF0])  # cell number, x; and y
END_BYTES, CRC32 = 256, 1  # of the last record; how the file is validated
NUMBERS = 128  # of cells, in one byte
BLOCK_PLACES = 1 << 18
ALIKE = ("bottoms", "left", "slots", "column", "line", "lines", "side")  # of a file's tiles
KEYS = 1 << 16  # that sort fast


@dataclass(frozen=True, eq=False)
class Contacts:
    """One square per column and row, on the line that the code names; lengths in nm.

    ``codes``: uint8 [rows, columns], an even number of rows. ``bottoms``: int64 [rows], lower end
    of a contact on line 0; from an even row to the next it is always as far. ``slots``: int64
    [columns], ascending, how many times ``column`` each is from ``left``.
    """

    codes: np.ndarray
    bottoms: np.ndarray
    left: int
    slots: np.ndarray
    column: int
    line: int
    lines: int
    side: int


@dataclass(frozen=True, eq=False)
class Places:
    """Placements of a tile's cells: ``cells`` int64 [rows, columns], ``bottoms`` int64 [rows],
    ``steps`` int64 [columns] from the column before; the first leads back from a row's end."""

    cells: np.ndarray
    bottoms: np.ndarray
    steps: np.ndarray


def unsigned(value: int) -> bytes:
    """An OASIS unsigned integer: seven bits to a byte, the low ones first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """An OASIS signed integer: the sign in the lowest bit."""
    return unsigned(abs(value) << 1 | (value < 0))


def text(value: str) -> bytes:
    """An OASIS string."""
    return unsigned(len(value)) + value.encode("ascii")


def units(unit: int) -> bytes:
    """How many units of so many nm a micrometre has, a ratio where it is no whole number."""
    if 1000 % unit == 0:
        return b"\0" + unsigned(1000 // unit)
    return b"\4" + unsigned(1000) + unsigned(unit)


def write_contacts(
    tiles: Mapping[str, Contacts], layer: tuple[int, int], grid: int
) -> Iterator[bytes]:
    """An OASIS file of one cell for each of some equal tiles, by its name, with nothing but its
    contacts below it, piece by piece; at its end the checksum that the format has for it.

    ``grid``: nm that divide every length. The file's unit is the longest length that does: the
    shorter its numbers, the more columns are within reach of a copy.
    """
    checksum = 0
    for piece in records(tiles, layer, grid):
        checksum = zlib.crc32(piece, checksum)
        yield piece
    padding = END_BYTES - 1 - 2 - 1 - 4  # record, length of the padding, validation, checksum
    end = bytes([END]) + unsigned(padding) + bytes(padding) + bytes([CRC32])
    yield end + zlib.crc32(end, checksum).to_bytes(4, "little")


def records(tiles: Mapping[str, Contacts], layer: tuple[int, int], grid: int) -> Iterator[bytes]:
    """All of a file but its end."""
    unit, made = in_units(joined([*tiles.values()]), grid)
    stack, used, numbers = cells_of(made)
    yield MAGIC + bytes([START]) + text("1.0") + units(unit) + bytes(13)
    yield cblock(b"".join(definitions([*tiles], made, stack, used, layer)))
    steps = np.diff(made.slots, prepend=made.slots[-1]) * made.column
    places = Places(numbers, made.bottoms[::stack], steps)
    left = made.left + int(made.slots[0]) * made.column
    yield from blocks(places, left, len(numbers) // len(tiles), len(used))


def joined(tiles: list[Contacts]) -> Contacts:
    """Tiles as one, their rows one after the other; each row is as far up as in its own tile."""
    first = tiles[0]
    for other in tiles[1:]:
        same = other.codes.shape == first.codes.shape and all(
            np.array_equal(getattr(other, name), getattr(first, name)) for name in ALIKE
        )
        if not same:
            raise ValueError("tiles of a file must be equal but for their codes")
    return replace(
        first,
        codes=np.concatenate([tile.codes for tile in tiles]),
        bottoms=np.concatenate([tile.bottoms for tile in tiles]),
    )


def in_units(contacts: Contacts, grid: int) -> tuple[int, Contacts]:
    """The longest unit that divides every length, and the same in it."""
    lengths = {
        name: getattr(contacts, name) for name in ("bottoms", "left", "column", "line", "side")
    }
    unit = int(np.gcd.reduce(np.concatenate([np.ravel(length) for length in lengths.values()])))
    if unit % grid:
        raise ValueError(f"contacts must lie on a grid of {grid} nm")
    return unit, replace(contacts, **{name: each // unit for name, each in lengths.items()})


def cells_of(contacts: Contacts) -> tuple[int, list[int], np.ndarray]:
    """Rows of a cell, the cells that occur, by their codes as one number, and each place's cell."""
    stack = 2 if contacts.lines**2 <= NUMBERS else 1
    wanted = contacts.codes[::stack].astype(np.int64)
    if stack == 2:
        if len(set(np.diff(contacts.bottoms)[::2].tolist())) != 1:
            raise ValueError("rows must stand in pairs, all as far from each other")
        wanted += contacts.codes[1::2].astype(np.int64) * contacts.lines
    used = np.flatnonzero(np.bincount(wanted.reshape(-1)))
    number = np.zeros(int(used[-1]) + 1, np.int64)
    number[used] = np.arange(len(used))
    return stack, used.tolist(), number[wanted]


def definitions(
    names: list[str], contacts: Contacts, stack: int, used: list[int], layer: tuple[int, int]
) -> Iterator[bytes]:
    """The cells' names, the last of them ``names``, and the contacts in each but those.

    A name says how many lines there are and which of them have a contact.
    """
    split = [[each % contacts.lines, each // contacts.lines][:stack] for each in used]
    for codes in split:
        yield bytes([NAME]) + text("_".join(["code", *map(str, [contacts.lines, *codes])]))
    for name in names:
        yield bytes([NAME]) + text(name)
    square = unsigned(layer[0]) + unsigned(layer[1]) + unsigned(contacts.side)
    for number, codes in enumerate(split):
        yield bytes([CELL]) + unsigned(number)
        for row, code in enumerate(codes):
            y = int(contacts.bottoms[row] - contacts.bottoms[0]) + code * contacts.line
            head = bytes([RECTANGLE, AGAIN]) if row else bytes([RECTANGLE, SQUARE]) + square
            yield head + signed(0) + signed(y)


def cblock(raw: bytes, packed: bytes = b"") -> bytes:
    """Records as one compressed record. ``packed``: them compressed, if they are already."""
    if not packed:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = squeeze.compress(raw) + squeeze.flush()
    return bytes([CBLOCK, 0]) + unsigned(len(raw)) + unsigned(len(packed)) + packed


def blocks(places: Places, left: int, each: int, number: int) -> Iterator[bytes]:
    """Compressed placements of some rows each. ``left``: of the first column. ``each``: rows of a
    tile. ``number``: of the first tile's cell."""
    rows, columns = places.cells.shape
    step = max(BLOCK_PLACES // columns, 1)
    jumps, back = np.diff(places.bottoms, prepend=0), np.full(rows, places.steps[0])
    jumps[::each], back[::each] = places.bottoms[::each], left  # a cell begins at 0, 0
    heads = [signed(x) + signed(y) for x, y in zip(back.tolist(), jumps.tolist(), strict=True)]
    leads = [NEXT_ROW] * rows
    for tile in range(rows // each):
        start = bytes([CELL]) + unsigned(number + tile) + bytes([RELATIVE])
        leads[tile * each] = start + NEXT_ROW
    for start in range(0, rows, step):
        part = slice(start, start + step)
        size, tokens = tokens_of(places.cells[part], places.steps, heads[part], leads[part])
        packed = deflate(tokens)
        yield bytes([CBLOCK, 0]) + unsigned(size) + unsigned(len(packed)) + packed


def tokens_of(
    cells: np.ndarray, steps: np.ndarray, heads: list[bytes], leads: list[bytes]
) -> tuple[int, Tokens]:
    """Rows of placements as tokens, and how many bytes they stand for.

    A placement counts from its cell's number to where the next one's is due: number, x, and the
    next record's head. ``heads``: x and y of each row's first. ``leads``: what comes before each
    row's first number.
    """
    rows, columns = cells.shape
    ahead, first = [signed(x) for x in steps.tolist()], leads[0]
    tails = [*leads[1:], b""]
    widths = np.empty((rows, columns), np.int64)
    widths[:] = [1 + len(x) + len(NEXT) for x in ahead]
    widths[:, 0] += np.array([len(head) for head in heads]) - len(ahead[0])
    widths[:, -1] += np.array([len(tail) for tail in tails]) - len(NEXT)
    inner = np.arange(columns) < columns - 1
    inner[0] = False
    usual = int(steps[1:].min(initial=1 << 30))
    width = 1 + len(signed(usual)) + len(NEXT)
    regular = inner & (steps == usual) & (width <= LONGEST)
    number, offsets = cells.reshape(-1), np.cumsum(widths) - widths.reshape(-1)
    copied, source = copies(number, np.tile(regular, rows), offsets, width)
    at = visited(np.maximum(copied, 1))
    row, column = np.divmod(at, columns)

    copied, source = copied[at], source[at]
    apart = offsets[at] - offsets[np.maximum(at - columns, 0)]
    above = (copied == 0) & (row > 0) & (apart <= WINDOW) & (widths[row, column] <= LONGEST)
    above &= (column > 0) | alike(heads)[row]
    above &= (column < columns - 1) | alike(tails)[row]
    above &= widths[row, column] > LEAST
    length = copied * width + np.where(above, widths[row, column] - 1, 0)
    distance = np.where(copied > 0, offsets[at] - offsets[source], np.where(above, apart, 0))
    plain = length == 0
    times = np.where(plain, widths[row, column], 1)
    ends = np.cumsum(times) + len(first)
    made = Tokens(*(np.zeros(int(ends[-1]), np.int64) for _ in range(3)))
    made.literal[: len(first)] = list(first)
    begin = ends - times
    made.literal[begin] = np.where(copied > 0, -1, number[at])
    made.length[begin], made.distance[begin] = length, distance
    for each in np.flatnonzero(plain).tolist():
        j = int(column[each])
        raw = (ahead[j] if j else heads[int(row[each])]) + (
            tails[int(row[each])] if j == columns - 1 else NEXT
        )
        made.literal[begin[each] + 1 : ends[each]] = list(raw[: int(times[each]) - 1])
    return int(widths.sum()) + len(first), made


def alike(each: list[bytes]) -> np.ndarray:
    """Where a row has the same as the one before."""
    return np.array([False, *[one == other for one, other in pairwise(each)]])


def copies(
    number: np.ndarray, regular: np.ndarray, offsets: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each place, how many places from it on stand somewhere before as well, and where: the
    most of up to three, the nearest of those. 0 where there are none within reach."""
    most = int(number.max(initial=0)) + 1
    length, source = np.zeros(len(number), np.int64), np.zeros(len(number), np.int64)
    key, fit = np.zeros(len(number), np.int32), np.ones(len(number), bool)
    for times in range(1, min(3, LONGEST // width) + 1):
        if most**times > KEYS:
            break
        ahead = min(times - 1, len(number))
        key *= most
        key[: len(key) - ahead] += number[ahead:].astype(np.int32)
        fit[: len(fit) - ahead] &= regular[ahead:]
        fit[len(fit) - ahead :] = False
        place = np.flatnonzero(fit)
        own = key[place].astype(np.uint16)
        order = np.argsort(own, kind="stable")
        same = np.flatnonzero(own[order[1:]] == own[order[:-1]])
        later, before = place[order[same + 1]], place[order[same]]
        near = offsets[later] - offsets[before] <= WINDOW
        length[later[near]], source[later[near]] = times, before[near]
    return length, source


def visited(steps: np.ndarray) -> np.ndarray:
    """The places that one comes to from the first by these steps, ascending."""
    end = len(steps)
    jump = np.append(np.minimum(np.arange(end) + steps, end), end).astype(np.int32)
    seen = np.zeros(1, np.int32)
    while seen[-1] < end:  # twice as many in every round
        seen = np.concatenate([seen, jump[seen]])
        jump = jump[jump]
    return seen[: np.searchsorted(seen, end)].astype(np.int64)
