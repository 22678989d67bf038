"""The twin's choice of tokens equals ``golden``'s, for batches of unlike settings."""

import numpy as np
from array_devices import every_device, functions, integers, into, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.golden.number import Int
from intaglio.golden.sample import Sampling, philox, sample
from intaglio.twin.choice import candidates, choose, random_word
from intaglio.twin.namespace import NumpyArrays


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 17) - 1))
def test_random_word_equals_golden(seed, position):
    want = philox((position, 0, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))[0]
    assert random_word(seed, position) == want


@every_device
def test_candidates_are_the_largest_ties_by_lowest_index(device):
    rng = np.random.default_rng(2)
    logits = np.concatenate([integers(rng, 24, (3, 500)), rng.integers(-3, 3, (9, 500))])
    logits[3] = Int(24).low
    (moved,) = into(device, logits)
    for count in (1, 5, 64):
        values, indices = candidates(functions(device).arrays, moved, count)
        want = np.argsort(-logits, axis=-1, kind="stable")[:, :count]
        np.testing.assert_array_equal(indices, want)
        np.testing.assert_array_equal(values, np.take_along_axis(logits, want, -1))


SAMPLINGS = st.builds(
    Sampling,
    st.sampled_from([0, 1, 1000, 5909, 40000, (1 << 20) - 1]),
    st.integers(1, 64) | st.sampled_from([1, 64]),
    st.integers(1, 65536) | st.sampled_from([1, 65535, 65536]),
    st.integers(0, (1 << 64) - 1),
)


@every_device
@settings(max_examples=100, deadline=None)
@given(
    seeds,
    st.integers(1, 150),
    st.sampled_from([2, 8, 40, 5000, 1 << 15, 1 << 23]),
    st.lists(st.tuples(SAMPLINGS, st.integers(0, (1 << 17) - 1)), min_size=1, max_size=5),
)
def test_choice_equals_golden(device, rng, vocabulary, spread, rows):
    """A batch of unlike settings; logits near enough for ties and far enough for weights of 0."""
    logits = rng.integers(-spread, spread, (len(rows), vocabulary))
    samplings, positions = [row[0] for row in rows], np.array([row[1] for row in rows])
    (moved,) = into(device, logits)
    got = choose(functions(device).arrays, moved, samplings, positions)
    want = [
        sample(row, sampling, position)
        for row, (sampling, position) in zip(logits, rows, strict=True)
    ]
    assert got.tolist() == want


@every_device
def test_choices_over_seeds_and_positions_equal_golden(device):
    rng = np.random.default_rng(4)
    logits = rng.integers(-30000, 30000, (400, 300))
    samplings = [
        Sampling.of(0.9, 0, 0.95, seed * 0x9E3779B97F4A7C15 % 2**64) for seed in range(400)
    ]
    positions = rng.integers(0, 1 << 17, 400)
    (moved,) = into(device, logits)
    got = choose(functions(device).arrays, moved, samplings, positions)
    want = [sample(*row) for row in zip(logits, samplings, positions.tolist(), strict=True)]
    assert got.tolist() == want
    assert len(set(want)) > 100


def test_a_target_at_the_edge_belongs_to_the_next():
    """Two equal weights, and a position whose target is exactly the whole weight of the first."""
    assert 131070 * random_word(0, 4211) >> 32 == 65535
    got = choose(NumpyArrays(), np.array([[5, 5]]), [Sampling(1)], np.array([4211]))
    assert got.tolist() == [1]
