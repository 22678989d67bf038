"""Generation with a chip: by the integer model or by the simulated chip itself."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadInput
from intaglio.flow.package import Package
from intaglio.flow.simulator import open_simulation
from intaglio.golden.forward import Golden
from intaglio.golden.sample import Sampling, sample
from intaglio.hardware.port import EPOCH_BITS
from intaglio.plan.schedule import Schedule, User
from intaglio.plan.target import target
from intaglio.verify.simulation import Result

Progress = Callable[[str, int, int], None]
ENGINES = ("golden", "rtl")


class Source(Protocol):
    """Something that says tokens: the integer model, or the RTL."""

    def run(
        self, tokens: Sequence[int], position: int, count: int, sampling: Sampling
    ) -> Iterator[int]:
        """Take ``tokens`` from ``position`` on, then yield at most ``count`` new ones."""
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
        ids = list(tokens)
        for _ in range(count):
            x = self.golden.residual(np.array(ids), position)
            position += len(ids)
            token = sample(self.golden.logits(x[-1:])[0], sampling, position - 1)
            yield token
            ids = [token]

    def close(self) -> None:
        """Nothing runs."""


class RtlSource:
    """The chip's RTL in simulation."""

    def __init__(self, package: Package, progress: Progress) -> None:
        self.epoch = 0
        self.simulation = open_simulation(package, progress)

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


class Talk:
    """A conversation with one chip. What two prompts begin with in common is run once."""

    def __init__(self, package: Package, engine: str, *, progress: Progress | None = None) -> None:
        if engine not in ENGINES:
            raise BadInput(f"--engine must be one of {', '.join(ENGINES)}, not {engine!r}")
        self.package, self.engine = package, engine
        self.context = package.plan.context
        show = progress or (lambda *_: None)
        self.source: Source = (
            GoldenSource(package) if engine == "golden" else RtlSource(package, show)
        )
        self.seen: list[int] = []
        self.count, self.seconds, self.sampling = 0, 0.0, Sampling()

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def encode(self, text: str, *, chat: bool = False) -> list[int]:
        """Tokens of a prompt, put into the chat template where asked."""
        return encode_prompt(self.package.tokenizer, text, chat=chat)

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """Tokens of a conversation up to the chip's turn."""
        return list(self.package.tokenizer.encode_chat(messages))

    def complete(
        self, ids: Sequence[int], count: int, sampling: Sampling, *, stop: bool = True
    ) -> Iterator[str]:
        """Yield the text that follows ``ids``, at most ``count`` tokens of it, whole characters.

        ``stop``: end at the model's end of text or turn.
        """
        check_length(self.context, len(ids), count)
        ids = list(ids)
        shared = min(common_prefix(self.seen, ids), len(ids) - 1)
        stream = self.package.tokenizer.stream()
        self.seen, self.count, self.sampling = ids[:], 0, sampling
        started = time.monotonic()
        for token in self.source.run(ids[shared:], shared, count, sampling):
            self.count += 1
            self.seconds = time.monotonic() - started
            if stop and token in self.package.tokenizer.end_ids:
                break
            self.seen.append(token)
            piece = stream.push(token)
            if piece:
                yield piece
        rest = stream.finish()
        if rest:
            yield rest

    def summary(self, prompt: int) -> dict[str, Any]:
        """What the last completion took, here and on the chip (modelled from exact cycles)."""
        clock = target(self.package.plan.target).clock
        schedule = Schedule(self.package.plan)
        cycles = schedule.run([User(prompt, max(self.count, 1), self.sampling)])
        decode = cycles - schedule.run([User(prompt, 1, self.sampling)])
        seconds = cycles / clock
        rate = (self.count - 1) * clock / decode if self.count > 1 else self.count / seconds
        return {
            "prompt_tokens": prompt,
            "tokens": self.count,
            "engine": self.engine,
            "seconds": self.seconds,
            "chip": {
                "seconds": seconds,
                "tokens_per_second": rate,
                "joules": None,
                "cycles": cycles,
                "clock_hz": clock,
            },
        }


def encode_prompt(tokenizer: Tokenizer, text: str, *, chat: bool = False) -> list[int]:
    """Tokens of a prompt; ``chat``: as the user's turn of the model's chat template."""
    if chat:
        return list(tokenizer.encode_chat([{"role": "user", "content": text}]))
    return [*tokenizer.begin_ids, *tokenizer.encode(text)]


def check_length(context: int, prompt: int, count: int) -> None:
    """Raise :class:`BadInput` unless prompt and new tokens fit the chip's context."""
    if not prompt:
        raise BadInput("the prompt is empty", hint="give --prompt a text")
    if count < 1:
        raise BadInput(f"--tokens must be at least 1, not {count}")
    if prompt + count - 1 > context:
        raise BadInput(
            f"{prompt} prompt tokens and {count} new ones need {prompt + count - 1} positions, "
            f"the chip has {context}",
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
