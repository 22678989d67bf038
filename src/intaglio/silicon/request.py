"""A request, and its exact cycles on a chip."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from intaglio.errors import BadInput
from intaglio.golden.sample import Sampling
from intaglio.plan.schedule import Schedule, User
from intaglio.quantity import check_within
from intaglio.silicon.fabric import check_cell

if TYPE_CHECKING:
    from intaglio.plan.outline import Outline

DEFAULT_PROMPT = DEFAULT_OUTPUT = 1024
LEAST_RATE = 1e-6


@dataclass(frozen=True, slots=True)
class Choices:
    """How a chip is used and drawn.

    ``prompt``, ``output``: tokens in and out of the headline's request; None: 1,024 each, or half
    the context where that is less. ``issue_rate``: share of the intervals in which a position
    enters the pipeline, a cap on power. ``cell``: of every fabric, or auto for the smallest.
    """

    prompt: int | None = None
    output: int | None = None
    issue_rate: float = 1.0
    cell: str = "auto"

    def __post_init__(self) -> None:
        check_cell(self.cell)
        check_within("issue rate", self.issue_rate, LEAST_RATE, 1)
        for name in ("prompt", "output"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} must be at least 1 token, not {value}")

    def request(self, context: int) -> tuple[int, int]:
        """Tokens in and out that fit the context."""
        half = max(context // 2, 1)
        prompt = min(DEFAULT_PROMPT, half) if self.prompt is None else self.prompt
        output = (
            min(DEFAULT_OUTPUT, max(context - prompt, 1)) if self.output is None else self.output
        )
        # the last token that is said takes no position
        if prompt + output - 1 > context:
            raise BadInput(
                f"prompt and output must fit the context of {context}, not {prompt} + {output}",
                hint="raise --context",
            )
        return prompt, output


@dataclass(frozen=True)
class Cycles:
    """Exact cycles of a request: between tokens, of the slowest interval, to the first token.

    ``position``: the mean one of the tokens after the first. ``layer``, ``head``: how long the
    slowest layer, and the head, are busy with a position.
    """

    schedule: Schedule
    prompt: int
    output: int
    decode: int
    position: float
    token: float
    layer: int
    head: int

    @cached_property
    def first(self) -> int:
        """Cycles from the first prompt token in to the first token out."""
        return self.schedule.run([User(self.prompt, 1)])

    @property
    def interval(self) -> int:
        """Of the slowest link of the chain."""
        return max(self.layer, self.head)


def request_cycles(outline: "Outline", choices: Choices) -> Cycles:
    """The cycles of the headline's request."""
    prompt, output = choices.request(outline.plan.context)
    schedule = outline.schedule()
    positions = range(prompt, prompt + output - 1) or range(prompt - 1, prompt)
    words = Counter(position // outline.plan.positions for position in positions)
    # a token takes as long at all positions that attention takes in one word
    steps = sum(
        count * schedule.token(word * outline.plan.positions) for word, count in words.items()
    )
    middle = positions[len(positions) // 2]
    layers = range(len(outline.plan.layers))
    slowest = max(schedule.interval(index, middle) for index in layers)
    return Cycles(
        schedule=schedule, prompt=prompt, output=output, decode=steps if output > 1 else 0,
        position=sum(positions) / len(positions), token=steps / len(positions),
        layer=slowest, head=head_interval(schedule),
    )  # fmt: skip


def head_interval(schedule: Schedule) -> int:
    """Cycles that the head is busy with one position."""
    return schedule.head(Sampling()) + 1
