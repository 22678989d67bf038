"""A chip's simulator from parts: every kind of station is Verilated once and joined in C++.

Verilator copies a module for every place it stands in; thirty layers in one program take minutes
and gigabytes. Here each kind of layer is a program part of its own, and a layer that is idle costs
nothing. :func:`intaglio.verify.verilator.build` makes the same program from the top module; tests
hold the two to the same cycles.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from intaglio.verify.verilator import (
    CONFIGURED,
    JOBS,
    Tool,
    compiler_flags,
    find_tool,
    need_program,
    run,
    verilate,
)

STATIONS = "stations.json"
ASSEMBLED = Path(__file__).with_name("assembled.h")
Progress = Callable[[int, int], None]
"""``progress(done, total)``: parts built."""


def assemble(
    rtl: Path, harness: Path, folder: Path, *, jobs: int = JOBS, progress: Progress | None = None
) -> Path:
    """Build the simulator of the chip in ``rtl`` in ``folder``; return the program.

    ``rtl``: what :func:`intaglio.hardware.emit.emit` wrote. Headers in ``folder`` are found.
    """
    tool, folder = find_tool(), folder.resolve()
    need_program("make", "make")
    compiler_flags()
    stations = json.loads((rtl / STATIONS).read_text("utf-8"))
    ends, layers = stations["ends"], stations["layers"]
    kinds = sorted(set(layers))
    (folder / "stations.h").write_text(stations_header(ends, layers), "utf-8")
    (folder / "Vchip.h").write_text(ASSEMBLED.read_text("utf-8"), "utf-8")
    show, total, done = progress or (lambda *_: None), len(kinds) + 1, 0
    show(0, total)
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda kind: build_part(tool, rtl, kind, folder), kinds):
            done += 1
            show(done, total)
    program = build_ends(tool, rtl, ends, kinds, harness, folder, jobs)
    show(total, total)
    return program


def stations_header(ends: str, layers: Sequence[str]) -> str:
    """The C++ header that says which stations there are."""
    kinds = sorted({ends, *layers})
    lines = ["// The stations of one chip, generated from its stations.json.", "#pragma once"]
    lines += [f'#include "V{kind}.h"' for kind in kinds]
    lines += [
        f"using Ends = V{ends};",
        "template <typename Base, template <typename> typename Of>",
        "std::vector<std::unique_ptr<Base>> make_layers(VerilatedContext* context) {",
        "    std::vector<std::unique_ptr<Base>> made;",
    ]
    for number, kind in enumerate(layers):
        lines.append(f"    made.push_back(std::make_unique<Of<V{kind}>>(context, {number}));")
    return "\n".join([*lines, "    return made;", "}", ""])


def part_folder(folder: Path, kind: str) -> Path:
    """Where the program part of a module is built."""
    return folder / f"part_{kind}"


def build_part(tool: Tool, rtl: Path, kind: str, folder: Path) -> None:
    """Make a library of one module and what it stands on."""
    work = part_folder(folder, kind)
    verilate(tool, [rtl / f"{kind}.v"], kind, work, library_options(rtl))
    make(tool, work, kind, [f"V{kind}__ALL.a"], 1)


def build_ends(
    tool: Tool, rtl: Path, ends: str, kinds: Sequence[str], harness: Path, folder: Path, jobs: int
) -> Path:
    """Make the program: the ends, the harness, and the parts' libraries."""
    work = part_folder(folder, ends)
    includes = " ".join(f"-I{part_folder(folder, kind)}" for kind in kinds)
    libraries = [str(part_folder(folder, kind) / f"V{kind}__ALL.a") for kind in kinds]
    verilate(
        tool, [rtl / f"{ends}.v"], ends, work,
        (*library_options(rtl), "--exe", "-CFLAGS", f"-I{folder} {includes}",
         str(harness.resolve()), *libraries),
    )  # fmt: skip
    make(tool, work, ends, [], jobs)
    return work / f"V{ends}"


def library_options(rtl: Path) -> tuple[str, ...]:
    """Options with which Verilator finds a module in the file of its name."""
    return ("-y", str(rtl.resolve()), "+libext+.v+.sv")


def make(tool: Tool, work: Path, kind: str, targets: Sequence[str], jobs: int) -> None:
    """Compile what :func:`verilate` wrote."""
    fast = " ".join(("-O3", *compiler_flags()))
    run(
        ["make", "-s", "-C", str(work), "-f", f"V{kind}.mk", "-j", str(jobs), f"OPT_FAST={fast}",
         "OPT_SLOW=-O0", "OPT_GLOBAL=-O1", *(CONFIGURED if tool.root else ()), *targets],
        tool.environment, f"compiling {kind}",
    )  # fmt: skip
