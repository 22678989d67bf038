"""A server measured as its clients feel it."""

import asyncio
from pathlib import Path

import pytest
from live_chip import live

from intaglio.errors import BadInput
from intaglio.flow.package import open_package
from intaglio.serve.measure import (
    Load,
    Timed,
    client_of,
    measure_server,
    spread,
    stream,
    summary,
    table,
)
from intaglio.serve.served import Served


@pytest.fixture(scope="module")
def served(made_home) -> Served:
    return Served(open_package(Path(made_home(128)) / "chip"), threads=1)


def test_a_server_is_measured(served):
    with live(served, ["secret"]) as url:
        load = Load(requests=6, prompt=20, tokens=9, together=2)
        values = measure_server(f"{url}/v1", load, key="secret")
        assert (values["completed"], values["failed"], values["model"]) == (6, 0, "chip")
        assert (values["total_input_tokens"], values["total_output_tokens"]) == (120, 54)
        assert values["output_throughput"] == pytest.approx(54 / values["duration"])
        assert 0 < values["p50_ttft_ms"] <= values["p99_ttft_ms"] <= values["p99_e2el_ms"]
        assert len(list(table(values))) == 34
        with pytest.raises(BadInput, match=r"no server of OpenAI's API answers there: .*401"):
            measure_server(url, load, key="wrong")
        with pytest.raises(BadInput, match=r"does not answer a first request: 404: .*not served"):
            measure_server(url, load, key="secret", model="other")
        with pytest.raises(
            BadInput, match=r"first request: 400: 200 prompt tokens and 128 new ones"
        ):
            measure_server(url, Load(requests=1, prompt=200), key="secret")
        fitted = measure_server(url, Load(requests=1, tokens=28), key="secret")
        assert (fitted["total_input_tokens"], fitted["total_output_tokens"]) == (100, 28)

        async def broken() -> Timed:
            async with client_of(url, "secret") as client:
                return await stream(client, {"model": "chip", "prompt": 1})

        assert (asyncio.run(broken()).error or "").startswith("400: ")
    with pytest.raises(BadInput, match="no server of OpenAI's API answers there"):
        measure_server("http://127.0.0.1:1", load)


def test_the_figures():
    made = [
        Timed(first=0.1, seconds=0.5, gaps=[0.1, 0.3], prompt=10, tokens=5),
        Timed(first=0.3, seconds=0.3, prompt=10, tokens=1),
        Timed(error="gone"),
    ]
    values = summary(made, 2.0)
    assert (values["completed"], values["failed"], values["first_error"]) == (2, 1, "gone")
    assert values["request_throughput"] == 1
    assert values["total_token_throughput"] == 13
    assert values["mean_ttft_ms"] == pytest.approx(200)
    assert values["mean_tpot_ms"] == pytest.approx(100)
    assert values["median_itl_ms"] == pytest.approx(200)
    assert values["mean_e2el_ms"] == pytest.approx(400)
    assert set(spread("itl", []).values()) == {None}


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"tokens": 0}, {"rate": 0.0}, {"together": 0}])
def test_what_is_no_load(wrong):
    with pytest.raises(BadInput, match="must be"):
        Load(**wrong)
