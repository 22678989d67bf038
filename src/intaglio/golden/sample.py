"""From logits to a token: exact, seeded, equal on every machine."""

import math
from dataclasses import dataclass

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden import ops
from intaglio.golden.number import CANDIDATES

BETA_BITS = 20
BETA_SHIFT = 14  # logit (12 fraction bits) times beta (12) to a distance (10)
PHILOX_ROUNDS = 10
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_STEPS = (0x9E3779B9, 0xBB67AE85)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen, as the words the chip's host writes.

    ``beta``: log2(e) / temperature with 12 fraction bits, 20 bits; 0 chooses the largest logit.
    ``top_k``: 1 to 64 candidates. ``top_p``: cumulative weight to keep, times 65536, 1 to 65536.
    ``seed``: 64 bits.
    """

    beta: int = 0
    top_k: int = CANDIDATES
    top_p: int = 1 << 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("beta", 0, (1 << BETA_BITS) - 1),
            ("top_k", 1, CANDIDATES),
            ("top_p", 1, 1 << 16),
            ("seed", 0, (1 << 64) - 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise BadInput(f"sampling {name} must be from {low} to {high}, not {value!r}")

    @property
    def greedy(self) -> bool:
        """Whether the largest logit is taken."""
        return self.beta == 0

    @classmethod
    def of(
        cls, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0
    ) -> "Sampling":
        """From a person's settings: temperature 0 is greedy, ``top_k`` 0 keeps all candidates."""
        if not 0 <= temperature <= 100:
            raise BadInput(f"temperature must be from 0 to 100, not {temperature}")
        if not 0 <= top_k <= CANDIDATES:
            raise BadInput(f"top_k must be from 0 to {CANDIDATES}, not {top_k}")
        if not 0 < top_p <= 1:
            raise BadInput(f"top_p must be greater than 0 and at most 1, not {top_p}")
        largest = (1 << BETA_BITS) - 1
        beta = 0
        if temperature > 0:
            beta = round(min(math.log2(math.e) / temperature * 4096, largest))
        return cls(beta, top_k or CANDIDATES, max(round(top_p * 65536), 1), seed)


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10 (Salmon et al., SC 2011): four 32-bit words of a counter and a key."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(PHILOX_ROUNDS):
        x, y = a * PHILOX_MULTIPLIERS[0], c * PHILOX_MULTIPLIERS[1]
        a, b, c, d = (
            (y >> 32) ^ b ^ k0, y & 0xFFFFFFFF, (x >> 32) ^ d ^ k1, x & 0xFFFFFFFF,
        )  # fmt: skip
        k0, k1 = (k0 + PHILOX_STEPS[0]) & 0xFFFFFFFF, (k1 + PHILOX_STEPS[1]) & 0xFFFFFFFF
    return a, b, c, d


def random_bits(seed: int, position: int) -> int:
    """The 32 random bits that choose the token after ``position``."""
    return philox((position, 0, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))[0]


def candidates(logits: np.ndarray) -> np.ndarray:
    """Indices of the 64 largest of ``logits`` [vocabulary], largest first, ties by lowest index."""
    return np.argsort(-logits, kind="stable")[:CANDIDATES]


def sample(logits: np.ndarray, sampling: Sampling, position: int) -> int:
    """The token after ``position``, from its ``logits`` [vocabulary] (nats, 12 fraction bits)."""
    order = candidates(logits)
    if sampling.greedy:
        return int(order[0])
    order = order[: sampling.top_k]
    distance = (logits[order[0]] - logits[order]) * sampling.beta
    cumulative = np.cumsum(ops.exp2(ops.round_shift(distance, BETA_SHIFT)))
    total = int(cumulative[-1])
    last = int(np.argmax(cumulative << 16 >= sampling.top_p * total))
    target = int(cumulative[last]) * random_bits(sampling.seed, position) >> 32
    return int(order[np.argmax(cumulative > target)])
