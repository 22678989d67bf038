"""The batch: every sequence says what it would alone, whatever else runs and however it came."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.flow.engines import open_twin
from intaglio.flow.package import Package, open_package
from intaglio.golden.forward import Golden
from intaglio.golden.sample import Sampling, sample
from intaglio.serve import batch as batch_module
from intaglio.serve.batch import Batch, Event, Read, Said, Work
from intaglio.serve.host import HostSampling, score
from intaglio.twin import Twin

SCORED = HostSampling(logprobs=2)


@pytest.fixture(scope="module")
def package(made_home) -> Package:
    return open_package(Path(made_home(128)) / "chip")


@pytest.fixture(scope="module")
def twin(package) -> Twin:
    return open_twin(package, threads=1)


def random_works(count: int, vocabulary: int = 320) -> list[Work]:
    """Works of every kind; half of them in host sampling mode."""
    rng, works = np.random.default_rng(3), []
    for index in range(count):
        ids = tuple(rng.integers(0, vocabulary, int(rng.integers(1, 60))).tolist())
        host: HostSampling | None = None
        if index % 2:
            host = HostSampling(
                presence=index * 20, frequency=index * 40, bias=((index, 900),),
                logprobs=index % 5, prompt=index % 4 == 1,
            )  # fmt: skip
        sampling = Sampling.of(index % 3 / 2, top_p=0.9, seed=index)
        ends = frozenset(rng.integers(0, vocabulary, 4).tolist())
        works.append(Work(ids, int(rng.integers(1, 60)), sampling, ends, host=host))
    return works


def run(batch: Batch, works: dict[Any, Work]) -> dict[Any, list[Event]]:
    """All events of works that begin together."""
    events: dict[Any, list[Event]] = {key: [] for key in works}
    for key, work in works.items():
        batch.add(key, work)
    while batch.running:
        for key, event in batch.round():
            events[key].append(event)
    return events


def tokens(events: list[Event]) -> list[int]:
    return [event.token for event in events if isinstance(event, Said)]


def reason_of(event: Event) -> str | None:
    assert isinstance(event, Said | Read)
    return event.reason


def test_together_as_alone(twin, monkeypatch):
    works = dict(enumerate(random_works(24)))
    alone = {key: run(Batch(twin), {key: work})[key] for key, work in works.items()}
    monkeypatch.setattr(batch_module, "ROWS", 37)
    assert run(Batch(twin), works) == alone
    batch, events = Batch(twin), {key: [] for key in works}
    coming = list(works.items())
    while coming or batch.running:  # one comes every other round
        if coming:
            batch.add(*coming.pop())
        for _ in range(2):
            for key, event in batch.round():
                events[key].append(event)
    assert events == alone


def test_golden_says_the_same(package, twin):
    work = Work((5, 6, 7, 70), 20, Sampling.of(1.0, seed=2))
    for host in (None, HostSampling(), SCORED):
        golden, ids, position, expected = Golden(package.model), list(work.ids), 0, []
        while len(expected) < work.count:
            x = golden.residual(np.array(ids), position)
            position += len(ids)
            ids = [sample(golden.logits(x[-1:])[0], work.sampling, position - 1)]
            expected += ids
        scored = Work(work.ids, work.count, work.sampling, host=host)
        assert tokens(run(Batch(twin), {0: scored})[0]) == expected


def test_why_it_ends(twin):
    said = tokens(run(Batch(twin), {0: Work((9,), 9, Sampling())})[0])
    for host in (None, HostSampling()):
        end = Work((9,), 9, Sampling(), frozenset(said[4:5]), host=host)
        events = run(Batch(twin), {0: end})[0]
        first = said.index(said[4])
        assert tokens(events) == said[: first + 1]
        assert [reason_of(event) for event in events] == [None] * first + ["stop"]
    length = run(Batch(twin), {0: Work((9,), 3, Sampling())})[0]
    assert [reason_of(event) for event in length] == [None, None, "length"]


def test_the_prompts_probabilities(twin, monkeypatch):
    monkeypatch.setattr(batch_module, "ROWS", 7)
    ids = tuple(range(40, 73))
    logits = twin.logits(ids)
    expected = tuple(score(logits[at], ids[at + 1], 2) for at in range(32))
    host = HostSampling(logprobs=2, prompt=True)
    (only,) = run(Batch(twin), {0: Work(ids, 0, Sampling(), host=host)})[0]
    assert only == Read(expected, "length")
    first, *rest = run(Batch(twin), {0: Work(ids, 5, Sampling(), host=host)})[0]
    assert first == Read(expected, None)
    plain = Work(ids, 5, Sampling(), host=SCORED)
    assert rest == run(Batch(twin), {0: plain})[0]
    assert isinstance(rest[0], Said)
    assert rest[0].scored == score(logits[-1], rest[0].token, 2)


def test_one_that_is_dropped_changes_nothing(twin):
    works = dict(enumerate(random_works(8)))
    alone = run(Batch(twin), works)
    batch, events = Batch(twin), {key: [] for key in works}
    for key, work in works.items():
        batch.add(key, work)
    batch.add("gone", Work((1, 2, 3), 100, Sampling()))  # pyright: ignore[reportArgumentType]
    for number in range(1000):
        for key, event in batch.round():
            if key != "gone":
                events[key].append(event)
        if number == 3:
            batch.drop("gone")  # pyright: ignore[reportArgumentType]
        if not batch.running:
            break
    assert events == alone


def test_more_at_once_where_it_is_quick(twin, monkeypatch):
    batch = Batch(twin)
    batch.add(0, Work((1,), 100, Sampling()))
    monkeypatch.setattr(batch_module, "QUICK", 100)
    assert [len(batch.round()) for _ in range(5)] == [1, 2, 4, 8, 16]
    monkeypatch.setattr(batch_module, "QUICK", 0)
    monkeypatch.setattr(batch_module, "SLOW", 0)
    assert [len(batch.round()) for _ in range(3)] == [32, 16, 8]
    monkeypatch.setattr(batch_module, "ROWS", 10)
    batch.add(1, Work(tuple(range(50)), 9, Sampling()))
    assert len(batch.round()) == 1  # a prompt does not wait for many tokens of others


@pytest.mark.parametrize("scored", [False, True])
def test_a_prompt_is_read_once_for_all_its_choices(twin, monkeypatch, scored):
    """Whoever leads, and where it ends: the others say what they would alone."""
    monkeypatch.setattr(batch_module, "ROWS", 10)
    host = HostSampling(logprobs=1, prompt=True) if scored else None
    ids = tuple(range(40, 75))
    works = {i: Work(ids, 9, Sampling.of(1.0, seed=i), host=host) for i in range(5)}
    alone = {key: run(Batch(twin), {key: work})[key] for key, work in works.items()}
    rows, step = [], twin.step

    def counted(sequences: Any, *more: Any) -> Any:
        rows.append(len(sequences))
        return step(sequences, *more)

    monkeypatch.setattr(twin, "step", counted)
    assert run(Batch(twin), works) == alone
    together = sum(rows)
    # in host sampling mode every token is a row too, the last of a prompt for each choice
    assert together == (len(ids) - 1 + 5 + 5 * 8 if scored else len(ids) - 1)
    for left in range(1, 4):  # the leader goes, its prompt half read; the next leads
        rows.clear()
        batch, events = Batch(twin), {key: [] for key in works}
        for key, work in works.items():
            batch.add(key, work)
        for number in range(100):
            if number and number <= left:
                batch.drop(number - 1)
            for key, event in batch.round():
                events[key].append(event)
            if not batch.running:
                break
        assert {key: events[key] for key in range(left, 5)} == {
            key: alone[key] for key in range(left, 5)
        }
        assert sum(rows) <= together + 2 * left
