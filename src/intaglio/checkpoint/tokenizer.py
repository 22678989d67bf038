"""Text to tokens and back, ends of text, and chat templates."""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from intaglio.checkpoint.chat import check_messages, render
from intaglio.checkpoint.files import inside, one_line, read_json, read_text
from intaglio.checkpoint.vocabulary import (
    backend_from_gguf,
    drops_first_space,
    spelling,
    token_at,
    token_bytes,
)
from intaglio.errors import BadCheckpoint, BadInput

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
LONG = 1 << 14  # characters of a text that takes a while
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")

# Control tokens that end a text or a turn even where the checkpoint declares only one of them.
ENDS = frozenset(
    ("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "</s>")
)

# Private-use characters around the names of control tokens that occur in a message.
MARKS = "\uf8f0\uf8f1"


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer with what a conversation needs.

    ``end_ids`` end a text or a turn; ``named`` are the texts of tokens by the names that chat
    templates use (bos_token, eos_token); ``clock`` is asked by templates that print a date.
    """

    backend: tokenizers.Tokenizer = field(repr=False)
    end_ids: frozenset[int]
    chat_template: str | None = field(default=None, repr=False)
    named: dict[str, str] = field(default_factory=dict)
    clock: Callable[[], datetime] = field(default=datetime.now, repr=False)

    def __post_init__(self) -> None:
        spelling(self.backend)
        for index in self.end_ids:
            if not 0 <= index < self.vocabulary:
                raise BadCheckpoint(
                    f"end-of-text id must be below the tokenizer's {self.vocabulary}, not {index}"
                )

    @cached_property
    def vocabulary(self) -> int:
        """One more than the largest token id."""
        return max(self.backend.get_vocab().values(), default=-1) + 1

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The control tokens: never made from plain text, left out of decoded text."""
        added = self.backend.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)

    @cached_property
    def begin_ids(self) -> tuple[int, ...]:
        """What stands before every text: mostly nothing or the begin-of-text token."""
        plain = self.backend.encode("a", add_special_tokens=False).ids
        whole = self.backend.encode("a", add_special_tokens=True).ids
        starts = [n for n in range(len(whole)) if whole[n : n + len(plain)] == plain]
        return tuple(whole[: starts[0]]) if starts else ()

    @cached_property
    def longest(self) -> int | None:
        """Bytes of the longest token; None where a text may become shorter before it is cut."""
        added = self.backend.get_added_tokens_decoder().values()
        if self.backend.normalizer is not None or any(t.lstrip or t.rstrip for t in added):
            return None
        return max(map(len, self._pieces.values()), default=None)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Turn text into token ids; ``special``: names of control tokens become those tokens.

        Nothing is added: put :attr:`begin_ids` before a text that is not a rendered chat.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"text must be valid Unicode: {error}") from None
        backend = self.backend if special else self._plain
        if len(text) < LONG:
            return backend.encode(text, add_special_tokens=False).ids
        # unlike encode it lets other threads run meanwhile, and counts no characters
        return backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def decode_bytes(self, ids: Iterable[int], special: bool = False) -> bytes:
        """Join the bytes of tokens; control tokens by name if ``special``, else as nothing.

        An id without a token (padding of the model's embedding) stands for no bytes.
        """
        pieces, hidden = self._pieces, frozenset() if special else self.special_ids
        return b"".join(pieces.get(index, b"") for index in map(int, ids) if index not in hidden)

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """Turn token ids into text; bytes that are not UTF-8 become U+FFFD.

        A tokenizer that puts a space before every text loses it here, and not in a stream.
        """
        text = self.decode_bytes(ids, special).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if drops_first_space(self.backend) else text

    def stream(self, special: bool = False) -> "TextStream":
        """Start a decoder that takes one token at a time."""
        return TextStream(self, special)

    def render_chat(
        self,
        messages: Sequence[dict[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[dict[str, Any]] = (),
    ) -> str:
        """Lay out a conversation as the model was trained on it; encode it with ``special``."""
        if self.chat_template is None:
            raise BadInput("the model has no chat template", hint="use completion instead of chat")
        return render(
            self.chat_template, messages, add_generation_prompt, named=self.named,
            clock=self.clock, tools=tools,
        )  # fmt: skip

    def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[dict[str, Any]] = (),
    ) -> list[int]:
        """Render and encode a conversation; a control token named in a message or a tool stays
        plain text.

        Without such a name the result is ``encode(render_chat(messages), special=True)``.
        """
        check_messages(messages)
        left, right = MARKS
        names = [self.backend.get_added_tokens_decoder()[i].content for i in self.special_ids]
        names = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        control = re.compile(names or "(?!)")

        def guard(value: Any) -> Any:
            if isinstance(value, dict):
                return {guard(key): guard(item) for key, item in value.items()}
            if isinstance(value, list):
                return [guard(item) for item in value]
            if not isinstance(value, str):
                return value
            return control.sub(rf"{left}\g<0>{right}", re.sub(f"[{MARKS}]", "", value))

        guarded = [
            {key: value if key == "role" else guard(value) for key, value in message.items()}
            for message in messages
        ]
        text = self.render_chat(guarded, add_generation_prompt, guard(list(tools)))
        parts = re.split(f"([{MARKS}])", text)
        ids, special = [], True
        for part in parts:
            if part in (left, right):
                special = part == right
            else:
                ids += self.encode(part, special)
        return ids

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; the same tokenizer, the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = dict(self.named)
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", "end_ids": sorted(self.end_ids)}
        config |= {"chat_template": self.chat_template} if self.chat_template is not None else {}
        text = json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
        (folder / "tokenizer_config.json").write_bytes(text.encode())
        (folder / "tokenizer.json").write_bytes(self.backend.to_str().encode())

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read what :meth:`save` wrote, or the tokenizer files of a Hugging Face folder."""
        backend = _parse(read_text(inside(folder, "tokenizer.json")))
        config, generation, model = (
            read_json(inside(folder, name)) if (folder / name).exists() else {}
            for name in ("tokenizer_config.json", "generation_config.json", "config.json")
        )
        named = {name: text for name in NAMED if (text := _token_text(config.get(name)))}
        if "end_ids" in config:
            ends = _ids(config["end_ids"])
        else:
            ends = _ids(generation.get("eos_token_id")) | _ids(model.get("eos_token_id"))
            ends |= _ids(backend.token_to_id(named.get("eos_token", "")))
        ends |= _known_ends(backend)
        return cls(backend, ends, _chat_template(folder, config), named)

    @classmethod
    def from_gguf(cls, metadata: dict[str, Any]) -> "Tokenizer":
        """Build the tokenizer that a GGUF file describes in its ``tokenizer.`` keys."""
        backend = backend_from_gguf(metadata)
        named = {
            name: text for name in ("bos_token", "eos_token")
            if (text := token_at(metadata, f"{name}_id"))
        }  # fmt: skip
        declared = (token_at(metadata, f"{name}_token_id") for name in ("eos", "eot", "eom"))
        ends = {index for token in declared if (index := backend.token_to_id(token)) is not None}
        template = metadata.get("tokenizer.chat_template")
        if template is not None and not isinstance(template, str):
            raise BadCheckpoint("tokenizer.chat_template must be text")
        return cls(backend, frozenset(ends) | _known_ends(backend), template, named)

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """A copy of the backend that reads names of control tokens as ordinary characters."""
        copy = tokenizers.Tokenizer.from_str(self.backend.to_str())
        copy.encode_special_tokens = True
        return copy

    @cached_property
    def _pieces(self) -> dict[int, bytes]:
        """The bytes of every token, added tokens as they are written."""
        how, added = spelling(self.backend), self.backend.get_added_tokens_decoder()
        return {
            index: token.encode() if index in added else token_bytes(token, how)
            for token, index in self.backend.get_vocab().items()
        }


class TextStream:
    """Tokens in, text out as soon as it is whole: a character is never split."""

    def __init__(self, tokenizer: Tokenizer, special: bool) -> None:
        self._tokenizer, self._special = tokenizer, special
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Take one token; give the text that it completes, maybe none."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token], self._special))

    def finish(self) -> str:
        """Give what is left: U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def _parse(text: str) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the package raises bare Exception
        raise BadCheckpoint(f"tokenizer.json is not a tokenizer: {one_line(error)}") from None
    backend.no_padding()
    backend.no_truncation()
    return backend


def _token_text(value: Any) -> str:
    """Read a token of tokenizer_config.json: a text, or an object with its ``content``."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _ids(value: Any) -> frozenset[int]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(index) is not int for index in values):
        raise BadCheckpoint(f"eos_token_id must be a token id or a list of them, not {value!r}")
    return frozenset(values)


def _known_ends(backend: tokenizers.Tokenizer) -> frozenset[int]:
    added = backend.get_added_tokens_decoder()
    return frozenset(i for i, token in added.items() if token.special and token.content in ENDS)


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    if (folder / "chat_template.jinja").exists():
        return read_text(inside(folder, "chat_template.jinja"))
    template = config.get("chat_template")
    if isinstance(template, list):
        named = [item for item in template if isinstance(item, dict)]
        template = next((t.get("template") for t in named if t.get("name") == "default"), None)
    if template is not None and not isinstance(template, str):
        raise BadCheckpoint("tokenizer_config.json: chat_template must be text")
    return template
