"""Forms of answers: whatever is chosen among the allowed tokens, the answer is of the form."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_logits import sample_tokenizer

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.serve.grammar import Grammar, Grammars
from intaglio.serve.message import Function
from intaglio.serve.refusal import Refused
from intaglio.serve.tools import HERMES

END, VOCABULARY = 2, 320  # more than the tokenizer's: an embedding is padded
TOKENIZER = Tokenizer(sample_tokenizer(), frozenset({END}))
GRAMMARS = Grammars(TOKENIZER, VOCABULARY)
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["list", "the other"]}, "on": {"type": "boolean"},
                   "sizes": {"type": "array", "items": {"enum": [1, 12]}, "maxItems": 3}},
    "required": ["kind", "on", "sizes"],
    "additionalProperties": False,
}  # fmt: skip


def walk(grammar: Grammar, seed: int, most: int = 400) -> tuple[str, bool]:
    """A random answer among the allowed tokens, and whether it is whole."""
    rng, constraint, said = np.random.default_rng(seed), grammar.begin(), []
    while len(said) < most:
        token = int(rng.choice(np.flatnonzero(constraint.allowed())))
        if token == END:
            return TOKENIZER.decode(said), True
        said.append(token)
        if constraint.take(token):
            return TOKENIZER.decode(said), True
    return TOKENIZER.decode(said), False


@given(st.integers(0, 1 << 32))
@settings(max_examples=30, deadline=None)
def test_any_walk_is_json_of_the_schema(seed):
    text, whole = walk(GRAMMARS.json(SCHEMA, "x"), seed)
    found = json.loads(text)
    assert whole
    assert text == json.dumps(found, separators=(", ", ": "))
    assert found["kind"] in ("list", "the other")
    assert isinstance(found["on"], bool)
    assert set(found["sizes"]) <= {1, 12}
    assert len(found["sizes"]) <= 3


@given(st.integers(0, 1 << 32), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_walk_is_a_call_on_one_line(seed, one):
    names = ("measure",) if one else ("measure", "other")
    functions = [Function(name=name, parameters=SCHEMA) for name in names]
    text, whole = walk(HERMES.forced(GRAMMARS, functions), seed)
    assert whole
    begin, call, end = text.split("\n")
    assert (begin, end) == ("<tool_call>", "</tool_call>")
    found = json.loads(call)
    assert call == json.dumps(found)
    assert found["name"] in names


@given(
    st.integers(0, 1 << 32),
    st.sampled_from([r"[a-c]{2,5}\d", r"(the|12)( the){0,3}", "é{3}", "a/b\n?"]),
)
@settings(max_examples=30, deadline=None)
def test_any_walk_matches_the_pattern(seed, pattern):
    text, whole = walk(GRAMMARS.regex(pattern, "x"), seed)
    assert whole
    assert re.fullmatch(pattern, text)


def test_a_choice_of_texts():
    texts = ['the "list"', "12", "other\n"]
    found = {walk(GRAMMARS.choice(texts, "x"), seed)[0] for seed in range(40)}
    assert found == set(texts)


def test_many_texts_of_one_beginning():
    texts = [f"a{index}" for index in range(3000)]
    text, whole = walk(GRAMMARS.choice(texts, "x"), 1)
    assert whole
    assert text in texts


def test_a_form_that_the_parser_gives_up_on_is_no_whole_answer():
    rules = " | ".join(f'("a{index}" other)' for index in range(3000))  # a row holds 2,000
    constraint = GRAMMARS.lark(f'start: {rules}\nother: "b" | other "b"\n', "x").begin()
    with pytest.raises(Refused, match="too complex"):
        constraint.take(TOKENIZER.encode("a")[0])


def test_control_tokens_and_padding_are_never_text():
    allowed = GRAMMARS.regex("(.|\n)*", "x").begin().allowed()
    assert allowed.shape == (VOCABULARY,)
    assert not allowed[[0, 1]].any()
    assert allowed[END]  # the answer may end at once
    assert not allowed[TOKENIZER.vocabulary :].any()
    assert allowed.sum() > 150


def test_two_answers_of_a_grammar_do_not_know_each_other():
    grammar = GRAMMARS.regex("ab|cd", "x")
    first, second = grammar.begin(), grammar.begin()
    first.take(TOKENIZER.encode("a")[0])
    assert np.flatnonzero(first.allowed()).tolist() == TOKENIZER.encode("b")
    assert np.flatnonzero(second.allowed()).tolist() == sorted(TOKENIZER.encode("ac"))


def test_without_an_end_of_text_an_answer_ends_where_nothing_may_follow():
    endless = Grammars(Tokenizer(sample_tokenizer(), frozenset()), VOCABULARY)
    constraint = endless.regex("ab?", "x").begin()
    assert not constraint.take(TOKENIZER.encode("a")[0])
    assert np.flatnonzero(constraint.allowed()).tolist() == TOKENIZER.encode("b")
    assert constraint.take(TOKENIZER.encode("b")[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GRAMMARS.regex("(", "field"), "unclosed group"),
        (lambda: GRAMMARS.json({"type": "thing"}, "field"), "field: is no grammar"),
        (lambda: GRAMMARS.json({"not": {}}, "field"), "not"),
        (lambda: GRAMMARS.regex("a" * 70_000, "field"), "must be at most 65536 characters"),
        (lambda: GRAMMARS.regex(r"[^\s\S]", "field"), "field: no answer is of this form"),
        (lambda: GRAMMARS.json({"$ref": "#"}, "field"), "field: no answer is of this form"),
        (lambda: GRAMMARS.regex("a\ud800", "field"), "field: must be valid Unicode"),
        (lambda: GRAMMARS.json({"const": "\ud800"}, "field"), "field: must be valid Unicode"),
        (lambda: GRAMMARS.choice(["\ud800"], "field"), "field: must be valid Unicode"),
    ],
)
def test_what_is_no_grammar_is_refused(make, words):
    with pytest.raises(Refused, match=words) as refused:
        make()
    assert (refused.value.status, refused.value.param) == (400, "field")
