"""OASIS: the programmable layer of a tile, written in bulk from codes.

A row's contacts on one line are one rectangle record with a repetition: the columns between one
contact and the next (SEMI P39, repetition type 5). Records are compressed (CBLOCK). Nothing but the
contacts is in the file: no date, no name of a model. The unit is the process' grid, so that most
numbers take one byte.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

MAGIC = b"%SEMI-OASIS\r\n"
START, END, CELL, RELATIVE, RECTANGLE, CBLOCK = 1, 2, 14, 16, 20, 34
W, H, X, Y, R, D, L = 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01
SQUARE = 0x80
END_BYTES = 256
BLOCK_ROWS = 1 << 9
BLOCK_CELLS = 1 << 22


@dataclass(frozen=True, eq=False)
class Contacts:
    """One square per column and row, on the line that the code names; lengths in nm.

    ``codes``: uint8 [rows, columns]. ``bottoms``: int64 [rows], lower end of a contact on line 0.
    ``slots``: int64 [columns], ascending, how many times ``column`` each is from ``left``.
    """

    codes: np.ndarray
    bottoms: np.ndarray
    left: int
    slots: np.ndarray
    column: int
    line: int
    lines: int
    side: int


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


def write_contacts(
    cell: str, contacts: Contacts, layer: tuple[int, int], grid: int
) -> Iterator[bytes]:
    """An OASIS file of one cell with nothing but the contacts, piece by piece.

    ``grid``: nm that divide every length.
    """
    yield MAGIC + bytes([START]) + text("1.0") + b"\0" + unsigned(1000 // grid) + bytes(13)
    yield bytes([CELL]) + text(cell)
    yield from blocks(in_units(contacts, grid), layer)
    padding = END_BYTES - 1 - 2 - 1  # record, length of the padding, validation
    yield bytes([END]) + unsigned(padding) + bytes(padding) + b"\0"


def in_units(contacts: Contacts, grid: int) -> Contacts:
    """The same, lengths in units of ``grid``."""
    lengths = {
        name: getattr(contacts, name) for name in ("bottoms", "left", "column", "line", "side")
    }
    if any(np.any(length % grid) for length in lengths.values()):
        raise ValueError(f"contacts must lie on a grid of {grid} nm")
    return replace(contacts, **{name: length // grid for name, length in lengths.items()})


def blocks(contacts: Contacts, layer: tuple[int, int]) -> Iterator[bytes]:
    """Compressed records of some rows each."""
    rows, columns = contacts.codes.shape
    step = max(min(BLOCK_ROWS, BLOCK_CELLS // columns), 1)
    place = (0, 0)
    head = bytes([RELATIVE])
    first = unsigned(layer[0]) + unsigned(layer[1]) + unsigned(contacts.side)
    for start in range(0, rows, step):
        body, place, first = records(contacts, slice(start, start + step), place, first)
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
        raw = head + body
        packed = squeeze.compress(raw) + squeeze.flush()
        yield bytes([CBLOCK, 0]) + unsigned(len(raw)) + unsigned(len(packed)) + packed
        head = b""


def records(
    contacts: Contacts, part: slice, place: tuple[int, int], first: bytes
) -> tuple[bytes, tuple[int, int], bytes]:
    """Records of some rows; where the next is counted from; what the first of all still needs."""
    codes = contacts.codes[part]
    order = contacts.slots[np.argsort(codes, axis=1, kind="stable")]
    gaps = np.diff(order, axis=1, prepend=0)
    small = np.where(gaps < 128, gaps, 0).astype(np.uint8)
    counts = np.stack([(codes == line).sum(1) for line in range(contacts.lines)], 1)
    ends = np.cumsum(counts, 1)
    grid = unsigned(contacts.column)
    out: list[bytes] = []
    x, y = place
    heads = np.take_along_axis(order, np.minimum(ends - counts, codes.shape[1] - 1), 1).tolist()
    bottoms, columns = contacts.bottoms[part].tolist(), contacts.column
    wide = (gaps.max(1) > 127).tolist()
    rows = zip(counts.tolist(), ends.tolist(), heads, bottoms, strict=True)
    for row, (row_counts, row_ends, row_heads, bottom) in enumerate(rows):
        squares = small[row].tobytes()
        for line, (count, end) in enumerate(zip(row_counts, row_ends, strict=True)):
            if not count:
                continue
            to = contacts.left + row_heads[line] * columns, bottom + line * contacts.line
            flags = X | Y | (R if count > 1 else 0) | (SQUARE | W | D | L if first else 0)
            out.append(bytes([RECTANGLE, flags]) + first + signed(to[0] - x) + signed(to[1] - y))
            (x, y), first = to, b""
            if count == 1:
                continue
            out.append(b"\5" + unsigned(count - 2) + grid)
            begin = end - count + 1
            if wide[row] and gaps[row, begin:end].max() > 127:
                out.extend(unsigned(gap) for gap in gaps[row, begin:end].tolist())
            else:
                out.append(squares[begin:end])
    return b"".join(out), (x, y), first
