"""Vocabularies: what bytes a token stands for, and the one a GGUF file describes."""

import json
from functools import lru_cache
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors

from intaglio.checkpoint.files import one_line
from intaglio.errors import BadCheckpoint, UnsupportedModel

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = ("smollm", "gpt-2", "llama-bpe")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = range(1, 6)  # of tokenizer.ggml.token_type
TOKEN_TYPES = {NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED}  # 6, byte, is not byte-level BPE's

# Keys below ``tokenizer.`` that are read, that change nothing, or that must have one value.
USED = {
    f"ggml.{name}"
    for name in (
        "model", "pre", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id",
        "eot_token_id", "eom_token_id", "add_bos_token",
    )
} | {"chat_template"}  # fmt: skip
HARMLESS = {
    f"ggml.{name}"
    for name in (
        "scores", "unknown_token_id", "padding_token_id", "seperator_token_id",
        "separator_token_id", "cls_token_id", "mask_token_id", "prefix_token_id",
        "suffix_token_id", "middle_token_id", "fim_pre_token_id", "fim_suf_token_id",
        "fim_mid_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id",
        "add_space_prefix",
    )
} | {"chat_templates"}  # fmt: skip
ONLY = {
    "ggml.add_eos_token": False,
    "ggml.add_sep_token": False,
    "ggml.remove_extra_whitespaces": False,
}


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """Map the 256 printable characters of byte-level BPE to the bytes they stand for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def spelling(backend: tokenizers.Tokenizer) -> str:
    """Tell how tokens spell bytes: "bytes" (byte-level BPE) or "fallback" (▁ and <0x0A>)."""
    kinds = [part.get("type") for part in _decoders(backend)]
    if kinds == ["ByteLevel"]:
        return "bytes"
    if "ByteFallback" in kinds and set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return "fallback"
    found = "+".join(map(str, kinds))
    raise UnsupportedModel(
        f"tokenizer.json: decoder must be ByteLevel or ByteFallback, not {found!r}"
    )


def drops_first_space(backend: tokenizers.Tokenizer) -> bool:
    """Tell whether the space that encoding puts before a text is taken away by decoding."""
    return any(part.get("type") == "Strip" for part in _decoders(backend))


def _decoders(backend: tokenizers.Tokenizer) -> list[dict[str, Any]]:
    if backend.decoder is None:
        return [{"type": None}]
    decoder = json.loads(backend.decoder.__getstate__())
    return decoder.get("decoders", [decoder])


def token_bytes(token: str, how: str) -> bytes:
    """Give the bytes of one ordinary token under a :func:`spelling`."""
    if how == "fallback":
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return token.replace("\u2581", " ").encode()
    alphabet = byte_alphabet()
    if all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    return token.encode()


def backend_from_gguf(metadata: dict[str, Any]) -> tokenizers.Tokenizer:
    """Build the byte-level BPE tokenizer described by a GGUF file's ``tokenizer.`` keys.

    Control tokens are special, user-defined ones are found whole in a text; where the file asks
    for a begin-of-text token, the post-processor adds it.
    """
    _check_keys(metadata)
    tokens, types = _tokens(metadata)
    backend = tokenizers.Tokenizer(_bpe(metadata, tokens))
    backend.pre_tokenizer = _pre_tokenizer(metadata)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        added = [
            AddedToken(token, special=special, normalized=False)
            for token, found in zip(tokens, types, strict=True)
            if found == kind
        ]
        backend.add_special_tokens(added) if special else backend.add_tokens(added)
    if begin := _begin(metadata):
        backend.post_processor = processors.TemplateProcessing(  # pyright: ignore
            single=f"{begin} $A",
            pair=f"{begin} $A {begin} $B",
            special_tokens=[(begin, tokens.index(begin))],
        )
    return backend


def token_at(metadata: dict[str, Any], key: str, required: bool = False) -> str:
    """Give the text of the token whose id is ``tokenizer.ggml.KEY``; empty where there is none."""
    index, tokens = metadata.get(f"tokenizer.ggml.{key}"), metadata["tokenizer.ggml.tokens"]
    if index is None and not required:
        return ""
    if type(index) is not int or not 0 <= index < len(tokens):
        raise BadCheckpoint(
            f"tokenizer.ggml.{key} must be a token id below {len(tokens)}, not {index!r}"
        )
    return tokens[index]


def _begin(metadata: dict[str, Any]) -> str:
    """Give the token that begins every text, or nothing; without a word, llama-bpe has one."""
    asked = metadata.get("tokenizer.ggml.add_bos_token")
    if asked is None and metadata["tokenizer.ggml.pre"] == "llama-bpe":
        return token_at(metadata, "bos_token_id")
    return token_at(metadata, "bos_token_id", required=True) if asked else ""


def _check_keys(metadata: dict[str, Any]) -> None:
    for key, value in metadata.items():
        name = key.removeprefix("tokenizer.")
        if name == key or name in USED | HARMLESS or name.startswith("chat_template."):
            continue
        if name not in ONLY:
            raise UnsupportedModel(f"unknown key {key!r} in the GGUF file")
        if value != ONLY[name]:
            raise UnsupportedModel(f"{key} must be {ONLY[name]}, not {value!r}")
    model, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise UnsupportedModel(f"tokenizer.ggml.model must be 'gpt2', not {model!r}")
    if pre not in PRE_TOKENIZERS:
        raise UnsupportedModel(
            f"tokenizer.ggml.pre must be one of {', '.join(PRE_TOKENIZERS)}, not {pre!r}"
        )


def _list(metadata: dict[str, Any], name: str, kind: type) -> list[Any]:
    """Give the list under a key; empty where the key is missing."""
    values = metadata.get(f"tokenizer.ggml.{name}", [])
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise BadCheckpoint(f"tokenizer.ggml.{name} must be a list of {kind.__name__} values")
    return values


def _tokens(metadata: dict[str, Any]) -> tuple[list[str], list[int]]:
    tokens = _list(metadata, "tokens", str)
    types = _list(metadata, "token_type", int) or [NORMAL] * len(tokens)
    if not tokens or len(types) != len(tokens):
        raise BadCheckpoint(
            f"tokenizer.ggml.tokens and token_type must be of one length, "
            f"not {len(tokens)} and {len(types)}"
        )
    if strange := set(types) - TOKEN_TYPES:
        raise UnsupportedModel(f"tokenizer.ggml.token_type {min(strange)} is not supported")
    if len(set(tokens)) != len(tokens):
        raise BadCheckpoint("tokenizer.ggml.tokens must not repeat a token")
    return tokens, types


def _bpe(metadata: dict[str, Any], tokens: list[str]) -> models.BPE:
    merges = [tuple(merge.split(" ")) for merge in _list(metadata, "merges", str)]
    strange = next((merge for merge in merges if len(merge) != 2), None)
    if not merges or strange:
        raise BadCheckpoint(f"tokenizer.ggml.merges must be pairs of tokens, not {strange!r}")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    whole = metadata["tokenizer.ggml.pre"] == "llama-bpe"  # a word that is a token is not merged
    try:
        return models.BPE(vocabulary, merges, ignore_merges=whole)  # pyright: ignore
    except Exception as error:  # the package raises bare Exception
        raise BadCheckpoint(
            f"tokenizer.ggml.merges do not fit the tokens: {one_line(error)}"
        ) from None


def _pre_tokenizer(metadata: dict[str, Any]) -> pre_tokenizers.Sequence:
    pre = metadata["tokenizer.ggml.pre"]
    if pre == "llama-bpe":
        split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated")
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([split, rest])
    rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if pre == "smollm" else []
    return pre_tokenizers.Sequence([*digits, rest])
