"""Sampling: known answers of the generator, a plain reference, the distribution, the refusals."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BadInput
from intaglio.golden.number import EXP_TABLE
from intaglio.golden.sample import Sampling, candidates, philox, random_bits, sample

properties = settings(max_examples=200, deadline=None)
ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, words):
    """The vectors that Random123 publishes for philox4x32-10."""
    assert philox(counter, key) == words


def test_random_bits_lay_out_counter_and_key():
    seed = 0x0123456789ABCDEF
    assert random_bits(seed, 77) == philox((77, 0, 0, 0), (0x89ABCDEF, 0x01234567))[0]
    assert random_bits(0, 0) == 0x6627E8D5


def exp2_of(distance: int) -> int:
    """The unnormalised exponential in Python integers, written from docs/spec.md."""
    whole, index, rest = distance >> 10, distance >> 4 & 63, distance & 15
    if whole > 16:
        return 0
    here, there = int(EXP_TABLE[index]), int(EXP_TABLE[index + 1])
    mantissa = here - ((here - there) * rest + 8) // 16
    return (mantissa + (2**whole >> 1)) // 2**whole


def reference(logits: list[int], sampling: Sampling, position: int) -> int:
    """The sampler in Python integers, written from docs/spec.md."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))[:64]
    if sampling.beta == 0:
        return order[0]
    order = order[: sampling.top_k]
    largest = logits[order[0]]
    weights = [exp2_of(((largest - logits[t]) * sampling.beta + 2**13) >> 14) for t in order]
    total, kept, kept_weight = sum(weights), [], 0
    for token, weight in zip(order, weights, strict=True):
        kept.append((token, weight))
        kept_weight += weight
        if kept_weight * 65536 >= sampling.top_p * total:
            break
    target = kept_weight * random_bits(sampling.seed, position) >> 32
    for token, weight in kept:
        if target < weight:
            return token
        target -= weight
    raise AssertionError("the target is below the kept weight")


@properties
@given(
    st.lists(st.integers(-(1 << 23), (1 << 23) - 1) | st.integers(-9999, 9999), max_size=150),
    st.integers(-3, 3),
    st.sampled_from([0, 1, 1000, 5909, 40000, (1 << 20) - 1]),
    st.integers(1, 64) | st.sampled_from([1, 64]),
    st.integers(1, 65536) | st.sampled_from([1, 65535, 65536]),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 17) - 1),
)
def test_sample_equals_the_reference(some, tie, beta, top_k, top_p, seed, position):
    logits = [*some, 5, 5, 5 + tie]
    sampling = Sampling(beta, top_k, top_p, seed)
    assert sample(np.array(logits), sampling, position) == reference(logits, sampling, position)


def test_candidates_are_the_64_largest_ties_by_lowest_index():
    logits = np.array([3, 7, 7, -1] * 40)
    got = candidates(logits)
    sevens = [i for i in range(160) if i % 4 in (1, 2)]
    assert got.tolist() == sevens[:64]
    assert candidates(np.array([1, 2])).tolist() == [1, 0]


def test_greedy_takes_the_lowest_of_equal_logits():
    assert sample(np.array([1, 9, 9, 9]), Sampling(), 3) == 1
    assert sample(np.full(300, -5), Sampling(), 3) == 0


def draws(logits, sampling, number=200):
    return {sample(np.array(logits), sampling, position) for position in range(number)}


def test_top_k_keeps_the_largest():
    logits = [0, 30, 10, 20]
    assert draws(logits, Sampling(1, 1)) == {1}
    assert draws(logits, Sampling(1, 2)) == {1, 3}
    assert draws(logits, Sampling(1, 3)) == {1, 2, 3}
    assert draws(logits, Sampling(1, 64)) == {0, 1, 2, 3}


def test_top_k_of_64_never_reaches_the_65th():
    assert draws([7] * 65, Sampling(1, 64), 2000) == set(range(64))


def test_top_p_keeps_the_fewest_whose_weight_reaches_it():
    equal = [5, 5, 5, 5]  # a quarter each
    for top_p, kept in ((1, 1), (16384, 1), (16385, 2), (32768, 2), (49153, 4), (65536, 4)):
        assert draws(equal, Sampling(1, 64, top_p)) == set(range(kept))


def test_top_p_counts_only_what_top_k_kept():
    equal = [5] * 8
    assert draws(equal, Sampling(1, 4, 32768)) == {0, 1}


def test_weights_of_zero_are_never_drawn():
    far = [1 << 22, 0, 0]
    assert draws(far, Sampling(1 << 19)) == {0}


def test_a_target_at_the_edge_belongs_to_the_next():
    """Two equal weights, and a position whose target is exactly the whole weight of the first."""
    assert 131070 * random_bits(0, 4211) >> 32 == 65535
    assert sample(np.array([5, 5]), Sampling(1), 4211) == 1


@pytest.mark.parametrize(
    ("temperature", "spread", "top_k"), [(1.0, 2.0, 64), (0.7, 1.5, 12), (1.6, 3.0, 64)]
)
def test_distribution_is_softmax(temperature, spread, top_k):
    """Chi-square of 40,000 draws against the real softmax of the kept logits."""
    rng, number = np.random.default_rng(8), 40000
    logits = np.rint(rng.normal(0, spread, 40) * 4096).astype(np.int64)
    sampling = Sampling.of(temperature, top_k, 1.0, seed=12345678901234567)
    counts = np.bincount([sample(logits, sampling, p) for p in range(number)], minlength=40)
    kept = np.argsort(-logits)[:top_k]
    real = np.exp((logits[kept] - logits.max()) / 4096 / temperature)
    expected = number * real / real.sum()
    assert counts.sum() == counts[kept].sum()
    often = expected >= 5
    pooled = np.append(counts[kept][often], counts[kept][~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    usable = wanted > 0
    chi = float(((pooled - wanted)[usable] ** 2 / wanted[usable]).sum())
    freedom = int(usable.sum()) - 1
    assert freedom - 3 * math.sqrt(2 * freedom) < chi < freedom + 3 * math.sqrt(2 * freedom)


def test_seeds_and_positions_are_independent():
    """Neighbouring seeds and positions agree no more often than chance."""
    logits = np.zeros(16, np.int64)
    table = np.array(
        [[sample(logits, Sampling(1, seed=s), p) for p in range(256)] for s in range(8)]
    )
    for a, b in ((table[:-1], table[1:]), (table[:, :-1], table[:, 1:])):
        assert abs((a == b).mean() - 1 / 16) < 0.02


def test_choices_are_frozen():
    rng = np.random.default_rng(9)
    logits = rng.integers(-60000, 60000, (64, 300))
    chosen = [
        sample(row, Sampling.of(temperature, top_k, top_p, seed), position)
        for position, row in enumerate(logits)
        for temperature, top_k, top_p in (
            (0, 0, 1.0),
            (0.8, 0, 0.95),
            (1.3, 40, 1.0),
            (2.0, 5, 0.5),
        )
        for seed in (0, 1, 1 << 63)
    ]
    digest = hashlib.sha256(np.array(chosen, "<i4").tobytes()).hexdigest()[:16]
    assert digest == "ab6b2dd33b9beadc"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, Sampling(0, 64, 65536, 0)),
        ({"temperature": 1.0}, Sampling(5909, 64, 65536, 0)),
        ({"temperature": 0.5, "top_k": 40, "top_p": 0.9, "seed": 7}, Sampling(11819, 40, 58982, 7)),
        ({"temperature": 100.0, "top_p": 1e-9}, Sampling(59, 64, 1, 0)),
        ({"temperature": 1e-6}, Sampling((1 << 20) - 1, 64, 65536, 0)),
    ],
)
def test_settings_become_words(settings, words):
    assert Sampling.of(**settings) == words
    assert Sampling() == Sampling.of()
    assert words.greedy == (settings.get("temperature", 0) == 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature must be from 0 to 100, not -0.1"),
        ({"temperature": math.nan}, "temperature must be from 0 to 100, not nan"),
        ({"temperature": 101}, "temperature must be from 0 to 100, not 101"),
        ({"top_k": 65}, "top_k must be from 0 to 64, not 65"),
        ({"top_k": -1}, "top_k must be from 0 to 64, not -1"),
        ({"top_p": 0}, "top_p must be greater than 0 and at most 1, not 0"),
        ({"top_p": 1.01}, "top_p must be greater than 0 and at most 1, not 1.01"),
        ({"seed": -1}, "sampling seed must be from 0 to 18446744073709551615, not -1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(BadInput) as caught:
        Sampling.of(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"beta": 1 << 20}, "sampling beta must be from 0 to 1048575, not 1048576"),
        ({"beta": 1.0}, "sampling beta must be from 0 to 1048575, not 1.0"),
        ({"top_k": 0}, "sampling top_k must be from 1 to 64, not 0"),
        ({"top_p": 0}, "sampling top_p must be from 1 to 65536, not 0"),
        ({"top_p": 65537}, "sampling top_p must be from 1 to 65536, not 65537"),
        (
            {"seed": 1 << 64},
            "sampling seed must be from 0 to 18446744073709551615, not 18446744073709551616",
        ),
    ],
)
def test_words_out_of_range(words, message):
    with pytest.raises(BadInput) as caught:
        Sampling(**words)
    assert str(caught.value) == message


def test_the_least_temperature_is_the_largest_beta():
    for temperature in (5e-324, 1e-308, 1e-9):
        assert Sampling.of(temperature=temperature).beta == (1 << 20) - 1
