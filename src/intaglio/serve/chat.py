"""``/v1/chat/completions``: the model's turn in a conversation."""

from typing import Any

from intaglio.serve.answer import Answer, Piece
from intaglio.serve.logprobs import chat_logprobs
from intaglio.serve.protocol import ChatRequest
from intaglio.serve.served import Served


class Chat(Answer):
    """The choices of a turn."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    asked: ChatRequest

    @classmethod
    async def begin(cls, served: Served, asked: ChatRequest) -> "Chat":
        """Take a request. An answer without a limit may fill the context."""
        served.engine.check_room(asked.n)
        chosen = served.choose(asked, asked.top_logprobs if asked.logprobs else None)
        ids = await served.encode_chat(asked.messages)
        works = served.works(asked, chosen, ids, asked.limit, served.context)
        return cls(served, asked, chosen, [ids], works)

    def _first(self, index: int) -> list[dict[str, Any]]:
        return [self._delta(Piece(index), {"role": "assistant", "content": ""})]

    def _shown(self, piece: Piece) -> list[dict[str, Any]]:
        """Text in one chunk, why it ended in another: clients rely on it."""
        shown = []
        if piece.text or piece.scores:
            text = Piece(piece.index, piece.text, piece.scores)
            shown.append(self._delta(text, {"content": piece.text}))
        if piece.finish:
            shown.append(self._delta(Piece(piece.index, finish=piece.finish), {}))
        return shown

    def _delta(self, piece: Piece, delta: dict[str, Any]) -> dict[str, Any]:
        return {
            "index": piece.index, "delta": delta, "finish_reason": piece.finish,
            "logprobs": self._logprobs(piece) if piece.scores else None,
        }  # fmt: skip

    def _choice(self, index: int, whole: Piece) -> dict[str, Any]:
        message = {"role": "assistant", "content": whole.text, "refusal": None}
        return {
            "index": index, "message": message, "finish_reason": whole.finish,
            "logprobs": self._logprobs(whole) if self.asked.logprobs else None,
        }  # fmt: skip

    def _logprobs(self, piece: Piece) -> dict[str, Any]:
        return chat_logprobs(self.served.tokenizer, piece.scores)
