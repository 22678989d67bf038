"""An asyncio front to the twin: many clients, one thread that runs the batch."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

from intaglio.serve.batch import Batch, Event, Step, Work
from intaglio.serve.queue import Queue
from intaglio.serve.refusal import Refused, failed
from intaglio.twin import Twin

MOST_RUNNING = 64
MOST_WAITING = 1024
RESERVED = 8  # of so many places to wait one is kept for clients that have nothing here

log = logging.getLogger("intaglio.serve")


class Ticket:
    """One sequence's events, in order. ``close`` ends the sequence, wherever it is."""

    def __init__(self, close: Callable[["Ticket"], None]) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._close = close

    async def next(self) -> Step:
        """The next event. Raises :class:`Refused` where the sequence could not go on."""
        event = await self._events.get()
        if isinstance(event, Refused):
            raise event
        return event

    def put(self, event: Event) -> None:
        """Add an event."""
        self._events.put_nowait(event)

    def close(self) -> None:
        """End it, unless it has ended."""
        self._close(self)


class Engine:
    """Takes work from an event loop and runs it in a thread.

    At most ``most_running`` sequences run together; ``most_waiting`` more wait, and a place goes to
    the client of whom fewest run; what is beyond is refused. Use it in one event loop: ``start``,
    then ``stop``.
    """

    def __init__(
        self, twin: Twin, *, most_running: int = MOST_RUNNING, most_waiting: int = MOST_WAITING
    ) -> None:
        self.most_running, self.most_waiting = most_running, most_waiting
        self._batch = Batch(twin)
        self._keys = count()
        self._tickets: dict[int, Ticket] = {}
        self._of: dict[Ticket, int] = {}
        self._wake = threading.Condition()
        self._waiting = Queue()
        self._clients: dict[int, str] = {}  # of sequences here
        self._runs: dict[int, str] = {}  # of those that run; the thread's
        self._dropped: list[int] = []
        self._over = False
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="twin", daemon=True)

    @property
    def waiting(self) -> int:
        """Sequences that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Sequences that run."""
        return max(len(self._tickets) - self.waiting, 0)

    @property
    def well(self) -> bool:
        """Whether new work is taken."""
        return self._thread.is_alive() and not self._stopping

    def start(self) -> None:
        """Start the thread; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, works: Sequence[Work], client: str = "") -> list[Ticket]:
        """Take all of ``works`` or, where there is no room, raise :class:`Refused`."""
        self.check_room(len(works), client)
        tickets = []
        with self._wake:
            for work in works:
                key, ticket = next(self._keys), Ticket(self._drop)
                self._tickets[key], self._of[ticket] = ticket, key
                self._clients[key] = client
                self._waiting.push(client, key, work)
                tickets.append(ticket)
            self._wake.notify()
        return tickets

    async def stop(self, grace: float) -> None:
        """Take nothing new, let what runs end within ``grace`` seconds, and end the rest."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        while self._tickets and loop.time() < until:
            await asyncio.sleep(0.02)
        for ticket in list(self._tickets.values()):
            ticket.put(Refused("the server is stopping", status=503, code="stopping"))
            ticket.close()
        with self._wake:
            self._over = True
            self._wake.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def check_room(self, wanted: int, client: str = "") -> None:
        """Raise :class:`Refused` unless that many sequences would be taken now.

        Some places to wait are for clients that have nothing here yet.
        """
        if self._stopping:
            raise Refused("the server is stopping", status=503, code="stopping")
        if wanted > self.most_running + self.most_waiting:
            most = self.most_running + self.most_waiting
            raise Refused(f"a request may be of at most {most} sequences here, not {wanted}")
        places = self.most_running + self.most_waiting
        if client in self._clients.values():
            places -= self.most_waiting // RESERVED
        if len(self._tickets) + wanted > places:
            raise Refused(
                f"{places - self.most_running} sequences wait already; try again later",
                status=503, code="overloaded", headers={"Retry-After": "1"},
            )  # fmt: skip

    def _drop(self, ticket: Ticket) -> None:
        key = self._of.pop(ticket, None)
        if key is None:
            return
        self._tickets.pop(key, None)
        self._clients.pop(key, None)
        with self._wake:
            if not self._waiting.drop(key):
                self._dropped.append(key)
                self._wake.notify()

    def _deliver(self, events: Sequence[tuple[int, Event]]) -> None:
        """In the event loop: hand events to whom they are for."""
        for key, event in events:
            ticket = self._tickets.get(key)
            if ticket is None:
                continue
            ticket.put(event)
            if isinstance(event, Refused) or event.reason:
                del self._tickets[key]
                del self._clients[key]
                self._of.pop(ticket, None)

    def _work(self) -> None:
        """In the thread: round after round."""
        while self._take():
            if not self._batch.running:
                continue
            try:
                self._tell(self._batch.round())
            except Exception:
                log.exception("the twin failed")
                self._tell([(key, failed()) for key in self._batch.running])
                self._batch.running.clear()

    def _take(self) -> bool:
        """In the thread: let sequences go and come; wait for one. False at the end."""
        batch = self._batch
        with self._wake:
            while not (self._over or self._waiting or self._dropped or batch.running):
                self._wake.wait()
            if self._over:
                return False
            for key in self._dropped:
                batch.drop(key)
            self._dropped.clear()
            coming = self._next()
        for key, work in coming:
            try:
                batch.add(key, work)
            except Exception:
                log.exception("a sequence could not be made")
                self._tell([(key, failed())])
        return True

    def _next(self) -> list[tuple[int, Work]]:
        """In the thread: who gets the places that are free."""
        batch, coming = self._batch, []
        self._runs = {key: client for key, client in self._runs.items() if key in batch.running}
        while self._waiting and len(self._runs) < self.most_running:
            client, key, work = self._waiting.pop(Counter(self._runs.values()))
            self._runs[key] = client
            coming.append((key, work))
        return coming

    def _tell(self, events: Sequence[tuple[int, Event]]) -> None:
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, events)
