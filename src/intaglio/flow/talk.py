"""Generation with a chip: by its twin, by golden or by the simulated chip itself."""

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.errors import BadInput
from intaglio.flow.adapters import NamedAdapter, open_adapter
from intaglio.flow.engines import Source, check_engine, open_source
from intaglio.flow.package import Package
from intaglio.flow.progress import Progress, silent
from intaglio.golden.number import LOGIT
from intaglio.golden.sample import Sampling
from intaglio.plan.chip import ChipPlan
from intaglio.plan.process import is_process, process
from intaglio.plan.schedule import Schedule, User
from intaglio.plan.target import target
from intaglio.quantity import numbers
from intaglio.silicon import market

if TYPE_CHECKING:
    from intaglio.silicon.model import Silicon


class Talk:
    """A conversation with one chip. What two prompts begin with in common is run once."""

    def __init__(
        self,
        package: Package,
        engine: str = "twin",
        *,
        adapter: str | None = None,
        model: str | None = None,
    ) -> None:
        """``adapter``: ``NAME=DIR``; ``model``: see :func:`intaglio.flow.origin.checkpoint_of`."""
        check_engine(engine)
        self.adapter, self.model = adapter, model
        self.adapted: NamedAdapter | None = None
        self.package, self.engine = package, engine
        self.context = package.plan.context
        self.source: Source | None = None
        self.taken: list[int] = []
        """The tokens whose keys and values the engine holds, from position 0 on."""
        self.prompt, self.count, self.seconds, self.sampling = 0, 0, 0.0, Sampling()

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        if self.source:
            self.source.close()

    def encode(self, text: str, *, chat: bool = False) -> list[int]:
        """Tokens of a prompt, put into the chat template where asked."""
        return encode_prompt(self.package.tokenizer, text, chat=chat)

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Tokens of a conversation up to the chip's turn."""
        return list(self.package.tokenizer.encode_chat(messages))

    def start(self, progress: Progress = silent) -> None:
        """Start the engine, unless it runs; building a simulator can take minutes."""
        if self.source is None:
            if self.adapter is not None:
                self.adapted = open_adapter(
                    self.package, self.adapter, model=self.model, progress=progress
                )
            self.source = open_source(self.package, self.engine, progress, self.adapted)

    def complete(
        self, ids: Sequence[int], count: int, sampling: Sampling, *, stop: bool = True
    ) -> Generator[str, None, None]:
        """Yield the text that follows ``ids``, at most ``count`` tokens of it, whole characters.

        ``stop``: end at the model's end of text or turn.
        """
        check_length(self.context, len(ids), count)
        self.start()
        assert self.source
        ids, ends = list(ids), self.package.tokenizer.end_ids if stop else ()
        shared = min(common_prefix(self.taken, ids), len(ids) - 1)
        stream = self.package.tokenizer.stream()
        self.taken = ids[:shared]
        self.prompt, self.count, self.seconds, self.sampling = len(ids), 0, 0.0, sampling
        started = time.monotonic()
        pending = ids[shared:]  # what the engine will have taken when the next token comes
        for token in self.source.run(ids[shared:], shared, count, sampling):
            self.taken += pending
            pending = [token]
            self.count += 1
            self.seconds = time.monotonic() - started
            if token in ends:
                break
            piece = stream.push(token)
            if piece:
                yield piece
        rest = stream.finish()
        if rest:
            yield rest

    def summary(self) -> dict[str, Any]:
        """What the last completion took, here and on the chip (modelled from exact cycles)."""
        return {
            "prompt_tokens": self.prompt,
            "tokens": self.count,
            "engine": self.engine,
            "adapter": self.adapter and self.adapter.split("=")[0],
            "runs_on": self.source.name if self.source else None,
            "seconds": self.seconds,
            "chip": modelled(
                self.package.plan,
                self.prompt,
                self.count,
                self.sampling,
                self.adapted.rank if self.adapted else 0,
            ),
        }


def modelled(
    plan: ChipPlan,
    prompt: int,
    count: int,
    sampling: Sampling,
    rank: int = 0,
    *,
    host: bool = False,
) -> dict[str, Any]:
    """What ``count`` tokens after a prompt take on the chip, from the plan's exact cycles.

    ``prefill_seconds``: to the first token; ``tokens_per_second``: of the tokens after it.
    ``rank``: of the adapter that is on, or 0; a chip without room for it counts as if it had been
    compiled with it. ``host``: in host sampling mode, whose waiting is an object of its own.
    """
    assumed = rank > plan.adapter_rank
    if assumed:
        plan = replace(plan, adapter_rank=rank)
    own, schedule = target(plan.target), Schedule(plan)
    clock = modelled_clock(plan)
    user = User(prompt, count, sampling, adapted=rank > 0)
    cycles, first = (
        schedule.host_run(prompt, tokens, adapted=user.adapted)
        if host
        else schedule.run([replace(user, generated=tokens)])
        for tokens in (count, 1)
    )
    away = host_seconds(plan, clock) if host else None
    wait = away["seconds_per_token"] * clock if away else 0  # cycles that pass, of a token
    total, decode = cycles + count * wait, cycles - first + (count - 1) * wait
    rate = (count - 1) / decode if count > 1 else 1 / total
    joules = modelled_energy(plan, prompt, count, total)
    return {
        "grade": "modelled",
        "target": own.name,
        "adapter_rank": plan.adapter_rank,
        "adapter_rank_assumed": assumed,
        "cycles": cycles,
        "clock_hz": clock,
        "seconds": total / clock,
        "prefill_seconds": (first + wait) / clock,
        "decode_seconds": decode / clock,
        "tokens_per_second": rate * clock,
        "joules": joules,
        "joules_blocked_by": None
        if joules is not None
        else f"target {own.name} is no process: compile with --target n6, or another",
        **({"host": away} if away else {}),
    }


def host_seconds(plan: ChipPlan, clock: float) -> dict[str, Any]:
    """What every token waits for the host in host sampling mode, where the figures are assumed.

    The chip streams a beat of logits each cycle; a link that is slower holds it up by the
    difference. Then the way there and back, and the choice.
    """
    x = {name: figure.number for name, figure in market.host().items()}
    logits = plan.architecture.vocabulary
    link = logits * LOGIT.bits / 8 / x["link_rate"]
    held = max(link - logits / plan.beat / clock, 0.0)
    choice = logits * x["choice"]
    return {
        "grade": "assumed",
        "seconds_per_token": held + x["round_trip"] + choice,
        "link_seconds": held,
        "round_trip_seconds": x["round_trip"],
        "choice_seconds": choice,
    }


def modelled_clock(plan: ChipPlan) -> float:
    """Hz: the target's, or what its tiles' reads leave of it at the assumed load of their lines."""
    if not is_process(plan.target) or process(plan.target).reads is None:
        return target(plan.target).clock
    made, x = silicon_of(plan, 1, 1)
    return made.clock(x)


def modelled_energy(plan: ChipPlan, prompt: int, count: int, cycles: float) -> float | None:
    """Joules of a run on the plan's process, at the values of its figures; None without one.

    Every position takes what a generated token does, though a prompt's skip the head.
    """
    if not is_process(plan.target):
        return None
    made, x = silicon_of(plan, prompt, count)
    energy, leakage = made.token(x)
    return (prompt + count - 1) * energy * 1e-3 + leakage * cycles / made.clock(x)


def silicon_of(plan: ChipPlan, prompt: int, count: int) -> "tuple[Silicon, dict[str, float]]":
    """The model of a plan's chip on its process, and the values of what that takes."""
    from intaglio.plan.outline import Outline
    from intaglio.silicon.model import inputs_of, silicon
    from intaglio.silicon.request import Choices

    own = process(plan.target)
    x = numbers(inputs_of(own))
    return silicon(Outline.of(plan), own, Choices(prompt=prompt, output=count), x), x


def encode_prompt(tokenizer: Tokenizer, text: str, *, chat: bool = False) -> list[int]:
    """Tokens of a prompt; ``chat``: as the user's turn of the model's chat template."""
    if not text:
        raise BadInput("the prompt is empty", hint="give --prompt a text")
    if chat:
        return list(tokenizer.encode_chat([{"role": "user", "content": text}]))
    return [*tokenizer.begin_ids, *tokenizer.encode(text)]


def check_length(context: int, prompt: int, count: int) -> None:
    """Raise :class:`BadInput` unless prompt and new tokens fit the chip's context."""
    if not prompt:
        raise BadInput("the prompt has no tokens", hint="give --prompt a text")
    if count < 1:
        raise BadInput(f"tokens to generate must be at least 1, not {count}")
    needed = prompt + count - 1  # the last token is said, not run
    if needed > context:
        raise BadInput(
            f"{prompt} prompt tokens and {count} new ones need {needed} positions, the chip has "
            f"{context}",
            hint="a shorter prompt, fewer --tokens, or compile with a larger --context",
        )


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
