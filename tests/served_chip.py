"""A served chip for the tests of the API: requests, streams, and what two answers share."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from peft_folder import random_factors, write_peft

from intaglio.checkpoint import open_checkpoint
from intaglio.flow.adapters import NamedAdapter, open_adapter
from intaglio.flow.package import Package
from intaglio.serve.app import make_app
from intaglio.serve.served import Served

WITH_TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "<tool_call><|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template as Hermes' and Qwen's, but shorter."""
HELLO = [{"role": "user", "content": "hello"}]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
Test = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


def lists_adapter(package: Package, home: Path, folder: Path) -> NamedAdapter:
    """The adapter ``lists``, random, of the model ``tiny`` at home; written to ``folder``."""
    write_peft(folder / "peft", random_factors(open_checkpoint(home / "tiny").architecture))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
        return open_adapter(package, f"lists={folder / 'peft'}", model=str(home / "tiny"))


def run(
    package: Package,
    adapters: Sequence[NamedAdapter],
    test: Test,
    limits: dict[str, Any] | None = None,
    template: str | None = None,
    **options: Any,
) -> None:
    """Run a test against a server; ``limits`` of the engine, and the app's options by name.

    ``template``: a chat template in place of the chip's.
    """

    async def main() -> None:
        served = Served(package, adapters, threads=1, **(limits or {}))
        if template is not None:
            served.tokenizer = replace(served.tokenizer, chat_template=template)
        app = make_app(served, **options)
        served.engine.start()
        transport = httpx.ASGITransport(app)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                await test(client)
        finally:
            await served.engine.stop(0)

    asyncio.run(asyncio.wait_for(main(), 600))


async def post(client: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    response = await client.post(path, json={"model": "chip", **body})
    assert response.status_code == status, response.text
    return response.json()


async def stream(client: httpx.AsyncClient, path: str, **body: Any) -> list[dict[str, Any]]:
    response = await client.post(path, json={"model": "chip", "stream": True, **body})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, last, rest = response.text.split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def same(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs each time."""
    return {key: value for key, value in answer.items() if key not in ("id", "created")}
