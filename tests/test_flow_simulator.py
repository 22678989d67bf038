"""Simulators: built once per design, whatever the model; flow.verify around them."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from intaglio.errors import BadInput, BadPackage, IntaglioError
from intaglio.flow import simulator, verify
from intaglio.flow.package import Package, open_package
from intaglio.flow.simulator import executable_of
from intaglio.flow.verify import verify_package, whole_file
from intaglio.golden.sample import Sampling
from intaglio.plan.schedule import Schedule, User
from intaglio.verify.lockstep import Verdict
from intaglio.verify.simulation import Difference


@pytest.fixture
def package(made_home, tmp_path) -> Package:
    return open_package(shutil.copytree(made_home(64) / "chip", tmp_path / "chip"))


@pytest.fixture
def builds(tmp_path, monkeypatch) -> list:
    """Builds are noted, not done."""
    done = []

    def build(sources, top, harness, folder, *, waves=False):
        done.append((top, waves))
        assert (folder / "chip_layout.h").is_file()
        (folder / "obj").mkdir()
        program = folder / "obj" / f"V{top}"
        program.write_text("#!/bin/sh\nexit 0\n")
        return program

    def assemble(rtl, harness, folder, *, progress):
        progress(1, 2)
        return build(sorted(rtl.glob("*.v")), "chip", harness, folder)

    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(simulator, "build", build)
    monkeypatch.setattr(simulator, "assemble", assemble)
    monkeypatch.setattr(simulator, "tool_version", lambda: "verilator 5.48")
    return done


def test_one_build_per_design(package, builds, monkeypatch):
    path, seconds = executable_of(package)
    assert seconds > 0
    assert path.is_file()
    assert [p.name for p in path.parent.iterdir()] == ["chip"]
    assert executable_of(package) == (path, 0.0)
    assert builds == [("chip", False)]
    # another model's ROM images ask for no other program
    (package.images / "q.0.hex").write_text("0\n")
    assert executable_of(package)[0] == path

    assert executable_of(package, waves=True)[0] != path
    (package.path / "rtl" / "chip.v").write_text("module chip; wire more; endmodule\n")
    assert executable_of(package)[0] != path
    monkeypatch.setattr(simulator, "tool_version", lambda: "verilator 5.50")
    executable_of(package)
    (package.path / "rtl" / "stations.json").write_text("[]")
    executable_of(package)
    assert builds == [("chip", False), ("chip", True), *[("chip", False)] * 3]


def test_a_build_that_fails_leaves_nothing(package, builds, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise IntaglioError("translating chip failed: %Error: ...")

    monkeypatch.setattr(simulator, "assemble", fail)
    with pytest.raises(IntaglioError, match="translating"):
        executable_of(package)
    assert [p.name for p in (tmp_path / "cache" / "simulators").iterdir() if p.is_dir()] == []


BUILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from intaglio.flow import simulator
from intaglio.flow.package import open_package
from intaglio.verify import verilator

def compiler(name):
    script = f"sleep 100 & echo $! > {name}.new; mv {name}.new {name}; wait"
    verilator.run(["sh", "-c", script], {}, "compiling")

def assemble(*arguments, **options):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compiler, ("first", "second", "third")))

def build(*arguments, **options):
    compiler("first")

simulator.assemble, simulator.build = assemble, build
simulator.tool_version = lambda: "verilator 5.48"
simulator.executable_of(open_package(Path("chip")), waves=sys.argv[1] == "waves")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", ["parts", "waves"])
def test_a_signal_to_the_program_alone_ends_the_compilers(package, tmp_path, way, number):
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, way], cwd=tmp_path, stderr=subprocess.DEVNULL,
        env={**os.environ, "INTAGLIO_CACHE": str(tmp_path / "cache")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    files = [tmp_path / name for name in ("first", "second")[: 2 if way == "parts" else 1]]
    wait_until(lambda: all(file.exists() for file in files))
    process.send_signal(number)
    assert process.wait(20) == -number
    for file in files:
        wait_until(lambda file=file: ended(int(file.read_text())))
    assert not (tmp_path / "third").exists()
    if number == signal.SIGINT:
        assert [p for p in (tmp_path / "cache" / "simulators").iterdir() if p.is_dir()] == []


def wait_until(true: Callable[[], bool]) -> None:
    """Look for at most a minute."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(pid: int) -> bool:
    """Whether a process is no more, or waits only for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_package_without_verilog(package, builds):
    stage = package.manifest["stages"]["compile"]
    files = {name: h for name, h in stage["files"].items() if not name.endswith((".v", ".sv"))}
    manifest = {**package.manifest, "stages": {"compile": {**stage, "files": files}}}
    with pytest.raises(BadPackage, match="has no Verilog"):
        executable_of(Package(package.path, manifest))


VERDICT = Verdict(
    equal=True, positions=9, generated=4, first_difference=None, seconds=0.5, planned_cycles=100,
    simulated_cycles=100, cycles_per_token=20.0, transcripts=((4, 5, 6, 7),),
)  # fmt: skip


@pytest.fixture
def asked(package, monkeypatch) -> list:
    """What lockstep is asked."""
    calls = []

    def prove(
        model, executable, rom, prompt, count, sampling, *, planned_cycles, progress, waves, plan,
        adapters, adapter,
    ):  # fmt: skip
        assert (plan, adapters, adapter) == (package.plan, None, None)
        calls.append((prompt, count, sampling, planned_cycles, rom))
        if waves:
            waves.write_text("waves")
        for number in range(count):
            progress(number)
        return VERDICT

    monkeypatch.setattr(verify, "verify", prove)
    return calls


def test_a_proof(package, builds, asked, tmp_path):
    steps = []
    proof = verify_package(
        package, "the list", 4, sampling=Sampling(seed=1), waves=tmp_path / "w.fst",
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    ids = package.tokenizer.encode("the list")
    planned = Schedule(package.plan).run([User(len(ids), 4, Sampling(seed=1))])
    assert asked == [(ids, 4, Sampling(seed=1), planned, package.images)]
    assert (tmp_path / "w.fst").read_text() == "waves"
    assert builds == [("chip", True)]
    assert proof.text == package.tokenizer.decode([4, 5, 6, 7])
    assert proof.as_dict() == {
        **VERDICT.as_dict(), "build_seconds": proof.build_seconds, "text": proof.text,
        "adapter": None,
    }  # fmt: skip
    assert [step for step in steps if step[0] == verify.STEP] == [
        (verify.STEP, 0, f"{len(ids)} prompt tokens"),
        *[(verify.STEP, min(n / 4, 0.999), f"token {n} of 4") for n in range(1, 5)],
        (verify.STEP, 1, ""),
    ]


def test_a_chat_is_laid_out(package, builds, asked):
    verify_package(package, "the list", 4, chat=True)
    assert asked[0][0] == package.tokenizer.encode_chat([{"role": "user", "content": "the list"}])


def test_a_difference_is_no_exception(package, builds, asked, monkeypatch):
    where = Difference(0, 3, 1, "gate", 17, 5, 4)
    verdict = dataclasses.replace(VERDICT, equal=False, first_difference=where)
    monkeypatch.setattr(verify, "verify", lambda *arguments, **options: verdict)
    values = verify_package(package, "the list", 4).as_dict()
    assert values["equal"] is False
    assert values["first_difference"] == where.as_dict()


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [("", 4, "the prompt is empty"), ("x", 0, "at least 1"), ("x", 65, "the chip has 64")],
)
def test_what_cannot_be_run_is_refused_before_a_build(package, builds, prompt, count, message):
    with pytest.raises(BadInput, match=message):
        verify_package(package, prompt, count)
    assert builds == []


def test_waves_that_cannot_be_written_are_refused_before_a_build(package, builds, tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "w.fst"):
        with pytest.raises(BadInput, match="cannot be written"):
            verify_package(package, "x", 1, waves=path)
    assert builds == []


def test_a_cache_with_spaces_in_its_name(package, tmp_path, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(BadInput, match="cannot be built in a folder with spaces"):
        executable_of(package)


def test_a_file_that_is_no_place_for_waves(tmp_path):
    (tmp_path / "chip").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "chip" / "plan.json")
    for name, what in (
        ("chip/w.fst", "inside the chip package"), ("link", "inside the chip package"),
        ("pipe", "no ordinary file"), ("chip", "inside the chip package"),
        ("none/w.fst", "there is no folder"),
    ):  # fmt: skip
        with (
            pytest.raises(BadInput, match=what),
            whole_file(tmp_path / name, tmp_path / "chip"),
        ):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chip", "link", "pipe"]


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "w.fst"
    path.write_text("old")
    with suppress(KeyboardInterrupt), whole_file(path, tmp_path / "chip") as partial:
        assert partial
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["w.fst"]
