"""A server on a socket of its own, in a thread, for tests with real clients."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from intaglio.serve.app import make_app
from intaglio.serve.served import Served
from intaglio.serve.server import config_of, listen, url_of


@contextmanager
def live(served: Served, keys: Sequence[str] = ()) -> Iterator[str]:
    """Serve at the address that is yielded."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(config_of(make_app(served, keys=keys)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join(60)
