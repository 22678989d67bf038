"""Drafts: several tokens of one user in the chain at once.

A draft is a guess of the next tokens that costs nothing: what followed the last few tokens where
they stood before, in the prompt or in the answer (prompt lookup, A. Saxena, "Prompt Lookup
Decoding", 2023). The chip takes token and draft one layer behind the other, says what comes after
each, and the draft is believed as far as it is what was said. Since the sampler's random bits come
from seed and position, drafts change no token, greedy or not: a finished answer tells what each
round would have drafted and believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.errors import BadInput
from intaglio.golden.sample import Sampling
from intaglio.plan.schedule import RING, Schedule, User

LONGEST = 3
"""Last tokens that are looked up, at most: the published method's default."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: the position of the token that enters, and of its draft how much was right."""

    position: int
    drafted: int
    believed: int

    @property
    def tokens(self) -> int:
        """New tokens that the round says: the believed ones and the one after them."""
        return self.believed + 1


def lookup(tokens: Sequence[int], most: int, longest: int = LONGEST) -> list[int]:
    """At most ``most`` tokens that followed the latest earlier place of the last few ``tokens``.

    The longest ending that stands anywhere before counts, of ``longest`` tokens to one.
    """
    tokens = list(tokens)
    for length in range(min(longest, len(tokens) - 1), 0, -1):
        ending = tokens[-length:]
        for start in range(len(tokens) - length - 1, -1, -1):
            if tokens[start : start + length] == ending:
                return tokens[start + length : start + length + most]
    return []


def rounds(
    prompt: Sequence[int], answer: Sequence[int], most: int, longest: int = LONGEST
) -> list[Round]:
    """The rounds in which ``answer`` is said, its first token by the prompt's own pass.

    No draft goes beyond the answer's end: a chip that is asked for so many tokens takes no more.
    """
    if most < 0 or longest < 1:
        raise BadInput(f"drafts must be of at least 0 tokens by 1, not {most} by {longest}")
    if not prompt or not answer:
        raise BadInput("there must be a prompt and an answer to draft for")
    said, made = 1, []
    while said < len(answer):
        known = [*prompt, *answer[:said]]
        left = answer[said:]
        draft = lookup(known, min(most, len(left) - 1), longest)
        believed = 0
        while believed < len(draft) and draft[believed] == left[believed]:
            believed += 1
        made.append(Round(len(known) - 1, len(draft), believed))
        said += believed + 1
    return made


@dataclass(frozen=True, slots=True)
class Drafted:
    """A finished answer with and without drafts: tokens after the first, and their cycles."""

    tokens: int
    cycles_alone: int
    cycles_drafted: int
    rounds: int
    drafted: int
    believed: int

    @property
    def faster(self) -> float:
        """How many times as fast as without drafts."""
        return self.cycles_alone / self.cycles_drafted if self.tokens else 1.0

    @property
    def acceptance(self) -> float | None:
        """Share of the drafted tokens that were right, or None where none was drafted."""
        return self.believed / self.drafted if self.drafted else None

    def __add__(self, other: "Drafted") -> "Drafted":
        names = self.__slots__
        return Drafted(*(getattr(self, name) + getattr(other, name) for name in names))


def drafted(
    schedule: Schedule,
    prompt: Sequence[int],
    answer: Sequence[int],
    most: int,
    *,
    longest: int = LONGEST,
    sampling: Sampling | None = None,
    between: int = RING,
) -> Drafted:
    """Cycles that the tokens after the answer's first take, exact for this schedule.

    ``between``: cycles from a round's last token to the next round's first entrance; by default the
    chip's own ring, as if it drafted itself; a host that drafts adds its way there and back.
    A wrong draft is not called back: the next round waits until all of it is through.
    """
    sampling = sampling or Sampling()
    made = rounds(prompt, answer, most, longest)
    cycles = sum(between + schedule.check(one.position, one.drafted, sampling) for one in made)
    users = [User(len(prompt), count, sampling) for count in (len(answer), 1)]
    whole, first = (schedule.run([user]) for user in users)
    return Drafted(
        tokens=len(answer) - 1,
        cycles_alone=whole - first,
        cycles_drafted=cycles,
        rounds=len(made),
        drafted=sum(one.drafted for one in made),
        believed=sum(one.believed for one in made),
    )
