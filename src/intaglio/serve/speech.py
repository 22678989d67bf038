"""The text of one answer as it may be shown: whole characters, nothing of a stop sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.serve.host import Scored


@dataclass(frozen=True, slots=True)
class Spelled:
    """A token that was scored, and where in the answer its text begins."""

    scored: Scored
    offset: int


class Speech:
    """Tokens in, text out: what could be the beginning of a stop sequence is held back.

    A token's score leaves with the text that came when it did, or later with the next.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], *, special: bool = False):
        self._stream = tokenizer.stream(special)
        self._stops = tuple(stops)
        self._held, self._shown, self._made = "", 0, 0
        self._scores: list[Spelled] = []
        self.stopped = False

    def push(self, token: int, scored: Scored | None = None) -> str:
        """Take a token; give the text that may be shown now, maybe none."""
        if scored is not None:
            self._scores.append(Spelled(scored, self._made))
        return self._add(self._stream.push(token), final=False)

    def finish(self) -> str:
        """Give the rest, where no stop sequence ended it."""
        return "" if self.stopped else self._add(self._stream.finish(), final=True)

    def scores(self) -> list[Spelled]:
        """The scores that belong to the text since they were last taken."""
        taken, self._scores = self._scores, []
        return taken

    def _add(self, piece: str, *, final: bool) -> str:
        self._made += len(piece)
        self._held += piece
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            end = self._shown + min(found)
            self._scores = [each for each in self._scores if each.offset < end]
            return self._show(min(found))
        return self._show(len(self._held) - (0 if final else self._begun()))

    def _show(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        self._shown += length
        return text

    def _begun(self) -> int:
        """Characters at the end that could begin a stop sequence."""
        return max((begun(self._held, stop) for stop in self._stops), default=0)


def begun(text: str, stop: str) -> int:
    """How long the longest beginning of ``stop`` is that ``text`` ends in."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
