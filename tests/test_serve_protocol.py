"""Requests: what is taken, and the sentence for everything that is not."""

import json
from typing import Any

import pytest

from intaglio.serve.protocol import (
    NEUTRAL,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    parse,
)
from intaglio.serve.refusal import Refused, failed, too_long

HELLO = [{"role": "user", "content": "hello"}]


def completion(**fields: Any) -> CompletionRequest:
    return parse(CompletionRequest, json.dumps({"model": "m", "prompt": "p", **fields}).encode())


def chat(**fields: Any) -> ChatRequest:
    return parse(ChatRequest, json.dumps({"model": "m", "messages": HELLO, **fields}).encode())


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]]),
        (["a", [1]], ["a", [1]]),
    ],
)  # fmt: skip
def test_prompts(prompt, expected):
    assert completion(prompt=prompt).prompt == expected


def test_contents_of_messages():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = chat(messages=[{"role": "developer", "content": parts, "name": None}, *HELLO])
    assert [message.plain for message in asked.messages] == [
        {"role": "system", "content": "ab"},
        {"role": "user", "content": "hello"},
    ]


def test_what_asks_for_nothing_special_is_taken():
    for name, values in NEUTRAL.items():
        for value in (None, *values):
            completion(**{name: value})
            chat(**{name: value})
    chat(user="somebody", metadata={"a": "b"}, stop=None, max_tokens=None)


def test_limits_and_stops():
    assert chat(max_tokens=3).limit == chat(max_completion_tokens=3).limit == 3
    assert chat().limit is None
    assert completion(stop="a").stop == ["a"]
    assert completion(stop=["a", "b"]).stop == ["a", "b"]
    assert completion(temperature=1).temperature == 1.0
    assert chat(stream=True, stream_options={"include_usage": True}).usage_wanted
    assert not chat(stream=True).usage_wanted


WRONG_COMPLETIONS = [
    ({"prompt": 5}, "prompt: must be a text, a list of tokens, or a list of either"),
    ({"prompt": [["a"]]}, "prompt: must be a text, a list of tokens, or a list of either"),
    ({"prompt": [True]}, "prompt: must be a text, a list of tokens, or a list of either"),
    ({"prompt": []}, "prompt: List should have at least 1 item after validation, not 0"),
    ({"temperature": "1"}, "temperature: Input should be a valid number"),
    ({"temperature": -1}, "temperature: Input should be greater than or equal to 0"),
    ({"top_p": 0}, "top_p: Input should be greater than 0"),
    ({"top_k": -2}, "top_k: Input should be greater than or equal to -1"),
    ({"n": 0}, "n: Input should be greater than or equal to 1"),
    ({"n": True}, "n: Input should be a valid integer"),
    ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
    ({"stop": ""}, "stop.0: String should have at least 1 character"),
    ({"logprobs": 21}, "logprobs: Input should be less than or equal to 20"),
    ({"max_tokens": 0}, "max_tokens must be at least 1 without echo"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5: Input should be less than or equal to 100"),
    ({"stream_options": {}}, "stream_options are only for a stream"),
    ({"best_of": 2}, "best_of = 2 is not supported"),
    ({"best_of": True}, "best_of = True is not supported"),
    ({"suffix": "x"}, "suffix = 'x' is not supported"),
    ({"colour": "red"}, "'colour' is not a parameter that is supported here"),
    ({"messages": HELLO}, "'messages' is not a parameter that is supported here"),
]
WRONG_CHATS = [
    ({"messages": []}, "messages: List should have at least 1 item after validation, not 0"),
    ({"messages": [{"role": "user", "content": None}]},
     "messages.0: content must be a text or a list of text parts"),
    ({"messages": [{"role": "user", "content": 5}]},
     "messages.0.content: must be a text or a list of text parts"),
    ({"messages": [{"role": "user"}]},
     "messages.0: content must be a text or a list of text parts"),
    ({"messages": [{"role": "tool", "content": "x"}]},
     "messages.0: a message of the role tool has a tool_call_id, and no other has one"),
    ({"messages": [{"role": "robot", "content": "x"}]},
     "messages.0.role: Input should be 'system', 'developer', 'user', 'assistant' or 'tool'"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
     "messages.0.content.0.type: Input should be 'text'"),
    ({"messages": [{**HELLO[0], "name": "x"}]},
     "messages.0: name is supported in a message of the role tool only"),
    ({"messages": [{**HELLO[0], "audio": {"id": "x"}}]},
     "messages.0.audio: Extra inputs are not permitted"),
    ({"max_tokens": 3, "max_completion_tokens": 4},
     "max_tokens and max_completion_tokens must be equal where both are"),
    ({"top_logprobs": 3}, "top_logprobs must come with logprobs"),
    ({"tools": [{"type": "function"}]}, "tools.0.function: Field required"),
    ({"tool_choice": "required"}, "tool_choice required needs tools"),
    ({"response_format": {"type": "json_schema"}},
     "response_format: type json_schema needs json_schema"),
    ({"response_format": {"type": "text", "value": "a"}},
     "response_format: type text has no value"),
    ({"structured_outputs": {}},
     "structured_outputs: give one of json, regex, choice, json_object"),
    ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), WRONG_COMPLETIONS)
def test_a_completion_that_is_refused(fields, message):
    with pytest.raises(Refused) as refused:
        completion(**fields)
    assert refused.value.message == message
    assert refused.value.status == 400


@pytest.mark.parametrize(("fields", "message"), WRONG_CHATS)
def test_a_chat_that_is_refused(fields, message):
    with pytest.raises(Refused) as refused:
        chat(**fields)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body must be JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[" * 100_000, "the body must be JSON: "),
        (b"\xff", "the body must be JSON: "),
        (b"[]", "the body must be a JSON object"),
        (b'{"model": "m", "prompt": "p", "temperature": NaN}',
         "the body must be JSON: NaN is not a number of JSON"),
        (b"{}", "model: Field required"),
        (b'{"model": "m", "prompt": "p", "logit_bias": {"1": 1, "1": 2}}',
         "the body must be JSON: '1' stands twice in an object"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_request(body, message):
    with pytest.raises(Refused) as refused:
        parse(CompletionRequest, body)
    assert refused.value.message.startswith(message)
    assert "\n" not in refused.value.message


def test_either_text_or_chat():
    assert parse(TokenizeRequest, b'{"prompt": ""}').prompt == ""
    for body in (b"{}", b'{"prompt": "a", "messages": [{"role": "user", "content": "a"}]}'):
        with pytest.raises(Refused, match=r"^give prompt or messages, one of them$"):
            parse(TokenizeRequest, body)
    assert parse(DetokenizeRequest, b'{"tokens": [1, 2]}').tokens == [1, 2]


def test_the_form_of_an_error():
    error = too_long(100, 50, 128)
    assert error.body == {
        "error": {
            "message": "100 prompt tokens and 50 new ones need 149 positions, the chip has 128; "
            "nothing is cut off: send less, or ask for fewer tokens",
            "type": "invalid_request_error",
            "param": None,
            "code": "context_length_exceeded",
        }
    }
    assert failed().body["error"]["type"] == "server_error"
    assert Refused("x", status=401).body["error"]["type"] == "authentication_error"
