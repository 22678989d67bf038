"""``intaglio serve`` as a process: asked, interrupted, gone; and OpenAI's own client."""

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_process import KEY, PROGRAM, serving
from tiny_chip import environment


@pytest.fixture(scope="module")
def home(made_home, tmp_path_factory) -> Path:
    return shutil.copytree(made_home(4096), tmp_path_factory.mktemp("serve") / "home")


@pytest.fixture
def server(home) -> Callable[..., Any]:
    return functools.partial(serving, home)


def client_of(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def asked(count: int, **fields: Any) -> dict[str, Any]:
    return {"model": "chip", "prompt": "the list", "max_tokens": count, "ignore_eos": True,
            "temperature": 0, **fields}  # fmt: skip


def say_no_http(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as made:
        made.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        assert made.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_told_and_its_streams_end_whole(server, number):
    with server() as (process, url), client_of(url) as client:
        whole = client.post("/v1/completions", json=asked(300)).json()["choices"][0]["text"]
        assert httpx.get(f"{url}/v1/models").status_code == 401
        say_no_http(url)
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
    assert len(re.findall(r" - - 400: ", err)) == 1
    assert len(err.splitlines()) == 4  # one of each request
    assert "Traceback" not in err
    assert not re.search(r"WARNING|ERROR", err)


def test_while_it_stops_it_says_so(server):
    body = asked(400, stream=True, n=8, logprobs=5)  # takes a while
    with server() as (process, url), client_of(url) as client:
        with client.stream("POST", "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            while (found := httpx.get(f"{url}/health")).status_code == 200:
                pass
            refused = client.post("/v1/completions", json=asked(1))
            *_, last = (line for line in lines if line)
        assert (found.status_code, found.json()) == (503, {"status": "stopping"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert last == "data: [DONE]"
        process.communicate(timeout=60)
    assert process.returncode == 0


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
