"""The tokenizer of the bundled models, and batches of training windows."""

from collections.abc import Iterable

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer; token 0 is the end of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> list[np.ndarray]:
    """Return the tokens of each text, with the end of text before it."""
    return [
        np.array([END_OF_TEXT_ID, *encoding.ids], dtype=np.int64)
        for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]


class Windows:
    """An endless, seeded sequence of windows; any part of it can be had without the rest.

    Each epoch joins the documents in a new order, starts at a random token, cuts the whole into
    windows of ``length`` + 1 tokens that overlap by one, and shuffles them.
    """

    def __init__(self, documents: list[np.ndarray], length: int, seed: int):
        self.documents, self.length, self.seed = documents, length, seed
        total = sum(len(document) for document in documents)
        self.per_epoch = (total - 1) // length - 1
        self._epoch, self._windows = -1, np.empty(0)

    def _read(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            random = np.random.default_rng((self.seed, epoch))
            order = random.permutation(len(self.documents))
            joined = np.concatenate([self.documents[index] for index in order])
            joined = joined[random.integers(self.length) :]
            views = np.lib.stride_tricks.sliding_window_view(joined, self.length + 1)
            chosen = random.permutation(self.per_epoch) * self.length
            self._epoch, self._windows = epoch, views[chosen]
        return self._windows

    def take(self, start: int, count: int) -> Tensor:
        """Return windows ``start`` to ``start + count - 1`` as (count, length + 1)."""
        rows = []
        for index in range(start, start + count):
            epoch, place = divmod(index, self.per_epoch)
            rows.append(self._read(epoch)[place])
        return torch.from_numpy(np.stack(rows))
