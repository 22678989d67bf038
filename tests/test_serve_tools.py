"""Tool calls read from text: the same however it is cut into pieces, and nothing of it lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.serve.message import Function
from intaglio.serve.refusal import Refused
from intaglio.serve.tools import HERMES, LLAMA, Call, Dialect, call_id, dialect_of

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "ü"}}\n</tool_call>'
LOOK = Call("look", '{"at": "ü"}')
TEXTS: list[tuple[Dialect, str, str, list[Call]]] = [
    (HERMES, "plain <tool text", "plain <tool text", []),
    (HERMES, f"I look. {CALL}", "I look. ", [LOOK]),
    (HERMES, f"{CALL}\n{CALL}\n", "", [LOOK, LOOK]),
    (HERMES, f"{CALL} then", "then", [LOOK]),
    (HERMES, CALL[:-12], "", [LOOK]),  # its end was a stop sequence
    (HERMES, "<tool_call>{no</tool_call>", "<tool_call>{no</tool_call>", []),
    (HERMES, "<tool_call>{no", "<tool_call>{no", []),
    (HERMES, '<tool_call>{"name": 1}</tool_call>', '<tool_call>{"name": 1}</tool_call>', []),
    (LLAMA, ' {"name": "look", "parameters": {"at": "ü"}}', "", [LOOK]),
    (LLAMA, '{"name": "look", "parameters"', '{"name": "look", "parameters"', []),
    (LLAMA, 'say {"name": "look"}', 'say {"name": "look"}', []),
    (LLAMA, '{"a": 1}', '{"a": 1}', []),
    (LLAMA, "", "", []),
]


@given(st.sampled_from(TEXTS), st.data())
def test_however_it_is_cut(case, data):
    dialect, text, shown, calls = case
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    reader, said, found = dialect.reader(dialect), "", []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        piece, more = reader.push(text[start:end])
        said, found = said + piece, found + more
        assert "<tool_call" not in said or calls == []
    rest, more = reader.finish()
    assert (said + rest, found + more) == (shown, calls)


def test_the_schema_of_a_call():
    one = Function(name="look", parameters={"type": "object"})
    schema = HERMES.schema([one])
    assert schema["properties"] == {"name": {"const": "look"}, "arguments": {"type": "object"}}
    both = LLAMA.schema([one, Function(name="go")])
    assert [each["properties"]["name"]["const"] for each in both["anyOf"]] == ["look", "go"]
    assert all("parameters" in each["required"] for each in both["anyOf"])


def test_the_dialect_of_a_template():
    assert dialect_of("{% if tools %}<tool_call>{% endif %}") is HERMES
    assert dialect_of("{{ tools }} <|python_tag|>") is LLAMA
    for template in (
        None,
        "{{ messages }}",
        "{{ tools }} [TOOL_CALLS]",
        "tools <tool_call><function=",
    ):
        with pytest.raises(Refused) as refused:
            dialect_of(template)
        assert (refused.value.status, refused.value.param) == (400, "tools")


def test_the_name_of_a_call():
    made = call_id([1, 2], 0, 0, LOOK)
    assert made == call_id([1, 2], 0, 0, LOOK)
    others = [call_id([1], 0, 0, LOOK), call_id([1, 2], 1, 0, LOOK), call_id([1, 2], 0, 1, LOOK)]
    assert len({made, *others, call_id([1, 2], 0, 0, Call("look", "{}"))}) == 5
    assert json.dumps(made).isascii()
