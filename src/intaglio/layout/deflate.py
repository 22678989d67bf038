"""DEFLATE streams (RFC 1951) put together from tokens, many at a time.

The writer of masks knows where a stream repeats, so it chooses literals and copies itself; this
module gives them Huffman codes and packs the bits. A token is one literal, one copy, or a literal
followed by a copy.
"""

import heapq
from dataclasses import dataclass

import numpy as np

END, FIRST_LENGTH = 256, 257
LENGTHS, DISTANCES = 286, 30
LEAST = 3  # bytes of a copy
LONGEST = 18  # that a copy may be: longer ones would need more than one extra bit
WINDOW = 32768
LIMIT, HEADER_LIMIT = 15, 7  # bits of a code
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


@dataclass(frozen=True, eq=False)
class Tokens:
    """``literal``: int64, -1 for none. ``length``: int64, of a copy, 3 to LONGEST; 0 for none.
    ``distance``: int64, how far back it is from, 1 to WINDOW."""

    literal: np.ndarray
    length: np.ndarray
    distance: np.ndarray


def code_lengths(counts: list[int], limit: int) -> list[int]:
    """Bits of a Huffman code's words, at most ``limit``, 0 for what does not occur."""
    used = [symbol for symbol, count in enumerate(counts) if count]
    lengths = [0] * len(counts)
    if len(used) < 2:  # a lone symbol takes one bit
        for symbol in used:
            lengths[symbol] = 1
        return lengths
    heap: list[tuple[int, int, tuple[int, ...]]] = [(counts[each], each, (each,)) for each in used]
    heapq.heapify(heap)
    while len(heap) > 1:
        (low, _, one), (high, tie, other) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in one + other:
            lengths[symbol] += 1
        heapq.heappush(heap, (low + high, tie, one + other))
    if max(lengths) > limit:
        return code_lengths([(count + 1) // 2 for count in counts], limit)
    return lengths


def code_words(lengths: list[int]) -> np.ndarray:
    """The canonical words of such a code, first bit lowest: uint64."""
    words = np.zeros(len(lengths), np.uint64)
    word = 0
    for bits in range(1, LIMIT + 1):
        word <<= 1
        for symbol, length in enumerate(lengths):
            if length == bits:
                words[symbol] = int(f"{word:0{bits}b}"[::-1], 2)
                word += 1
    return words


def length_codes(length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Code of each length, how many extra bits follow, and their value."""
    extra = (length > 10).astype(np.int64)
    beyond = np.maximum(length - 3, 0)
    return FIRST_LENGTH + np.where(extra, 8 + (beyond - 8 >> 1), beyond), extra, beyond & extra


def distance_codes(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Code of each distance, how many extra bits follow, and their value."""
    beyond = distance - 1
    top = np.frexp(np.maximum(beyond, 1).astype(np.float32))[1].astype(np.int64) - 1
    extra = np.maximum(top - 1, 0)
    code = np.where(beyond < 2, beyond, 2 * top + (beyond >> extra & 1))
    return code, extra, beyond & (1 << extra) - 1


def deflate(tokens: Tokens) -> bytes:
    """One block of tokens and the end of the stream."""
    plain, copied = tokens.literal >= 0, tokens.length > 0
    symbols, longer, rest = length_codes(tokens.length)
    code, extra, value = distance_codes(np.where(copied, tokens.distance, 1))
    counts = np.bincount(tokens.literal[plain], minlength=LENGTHS)
    counts += np.bincount(symbols[copied], minlength=LENGTHS)
    counts[END] += 1
    far = np.bincount(code[copied], minlength=DISTANCES)
    lengths = [code_lengths(each.tolist(), LIMIT) for each in (counts, far)]
    if not any(lengths[1]):
        lengths[1][0] = 1  # some readers want one distance code even where there is no copy
    words = [code_words(each) for each in lengths]
    bits = [np.array(each, np.int64) for each in lengths]

    packed = np.where(plain, words[0][tokens.literal], 0)
    size = np.where(plain, bits[0][tokens.literal], 0)
    for more, wide in (
        (words[0][symbols], bits[0][symbols]),
        (rest.astype(np.uint64), longer),
        (words[1][code], bits[1][code]),
        (value.astype(np.uint64), extra),
    ):
        packed |= np.where(copied, more << size.astype(np.uint64), 0)
        size = size + np.where(copied, wide, 0)
    first, first_size = header(lengths[0], lengths[1])
    pieces = [
        (first >> at & 0xFFFFFFFF, min(32, first_size - at)) for at in range(0, first_size, 32)
    ]
    ahead = np.array(pieces, np.uint64)
    last = [words[0][END]], [bits[0][END]]
    return pack(
        np.concatenate([ahead[:, 0], packed, np.array(last[0], np.uint64)]),
        np.concatenate([ahead[:, 1].astype(np.int64), size, np.array(last[1], np.int64)]),
    )


def header(lengths: list[int], distances: list[int]) -> tuple[int, int]:
    """The head of a last block with its own codes: its bits as one number, and how many."""
    both = lengths + distances
    sizes = code_lengths([both.count(bits) for bits in range(LIMIT + 1)] + [0, 0, 0], HEADER_LIMIT)
    words = code_words(sizes)
    sent = len(ORDER)
    while sent > 4 and not sizes[ORDER[sent - 1]]:
        sent -= 1
    fields = [(0b101, 3), (len(lengths) - 257, 5), (len(distances) - 1, 5), (sent - 4, 4)]
    fields += [(sizes[symbol], 3) for symbol in ORDER[:sent]]
    fields += [(int(words[bits]), sizes[bits]) for bits in both]
    value = at = 0
    for word, bits in fields:
        value |= word << at
        at += bits
    return value, at


def pack(values: np.ndarray, sizes: np.ndarray) -> bytes:
    """Bit strings one after the other. ``values``: uint64. ``sizes``: bits of each, 1 to 63."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    word, shift = starts >> 6, (starts & 63).astype(np.uint64)
    first = np.flatnonzero(np.diff(word, prepend=-1))
    out = np.zeros(int(word[-1]) + 2, np.uint64)
    out[: len(first)] = np.bitwise_or.reduceat(values << shift, first)
    over = np.flatnonzero((ends - 1) >> 6 > word)  # each runs over into the next word
    out[word[over] + 1] |= values[over] >> (np.uint64(64) - shift[over])
    return out.astype("<u8").tobytes()[: -(-int(ends[-1]) // 8)]
