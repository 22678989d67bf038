"""Two servers behind HAProxy, set up as docs/serve.md says: one is killed under load."""

import asyncio
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_process import KEY, Running, serving

from intaglio.serve.measure import Timed, client_of, stream

DOCUMENT = Path(__file__).parents[1] / "docs" / "serve.md"
BEFORE, AFTER = 40, 60  # answers before an instance is killed, and whole ones asked for after it
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="apt-get install haproxy"),
]


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextmanager
def balanced(urls: list[str], folder: Path) -> Iterator[str]:
    """HAProxy by the configuration in the document, its ports aside."""
    (text,) = re.findall(r"```haproxy\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    port = free_port()
    for number, url in enumerate(urls, start=8001):
        assert f"127.0.0.1:{number} " in text
        text = text.replace(f"127.0.0.1:{number} ", f"{url.removeprefix('http://')} ")
    assert "bind :8000" in text
    path = folder / "haproxy.cfg"
    path.write_text(text.replace("bind :8000", f"bind 127.0.0.1:{port}"))
    process = subprocess.Popen(["haproxy", "-db", "-f", str(path)], stderr=subprocess.PIPE)
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def wait_for(url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def bodies() -> list[dict[str, Any]]:
    return [
        {"model": "chip", "prompt": f"the list {index}", "max_tokens": 200, "seed": index,
         "temperature": index % 2, "ignore_eos": True}
        for index in range(12)
    ]  # fmt: skip


def test_an_instance_is_killed_under_load(made_home, tmp_path):
    home = shutil.copytree(made_home(4096), tmp_path / "home")
    quiet = {"log": subprocess.DEVNULL}
    with serving(home, **quiet) as first, serving(home, **quiet) as second:
        check(first, second, tmp_path)


def check(first: Running, second: Running, folder: Path) -> None:
    with balanced([first.url, second.url], folder) as url:
        alone, found, (killed, gone) = asyncio.run(under_load(url, first))
        assert not any(each.error for each in alone)
        assert sum(each.error is None for _, each, _ in found) >= BEFORE + AFTER
        for kind, made, began in found:
            if made.error is None:
                assert made.text == alone[kind].text  # whoever answered
            else:  # its stream broke off with the instance, and with nothing else
                assert began <= gone + 0.1, made.error
                assert killed <= began + made.seconds + 0.1, made.error
        assert sum(began > gone for _, _, began in found) >= AFTER


async def under_load(
    url: str, victim: Running
) -> tuple[list[Timed], list[Any], tuple[float, float]]:
    """Answers alone; under load, with when they began; when the victim was killed and when gone."""
    asked, found, killed, gone = bodies(), [], 0.0, 0.0
    async with client_of(url, KEY) as client:
        alone = [await stream(client, body) for body in asked]
        until = time.monotonic() + 240

        def enough() -> bool:
            late = sum(began > gone for _, made, began in found if made.error is None)
            return bool(gone) and late >= AFTER

        async def one(number: int) -> None:
            while time.monotonic() < until and not enough():
                kind, began = number % len(asked), time.monotonic()
                made = await stream(client, asked[kind])
                found.append((kind, made, began))
                number += 16

        async def kill() -> None:
            nonlocal killed, gone
            while len(found) < BEFORE and time.monotonic() < until:
                await asyncio.sleep(0.05)
            killed = time.monotonic()
            victim.process.kill()
            await asyncio.to_thread(victim.process.wait)
            gone = time.monotonic()

        await asyncio.gather(kill(), *(one(number) for number in range(16)))
    return alone, found, (killed, gone)
