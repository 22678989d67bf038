"""The command line: what commands print, the keys of --json, one line for everything bad."""

import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from peft_folder import random_factors, write_peft
from test_flow_simulator import VERDICT
from tiny_chip import PlayedChip, quick_emit, tiny_checkpoint

from intaglio import cli
from intaglio.checkpoint import open_checkpoint
from intaglio.errors import ToolMissing
from intaglio.flow import compile as compile_module
from intaglio.flow import engines, simulator, sizes, verify
from intaglio.flow.package import MANIFEST, open_package
from intaglio.golden.model import IntModel
from intaglio.hardware import emit
from intaglio.report import facts
from intaglio.verify.simulation import Difference

COMMANDS = (
    "plan", "compile", "verify", "generate", "chat", "evaluate", "bench", "demo", "cost",
    "turnaround", "agents", "report", "serve",
)  # fmt: skip
DOCUMENT = Path(__file__).parents[1] / "docs" / "json.md"
TEXT = "the index of the list in the other 12 lists\n" * 20


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        values = json.loads(self.out)
        assert self.out.count("\n") == 1
        return values


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line; its words, or a text to be split."""

    def run(*words: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["intaglio", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Ran(stop.value.code, out, err)

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a checkpoint ``tiny``, its package ``chip``, a ``text``, and a cache."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text").write_text(TEXT)
    tiny_checkpoint(folder / "tiny")
    options = compile_module.CompileOptions(uniform=True, calibration=TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "emit", quick_emit)
        patch.setenv("INTAGLIO_CACHE", str(folder / "cache"))
        compile_module.compile_model(str(folder / "tiny"), folder / "chip", options)
    return folder


@pytest.fixture(autouse=True)
def surroundings(home, tmp_path, monkeypatch):
    """Quick Verilog, the integer model in place of a simulator, and the home at hand."""
    monkeypatch.setenv("INTAGLIO_CACHE", str(home / "cache"))
    monkeypatch.setattr(emit, "emit", quick_emit)
    monkeypatch.setattr(engines, "executable_of", lambda package, progress: (Path("x"), 0.0))
    monkeypatch.setattr(verify, "executable_of", lambda package, **options: (Path("x"), 1.5))
    monkeypatch.setattr(verify, "verify", lambda *arguments, **options: VERDICT)
    monkeypatch.setattr(
        engines, "Simulation", lambda program, images: PlayedChip(
            IntModel.load(images.parents[1] / "model.safetensors")
        ),
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "text"):
        Path(name).symlink_to(home / name)
    shutil.copytree(home / "chip", "chip")  # commands write into it


COMPILE = ("compile", "tiny", "-o", "new", "--bits", "4", "--uniform", "--calibration", "text")


# what the commands say


def test_no_command_is_help(run):
    ran = run()
    assert ran.code == 0
    for command in COMMANDS:
        assert f" {command} " in ran.out


def test_version(run):
    assert run("--version").out.startswith("intaglio 0.")
    assert run("--version").code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ran = run(command, "--help")
    assert ran.code == 0
    (example,) = re.findall(r"Example: intaglio (.*)", ran.out)
    words = shlex.split(example)
    assert words[0] == command
    options = [word for word in words if word.startswith("-")]
    assert all(re.search(rf"(?<!\w){option}\b", ran.out) for option in options)
    assert ("--json" in ran.out) == (command not in ("chat", "serve"))


def test_compile(run):
    ran = run(*COMPILE)
    assert ran.code == 0
    assert re.fullmatch(
        r"tiny \(from f32\): 39,072 parameters -> new, .*\n"
        r"  4\.00 bits per block weight, [\d,]+ contacts, hash [0-9a-f]{16}\n",
        ran.out,
    )
    assert ran.err.splitlines()[0] == "reading the checkpoint ..."
    stages = [open_package(Path(name)).manifest["stages"]["compile"] for name in ("new", "chip")]
    assert stages[0] == stages[1]
    again = run(*COMPILE)
    assert "from the cache" in again.out


def test_verify(run):
    ran = run("verify", "chip", "-p", "the list", "-n", "4")
    assert ran.code == 0
    said = open_package(Path("chip")).tokenizer.decode(VERDICT.transcripts[0])
    assert ran.out.splitlines() == [
        "equal: 9 positions, 4 of them generated; every operation of the RTL gave the integer "
        "model's bits",
        f"  the chip said: {said!r}",
        "  18.0 simulated tokens/s, after a build of 2 s",
        "  100 cycles, as planned; 20 from token to token",
    ]


def test_verify_names_a_difference_and_returns_1(run, monkeypatch):
    verdict = replace(
        VERDICT, equal=False, first_difference=Difference(0, 3, 1, "gate", 17, 5, None),
        planned_cycles=99,
    )  # fmt: skip
    monkeypatch.setattr(verify, "verify", lambda *arguments, **options: verdict)
    ran = run("verify", "chip", "-p", "the list", "-n", "4")
    assert ran.code == 1
    assert ran.out.splitlines()[0] == (
        "NOT equal: token 3, slot 0, layer 1, gate, element 17: expected 5, got nothing"
    )
    assert ran.out.splitlines()[-1].startswith("  100 cycles, NOT the 99 of the plan")
    ran = run("verify", "chip", "-p", "x", "--json")
    assert ran.code == 1
    assert ran.json["first_difference"]["op"] == "gate"
    check_keys("verify", ran.json)


def test_verify_keeps_its_verdict(run, monkeypatch):
    assert "kept" not in run("verify", "chip", "-p", "the list", "-n", "4").err
    verdict = open_package(Path("chip")).verdict
    assert verdict is not None
    assert verdict["equal"]

    def full(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(verify, "put_stage", full)
    ran = run("verify", "chip", "-p", "the list", "-n", "4", "--json")
    assert ran.code == 0
    assert ran.json["equal"]
    assert ran.err.endswith("chip: the verdict is not kept there: Read-only file system\n")


@pytest.fixture
def few(monkeypatch):
    """Reports beside two models and two counts of rows."""
    monkeypatch.setattr(sizes, "preset_names", lambda: ["bundled", "smollm2-135m"])
    monkeypatch.setattr(facts, "ROWS", (64, 256))


def test_report(run, few):
    ran = run("report", "chip")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "chip/report.html"
    assert lines[1].endswith(" on n6 (6 nm FinFET (TSMC N6 class)), compiled for target generic")
    assert [line.split()[0] for line in lines[2:]] == ["speed", "silicon", "power", "a", "proof"]
    assert lines[-1] == "  proof    not verified yet: run intaglio verify chip"
    run("verify", "chip", "-p", "the list", "-n", "4")
    assert not Path("chip/report.html").exists()
    assert run("report", "chip").out.endswith("  proof    equal over 9 positions (exact)\n")
    values = run("report", "chip", "-o", "out", "--target", "n5", "--json").json
    assert (values["target"], values["page"]) == ("n5", "out/report.html")
    assert values["headline"]["verify__equal"]["value"] == 1
    assert values["headline"]["plan__design__die__count"]["grade"] == "exact"
    check_keys("report", {**values, "headline": {}})
    assert open_package(Path("chip")).manifest["stages"].keys() == {"compile", "verify", "report"}


@pytest.mark.parametrize("engine", ["twin", "golden", "rtl"])
def test_generate(run, engine):
    ran = run("generate", "chip", "-p", "the list", "-n", "5", "--engine", engine)
    assert ran.code == 0
    values = run("generate", "chip", "-p", "the list", "-n", "5", "--json").json
    assert ran.out == f"the list{values['text']}\n"
    place = {"twin": r"the twin \(native \w+\)", "golden": "golden", "rtl": "the simulated chip"}
    assert re.search(f" s on {place[engine]}; the chip at 1000 MHz .assumed.: ", ran.err)
    assert "exact cycles" in ran.err


def test_generate_from_a_file_and_in_a_chat(run):
    asked = run("generate", "chip", "--chat", "-p", TEXT[:8], "-n", "3")
    assert asked.code == 0
    assert not asked.out.startswith(TEXT[:8])
    Path("prompt").write_text(TEXT[:8])
    assert run("generate", "chip", "--prompt-file", "prompt", "-n", "3").out.startswith(TEXT[:8])


def test_sampling_options_arrive(run):
    plain = ("generate", "chip", "-p", "the list", "-n", "12", "--json")
    hot = (*plain, "--temperature", "2", "--seed", "5")
    assert run(*hot).json["text"] == run(*hot).json["text"] != run(*plain).json["text"]
    assert run(*hot, "--top-k", "1").json["text"] == run(*plain).json["text"]
    assert run(*hot, "--top-p", "0.0001").json["text"] == run(*plain).json["text"]


@pytest.mark.parametrize("engine", ["twin", "golden", "rtl"])
def test_chat(run, monkeypatch, engine):
    questions = iter(["the list", "in 12"])
    asked = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        try:
            return next(questions)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", ask)
    ran = run("chat", "chip", "--engine", engine, "-n", "4")
    assert ran.code == 0
    assert asked == ["you> "] * 3
    assert ran.out.count("chip> ") == 2
    assert ran.out.endswith("\n\n")


def test_a_chat_that_grows_too_long_says_so_and_goes_on(run, monkeypatch):
    questions = iter(["the list " * 20, "12", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(questions))
    ran = run("chat", "chip", "-n", "4")
    assert ran.code == 2
    assert ran.out.count("chip> ") == 1
    (line,) = [line for line in ran.err.splitlines() if line.startswith("BadInput")]
    assert re.fullmatch(
        r"BadInput: the conversation is \d+ tokens long, the chip has 64 positions", line
    )


def test_an_answer_ends_where_the_context_does(run, monkeypatch):
    questions = iter(["the", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(questions))
    assert run("chat", "chip", "-n", "10000").code == 0


def test_evaluate(run):
    ran = run("evaluate", "chip", "--text", "text", "--model", "tiny", "--limit", "100")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert re.fullmatch(r"\d+ tokens, \d+ bytes", lines[0])
    assert re.fullmatch(r"  float  perplexity [\d.]+  bits per byte [\d.]+", lines[1])
    assert re.fullmatch(r"  chip   perplexity [\d.]+  bits per byte [\d.]+", lines[2])
    assert re.fullmatch(r"  growth [+-][\d.]+ %  \(\d+ s\)", lines[3])


def test_an_adapter_reaches_every_command(run, monkeypatch, home):
    folder = write_peft(
        Path("lists").resolve(), random_factors(open_checkpoint("tiny").architecture)
    )
    more = ("--adapter", f"lists={folder}", "--model", "tiny")
    said = run(*SHORT, "-p", "the list", *more, "--json").json
    assert said["adapter"] == "lists"
    words = ("evaluate", "chip", "--text", "text", "--model", "tiny", "--limit", "50", "--json")
    values, plain = run(*words, *more[:2]).json, run(*words).json
    assert (values["adapter"], plain["adapter"]) == ("lists", None)
    assert values["chip"] != plain["chip"]
    questions = iter(["the", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(questions))
    assert run("chat", "chip", "-n", "4", *more).code == 0


def test_bench(run):
    words = ("bench", "chip", "-p", "9,1000", "-n", "4,0", "-b", "1,3", "-t", "1,2", "-r", "2")
    values = run(*words, "--json").json
    check_keys("bench", values)
    rows = [(row["test"], row["batch"], row["threads"]) for row in values["tests"]]
    assert rows == [
        (test, batch, threads)
        for threads in (1, 2) for batch in (1, 3) for test in ("pp9", "pp64", "tg4")
    ]  # fmt: skip
    keys = set(re.findall(r"^\| `tests\[\]\.(\w+)`", DOCUMENT.read_text(), re.MULTILINE))
    assert all(set(row) == keys for row in values["tests"])
    assert all(row["tokens_per_second"] > row["sd"] >= 0 for row in values["tests"])
    lines = run(*words).out.splitlines()
    assert re.fullmatch(r"native \w+: [\d.]+ MB of weights, [\d.]+ MB per sequence", lines[0])
    assert len(lines) == 2 + len(rows)
    assert re.fullmatch(r"pp9 +1 +1 +[\d,]+ ± [\d,]+", lines[2])


@pytest.fixture
def small_bundled(monkeypatch, home):
    """The demo's model is the tiny one."""
    real = compile_module.open_checkpoint
    monkeypatch.setattr(
        compile_module, "open_checkpoint",
        lambda model: real(home / "tiny" if model == "bundled" else model),
    )  # fmt: skip
    quick = compile_module.CompileOptions(uniform=True, calibration=TEXT)
    make = compile_module.compile_model
    monkeypatch.setattr(
        compile_module,
        "compile_model",
        lambda model, output, progress: make(model, output, quick, progress=progress),
    )
    monkeypatch.setattr("intaglio.cli.commands.DEFAULT_PROMPT", "the list")
    monkeypatch.setattr("intaglio.cli.commands.DEMO_TOKENS", 8)


INNER = ("verify", "generate", "engrave", "read")  # objects of other commands


def test_demo(run, small_bundled, few):
    ran = run("demo")
    assert ran.code == 0, ran.err
    assert "39,072 parameters -> chips/bundled" in ran.out
    assert "equal: 9 positions" in ran.out
    assert "The same chip completes code:\n\nthe list" in ran.out
    assert "intaglio generate chips/bundled" in ran.out
    assert "\nchips/bundled/report.html\n" in ran.out
    assert "contacts, " in ran.out
    assert "  equal to chips/bundled\n" in ran.out
    assert "compiled for target generic" in ran.out
    assert "proof    equal over 9 positions" in ran.out
    values = run("demo", "-o", "elsewhere", "--json").json
    check_keys("verify", values["verify"])
    check_keys("generate", values["generate"])
    check_keys("masks engrave", values["engrave"])
    assert values["read"]["equal"]
    assert values["read"]["hash"] == values["hash"]
    check_keys("demo", {**values, **{key: {} for key in INNER}}, ["compile"])


# the keys of --json


def documented(section: str) -> set[str]:
    """The keys in the table of a section of docs/json.md."""
    text = DOCUMENT.read_text().split(f"\n## `{section}`\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys with dots for objects within objects."""
    found = {}
    for key, value in values.items():
        found[prefix + key] = value
        if isinstance(value, dict) and value:
            del found[prefix + key]
            found |= flat(value, f"{prefix}{key}.")
    return found


def check_keys(section: str, values: dict[str, Any], more: list[str] | None = None) -> None:
    """The keys are the documented ones; of an object that is null, those within are not there."""
    wanted = set().union(*(documented(name) for name in [section, *(more or [])]))
    found = flat(values)
    absent = [key for key, value in found.items() if value is None]
    inner = {key for key in wanted if any(key.startswith(f"{name}.") for name in absent)}
    outer = {key for key in wanted if any(name.startswith(f"{key}.") for name in found)}
    assert set(found) == wanted - inner - outer


def test_every_command_with_json_is_documented():
    text = DOCUMENT.read_text()
    assert set(re.findall(r"^## `(\w+)`", text, re.MULTILINE)) == set(COMMANDS) - {"chat", "serve"}


@pytest.mark.parametrize(
    "words",
    [
        (*COMPILE, "--json"),
        ("verify", "chip", "-p", "x", "--json"),
        ("generate", "chip", "-p", "x", "-n", "2", "--json"),
        ("generate", "chip", "-p", "x", "-n", "1", "--engine", "rtl", "--json"),
        ("evaluate", "chip", "--text", "text", "--model", "tiny", "--limit", "50", "--json"),
    ],
    ids=lambda words: words[0],
)
def test_json_is_one_object_with_the_documented_keys(run, words):
    ran = run(*words)
    assert ran.code == 0
    check_keys(words[0], ran.json)


def test_masks_are_engraved_read_back_and_compared(run):
    ran = run("masks", "engrave", "chip", "--json")
    assert ran.code == 0
    check_keys("masks engrave", ran.json | {"um2_per_weight": ran.json["um2_per_weight"]})
    density = ran.json["um2_per_weight"]
    assert density["cell"] < density["array"] < density["tile"]
    assert density["all_in"] == density["tile"] + sum(density["logic"].values())
    assert ran.json["read"]["holds"] == (
        ran.json["read"]["clock_hz"]["slow"] >= ran.json["read"]["target_clock_hz"]
    )
    read = run("masks", "read", "chip/masks", "--against", "chip", "--json")
    check_keys("masks read", read.json)
    assert read.json["hash"] == open_package(Path("chip")).hash
    assert (read.code, read.json["equal"], read.json["differences"]) == (0, True, [])
    diff = run("masks", "diff", "chip", "chip/masks", "--json")
    check_keys("masks diff", diff.json)
    assert diff.json["changed"] == 0
    assert "equal to chip" in run("masks", "read", "chip", "--against", "chip").out
    assert "only the programmable layer differs" in run("masks", "diff", "chip", "chip").out


def test_views_and_pictures_of_tiles(run):
    made = run("masks", "views", "chip", "-o", "views", "--tile", "head.0.0", "--json")
    assert made.code == 0
    check_keys("masks views", made.json)
    assert {path.name for path in Path("views").iterdir()} == set(made.json["files"])
    assert {"head.0.0.cdl", "head.0.0.gds"} < set(made.json["files"])
    again = run("masks", "views", "chip", "-o", "views")
    assert (again.code, "is there already" in again.err) == (2, True)
    drawn = run("masks", "picture", "chip", "norm.0.0", "-o", "own.svg", "--json")
    check_keys("masks picture", drawn.json)
    assert Path("own.svg").read_text().startswith("<svg")
    whole = run("masks", "picture", "chip", "die", "-o", "die.svg")
    assert (whole.code, "tiles on" in Path("die.svg").read_text()) == (0, True)
    part = run("masks", "picture", "chip", "die", "-o", "no.svg", "--window", "1,2,3,4")
    assert "--window shows a part of a tile, not of the die" in part.err
    unknown = run("masks", "picture", "chip", "no.0.0", "-o", "no.svg")
    assert "no tile is called 'no.0.0'" in unknown.err
    wrong = run("masks", "picture", "chip", "norm.0.0", "-o", "no.svg", "--window", "1,2")
    assert "--window must be X,Y,WIDTH,HEIGHT in um, not '1,2'" in wrong.err
    assert not Path("no.svg").exists()


def test_the_die_and_what_librelane_reads(run):
    assert "has no masks yet" in run("masks", "die", "chip", "-o", "die.oas").err
    run("masks", "engrave", "chip")
    made = run("masks", "die", "chip", "-o", "die.oas", "--json")
    check_keys("masks die", made.json)
    assert Path("die.oas").stat().st_size > 1000
    wrong = run("masks", "die", "chip", "-o", "die.txt")
    assert "die.txt: must end in .oas or .gds" in wrong.err
    shutil.copytree("chip", "cut")
    next(Path("cut/masks").glob("head.*")).unlink()
    gone = run("masks", "die", "cut", "-o", "cut.oas")
    assert (gone.code, Path("cut.oas").exists()) == (2, False)
    assert re.search(r"^BadPackage: .*head", gone.err, re.MULTILINE)
    made = run("masks", "librelane", "chip", "-o", "librelane", "--json")
    check_keys("masks librelane", made.json)
    assert json.loads(Path(made.json["config"]).read_text())["DESIGN_NAME"] == "chip"
    again = run("masks", "librelane", "chip", "-o", "librelane")
    assert (again.code, "is there already" in again.err) == (2, True)


@pytest.mark.parametrize("command", [
    "engrave", "read", "diff", "views", "librelane", "die", "picture",
])  # fmt: skip
def test_help_of_masks_has_an_example(run, command):
    ran = run("masks", command, "--help")
    assert f"Example: intaglio masks {command} " in ran.out
    assert "--json" in ran.out


def test_numbers_that_json_does_not_know_are_null(capsys):
    from intaglio.cli.screen import write_json

    write_json({"a": float("inf"), "b": [float("nan"), 1.5], "c": {"d": "é\udcff"}})
    values = json.loads(capsys.readouterr().out)
    assert values == {"a": None, "b": [None, 1.5], "c": {"d": "é\udcff"}}


# everything bad

GENERATE = ("generate", "chip")
SHORT = (*GENERATE, "-n", "3")
VERIFY = ("verify", "chip", "-p", "x", "-n", "2")
BAD = {
    "no such command": (("engrave",), "No such command 'engrave'"),
    "no such option": (("verify", "chip", "--quick"), "No such option"),
    "no chip": (("verify",), "Missing argument '"),
    "no output": (("compile", "tiny"), "Missing option '--output'"),
    "no number": (("verify", "chip", "--tokens", "many"), "Invalid value for '--tokens'"),
    "no text": (("evaluate", "chip"), "Missing option '--text'"),
    "model missing": (("compile", "nowhere", "-o", "new"), "model must be a Hugging Face folder"),
    "model a pickle": (("compile", "model.bin", "-o", "new"), "model.bin"),
    "model empty": (("compile", "", "-o", "new"), "model"),
    "bits low": ((*COMPILE[:4], "--bits", "1"), "bits must be from 2 to 8, not 1"),
    "bits high": ((*COMPILE[:4], "--bits", "9"), "bits must be from 2 to 8, not 9"),
    "bits nan": ((*COMPILE[:4], "--bits", "nan"), "bits must be from 2 to 8, not nan"),
    "bits uniform": ((*COMPILE[:4], "--bits", "2.5", "--uniform"), "must be a whole number"),
    "bits no number": ((*COMPILE[:4], "--bits", "four"), "Invalid value for '--bits'"),
    "lanes text": ((*COMPILE, "--lanes", "some"), "lanes must be auto or a number, not 'some'"),
    "lanes negative": ((*COMPILE, "--lanes", "-4"), "lanes must be auto or a number, not '-4'"),
    "lanes zero": ((*COMPILE, "--lanes", "0"), "lanes must be auto or from 1 to 2048, not 0"),
    "lanes many": ((*COMPILE, "--lanes", "2049"), "lanes must be auto or from 1 to 2048, not 2049"),
    "target": ((*COMPILE, "--target", "n2"), "n65, sky130, generic, tiny-tapeout, not 'n2'"),
    "context zero": ((*COMPILE, "--context", "0"), "context must be from 1 to the model's 64"),
    "context long": ((*COMPILE, "--context", "65"), "context must be from 1 to the model's 64"),
    "slots": ((*COMPILE, "--slots", "0"), "slots must be from 1 to 256, not 0"),
    "die": ((*COMPILE, "--die", "-1"), "die must be an area in mm2 greater than 0, not -1"),
    "die unknown": ((*COMPILE, "--die", "5"), "target generic has no cell area"),
    "die small": ((*COMPILE, "--target", "sky130", "--die", "0.001"), "more than the 0.001 mm2"),
    "calibration missing": ((*COMPILE[:4], "--calibration", "nowhere"), "nowhere: cannot be read"),
    "calibration a folder": ((*COMPILE[:4], "--calibration", "tiny"), "tiny: cannot be read"),
    "calibration binary": ((*COMPILE[:4], "--calibration", "binary"), "binary: must be UTF-8"),
    "calibration empty": ((*COMPILE[:4], "--calibration", "empty"), "at least two tokens"),
    "output a file": (("compile", "tiny", "-o", "text"), "text: exists and is not a chip package"),
    "output a folder": (("compile", "tiny", "-o", "tiny"), "tiny: exists and is not a chip"),
    "output below a file": (("compile", "tiny", "-o", "text/chip"), "text is not a folder"),
    "output a long name": ((*COMPILE, "-o", "x" * 300), "File name too long"),
    "base missing": ((*COMPILE[:4], "--base", "nowhere"), "nowhere: no such chip package"),
    "base and bits": ((*COMPILE, "--base", "chip"), "--bits is the base chip's"),
    "chip missing": (("verify", "nowhere"), "nowhere: no such chip package"),
    "chip a file": (("verify", "text"), "text: not a chip package but a file"),
    "chip a checkpoint": ((*GENERATE[:1], "tiny"), "tiny: not a chip package: it has no manifest"),
    "chip of the future": (("verify", "future"), "future: package format must be 1, not 2"),
    "chip damaged": (("evaluate", "damaged", "--text", "text"), "its content is not what the"),
    "prompt empty": ((*GENERATE, "-p", ""), "the prompt is empty"),
    "prompt empty in a chat": ((*GENERATE, "--chat", "-p", ""), "the prompt is empty"),
    "prompt twice": ((*GENERATE, "-p", "x", "--prompt-file", "text"), "give --prompt or"),
    "prompt long": ((*GENERATE, "--prompt-file", "text"), "positions, the chip has 64"),
    "prompt no file": ((*GENERATE, "--prompt-file", "nowhere"), "nowhere: cannot be read"),
    "prompt binary": (("verify", "chip", "--prompt-file", "binary"), "byte 3 is not"),
    "prompt no text": ((*GENERATE, "-p", "\udcff"), "text must be valid Unicode"),
    "tokens zero": ((*GENERATE, "-n", "0"), "tokens to generate must be at least 1, not 0"),
    "tokens negative": (("verify", "chip", "-n", "-1"), "must be at least 1, not -1"),
    "tokens many": (("verify", "chip", "-n", "1000"), "positions, the chip has 64"),
    "chat tokens": (("chat", "chip", "-n", "0"), "tokens to generate must be at least 1, not 0"),
    "engine": ((*GENERATE, "--engine", "gpu"), "engine must be one of twin, golden, rtl, not"),
    "adapter nameless": ((*SHORT, "--adapter", "tiny"), "adapter must be NAME=DIR or one that is"),
    "adapter nowhere": (
        (*SHORT, "--model", "tiny", "--adapter", "a=nowhere"),
        "adapter must be a PEFT folder, not 'nowhere'",
    ),
    "adapter of no name": ((*SHORT, "--adapter", "a=tiny"), "give the float checkpoint with"),
    "bench words": (("bench", "chip", "-n", "x"), "--tokens must be integers with commas between"),
    "bench nothing": (("bench",), "bench needs a chip package or --serve URL, one of them"),
    "bench both": (("bench", "chip", "--serve", "http://x"), "one of them"),
    "bench serve": (("bench", "--serve", "http://127.0.0.1:1"), "no server of OpenAI's API"),
    "bench serve lengths": (("bench", "--serve", "x", "-n", "1,2"), "must be one length each"),
    "bench zero": (("bench", "chip", "-b", "0"), "batch at least 1"),
    "bench repetitions": (("bench", "chip", "-r", "0"), "repetitions and threads must be at least"),
    "temperature": ((*GENERATE, "--temperature", "-1"), "temperature must be from 0 to 100"),
    "temperature nan": ((*GENERATE, "--temperature", "nan"), "temperature must be from 0 to 100"),
    "top k": ((*GENERATE, "--top-k", "65"), "top_k must be from 0 to 64, not 65"),
    "top p": ((*GENERATE, "--top-p", "0"), "top_p must be greater than 0 and at most 1, not 0"),
    "report of nothing": (("report", "nowhere", "-o", "out"), "model must be a preset, a chip"),
    "report nowhere": (("report", "llama-3.1-8b"), "no chip package to keep the report in"),
    "report into a file": (("report", "bundled", "-o", "text"), "text: cannot be written: it is"),
    "report into a chip": (("report", "bundled", "-o", "chip"), "chip: is a chip package"),
    "report target": (("report", "bundled", "-o", "out", "--target", "n4"), "not 'n4'"),
    "report chip damaged": (("report", "damaged"), "its content is not what the manifest says"),
    "seed": ((*GENERATE, "--seed", "-1"), "seed must be from 0 to"),
    "waves nowhere": ((*VERIFY, "--waves", "no/w.fst"), "no/w.fst: cannot be written"),
    "waves a folder": ((*VERIFY, "--waves", "tiny"), "tiny: cannot be written"),
    "text missing": (("evaluate", "chip", "--text", "nowhere"), "nowhere: cannot be read"),
    "text binary": (("evaluate", "chip", "--text", "binary"), "binary: must be UTF-8 text, byte 3"),
    "text empty": (("evaluate", "chip", "--text", "empty", "--model", "tiny"), "at least two tok"),
    "window": (("evaluate", "chip", "--text", "text", "--model", "tiny", "--window", "0"), "wind"),
    "masks of nothing": (("masks", "read", "nowhere"), "no such file: nowhere holds no masks"),
    "masks not yet": (("masks", "diff", "chip", "chip"), "chip: has no masks yet"),
    "masks of no chip": (("masks", "engrave", "tiny"), "tiny: not a chip package"),
    "no name": (("evaluate", "chip", "--text", "text"), "give the float checkpoint with --model"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_everything_bad_is_one_line_and_leaves_nothing(run, case, home):
    words, message = BAD[case]
    Path("binary").write_bytes(b"abc\xff")
    Path("empty").touch()
    Path("model.bin").touch()
    for name in ("future", "damaged"):
        shutil.copytree(home / "chip", name)
    manifest = json.loads(Path("future", MANIFEST).read_text())
    Path("future", MANIFEST).write_text(json.dumps({**manifest, "format": 2}))
    Path("damaged", "plan.json").write_text("{}")
    before = sorted(os.listdir())
    ran = run(*words)
    assert ran.code == 2
    assert ran.out == ""
    steps = re.compile(r".* \.\.\.|.*: done in [\d.]+ s|  hint: \S.*")
    (line,) = [line for line in ran.err.splitlines() if not steps.fullmatch(line)]
    hints = [line for line in ran.err.splitlines() if line.startswith("  hint: ")]
    assert len(hints) <= 1
    assert re.match(r"[A-Za-z]+: \S", line)
    assert message in line + "".join(hints)
    assert sorted(os.listdir()) == before
    assert [p for p in home.rglob("*.partial") if p.is_dir()] == []


def test_a_missing_program_returns_3(run, monkeypatch):
    def missing(*arguments, **options):
        raise ToolMissing("g++ is missing", hint="apt-get install g++")

    monkeypatch.setattr(verify, "executable_of", missing)
    ran = run("verify", "chip", "-p", "the list", "-n", "4")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.splitlines()[-2:] == [
        "ToolMissing: g++ is missing", "  hint: apt-get install g++"
    ]  # fmt: skip


def test_an_interrupt_is_one_line(run, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulator, "build", None)
    monkeypatch.setattr(compile_module, "quantize", interrupt)
    ran = run("compile", "tiny", "-o", "new", "--bits", "3", "--calibration", "text")
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.splitlines()[-2] == "interrupted"
    assert not Path("new").exists()


def test_a_fault_of_the_program_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr(verify, "verify", None)
    with pytest.raises(TypeError):
        run("verify", "chip", "-p", "the list", "-n", "4")


def test_long_errors_stay_on_one_line(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    name = "a [bold]name[/] of " + "many words " * 10
    ran = run("verify", f"{name}\n\x1b[31m")
    assert f"BadPackage: {name.strip()}" in ran.err.splitlines()[0]
    assert "\x1b" not in ran.err


def test_what_a_model_says_cannot_steer_a_terminal(monkeypatch, capsys):
    from intaglio.cli.screen import write

    write("a\x1b[2Jb\tc\n")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write("a\x1b[2Jb\tc\n\x7f")
    assert capsys.readouterr().out == "a\x1b[2Jb\tc\na\ufffd[2Jb\tc\n\ufffd"
