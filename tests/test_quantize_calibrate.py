"""What calibration gathers, and the text that comes with the compiler."""

import hashlib
from pydoc_data.topics import topics

import numpy as np
from random_model import random_architecture

from intaglio.quantize.calibrate import Statistics, default_text, fair, spread


def test_default_text_is_frozen():
    text = default_text()
    assert len(text.encode()) < 300_000
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "c19e71c4248836bf"


def test_default_text_leaves_the_held_out_topics_alone():
    text, names = default_text(), sorted(topics)
    for name in names[len(names) // 2 :]:
        paragraphs = [part.strip() for part in topics[name].split("\n\n") if len(part) > 100]
        assert not [part for part in paragraphs if part in text], name


def test_spread_covers_the_text():
    windows = spread(np.arange(1000), 200, 50)
    assert [int(window[0]) for window in windows] == [0, 250, 500, 750]
    assert all(len(window) == 50 for window in windows)
    assert [len(window) for window in spread(np.arange(30), 200, 50)] == [30]


def test_fair_bounds_a_loud_token():
    x = np.ones((9, 4), np.float32)
    x[0] *= 1000
    weighted = np.square(x).sum(1) * fair(x)
    np.testing.assert_allclose(weighted, [64, *[4] * 8], rtol=1e-5)
    assert np.isfinite(fair(np.zeros((3, 2), np.float32))).all()


def test_statistics_sum_over_windows():
    statistics = Statistics(random_architecture())
    x = np.random.default_rng(0).standard_normal((12, 32)).astype(np.float32)
    for part in np.split(x, 2):
        statistics.tap(0, "attention_input", part)
        statistics.tap(0, "residual", 3 * part)
        statistics.tap(0, "query", part.reshape(6, 4, 8))
        statistics.tap(0, "up", part)
    np.testing.assert_allclose(statistics.hessians[0, "attention"], x.T @ x, rtol=1e-4, atol=1e-4)
    assert statistics.residual == np.abs(3 * x).max()
    assert statistics.up[0] == np.abs(x).max()
    heads = x.reshape(12, 4, 8)
    lengths = np.hypot(heads[..., :4], heads[..., 4:]).max(0)
    np.testing.assert_allclose(statistics.query[0], lengths, rtol=1e-6)
    assert 3 <= statistics.clip(0, "attention") <= 5
