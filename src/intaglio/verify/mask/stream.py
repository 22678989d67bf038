"""Layout files of many placements, read in bulk: the plain part of OASIS (SEMI P39).

A file is read here where it holds cells by number, single rectangles and single upright placements,
compressed or not. Any other record makes :func:`read_stream` answer None: a general reader then
says what it is. That reader makes an object of each placement, which takes ten times as long.
"""

import zlib
from dataclasses import dataclass

import numba
import numpy as np

MAGIC = b"%SEMI-OASIS\r\n\x01\x031.0"
TABLES = 13  # bytes: where tables of names are, all 0
END, END_BYTES = 2, 256  # the last record
OFFSETS = 12  # numbers: where tables of names are, in the last record instead
NUMBERS = (1, 1, 1, 1, 2, 2)  # that a real number has, by its kind; others are floats
FLOATS = {6: 4, 7: 8}  # bytes
NONE, CRC32, SUM32 = 0, 1, 2  # kinds of checksums
ENDED, BLOCK, OTHER = 0, 1, 2
# what the scanner goes on from: places and sizes that the next record may leave out
CELL, RELATIVE, PLACED, X, Y, LEFT, LOW, LAYER, KIND, WIDE, HIGH, NAMES, AT = range(13)
LIMIT = 1 << 40  # of a number
MOST = 1 << 26  # bytes of a compressed record


@dataclass(frozen=True, eq=False)
class Stream:
    """``names``: of cells, by number. ``squares``: int64 [rectangles, 7], cell, layer, datatype,
    left, low, width, height; ``placements``: int64 [placements, 4], cell, cell placed, x, y;
    lengths in nm."""

    names: list[str]
    squares: np.ndarray
    placements: np.ndarray


@numba.njit(cache=True)
def number(data, at):  # pragma: no cover
    """An unsigned integer and where it ends; -1 where it is none."""
    value, shift = 0, 0
    while at < len(data) and shift < 42:
        byte = np.int64(data[at])
        value |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return value, at
    return -1, at


@numba.njit(cache=True)
def moved(data, at, before, relative):  # pragma: no cover
    """A coordinate given by a signed integer, where that ends, and whether it is one."""
    value, at = number(data, at)
    step = -(value >> 1) if value & 1 else value >> 1
    return (before + step if relative else step), at, value >= 0


@numba.njit(cache=True)
def scan(data, state, squares, placements, names):  # pragma: no cover
    """Read records from ``state[AT]`` on until a block or the end; what stopped, and counts."""
    made, put, at, right = 0, 0, state[AT], True
    while at < len(data) and right:
        record = data[at]
        if record == 34 or record == 2:
            state[AT] = at
            return (BLOCK if record == 34 else ENDED), made, put
        at += 1
        if record == 0:
            continue
        if record == 3:
            length, at = number(data, at)
            right = 0 < length <= len(data) - at
            names[state[NAMES], 0], names[state[NAMES], 1] = at, length
            at += length
            state[NAMES] += 1
        elif record == 13:
            state[CELL], at = number(data, at)
            right = state[CELL] >= 0
            state[RELATIVE] = state[X] = state[Y] = state[LEFT] = state[LOW] = 0
            state[PLACED] = state[LAYER] = state[KIND] = state[WIDE] = state[HIGH] = -1
        elif record == 15 or record == 16:
            state[RELATIVE] = record - 15
        elif record == 17 and at < len(data):
            flags = data[at]
            at += 1
            right = flags & 0x0F == 0 and (flags & 0xC0 == 0xC0 or flags & 0xC0 == 0)
            if flags & 0x80:
                state[PLACED], at = number(data, at)
            fine = True
            if flags & 0x20:
                state[X], at, fine = moved(data, at, state[X], state[RELATIVE])
                right &= fine
            if flags & 0x10:
                state[Y], at, fine = moved(data, at, state[Y], state[RELATIVE])
                right &= fine
            right &= state[PLACED] >= 0 and state[CELL] >= 0
            placements[put, 0], placements[put, 1] = state[CELL], state[PLACED]
            placements[put, 2], placements[put, 3] = state[X], state[Y]
            put += 1
        elif record == 20 and at < len(data):
            flags = data[at]
            at += 1
            right = flags & 0x04 == 0 and not (flags & 0x80 and flags & 0x20)
            for bit, place in ((0x01, LAYER), (0x02, KIND), (0x40, WIDE), (0x20, HIGH)):
                if flags & bit:
                    state[place], at = number(data, at)
            if flags & 0x80:
                state[HIGH] = state[WIDE]
            fine = True
            if flags & 0x10:
                state[LEFT], at, fine = moved(data, at, state[LEFT], state[RELATIVE])
                right &= fine
            if flags & 0x08:
                state[LOW], at, fine = moved(data, at, state[LOW], state[RELATIVE])
                right &= fine
            right &= min(state[CELL], state[LAYER], state[KIND], state[WIDE], state[HIGH]) >= 0
            squares[made, 0], squares[made, 1], squares[made, 2] = (
                state[CELL], state[LAYER], state[KIND],
            )  # fmt: skip
            squares[made, 3], squares[made, 4] = state[LEFT], state[LOW]
            squares[made, 5], squares[made, 6] = state[WIDE], state[HIGH]
            made += 1
        else:
            right = False
    state[AT] = at
    return (ENDED if right else OTHER), made, put


def read_stream(raw: bytes) -> Stream | None:
    """The rectangles and placements of a file's bytes, None where it holds anything else."""
    unit, at = unit_of(raw)
    if unit is None or any(raw[at : at + TABLES]):
        return None
    state = np.full(13, -1, np.int64)
    state[[RELATIVE, X, Y, LEFT, LOW, NAMES]], state[AT] = 0, at + TABLES
    data = np.frombuffer(raw, np.uint8)
    found: list[tuple[list[str], np.ndarray, np.ndarray]] = []
    while (stop := read_part(data, state, found)) == BLOCK:
        inner, after = inflated(raw, int(state[AT]))
        if inner is None:
            return None
        state[AT] = 0
        if read_part(np.frombuffer(inner, np.uint8), state, found) != ENDED:
            return None
        if state[AT] != len(inner):
            return None
        state[AT] = after
    if stop == OTHER or state[AT] + END_BYTES != len(raw):
        return None
    scale = np.array([1, 1, 1, unit, unit, unit, unit])
    names = [name for part in found for name in part[0]]
    squares, placements = (np.concatenate([part[at] for part in found]) for at in (1, 2))
    known = len(names)
    if (
        len({*names}) < known
        or max(squares[:, 0].max(initial=0), placements[:, :2].max(initial=0)) >= known
    ):
        return None
    if np.abs(squares).max(initial=0) > LIMIT or np.abs(placements).max(initial=0) > LIMIT:
        return None
    return Stream(names, squares * scale, placements * scale[1:5])


def read_part(data: np.ndarray, state: np.ndarray, found: list) -> int:
    """Scan so far as it goes, and keep what was found."""
    most = (len(data) - int(state[AT])) // 2 + 1  # a record takes two bytes or more
    squares, placements = np.empty((most, 7), np.int64), np.empty((most, 4), np.int64)
    named, state[NAMES] = np.empty((most, 2), np.int64), 0
    stop, made, put = scan(data, state, squares, placements, named)
    spans = named[: state[NAMES]].tolist()
    names = [data[at : at + size].tobytes().decode("latin-1") for at, size in spans]
    found.append((names, squares[:made], placements[:put]))
    return stop


def unit_of(raw: bytes) -> tuple[int | None, int]:
    """The unit of lengths in nm, None where it is no whole number, and where the tables follow."""
    at = len(MAGIC)
    if raw[:at] != MAGIC or len(raw) < at + TABLES + 3 or raw[at] not in (0, 4):
        return None, at
    data, over = np.frombuffer(raw[: at + 40], np.uint8), 1
    kind = raw[at]
    steps, at = number(data, at + 1)
    if kind == 4:
        over, at = number(data, at)
    if steps <= 0 or over <= 0 or 1000 * over % steps:
        return None, at
    return int(1000 * over // steps), int(at)


def inflated(raw: bytes, at: int) -> tuple[bytes | None, int]:
    """A compressed record's content, None where it is damaged, and where the next record is."""
    data = np.frombuffer(raw, np.uint8)
    size, after = number(data, at + 2)
    packed, after = number(data, after)
    if (
        raw[at + 1 : at + 2] != b"\0"
        or not 0 <= size <= MOST
        or not 0 <= packed <= len(raw) - after
    ):
        return None, after
    opened = zlib.decompressobj(-15)
    try:
        inner = opened.decompress(raw[after : after + packed], int(size) + 1)
    except zlib.error:
        return None, after
    whole = len(inner) == size and opened.eof and not opened.unused_data
    return (inner if whole else None), int(after + packed)


def is_whole(raw: bytes) -> bool:
    """Whether a file begins and ends as OASIS does."""
    at = len(raw) - END_BYTES
    return raw[: len(MAGIC)] == MAGIC and at > len(MAGIC) + FLOATS[7] and raw[at] == END


def has_checksum(raw: bytes) -> bool | None:
    """Whether the checksum of a whole file is right; None where it has none."""
    data, at = np.frombuffer(raw, np.uint8), len(MAGIC) + 1
    kind, place = raw[at - 1], len(raw) - END_BYTES + 1
    at += FLOATS.get(kind, 0)
    for _ in range(NUMBERS[kind] if kind < len(NUMBERS) else 0):
        at = number(data, at)[1]
    if data[at : at + 1].any():
        for _ in range(OFFSETS):
            place = number(data, place)[1]
    size, more = 0, place  # of the padding; zeros ahead of a number may be padding too
    while more < len(raw) and raw[more] & 128:
        more += 1
    for byte in reversed(raw[place : more + 1]):
        size = size << 7 | byte & 127
    place = more + 1 + size
    if place == len(raw) - 1 and raw[place] == NONE:
        return None
    if place != len(raw) - 5 or raw[place] not in (CRC32, SUM32):
        return False
    found = zlib.crc32(raw[:-4]) if raw[place] == CRC32 else int(data[:-4].sum(dtype=np.uint32))
    return found == int.from_bytes(raw[-4:], "little")
