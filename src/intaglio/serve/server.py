"""The server as a process: an address, signals, an end that loses no answer."""

import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from intaglio.errors import BadInput
from intaglio.serve.app import GRACE
from intaglio.serve.connection import MOST_IDLE, Connection
from intaglio.serve.engine import Engine
from intaglio.serve.guard import MOST_HEAD

BACKLOG = 2048


class Server(uvicorn.Server):
    """Uvicorn, which lets the answers that run end when it is told to stop.

    ``ready``: called once requests are taken.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.engine, self.ready = engine, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests, and say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers end for a while, tell the rest that the server stops, and go.

        Till then connections are taken and told so: in a closed socket's queue they would break.
        """
        await self.engine.stop(GRACE)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear Ctrl-C and SIGTERM; they are answered by a graceful end and are no error."""
        before = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """The first signal ends it gracefully, the second at once."""
        if self.should_exit:
            os._exit(128 + number)
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address. Raises :class:`BadInput` where it cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{host}, port {port}: cannot be listened at: {why}") from None
    return made


def many_files() -> None:
    """Let the process have as many connections as it may: the usual limit is lower."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def url_of(made: socket.socket) -> str:
    """The address of a socket, for a client."""
    host, port = made.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def config_of(app: Any) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app, http=Connection, log_config=None, access_log=False, lifespan="on", ws="none",
        server_header=False, timeout_graceful_shutdown=int(GRACE) + 5,
        timeout_keep_alive=MOST_IDLE, h11_max_incomplete_event_size=MOST_HEAD,
    )  # fmt: skip


def serve(app: Any, engine: Engine, made: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until a signal comes. One line for every request goes to stderr."""
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    quiet = ("uvicorn", logging.ERROR), ("asyncio", logging.ERROR)  # warnings: a second line
    for name, level in (("intaglio.serve", logging.INFO), *quiet):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [shown], False
        logger.setLevel(level)
    many_files()
    Server(config_of(app), engine, ready).run(sockets=[made])
