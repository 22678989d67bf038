"""Chats: turns, their streams, forms of answers, and tools."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from served_chip import CHAT, COMPLETIONS, HELLO, WITH_TOOLS, post, run, same, stream

from intaglio.flow.package import Package, open_package


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(Path(made_home(4096)) / "chip")


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


SIZE = {"type": "object", "properties": {"size": {"enum": [1, 12]}}, "required": ["size"],
        "additionalProperties": False}  # fmt: skip
TOOLS = [
    {
        "type": "function",
        "function": {"name": "list", "description": "the list", "parameters": SIZE},
    },
    {"type": "function", "function": {"name": "other", "parameters": SIZE}},
]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_answer_of_a_form(ask, path):
    async def test(client: httpx.AsyncClient) -> None:
        start = {"messages": HELLO} if path == CHAT else {"prompt": "the list"}
        fields = {**start, "max_tokens": 80, "seed": 4}

        def text(answer: dict[str, Any]) -> str:
            (choice,) = answer["choices"]
            assert choice["finish_reason"] == "stop"
            return choice["message"]["content"] if path == CHAT else choice["text"]

        form = {"type": "json_schema", "json_schema": {"name": "size", "schema": SIZE}}
        answer = await post(client, path, **fields, response_format=form)
        assert json.loads(text(answer)) in ({"size": 1}, {"size": 12})
        assert answer["intaglio"]["sampling_mode"] == "host"
        chunks = await stream(client, path, **fields, response_format=form)
        assert chunks[-1]["intaglio"] == answer["intaglio"]
        form = {"type": "regex", "value": "[a-c]{4}"}
        found = text(await post(client, path, **fields, response_format=form))
        assert re.fullmatch("[a-c]{4}", found)
        assert found == text(
            await post(client, path, **fields, structured_outputs={"regex": "[a-c]{4}"})
        )
        chosen = await post(client, path, **fields, structured_outputs={"choice": ["yes", "no"]})
        assert text(chosen) in ("yes", "no")
        greedy = {**fields, "temperature": 0, "n": 2, "logprobs": path == CHAT or 1}
        chosen = await post(client, path, **greedy, structured_outputs={"choice": ["yes", "no"]})
        assert chosen["choices"][0] == {**chosen["choices"][1], "index": 0}

    ask(test)


def test_forms_that_are_none(ask):
    async def test(client: httpx.AsyncClient) -> None:
        for fields in (
            {"response_format": {"type": "json_schema"}},
            {"response_format": {"type": "json_object", "json_schema": {"schema": {}}}},
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            {"response_format": {"type": "regex", "value": "("}},
            {"structured_outputs": {"regex": "a", "choice": ["a"]}},
            {"structured_outputs": {"regex": "a"}, "ignore_eos": True},
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            {"response_format": {"type": "xml"}},
        ):
            error = (await post(client, CHAT, 400, messages=HELLO, **fields))["error"]
            assert error["type"] == "invalid_request_error"
        plain = {"response_format": {"type": "text"}, "max_tokens": 3, "seed": 1}
        answer = await post(client, CHAT, messages=HELLO, **plain)
        assert answer["intaglio"]["sampling_mode"] == "chip"

    ask(test)


def test_a_tool_that_must_be_called(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"messages": HELLO, "tools": TOOLS, "seed": 2, "max_tokens": 200}
        named = {"type": "function", "function": {"name": "other"}}
        for choice, names in (("required", ("list", "other")), (named, ("other",))):
            answer = await post(client, CHAT, **fields, tool_choice=choice)
            (found,) = answer["choices"]
            assert (found["finish_reason"], found["message"]["content"]) == ("tool_calls", None)
            (call,) = found["message"]["tool_calls"]
            assert call["function"]["name"] in names
            assert json.loads(call["function"]["arguments"])["size"] in (1, 12)
            first, made, last = await stream(client, CHAT, **fields, tool_choice=choice)
            assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert made["choices"][0]["delta"] == {"tool_calls": [{"index": 0, **call}]}
            assert last["choices"][0]["finish_reason"] == "tool_calls"
        # back to the model, with what came of it
        turns = [*HELLO, found["message"],
                 {"role": "tool", "tool_call_id": call["id"], "content": "12"}]  # fmt: skip
        count = (await post(client, "/tokenize", messages=turns, tools=TOOLS))["tokens"]
        text = (await post(client, "/detokenize", tokens=count))["prompt"]
        size = json.loads(call["function"]["arguments"])
        assert json.dumps({"name": "other", "arguments": size}) in text
        assert '"description": "the list"' in text
        assert text.endswith("<|im_start|>tool\n12<|im_end|>\n<|im_start|>assistant\n")
        answer = await post(client, CHAT, **{**fields, "messages": turns, "max_tokens": 4})
        assert answer["usage"]["prompt_tokens"] == len(count)

    ask(test, template=WITH_TOOLS)


def test_a_tool_that_may_be_called(ask):
    """The chip's weights are random: only what is forced on it is ever a call."""

    async def test(client: httpx.AsyncClient) -> None:
        fields = {"messages": HELLO, "tools": TOOLS, "seed": 2, "max_tokens": 9}
        answer = await post(client, CHAT, **fields)
        assert answer["intaglio"]["sampling_mode"] == "chip"
        assert "tool_calls" not in answer["choices"][0]["message"]
        none = await post(client, CHAT, **fields, tool_choice="none")
        bare = await post(client, CHAT, **{**fields, "tools": []})
        assert same(none) == same(bare)
        assert none["usage"]["prompt_tokens"] < answer["usage"]["prompt_tokens"]
        strict = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}]
        held = await post(client, CHAT, **{**fields, "tools": strict}, parallel_tool_calls=False)
        assert held["intaglio"]["sampling_mode"] == "host"

    ask(test, template=WITH_TOOLS)


def test_what_of_tools_is_refused(ask):
    async def test(client: httpx.AsyncClient) -> None:
        call = {"id": "a", "type": "function", "function": {"name": "list", "arguments": "{}"}}
        for fields in (
            {"tools": TOOLS},  # the chip's own template has none
            {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]},
        ):
            error = (await post(client, CHAT, 400, **{"messages": HELLO, **fields}))["error"]
            assert error["code"] == "unsupported_parameter"
        broken = {**call, "function": {"name": "list", "arguments": "{"}}
        for fields in (
            {"tools": TOOLS * 2},
            {"tool_choice": "required"},
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "no"}}},
            {"tools": TOOLS, "response_format": {"type": "json_object"}},
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            {"messages": [{"role": "assistant", "content": None}]},
            {"messages": [{"role": "tool", "content": "a"}]},
            {"messages": [{"role": "user", "content": "a", "tool_calls": [call]}]},
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [broken]}]},
        ):
            await post(client, CHAT, 400, **{"messages": HELLO, **fields})

    ask(test)
