"""How well any forward function predicts a text: perplexity and bits per byte."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.number import LOGIT_FRACTION

WINDOW = 512
ROWS = 32  # of logits that are looked at together
Forward = Callable[[np.ndarray], np.ndarray]
"""Logits [T, vocabulary] of token ids [T]: floats in nats, or the chip's integers."""


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


def surprise(logits: np.ndarray, ids: np.ndarray) -> float:
    """Nats by which ``logits`` [T, vocabulary] were surprised by ``ids`` [T] after the first."""
    scale = 2.0**-LOGIT_FRACTION if np.issubdtype(logits.dtype, np.integer) else 1.0
    total = 0.0
    for start in range(0, len(ids) - 1, ROWS):
        rows, next_ids = logits[start : start + ROWS], ids[start + 1 : start + 1 + ROWS]
        nats = rows[: len(next_ids)].astype(np.float64) * scale
        chosen = np.take_along_axis(nats, next_ids[:, None], 1)[:, 0]
        largest = nats.max(1)
        nats -= largest[:, None]
        np.exp(nats, out=nats)
        total += float((largest + np.log(nats.sum(1)) - chosen).sum())
    return total


def score(
    forward: Forward, windows: Iterable[np.ndarray], count_bytes: Callable[[Sequence[int]], int]
) -> Score:
    """Score ``forward`` on windows of tokens; ``count_bytes`` measures tokens as text."""
    tokens, size, nats = 0, 0, 0.0
    for ids in windows:
        nats += surprise(forward(ids), ids)
        tokens += len(ids) - 1
        size += count_bytes(ids[1:].tolist())
    return Score(tokens, size, nats)


def growth_percent(chip: Score, reference: Score) -> float:
    """By how much the chip's perplexity is above the reference's, in percent."""
    return 100 * (chip.perplexity / reference.perplexity - 1)
