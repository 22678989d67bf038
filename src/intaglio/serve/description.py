"""The server's own OpenAPI: bodies, answers, errors and the key."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

from intaglio.serve.guard import OPEN
from intaglio.serve.strict import Strict

ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
TEXTS = {"/metrics": "text/plain"}  # paths whose answer is not JSON
STREAMS = frozenset(("/v1/completions", "/v1/chat/completions"))
OF_A_BODY = {
    "400": "wrong, not supported or too long", "404": "no such model",
    "408": "the body did not come in time", "413": "the body is too large",
    "503": "too many wait, or the server is stopping",
}  # fmt: skip


def describe(app: FastAPI, bodies: Mapping[str, type[Strict]], keyed: bool) -> None:
    """Put what the application reads and answers itself into its OpenAPI.

    ``bodies``: by path. ``keyed``: whether a key is needed.
    """
    inner: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        found = inner()
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas.clear()
        schemas["Error"] = ERROR
        for path, methods in found["paths"].items():
            kind = bodies.get(path)
            for operation in methods.values():
                operation["responses"] = responses(path, kind is not None, keyed)
                if kind:
                    content = {"application/json": {"schema": body(kind, schemas)}}
                    operation["requestBody"] = {"required": True, "content": content}
                if keyed and path not in OPEN:
                    operation["security"] = [{"key": []}]
        if keyed:
            key = {"type": "http", "scheme": "bearer"}
            found["components"]["securitySchemes"] = {"key": key}
        return found

    app.openapi = openapi


def body(kind: type[Strict], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body; what it refers to goes into ``schemas``."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    return schema


def responses(path: str, posted: bool, keyed: bool) -> dict[str, Any]:
    """What a path may answer."""
    media = {TEXTS.get(path, "application/json"): {"schema": {}}}
    if path in STREAMS:
        media["text/event-stream"] = {"schema": {"type": "string"}}
    errors = dict(OF_A_BODY) if posted else {}
    if path == "/v1/models/{name}":
        errors["404"] = "no such model"
    if path == "/health":
        errors["503"] = "the server is stopping"
    if keyed and path not in OPEN:
        errors["401"] = "no key or a wrong one"
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    if path == "/health":
        error = media
    if path == "/v1/embeddings":
        return {status: {"description": what, "content": error} for status, what in errors.items()}
    return {
        "200": {"description": "the answer", "content": media},
        **{status: {"description": what, "content": error} for status, what in errors.items()},
    }
