"""Perplexity and bits per byte of known predictions."""

import math

import numpy as np
import pytest

from intaglio.errors import BadInput
from intaglio.quantize.evaluate import Score, cut, growth_percent, score, surprise


def test_uniform_predictions_are_as_surprised_as_the_vocabulary_is_large():
    ids = np.arange(8)
    assert surprise(np.zeros((8, 16), np.float32), ids) == pytest.approx(7 * math.log(16))


def test_integers_have_twelve_fraction_bits():
    ids, rng = np.arange(8), np.random.default_rng(0)
    logits = rng.integers(-40000, 40000, (8, 16))
    assert surprise(logits, ids) == pytest.approx(surprise(logits / 4096, ids))


def test_large_logits_do_not_overflow():
    logits = np.full((2, 4), -30000.0)
    logits[0, 1] = 30000
    assert surprise(logits, np.array([0, 1])) == 0


def test_score_counts_what_was_predicted():
    found = score(lambda ids: np.zeros((len(ids), 4)), [np.arange(3), np.arange(4)], len)
    assert (found.tokens, found.bytes) == (5, 5)
    assert found.perplexity == pytest.approx(4)
    assert found.bits_per_byte == pytest.approx(2)


def test_growth_is_of_perplexity():
    assert growth_percent(Score(2, 2, 2 * math.log(11)), Score(2, 2, 2 * math.log(10))) == (
        pytest.approx(10)
    )


def test_cut_puts_the_beginning_before_every_window():
    windows = cut([1, 2, 3, 4, 5], 3, begin=[9])
    assert [window.tolist() for window in windows] == [[9, 1, 2], [9, 3, 4], [9, 5]]
    assert [window.tolist() for window in cut([1, 2, 3], 2)] == [[1, 2]]
    assert len(cut(list(range(100)), 10, limit=3)) == 3


def test_cut_refuses_what_predicts_nothing():
    with pytest.raises(BadInput, match="at least two tokens"):
        cut([1], 8)
    with pytest.raises(BadInput, match="window must be at least 3 tokens, not 2"):
        cut([1, 2, 3], 2, begin=[0])


def test_windows_together_are_scored_as_one_by_one():
    rng = np.random.default_rng(5)
    windows = [rng.integers(0, 16, n) for n in (9, 2, 70, 33, 5)]
    weights = rng.standard_normal((16, 16))
    asked: list[int] = []

    def watched():
        for index, window in enumerate(windows):
            asked.append(index)
            yield window

    alone = score(lambda ids: weights[ids], windows, len)
    assert score(lambda ids: weights[ids], watched(), len, together=3) == alone
    assert asked == [0, 1, 2, 3, 4]


def test_a_window_is_asked_for_when_a_thread_is_free():
    """Not all at once: a long text's progress is that of its windows."""
    begun: list[int] = []
    windows = [np.arange(4)] * 8

    def watched():
        for index, window in enumerate(windows):
            assert index - len(begun) < 2
            yield window

    def forward(ids: np.ndarray) -> np.ndarray:
        begun.append(1)
        return np.zeros((len(ids), 4))

    assert score(forward, watched(), len, together=2).tokens == 24


def test_an_error_in_a_window_ends_the_score():
    def forward(ids: np.ndarray) -> np.ndarray:
        raise BadInput("no such token")

    for together in (1, 2):
        with pytest.raises(BadInput, match="no such token"):
            score(forward, [np.arange(3)] * 5, len, together=together)


def test_surprise_of_huge_and_of_integer_logits():
    """Differences, not logits, are rounded to single precision."""
    logits = np.array([[1 << 30, (1 << 30) - 4096], [0, 0]], np.int32)
    want = -math.log(1 / (1 + math.exp(-1)))
    assert surprise(logits, np.array([1, 0])) == pytest.approx(want, rel=1e-6)
    assert surprise(logits, np.array([1, 1])) == pytest.approx(want + 1, rel=1e-6)


def test_blocks_of_rows_are_as_the_whole():
    rng = np.random.default_rng(0)
    logits, ids = rng.normal(size=(300, 50)).astype(np.float32), rng.integers(0, 50, 300)
    parts = (logits[start : start + 96] for start in range(0, 300, 96))
    assert surprise(parts, ids) == surprise(logits, ids)
    assert surprise((logits[row : row + 1] for row in range(300)), ids) == surprise(logits, ids)
