"""Answers that must be of a form: JSON of a schema, or a regular expression.

Constrained decoding: before every token the grammar says which of the vocabulary may follow, and
the host chooses among those (``docs/serve.md``). llguidance does the parsing.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.serve.refusal import Refused

# JSON as models write it on one line; without blanks at will, which a model could repeat for ever
LAYOUT: Any = {
    "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False,
}  # fmt: skip
LARGEST = 64 << 10  # characters of a grammar
LIMITS = LLParserLimits(initial_lexer_fuel=1_000_000, max_grammar_size=100_000,
                        max_lexer_states=50_000, verbose_errors=False)  # fmt: skip


class Spelling:
    """A vocabulary as llguidance takes it: control tokens and padding are never text.

    ``end_ids`` end an answer that may end; a model without any gets an end that nothing says.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        pieces = [tokenizer.decode_bytes([index], special=True) for index in range(vocabulary)]
        hidden = {i for i in range(vocabulary) if i in tokenizer.special_ids or not pieces[i]}
        ends = sorted(tokenizer.end_ids) or [vocabulary]
        self.tokens = [piece or b"<|nothing|>" for piece in pieces] + [b"<|end|>"]
        self.special_token_ids = sorted(hidden | set(ends) | {vocabulary})
        self.eos_token_id, self.ends = ends[0], ends
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        """Tokens of a text."""
        return self._encode(text)


class Grammars:
    """Makes the grammars of one vocabulary."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        spelled = Spelling(tokenizer, vocabulary)
        self.vocabulary = vocabulary
        self.tokenizer = LLTokenizer(TokenizerWrapper(spelled), eos_token=spelled.ends)

    def json(self, schema: dict[str, Any], param: str) -> "Grammar":
        """JSON of a schema."""
        unicode(json.dumps(schema, ensure_ascii=False), param)
        return self._made(LLMatcher.grammar_from_json_schema(schema, overrides=LAYOUT), param)

    def regex(self, pattern: str, param: str) -> "Grammar":
        r"""A text that a regular expression matches, all of it; ``\d`` is 0 to 9."""
        pattern = regex_to_lark(unicode(pattern, param), use_ascii="d")
        return self.lark(f"start: /{pattern}/", param)

    def choice(self, texts: Sequence[str], param: str) -> "Grammar":
        """One of the texts. They are one lexeme: a rule holds no more than 2,000."""
        return self.lark("start: ONE\nONE: " + " | ".join(map(quoted, texts)), param)

    def lark(self, grammar: str, param: str) -> "Grammar":
        """A grammar in llguidance's form of Lark."""
        return self._made(LLMatcher.grammar_from_lark(unicode(grammar, param)), param)

    def _made(self, text: str, param: str) -> "Grammar":
        if len(text) > LARGEST:
            raise Refused(f"{param}: must be at most {LARGEST} characters", param=param)
        matcher = LLMatcher(self.tokenizer, text, log_level=0, limits=LIMITS)
        if matcher.is_error():
            why = " ".join(matcher.get_error().split())[:200]
            raise Refused(f"{param}: is no grammar that is supported: {why}", param=param)
        made = Grammar(matcher, self.vocabulary)
        try:
            made.begin().allowed()
        except Refused:
            raise Refused(f"{param}: no answer is of this form, or it is too complex to follow",
                          param=param) from None  # fmt: skip
        return made


class Grammar:
    """What answers must be like. ``begin``: for one of them."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def begin(self) -> "Constraint":
        """An answer of which nothing is said yet."""
        return Constraint(self._matcher.deep_copy(), self._vocabulary)


class Constraint:
    """How far one answer is."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def allowed(self) -> np.ndarray:
        """Which tokens may follow: bool [vocabulary]. Raises :class:`Refused` where none may."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        found = np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(bool)
        if self._matcher.is_error() or not found.any():
            raise too_complex()
        return found

    def take(self, token: int) -> bool:
        """Take an allowed token; whether the answer is whole then and nothing may follow.

        Raises :class:`Refused` where it became too complex: the parser stops there as well.
        """
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise too_complex()
        return self._matcher.is_stopped()


def too_complex() -> Refused:
    """What is said of a form that the parser gave up on, beyond its limits."""
    return Refused("the form that was asked for became too complex to follow")


def unicode(text: str, param: str) -> str:
    """A text itself. Raises :class:`Refused` for one with half a surrogate pair, which JSON can
    hold and the library cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(f"{param}: must be valid Unicode", param=param) from None
    return text


def quoted(text: str) -> str:
    """A text as a literal of Lark."""
    return json.dumps(text, ensure_ascii=False)


def in_lark(schema: dict[str, Any]) -> str:
    """JSON of a schema as a part of a grammar of Lark, laid out like all JSON here."""
    return f"%json {json.dumps({**schema, 'x-guidance': LAYOUT})}"
