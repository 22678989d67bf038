"""Chats: turns, their streams, forms of answers, and tools."""

import functools
from pathlib import Path
from typing import Any

import httpx
import pytest
from served_chip import CHAT, HELLO, post, run, same, stream

from intaglio.flow.package import Package, open_package


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(Path(made_home(128)) / "chip")


@pytest.fixture
def ask(package):
    return functools.partial(run, package, [])


def test_a_chat_and_its_stream(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields: dict[str, Any] = {"messages": HELLO, "max_completion_tokens": 9, "seed": 1}
        fields |= {"logprobs": True, "top_logprobs": 2}
        answer = await post(client, CHAT, **fields)
        (choice,) = answer["choices"]
        assert choice["message"]["role"] == "assistant"
        usage = {"stream_options": {"include_usage": True}}
        first, *middle, finish, last = await stream(client, CHAT, **fields, **usage)
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in middle)
        assert text == choice["message"]["content"]
        assert all(chunk["choices"][0]["finish_reason"] is None for chunk in (first, *middle))
        (ended,) = finish["choices"]
        assert (ended["delta"], ended["finish_reason"]) == ({}, choice["finish_reason"])
        assert finish["intaglio"] == answer["intaglio"]
        assert (last["choices"], last["usage"]) == ([], answer["usage"])
        assert all(chunk["usage"] is None for chunk in (first, *middle, finish))
        scores = [score for chunk in middle for score in chunk["choices"][0]["logprobs"]["content"]]
        assert scores == choice["logprobs"]["content"]
        assert [len(score["top_logprobs"]) for score in scores] == [2] * len(scores)
        raw = b"".join(bytes(score["bytes"]) for score in scores)
        assert raw.decode(errors="replace") == text
        parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
        again = await post(client, CHAT, **{**fields, "messages": parts})
        assert same(again) == same(answer)

    ask(test)
