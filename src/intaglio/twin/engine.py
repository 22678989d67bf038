"""The twin: the chip's own integers, fast, with as many sequences as memory holds."""

import os
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Many
from typing import Any, Protocol

import numpy as np

from intaglio.errors import BadInput
from intaglio.golden.adapter import Adapter
from intaglio.golden.model import IntModel, ModelFile
from intaglio.golden.sample import Sampling
from intaglio.twin.rows import (
    Sequence,
    check_count,
    check_range,
    check_samplings,
    check_sequences,
    follow,
    integer,
    integers,
    short,
)

Integers = Many[int] | np.ndarray
MOST_THREADS = 1024

ENGINES = ("native", "numpy", "torch")
NO_NATIVE = "no native code (was there a C++ compiler at installation?): the twin runs on NumPy"
CHUNKS = (1, 1, 2, 4, 8, 16)  # tokens decoded at once: the first come soon, many come cheaply


class Engine(Protocol):
    """What computes. Rows are tokens at positions of sequences; see :meth:`forward`."""

    name: str

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights and constants as the engine holds them, adapters' too."""
        ...

    @property
    def sequence_bytes(self) -> int:
        """Bytes of the keys and values of one sequence over its whole context."""
        ...

    def sequence(self, adapter: str | None = None) -> Any:
        """Empty memory of one sequence; its ``fork(length)`` copies the first positions."""
        ...

    def forward(
        self,
        sequences: Many[Any],
        tokens: np.ndarray,
        positions: np.ndarray,
        wanted: np.ndarray,
    ) -> np.ndarray:
        """Run rows and return the logits of the ``wanted`` ones: int32 [W, vocabulary].

        ``tokens``, ``positions``: int64 [R], ``wanted``: int64 [W], ascending. Rows of one sequence
        have consecutive positions, and all before them are in its memory. Sequences may be mixed.
        """
        ...

    def decode(
        self,
        sequences: Many[Any],
        tokens: np.ndarray,
        positions: np.ndarray,
        samplings: Many[Sampling],
        count: int,
    ) -> np.ndarray:
        """Sample ``count`` tokens after one row per sequence: int32 [count, sequences]."""
        ...


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def native_here() -> bool:
    """Whether the native kernels were built."""
    try:
        from intaglio.twin import _native  # noqa: F401
    except ImportError:
        return False
    return True


def make_engine(
    model: IntModel | ModelFile,
    context: int,
    threads: int,
    name: str,
    kernels: str | None,
    adapters: Mapping[str, Adapter],
) -> Engine:
    """The engine of that name. Raises :class:`BadInput` where it cannot run here."""
    if name == "native":
        if not native_here():
            raise BadInput(
                "engine 'native' was not built", hint="install again where g++ is, or use 'numpy'"
            )
        from intaglio.twin.native import NativeEngine

        return NativeEngine(model, context, threads, kernels, adapters)
    from intaglio.twin.arrays import ArrayEngine

    if kernels is not None:
        raise BadInput(f"kernels {short(kernels)} are the native engine's, not of {name!r}")
    if isinstance(model, ModelFile):
        model = model.whole()
    return ArrayEngine(model, context, torch_device() if name == "torch" else None, adapters)


def check_adapters(adapters: Mapping[str, Adapter]) -> None:
    """Raise :class:`BadInput` unless they are adapters by name."""
    if not isinstance(adapters, Mapping):
        raise BadInput(f"adapters must be adapters by name, not {short(adapters)}")
    for name, adapter in adapters.items():
        if not isinstance(name, str) or not isinstance(adapter, Adapter):
            raise BadInput(f"adapters must be adapters by name, not {short({name: adapter})}")


def torch_device() -> str:
    """``cuda`` where PyTorch has it, else ``cpu``. Raises :class:`BadInput` without PyTorch."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BadInput("engine 'torch' needs PyTorch", hint="pip install torch") from None
    return "cuda" if torch.cuda.is_available() else "cpu"


class Twin:
    """The integer model as it runs on the chip, bit for bit.

    ``model``: a model, or a file of one, which is then read matrix by matrix. ``context``: the
    positions of every sequence, at most and by default the model's. ``threads``: default all
    processors. ``engine``: ``native``, ``numpy`` or ``torch``; default native where it was built,
    else NumPy. ``kernels``: the instruction set of the native engine, default the best there is.
    ``adapters``: what sequences can choose from, by name.

    What it is given is checked: anything illegal is a :class:`BadInput` of one line.
    """

    def __init__(
        self,
        model: IntModel | ModelFile,
        *,
        context: int | None = None,
        threads: int | None = None,
        engine: str | None = None,
        kernels: str | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        if not isinstance(model, IntModel | ModelFile):
            raise BadInput(f"model must be an integer model, not {short(model)}")
        a = model.architecture
        self.vocabulary = a.vocabulary
        self.context = a.context if context is None else min(integer("context", context), a.context)
        self.threads = processors() if threads is None else integer("threads", threads)
        if self.context < 1:
            raise BadInput(f"context must be at least 1, not {context}")
        if not 1 <= self.threads <= MOST_THREADS:
            raise BadInput(f"threads must be from 1 to {MOST_THREADS}, not {threads}")
        self.fallback = engine is None and not native_here()
        name = ("numpy" if self.fallback else "native") if engine is None else engine
        if not isinstance(name, str) or name not in ENGINES:
            raise BadInput(f"engine must be one of {', '.join(ENGINES)}, not {short(name)}")
        adapters = {} if adapters is None else adapters
        check_adapters(adapters)
        self.adapters = tuple(adapters)
        for adapter in adapters.values():
            adapter.check(model)
        self._engine = make_engine(model, self.context, self.threads, name, kernels, adapters)
        self.memory = {
            "weights": self._engine.weight_bytes,
            "sequence": self._engine.sequence_bytes,
        }

    @property
    def engine(self) -> str:
        """Which engine runs, with its instruction set or device."""
        return self._engine.name

    def sequence(self, adapter: str | None = None) -> Sequence:
        """Empty keys and values of one sequence, which runs with that adapter."""
        if adapter is not None and not (isinstance(adapter, str) and adapter in self.adapters):
            there = ", ".join(self.adapters) or "none"
            raise BadInput(f"adapter must be one of those given ({there}), not {short(adapter)}")
        return Sequence(self._engine, self._engine.sequence(adapter), adapter)

    def logits(
        self,
        tokens: Integers,
        sequence: Sequence | None = None,
        position: int = 0,
        *,
        last: bool = False,
    ) -> np.ndarray:
        """Logits (nats, 12 fraction bits) after ``tokens`` [T] from ``position`` on.

        Returns int32 [T, vocabulary], or with ``last`` [1, vocabulary]. ``sequence``: its memory,
        which holds all before ``position``; default a fresh one.
        """
        ids = integers("tokens", tokens)
        rows = np.arange(len(ids), dtype=np.int64)
        sequence = self.sequence() if sequence is None else sequence
        return self._run(sequence, ids, position, rows[-1:] if last else rows)

    def prefill(self, sequence: Sequence, tokens: Integers, position: int = 0) -> None:
        """Put ``tokens`` from ``position`` on into the memory of ``sequence``."""
        self._run(sequence, integers("tokens", tokens), position, np.empty(0, np.int64))

    def step(
        self, sequences: Many[Sequence], tokens: Integers, positions: Integers, wanted: Integers
    ) -> np.ndarray:
        """Run rows of many sequences together: int32 [wanted, vocabulary] logits.

        Row r is ``tokens[r]`` at ``positions[r]`` of ``sequences[r]``; a sequence's rows follow
        each other. ``wanted``: the rows whose logits are wanted, ascending.
        """
        ids, places = integers("tokens", tokens), integers("positions", positions)
        chosen = integers("wanted", wanted)
        check_range("wanted rows", chosen, len(ids))
        if (np.diff(chosen) <= 0).any():
            raise BadInput(f"wanted rows must ascend, not {short(chosen.tolist())}")
        lengths = self._check(sequences, ids, places)
        memories = [sequence.memory for sequence in sequences]
        logits = self._engine.forward(memories, ids, places, chosen)
        for sequence, length in lengths.items():
            sequence.length = length
        return logits

    def decode(
        self,
        sequences: Many[Sequence],
        tokens: Integers,
        positions: Integers,
        samplings: Many[Sampling],
        count: int,
    ) -> np.ndarray:
        """Let every sequence go on: int32 [count, sequences].

        ``tokens``, ``positions``: the last token of each, not yet in memory, and where it stands.
        The last tokens returned are not in memory either.
        """
        ids, places = integers("tokens", tokens), integers("positions", positions)
        count = integer("count", count)
        if not 0 <= count <= self.context:
            raise BadInput(f"count must be from 0 to {self.context}, not {count}")
        lengths = self._check(sequences, ids, places)
        if len(lengths) != len(sequences):
            raise BadInput("sequences that go on together must differ")
        check_samplings(samplings, len(sequences))
        check_range("positions", places + max(count - 1, 0), self.context)
        if count == 0:
            return np.empty((0, len(sequences)), np.int32)
        memories = [sequence.memory for sequence in sequences]
        new = self._engine.decode(memories, ids, places, list(samplings), count)
        for sequence, position in zip(sequences, places.tolist(), strict=True):
            sequence.length = position + count
        return new

    def generate(
        self, sequence: Sequence, tokens: Integers, position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """Take ``tokens`` from ``position`` on, then yield ``count`` new ones.

        The memory may run ahead of what was yielded; going on from any earlier position is right.
        """
        ids, position = integers("tokens", tokens), integer("position", position)
        count = integer("count", count)
        if not len(ids) or count < 0:
            raise BadInput("tokens must not be none, nor count negative")
        check_samplings([sampling], 1)
        check_range("tokens", ids, self.vocabulary)  # the last too, before the others are taken
        self._check_room(position, len(ids) + max(count - 1, 0))
        if len(ids) > 1:
            self.prefill(sequence, ids[:-1], position)
        position += len(ids) - 1
        token, chunks = int(ids[-1]), iter(CHUNKS)
        while count > 0:
            size = min(next(chunks, CHUNKS[-1]), count)
            new = self.decode([sequence], [token], [position], [sampling], size)[:, 0]
            yield from new.tolist()
            token, position, count = int(new[-1]), position + size, count - size

    def _run(
        self, sequence: Sequence, ids: np.ndarray, position: int, wanted: np.ndarray
    ) -> np.ndarray:
        position = integer("position", position)
        check_sequences([sequence], self._engine)
        self._check_room(position, len(ids))
        places = np.arange(position, position + len(ids), dtype=np.int64)
        return self.step([sequence] * len(ids), ids, places, wanted)

    def _check_room(self, position: int, count: int) -> None:
        if position < 0 or position + count > self.context:
            end = position + max(count - 1, 0)
            raise BadInput(
                f"positions must be from 0 to {self.context - 1}, not {position} to {end}"
            )

    def _check(
        self, sequences: Many[Sequence], ids: np.ndarray, places: np.ndarray
    ) -> dict[Sequence, int]:
        check_sequences(sequences, self._engine)
        check_count("tokens", ids, len(sequences))
        check_count("positions", places, len(sequences))
        check_range("tokens", ids, self.vocabulary)
        check_range("positions", places, self.context)
        return follow(sequences, places)
