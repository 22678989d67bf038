"""Keys, faults, and one line in the log."""

import functools
from pathlib import Path

import httpx
import pytest
from served_chip import COMPLETIONS, run

from intaglio.flow.package import Package, open_package
from intaglio.serve.completion import Completion


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(Path(made_home(128)) / "chip")


@pytest.fixture
def ask(package):
    return functools.partial(run, package, [])


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


def test_a_fault_is_one_line_in_the_log_and_none_of_the_clients(ask, monkeypatch, caplog):
    async def test(client: httpx.AsyncClient) -> None:
        monkeypatch.setattr(Completion, "begin", lambda *_: 1 // 0)
        response = await client.post(COMPLETIONS, json={"model": "chip", "prompt": "a"})
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "server_error"
        assert "ZeroDivision" not in response.text
        (line,) = [each.message for each in caplog.records if each.levelname == "ERROR"]
        assert line.startswith(f"POST {COMPLETIONS}: ZeroDivisionError: ")

    ask(test)
