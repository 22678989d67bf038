"""Connections whose clients let them hang, and bytes that are no request."""

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from live_chip import live

from intaglio.flow.package import open_package
from intaglio.serve import connection
from intaglio.serve.served import Served

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

LONG = b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 60_000


@pytest.fixture(scope="module")
def served(made_home) -> Callable[[], Served]:
    package = open_package(Path(made_home(4096)) / "chip")
    return lambda: Served(package, threads=1)


def connect(url: str, buffer: int | None = None) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(60)
    made.connect((host, int(port)))
    return made


def everything(made: socket.socket) -> bytes:
    """All that comes until the other side ends it."""
    found = b""
    try:
        while part := made.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_never_ends(served, monkeypatch, sent):
    monkeypatch.setattr(connection, "MOST_SECONDS", 0.2)
    with live(served()) as url, connect(url) as made:
        made.sendall(sent)
        assert everything(made) == b""
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200


def test_a_body_that_goes_on_after_its_answer(served, monkeypatch):
    monkeypatch.setattr(connection, "MOST_SECONDS", 0.2)
    with live(served()) as url, connect(url) as made:
        made.sendall(HEAD % (5 << 20))
        assert made.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
        until = time.monotonic() + 60

        def go_on() -> None:
            while time.monotonic() < until:
                made.sendall(b"x")
                time.sleep(0.1)

        with pytest.raises(ConnectionError):
            go_on()


def test_an_answer_that_nobody_takes(served, monkeypatch, caplog):
    monkeypatch.setattr(connection, "MOST_SECONDS", 0.5)
    body = {"model": "chip", "prompt": ["x" * 2000] * 40, "echo": True, "max_tokens": 0, "n": 100}
    sent, chip = json.dumps(body).encode(), served()
    monkeypatch.setattr(chip.engine, "check_room", lambda *_: None)  # nothing is generated
    with caplog.at_level("INFO", "intaglio.serve"), live(chip) as url, connect(url, 4096) as made:
        made.sendall(HEAD % len(sent) + sent)
        for _ in range(600):
            if "a client takes no more" in caplog.text:
                break
            time.sleep(0.1)
        found = everything(made)
    assert found.startswith(b"HTTP/1.1 200 ")
    length = int(re.findall(rb"content-length: (\d+)", found)[0])
    assert len(found) < length / 2


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01 no HTTP\r\n\r\n", LONG, LONG + b"\r\nConnection: close\r\n\r\n"],
    ids=["no HTTP", "a long head", "a long head that ends"],
)
def test_what_is_no_request(served, sent):
    with live(served()) as url, connect(url) as made:
        made.sendall(sent)
        head, _, body = everything(made).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
