"""Logarithms of probabilities as the two endpoints write them."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.serve.host import Scored
from intaglio.serve.speech import Spelled


@lru_cache(maxsize=1 << 16)
def spelled(tokenizer: Tokenizer, token: int) -> tuple[str, bytes]:
    """A token's text and bytes; what is no whole character stands as ``bytes:\\xe3``."""
    raw = tokenizer.decode_bytes([token], special=True)
    try:
        return raw.decode(), raw
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw), raw


def chat_logprobs(tokenizer: Tokenizer, scores: Iterable[Spelled]) -> dict[str, Any]:
    """The ``logprobs`` of a choice of a chat."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        text, raw = spelled(tokenizer, token)
        return {"token": text, "logprob": logprob, "bytes": list(raw)}

    content = [
        {
            **entry(each.scored.token, each.scored.logprob),
            "top_logprobs": [entry(*top) for top in each.scored.top],
        }
        for each in scores
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(
    tokenizer: Tokenizer, scores: Iterable[Spelled], before: int = 0
) -> dict[str, Any]:
    """The ``logprobs`` of a choice of a completion; ``before``: characters of the echo."""
    found: dict[str, Any] = empty()
    for each in scores:
        chosen = each.scored
        found["tokens"].append(spelled(tokenizer, chosen.token)[0])
        found["token_logprobs"].append(chosen.logprob)
        top = (*chosen.top, (chosen.token, chosen.logprob))  # its own is always told
        found["top_logprobs"].append({spelled(tokenizer, i)[0]: logprob for i, logprob in top})
        found["text_offset"].append(before + each.offset)
    return found


def prompt_logprobs(
    tokenizer: Tokenizer, ids: Sequence[int], read: Iterable[Scored]
) -> dict[str, Any]:
    """The same of an echoed prompt; nothing came before its first token, which has none."""
    stream, offset, places = tokenizer.stream(), 0, []
    for token in ids:
        places.append(offset)
        offset += len(stream.push(token))
    scores = [Spelled(each, place) for each, place in zip(read, places[1:], strict=True)]
    first = {
        "tokens": [spelled(tokenizer, ids[0])[0]], "token_logprobs": [None],
        "top_logprobs": [None], "text_offset": [0],
    }  # fmt: skip
    return joined([first, completion_logprobs(tokenizer, scores)])


def empty() -> dict[str, Any]:
    """No token."""
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def joined(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One after the other."""
    found = empty()
    for part in parts:
        for name, values in part.items():
            found[name] += values
    return found
