"""A connection whose client may not let it hang: heads that never end, answers never taken."""

import asyncio
import logging
from typing import Any

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from intaglio.serve.guard import encoded
from intaglio.serve.refusal import Refused

MOST_SECONDS = 30.0  # for a request's head to come, and for what is sent to be taken
MOST_IDLE = 30  # seconds between requests

log = logging.getLogger("intaglio.serve")


class Connection(H11Protocol):
    """Uvicorn's connection by h11, with these two limits."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head: asyncio.TimerHandle | None = None
        self._taken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        """Wait for a first head, but not for ever."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes. The head of a request must be whole soon after its first byte, and the rest
        of a body that has its answer already soon after that."""
        super().data_received(data)
        answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is not h11.IDLE and not answered:
            self._head = ended(self._head)
        elif self._head is None:
            self._await_head()

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        self._taken = self.loop.call_later(MOST_SECONDS, self._give_up, "takes no more")

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._taken = ended(self._taken)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._head, self._taken = ended(self._head), ended(self._taken)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has too long a head, is told so in the form of all errors."""
        body = encoded(Refused("this is no request of HTTP/1.1, or its head is too long").body)
        made = Response(body, 400, {"Connection": "close"}, "application/json")
        log.info("- - 400: %s", " ".join(msg.split())[:80])
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(status_code=400, headers=made.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        self._head = self.loop.call_later(MOST_SECONDS, self._give_up, "sends no request")

    def _give_up(self, why: str) -> None:
        log.info("- - a client %s: its connection is ended", why)
        self.transport.abort()


def ended(timer: asyncio.TimerHandle | None) -> None:
    """Stop a timer, if there is one."""
    if timer:
        timer.cancel()
