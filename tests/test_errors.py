"""Errors: one line, the way out in brackets, and the exit codes that scripts rely on."""

import inspect
from typing import Any

import pytest

from intaglio import errors
from intaglio.errors import BadInput, Deadline, IntaglioError, Mismatch, ToolMissing

KINDS: list[Any] = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


def test_message_with_and_without_a_hint():
    assert str(BadInput("top_k must be positive, not 0")) == "top_k must be positive, not 0"
    error = BadInput("no such file", hint="give a folder")
    assert str(error) == "no such file (give a folder)"
    assert (error.message, error.hint) == ("no such file", "give a folder")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented_and_caught_as_one(kind):
    assert issubclass(kind, IntaglioError)
    assert kind.__doc__
    with pytest.raises(IntaglioError, match=r"^x \(y\)$"):
        raise kind("x", hint="y")


def test_exit_codes():
    """1: a check failed; 2: the user can mend it; 3: a program is not installed."""
    assert {kind.__name__: kind.exit_code for kind in KINDS if kind.exit_code != 2} == {
        "Mismatch": 1,
        "Deadline": 1,
        "ToolMissing": 3,
    }
    assert (Mismatch.exit_code, Deadline.exit_code, ToolMissing.exit_code) == (1, 1, 3)
