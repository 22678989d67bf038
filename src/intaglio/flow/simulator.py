"""A package's RTL as a program: built once per design, kept in the cache."""

import hashlib
import shutil
import time
from pathlib import Path

from intaglio.errors import BadInput, BadPackage
from intaglio.flow.cache import Store
from intaglio.flow.folder import file_hash
from intaglio.flow.package import AGAIN, Package
from intaglio.flow.progress import Progress, silent
from intaglio.plan.chip import ChipPlan
from intaglio.verify.assemble import ASSEMBLED, STATIONS, assemble
from intaglio.verify.simulation import HARNESS, layout_header, write_layout
from intaglio.verify.verilator import build, tool_version, tools

STEP = "building the simulator"
TOP = EXECUTABLE = "chip"


def executable_of(
    package: Package, *, waves: bool = False, progress: Progress = silent
) -> tuple[Path, float]:
    """The simulator of a package's RTL and the seconds its build took (0 from the cache)."""
    started = time.monotonic()
    progress(STEP, 0, "")
    store, key = Store("simulators"), simulator_key(package, waves)
    with store.locked(key, progress):
        found = store.find(key)
        if found is None:
            with store.make(key) as folder:
                build_simulator(package, folder, waves, progress)
    progress(STEP, 1, "")
    return store.root / key / EXECUTABLE, 0.0 if found else time.monotonic() - started


def build_simulator(package: Package, folder: Path, waves: bool, progress: Progress) -> None:
    """Build the program and leave nothing else in ``folder``.

    From parts, unless waves are wanted: those are of the whole chip under one top.
    """
    if not package.verilog:
        raise BadPackage(f"{package.path}: has no Verilog", hint=AGAIN)
    if len(str(folder).split()) > 1:
        raise BadInput(
            f"{folder.parent}: simulators cannot be built in a folder with spaces in its name",
            hint="name another with INTAGLIO_CACHE",
        )
    work = folder / "build"
    work.mkdir()
    write_layout(work, *layout_of(package))
    with tools.end_with_us():
        if waves:
            program = build(package.verilog, TOP, HARNESS, work, waves=True)
        else:
            program = assemble(
                package.path / "rtl", HARNESS, work,
                progress=lambda done, total: progress(
                    STEP, min(done / total, 0.999), f"{done} of {total} parts"
                ),
            )  # fmt: skip
    program.rename(folder / EXECUTABLE)
    shutil.rmtree(work)


def layout_of(package: Package) -> tuple[int, int, ChipPlan | None]:
    """Beat, vocabulary, and the plan where it has side memory: what the harness must know."""
    plan = package.plan
    return plan.beat, plan.architecture.vocabulary, plan if plan.adapter_rank else None


def simulator_key(package: Package, waves: bool) -> str:
    """A hash of everything the program is made from."""
    parts = f"{tool_version()} {waves} {file_hash(HARNESS)} {file_hash(ASSEMBLED)}\n"
    digest = hashlib.sha256(parts.encode())
    digest.update(layout_header(*layout_of(package)).encode())
    for source in (*package.verilog, package.path / "rtl" / STATIONS):
        digest.update(f"{source.name} {file_hash(source)}\n".encode())
    return digest.hexdigest()
