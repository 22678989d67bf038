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
