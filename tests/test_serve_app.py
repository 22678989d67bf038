"""The API: what every path answers, streams in the order clients rely on, and refusals."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from peft_folder import random_factors, write_peft

from intaglio.checkpoint import open_checkpoint
from intaglio.flow.adapters import NamedAdapter, open_adapter
from intaglio.flow.package import Package, open_package
from intaglio.flow.talk import Talk, modelled
from intaglio.golden.sample import Sampling
from intaglio.serve import app as app_module
from intaglio.serve.app import make_app
from intaglio.serve.completion import Completion
from intaglio.serve.served import HOST_BLOCKED, Served

HELLO = [{"role": "user", "content": "hello"}]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
Test = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(Path(made_home(128)) / "chip")


@pytest.fixture(scope="module")
def adapter(made_home, package, tmp_path_factory) -> NamedAdapter:
    home, folder = made_home(128), tmp_path_factory.mktemp("adapter")
    write_peft(folder / "peft", random_factors(open_checkpoint(home / "tiny").architecture))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
        return open_adapter(package, f"lists={folder / 'peft'}", model=str(home / "tiny"))


@pytest.fixture
def ask(package, adapter):
    """Run a test against a server; the app's options by name."""

    def run(test: Test, *, limits: dict[str, Any] | None = None, **options: Any) -> None:
        async def main() -> None:
            served = Served(package, [adapter], threads=1, **(limits or {}))
            app = make_app(served, **options)
            served.engine.start()
            transport = httpx.ASGITransport(app)
            try:
                async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                    await test(client)
            finally:
                await served.engine.stop(0)

        asyncio.run(asyncio.wait_for(main(), 600))

    return run


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


def test_models(ask, package):
    async def test(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/models")).json()
        assert [(m["id"], m["parent"], m["root"]) for m in found["data"]] == [
            ("chip", None, "chip"),
            ("lists", "chip", "chip"),
        ]
        assert found["data"][0]["max_model_len"] == 128
        assert (await client.get("/v1/models/lists")).json() == found["data"][1]
        wrong = await client.get("/v1/models/none")
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "model_not_found")
        await post(client, COMPLETIONS, 404, model="none", prompt="a")
        version = (await client.get("/version")).json()
        assert version["hash"] == package.hash
        assert (await client.get("/health")).json() == {"status": "ok"}

    ask(test)


def test_a_completion_is_what_generate_says(ask, package):
    with Talk(package) as talk:
        ids = talk.encode("the list")
        expected = "".join(talk.complete(ids, 12, Sampling.of(0.8, seed=5)))
        summary = talk.summary()

    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 12, "temperature": 0.8, "seed": 5}
        answer = await post(client, COMPLETIONS, **fields)
        (choice,) = answer["choices"]
        assert choice["text"] == expected
        assert choice["finish_reason"] in ("length", "stop")
        assert answer["system_fingerprint"] == package.hash
        said = summary["tokens"]
        assert answer["usage"] == {
            "prompt_tokens": len(ids), "completion_tokens": said, "total_tokens": len(ids) + said,
        }  # fmt: skip
        assert answer["intaglio"] == {
            "hash": package.hash, "adapter": None, "seed": 5, "sampling_mode": "chip",
            "choices": [{"index": 0, "prompt_tokens": len(ids), "tokens": said,
                         "chip": summary["chip"], "chip_blocked_by": None}],
        }  # fmt: skip
        by_tokens = await post(client, COMPLETIONS, **{**fields, "prompt": ids})
        assert same(by_tokens) == same(answer)
        scored = await post(client, COMPLETIONS, **fields, logprobs=0)
        assert scored["choices"][0]["text"] == expected
        assert scored["intaglio"]["sampling_mode"] == "host"
        assert scored["intaglio"]["choices"][0]["chip"] is None
        assert scored["intaglio"]["choices"][0]["chip_blocked_by"] == HOST_BLOCKED

    ask(test)


def test_an_adapter_by_its_name(ask, package, adapter):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 6, "temperature": 0}
        plain = await post(client, COMPLETIONS, **fields)
        adapted = await post(client, COMPLETIONS, model="lists", **fields)
        assert plain["choices"][0]["text"] != adapted["choices"][0]["text"]
        assert adapted["intaglio"]["adapter"] == "lists"
        chip = adapted["intaglio"]["choices"][0]["chip"]
        assert chip == modelled(package.plan, 6, 6, Sampling(), adapter.rank)

    ask(test)


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


def test_stop_sequences_and_echo(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 20, "temperature": 0, "ignore_eos": True}
        whole = (await post(client, COMPLETIONS, **fields))["choices"][0]["text"]
        stop = whole[5:7]
        answer = await post(client, COMPLETIONS, **fields, stop=stop, echo=True)
        (choice,) = answer["choices"]
        assert choice["text"] == "the list" + whole[: whole.find(stop)]
        assert choice["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] < 20
        chunks = await stream(client, COMPLETIONS, **fields, stop=["never", stop], echo=True)
        assert chunks[0]["choices"][0]["text"] == "the list"
        said = [chunk["choices"][0]["text"] for chunk in chunks]
        assert "".join(said) == choice["text"]
        assert chunks[-1]["intaglio"]["choices"] == answer["intaglio"]["choices"]

    ask(test)


def test_probabilities_of_the_prompt(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 3, "temperature": 0, "logprobs": 1}
        answer = await post(client, COMPLETIONS, **fields, echo=True)
        (choice,) = answer["choices"]
        found = choice["logprobs"]
        assert found["tokens"][:6] == ["the", " ", "l", "i", "s", "t"]
        assert found["text_offset"][:7] == [0, 3, 4, 5, 6, 7, 8]
        assert found["token_logprobs"][0] is None
        assert len(found["token_logprobs"]) == 9
        assert all(value < 0 for value in found["token_logprobs"][1:])
        plain = (await post(client, COMPLETIONS, **fields))["choices"][0]["logprobs"]
        assert found["token_logprobs"][6:] == plain["token_logprobs"]
        likeliest = [max(top.values()) for top in plain["top_logprobs"]]
        assert likeliest == plain["token_logprobs"]  # greedy
        nothing = await post(client, COMPLETIONS, **{**fields, "max_tokens": 0}, echo=True)
        assert nothing["choices"][0]["text"] == "the list"
        assert nothing["choices"][0]["logprobs"]["tokens"] == found["tokens"][:6]
        assert nothing["intaglio"]["choices"][0]["chip_blocked_by"] == "nothing was generated"
        bare = {"prompt": "the list", "max_tokens": 0, "echo": True}
        assert (await post(client, COMPLETIONS, **bare))["choices"][0]["text"] == "the list"
        only, *_ = await stream(client, COMPLETIONS, **fields | {"max_tokens": 1}, echo=True)
        assert only["choices"][0]["text"].startswith("the list")

    ask(test)


def test_a_bias_and_a_penalty(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 5, "temperature": 0}
        forced = await post(client, COMPLETIONS, **fields, logit_bias={"40": 100})
        assert forced["choices"][0]["text"] == "F" * 5
        freed = await post(
            client, COMPLETIONS, **fields, logit_bias={"40": 10}, frequency_penalty=2.0,
            presence_penalty=2.0,
        )  # fmt: skip
        assert freed["choices"][0]["text"] != "F" * 5
        for name in ("-1", "x", "320", "٣"):
            wrong = await post(client, COMPLETIONS, 400, **fields, logit_bias={name: 1})
            assert wrong["error"]["param"] == "logit_bias"

    ask(test)


def test_the_same_bytes_whatever_else_runs(ask):
    requests: list[tuple[str, dict[str, Any]]] = []
    for index in range(6):
        fields = {"seed": index, "temperature": index % 3, "max_tokens": 5 + 4 * index, "n": 2}
        if index % 4 == 3:
            fields |= {"logprobs": True, "presence_penalty": 0.5}
        requests.append((CHAT, {**fields, "messages": [{"role": "user", "content": "x" * index}]}))
        more = {"prompt": ["a list " * (index + 1), "in"], "logprobs": None if index % 2 else 1}
        requests.append((COMPLETIONS, {**fields, **more}))

    async def test(client: httpx.AsyncClient) -> None:
        async def both(path: str, fields: dict[str, Any]) -> Any:
            whole = await post(client, path, **fields)
            return same(whole), [same(chunk) for chunk in await stream(client, path, **fields)]

        alone = [await both(*request) for request in requests]
        together = await asyncio.gather(*(both(*request) for request in requests * 2))
        assert together == alone * 2
        one = {**requests[0][1], "n": 1}
        first = (await post(client, CHAT, **one))["choices"][0]
        assert first == alone[0][0]["choices"][0]

    ask(test, limits={"most_running": 7, "most_waiting": 1000})


def test_a_seed_is_told_where_none_was_given(ask):
    async def test(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "the list", "max_tokens": 20, "temperature": 2}
        drawn = await post(client, COMPLETIONS, **fields)
        seed = drawn["intaglio"]["seed"]
        assert same(await post(client, COMPLETIONS, **fields, seed=seed)) == same(drawn)
        wide = await post(client, COMPLETIONS, **fields, top_k=-1)
        assert wide["intaglio"]["sampling_mode"] == "host"

    ask(test)


def test_tokens_and_back(ask):
    async def test(client: httpx.AsyncClient) -> None:
        text = "こんにちは the <|im_end|>"
        found = await post(client, "/tokenize", prompt=text)
        assert found["count"] == len(found["tokens"])
        back = await post(client, "/detokenize", tokens=found["tokens"])
        assert back == {"prompt": text}
        chat = await post(client, "/tokenize", messages=HELLO)
        back = await post(client, "/detokenize", tokens=chat["tokens"])
        assert back["prompt"].startswith("<|im_start|>user\nhello<|im_end|>")
        await post(client, "/detokenize", 400, tokens=[320])
        wrong = await client.post("/tokenize", content=b'{"prompt": "\\ud800"}')
        assert wrong.status_code == 400
        wrong = await client.post("/tokenize", content=b'{"prompt": "", "model": "\\ud800"}')
        assert wrong.status_code == 404

    ask(test)


def test_too_long(ask):
    async def test(client: httpx.AsyncClient) -> None:
        for fields in ({"prompt": [1] * 100, "max_tokens": 30}, {"prompt": [1] * 129}):
            error = (await post(client, COMPLETIONS, 400, **fields))["error"]
            assert error["code"] == "context_length_exceeded"
        full = await post(client, COMPLETIONS, prompt=[1] * 100, max_tokens=29, ignore_eos=True)
        assert full["usage"]["completion_tokens"] == 29
        rest = await post(client, COMPLETIONS, prompt=[1] * 120, ignore_eos=True)
        assert rest["usage"]["completion_tokens"] == 9  # of the usual 16, what there is room for
        await post(client, COMPLETIONS, 400, prompt="")
        await post(client, COMPLETIONS, 400, prompt=[320])

    ask(test)


def test_bodies_paths_and_methods(ask):
    async def test(client: httpx.AsyncClient) -> None:
        for content, status in ((b"{", 400), (b"x" * 3000, 413), (b'{"model": "chip"}', 400)):
            response = await client.post(COMPLETIONS, content=content)
            assert response.status_code == status
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

        async def parts():
            for _ in range(30):
                yield b"x" * 100

        assert (await client.post(CHAT, content=parts())).status_code == 413
        missing = await client.get("/v2/none")
        assert (missing.status_code, missing.json()["error"]["message"]) == (
            404, "there is no such path here",
        )  # fmt: skip
        method = await client.get(CHAT)
        assert (method.status_code, method.headers["allow"]) == (405, "POST")
        schema = (await client.get("/openapi.json")).json()
        body = schema["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]
        assert "messages" in body["schema"]["properties"]
        assert "Message" in schema["components"]["schemas"]
        counted = (await client.get("/metrics")).text
        assert f'intaglio_requests_total{{route="{COMPLETIONS}",status="413"}} 1.0' in counted
        assert 'intaglio_requests_total{route="unknown",status="404"} 1.0' in counted

    ask(test, most_bytes=2000)


def test_keys(ask):
    async def test(client: httpx.AsyncClient) -> None:
        for headers in ({}, {"Authorization": "Bearer three"}, {"Authorization": "Basic one"}):
            response = await client.get("/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
        for key in ("one", "two"):
            headers = {"Authorization": f"Bearer {key}"}
            assert (await client.get("/v1/models", headers=headers)).status_code == 200
        assert (await client.get("/health")).status_code == 200

    ask(test, keys=["one", "two"])


def test_no_room(ask):
    async def test(client: httpx.AsyncClient) -> None:
        full = await client.post(
            COMPLETIONS, json={"model": "chip", "prompt": "a", "n": 3, "stream": True}
        )
        assert full.status_code == 400  # more than there ever is room for
        assert "at most 2 sequences" in full.json()["error"]["message"]

    ask(test, limits={"most_running": 1, "most_waiting": 1})


def test_a_fault_is_one_line_in_the_log_and_none_of_the_clients(ask, monkeypatch, caplog):
    async def test(client: httpx.AsyncClient) -> None:
        monkeypatch.setattr(Completion, "begin", lambda served, asked: 1 // 0)
        response = await client.post(COMPLETIONS, json={"model": "chip", "prompt": "a"})
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "server_error"
        assert "ZeroDivision" not in response.text
        (line,) = [each.message for each in caplog.records if each.levelname == "ERROR"]
        assert line.startswith(f"POST {COMPLETIONS}: ZeroDivisionError: ")

    ask(test)


def test_who_sends_slowly_is_not_waited_for(ask, monkeypatch):
    monkeypatch.setattr(app_module, "MOST_SECONDS", 0.05)

    async def test(client: httpx.AsyncClient) -> None:
        async def parts():
            yield b"{"
            await asyncio.sleep(5)

        assert (await client.post(CHAT, content=parts())).status_code == 408

    ask(test)


@pytest.mark.parametrize("streamed", [False, True])
def test_nothing_is_made_for_a_client_that_left(package, monkeypatch, streamed):
    async def main() -> None:
        served = Served(package)
        app, sent = make_app(served), []
        submitted = asyncio.Event()
        submit = served.engine.submit

        def watched(works: Any) -> Any:
            submitted.set()
            return submit(works)

        monkeypatch.setattr(served.engine, "submit", watched)  # the engine has not started
        fields = {"model": "chip", "prompt": "a", "max_tokens": 99, "stream": streamed}
        messages = [{"type": "http.request", "body": json.dumps(fields).encode()}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await submitted.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": COMPLETIONS, "headers": [],
            "query_string": b"", "http_version": "1.1", "asgi": {"spec_version": "2.3"},
        }  # fmt: skip
        await app(scope, receive, send)
        assert (served.engine.running, served.engine.waiting) == (0, 0)
        assert not any(message.get("body") for message in sent)

    asyncio.run(asyncio.wait_for(main(), 60))
