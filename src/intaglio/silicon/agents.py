"""A chain of steps, each of which waits for the last: what latency is worth to an agent."""

import math
from dataclasses import dataclass
from typing import Any

from intaglio.errors import BadInput
from intaglio.quantity import Quantity, check_within
from intaglio.silicon.derived import Figure, derive

SOURCE = "silicon.agents"
MOST_STEPS = 100_000
MOST_SECONDS = 1e7


@dataclass(frozen=True, slots=True)
class Chain:
    """``steps`` of ``prompt`` tokens in, ``output`` tokens out and ``outside`` seconds after."""

    steps: int
    prompt: int
    output: int
    outside: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "prompt", "output"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.steps > MOST_STEPS:
            raise BadInput(f"steps must be at most {MOST_STEPS:,}, not {self.steps:,}")
        check_within("seconds outside", self.outside, 0, MOST_SECONDS)


@dataclass(frozen=True, slots=True)
class Runner:
    """Who runs a chain, for one user alone: tokens/s of the prompt and of the output."""

    name: str
    prompt_rate: Quantity
    rate: Quantity

    def __post_init__(self) -> None:
        for what, q in (("prompt rate", self.prompt_rate), ("rate", self.rate)):
            if q.known and not q.bounds[0] > 0:
                raise BadInput(f"{what} of {self.name} must be positive, not {q.bounds[0]:g}")


@dataclass(frozen=True, slots=True)
class Timeline:
    """A chain on a runner: seconds of the whole, and of a step's prompt and output."""

    runner: Runner
    chain: Chain
    seconds: Figure
    prompt: Quantity
    output: Quantity

    @property
    def step(self) -> float:
        """Seconds of a step, what is outside of it included."""
        return self.seconds.quantity.number / self.chain.steps

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: every step with its start and end."""
        known = self.seconds.quantity.known
        ends = [(i + 1) * self.step for i in range(self.chain.steps)] if known else []
        return {
            "name": self.runner.name,
            "tokens_per_second": self.runner.rate.as_dict(),
            "prompt_tokens_per_second": self.runner.prompt_rate.as_dict(),
            "seconds": self.seconds.as_dict(),
            "prompt_seconds": self.prompt.as_dict(),
            "output_seconds": self.output.as_dict(),
            "steps": [{"start": end - self.step, "end": end} for end in ends],
        }


def timeline(runner: Runner, chain: Chain) -> Timeline:
    """A chain on a runner."""
    inputs = {"rate": runner.rate, "prompt_rate": runner.prompt_rate}

    def model(v: dict[str, float]) -> dict[str, float]:
        prompt, output = chain.prompt / v["prompt_rate"], chain.output / v["rate"]
        whole = chain.steps * (prompt + output + chain.outside)
        return {"seconds": whole, "prompt": prompt, "output": output}

    units = dict.fromkeys(("seconds", "prompt", "output"), "s")
    made = derive(model, inputs, units, SOURCE)  # pyright: ignore[reportArgumentType]
    return Timeline(
        runner, chain, made["seconds"], made["prompt"].quantity, made["output"].quantity
    )


def sooner(first: Timeline, second: Timeline) -> Figure:
    """How many times sooner the second is done."""
    inputs = {"first": first.seconds.quantity, "second": second.seconds.quantity}
    return derive(
        lambda v: {"ratio": v["first"] / v["second"]}, inputs, {"ratio": "1"}, SOURCE
    )["ratio"]  # fmt: skip


def tokens_in(runner: Runner, seconds: float, prompt: int) -> int:
    """Tokens out that a step of ``seconds`` with ``prompt`` tokens in leaves time for.

    Raises :class:`BadInput` where the prompt alone takes longer.
    """
    if not 0 < seconds < math.inf:
        raise BadInput(f"seconds of a step must be positive, not {seconds:g}")
    left = seconds - prompt / runner.prompt_rate.number
    count = round(left * runner.rate.number)
    if count < 1:
        raise BadInput(
            f"a step of {seconds:g} s must leave time for a token after {prompt:,} tokens in, "
            f"not {left:.3g} s",
            hint="ask for longer steps or shorter prompts",
        )
    return count
