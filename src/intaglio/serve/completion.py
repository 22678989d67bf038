"""``/v1/completions``: the text that follows a prompt."""

from collections.abc import Sequence
from typing import Any

from intaglio.serve.answer import Answer, Piece
from intaglio.serve.logprobs import completion_logprobs, joined, prompt_logprobs
from intaglio.serve.protocol import CompletionRequest
from intaglio.serve.served import Served, aside

USUAL = 16  # tokens where a request does not say how many


class Completion(Answer):
    """The choices of a completion; those of the first prompt come first."""

    kind = chunk_kind = "text_completion"
    prefix = "cmpl"
    asked: CompletionRequest
    echoes: Sequence[str] = ()

    @classmethod
    async def begin(cls, served: Served, asked: CompletionRequest, client: str) -> "Completion":
        """Take a request."""
        served.engine.check_room(asked.n * len(asked.prompt), client)
        scored = asked.echo and asked.logprobs is not None
        served.check_model(asked.model)
        grammar = await served.form(asked)
        chosen = served.choose(asked, asked.logprobs, prompt=scored, grammar=grammar)
        prompts = [await read_prompt(served, prompt) for prompt in asked.prompt]
        works = [
            work
            for ids in prompts
            for work in served.works(asked, chosen, ids, asked.max_tokens, USUAL)
        ]
        made = cls(served, asked, chosen, prompts, works, client)
        if asked.echo:
            made.echoes = [
                prompt if isinstance(prompt, str) else served.tokenizer.decode(prompt)
                for prompt in asked.prompt
            ]
        return made

    def _echo(self, index: int) -> str:
        return self.echoes[index // self.asked.n] if self.echoes else ""

    def _first(self, index: int) -> list[dict[str, Any]]:
        if not self.asked.echo or self.asked.logprobs is not None:
            return []
        return [self._choice(index, Piece(index))]

    def _shown(self, piece: Piece) -> list[dict[str, Any]]:
        logprobs, text = self._logprobs(piece), piece.text
        if piece.read is not None:
            text = self._echo(piece.index) + text
        return [told(piece, text, logprobs)]

    def _choice(self, index: int, whole: Piece) -> dict[str, Any]:
        return told(whole, self._echo(index) + whole.text, self._logprobs(whole))

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if self.asked.logprobs is None:
            return None
        tokenizer, before = self.served.tokenizer, len(self._echo(piece.index))
        parts = [completion_logprobs(tokenizer, piece.scores, before)]
        if piece.read is not None:
            ids = self.choices[piece.index].work.ids
            parts.insert(0, prompt_logprobs(tokenizer, ids, piece.read))
        return joined(parts)


def told(piece: Piece, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    """A choice, or a chunk of one."""
    return {
        "index": piece.index, "text": text, "logprobs": logprobs, "finish_reason": piece.finish,
    }  # fmt: skip


async def read_prompt(served: Served, prompt: str | list[int]) -> list[int]:
    """A prompt's tokens: those that begin a text, then the text's; or as they are given."""
    if isinstance(prompt, str):
        served.check_length(prompt)
        return await served.encode(prompt)
    await aside(served.check_tokens, prompt, "prompt")
    return prompt
