"""Bench: how fast a package's twin takes prompts and says tokens here."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from intaglio.errors import BadInput
from intaglio.flow.engines import open_twin
from intaglio.flow.package import Package
from intaglio.flow.progress import Progress, silent
from intaglio.golden.sample import Sampling
from intaglio.twin import Twin


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. ``test``: pp (prompt) or tg (generated) and its length, as llama-bench says.

    ``batch``: sequences together; their tokens count together. ``sd``: of the repetitions.
    """

    test: str
    batch: int
    threads: int
    tokens_per_second: float
    sd: float


def bench_package(
    package: Package,
    *,
    prompts: Sequence[int] = (512,),
    generated: Sequence[int] = (128,),
    batches: Sequence[int] = (1,),
    threads: Sequence[int] = (),
    repetitions: int = 5,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure every length with every batch and number of threads, after one run that warms up.

    Lengths are cut to the chip's context. Tokens are random, generation is greedy.
    """
    for name, values in (("prompt", prompts), ("tokens", generated), ("batch", batches)):
        if any(value < (1 if name == "batch" else 0) for value in values):
            raise BadInput(f"{name} must not be negative, batch at least 1, not {list(values)}")
    if repetitions < 1 or any(value < 1 for value in threads):
        raise BadInput("repetitions and threads must be at least 1")
    rows: list[Row] = []
    twin = None
    for count in threads or (None,):
        twin = open_twin(package, threads=count)
        rows += measure(twin, prompts, generated, batches, repetitions, progress)
    assert twin
    return {
        "engine": twin.engine,
        "weight_bytes": twin.memory["weights"],
        "sequence_bytes": twin.memory["sequence"],
        "tests": [asdict(row) for row in rows],
    }


def measure(
    twin: Twin,
    prompts: Sequence[int],
    generated: Sequence[int],
    batches: Sequence[int],
    repetitions: int,
    progress: Progress,
) -> Iterator[Row]:
    """One row after the other."""
    tests: list[tuple[str, int, int, Callable[[Twin, int, int], None]]] = []
    for batch in batches:
        lengths = sorted({min(n, twin.context) for n in prompts if n})
        tests += [(f"pp{n}", n, batch, run_prompt) for n in lengths]
        lengths = sorted({min(n, twin.context) for n in generated if n})
        tests += [(f"tg{n}", n, batch, run_generation) for n in lengths]
    for name, length, batch, run in tests:
        step = f"{name}, batch {batch}, {twin.threads} threads"
        rates = []
        for turn in range(repetitions + 1):
            progress(step, turn / (repetitions + 1), "")
            started = time.perf_counter()
            run(twin, length, batch)
            rates.append(batch * length / (time.perf_counter() - started))
        progress(step, 1, "")
        mean, sd = statistics.mean(rates[1:]), statistics.pstdev(rates[1:])
        yield Row(name, batch, twin.threads, mean, sd)


def run_prompt(twin: Twin, length: int, batch: int) -> None:
    """Take prompts of random tokens, all together."""
    ids = np.random.default_rng(0).integers(0, twin.vocabulary, (batch, length))
    sequences = [twin.sequence() for _ in range(batch)]
    rows = [sequence for sequence in sequences for _ in range(length)]
    twin.step(rows, ids.reshape(-1), np.tile(np.arange(length), batch), np.empty(0, np.int64))


def run_generation(twin: Twin, length: int, batch: int) -> None:
    """Say tokens from empty contexts, all sequences together."""
    sequences = [twin.sequence() for _ in range(batch)]
    zeros = np.zeros(batch, np.int64)
    twin.decode(sequences, zeros, zeros, [Sampling()] * batch, length)
