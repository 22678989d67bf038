"""Tool calls: how a model writes them, by its chat template, and reading them from its text."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from intaglio.serve.grammar import Grammar, Grammars, in_lark, quoted
from intaglio.serve.message import Function, Message
from intaglio.serve.refusal import Refused
from intaglio.serve.speech import begun


@dataclass(frozen=True)
class Call:
    """A call that the model made. ``arguments``: a JSON object as text."""

    name: str
    arguments: str


class Reader(Protocol):
    """Reads an answer's text piece by piece. What comes of it is text to show, and calls."""

    def push(self, text: str) -> tuple[str, list[Call]]:
        """Take a piece."""
        ...

    def finish(self) -> tuple[str, list[Call]]:
        """Give the rest: what began like a call and is none stays text."""
        ...


@dataclass(frozen=True)
class Dialect:
    """How a family of models writes calls.

    ``begin`` and ``end`` stand around the JSON object of one, whose arguments are ``arguments``.
    ``reader``: makes a reader of an answer.
    """

    begin: str
    end: str
    arguments: str
    reader: Callable[["Dialect"], Reader]

    def call_of(self, text: str) -> Call | None:
        """The call that ``text`` is, if it is one."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not isinstance(found.get("name"), str):
            return None
        arguments = found.get(self.arguments, {})
        if not isinstance(arguments, dict):
            return None
        return Call(found["name"], json.dumps(arguments, ensure_ascii=False))

    def schema(self, functions: Sequence[Function]) -> dict[str, Any]:
        """The JSON schema of a call of one of them."""
        options = [
            {
                "type": "object",
                "properties": {
                    "name": {"const": each.name},
                    self.arguments: each.parameters,
                },
                "required": ["name", self.arguments],
                "additionalProperties": False,
            }
            for each in functions
        ]
        return options[0] if len(options) == 1 else {"anyOf": options}

    def forced(self, grammars: Grammars, functions: Sequence[Function]) -> Grammar:
        """Answers that are one call of one of them."""
        ends = [quoted(text) if text else "" for text in (self.begin, self.end)]
        body = in_lark(self.schema(functions))
        return grammars.lark(f"start: {ends[0]} body {ends[1]}\nbody: {body}\n", "tools")

    def strict(self, grammars: Grammars, functions: Sequence[Function]) -> Grammar:
        """Any text, in which what begins like a call is one of one of them."""
        call, tag = f"call: {in_lark(self.schema(functions))}\n", self.begin.strip()
        if not tag:
            return grammars.lark(f"start: call | TEXT\nTEXT: /([^{{](.|\\n)*)?/\n{call}", "tools")
        body = f"{quoted(self.begin[len(tag) :])} call {quoted(self.end)}"
        return grammars.lark(
            f"start: tag* TEXT\nTEXT: /(.|\\n)*/\nhead[lazy]: TEXT {quoted(tag)}\n"
            f"tag: head {body}\n{call}",
            "tools",
        )


class Tagged:
    """Reads calls between tags, anywhere in a text."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect, self._held, self._inside = dialect, "", False
        self._after = False  # a call, whose blanks are no text
        self._tags = dialect.begin.strip(), dialect.end.strip()

    def push(self, text: str) -> tuple[str, list[Call]]:
        """See :class:`Reader`."""
        self._held += text
        shown, calls = "", []
        while True:
            tag = self._tags[self._inside]
            before, found, after = self._held.partition(tag)
            if not found:
                break
            call = self._dialect.call_of(before) if self._inside else None
            if call:
                calls.append(call)
                self._after = True
            else:
                shown += self._text(f"{self._tags[0]}{before}{tag}" if self._inside else before)
            self._held, self._inside = after, not self._inside
        if not self._inside:
            ready = len(self._held) - begun(self._held, self._tags[0])
            shown += self._text(self._held[:ready])
            self._held = self._held[ready:]
        return shown, calls

    def _text(self, text: str) -> str:
        """Text to show; what stands between a call and the next is left out if it is blank."""
        if self._after:
            text = text.lstrip()
            self._after = not text
        return text

    def finish(self) -> tuple[str, list[Call]]:
        """See :class:`Reader`."""
        call = self._dialect.call_of(self._held) if self._inside else None
        rest = "" if call else self._tags[0] * self._inside + self._held
        return rest, [call] if call else []


class Bare:
    """Reads an answer that is one JSON object, a call, and no more."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect, self._held, self._plain = dialect, "", False

    def push(self, text: str) -> tuple[str, list[Call]]:
        """See :class:`Reader`."""
        self._held += text
        began = self._held.lstrip()
        if not self._plain and (not began or began.startswith("{")):
            return "", []
        shown, self._held, self._plain = self._held, "", True
        return shown, []

    def finish(self) -> tuple[str, list[Call]]:
        """See :class:`Reader`."""
        call = self._dialect.call_of(self._held)
        return ("", [call]) if call else (self._held, [])


HERMES = Dialect("<tool_call>\n", "\n</tool_call>", "arguments", Tagged)
LLAMA = Dialect("", "", "parameters", Bare)


def dialect_of(template: str | None) -> Dialect:
    """How the model of a chat template writes calls. Raises :class:`Refused` where it has none,
    or where they are not read here."""
    if template is None or "tools" not in template:
        raise Refused(
            "the model's chat template has no tools: ask without, or let the client send none",
            param="tools", code="unsupported_parameter",
        )  # fmt: skip
    if "<tool_call>" in template and "<function=" not in template:
        return HERMES
    if "<|python_tag|>" in template or '{"name": function name, "parameters"' in template:
        return LLAMA
    raise Refused(
        "calls are read in the forms of Hermes (<tool_call>) and Llama (a JSON object); this "
        "model's chat template has another", param="tools", code="unsupported_parameter",
    )  # fmt: skip


def check_messages(template: str | None, messages: Sequence[Message]) -> None:
    """Raise :class:`Refused` where messages have calls that the template would leave out."""
    if any(message.tool_calls for message in messages) and "tool_calls" not in (template or ""):
        raise Refused("messages: the model's chat template has no tool_calls", param="messages",
                      code="unsupported_parameter")  # fmt: skip


def described(functions: Sequence[Function]) -> list[dict[str, Any]]:
    """Functions as chat templates print them."""
    return [
        {
            "type": "function",
            "function": {
                "name": each.name,
                **({"description": each.description} if each.description is not None else {}),
                "parameters": each.parameters,
            },
        }
        for each in functions
    ]


def call_id(prompt: Sequence[int], choice: int, number: int, call: Call) -> str:
    """A name for a call: the same of the same answer, another in every other."""
    text = f"{list(prompt)} {choice} {number} {call.name} {call.arguments}"
    return f"call_{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:24]}"
