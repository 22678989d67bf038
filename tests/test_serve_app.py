"""The application: paths, bodies, refusals; the same bytes whatever else runs."""

import asyncio
import functools
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from served_chip import CHAT, COMPLETIONS, HELLO, lists_adapter, post, run, same, stream

from intaglio.checkpoint.tokenizer import LONG, Tokenizer
from intaglio.flow.adapters import NamedAdapter
from intaglio.flow.package import Package, open_package
from intaglio.serve import app as app_module
from intaglio.serve.app import make_app
from intaglio.serve.served import Served


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(Path(made_home(128)) / "chip")


@pytest.fixture(scope="module")
def adapter(made_home, package, tmp_path_factory) -> NamedAdapter:
    return lists_adapter(package, made_home(128), tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def ask(package, adapter):
    return functools.partial(run, package, [adapter])


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


def test_long_texts_come_one_after_the_other(ask, monkeypatch):
    inside, most, inner = [], [], Tokenizer.encode

    def slow(self: Tokenizer, text: str, special: bool = False) -> list[int]:
        inside.append(text)
        most.append(sum(len(each) >= LONG for each in inside))
        time.sleep(0.05)
        inside.remove(text)
        return inner(self, text, special)

    async def test(client: httpx.AsyncClient) -> None:
        monkeypatch.setattr(Tokenizer, "encode", slow)
        texts = ["a" * LONG] * 4 + ["b"] * 4
        bodies: list[Any] = [{"prompt": text} for text in texts]
        bodies += [{"messages": [{"role": "user", "content": text}]} for text in texts]
        found = await asyncio.gather(*(post(client, "/tokenize", **body) for body in bodies))
        assert [each["count"] >= LONG / 2 for each in found] == ([True] * 4 + [False] * 4) * 2
        assert max(most) == 1

    ask(test)


def test_bodies_paths_and_methods(ask):
    async def test(client: httpx.AsyncClient) -> None:
        for content, status in ((b"{", 400), (b"x" * 3000, 413), (b'{"model": "chip"}', 400)):
            response = await client.post(COMPLETIONS, content=content)
            assert response.status_code == status
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

        response = await client.post(f"{COMPLETIONS}?max_tokens=2", json={})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "max_tokens"

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


def test_no_room(ask):
    async def test(client: httpx.AsyncClient) -> None:
        full = await client.post(
            COMPLETIONS, json={"model": "chip", "prompt": "a", "n": 3, "stream": True}
        )
        assert full.status_code == 400  # more than there ever is room for
        assert "at most 2 sequences" in full.json()["error"]["message"]

    ask(test, limits={"most_running": 1, "most_waiting": 1})


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

        def watched(works: Any, client: str) -> Any:
            submitted.set()
            return submit(works, client)

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
