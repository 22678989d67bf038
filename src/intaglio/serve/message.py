"""What a conversation is made of on the wire: messages, tools and calls of them."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from intaglio.serve.strict import Strict, no_number, without_nulls


class TextPart(Strict):
    """A part of a message's content; the chip reads text only."""

    type: Literal["text"]
    text: str


class Function(Strict):
    """A function that the model may call. ``parameters``: the JSON schema of its arguments."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] = Field(default={"type": "object", "properties": {}})
    strict: bool | None = None


class Tool(Strict):
    """A tool: a function."""

    type: Literal["function"] = "function"
    function: Function


class FunctionName(Strict):
    """A function by its name."""

    name: str


class NamedTool(Strict):
    """The one tool that must be called."""

    type: Literal["function"] = "function"
    function: FunctionName


class Called(Strict):
    """A function with its arguments, a JSON object as text."""

    name: str
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _object(cls, value: str) -> str:
        try:
            found = json.loads(value, parse_constant=no_number)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError("must be a JSON object as text")
        return value


class ToolCall(Strict):
    """A call that the model made in an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: Called
    index: int | None = None  # some clients keep it from a stream


class Message(Strict):
    """One message of a chat. ``developer`` is another word for ``system``.

    The model's own may hold ``tool_calls``; what came of one is a message of the role ``tool``.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _nothing_absent(cls, value: Any) -> Any:
        dropped = ("refusal", "function_call", "annotations", "audio", "reasoning_content")
        if not isinstance(value, dict):
            return value
        kept = without_nulls(value, keep=("content",))
        # of an answer that a client sends back: empty
        return {name: x for name, x in kept.items() if name not in dropped or x not in ([], "")}

    @field_validator("content", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str | list):
            raise ValueError("must be a text or a list of text parts")
        return [{"type": "text", "text": value}] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _of_its_role(self) -> "Message":
        if self.content is None and not self.tool_calls:
            raise ValueError("content must be a text or a list of text parts")
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        if self.name is not None and self.role != "tool":
            raise ValueError("name is supported in a message of the role tool only")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of the role tool has a tool_call_id, and no other has one")
        return self

    @property
    def plain(self) -> dict[str, Any]:
        """As a chat template takes it: arguments as objects, which is what templates print."""
        found: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role}
        found["content"] = "".join(part.text for part in self.content or ())
        if self.name is not None:
            found["name"] = self.name
        if self.tool_call_id is not None:
            found["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            found["tool_calls"] = [
                {"id": call.id, "type": "function",
                 "function": {"name": call.function.name,
                              "arguments": json.loads(call.function.arguments)}}
                for call in self.tool_calls
            ]  # fmt: skip
        return found
