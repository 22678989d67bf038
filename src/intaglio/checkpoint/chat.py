"""Chat templates: Jinja in a sandbox, with what templates of published models call."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from intaglio.checkpoint.files import one_line
from intaglio.errors import BadCheckpoint, BadInput

# What a template that is wrong, or that does not fit the messages, can end in.
FAILURES = (
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


class _Raised(Exception):
    """A template called ``raise_exception``."""


def render(
    template: str,
    messages: Sequence[dict[str, Any]],
    add_generation_prompt: bool,
    *,
    named: dict[str, str],
    clock: Callable[[], datetime],
    tools: Sequence[dict[str, Any]] = (),
) -> str:
    """Render ``messages``, each with ``role`` and ``content``, by a chat template.

    ``named``: texts of special tokens by name. ``clock`` answers ``strftime_now``. ``tools``: what
    the model may call, as OpenAI's clients describe it.
    """
    check_messages(messages)
    try:
        return _compile(template).render(
            messages=list(messages),
            add_generation_prompt=add_generation_prompt,
            tools=list(tools) or None,
            documents=None,
            strftime_now=lambda form: clock().strftime(form),
            **named,
        )
    except _Raised as error:
        raise BadInput(f"the chat template refuses the messages: {one_line(error)}") from None
    except FAILURES as error:
        raise BadCheckpoint(
            f"the chat template failed: {type(error).__name__}: {one_line(error)}"
        ) from None


def check_messages(messages: Sequence[dict[str, Any]]) -> None:
    """Refuse a message without role and content, and any value that is not text, but for
    ``tool_calls``."""
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise BadInput(f"message {number} must be an object with a role and a content")
        for key, value in message.items():
            kind, name = (list, "a list") if key == "tool_calls" else (str, "text")
            if type(value) is not kind:
                found = type(value).__name__
                raise BadInput(f"message {number}: {key} must be {name}, not {found}")


@lru_cache(maxsize=8)
def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(template)


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Print JSON without escaping HTML, which Jinja's own filter does."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> None:
    raise _Raised(message)
