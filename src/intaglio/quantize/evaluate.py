"""How well any forward function predicts a text: perplexity and bits per byte."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.number import LOGIT_FRACTION

WINDOW = 512
ROWS = 32  # of logits that are looked at together
Forward = Callable[[np.ndarray], np.ndarray | Iterator[np.ndarray]]
"""Logits [T, vocabulary] of token ids [T], whole or by blocks of rows.

Floats in nats, or the chip's integers."""


@dataclass(frozen=True, slots=True)
class Score:
    """A text's length in predicted tokens and their bytes, and its total surprise in nats."""

    tokens: int
    bytes: int
    nats: float

    @property
    def perplexity(self) -> float:
        """The exponential of the mean surprise per token."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Surprise per byte of text; does not depend on the tokenizer."""
        return self.nats / math.log(2) / self.bytes


def cut(
    ids: Sequence[int], window: int = WINDOW, begin: Sequence[int] = (), limit: int | None = None
) -> list[np.ndarray]:
    """Cut tokens into windows of at most ``window``, each after ``begin``; the first ``limit``.

    A last window of one token, which predicts nothing, is left out.
    """
    if window < len(begin) + 2:
        raise BadInput(f"window must be at least {len(begin) + 2} tokens, not {window}")
    step = window - len(begin)
    parts = [ids[start : start + step] for start in range(0, len(ids), step)]
    whole = [np.array([*begin, *part], np.int64) for part in parts if len(begin) + len(part) > 1]
    if not whole:
        raise BadInput("text must have at least two tokens to be evaluated")
    return whole[:limit]


def surprise(logits: np.ndarray | Iterator[np.ndarray], ids: np.ndarray) -> float:
    """Nats by which ``logits`` [T, vocabulary] were surprised by ``ids`` [T] after the first.

    They may come by blocks of rows: the sum is exact, so it does not depend on them.
    """
    nats: list[float] = []
    for block in (logits,) if isinstance(logits, np.ndarray) else logits:
        for start in range(0, len(block), ROWS):
            rows = block[start : start + ROWS]
            following = ids[len(nats) + 1 : len(nats) + 1 + len(rows)]
            nats += surprises(rows[: len(following)], following)
    return math.fsum(nats)


def surprises(logits: np.ndarray, following: np.ndarray) -> list[float]:
    """Nats by which each of ``logits`` [T, vocabulary] was surprised by the id after it."""
    scale = np.float32(2.0**-LOGIT_FRACTION if np.issubdtype(logits.dtype, np.integer) else 1)
    below = logits - logits.max(1, keepdims=True)  # exact where the logits are integers
    chosen = np.take_along_axis(below, following[:, None], 1)[:, 0].astype(np.float64)
    powers = np.multiply(below, scale, dtype=np.float32)
    np.exp(powers, out=powers)
    found = np.log(powers.sum(1, dtype=np.float64)) - chosen * float(scale)
    return found.tolist()


def score(
    forward: Forward,
    windows: Iterable[np.ndarray],
    count_bytes: Callable[[Sequence[int]], int],
    *,
    together: int = 1,
) -> Score:
    """Score ``forward`` on windows of tokens; ``count_bytes`` measures tokens as text.

    ``together``: so many windows at once, each in a thread of its own.
    """

    def one(ids: np.ndarray) -> Score:
        return Score(len(ids) - 1, count_bytes(ids[1:].tolist()), surprise(forward(ids), ids))

    found = list(map(one, windows) if together == 1 else side_by_side(one, windows, together))
    return Score(
        sum(s.tokens for s in found), sum(s.bytes for s in found), sum(s.nats for s in found)
    )


def side_by_side(
    use: Callable[[np.ndarray], Score], windows: Iterable[np.ndarray], together: int
) -> Iterator[Score]:
    """Yield ``use`` of every window in order; a window is asked for when a thread is free."""
    waiting: deque[Future[Score]] = deque()
    with ThreadPoolExecutor(together) as pool:
        for window in windows:
            waiting.append(pool.submit(use, window))
            if len(waiting) == together:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def growth_percent(chip: Score, reference: Score) -> float:
    """By how much the chip's perplexity is above the reference's, in percent."""
    return 100 * (chip.perplexity / reference.perplexity - 1)
