"""Random integer adapters of any integer model, for tests: legal, and busy."""

from collections.abc import Iterable

import numpy as np

from intaglio.golden.adapter import Adapter, Key, LowRank
from intaglio.golden.model import MATRICES, IntModel, Matrix


def every_matrix(model: IntModel) -> list[Key]:
    """Layer and name of all matrices that an adapter can change."""
    return [(layer, name) for layer in range(len(model.layers)) for name in MATRICES]


def random_low_rank(
    rng: np.random.Generator, matrix: Matrix, rank: int, *, source: float
) -> LowRank:
    """Additions about as large as the matrix' own outputs, for inputs of about ``source``."""
    inputs, outputs = matrix.inputs, matrix.outputs
    bits = np.log2(source * 74 * np.sqrt(inputs))  # of the sums of down
    latent = 2.0**11
    own = np.abs(matrix.weights()).mean() * source * np.sqrt(inputs) * 40000  # accumulator times m
    wanted = own / (latent * 74 * np.sqrt(rank) * 40000 * 256)
    return LowRank(
        down=rng.integers(-128, 128, (inputs, rank)).astype(np.int8),
        down_multiplier=rng.integers(1 << 15, 1 << 16, rank).astype(np.uint16),
        down_shift=np.full(rank, max(round(bits + 15.5 - 11), 0), np.uint8),
        up=rng.integers(-128, 128, (rank, outputs)).astype(np.int8),
        up_multiplier=rng.integers(1 << 15, 1 << 16, outputs).astype(np.uint16),
        up_shift=rng.integers(0, 2, outputs).astype(np.uint8)
        + np.uint8(max(round(-np.log2(wanted)), 0)),
    )


def random_adapter(
    model: IntModel,
    seed: int = 0,
    *,
    matrices: Iterable[Key] | None = None,
    rank: int | None = None,
) -> Adapter:
    """An adapter of the ``matrices`` (default: all), each of a rank of its own up to 9."""
    rng = np.random.default_rng(seed)
    source = {"o": 40.0, "down": 100.0}
    parts = {}
    for layer, name in every_matrix(model) if matrices is None else matrices:
        matrix = getattr(model.layers[layer], name)
        parts[layer, name] = random_low_rank(
            rng, matrix, rank or int(rng.integers(1, 10)), source=source.get(name, 30.0)
        )
    return Adapter(model.hash(), parts)
