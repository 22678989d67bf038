"""Continuous batching: sequences of many clients through the twin together, a round at a time.

What a sequence says depends on its own work alone: the twin's integers are the same in any batch,
and random bits come from seed and position.
"""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from intaglio.golden.sample import Sampling
from intaglio.serve.grammar import Constraint, Grammar
from intaglio.serve.host import HostSampling, Scored, choose, score
from intaglio.serve.refusal import Refused
from intaglio.twin import Twin

ROWS = 192  # prompt positions of a round, all sequences together
LONGEST = 32  # tokens that a round says of every sequence, at most
QUICK, SLOW = 0.01, 0.03  # seconds: a round below says twice as many the next time, above half

END_OF_TEXT, WHOLE, LENGTH = "stop", "whole", "length"  # whole: by its grammar


@dataclass(frozen=True, slots=True)
class Work:
    """A sequence: its prompt, how many tokens at most, and how they are chosen.

    ``ends``: tokens that end it. ``host``: in host sampling mode, which ``grammar`` needs.
    """

    ids: tuple[int, ...]
    count: int
    sampling: Sampling
    ends: frozenset[int] = frozenset()
    adapter: str | None = None
    host: HostSampling | None = None
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A token; ``reason``: why it is the last, else None."""

    token: int
    reason: str | None
    scored: Scored | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """The prompt's tokens after the first have been scored; ``reason``: why nothing follows."""

    scored: tuple[Scored, ...]
    reason: str | None


Step = Said | Read
Event = Step | Refused


@dataclass(eq=False)
class Running:
    """A sequence that runs. ``pending``: tokens known and not yet in memory, the first at
    ``position``.

    ``leader``: another of the same prompt, which reads it for both; till then nothing is pending.
    ``over``: it has ended.
    """

    work: Work
    sequence: Any = None
    pending: list[int] = field(default_factory=list)
    constraint: Constraint | None = None
    leader: "Running | None" = None
    over: bool = False
    position: int = 0
    said: Counter[int] = field(default_factory=Counter)
    count: int = 0
    read: list[Scored] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Tokens still to say."""
        return self.work.count - self.count

    @property
    def by_rows(self) -> int:
        """Pending tokens that must go through rows; the chip's own sampler takes the last."""
        return len(self.pending) - (self.work.host is None)

    @property
    def of_prompt(self) -> bool:
        """Whether rows are of the prompt, and their probabilities wanted."""
        return bool(self.work.host and self.work.host.prompt and not self.count)


class Batch:
    """The sequences that run."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.running: dict[int, Running] = {}
        self.length = 1

    def add(self, key: int, work: Work) -> None:
        """Let another sequence run. A prompt that another one has too, the same object, is read
        once for both."""
        alike = (
            each for each in self.running.values()
            if each.work.ids is work.ids and each.work.adapter == work.adapter
        )  # fmt: skip
        first = next(alike, None)
        if first:
            self.running[key] = Running(work, leader=first.leader or first)
        else:
            self.running[key] = Running(work, self.twin.sequence(work.adapter), list(work.ids))
        if work.grammar:
            self.running[key].constraint = work.grammar.begin()

    def drop(self, key: int) -> None:
        """Forget a sequence, if it runs."""
        each = self.running.pop(key, None)
        if each:
            each.over = True

    def round(self) -> list[tuple[int, Event]]:
        """Run one round and return what came of it; sequences that ended are gone then."""
        self._share()
        events = self._by_rows()
        events += self._by_sampler()
        for key, event in events:
            if isinstance(event, Refused) or event.reason:
                self.drop(key)
        return events

    def _share(self) -> None:
        """Give sequences the prompt that their leader has read; where it ended before it had,
        the first of them leads the others."""
        for each in self.running.values():
            leader, most = each.leader, len(each.work.ids) - 1
            if leader is None or (leader.position < most and not leader.over):
                continue
            self._fork(each, leader, min(leader.position, most))
            if each.position < most:
                for other in self.running.values():
                    other.leader = each if other.leader is leader else other.leader

    def _fork(self, each: Running, leader: Running, length: int) -> None:
        """Let a sequence begin with the first ``length`` positions of its leader's."""
        each.sequence = (
            leader.sequence.fork(length) if length else self.twin.sequence(each.work.adapter)
        )
        each.leader, each.position, each.pending = None, length, list(each.work.ids[length:])
        each.read = leader.read[:length]

    def _by_rows(self) -> list[tuple[int, Event]]:
        """Put prompts into memory, a share of each; let the host choose where it does."""
        work = [(key, each) for key, each in self.running.items() if each.by_rows > 0]
        if not work:
            return []
        share = max(ROWS // len(work), 1)
        parts = [(key, each, min(each.by_rows, share)) for key, each in work]
        sequences, tokens, positions, wanted, row = [], [], [], [], 0
        for _, each, size in parts:
            sequences += [each.sequence] * size
            tokens += each.pending[:size]
            positions += range(each.position, each.position + size)
            last = each.work.host and size == len(each.pending)
            wanted += range(row, row + size) if each.of_prompt else [row + size - 1] if last else []
            row += size
        logits = self.twin.step(sequences, tokens, positions, np.array(wanted, np.int64))
        events, row = [], 0
        for key, each, size in parts:
            rows = size if each.of_prompt else int(bool(each.work.host) and size == each.by_rows)
            events += [(key, event) for event in self._taken(each, size, logits[row : row + rows])]
            row += rows
        return events

    def _taken(self, each: Running, size: int, logits: np.ndarray) -> list[Event]:
        """What follows from ``size`` pending tokens being in memory; ``logits``: as wanted."""
        host, events = each.work.host, []
        whole = size == len(each.pending)
        if host and each.of_prompt:
            following = each.pending[1 : size + 1]
            each.read += [
                score(row, token, host.logprobs or 0)
                for row, token in zip(logits, following, strict=False)
            ]
            if whole:
                reason = None if each.work.count else LENGTH
                events.append(Read(tuple(each.read), reason))
        each.position += size
        del each.pending[:size]
        if host and whole and each.left:
            events.append(self._chosen(each, host, logits[-1]))
        return events

    def _chosen(self, each: Running, host: HostSampling, logits: np.ndarray) -> Event:
        constraint = each.constraint
        try:
            allowed = constraint.allowed() if constraint else None
            token = choose(logits, each.work.sampling, each.position - 1, host, each.said, allowed)
            whole = constraint is not None and constraint.take(token)
        except Refused as error:
            return error
        each.said[token] += 1
        scored = None if host.logprobs is None else score(logits, token, host.logprobs)
        each.pending = [token]
        said = self._said(each, token, scored)
        return replace(said, reason=WHOLE) if whole and said.reason != END_OF_TEXT else said

    def _by_sampler(self) -> list[tuple[int, Event]]:
        """Let the chip's sampler go on where the prompt is in memory."""
        ready = [
            (key, each) for key, each in self.running.items()
            if each.work.host is None and len(each.pending) == 1
        ]  # fmt: skip
        if not ready:
            return []
        alone = len(ready) == len(self.running)
        count = min(self.length if alone else 1, *(each.left for _, each in ready))
        started = time.monotonic()
        new = self.twin.decode(
            [each.sequence for _, each in ready], [each.pending[0] for _, each in ready],
            [each.position for _, each in ready], [each.work.sampling for _, each in ready], count,
        )  # fmt: skip
        self._pace(time.monotonic() - started)
        events = []
        for column, (key, each) in enumerate(ready):
            each.position += count
            for token in new[:, column].tolist():
                event = self._said(each, token, None)
                events.append((key, event))
                if event.reason:
                    break
            each.pending = [int(new[-1, column])]
        return events

    def _pace(self, seconds: float) -> None:
        """Say more at once where that is quick: the tokens are the same."""
        if seconds < QUICK:
            self.length = min(2 * self.length, LONGEST)
        elif seconds > SLOW:
            self.length = max(self.length // 2, 1)

    def _said(self, each: Running, token: int, scored: Scored | None) -> Said:
        each.count += 1
        if token in each.work.ends:
            return Said(token, END_OF_TEXT, scored)
        return Said(token, None if each.left else LENGTH, scored)
