"""The whole line on the smallest chip: checkpoint, package, RTL equal to the integers, text.

The first test to run when something is wrong.
"""

import json
import sys

import pytest
from tiny_chip import TEXT, tiny_checkpoint

from intaglio import cli


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command with --json; return its object."""

    def run(*words: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["intaglio", *words, "--json"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert stop.value.code == 0, err or out
        return json.loads(out)

    return run


def test_from_a_checkpoint_to_a_chip_that_speaks(run, tmp_path, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny")
    (tmp_path / "text").write_text(TEXT)
    made = run("compile", "tiny", "-o", "chip", "--uniform", "--calibration", "text")
    assert not made["cached"]

    sampling = ("--temperature", "1", "--seed", "4")
    for how in ((), sampling):
        proof = run("verify", "chip", "-p", "the list of", "-n", "12", *how)
        assert proof["equal"], proof["first_difference"]
        assert proof["generated"] == 12
        assert proof["cycles"]["simulated"] == proof["cycles"]["planned"]

        asked = ("generate", "chip", "-p", "the list of", "-n", "12", *how)
        twin, rtl = run(*asked), run(*asked, "--engine", "rtl")
        assert (twin["engine"], rtl["engine"]) == ("twin", "rtl")
        assert twin["text"] == rtl["text"]
        assert twin["chip"] == rtl["chip"]
        assert proof["text"].startswith(twin["text"]), "verify goes on beyond the end of text"
    assert proof["build_seconds"] == 0, "the simulator was in the cache"
