"""Streams of own tokens: zlib reads what they stand for."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.layout.deflate import LIMIT, LONGEST, WINDOW, Tokens, code_lengths, deflate

COPIES = st.tuples(st.integers(3, LONGEST), st.integers(1, WINDOW))
STEPS = st.tuples(st.none() | st.integers(0, 255), st.none() | COPIES).filter(any)


def stand_for(steps: list) -> tuple[Tokens, bytes]:
    """Tokens of steps, copies drawn back to what is there, and the bytes that they stand for."""
    out, rows = bytearray(b"start"), [(each, 0, 0) for each in b"start"]
    for literal, copy in steps:
        if literal is not None:
            out.append(literal)
        length, distance = copy or (0, 0)
        distance = min(distance, len(out))
        for _ in range(length):
            out.append(out[-distance])
        rows.append((-1 if literal is None else literal, length, distance))
    return Tokens(*np.array(rows, np.int64).T), bytes(out)


@given(st.lists(STEPS, max_size=300))
def test_zlib_reads_what_tokens_stand_for(steps):
    steps = [step for step in steps if step[0] is not None or step[1]]
    tokens, raw = stand_for(steps)
    assert zlib.decompress(deflate(tokens), -15) == raw


def test_copies_from_the_end_of_the_window():
    raw = np.random.default_rng(0).integers(0, 256, WINDOW)
    distances = [WINDOW, WINDOW - 1, 24577, 24576, 5, 4, 3, 2, 1]
    tokens = Tokens(
        np.concatenate([raw, [-1] * len(distances)]),
        np.concatenate([0 * raw, [LONGEST] * len(distances)]),
        np.concatenate([0 * raw, distances]),
    )
    expected = bytearray(raw.astype(np.uint8))
    for distance in distances:
        for _ in range(LONGEST):
            expected.append(expected[-distance])
    assert zlib.decompress(deflate(tokens), -15) == expected


@pytest.mark.parametrize("limit", [7, LIMIT])
def test_no_word_of_a_code_is_longer_than_allowed(limit):
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])  # the longest words that there can be
    lengths = code_lengths([*counts, 0], limit)
    assert max(lengths) <= limit
    assert lengths[-1] == 0
    assert sum(2.0**-bits for bits in lengths[:-1]) == 1


def test_a_lone_symbol_takes_a_bit():
    assert code_lengths([0, 9, 0], LIMIT) == [0, 1, 0]
    assert code_lengths([0, 0], LIMIT) == [0, 0]
