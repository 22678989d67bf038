"""Host sampling mode: the chip's sampler where nothing differs, and what it does besides."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.golden.sample import Sampling, sample
from intaglio.serve.host import ONE, HostSampling, adjusted, choose, largest, score

NOTHING: Counter[int] = Counter()


def random_logits(seed: int, size: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).integers(-40_000, 40_000, size).astype(np.int32)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 300])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling.of(1.0, seed=5),
        Sampling.of(3.0, top_p=0.7, seed=(1 << 64) - 1),
        Sampling.of(0.3, top_k=3, top_p=0.9),
    ],
)
def test_the_chips_token_where_nothing_is_asked_beyond_it(size, sampling):
    for position in range(40):
        logits = random_logits(position, size)
        host = HostSampling(most=sampling.top_k)
        assert choose(logits, sampling, position, host, NOTHING) == sample(
            logits, sampling, position
        )


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=90), st.integers(1, 100))
def test_the_largest_are_in_order_and_ties_by_index(values, count):
    logits = np.array(values, np.int32)
    expected = np.argsort(-logits, kind="stable")[:count]
    assert largest(logits, count).tolist() == expected.tolist()


def test_penalties_and_biases_change_logits_by_what_they_say():
    logits = np.array([10, 20, 30, 40], np.int32) * ONE
    host = HostSampling(presence=ONE, frequency=2 * ONE, bias=((0, 3 * ONE), (3, -ONE)))
    found = adjusted(logits, host, Counter({1: 1, 3: 2}))
    assert (found // ONE).tolist() == [13, 17, 30, 34]


def test_a_penalty_ends_a_repetition():
    logits, said, host = np.array([100, 99], np.int32), Counter[int](), HostSampling(frequency=1)
    tokens = []
    for position in range(6):
        tokens.append(choose(logits, Sampling(), position, host, said))
        said[tokens[-1]] += 1
    assert tokens == [0, 0, 1, 0, 1, 0]


def test_the_whole_vocabulary_is_drawn_from_where_it_is_asked():
    logits, hot = np.zeros(300, np.int32), Sampling.of(1.0, seed=7)
    drawn = {choose(logits, hot, position, HostSampling(None), NOTHING) for position in range(200)}
    assert max(drawn) > 250
    few = {choose(logits, hot, position, HostSampling(100), NOTHING) for position in range(200)}
    assert 64 < max(few) < 100


def test_probabilities():
    logits = random_logits(1)
    nats = logits / ONE
    expected = nats - np.log(np.exp(nats).sum())
    found = score(logits, 17, 5)
    assert found.logprob == pytest.approx(expected[17])
    best = np.argsort(-logits, kind="stable")[:5].tolist()
    assert [token for token, _ in found.top] == best
    assert [logprob for _, logprob in found.top] == pytest.approx(expected[best])
    assert score(logits, 17, 0).top == ()
    assert len(score(logits[:3], 1, 5).top) == 3
