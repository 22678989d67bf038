"""``intaglio serve`` as a process: asked, interrupted, gone; and OpenAI's own client."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tiny_chip import environment

PROGRAM = [sys.executable, str(Path(__file__).with_name("tiny_chip.py")), "serve", "chip"]
KEY = "secret"


class Running(NamedTuple):
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str


@pytest.fixture(scope="module")
def home(made_home, tmp_path_factory) -> Path:
    return shutil.copytree(made_home(4096), tmp_path_factory.mktemp("serve") / "home")


@pytest.fixture
def server(home) -> Callable[..., Any]:
    @contextmanager
    def start(*words: str) -> Iterator[Running]:
        process = subprocess.Popen(
            [*PROGRAM, "--port", "0", "--api-key", KEY, *words], cwd=home, text=True,
            env={**environment(), "INTAGLIO_CACHE": str(home / "cache")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hear_interrupts,
        )  # fmt: skip
        killer = threading.Timer(120, process.kill)
        killer.start()
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.fullmatch(r"chip at (http://127\.0\.0\.1:\d+)/v1 on the twin \(.*\)\n", line)
            assert found, line
            hint = f"{found[1]} in a browser shows its speed; Ctrl-C stops it\n"
            assert process.stdout.readline() == hint
            yield Running(process, found[1])
        finally:
            killer.cancel()
            process.kill()
            process.communicate()

    return start


def hear_interrupts() -> None:
    """As in a terminal: a background job's interrupts would be ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def client_of(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def asked(count: int, **fields: Any) -> dict[str, Any]:
    return {"model": "chip", "prompt": "the list", "max_tokens": count, "ignore_eos": True,
            "temperature": 0, **fields}  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_told_and_its_streams_end_whole(server, number):
    with server() as (process, url), client_of(url) as client:
        whole = client.post("/v1/completions", json=asked(300)).json()["choices"][0]["text"]
        assert httpx.get(f"{url}/v1/models").status_code == 401
        with client.stream("POST", "/v1/completions", json=asked(300, stream=True)) as response:
            lines = response.iter_lines()
            said = [next(lines)]
            process.send_signal(number)
            said += [line for line in lines if line]
        assert said[-1] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in said[:-1]]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert len(re.findall(r"INFO POST /v1/completions 200 ", err)) == 2
    assert "INFO GET /v1/models 401 " in err
    assert "Traceback" not in err
    assert not re.search(r"WARNING|ERROR", err)


def test_an_address_that_is_taken(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*PROGRAM, "--port", port], cwd=home, capture_output=True, text=True,
            env={**os.environ, **environment(), "INTAGLIO_CACHE": str(home / "cache")},
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"BadInput: 127.0.0.1, port {port}: cannot be listened at: Address already in use\n"
    )


@pytest.mark.peer
def test_openais_client(server):
    import openai  # pyright: ignore[reportMissingImports]

    with server() as (_, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY)
        assert [model.id for model in client.models.list()] == ["chip"]
        messages = [{"role": "user", "content": "hello"}]
        fields = {"model": "chip", "messages": messages, "max_completion_tokens": 8, "seed": 3}
        answer = client.chat.completions.create(**fields, logprobs=True, top_logprobs=2)
        text = answer.choices[0].message.content
        assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
        assert answer.intaglio["sampling_mode"] == "host"
        chunks = list(
            client.chat.completions.create(
                **fields, stream=True, stream_options={"include_usage": True}
            )
        )
        assert text == "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert chunks[-1].usage == answer.usage
        completion = client.completions.create(
            model="chip", prompt="the list", max_tokens=4, echo=True, logprobs=1, seed=1
        )
        assert completion.choices[0].text.startswith("the list")
        with pytest.raises(openai.BadRequestError, match="is not supported"):
            client.chat.completions.create(**fields, response_format={"type": "json_object"})
        with pytest.raises(openai.NotFoundError, match="is not served here"):
            client.completions.create(model="other", prompt="a")
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong").models.list()
