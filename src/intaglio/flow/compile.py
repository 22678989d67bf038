"""Compile: a checkpoint to a chip package."""

import hashlib
import importlib.metadata
import json
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from intaglio.checkpoint import Checkpoint, open_checkpoint
from intaglio.errors import BadInput, BadPackage
from intaglio.flow.cache import ArrayStore, Store, key_of
from intaglio.flow.folder import whole_folder
from intaglio.flow.package import (
    FORMAT,
    MANIFEST,
    Package,
    is_package,
    manifest_text,
    open_package,
    stage_entry,
)
from intaglio.golden.model import IntModel
from intaglio.hardware.emit import emit
from intaglio.hardware.images import write_images
from intaglio.plan.chip import ChipPlan, make_plan
from intaglio.quantize import QuantizeOptions, default_calibration, quantize

Progress = Callable[[str, int, int], None]
"""``progress(step, done, total)``."""

TOOLS = ("amaranth", "numpy", "safetensors", "tokenizers")


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What a person chooses. ``calibration``: a text, or None for the shipped one.

    ``lanes``: for every fabric, or None for automatic. ``die``: mm² the fabrics' cells must fit.
    """

    bits: float = 4.0
    uniform: bool = False
    target: str = "generic"
    context: int | None = None
    slots: int = 2
    lanes: int | None = None
    die: float | None = None
    calibration: str | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came out, and what it took. ``cached``: nothing had to be computed."""

    package: Package
    seconds: float
    peak_memory: int
    cached: bool


def compile_model(
    model: str,
    output: Path,
    options: CompileOptions | None = None,
    *,
    base: Path | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Compile ``model`` (a name or a path) to the package ``output``.

    ``base``: a package whose shape (bits, lanes, context, slots) the new one takes on, so that its
    base die serves both. The same input gives the same bytes; what was compiled before comes from
    the cache; an interrupted run goes on where it stopped.
    """
    started = time.monotonic()
    options = options or CompileOptions()
    show = progress or (lambda *_: None)
    if output.exists() and not is_package(output):
        raise BadInput(f"{output}: exists and is not a chip package", hint="choose another name")
    show("reading the checkpoint", 0, 1)
    checkpoint = open_checkpoint(model)
    shape = open_package(base) if base else None
    record = compile_record(checkpoint, options, shape)
    key = key_of(compile=record)
    store = Store("packages")
    cached = _intact(store, key)
    if cached is None:
        steps = ArrayStore(key)
        with store.make(key) as folder:
            build_package(checkpoint, options, shape, record, folder, steps, show)
        steps.clear()
    show("writing the package", 0, 1)
    if not _same(output, store.root / key):
        with whole_folder(output) as folder:
            shutil.copytree(store.root / key, folder, dirs_exist_ok=True)
    show("writing the package", 1, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Compiled(open_package(output), time.monotonic() - started, peak, cached is not None)


def compile_record(
    checkpoint: Checkpoint, options: CompileOptions, shape: Package | None
) -> dict[str, object]:
    """The options in a normal form without paths: they name the result, with the program."""
    text = default_calibration() if options.calibration is None else options.calibration
    record = asdict(replace(options, calibration=None))
    record["calibration"] = hashlib.sha256(text.encode()).hexdigest()
    record["checkpoint"] = checkpoint.content_hash
    record["base"] = shape.manifest["stages"]["compile"]["files"]["plan.json"] if shape else None
    return record


def build_package(
    checkpoint: Checkpoint,
    options: CompileOptions,
    shape: Package | None,
    record: dict[str, object],
    folder: Path,
    steps: ArrayStore,
    show: Progress,
) -> None:
    """Fill ``folder`` with a whole package."""
    model = quantize(
        checkpoint,
        QuantizeOptions(
            bits=options.bits, uniform=options.uniform, calibration=options.calibration,
            context=options.context, base=shape.model if shape else None,
        ),
        progress=show,
        cache=steps,
    )  # fmt: skip
    plan = shape_of(model, shape.plan) if shape else plan_of(model, options)
    show("writing Verilog and ROM images", 0, 1)
    model.save(folder / "model.safetensors")
    checkpoint.tokenizer.save(folder / "tokenizer")
    (folder / "plan.json").write_text(json.dumps(plan.as_dict(), indent=1) + "\n", "utf-8")
    emit(plan, folder / "rtl")
    write_images(model, plan, folder / "rtl" / "rom")
    tools = {name: importlib.metadata.version(name) for name in TOOLS}
    manifest = {
        "format": FORMAT,
        "model": checkpoint.source,
        "hash": model.hash(),
        "stages": {"compile": stage_entry(folder, record, tools)},
    }
    (folder / MANIFEST).write_text(manifest_text(manifest), "utf-8")
    show("writing Verilog and ROM images", 1, 1)


def plan_of(model: IntModel, options: CompileOptions) -> ChipPlan:
    """The chip that the options ask for."""
    return make_plan(
        model, options.target, context=options.context, slots=options.slots, lanes=options.lanes,
        die=options.die,
    )  # fmt: skip


def shape_of(model: IntModel, base: ChipPlan) -> ChipPlan:
    """The base chip's plan, after a check that ``model`` has its shape."""
    if model.architecture != base.architecture:
        raise BadInput(
            "the model's architecture is not the base chip's", hint="compile it without --base"
        )
    plan = make_plan(
        model, base.target, context=base.context, slots=base.slots, beat=base.beat,
        positions=base.positions, base=base,
    )  # fmt: skip
    if plan != base:
        raise BadInput(
            "the model does not have the base chip's shape", hint="compile it without --base"
        )
    return plan


def _intact(store: Store, key: str) -> Package | None:
    """The cached package of ``key``; a damaged one is forgotten."""
    path = store.find(key)
    if path is None:
        return None
    try:
        return open_package(path)
    except BadPackage:
        store.drop(key)
        return None


def _same(output: Path, cached: Path) -> bool:
    """Whether ``output`` already is the cached package, undamaged."""
    try:
        return open_package(output).manifest == open_package(cached).manifest
    except BadPackage:
        return False
