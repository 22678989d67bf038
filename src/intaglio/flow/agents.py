"""A chain of steps on a GPU and on a model's chip."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intaglio.errors import BadInput
from intaglio.flow.choose import Model, PlanOptions, open_model, plain_outline, target_of
from intaglio.flow.cost import work_of
from intaglio.flow.plan import Planned, plan_outline
from intaglio.plan.chip import DEFAULT_CONTEXT
from intaglio.plan.process import Process
from intaglio.plan.schedule import User
from intaglio.quantity import Quantity, check_within
from intaglio.silicon.agents import (
    MOST_SECONDS,
    Chain,
    Runner,
    Timeline,
    sooner,
    timeline,
    tokens_in,
)
from intaglio.silicon.baselines import Machine, Work, baseline, machine
from intaglio.silicon.derived import Figure, derive, exactly
from intaglio.silicon.market import economics

PROMPT = 1024
ASKED = "asked for"
NO_LINKS = exactly(0.0, "s", "one die has no links")
LATE = ("redrive_cycles", "redrive_cycles_interval")


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """A chain and who runs it; None leaves a value to the data and the plan.

    ``output``: tokens out of a step, or as many as the GPU gives in ``seconds``. Rates in
    tokens/s: ``rate`` and ``prompt_rate`` of the chip, ``gpu_rate`` of the GPU.
    """

    target: str | None = None
    gpu: str = "h200"
    steps: int = 10
    prompt: int | None = None
    output: int | None = None
    seconds: float = 10.0
    outside: float = 0.0
    rate: float | None = None
    prompt_rate: float | None = None
    gpu_rate: float | None = None
    context: int | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "prompt_rate", "gpu_rate"):
            value = getattr(self, name)
            if value is not None:
                check_within(name.replace("_", " "), value, 1e-3, 1e12, "tokens/s")
        check_within("seconds of a step", self.seconds, 1e-6, MOST_SECONDS)
        count = 1 if self.output is None else self.output
        Chain(self.steps, PROMPT if self.prompt is None else self.prompt, count, self.outside)


@dataclass(frozen=True, slots=True)
class Agents:
    """A chain on both. ``ratio``: how many times sooner the chip is done."""

    model: str
    target: str
    gpu: Timeline
    chip: Timeline
    ratio: Figure

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``agents``."""
        chain = self.gpu.chain
        return {
            "model": self.model, "target": self.target, "steps": chain.steps,
            "prompt_tokens": chain.prompt, "tokens": chain.output,
            "outside_seconds": chain.outside, "gpu": self.gpu.as_dict(),
            "chip": self.chip.as_dict(), "ratio": self.ratio.as_dict(),
        }  # fmt: skip


def run_agents(model: str, options: AgentOptions | None = None) -> Agents:
    """A chain of steps, each waiting for the last, on a GPU and on the model's chip."""
    options = options or AgentOptions()
    other, opened = machine(options.gpu), open_model(model)
    process = target_of(opened, PlanOptions(target=options.target))
    most = most_positions(opened, options.context)
    prompt = min(PROMPT, max(most // 2, 1)) if options.prompt is None else options.prompt
    # what a GPU reads for a token hardly depends on the context that the chip will have
    first = opened.package or plain_outline(
        opened, process, with_room(opened, options.context or DEFAULT_CONTEXT)
    )
    gpu = gpu_runner(other, work_of(model, opened, first, prompt), options)
    count = options.output
    if count is None:
        # a small model's GPU would say more in that time than the model has positions for
        count = min(tokens_in(gpu, options.seconds, prompt), max(most - prompt + 1, 1))
    chain = Chain(options.steps, prompt, count, options.outside)
    chip = chip_runner(model, opened, process, chain, options)
    lines = timeline(gpu, chain), timeline(chip, chain)
    return Agents(opened.title, process.name, *lines, sooner(*lines))


def with_room(opened: Model, context: int) -> PlanOptions:
    """A chip with room for so many positions, at most the model's own; a package as it is."""
    if opened.package is not None:
        return PlanOptions()
    return PlanOptions(context=min(context, opened.architecture.context))


def most_positions(opened: Model, asked: int | None) -> int:
    """Positions that the chip of a chain can have."""
    if opened.package is not None:
        return opened.package.plan.context
    most = opened.architecture.context
    return most if asked is None else min(asked, most)


def room(name: str, opened: Model, process: Process, chain: Chain, asked: int | None) -> Planned:
    """The chip on which a step of the chain has room."""
    needed = chain.prompt + chain.output - 1  # the last token that is said takes no position
    options = with_room(opened, needed if asked is None else asked)
    most = opened.package.plan.context if opened.package else options.context or 0
    if needed > most:
        raise BadInput(
            f"tokens in and out of a step must fit the {most:,} positions of the "
            f"chip, not {chain.prompt:,} + {chain.output:,}",
            hint="ask for fewer --prompt-tokens or --tokens, or shorter --seconds",
        )
    return plan_outline(name, opened, process, options)


def gpu_runner(other: Machine, work: Work, options: AgentOptions) -> Runner:
    """A GPU with one user: its published rate, or its ceiling where none was published."""
    alone = baseline(other, work).one_user
    rate = alone.rate
    if options.gpu_rate is not None:
        rate = exactly(options.gpu_rate, "token/s", ASKED)
    if not rate.known:
        raise BadInput(
            f"tokens/s of {other.title} on {work.name} are not known",
            hint="give them with --gpu-tokens-per-second",
        )
    inputs = {"compute": other.figures["compute"], "chips": alone.chips,
              "share": economics()["prompt_share"]}  # fmt: skip
    prompt = derive(
        lambda v: {"rate": v["compute"] * v["chips"] * v["share"] / (2 * work.active)},
        inputs, {"rate": "token/s"}, "silicon.baselines, share of peak arithmetic on a prompt",
    )["rate"].quantity  # fmt: skip
    if not prompt.known:  # a prompt is never slower than its tokens one by one
        prompt = rate
    return Runner(other.title, prompt, rate)


def chip_runner(
    name: str, opened: Model, process: Process, chain: Chain, options: AgentOptions
) -> Runner:
    """The chip with one user: the plan's cycles over its clock, split at the first token.

    Beside the exact ones those of re-driven product lines: for every token, and of the prompt for
    every position after the first those of a layer. A chip of several dies takes the time of its
    links besides, with every token.
    """
    rates = {"prompt": options.prompt_rate, "output": options.rate}
    made = {
        name: exactly(rate, "token/s", ASKED) for name, rate in rates.items() if rate is not None
    }
    if len(made) < len(rates):
        chip = room(name, opened, process, chain, options.context)
        schedule = chip.outline.schedule()
        links = chip.derived["link_seconds"].quantity if chip.cut else NO_LINKS
        first = schedule.run([User(chain.prompt, 1)])
        # a single token comes with the prompt: its own time is then none that can be seen
        rest = max(schedule.run([User(chain.prompt, chain.output)]) - first, 1)
        figures = {"clock": chip.derived["clock_hz"].quantity, "link": links}
        figures |= {name: chip.derived[name].quantity for name in LATE}
        made.setdefault("prompt", rate_of(chain.prompt, first, 1, figures, "prompt"))
        made.setdefault("output", rate_of(chain.output, rest, chain.output, figures, "output"))
    return Runner(f"{opened.title} in silicon, {process.name}", made["prompt"], made["output"])


def rate_of(
    tokens: int, cycles: int, rounds: int, figures: Mapping[str, Quantity], what: str
) -> Quantity:
    """Tokens/s from exact cycles, re-drives, and the links, ``rounds`` times through the chain."""

    def rate(v: Mapping[str, float]) -> dict[str, float]:
        late, of_a_layer = (v[name] for name in LATE)
        waited = rounds * late + (tokens - rounds) * of_a_layer
        return {"rate": tokens / ((cycles + waited) / v["clock"] + rounds * v["link"])}

    links = f" and {rounds:,} times the links" if figures["link"].number else ""
    source = f"exact cycles of the {what} ({cycles:,}) and re-drives at the clock{links}"
    return derive(rate, figures, {"rate": "token/s"}, source)["rate"].quantity
