"""What the host writes into the side memory of one matrix: an adapter, cut into beats.

The words stand in the order in which :class:`~intaglio.hardware.adapter.Adapter` reads them, so
that it counts and never computes an address. A word of weights has a beat of int8 for each lane:

- down, word ``fold * beats + i``: lane j has inputs ``i * beat`` onwards of latent
  ``fold * lanes + j``;
- up, word ``folds * beats + k * folds + fold``: lane j has outputs ``k * beat`` onwards of latent
  ``fold * lanes + j``.

A word of constants has a beat of 16-bit multipliers below 6-bit shifts:

- word ``fold * groups + g``: latents ``fold * lanes + g * beat`` onwards;
- word ``folds * groups + k``: outputs ``k * beat`` onwards.

What has no latent, input or output is 0.
"""

from collections.abc import Iterator

import numpy as np
from amaranth.lib import data

from intaglio.golden.adapter import Adapter, LowRank
from intaglio.golden.model import MATRICES
from intaglio.golden.number import MULTIPLIER_BITS
from intaglio.plan.adapter import CONSTANT_BITS, AdapterPlan
from intaglio.plan.chip import ChipPlan

Write = dict[str, int]
"""``lane``, ``word``, ``data`` of one write."""


def write_layout(shape: AdapterPlan) -> data.StructLayout:
    """One write: a beat of a lane's weights (int8), or of constants as lane number ``lanes``.

    ``word`` counts through the adapters that the memory holds, one after the other.
    """
    words = shape.count * max(shape.words, shape.constant_words)
    return data.StructLayout(
        {
            "lane": range(shape.lanes + 1),
            "word": range(max(words, 2)),
            "data": shape.beat * CONSTANT_BITS,
        }
    )


def side_memory_writes(
    part: LowRank | None, shape: AdapterPlan, number: int = 0
) -> Iterator[Write]:
    """Every write that puts ``part`` at place ``number``; without a part its addends are 0.

    Raises :class:`ValueError` where it does not fit.
    """
    if not 0 <= number < shape.count:
        raise ValueError(f"number must be from 0 to {shape.count - 1}, not {number}")
    weights, constants = weight_words(part, shape), constant_words(part, shape)
    for word, lanes in enumerate(weights, number * shape.words):
        for lane, values in enumerate(lanes):
            yield {"lane": lane, "word": word, "data": int.from_bytes(values.tobytes(), "little")}
    for word, values in enumerate(constants, number * shape.constant_words):
        packed = sum(int(value) << CONSTANT_BITS * i for i, value in enumerate(values))
        yield {"lane": shape.lanes, "word": word, "data": packed}


def chip_writes(
    adapter: Adapter | None, plan: ChipPlan, number: int = 0
) -> Iterator[dict[str, int]]:
    """Every write of :func:`~intaglio.hardware.port.side_layout` that puts an adapter in place.

    None: addends of 0 everywhere. Raises :class:`ValueError` where a part does not fit.
    """
    parts = adapter.parts if adapter else {}
    for layer, blocks in enumerate(plan.adapters):
        for matrix, name in enumerate(MATRICES):
            for write in side_memory_writes(parts.get((layer, name)), blocks[name], number):
                yield {"layer": layer, "matrix": matrix, **write}


def weight_words(part: LowRank | None, shape: AdapterPlan) -> np.ndarray:
    """The weights in their order: int8 [words, lanes, beat]."""
    folds, lanes, beat = shape.folds, shape.lanes, shape.beat
    down = np.zeros((shape.inputs, folds * lanes), np.int8)
    up = np.zeros((folds * lanes, shape.columns * beat), np.int8)
    if part is not None:
        check(part, shape)
        down[:, : part.rank] = part.down
        up[: part.rank, : part.outputs] = part.up
    down_words = down.reshape(shape.beats, beat, folds, lanes).transpose(2, 0, 3, 1)
    up_words = up.reshape(folds, lanes, shape.columns, beat).transpose(2, 0, 1, 3)
    return np.concatenate([words.reshape(-1, lanes, beat) for words in (down_words, up_words)])


def constant_words(part: LowRank | None, shape: AdapterPlan) -> np.ndarray:
    """Multipliers and shifts in their order: uint32 [constant_words, beat]."""
    folds, lanes, beat = shape.folds, shape.lanes, shape.beat
    latents = np.zeros(folds * lanes, np.uint32)
    outputs = np.zeros(shape.columns * beat, np.uint32)
    if part is not None:
        check(part, shape)
        latents[: part.rank] = packed(part.down_multiplier, part.down_shift)
        outputs[: part.outputs] = packed(part.up_multiplier, part.up_shift)
    padded = np.zeros((folds, shape.groups * beat), np.uint32)
    padded[:, :lanes] = latents.reshape(folds, lanes)
    return np.concatenate([padded.reshape(-1, beat), outputs.reshape(-1, beat)])


def packed(multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Multipliers with their shifts above them."""
    return multiplier.astype(np.uint32) | shift.astype(np.uint32) << np.uint32(MULTIPLIER_BITS)


def check(part: LowRank, shape: AdapterPlan) -> None:
    """Raise :class:`ValueError` unless the part's sizes are the block's, its rank at most."""
    if (part.inputs, part.outputs) != (shape.inputs, shape.outputs):
        raise ValueError(
            f"part must have {shape.inputs} inputs and {shape.outputs} outputs, "
            f"not {part.inputs} and {part.outputs}"
        )
    if part.rank > shape.rank:
        raise ValueError(f"part must have a rank of at most {shape.rank}, not {part.rank}")
