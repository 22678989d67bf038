"""The queue: nobody waits behind another's thousand, and one's own come in turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from intaglio.golden.sample import Sampling
from intaglio.serve.batch import Work
from intaglio.serve.queue import Queue

WORK = Work((1,), 1, Sampling())


def drain(queue: Queue, most: int = 1) -> list[tuple[str, int]]:
    """Everything in the order of turns, ``most`` running together, the first ending first."""
    running: list[tuple[str, int]] = []
    order = []
    while queue:
        if len(running) == most:
            running.pop(0)
        client, key, _ = queue.pop(Counter(client for client, _ in running))
        running.append((client, key))
        order.append((client, key))
    return order


def test_a_single_request_goes_before_anothers_thousand():
    queue = Queue()
    for key in range(1000):
        queue.push("many", key, WORK)
    queue.push("one", 1000, WORK)
    assert ("one", 1000) in drain(queue)[:2]


def test_who_has_fewest_running_is_next():
    queue = Queue()
    for key, client in enumerate("aabb"):
        queue.push(client, key, WORK)
    assert queue.pop(Counter(a=2))[:2] == ("b", 2)
    assert queue.pop(Counter(a=2, b=1))[:2] == ("b", 3)
    assert queue.pop(Counter(a=2, b=2))[:2] == ("a", 0)


@given(st.lists(st.sampled_from("abc")), st.integers(1, 4), st.sets(st.integers(0, 20)))
def test_each_once_and_ones_own_in_turn(clients, most, dropped):
    queue = Queue()
    for key, client in enumerate(clients):
        queue.push(client, key, WORK)
    for key in dropped:
        assert queue.drop(key) == (key < len(clients))
    left = [(client, key) for key, client in enumerate(clients) if key not in dropped]
    assert len(queue) == len(left)
    order = drain(queue, most)
    assert sorted(order) == sorted(left)
    for client in "abc":
        assert [pair for pair in order if pair[0] == client] == [p for p in left if p[0] == client]
