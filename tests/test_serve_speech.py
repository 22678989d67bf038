"""The text of an answer: whole characters, stop sequences held back, scores with their text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_logits import sample_tokenizer

from intaglio.checkpoint.tokenizer import Tokenizer
from intaglio.serve.host import Scored
from intaglio.serve.speech import Speech, begun

TOKENIZER = Tokenizer(sample_tokenizer(), frozenset())


def say(text: str, stops: list[str]) -> tuple[list[str], Speech]:
    """Every piece that a text's tokens make, and what made them."""
    speech, shown = Speech(TOKENIZER, stops), []
    for token in TOKENIZER.encode(text):
        shown.append(speech.push(token))
        if speech.stopped:
            return shown, speech
    return [*shown, speech.finish()], speech


def test_a_character_comes_whole():
    shown, _ = say("é日", [])
    assert [piece for piece in shown if piece] == ["é", "日"]
    assert "\ufffd" not in "".join(shown)


def test_what_could_begin_a_stop_sequence_waits():
    shown, speech = say("abcabd!", ["abd"])
    assert shown == ["", "", "abc", "", "", ""]
    assert speech.stopped
    shown, speech = say("xab", ["abd"])
    assert shown == ["x", "", "", "ab"]
    assert not speech.stopped


def test_the_first_of_several_stop_sequences_ends_it():
    assert "".join(say("one two three", ["three", "o t", "two"])[0]) == "one "
    assert "".join(say("one two three", ["two", "wo"])[0]) == "one "
    assert "".join(say("aaab", ["aab"])[0]) == "a"


@settings(max_examples=200, deadline=None)
@given(st.text("ab-é", max_size=30), st.lists(st.text("ab-é", min_size=1, max_size=4), max_size=3))
def test_as_if_the_whole_text_had_been_cut(text, stops):
    shown, speech = say(text, stops)
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert ("".join(shown), speech.stopped) == (text, False)
        return
    whole = text[: min(ends)]  # the token that completed it ended it
    starts = [whole.find(stop) for stop in stops if stop in whole]
    assert speech.stopped
    assert "".join(shown) == text[: min(starts)]


@pytest.mark.parametrize(
    ("text", "stop", "length"), [("", "a", 0), ("aab", "abc", 2), ("ab", "ab", 0), ("xa", "aa", 1)]
)
def test_begun(text, stop, length):
    assert begun(text, stop) == length


def test_scores_leave_with_their_text_and_none_of_a_stop_sequence():
    speech, left = Speech(TOKENIZER, ["cd"]), []
    for token in TOKENIZER.encode("abxcd"):
        if speech.push(token, Scored(token, -1.0, ())):
            left.append([each.offset for each in speech.scores()])
    assert left == [[0], [1], [2]]
    assert speech.stopped
    assert speech.scores() == []
