"""``/v1/chat/completions``: the model's turn in a conversation."""

from collections.abc import Sequence
from typing import Any

from intaglio.serve.answer import Answer, Piece
from intaglio.serve.batch import END_OF_TEXT
from intaglio.serve.grammar import Grammar
from intaglio.serve.logprobs import chat_logprobs
from intaglio.serve.protocol import ChatRequest
from intaglio.serve.served import Served, aside
from intaglio.serve.tools import Call, Dialect, Reader, call_id, check_messages, dialect_of


class Chat(Answer):
    """The choices of a turn."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    asked: ChatRequest
    dialect: Dialect | None = None
    readers: Sequence[Reader | None] = ()  # of every choice, where there are tools
    counts: list[int]  # of calls that were shown

    @classmethod
    async def begin(cls, served: Served, asked: ChatRequest, client: str) -> "Chat":
        """Take a request. An answer without a limit may fill the context."""
        served.engine.check_room(asked.n, client)
        served.check_model(asked.model)
        template = served.tokenizer.chat_template
        check_messages(template, asked.messages)
        dialect = dialect_of(template) if asked.callable else None
        grammar = await (calls_of(served, asked, dialect) if dialect else served.form(asked))
        logprobs = asked.top_logprobs if asked.logprobs else None
        chosen = served.choose(asked, logprobs, grammar=grammar)
        ids = await served.encode_chat(asked.messages, asked.callable)
        works = served.works(asked, chosen, ids, asked.limit, served.context)
        one = dialect and not asked.parallel_tool_calls and dialect.end.strip()
        made = cls(served, asked, chosen, [ids], works, client, [one] if one else [])
        made.dialect = dialect
        made.readers = [dialect.reader(dialect) if dialect else None for _ in works]
        made.counts = [0] * len(works)
        return made

    def _first(self, index: int) -> list[dict[str, Any]]:
        return [self._delta(Piece(index), {"role": "assistant", "content": ""})]

    def _shown(self, piece: Piece) -> list[dict[str, Any]]:
        """Text in one chunk, every call in one, why it ended in another: clients rely on it."""
        shown, index = [], piece.index
        text, calls = read(self.readers[index], piece)
        if text or piece.scores:
            shown.append(self._delta(Piece(index, text, piece.scores), {"content": text}))
        for call in calls:
            made = {"index": self.counts[index], **self._call(index, self.counts[index], call)}
            shown.append(self._delta(Piece(index), {"tool_calls": [made]}))
            self.counts[index] += 1
        if piece.finish:
            finish = finish_of(piece, self.counts[index])
            shown.append(self._delta(Piece(index, finish=finish), {}))
        return shown

    def _delta(self, piece: Piece, delta: dict[str, Any]) -> dict[str, Any]:
        return {
            "index": piece.index, "delta": delta, "finish_reason": piece.finish,
            "logprobs": self._logprobs(piece) if piece.scores else None,
        }  # fmt: skip

    def _choice(self, index: int, whole: Piece) -> dict[str, Any]:
        text, calls = read(self.dialect and self.dialect.reader(self.dialect), whole)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["content"] = text or None
            message["tool_calls"] = [
                self._call(index, number, call) for number, call in enumerate(calls)
            ]
        return {
            "index": index, "message": message, "finish_reason": finish_of(whole, len(calls)),
            "logprobs": self._logprobs(whole) if self.asked.logprobs else None,
        }  # fmt: skip

    def _call(self, index: int, number: int, call: Call) -> dict[str, Any]:
        return {
            "id": call_id(self.choices[index].work.ids, index, number, call), "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }  # fmt: skip

    def _logprobs(self, piece: Piece) -> dict[str, Any]:
        return chat_logprobs(self.served.tokenizer, piece.scores)


def read(reader: Reader | None, piece: Piece) -> tuple[str, list[Call]]:
    """Text and calls that a piece brings."""
    if reader is None:
        return piece.text, []
    text, calls = reader.push(piece.text)
    if piece.finish:
        rest, more = reader.finish()
        return text + rest, calls + more
    return text, calls


def finish_of(piece: Piece, calls: int) -> str | None:
    """Why a choice ended: for its calls, where it made some and was not cut off."""
    return "tool_calls" if calls and piece.finish == END_OF_TEXT else piece.finish


async def calls_of(served: Served, asked: ChatRequest, dialect: Dialect) -> Grammar | None:
    """What holds calls to what was asked for: one must be made, or arguments follow a schema."""
    grammars = await served.grammars()
    if asked.forced:
        return await aside(dialect.forced, grammars, asked.forced)
    if any(function.strict for function in asked.callable):
        free = {"parameters": {"type": "object"}}
        held = [each if each.strict else each.model_copy(update=free) for each in asked.callable]
        return await aside(dialect.strict, grammars, held)
    return None
