"""Host sampling mode: the chip streams its logits out and the host chooses the token.

For what the chip's sampler does not do: penalties, biases, candidates beyond its 64, answers of a
form that was asked for, and the logarithms of probabilities. Where nothing of it changes a logit or
the candidates, the token is the one that the chip's sampler takes.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from intaglio.golden import ops
from intaglio.golden.number import CANDIDATES
from intaglio.golden.sample import BETA_SHIFT, Sampling, random_bits

ONE = 4096  # of a logit, which has 12 fraction bits
WORD = 0xFFFFFFFF
LARGEST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class HostSampling:
    """What the host does with logits. Penalties and biases are in 4096ths of a nat.

    ``most``: candidates, None for the whole vocabulary. ``frequency``: taken off a token's logit
    for every time it was said, ``presence``: once if it was. ``logprobs``: how many of the
    likeliest tokens are told with every token, None for not even its own. ``prompt``: told of the
    prompt too.
    """

    most: int | None = CANDIDATES
    presence: int = 0
    frequency: int = 0
    bias: tuple[tuple[int, int], ...] = ()
    logprobs: int | None = None
    prompt: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """Natural logarithms of probabilities, temperature 1: a token's, and the likeliest tokens'."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def adjusted(logits: np.ndarray, host: HostSampling, said: Counter[int]) -> np.ndarray:
    """``logits`` [vocabulary] after biases, and penalties for what was ``said``: int64."""
    found = logits.astype(np.int64)
    for token, amount in host.bias:
        found[token] += amount
    if host.presence or host.frequency:
        for token, times in said.items():
            found[token] -= host.presence + times * host.frequency
    return np.clip(found, -LARGEST, LARGEST)


def largest(logits: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest, largest first, ties by lowest index."""
    keys = (logits.astype(np.int64) << 32) + (WORD - np.arange(len(logits)))
    if count < len(keys):
        keys = np.partition(keys, len(keys) - count)[len(keys) - count :]
    return WORD - (np.sort(keys)[::-1] & WORD)


def choose(
    logits: np.ndarray,
    sampling: Sampling,
    position: int,
    host: HostSampling,
    said: Counter[int],
    allowed: np.ndarray | None = None,
) -> int:
    """The token after ``position``, by the steps of the chip's sampler.

    ``allowed``: bool [vocabulary], which of them it may be.
    """
    found = adjusted(logits, host, said)
    there = len(found)
    if allowed is not None:
        found, there = np.where(allowed, found, -LARGEST - 1), int(allowed.sum())
    most = 1 if sampling.greedy else min(host.most or there, there)
    order = largest(found, most)
    if sampling.greedy:
        return int(order[0])
    distance = (found[order[0]] - found[order]) * sampling.beta
    cumulative = np.cumsum(ops.exp2(ops.round_shift(distance, BETA_SHIFT)))
    last = int(np.argmax(cumulative << 16 >= sampling.top_p * int(cumulative[-1])))
    target = int(cumulative[last]) * random_bits(sampling.seed, position) >> 32
    return int(order[np.argmax(cumulative > target)])


def score(logits: np.ndarray, token: int, count: int) -> Scored:
    """What a token's probability was among ``logits`` [vocabulary], and ``count`` likeliest."""
    nats = logits / ONE
    peak = nats.max()
    total = float(peak + np.log(np.exp(nats - peak).sum()))
    top = largest(logits, min(count, len(logits))).tolist() if count else ()
    return Scored(
        token, float(nats[token]) - total, tuple((i, float(nats[i]) - total) for i in top)
    )
