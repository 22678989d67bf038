"""The engines that a package runs on: golden, the twin, or its RTL in simulation."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from intaglio.errors import BadInput
from intaglio.flow.adapters import NamedAdapter, check_side_memory
from intaglio.flow.package import Package
from intaglio.flow.progress import Progress
from intaglio.flow.simulator import executable_of
from intaglio.golden.forward import Golden
from intaglio.golden.model import ModelFile
from intaglio.golden.sample import Sampling, sample
from intaglio.hardware.port import EPOCH_BITS
from intaglio.twin import NO_NATIVE, Twin
from intaglio.verify.simulation import Result, Simulation

ENGINES = ("twin", "golden", "rtl")
BLOCK = 64  # prompt positions that golden runs at once
ROWS = 96  # of logits that are made and looked at together, at least
ROWS_BYTES = 1 << 24  # and so many bytes: a larger array is new memory every time


class Source(Protocol):
    """Something that says tokens."""

    name: str
    """Which engine, with what it runs on."""
    remark: str
    """What a person should know, or nothing."""

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """Take ``tokens`` from ``position`` on, then yield at most ``count`` new ones.

        All before ``position`` must have been taken; whatever was at it or after is forgotten.
        """
        ...

    def logits(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Logits (nats, 12 fraction bits) after every one of ``tokens`` [T], by blocks of rows:
        [rows, vocabulary]."""
        ...

    def close(self) -> None:
        """End whatever runs."""
        ...


def open_source(
    package: Package, engine: str, progress: Progress, adapter: NamedAdapter | None = None
) -> Source:
    """The engine of that name for a package; building a simulator can take minutes.

    ``adapter``: with which it runs.
    """
    check_engine(engine)
    if engine == "rtl":
        return RtlSource(package, progress, adapter)
    kind = TwinSource if engine == "twin" else GoldenSource
    return kind(package, adapter)


def check_engine(engine: str) -> None:
    """Raise :class:`BadInput` unless there is an engine of that name."""
    if engine not in ENGINES:
        raise BadInput(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")


def open_twin(
    package: Package, *, threads: int | None = None, adapters: Sequence[NamedAdapter] = ()
) -> Twin:
    """The twin of a package; its weights are never in memory unpacked."""
    model = ModelFile(package.path / "model.safetensors", package.hash)
    made = {adapter.name: adapter.integers for adapter in adapters}
    return Twin(model, context=package.plan.context, threads=threads, adapters=made)


@contextmanager
def unheard_interrupts() -> Iterator[None]:
    """Start programs that Ctrl-C does not end: it is for the one who talks to them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def blocks(count: int, vocabulary: int) -> Iterator[slice]:
    """Cut ``count`` rows of logits into blocks that are quick to make and to look at."""
    rows = max(ROWS, ROWS_BYTES // (4 * vocabulary))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


class TwinSource:
    """The twin."""

    def __init__(self, package: Package, adapter: NamedAdapter | None = None) -> None:
        self.twin = open_twin(package, adapters=[adapter] if adapter else [])
        self.name = f"the twin ({self.twin.engine})"
        self.remark = NO_NATIVE if self.twin.fallback else ""
        self.sequence = self.twin.sequence(adapter.name if adapter else None)

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """See :class:`Source`."""
        return self.twin.generate(self.sequence, tokens, position, count, sampling)

    def logits(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """See :class:`Source`."""
        sequence = self.twin.sequence(self.sequence.adapter)
        for rows in blocks(len(tokens), self.twin.vocabulary):
            yield self.twin.logits(tokens[rows], sequence, rows.start)

    def close(self) -> None:
        """Nothing runs."""


class GoldenSource:
    """The integer model in NumPy: slow, and the meaning of all others."""

    name, remark = "golden", ""

    def __init__(self, package: Package, adapter: NamedAdapter | None = None) -> None:
        self.adapter = adapter.name if adapter else None
        adapters = {adapter.name: adapter.integers} if adapter else {}
        self.golden = Golden(package.model, context=package.plan.context, adapters=adapters)

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """See :class:`Source`."""
        ids = np.array(tokens, np.int64)
        for _ in range(count):
            for start in range(0, len(ids), BLOCK):
                block = ids[start : start + BLOCK]
                x = self.golden.residual(block, position + start, adapter=self.adapter)
            position += len(ids)
            token = sample(self.golden.logits(x[-1:])[0], sampling, position - 1)
            yield token
            ids = np.array([token], np.int64)

    def logits(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """See :class:`Source`."""
        yield self.golden.logits(self.golden.residual(tokens, adapter=self.adapter))

    def close(self) -> None:
        """Nothing runs."""


class RtlSource:
    """The chip's RTL in simulation. A new epoch rewinds it."""

    name, remark = "the simulated chip", ""

    def __init__(
        self, package: Package, progress: Progress, adapter: NamedAdapter | None = None
    ) -> None:
        self.epoch = 0
        if adapter:
            check_side_memory(package, adapter, otherwise=", or use --engine twin")
        executable, _ = executable_of(package, progress=progress)
        with unheard_interrupts():
            self.simulation = Simulation(executable, package.images)
        self.adapter = None
        if adapter:
            self.adapter = 0  # its place in side memory
            self.simulation.load(package.plan, adapter.integers, self.adapter)

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """See :class:`Source`."""
        self._rewind(sampling, limit=position + len(tokens) + count)
        self.simulation.send(0, list(tokens), position, adapter=self.adapter)
        for _ in range(count):
            for result in self.simulation.run(1):
                assert isinstance(result, Result)
                yield result.token

    def logits(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """See :class:`Source`. The chip streams the logits of one position after the other."""
        self._rewind(Sampling(), host=True)
        for position, token in enumerate(tokens.tolist()):
            self.simulation.send(0, [token], position, adapter=self.adapter)
            yield self.simulation.logits().values[None]

    def close(self) -> None:
        """End the simulation."""
        self.simulation.close()

    def _rewind(self, sampling: Sampling, **settings: Any) -> None:
        self.epoch = (self.epoch + 1) % (1 << EPOCH_BITS)
        self.simulation.configure(0, sampling, epoch=self.epoch, **settings)
