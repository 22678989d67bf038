"""What is served: a chip, its adapters, and what a request asks of them."""

import asyncio
import ctypes
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from intaglio.checkpoint.tokenizer import LONG
from intaglio.errors import BadInput, IntaglioError
from intaglio.flow.adapters import NamedAdapter
from intaglio.flow.engines import open_twin
from intaglio.flow.package import Package
from intaglio.flow.talk import modelled
from intaglio.golden.number import CANDIDATES
from intaglio.golden.sample import Sampling
from intaglio.serve.batch import Work
from intaglio.serve.engine import Engine
from intaglio.serve.grammar import Grammar, Grammars
from intaglio.serve.host import ONE, HostSampling
from intaglio.serve.message import Function, Message
from intaglio.serve.metrics import Metrics
from intaglio.serve.protocol import Generation
from intaglio.serve.refusal import Refused, surely_too_long, too_long
from intaglio.serve.tools import described

ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True)
class Chosen:
    """How a request's tokens are chosen. ``seed``: None where nothing is drawn."""

    sampling: Sampling
    host: HostSampling | None
    grammar: Grammar | None
    seed: int | None
    adapter: NamedAdapter | None

    def of_choice(self, index: int) -> Sampling:
        """The sampling of choice ``index``, whose seed is that many higher."""
        return replace(self.sampling, seed=(self.sampling.seed + index) % (1 << 64))


class Served:
    """A chip behind the server."""

    def __init__(
        self,
        package: Package,
        adapters: Sequence[NamedAdapter] = (),
        *,
        name: str | None = None,
        threads: int | None = None,
        most_running: int | None = None,
        most_waiting: int | None = None,
    ) -> None:
        self.package, self.tokenizer = package, package.tokenizer
        self.name = name or package.path.resolve().name
        self.adapters = {adapter.name: adapter for adapter in adapters}
        if len(self.adapters) < len(adapters) or self.name in self.adapters:
            raise BadInput("adapters must have names that differ, and none the model's")
        self.context, self.hash = package.plan.context, package.hash
        self.twin = open_twin(package, threads=threads, adapters=adapters)
        limits = {"most_running": most_running, "most_waiting": most_waiting}
        given = {key: value for key, value in limits.items() if value is not None}
        self.engine = Engine(self.twin, **given)
        self.metrics = Metrics(lambda: self.engine.running, lambda: self.engine.waiting)
        self.since = int(time.time())
        self.tokenizer.decode_bytes(self.tokenizer.encode("a"))  # what it makes once, made now
        self._grammars: Grammars | None = None
        self._making, self._long = asyncio.Lock(), asyncio.Lock()
        self._modelled = lru_cache(maxsize=4096)(self._model)

    def models(self) -> list[dict[str, Any]]:
        """The model and its adapters, as ``/v1/models`` lists them."""
        names: list[tuple[str, str | None]] = [(self.name, None)]
        names += [(adapter, self.name) for adapter in self.adapters]
        return [
            {
                "id": name, "object": "model", "created": self.since, "owned_by": "intaglio",
                "root": self.name, "parent": parent, "max_model_len": self.context,
            }
            for name, parent in names
        ]  # fmt: skip

    def tokenizer_info(self) -> dict[str, Any]:
        """The tokenizer as Hugging Face's configuration describes one, and its ends by number."""
        added = self.tokenizer.backend.get_added_tokens_decoder()
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **self.tokenizer.named,
            "chat_template": self.tokenizer.chat_template,
            "model_max_length": self.context,
            "vocab_size": self.tokenizer.vocabulary,
            "begin_ids": list(self.tokenizer.begin_ids),
            "end_ids": sorted(self.tokenizer.end_ids),
            "added_tokens_decoder": {
                str(index): {"content": token.content, "special": token.special}
                for index, token in sorted(added.items())
            },
        }

    def check_model(self, name: str) -> None:
        """Raise :class:`Refused` unless it is the model or one of its adapters."""
        if name != self.name and name not in self.adapters:
            there = ", ".join((self.name, *self.adapters))
            raise Refused(
                f"model {name[:100]!r} is not served here; there is {there}",
                status=404, param="model", code="model_not_found",
            )  # fmt: skip

    def choose(
        self,
        asked: Generation,
        logprobs: int | None,
        *,
        prompt: bool = False,
        grammar: Grammar | None = None,
    ) -> Chosen:
        """How a request's tokens are chosen, by the chip's sampler where it can.

        ``logprobs``: as :class:`HostSampling` has it; ``prompt``: of the prompt's tokens too.
        ``grammar``: what the answer must be like.
        """
        self.check_model(asked.model)
        seed = asked.seed
        if seed is None and asked.temperature > 0:
            seed = secrets.randbits(63)
        top_k = asked.top_k
        on_chip = CANDIDATES if top_k is None else top_k
        kept = on_chip if 1 <= on_chip <= CANDIDATES else 0
        sampling = Sampling.of(asked.temperature, kept, asked.top_p, seed or 0)
        host = HostSampling(
            most=on_chip if on_chip > 0 else None,
            presence=round(asked.presence_penalty * ONE),
            frequency=round(asked.frequency_penalty * ONE),
            bias=self._bias(asked.logit_bias),
            logprobs=logprobs,
            prompt=prompt,
        )
        wide = not (kept or sampling.greedy)
        needed = wide or grammar is not None or logprobs is not None
        needed = needed or host.bias or host.presence or host.frequency
        adapter = self.adapters.get(asked.model)
        drawn = None if sampling.greedy else seed
        return Chosen(sampling, host if needed else None, grammar, drawn, adapter)

    def works(
        self, asked: Generation, chosen: Chosen, ids: Sequence[int], count: int | None, usual: int
    ) -> list[Work]:
        """A sequence for every choice of a prompt. Raises :class:`Refused` for one too long.

        ``count``: tokens as asked for; without, ``usual`` or what the context leaves.
        """
        if not ids:
            raise Refused("the prompt has no tokens", param="prompt")
        room = self.context - len(ids) + 1
        if room < 1 or (count or 0) > room:
            raise too_long(len(ids), count or 1, self.context)
        most = min(usual, room) if count is None else count
        ends = frozenset() if asked.ignore_eos else self.tokenizer.end_ids
        adapter = chosen.adapter.name if chosen.adapter else None
        shared = tuple(ids)  # however many choices there are
        return [
            Work(shared, most, chosen.of_choice(index), ends, adapter, chosen.host, chosen.grammar)
            for index in range(asked.n)
        ]

    def check_length(self, text: str) -> None:
        """Raise :class:`Refused` for a text that is surely too long, before its tokens are made."""
        longest = self.tokenizer.longest
        if longest and len(text) > longest * self.context:
            raise surely_too_long(len(text) // longest, self.context)

    async def encode(self, text: str, *, begin: bool = True) -> list[int]:
        """Tokens of a text, elsewhere than in the event loop."""
        begun = self.tokenizer.begin_ids if begin else ()
        async with self._turn(len(text)):
            return [*begun, *await aside(self.tokenizer.encode, text)]

    async def encode_chat(
        self, messages: Sequence[Message], functions: Sequence[Function] = ()
    ) -> list[int]:
        """Tokens of a chat up to the model's turn, which may call ``functions``."""
        plain = [message.plain for message in messages]
        async with self._turn(sum(len(message["content"]) for message in plain)):
            return await aside(self.tokenizer.encode_chat, plain, True, described(functions))

    @asynccontextmanager
    async def _turn(self, length: int) -> AsyncIterator[None]:
        """Let long texts be cut into tokens one after the other: while a token is made it takes
        some hundred bytes, which are given back at the end."""
        if length < LONG:
            yield
            return
        async with self._long:
            try:
                yield
            finally:
                await asyncio.to_thread(give_back)

    async def grammars(self) -> Grammars:
        """What makes grammars of the vocabulary; made when first asked for."""
        async with self._making:
            found = self._grammars
            if found is None:
                found = await aside(Grammars, self.tokenizer, self.twin.vocabulary)
                self._grammars = found
            return found

    async def form(self, asked: Generation) -> Grammar | None:
        """What an answer must be like, if anything is asked for."""
        if not asked.formed:
            return None
        grammars = await self.grammars()
        return await aside(form_of, grammars, asked)

    def check_tokens(self, ids: Sequence[int], param: str) -> None:
        """Raise :class:`Refused` unless all are of the model's vocabulary."""
        wrong = next((index for index in ids if not 0 <= index < self.twin.vocabulary), None)
        if wrong is not None:
            end = self.twin.vocabulary - 1
            raise Refused(f"{param}: a token must be from 0 to {end}, not {str(wrong)[:40]}",
                          param=param)  # fmt: skip

    async def extension(self, chosen: Chosen, counts: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """The ``intaglio`` object of an answer. ``counts``: of every choice, its prompt's tokens
        and its own."""
        return {
            "hash": self.hash,
            "adapter": chosen.adapter.name if chosen.adapter else None,
            "seed": chosen.seed,
            "sampling_mode": "host" if chosen.host else "chip",
            "choices": [
                {"index": index, "prompt_tokens": prompt, "tokens": count,
                 **await self._on_chip(chosen, prompt, count)}
                for index, (prompt, count) in enumerate(counts)
            ],
        }  # fmt: skip

    async def _on_chip(self, chosen: Chosen, prompt: int, count: int) -> dict[str, Any]:
        """What a choice, alone on the chip, would have taken (modelled), or why that is unknown."""
        if not count:
            return {"chip": None, "chip_blocked_by": "nothing was generated"}
        rank = chosen.adapter.rank if chosen.adapter else 0
        sampling = chosen.sampling  # cycles know neither seed nor temperature
        alike = Sampling(beta=min(sampling.beta, 1), top_k=sampling.top_k)
        host = chosen.host is not None
        found = await asyncio.to_thread(self._modelled, prompt, count, alike, rank, host)
        return {"chip": found, "chip_blocked_by": None}

    def _model(
        self, prompt: int, count: int, sampling: Sampling, rank: int, host: bool
    ) -> dict[str, Any]:
        return modelled(self.package.plan, prompt, count, sampling, rank, host=host)

    def _bias(self, asked: dict[str, float]) -> tuple[tuple[int, int], ...]:
        found = {}
        for name, amount in asked.items():
            if not (name.isascii() and name.isdigit() and len(name) < 10):
                raise Refused(f"logit_bias: {name[:40]!r} must be a token's number",
                              param="logit_bias")  # fmt: skip
            self.check_tokens([int(name)], "logit_bias")
            found[int(name)] = round(amount * ONE)
        return tuple(sorted((token, amount) for token, amount in found.items() if amount))


def form_of(grammars: Grammars, asked: Generation) -> Grammar:
    """What the fields of a request say that its answer must be like."""
    form, more = asked.response_format, asked.structured_outputs
    if more is not None:
        if more.regex is not None:
            return grammars.regex(more.regex, "structured_outputs")
        if more.choice is not None:
            return grammars.choice(more.choice, "structured_outputs")
        return grammars.json(more.json_ or ANY_OBJECT, "structured_outputs")
    assert form
    if form.value is not None:
        return grammars.regex(form.value, "response_format")
    schema = form.json_schema.schema_ if form.json_schema else ANY_OBJECT
    return grammars.json(schema, "response_format")


def give_back() -> None:
    """Give memory that is free back to the system; glibc keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


async def aside(function: Any, *arguments: Any) -> Any:
    """Run ``function`` in a thread; what a user got wrong in it is a refusal."""
    try:
        return await asyncio.to_thread(function, *arguments)
    except IntaglioError as error:
        raise Refused(str(error)) from None
