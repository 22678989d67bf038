"""The page's files: plain HTML, CSS and JavaScript that ask nobody but their server."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

INDEX = "index.html"
KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}  # fmt: skip
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
}  # fmt: skip


@cache
def page_files() -> Mapping[str, bytes]:
    """The page's files by their path at the server."""
    folder = files("intaglio.serve") / "static"
    found = {each.name: each.read_bytes() for each in folder.iterdir()}
    return {"/": found.pop(INDEX), **{f"/page/{name}": made for name, made in found.items()}}


async def asset(request: Request) -> Response:
    """One of the page's files, the one of the route's path."""
    path = request.scope["route"].path
    content = page_files()[path]
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = "." + (INDEX if path == "/" else path).rpartition(".")[2]
    return Response(content, headers=headers, media_type=KINDS[kind])
