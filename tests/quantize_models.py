"""Small float checkpoints for the tests of quantize: random weights, a tokenizer of bytes."""

from typing import cast

import numpy as np
from random_model import random_architecture

from intaglio.checkpoint import Checkpoint, tensor_shapes


class Bytes:
    """Every byte, modulo the vocabulary, is a token."""

    begin_ids = ()

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        return [byte % self.vocabulary for byte in text.encode()]

    def decode_bytes(self, ids) -> bytes:
        return bytes(ids)


class RandomWeights:
    """Seeded weights of a small architecture, with uneven gains."""

    def __init__(self, seed: int = 0, **changes) -> None:
        self.architecture = random_architecture(**changes)
        self.tokenizer = Bytes(self.architecture.vocabulary)
        rng = np.random.default_rng(seed)
        self.tensors = {}
        for name, shape in tensor_shapes(self.architecture).items():
            drawn = rng.standard_normal(shape) / np.sqrt(shape[-1])
            if len(shape) == 1:
                drawn = np.exp(rng.standard_normal(shape) / 2)
            self.tensors[name] = drawn.astype(np.float32)
        if self.architecture.tied:
            self.tensors["head"] = self.tensors["embedding"]

    def tensor(self, name: str) -> np.ndarray:
        return self.tensors[name]


def random_checkpoint(seed: int = 0, **changes) -> Checkpoint:
    """What ``quantize`` needs of a checkpoint, with random weights."""
    return cast(Checkpoint, RandomWeights(seed, **changes))
