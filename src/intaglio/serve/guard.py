"""What surrounds every request: keys, one line in the log, and no fault shown to a client."""

import json
import logging
import secrets
import time
import traceback
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intaglio.serve.assets import page_files
from intaglio.serve.metrics import Metrics
from intaglio.serve.refusal import Refused, failed

OPEN = frozenset(("/health", "/version", "/metrics", *page_files()))  # no key is needed
MOST_HEAD = 32 << 10  # bytes of a request's head
CLIENT = "intaglio.client"  # in a request's scope: whose it is

log = logging.getLogger("intaglio.serve")


def encoded(value: Any) -> bytes:
    """Compact JSON; what cannot be UTF-8 stands as an escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def refusal(error: Refused) -> Response:
    """The response that says why there is no answer."""
    return Response(encoded(error.body), error.status, error.headers, "application/json")


class Guard:
    """An application behind keys, none of whose faults ends in more than a 500."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            scope[CLIENT] = self._client(scope)
            if head_size(scope) > MOST_HEAD:  # and yet it came whole, in one read
                long = Refused(f"a request's head must be at most {MOST_HEAD} bytes")
                await refusal(long)(scope, receive, watched)
            elif scope[CLIENT] is None:
                wrong = Refused("the API key is missing or wrong", status=401,
                                code="invalid_api_key",
                                headers={"WWW-Authenticate": "Bearer"})  # fmt: skip
                await refusal(wrong)(scope, receive, watched)
            else:
                await self.app(scope, receive, watched)
        except Exception as error:
            log.error("%s %s: %s", scope["method"], one_line(scope["path"]), said(error))
            if not status:
                await refusal(failed())(scope, receive, watched)
        route = getattr(scope.get("route"), "path", "unknown")
        self.metrics.request(route, status)
        seconds = time.monotonic() - started
        log.info(
            "%s %s %s %.3f s", scope["method"], one_line(scope["path"]), status or "-", seconds
        )

    def _client(self, scope: Scope) -> str | None:
        """Whose request it is: the number of a key, or an address; None without the key."""
        if not self.keys or scope["path"] in OPEN:
            return (scope.get("client") or ("",))[0]
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, key = given.partition(b" ")
        right = [secrets.compare_digest(key.strip(), each) for each in self.keys]
        return f"key {right.index(True)}" if kind.lower() == b"bearer" and any(right) else None


def head_size(scope: Scope) -> int:
    """Bytes of a request's head, about."""
    target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    return target + sum(len(name) + len(value) + 4 for name, value in scope["headers"])


def said(error: Exception) -> str:
    """An error as one line: what, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return one_line(f"{type(error).__name__}: {error}{where}")


def one_line(text: str) -> str:
    """Text without what would steer a terminal or begin another line."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:500])
