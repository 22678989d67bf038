"""A checkpoint as the rest of the compiler sees it: canonical names, float32, one at a time.

Names and shapes: ``embedding`` [vocabulary, width], ``head`` [vocabulary, width], ``norm``
[width], and for every layer N ``layers.N.`` + ``norm_attention`` [width], ``q`` [query width,
width], ``k`` and ``v`` [kv width, width], ``o`` [width, query width], ``norm_mlp`` [width],
``gate`` and ``up`` [inner, width], ``down`` [width, inner]. A matrix is [outputs, inputs]; the
rows of ``q`` and ``k`` are in the half-split rotary order of :mod:`intaglio.checkpoint.forward`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from intaglio.architecture import Architecture
from intaglio.checkpoint.files import sha256
from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadCheckpoint

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
LARGEST = 65504  # the largest float16; no weight of a trained model comes near


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """List every canonical tensor with its shape, ``head`` included, in the order data flows."""
    a = architecture
    block = {
        "norm_attention": (a.width,),
        "q": (a.query_width, a.width),
        "k": (a.kv_width, a.width),
        "v": (a.kv_width, a.width),
        "o": (a.width, a.query_width),
        "norm_mlp": (a.width,),
        "gate": (a.inner, a.width),
        "up": (a.inner, a.width),
        "down": (a.width, a.inner),
    }
    shapes: dict[str, tuple[int, ...]] = {"embedding": (a.vocabulary, a.width)}
    for layer in range(a.layers):
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in block.items()}
    return shapes | {"norm": (a.width,), "head": (a.vocabulary, a.width)}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model as found on disk.

    ``source`` is a short label without paths; ``files`` are the files whose bytes matter, in a
    fixed order; ``read`` fetches one stored tensor by canonical name as float32 (``head`` only
    where the checkpoint is untied); ``file_of`` names the file that it is in.
    """

    architecture: Architecture
    tokenizer: Tokenizer
    source: str
    files: tuple[Path, ...] = field(repr=False)
    read: Callable[[str], np.ndarray] = field(repr=False)
    file_of: Callable[[str], str] = field(repr=False)

    def __post_init__(self) -> None:
        size, vocabulary = self.tokenizer.vocabulary, self.architecture.vocabulary
        if size > vocabulary:
            raise BadCheckpoint(
                f"{self.source}: tokenizer has {size} tokens, more than the model's {vocabulary}"
            )

    @cached_property
    def content_hash(self) -> str:
        """The sha256 over all files of the checkpoint; read when first asked for."""
        return sha256(self.files)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's canonical name and shape."""
        return tensor_shapes(self.architecture)

    def tensor(self, name: str) -> np.ndarray:
        """Read one tensor from disk: float32, C order, read-only, all within ``LARGEST``."""
        if name not in self.shapes:
            raise ValueError(f"tensor must be one of {', '.join(self.shapes)}, not {name!r}")
        stored = "embedding" if name == "head" and self.architecture.tied else name
        array = self.read(stored)
        assert (array.dtype, array.shape) == (np.float32, self.shapes[name]), name
        if not (array.min() >= -LARGEST and array.max() <= LARGEST):
            self._refuse(stored, array)
        array.flags.writeable = False
        return array

    def check(self) -> None:
        """Read every stored tensor once, so that a bad one is found before work is spent.

        Raises :class:`BadCheckpoint` with the first, in the order data flows.
        """
        for name in self.shapes:
            if name != "head" or not self.architecture.tied:
                self.tensor(name)

    def _refuse(self, name: str, array: np.ndarray) -> NoReturn:
        """Name the first value that is not within ``LARGEST``."""
        where = tuple(int(index) for index in np.argwhere(~(np.abs(array) <= LARGEST))[0])
        value = float(array[where])
        bound = f"from -{LARGEST} to {LARGEST}" if math.isfinite(value) else "finite"
        raise BadCheckpoint(
            f"{self.file_of(name)}: tensor {name} must be {bound}, found {value:g} at {where}"
        )
