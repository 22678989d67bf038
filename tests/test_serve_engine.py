"""The engine: limits, clients that leave, a twin that fails, an end that everybody hears of."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from intaglio.flow.engines import open_twin
from intaglio.flow.package import open_package
from intaglio.golden.sample import Sampling
from intaglio.serve.batch import Batch, Said, Work
from intaglio.serve.engine import Engine, Ticket
from intaglio.serve.refusal import Refused
from intaglio.twin import Twin

LONG = Work((1, 2, 3), 120, Sampling())
SHORT = Work((1, 2, 3), 4, Sampling())


@pytest.fixture(scope="module")
def twin(made_home) -> Twin:
    return open_twin(open_package(Path(made_home(128)) / "chip"), threads=1)


@pytest.fixture
def slow(monkeypatch) -> None:
    """Every round takes a while."""
    quick = Batch.round

    def round(batch: Batch) -> Any:
        time.sleep(0.01)
        batch.length = 1
        return quick(batch)

    monkeypatch.setattr(Batch, "round", round)


def served(twin: Twin, test: Callable[[Engine], Coroutine[Any, Any, None]], **limits: int) -> None:
    async def main() -> None:
        engine = Engine(twin, **limits)
        engine.start()
        await test(engine)
        await engine.stop(0)
        assert (engine.running, engine.waiting) == (0, 0)

    asyncio.run(asyncio.wait_for(main(), 600))


async def all_of(ticket: Ticket) -> list[int]:
    tokens = []
    while True:
        event = await ticket.next()
        assert isinstance(event, Said)
        tokens.append(event.token)
        if event.reason:
            return tokens


def test_many_more_than_run_together(twin):
    async def test(engine: Engine) -> None:
        first = await all_of(engine.submit([LONG])[0])
        tickets = engine.submit([LONG, SHORT] * 20)
        found = await asyncio.gather(*map(all_of, tickets))
        assert found == [first, first[:4]] * 20

    served(twin, test, most_running=3, most_waiting=37)


def test_what_is_beyond_the_limit_is_refused(twin, slow):
    async def test(engine: Engine) -> None:
        tickets = engine.submit([LONG] * 4)
        with pytest.raises(Refused, match=r"^2 sequences wait already; try again later$") as busy:
            engine.submit([SHORT])
        assert (busy.value.status, busy.value.headers) == (503, {"Retry-After": "1"})
        with pytest.raises(Refused, match=r"^a request may be of at most 4 sequences here, not 5$"):
            engine.submit([SHORT] * 5)
        for ticket in tickets:
            ticket.close()
        assert len(await all_of(engine.submit([SHORT])[0])) == 4

    served(twin, test, most_running=2, most_waiting=2)


def test_who_leaves_makes_room(twin, slow):
    async def test(engine: Engine) -> None:
        running, waiting = engine.submit([LONG, LONG])
        await running.next()
        assert (engine.running, engine.waiting) == (1, 1)
        waiting.close()
        running.close()
        running.close()
        assert (engine.running, engine.waiting) == (0, 0)
        await all_of(engine.submit([SHORT])[0])
        assert not engine._batch.running

    served(twin, test, most_running=1, most_waiting=1)


def test_a_twin_that_fails_fails_who_runs_and_no_more(twin, monkeypatch, caplog):
    async def test(engine: Engine) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Batch, "round", lambda batch: 1 // 0)
            with pytest.raises(Refused, match=r"^the server failed at this request"):
                await all_of(engine.submit([SHORT])[0])
        assert "ZeroDivisionError" in caplog.text
        assert len(await all_of(engine.submit([SHORT])[0])) == 4
        with pytest.raises(Refused, match=r"^the server failed at this request"):
            await all_of(engine.submit([Work((1,), 1, Sampling(), adapter="none")])[0])
        assert len(await all_of(engine.submit([SHORT])[0])) == 4

    served(twin, test)


def test_everybody_hears_of_the_end(twin, slow):
    async def test(engine: Engine) -> None:
        short, long, waiting = engine.submit([SHORT, LONG, LONG])
        assert engine.well
        ending = asyncio.ensure_future(engine.stop(0.3))
        assert len(await all_of(short)) == 4
        for ticket in (long, waiting):
            with pytest.raises(Refused, match=r"^the server is stopping$"):
                await all_of(ticket)
        await ending
        assert not engine.well
        with pytest.raises(Refused, match=r"^the server is stopping$") as refused:
            engine.submit([SHORT])
        assert refused.value.status == 503

    served(twin, test, most_running=2)


def test_a_place_is_kept_for_who_has_none(twin, slow):
    async def test(engine: Engine) -> None:
        many = engine.submit([LONG] * 15, "many")
        with pytest.raises(Refused, match=r"^14 sequences wait already; try again later$"):
            engine.submit([LONG], "many")
        (one,) = engine.submit([SHORT], "one")
        found = asyncio.gather(*map(all_of, many), return_exceptions=True)
        assert len(await all_of(one)) == 4
        assert engine.waiting >= 12  # it did not wait for them
        for ticket in many:
            ticket.close()
        found.cancel()

    served(twin, test, most_running=1, most_waiting=16)
