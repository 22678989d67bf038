"""A server measured as its clients feel it, in the words of ``vllm bench serve``.

Every request streams a completion of random tokens. TTFT: to the first text; ITL: between chunks
of text; TPOT: the time after the first token over the tokens after it; E2EL: the whole.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from intaglio.errors import BadInput
from intaglio.flow.progress import Progress, silent

SAFE = 1000  # token ids that a server has which does not tell its vocabulary
PROMPT = 512  # tokens, where the context leaves as many
PATIENCE = 600.0  # seconds that a request may take
KINDS = {
    "ttft": "Time to First Token", "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency", "e2el": "End-to-end Latency",
}  # fmt: skip
PERCENTILES = 50, 95, 99


@dataclass
class Timed:
    """One request as its client saw it; ``error``: why it has no whole answer."""

    first: float = 0.0
    seconds: float = 0.0
    gaps: list[float] = field(default_factory=list)
    text: str = ""
    prompt: int = 0
    tokens: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Load:
    """What is asked of a server. ``rate``: requests a second, None for all at once.

    ``prompt``: tokens, None for 512 or what the context leaves. ``together``: how many may be
    under way, None for all.
    """

    requests: int = 100
    prompt: int | None = None
    tokens: int = 128
    rate: float | None = None
    together: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("requests", "prompt", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} must be at least 1, not {value}")
        slow = self.rate is not None and not self.rate > 0
        if slow or (self.together is not None and self.together < 1):
            raise BadInput("rate and concurrency must be positive")


def client_of(url: str, key: str | None) -> httpx.AsyncClient:
    """A client with as many connections as it wants."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    base = url.rstrip("/").removesuffix("/v1")
    return httpx.AsyncClient(base_url=base, headers=headers, limits=limits, timeout=PATIENCE,
                             trust_env=False)  # fmt: skip


async def stream(client: httpx.AsyncClient, body: dict[str, Any]) -> Timed:
    """Ask for a completion and watch it come."""
    made, started = Timed(), time.perf_counter()
    before, done = started, False
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    try:
        async with client.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                made.error = f"{response.status_code}: {said_of(await response.aread())}"
                return made
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                said = line[5:].strip()
                if said == "[DONE]":
                    done = True
                    continue
                chunk = json.loads(said)
                if "error" in chunk:
                    made.error = str(chunk["error"])[:200]
                    continue
                text = "".join(choice.get("text") or "" for choice in chunk["choices"])
                now = time.perf_counter()
                if text:
                    if made.text:
                        made.gaps.append(now - before)
                    else:
                        made.first = now - started
                    made.text, before = made.text + text, now
                if usage := chunk.get("usage"):
                    made.prompt, made.tokens = usage["prompt_tokens"], usage["completion_tokens"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        made.error = f"{type(error).__name__}: {error}"
    if not done:
        made.error = made.error or "the stream ended without [DONE]"
    made.seconds = time.perf_counter() - started
    made.first = made.first or made.seconds  # nothing but tokens without text
    return made


def said_of(body: bytes) -> str:
    """Why a server refused: its error's message, or how its answer begins."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(body[:200].decode("utf-8", "replace").split())


def measure_server(
    url: str,
    load: Load,
    *,
    model: str | None = None,
    key: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Put a load on a server and say how it did. Raises :class:`BadInput` where there is none."""
    return asyncio.run(_measure(url, load, model, key, progress))


async def _measure(
    url: str, load: Load, model: str | None, key: str | None, progress: Progress
) -> dict[str, Any]:
    async with client_of(url, key) as client:
        name = model or await model_of(client, url)
        vocabulary, context = await tokenizer_of(client)
        prompt = load.prompt or max(1, min(PROMPT, context - load.tokens))
        bodies = list(bodies_of(load, prompt, name, vocabulary))
        trial = await stream(client, bodies[0])
        if trial.error:
            raise BadInput(f"{url}: the server does not answer a first request: {trial.error}")
        gate = asyncio.Semaphore(load.together or load.requests)
        draw, done = random.Random(load.seed), 0

        async def one(body: dict[str, Any]) -> Timed:
            nonlocal done
            async with gate:
                made = await stream(client, body)
            done += 1
            progress("requests", done / load.requests, f"{done} of {load.requests}")
            return made

        started, tasks = time.perf_counter(), []
        for body in bodies:
            tasks.append(asyncio.ensure_future(one(body)))
            if load.rate is not None:
                await asyncio.sleep(draw.expovariate(load.rate))
        found = await asyncio.gather(*tasks)
        seconds = time.perf_counter() - started
    return {"url": url, "model": name, **summary(found, seconds)}


async def model_of(client: httpx.AsyncClient, url: str) -> str:
    """The first model that a server lists."""
    try:
        answer = await client.get("/v1/models")
        answer.raise_for_status()
        return answer.json()["data"][0]["id"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, LookupError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"{url}: no server of OpenAI's API answers there: {why}",
            hint="start one: intaglio serve CHIP; a key goes into --api-key",
        ) from None


async def tokenizer_of(client: httpx.AsyncClient) -> tuple[int, int]:
    """How many tokens a server knows, and how many a request may have, as far as it tells."""
    try:
        told = (await client.get("/tokenizer_info")).json()
        return int(told["vocab_size"]), int(told["model_max_length"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return SAFE, sys.maxsize


def bodies_of(load: Load, prompt: int, model: str, vocabulary: int) -> Iterator[dict[str, Any]]:
    """Requests of ``prompt`` random tokens, no two alike."""
    rng = np.random.default_rng(load.seed)
    for _ in range(load.requests):
        yield {
            "model": model, "prompt": rng.integers(0, vocabulary, prompt).tolist(),
            "max_tokens": load.tokens, "temperature": 0, "ignore_eos": True,
        }  # fmt: skip


def summary(found: Sequence[Timed], seconds: float) -> dict[str, Any]:
    """What was measured, by the names of ``vllm bench serve``; times in milliseconds."""
    whole = [each for each in found if each.error is None]
    errors = [each.error for each in found if each.error is not None]
    tokens, prompts = sum(each.tokens for each in whole), sum(each.prompt for each in whole)
    series = {
        "ttft": [each.first for each in whole],
        "tpot": [(e.seconds - e.first) / (e.tokens - 1) for e in whole if e.tokens > 1],
        "itl": [gap for each in whole for gap in each.gaps],
        "e2el": [each.seconds for each in whole],
    }
    values: dict[str, Any] = {
        "completed": len(whole),
        "failed": len(errors),
        "first_error": errors[0] if errors else None,
        "duration": seconds,
        "total_input_tokens": prompts,
        "total_output_tokens": tokens,
        "request_throughput": len(whole) / seconds,
        "output_throughput": tokens / seconds,
        "total_token_throughput": (tokens + prompts) / seconds,
    }
    for kind, times in series.items():
        values |= spread(kind, times)
    return values


def spread(kind: str, seconds: Sequence[float]) -> dict[str, float | None]:
    """Mean, median, deviation and percentiles in milliseconds; null where nothing was measured."""
    times = np.array(seconds) * 1e3
    names = [f"mean_{kind}_ms", f"median_{kind}_ms", f"std_{kind}_ms"]
    names += [f"p{p}_{kind}_ms" for p in PERCENTILES]
    if not len(times):
        return dict.fromkeys(names)
    cuts = np.percentile(times, PERCENTILES)
    return dict(zip(names, map(float, (times.mean(), np.median(times), times.std(), *cuts)),
                    strict=True))  # fmt: skip


def table(values: dict[str, Any]) -> Iterator[str]:
    """The lines of ``vllm bench serve``."""
    yield f"{' Serving Benchmark Result ':=^50}"
    for title, name, form in (
        ("Successful requests:", "completed", "d"), ("Failed requests:", "failed", "d"),
        ("Benchmark duration (s):", "duration", ".2f"),
        ("Total input tokens:", "total_input_tokens", "d"),
        ("Total generated tokens:", "total_output_tokens", "d"),
        ("Request throughput (req/s):", "request_throughput", ".2f"),
        ("Output token throughput (tok/s):", "output_throughput", ".2f"),
        ("Total token throughput (tok/s):", "total_token_throughput", ".2f"),
    ):  # fmt: skip
        yield f"{title:<40} {values[name]:<{10}{form}}".rstrip()
    for kind, title in KINDS.items():
        yield f"{title:-^50}"
        for name in ("mean", "median", *(f"p{p}" for p in PERCENTILES)):
            value = values[f"{name}_{kind}_ms"]
            shown = "-" if value is None else f"{value:.2f}"
            yield f"{f'{name.capitalize()} {kind.upper()} (ms):':<40} {shown}"
    yield "=" * 50
