"""A package's RTL as a program: built once per design, kept in the cache."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from intaglio.flow.cache import Store
from intaglio.flow.folder import file_hash
from intaglio.flow.package import Package
from intaglio.verify.simulation import HARNESS, Simulation, write_layout
from intaglio.verify.verilator import build, tool_version

Progress = Callable[[str, int, int], None]
STEP = "building the simulator"
EXECUTABLE = "chip"


def executable_of(
    package: Package, *, waves: bool = False, progress: Progress | None = None
) -> tuple[Path, float]:
    """The simulator of a package's RTL and the seconds its build took (0 from the cache)."""
    show = progress or (lambda *_: None)
    sources = package.verilog
    store, key = Store("simulators"), simulator_key(sources, waves)
    found = store.find(key)
    show(STEP, int(found is not None), 1)
    if found:
        return found / EXECUTABLE, 0.0
    started = time.monotonic()
    with store.make(key) as folder:
        work = folder / "build"
        work.mkdir()
        plan = package.plan
        write_layout(work, plan.beat, plan.architecture.vocabulary)
        made = build(sources, "chip", HARNESS, work, waves=waves)
        made.rename(folder / EXECUTABLE)
        remove_tree(work)
    seconds = time.monotonic() - started
    show(STEP, 1, 1)
    return store.root / key / EXECUTABLE, seconds


def simulator_key(sources: list[Path], waves: bool) -> str:
    """A hash of everything the program is made from."""
    digest = hashlib.sha256(f"{tool_version()} {waves} {file_hash(HARNESS)}".encode())
    for source in sources:
        digest.update(f"{source.name} {file_hash(source)}\n".encode())
    return digest.hexdigest()


def open_simulation(package: Package, progress: Progress | None = None) -> Simulation:
    """Start the chip, ready to be talked to."""
    executable, _ = executable_of(package, progress=progress)
    return Simulation(executable, package.images)


def remove_tree(folder: Path) -> None:
    """Delete a folder and what is in it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()
