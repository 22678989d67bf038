"""Generation with a chip: by the integer model or by the simulated chip itself."""

import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadInput
from intaglio.flow.package import Package
from intaglio.flow.progress import Progress, silent
from intaglio.flow.simulator import executable_of
from intaglio.golden.forward import Golden
from intaglio.golden.sample import Sampling, sample
from intaglio.hardware.port import EPOCH_BITS
from intaglio.plan.schedule import Schedule, User
from intaglio.plan.target import target
from intaglio.verify.simulation import Result, Simulation

ENGINES = ("golden", "rtl")
BLOCK = 64  # prompt positions that the integer model runs at once


class Source(Protocol):
    """Something that says tokens: the integer model, or the RTL."""

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """Take ``tokens`` from ``position`` on, then yield at most ``count`` new ones.

        All before ``position`` must have been taken; whatever was at it or after is forgotten.
        """
        ...

    def close(self) -> None:
        """End whatever runs."""
        ...


class GoldenSource:
    """The integer model in NumPy."""

    def __init__(self, package: Package) -> None:
        self.golden = Golden(package.model, context=package.plan.context)

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """See :class:`Source`."""
        ids = np.array(tokens, np.int64)
        for _ in range(count):
            for start in range(0, len(ids), BLOCK):
                x = self.golden.residual(ids[start : start + BLOCK], position + start)
            position += len(ids)
            token = sample(self.golden.logits(x[-1:])[0], sampling, position - 1)
            yield token
            ids = np.array([token], np.int64)

    def close(self) -> None:
        """Nothing runs."""


class RtlSource:
    """The chip's RTL in simulation. A new epoch rewinds it."""

    def __init__(self, package: Package, progress: Progress) -> None:
        self.epoch = 0
        executable, _ = executable_of(package, progress=progress)
        with unheard_interrupts():
            self.simulation = Simulation(executable, package.images)

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """See :class:`Source`."""
        self.epoch = (self.epoch + 1) % (1 << EPOCH_BITS)
        limit = position + len(tokens) + count
        self.simulation.configure(0, sampling, limit=limit, epoch=self.epoch)
        self.simulation.send(0, list(tokens), position)
        for _ in range(count):
            for result in self.simulation.run(1):
                assert isinstance(result, Result)
                yield result.token

    def close(self) -> None:
        """End the simulation."""
        self.simulation.close()


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


class Talk:
    """A conversation with one chip. What two prompts begin with in common is run once."""

    def __init__(self, package: Package, engine: str = "golden") -> None:
        if engine not in ENGINES:
            raise BadInput(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
        self.package, self.engine = package, engine
        self.context = package.plan.context
        self.source: Source | None = None
        self.taken: list[int] = []
        """The tokens whose keys and values the engine holds, from position 0 on."""
        self.prompt, self.count, self.seconds, self.sampling = 0, 0, 0.0, Sampling()

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        if self.source:
            self.source.close()

    def encode(self, text: str, *, chat: bool = False) -> list[int]:
        """Tokens of a prompt, put into the chat template where asked."""
        return encode_prompt(self.package.tokenizer, text, chat=chat)

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Tokens of a conversation up to the chip's turn."""
        return list(self.package.tokenizer.encode_chat(messages))

    def start(self, progress: Progress = silent) -> None:
        """Start the engine, unless it runs; building a simulator can take minutes."""
        if self.source is None:
            golden = self.engine == "golden"
            self.source = (
                GoldenSource(self.package) if golden else RtlSource(self.package, progress)
            )

    def complete(
        self, ids: Sequence[int], count: int, sampling: Sampling, *, stop: bool = True
    ) -> Generator[str, None, None]:
        """Yield the text that follows ``ids``, at most ``count`` tokens of it, whole characters.

        ``stop``: end at the model's end of text or turn.
        """
        check_length(self.context, len(ids), count)
        self.start()
        assert self.source
        ids, ends = list(ids), self.package.tokenizer.end_ids if stop else ()
        shared = min(common_prefix(self.taken, ids), len(ids) - 1)
        stream = self.package.tokenizer.stream()
        self.taken = ids[:shared]
        self.prompt, self.count, self.seconds, self.sampling = len(ids), 0, 0.0, sampling
        started = time.monotonic()
        pending = ids[shared:]  # what the engine will have taken when the next token comes
        for token in self.source.run(ids[shared:], shared, count, sampling):
            self.taken += pending
            pending = [token]
            self.count += 1
            self.seconds = time.monotonic() - started
            if token in ends:
                break
            piece = stream.push(token)
            if piece:
                yield piece
        rest = stream.finish()
        if rest:
            yield rest

    def summary(self) -> dict[str, Any]:
        """What the last completion took, here and on the chip (modelled from exact cycles)."""
        clock = target(self.package.plan.target).clock
        schedule = Schedule(self.package.plan)
        cycles = schedule.run([User(self.prompt, self.count, self.sampling)])
        first = schedule.run([User(self.prompt, 1, self.sampling)])
        several = self.count > 1
        return {
            "prompt_tokens": self.prompt,
            "tokens": self.count,
            "engine": self.engine,
            "seconds": self.seconds,
            "chip": {
                "seconds": cycles / clock,
                "tokens_per_second": (self.count - 1) * clock / (cycles - first) if several
                else clock / cycles,
                "joules": None,
                "cycles": cycles,
                "clock_hz": clock,
            },
        }  # fmt: skip


def encode_prompt(tokenizer: Tokenizer, text: str, *, chat: bool = False) -> list[int]:
    """Tokens of a prompt; ``chat``: as the user's turn of the model's chat template."""
    if not text:
        raise BadInput("the prompt is empty", hint="give --prompt a text")
    if chat:
        return list(tokenizer.encode_chat([{"role": "user", "content": text}]))
    return [*tokenizer.begin_ids, *tokenizer.encode(text)]


def check_length(context: int, prompt: int, count: int) -> None:
    """Raise :class:`BadInput` unless prompt and new tokens fit the chip's context."""
    if not prompt:
        raise BadInput("the prompt has no tokens", hint="give --prompt a text")
    if count < 1:
        raise BadInput(f"tokens to generate must be at least 1, not {count}")
    needed = prompt + count - 1  # the last token is said, not run
    if needed > context:
        raise BadInput(
            f"{prompt} prompt tokens and {count} new ones need {needed} positions, the chip has "
            f"{context}",
            hint="a shorter prompt, fewer --tokens, or compile with a larger --context",
        )


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
