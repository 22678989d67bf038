"""The choices of an answer, a token of each at a time."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.serve.batch import END_OF_TEXT, WHOLE, Read, Work
from intaglio.serve.engine import Ticket
from intaglio.serve.host import Scored
from intaglio.serve.protocol import Generation
from intaglio.serve.served import Chosen, Served
from intaglio.serve.speech import Speech, Spelled


@dataclass
class Piece:
    """What came with one token of one choice. ``finish``: why it is the last."""

    index: int
    text: str = ""
    scores: list[Spelled] = field(default_factory=list)
    finish: str | None = None
    read: tuple[Scored, ...] | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self.text and self.finish is None and self.read is None


class Choice:
    """One sequence of an answer."""

    def __init__(
        self,
        index: int,
        work: Work,
        ticket: Ticket | None,
        tokenizer: Tokenizer,
        stops: Sequence[str],
    ) -> None:
        self.index, self.work, self.ticket = index, work, ticket
        self.speech = Speech(tokenizer, stops)
        self.count = 0

    async def next(self) -> Piece:
        """What the next token brings."""
        if self.ticket is None:  # a prompt to be echoed, and no more
            return Piece(self.index, finish="length")
        event = await self.ticket.next()
        if isinstance(event, Read):
            return Piece(self.index, read=event.scored, finish=event.reason)
        self.count += 1
        text, finish = "", event.reason
        if finish != END_OF_TEXT:
            text = self.speech.push(event.token, event.scored)
        finish = END_OF_TEXT if finish == WHOLE else finish
        if finish and not self.speech.stopped:
            text += self.speech.finish()
        if self.speech.stopped:
            finish = END_OF_TEXT
            self.ticket.close()
        scores = self.speech.scores() if text or finish else []
        return Piece(self.index, text, scores, finish)

    def close(self) -> None:
        """Let nothing more be made of it."""
        if self.ticket:
            self.ticket.close()


async def pieces(choices: Sequence[Choice]) -> AsyncIterator[Piece]:
    """What is to be shown, in an order that depends on the answer alone: token by token, and in a
    round of tokens choice by choice."""
    going = list(choices)
    while going:
        for choice in tuple(going):
            piece = await choice.next()
            if piece.finish:
                going.remove(choice)
            if not piece.empty:
                yield piece


def usage(prompts: Sequence[int], choices: Sequence[Choice]) -> dict[str, Any]:
    """Tokens in and out. ``prompts``: of every prompt, however many choices it has."""
    said = sum(choice.count for choice in choices)
    return {
        "prompt_tokens": sum(prompts),
        "completion_tokens": said,
        "total_tokens": sum(prompts) + said,
    }


class Answer:
    """A request that is being answered, at once or as a stream.

    Made by its ``begin``, which raises :class:`Refused` before anything is sent. ``close`` it.
    """

    kind, chunk_kind, prefix = "", "", ""

    def __init__(
        self,
        served: Served,
        asked: Generation,
        chosen: Chosen,
        prompts: Sequence[Sequence[int]],
        works: Sequence[Work],
        client: str,
        stops: Sequence[str] = (),
    ) -> None:
        """``stops``: beside those that were asked for."""
        self.served, self.asked, self.chosen = served, asked, chosen
        self.prompts = [len(ids) for ids in prompts]
        needed = [work for work in works if work.count or work.host]
        tickets = iter(served.engine.submit(needed, client))
        self.choices = [
            Choice(index, work, next(tickets) if work.count or work.host else None,
                   served.tokenizer, (*asked.stop, *stops))
            for index, work in enumerate(works)
        ]  # fmt: skip
        self.since = time.monotonic()
        self.head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model,
            "system_fingerprint": served.hash,
        }

    def close(self) -> None:
        """Let nothing more be made."""
        for choice in self.choices:
            choice.close()
        said = sum(choice.count for choice in self.choices)
        self.served.metrics.ended(sum(self.prompts), said, time.monotonic() - self.since)

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        found: list[list[Piece]] = [[] for _ in self.choices]
        async for piece in self._pieces():
            found[piece.index].append(piece)
        return {
            **self.head,
            "object": self.kind,
            "choices": [
                self._choice(index, merged(index, made)) for index, made in enumerate(found)
            ],
            "usage": usage(self.prompts, self.choices),
            "intaglio": await self._extension(),
        }

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The answer as chunks: text, why each choice ended, and usage where it is wanted.

        The last choice to end carries the ``intaglio`` object.
        """
        head = {**self.head, "object": self.chunk_kind}
        if self.asked.usage_wanted:
            head["usage"] = None
        for choice in self.choices:
            for first in self._first(choice.index):
                yield {**head, "choices": [first]}
        left = len(self.choices)
        async for piece in self._pieces():
            for shown in self._shown(piece):
                last = shown["finish_reason"] is not None
                left -= last
                more = {"intaglio": await self._extension()} if last and not left else {}
                yield {**head, "choices": [shown], **more}
        if self.asked.usage_wanted:
            yield {**head, "choices": [], "usage": usage(self.prompts, self.choices)}

    async def _pieces(self) -> AsyncIterator[Piece]:
        before = None
        async for piece in pieces(self.choices):
            now = time.monotonic()
            self.served.metrics.piece(now - (before or self.since), first=before is None)
            before = now
            yield piece

    async def _extension(self) -> dict[str, Any]:
        counts = [(len(choice.work.ids), choice.count) for choice in self.choices]
        return await self.served.extension(self.chosen, counts)

    def _first(self, index: int) -> list[dict[str, Any]]:
        """Chunks of a choice before its first token."""
        raise NotImplementedError

    def _shown(self, piece: Piece) -> list[dict[str, Any]]:
        """Chunks of a choice that a piece makes."""
        raise NotImplementedError

    def _choice(self, index: int, whole: Piece) -> dict[str, Any]:
        """A whole choice."""
        raise NotImplementedError


def merged(index: int, made: Sequence[Piece]) -> Piece:
    """The pieces of a choice as one."""
    read = next((piece.read for piece in made if piece.read is not None), None)
    return Piece(
        index,
        "".join(piece.text for piece in made),
        [each for piece in made for each in piece.scores],
        made[-1].finish,
        read,
    )
