"""The command line as a process: signals, pipes, terminals, start-up."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_chip import TEXT, environment, run_quick

from intaglio.cli.program import interrupted

PROGRAM = [sys.executable, str(Path(__file__).with_name("tiny_chip.py"))]


@pytest.fixture(scope="module")
def home(made_home, tmp_path_factory) -> Path:
    folder = shutil.copytree(made_home(4096), tmp_path_factory.mktemp("process") / "home")
    (folder / "text").write_text(TEXT)
    return folder


@pytest.fixture(autouse=True)
def surroundings(home, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(home / "cache"))
    monkeypatch.chdir(home)


def start(*words: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *words], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=hear_interrupts, **options,
    )  # fmt: skip


def hear_interrupts() -> None:
    """As in a terminal: a background job's interrupts would be ignored, and so by its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "intaglio", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout[:11]) == (0, "intaglio 0.")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_streams_closed_by_whoever_started_it(closed):
    command = f'"$@" generate chip -p "the list" -n 2 --json {closed}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *PROGRAM], env=environment(), capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert ("tokens" in done.stdout) == (closed != ">&-")


def test_text_comes_as_it_is_made_and_the_reader_may_leave():
    process = start("generate", "chip", "-p", "the list", "-n", "1500", "--engine", "golden")
    assert process.stdout
    assert process.stdout.read(8) == "the list"
    assert process.poll() is None
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_ctrl_c():
    process = start("generate", "chip", "-p", "the list", "-n", "1500", "--engine", "golden")
    assert process.stdout
    process.stdout.read(8)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted\n"


MAIN = "from intaglio.cli import main; main()"  # as the installed `intaglio` begins
SLOW = """
import time
print("importing", flush=True)
try:
    time.sleep(60)
except BaseException:
    raise ImportError("module in C failed to import") from None
"""


@pytest.mark.parametrize("how", [["-m", "intaglio"], ["-c", MAIN]], ids=["module", "program"])
@pytest.mark.parametrize("module", ["typer", "rich", "numpy"])
def test_ctrl_c_while_modules_are_imported(tmp_path, module, how):
    (tmp_path / f"{module}.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, *how, "generate", "chip"], env={**environment(), "PYTHONPATH": tmp_path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


LOST = """
import os, signal, sys, time
from intaglio.cli import main
from intaglio.cli.commands import app

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

@app.command()
def destructor():
    Dropping()
    time.sleep(60)

@app.command()
def module_in_c():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt as interrupt:
        raise SystemError("returned a result with an exception set") from interrupt

main()
"""


@pytest.mark.parametrize("where", ["destructor", "module-in-c"])
def test_ctrl_c_where_python_loses_it(where):
    done = subprocess.run(
        [sys.executable, "-c", LOST, where], capture_output=True, text=True, timeout=50,
        preexec_fn=hear_interrupts,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["compile", "tiny", "-o", "new"], True),
        (["demo"], True),
        (["verify", "compile"], False),
        (["generate", "chip", "-p", "demo"], False),
        (["--help"], False),
        ([], False),
    ],
)
def test_an_interrupt_says_what_is_kept(words, kept, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["intaglio", *words])
    assert interrupted() == 130
    hint = "  hint: what compile has finished is kept: run it again to go on\n"
    assert capsys.readouterr().err == "interrupted\n" + (hint if kept else "")


COMPILE = "compile tiny -o again --bits 4 --uniform --calibration text"
GENERATE = "generate chip -p list -n 2"


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run ``intaglio``, its streams as a shell's command says."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {command}', "sh", *PROGRAM], env=environment(), capture_output=True,
        text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command", ["--version", "--help", COMPILE, GENERATE, f"{GENERATE} --json"]
)
def test_a_full_disk_takes_no_results(command):
    done = in_shell(f"{command} >/dev/full")
    assert done.returncode == 2
    *steps, line = done.stderr.splitlines()
    assert re.fullmatch("system: (standard output: )?No space left on device", line)
    assert all(re.fullmatch(r".* \.\.\.|.*: done in .* s", step) for step in steps)
    both = in_shell(f"{command} >/dev/full 2>/dev/full")
    assert (both.returncode, both.stderr) == (2, "")


@pytest.mark.parametrize("command", ["engrave", "verify nowhere", COMPILE, GENERATE])
def test_a_full_disk_takes_no_errors_and_remarks(command):
    assert in_shell(f"{command} 2>/dev/full").returncode == 2


@pytest.mark.parametrize(
    ("words", "stream", "code"),
    [(["--help"], "stdout", 141), (["verify", "nowhere"], "stderr", 2)],
)
def test_nobody_reads_what_is_said_in_colours(words, stream, code):
    process = start(*words)
    getattr(process, stream).close()
    rest = process.stderr if stream == "stdout" else process.stdout
    assert rest
    assert rest.read() == ""
    rest.close()
    assert process.wait(60) == code


def test_ctrl_c_ends_an_answer_and_not_the_talk():
    process = start("chat", "chip", "-n", "1500", "--engine", "golden", stdin=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write("the list\n")
    process.stdin.flush()
    read_until(process.stdout, "chip> ")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    read_until(process.stdout, "you> ")
    process.stdin.write("\n")
    process.stdin.close()
    process.stdout.close()
    assert process.stderr
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0, err
    (count,) = re.findall(r"(\d+) tokens in ", err)
    assert int(count) < 1500


def read_until(stream, end: str) -> None:
    said = ""
    while not said.endswith(end):
        piece = stream.read(1)
        assert piece, said
        said += piece


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_any_locale(locale, monkeypatch):
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    done = run_quick(["generate", "chip", "-p", "é list", "-n", "30", "--temperature", "5"])
    assert done.returncode == 0, done.stderr
    assert run_quick(["generate", "chip", "-p", "é", "-n", "3", "--json"]).returncode == 0


def test_help_comes_fast():
    """Nothing heavy is imported for it."""
    code = (
        "import sys; sys.argv = ['intaglio', '--help']\n"
        "from intaglio.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'amaranth', 'numba', 'scipy', 'tokenizers', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_compile_from_the_cache_imports_no_hardware():
    words = ["compile", "tiny", "-o", "again", "--bits", "4", "--uniform", "--calibration", "text"]
    code = (
        f"import sys; sys.argv = ['intaglio', *{words}]\n"
        "from intaglio.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'amaranth.back' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "from the cache" in done.stdout


def test_bars_on_a_terminal_and_nothing_of_them_on_stdout():
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "compile", "tiny", "-o", "bars", "--bits", "4", "--calibration", "text",
         "--context", "77", "--uniform"],
        env={**environment(), "TERM": "xterm", "COLUMNS": "100"}, stdout=subprocess.PIPE,
        stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(master, 65536):
            shown += piece
    except OSError:
        pass  # the terminal's other end is closed
    os.close(master)
    assert process.stdout
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0
    assert out.startswith(b"tiny (from f32): ")
    assert b"\x1b" not in out
    text = shown.decode()
    for step in ("reading the checkpoint", "choosing integers", "ROM images", "100%"):
        assert step in text


def test_what_talks_imports_no_quantizer():
    """It takes a second and 60 MB that ``generate`` and ``serve`` have no use for."""
    code = (
        "import sys, intaglio.flow.talk, intaglio.serve.server, intaglio.serve.served\n"
        "heavy = {'numba', 'scipy', 'klayout', 'gdstk'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
