"""What the wire says: requests as OpenAI's clients write them, each field checked.

Nothing is ignored silently. A field without a meaning here is refused, unless its value asks for
what happens anyway (``NEUTRAL``), or it only labels the request (``LABELS``).
"""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from intaglio.serve.message import Function, Message, NamedTool, Tool
from intaglio.serve.refusal import Refused
from intaglio.serve.strict import Strict, no_number, no_twice, without_nulls

LABELS = frozenset(("metadata", "prompt_cache_key", "safety_identifier", "user"))
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "best_of": (1,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "repetition_penalty": (1,),
    "service_tier": ("auto", "default"),
    "skip_special_tokens": (True,),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
}
MOST_CHOICES = 128
MOST_PROMPTS = 1024
MOST_STOPS = 16
MOST_LOGPROBS = 20
MOST_TOOLS = 128

Asked = TypeVar("Asked", bound="Strict")
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=1 << 64)]


class StreamOptions(Strict):
    """How a stream ends."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Schema(Strict):
    """A JSON schema; ``strict`` or not, the answer follows it."""

    schema_: dict[str, Any] = Field(alias="schema", default={})
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Strict):
    """The form of an answer. ``regex``: its ``value``, a pattern that matches all of the answer."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: Schema | None = None
    value: str | None = None

    @model_validator(mode="after")
    def _what_the_type_needs(self) -> "ResponseFormat":
        for kind, value in (("json_schema", self.json_schema), ("regex", self.value)):
            if (self.type == kind) != (value is not None):
                needed = "json_schema" if kind == "json_schema" else "value"
                word = "needs" if self.type == kind else "has no"
                raise ValueError(f"type {self.type} {word} {needed}")
        return self


class StructuredOutputs(Strict):
    """The form of an answer, as vLLM's clients ask for it: one of these."""

    json_: dict[str, Any] | None = Field(alias="json", default=None)
    regex: str | None = None
    choice: list[Annotated[str, Field(min_length=1)]] | None = Field(default=None, min_length=1)
    json_object: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> "StructuredOutputs":
        given = [self.json_, self.regex, self.choice, self.json_object]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give one of json, regex, choice, json_object")
        return self


class Generation(Strict):
    """What completions and chats have in common."""

    model: str
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    seed: Seed | None = None
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    top_k: Annotated[
        int | None,
        Field(ge=-1, description="0 and -1: the whole vocabulary; default: the chip's 64"),
    ] = None
    max_tokens: Annotated[int | None, Field(ge=0)] = None
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default=[], max_length=MOST_STOPS)
    stream: bool = False
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[str, Bias] = Field(default={})
    ignore_eos: bool = False
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> "Generation":
        if self.stream_options and not self.stream:
            raise ValueError("stream_options are only for a stream")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> "Generation":
        if self.formed and self.structured_outputs and self.response_format:
            raise ValueError("give response_format or structured_outputs, one of them")
        if self.formed and self.ignore_eos:
            raise ValueError("ignore_eos and a form of the answer exclude each other")
        return self

    @property
    def formed(self) -> bool:
        """Whether the answer must be of a form."""
        text = self.response_format is None or self.response_format.type == "text"
        return not text or self.structured_outputs is not None

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(Generation):
    """``/v1/completions``. ``prompt``: a text, tokens, or a list of either."""

    prompt: list[str | list[int]] = Field(max_length=MOST_PROMPTS, min_length=1)
    echo: bool = False
    logprobs: Annotated[int | None, Field(ge=0, le=MOST_LOGPROBS)] = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _many(cls, value: Any) -> Any:
        many = [value] if isinstance(value, str) or _tokens(value) else value
        if not isinstance(many, list) or not all(_tokens(x) or type(x) is str for x in many):
            raise ValueError("must be a text, a list of tokens, or a list of either")
        return many

    @model_validator(mode="after")
    def _something_to_say(self) -> "CompletionRequest":
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens must be at least 1 without echo")
        return self


class ChatRequest(Generation):
    """``/v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] = 0
    tools: list[Tool] = Field(default=[], max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool = True

    @model_validator(mode="after")
    def _which_tools(self) -> "ChatRequest":
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError("tools must have names that differ")
        choice = self.tool_choice
        if choice == "required" and not names:
            raise ValueError("tool_choice required needs tools")
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            raise ValueError(f"tool_choice: there is no tool {choice.function.name[:64]!r}")
        if self.callable and self.formed:
            raise ValueError("a form of the answer excludes tools, but with tool_choice none")
        if self.callable and self.ignore_eos:
            raise ValueError("ignore_eos and tools exclude each other")
        return self

    @property
    def callable(self) -> list[Function]:
        """The functions that may be called."""
        return [] if self.tool_choice == "none" else [tool.function for tool in self.tools]

    @property
    def forced(self) -> list[Function]:
        """The functions of which one must be called, if any must."""
        if isinstance(self.tool_choice, NamedTool):
            name = self.tool_choice.function.name
            return [each for each in self.callable if each.name == name]
        return self.callable if self.tool_choice == "required" else []

    @model_validator(mode="after")
    def _which_limit(self) -> "ChatRequest":
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError("max_tokens and max_completion_tokens must be equal where both are")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs must come with logprobs")
        return self

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer, by either name."""
        return self.max_completion_tokens or self.max_tokens


class EmbeddingsRequest(Strict):
    """``/v1/embeddings``, which is refused."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None


class TokenizeRequest(Strict):
    """``/tokenize``: a text, or a chat as its template lays it out."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[Tool] = Field(default=[], max_length=MOST_TOOLS)
    add_special_tokens: bool = True

    @model_validator(mode="after")
    def _either(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages, one of them")
        if self.messages is None and self.tools:
            raise ValueError("tools are of messages")
        if self.messages is not None and not self.add_special_tokens:
            raise ValueError("add_special_tokens is of a prompt; a chat's template has its own")
        return self


class DetokenizeRequest(Strict):
    """``/detokenize``."""

    model: str | None = None
    tokens: list[int]


def parse(kind: type[Asked], body: bytes) -> Asked:
    """A request's body, checked. Raises :class:`Refused` with one sentence."""
    try:
        value = json.loads(body, parse_constant=no_number, object_pairs_hook=no_twice)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body must be JSON: {_short(error)}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise Refused("the body must be a JSON object")
    try:
        return kind.model_validate(_meant(kind, without_nulls(value)))
    except ValidationError as error:
        raise _refusal(error) from None


def _meant(kind: type[Strict], value: dict[str, Any]) -> dict[str, Any]:
    """What of a request has a meaning. Raises :class:`Refused` for what is not supported."""
    kept = {}
    for name, item in value.items():
        if name in kind.model_fields:
            kept[name] = item
        elif name in NEUTRAL and not any(_same(item, usual) for usual in NEUTRAL[name]):
            raise Refused(f"{name} = {_short(item)} is not supported", param=name,
                          code="unsupported_parameter")  # fmt: skip
        elif name not in NEUTRAL and name not in LABELS:
            raise Refused(f"{_short(name)} is not a parameter that is supported here",
                          param=name[:100], code="unknown_parameter")  # fmt: skip
    return kept


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _same(value: Any, usual: Any) -> bool:
    return value == usual and isinstance(value, bool) == isinstance(usual, bool)


def _refusal(error: ValidationError) -> Refused:
    """The first thing that is wrong, as one sentence."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:100] for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return Refused(f"{where}: {said}" if where else said, param=where or None)


def _short(value: Any) -> str:
    text = " ".join((str(value) if isinstance(value, Exception) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
