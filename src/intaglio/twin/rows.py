"""What a twin is given, checked: integers, sequences and the rows that they make."""

from collections.abc import Sequence as Many
from typing import Any

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.sample import Sampling


class Sequence:
    """Keys and values of one sequence, with the adapter it runs with.

    ``length``: positions that are there. Going on from an earlier one forgets what came after it.
    """

    def __init__(self, engine: Any, memory: Any, adapter: str | None) -> None:
        self.engine, self.memory, self.adapter = engine, memory, adapter
        self.length = 0

    def fork(self, length: int) -> "Sequence":
        """A copy of the first ``length`` positions, for a sequence that begins alike."""
        length = integer("length", length)
        if not 0 <= length <= self.length:
            raise BadInput(f"length must be from 0 to the {self.length} positions, not {length}")
        copy = Sequence(self.engine, self.memory.fork(length), self.adapter)
        copy.length = length
        return copy


def integer(name: str, value: Any) -> int:
    """``value`` as an int. Raises :class:`BadInput` unless it is a whole number by its type."""
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, int | np.integer):
        raise BadInput(f"{name} must be an integer, not {short(value)}")
    return int(value)


def integers(name: str, values: Any) -> np.ndarray:
    """``values`` as int64 [n], in one piece. Raises :class:`BadInput` unless they are integers."""
    try:
        array = np.asarray(values)
        if array.size == 0 and array.ndim == 1:
            return np.empty(0, np.int64)
        if array.ndim == 1 and array.dtype.kind in "iu":
            if array.dtype == np.uint64 and array.max() >= 1 << 63:
                raise OverflowError
            return np.ascontiguousarray(array, np.int64)
    except (ValueError, OverflowError):
        pass  # ragged, or larger than any integer of NumPy's
    raise BadInput(f"{name} must be a list of integers of 63 bits, not {short(values)}")


def short(value: Any) -> str:
    """A value's text, cut."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def check_range(name: str, values: np.ndarray, end: int) -> None:
    """Raise :class:`BadInput` unless all are from 0 to below ``end``."""
    if len(values) and not 0 <= values.min() <= values.max() < end:
        raise BadInput(f"{name} must be from 0 to {end - 1}, not {values.min()} to {values.max()}")


def check_count(name: str, values: Any, count: int) -> None:
    """Raise :class:`BadInput` unless there are ``count`` of them."""
    if len(values) != count:
        raise BadInput(f"{name} must be as many as the sequences, {count}, not {len(values)}")


def check_samplings(samplings: Any, count: int) -> None:
    """Raise :class:`BadInput` unless they are ``count`` samplings."""
    if not isinstance(samplings, Many):
        raise BadInput(f"samplings must be a list of samplings, not {short(samplings)}")
    check_count("samplings", samplings, count)
    for sampling in samplings:
        if not isinstance(sampling, Sampling):
            raise BadInput(f"sampling must be a Sampling, not {short(sampling)}")


def check_sequences(sequences: Any, engine: Any) -> None:
    """Raise :class:`BadInput` unless all are sequences that run on ``engine``."""
    if not isinstance(sequences, Many):
        raise BadInput(f"sequences must be a list of sequences, not {short(sequences)}")
    for sequence in sequences:
        if not isinstance(sequence, Sequence):
            raise BadInput(f"sequence must be made by the twin, not {short(sequence)}")
        if sequence.engine is not engine:
            raise BadInput("sequence must be one of this twin's, not another's")


def follow(sequences: Many[Sequence], positions: np.ndarray) -> dict[Sequence, int]:
    """The length of every sequence after rows at ``positions``.

    Raises :class:`BadInput` unless each sequence's rows follow each other and what it holds.
    """
    lengths: dict[Sequence, int] = {}
    for sequence, position in zip(sequences, positions.tolist(), strict=True):
        expected = lengths.get(sequence)
        if expected is not None and position != expected:
            raise BadInput(f"position must follow the one before, {expected - 1}, not {position}")
        if position > sequence.length and expected is None:
            raise BadInput(
                f"position must be at most {sequence.length}, which the sequence holds, "
                f"not {position}"
            )
        lengths[sequence] = position + 1
    return lengths
