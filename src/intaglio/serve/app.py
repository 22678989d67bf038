"""The application: routes, bodies in, objects and streams out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from intaglio import __version__
from intaglio.serve.answer import Answer
from intaglio.serve.chat import Chat
from intaglio.serve.completion import Completion
from intaglio.serve.description import describe
from intaglio.serve.guard import CLIENT, Guard, encoded, refusal
from intaglio.serve.page import add_page
from intaglio.serve.protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingsRequest,
    TokenizeRequest,
    parse,
)
from intaglio.serve.refusal import Refused, failed
from intaglio.serve.served import Served, aside
from intaglio.serve.strict import Strict
from intaglio.serve.tools import check_messages, dialect_of

MOST_BYTES = 4 << 20
QUICK_BYTES = 64 << 10  # a body that is read at once, in the event loop
MOST_SECONDS = 30.0  # for a body to come
GRACE = 10.0
NO_EMBEDDINGS = (
    "this model gives no embeddings: it is a causal language model engraved in a chip, of which "
    "only tokens and logits leave; a hidden state never does"
)
WORDS = {404: "there is no such path here", 405: "this path has no such method"}

Asked = TypeVar("Asked", bound=Strict)


def make_app(served: Served, *, keys: Sequence[str] = (), most_bytes: int = MOST_BYTES) -> ASGIApp:
    """The application that serves a chip. ``keys``: any of them opens it; none, anybody may."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        served.engine.start()
        yield
        await served.engine.stop(GRACE)

    app = FastAPI(title="Intaglio", version=__version__, docs_url=None, redoc_url=None,
                  lifespan=life)  # fmt: skip
    add_page(app, served)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _failed)
    routes = Routes(served, most_bytes)
    for path, answer in (
        ("/v1/models", routes.models), ("/v1/models/{name:path}", routes.model),
        ("/tokenizer_info", routes.tokenizer_info), ("/health", routes.health),
        ("/version", routes.version), ("/metrics", routes.metrics),
    ):  # fmt: skip
        app.add_api_route(path, answer, response_model=None)
    bodies: dict[str, type[Strict]] = {}
    for path, answer, kind in (
        ("/v1/completions", routes.completions, CompletionRequest),
        ("/v1/chat/completions", routes.chat, ChatRequest),
        ("/v1/embeddings", routes.embeddings, EmbeddingsRequest),
        ("/tokenize", routes.tokenize, TokenizeRequest),
        ("/detokenize", routes.detokenize, DetokenizeRequest),
    ):
        app.add_api_route(path, answer, methods=["POST"], response_model=None)
        bodies[path] = kind
    describe(app, bodies, bool(keys))
    return Guard(app, keys, served.metrics)


class Routes:
    """What every path answers."""

    def __init__(self, served: Served, most_bytes: int) -> None:
        self.served, self.most_bytes = served, most_bytes

    async def models(self) -> Response:
        """The model and its adapters."""
        return answered({"object": "list", "data": self.served.models()})

    async def model(self, name: str) -> Response:
        """One of them."""
        self.served.check_model(name)
        return answered(next(each for each in self.served.models() if each["id"] == name))

    async def health(self) -> Response:
        """Whether requests are taken."""
        well = self.served.engine.well
        return answered({"status": "ok" if well else "stopping"}, 200 if well else 503)

    async def version(self) -> Response:
        """The program's version, and the chip."""
        served = self.served
        return answered({"version": __version__, "hash": served.hash, "engine": served.twin.engine})

    async def metrics(self) -> Response:
        """Counters, for Prometheus."""
        return Response(self.served.metrics.text(), media_type="text/plain; version=0.0.4")

    async def completions(self, request: Request) -> Response:
        """The text that follows a prompt."""
        asked = await self._read(request, CompletionRequest)
        return await respond(
            request, await Completion.begin(self.served, asked, client_of(request))
        )

    async def chat(self, request: Request) -> Response:
        """The model's turn in a conversation."""
        asked = await self._read(request, ChatRequest)
        return await respond(request, await Chat.begin(self.served, asked, client_of(request)))

    async def embeddings(self, request: Request) -> Response:
        """Why there are none: only tokens and logits leave the chip."""
        asked = await self._read(request, EmbeddingsRequest)
        self.served.check_model(asked.model)
        raise Refused(NO_EMBEDDINGS, code="unsupported_endpoint")

    async def tokenizer_info(self) -> Response:
        """What a client needs to lay out chats as the model does."""
        return answered(self.served.tokenizer_info())

    async def tokenize(self, request: Request) -> Response:
        """Tokens of a text or a chat."""
        asked, served = await self._read(request, TokenizeRequest), self.served
        served.check_model(asked.model or served.name)
        if asked.messages is not None:
            functions = [tool.function for tool in asked.tools]
            template = served.tokenizer.chat_template
            check_messages(template, asked.messages)
            if functions:
                dialect_of(template)
            ids = await served.encode_chat(asked.messages, functions)
        else:
            ids = await served.encode(asked.prompt or "", begin=asked.add_special_tokens)
        return answered({"count": len(ids), "max_model_len": served.context, "tokens": ids})

    async def detokenize(self, request: Request) -> Response:
        """The text of tokens, control tokens by name."""
        asked, served = await self._read(request, DetokenizeRequest), self.served
        served.check_model(asked.model or served.name)
        served.check_tokens(asked.tokens, "tokens")
        return answered({"prompt": await aside(served.tokenizer.decode, asked.tokens, True)})

    async def _read(self, request: Request, kind: type[Asked]) -> Asked:
        for name in request.query_params:
            raise Refused(f"{name[:40]!r}: parameters are read from the body, not from the address",
                          param=name[:100], code="unknown_parameter")  # fmt: skip
        body = await read_body(request, self.most_bytes)
        if len(body) < QUICK_BYTES:
            return parse(kind, body)
        return await asyncio.to_thread(parse, kind, body)


def client_of(request: Request) -> str:
    """Whose request it is, for a fair queue: a key's or, where there are none, an address's."""
    return request.scope.get(CLIENT, "")


async def read_body(request: Request, most: int) -> bytes:
    """The whole body, no longer than ``most`` bytes and not waited for without end."""
    large = Refused(f"the body must be at most {most} bytes", status=413, code="body_too_large")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise large
    body = bytearray()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise large
    except TimeoutError:
        raise Refused("the body did not come in time", status=408) from None
    except ClientDisconnect:
        raise Refused("the client went away before its body was whole") from None
    return bytes(body)


async def respond(request: Request, answer: Answer) -> Response:
    """The answer, as it was asked for; nothing more is made for a client that goes away."""
    if answer.asked.stream:
        return Stream(answer)
    making = asyncio.ensure_future(answer.whole())
    leaving = asyncio.ensure_future(gone(request))
    try:
        await asyncio.wait({making, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if making.done():
            return answered(await making)
        return Response(status_code=499)  # nobody reads it
    finally:
        making.cancel()
        leaving.cancel()
        answer.close()


class Stream(StreamingResponse):
    """An answer as server-sent events, which ends however it ends."""

    def __init__(self, answer: Answer) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events(answer), headers=headers, media_type="text/event-stream")
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answer.close()


async def gone(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def events(answer: Answer) -> AsyncIterator[bytes]:
    """The answer as server-sent events; a fault on the way is the last of them."""
    try:
        async for chunk in answer.chunks():
            yield b"data: " + encoded(chunk) + b"\n\n"
        yield b"data: [DONE]\n\n"
    except Refused as error:
        yield b"data: " + encoded(error.body) + b"\n\n"


def answered(value: Any, status: int = 200) -> Response:
    """A response of JSON."""
    return Response(encoded(value), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = WORDS.get(error.status_code, error.detail)
    headers = dict(error.headers or {})
    return refusal(Refused(words, status=error.status_code, headers=headers))


async def _failed(request: Request, error: Exception) -> Response:
    return refusal(failed())
