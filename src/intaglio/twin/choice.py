"""From logits to tokens, many sequences at once: section 13 of docs/spec.md."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.golden.sample import Sampling
from intaglio.twin.functions import NOTHING, WEIGHTS, round_shift
from intaglio.twin.namespace import Arrays

WORD = 0xFFFFFFFF
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
STEPS = 0x9E3779B9, 0xBB67AE85


def random_word(seed: int, position: int) -> int:
    """Word 0 of Philox4x32-10, counter (position, 0, 0, 0), key ``seed`` (64 bits)."""
    words, keys = [position, 0, 0, 0], [seed & WORD, seed >> 32]
    for _ in range(10):
        first, second = words[0] * MULTIPLIERS[0], words[2] * MULTIPLIERS[1]
        words = [
            second >> 32 ^ words[1] ^ keys[0], second & WORD,
            first >> 32 ^ words[3] ^ keys[1], first & WORD,
        ]  # fmt: skip
        keys = [key + step & WORD for key, step in zip(keys, STEPS, strict=True)]
    return words[0]


def candidates(arrays: Arrays, logits: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest of ``logits`` [B, vocabulary] and their indices, both int64 [B, count].

    In descending order, equal logits by ascending index: as the keys that hold both.
    """
    vocabulary = logits.shape[-1]
    keys = (logits << 32) + (WORD - arrays.integers(np.arange(vocabulary)))
    keys = arrays.host(arrays.largest(keys, min(count, vocabulary)))
    return keys >> 32, WORD - (keys & WORD)


def choose(
    arrays: Arrays, logits: Any, samplings: Sequence[Sampling], positions: np.ndarray
) -> np.ndarray:
    """The tokens after ``positions`` [B], from the ``logits`` [B, vocabulary] there: int64 [B]."""
    kept = [1 if sampling.greedy else sampling.top_k for sampling in samplings]
    values, indices = candidates(arrays, logits, max(kept))
    beta = np.array([sampling.beta for sampling in samplings])[:, None]
    top_p = np.array([sampling.top_p for sampling in samplings])[:, None]
    random = np.array([
        random_word(sampling.seed, position)
        for sampling, position in zip(samplings, positions.tolist(), strict=True)
    ])[:, None]  # fmt: skip
    distance = round_shift((values[:, :1] - values) * beta, 14)
    weights = WEIGHTS[np.minimum(distance, NOTHING)]
    weights[np.arange(weights.shape[1]) >= np.array(kept)[:, None]] = 0
    sums = weights.cumsum(-1)
    last = (sums << 16 >= top_p * sums[:, -1:]).argmax(-1)[:, None]
    target = np.take_along_axis(sums, last, -1) * random >> 32
    first = (sums > target).argmax(-1)[:, None]
    return np.take_along_axis(indices, first, -1)[:, 0]
