"""Compile: a checkpoint to a chip package."""

import hashlib
import importlib.metadata
import json
import resource
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from intaglio import __version__
from intaglio.architecture import Architecture
from intaglio.checkpoint import Checkpoint, open_checkpoint
from intaglio.errors import BadInput, BadPackage, DoesNotFit
from intaglio.flow.cache import ArrayStore, Store, key_of
from intaglio.flow.folder import sweep, whole_folder
from intaglio.flow.origin import NAMES
from intaglio.flow.package import (
    FORMAT,
    MANIFEST,
    Package,
    copy_package,
    foreign_files,
    is_package,
    manifest_text,
    open_package,
    read_manifest,
    refuse_inside,
    refuse_unwritable,
    stage_entry,
)
from intaglio.flow.progress import Progress, silent
from intaglio.golden.model import IntModel
from intaglio.golden.number import RANK_LIMIT
from intaglio.plan.chip import (
    DEFAULT_CONTEXT,
    MOST_ADAPTERS,
    MOST_SLOTS,
    ChipPlan,
    check_fit,
    in_mm2,
    make_plan,
)
from intaglio.plan.target import Target, target
from intaglio.plan.tiling import MOST_LANES
from intaglio.quantize import QuantizeOptions, forms_of, quantize
from intaglio.quantize.calibrate import default_text

TOOLS = ("amaranth", "numpy", "safetensors", "tokenizers")
BITS = (2, 8)
QUANTIZED = ("bits", "uniform", "context", "calibration", "checkpoint", "base")
"""What of a package's record decides its integers."""
MODEL, HASH = "model.safetensors", "hash"
READING, QUANTIZING, WRITING, PUTTING = (
    "reading the checkpoint", "choosing integers", "writing Verilog and ROM images",
    "putting the package in place",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What a person chooses. ``calibration``: a text, or None for the one that comes along.

    ``bits``: average over the block weights; ``uniform``: the same for every matrix. ``context``:
    None for the model's, at most 2048. ``lanes``: for every fabric, or None for automatic. ``die``:
    mm² that the fabrics' cells must fit. ``adapter_rank``: the largest of an adapter that side
    memory shall hold, 0 for no side memory; ``adapter_count``: so many adapters at once.
    """

    bits: float = 4.0
    uniform: bool = False
    target: str = "generic"
    context: int | None = None
    slots: int = 2
    lanes: int | None = None
    die: float | None = None
    calibration: str | None = None
    adapter_rank: int = 0
    adapter_count: int = 1

    def __post_init__(self) -> None:
        low, high = BITS
        if not low <= self.bits <= high:
            raise BadInput(f"bits must be from {low} to {high}, not {self.bits:g}")
        if self.uniform and self.bits != int(self.bits):
            raise BadInput(f"bits must be a whole number where uniform, not {self.bits:g}")
        if not 1 <= self.slots <= MOST_SLOTS:
            raise BadInput(f"slots must be from 1 to {MOST_SLOTS}, not {self.slots}")
        if self.lanes is not None and not 1 <= self.lanes <= MOST_LANES:
            raise BadInput(f"lanes must be auto or from 1 to {MOST_LANES}, not {self.lanes}")
        if self.die is not None and not 0 < self.die < float("inf"):
            raise BadInput(f"die must be an area in mm2 greater than 0, not {self.die:g}")
        if not 0 <= self.adapter_rank <= RANK_LIMIT:
            raise BadInput(f"adapter rank must be from 0 to {RANK_LIMIT}, not {self.adapter_rank}")
        if not 1 <= self.adapter_count <= MOST_ADAPTERS:
            raise BadInput(
                f"adapter count must be from 1 to {MOST_ADAPTERS}, not {self.adapter_count}"
            )
        if self.adapter_count > 1 and not self.adapter_rank:
            raise BadInput(
                f"adapter count {self.adapter_count} needs side memory to hold them",
                hint="give --adapter-rank, the largest rank of an adapter",
            )
        target(self.target)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came out, and what it took.

    ``source``: the checkpoint's name. ``cached``: nothing had to be computed.
    """

    package: Package
    source: str
    seconds: float
    peak_memory: int
    cached: bool


def compile_model(
    model: str,
    output: Path,
    options: CompileOptions | None = None,
    *,
    base: Path | None = None,
    progress: Progress = silent,
) -> Compiled:
    """Compile ``model`` (a name or a path) to the package ``output``.

    ``base``: a package whose shape (all but calibration and die) the new one takes on, so
    that its base die serves both; of the options only calibration and die count then. The same
    input gives the same bytes; what was compiled before comes from the cache; an interrupted run
    goes on where it stopped.
    """
    started = time.monotonic()
    options = options or CompileOptions()
    path = output.resolve()
    refuse_foreign(output, path)
    progress(READING, 0, "")
    shape = open_package(base) if base else None
    checkpoint = open_checkpoint(model)
    options = options_for(checkpoint.architecture, options, shape)
    label = model_label(model, checkpoint)
    record = compile_record(checkpoint, options, shape)
    key = key_of(compile=record, model=label, tools=tool_versions())
    progress(READING, 1, "")
    store = Store("packages")

    def build(folder: Path) -> None:
        build_package(checkpoint, label, options, shape, record, folder, progress)

    with store.locked(key, progress):
        cached = store.find(key) is not None
        manifest = publish(store, key, path, options.die, progress) if cached else None
        if manifest is None:
            cached = False
            with store.make(key) as folder:
                build(folder)
            manifest = publish(store, key, path, options.die, progress)
    if manifest is None:
        raise BadPackage(f"{store.root / key}: damaged as soon as it was written")
    package = Package(output, manifest)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Compiled(package, checkpoint.source, time.monotonic() - started, peak, cached)


def refuse_foreign(output: Path, path: Path) -> None:
    """Raise :class:`BadInput` where ``output`` cannot be, or would replace what is no package."""
    if not path.name:
        raise BadInput(f"{output}: cannot be a chip package", hint="choose a folder with --output")
    refuse_inside(output)
    refuse_unwritable(output, next(folder for folder in path.parents if folder.exists()))
    if is_package(path):
        if foreign := foreign_files(path):
            raise BadInput(
                f"{output}: holds {foreign[0]}, which is not the package's and would be lost",
                hint="move it away, or choose another name with --output",
            )
        return
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    raise BadInput(
        f"{output}: exists and is not a chip package", hint="choose another name with --output"
    )


def options_for(
    architecture: Architecture, options: CompileOptions, shape: Package | None
) -> CompileOptions:
    """The options in full for a checkpoint; refuses at once what could only fail much later."""
    if shape:
        refuse_other_shape(architecture, shape)
        plan = shape.plan
        options = replace(
            options, context=plan.context, slots=plan.slots, target=plan.target, lanes=None,
            adapter_rank=plan.adapter_rank, adapter_count=plan.adapter_count,
        )  # fmt: skip
    context = options.context
    if context is None:
        context = min(architecture.context, DEFAULT_CONTEXT)
    if not 1 <= context <= architecture.context:
        raise BadInput(
            f"context must be from 1 to the model's {architecture.context}, not {context}"
        )
    refuse_hopeless(architecture, target(options.target), options.die)
    return replace(options, context=context)


def refuse_other_shape(architecture: Architecture, shape: Package) -> None:
    """Raise :class:`BadInput` with the first dimension that is not the base chip's."""
    wanted = shape.plan.architecture.as_dict()
    for name, value in architecture.as_dict().items():
        # the chip's context is one the compiler chose; the model must reach at least as far
        same = value >= wanted[name] if name == "context" else value == wanted[name]
        if not same:
            raise BadInput(
                f"{name} must be the base chip's {wanted[name]}, not {value}",
                hint="compile it without --base",
            )


def refuse_hopeless(architecture: Architecture, process: Target, die: float | None) -> None:
    """Raise :class:`DoesNotFit` where not even the smallest cell for every weight would fit."""
    bounds = [bound for bound in (process.user_area, die) if bound is not None]
    if not bounds:
        return
    if not process.cells:
        raise BadInput(
            f"target {process.name} has no cell area, so --die cannot be checked",
            hint="choose a target with a process, for example sky130",
        )
    weights = architecture.block_parameters + architecture.vocabulary * architecture.width
    least = weights * min(process.cells.values()) / 1e6
    if least > min(bounds):
        raise DoesNotFit(
            f"the cells of {weights:,} weights need at least {in_mm2(least)} on {process.name}, "
            f"{in_mm2(least - min(bounds))} more than the {in_mm2(min(bounds))} there are",
            hint="a smaller model, or another target",
        )


def model_label(model: str, checkpoint: Checkpoint) -> str:
    """What the package calls its model: a name that commands know, else no name of a folder."""
    if model in NAMES:
        return checkpoint.source
    formats = checkpoint.source.rpartition(" (")[2].removesuffix(")")
    return f"{checkpoint.architecture.family} ({formats})"


def compile_record(
    checkpoint: Checkpoint, options: CompileOptions, shape: Package | None
) -> dict[str, Any]:
    """The options in a normal form without paths: with the program they name the result."""
    text = default_text() if options.calibration is None else options.calibration
    record: dict[str, Any] = asdict(replace(options, bits=float(options.bits)))
    del record["die"]  # a bound that is checked, nothing that is made
    record["calibration"] = text_hash(text)
    record["checkpoint"] = checkpoint.content_hash
    record["base"] = shape_hash(shape) if shape else None
    if shape:
        record["bits"], record["uniform"] = None, None
    return record


def shape_hash(shape: Package) -> str:
    """SHA-256 of everything that a chip under the same shape takes over."""
    forms = {name: asdict(form) for name, form in forms_of(shape.model).items()}
    return text_hash(json.dumps([shape.plan.as_dict(), forms], sort_keys=True))


def text_hash(text: str) -> str:
    """SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def tool_versions() -> dict[str, str]:
    """The versions of what makes the bytes."""
    versions = {name: importlib.metadata.version(name) for name in TOOLS}
    return {"intaglio": __version__, **versions}


def build_package(
    checkpoint: Checkpoint,
    label: str,
    options: CompileOptions,
    shape: Package | None,
    record: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> None:
    """Fill ``folder`` with a whole package."""
    checkpoint.check()
    # these two take seconds to import, which a package from the cache needs not wait for
    from intaglio.hardware.emit import emit
    from intaglio.hardware.images import write_images

    progress(QUANTIZING, 0, "")
    model = integer_model(checkpoint, options, shape, record, progress)
    plan = shape_of(model, shape.plan) if shape else plan_of(model, options)
    progress(QUANTIZING, 1, "")
    progress(WRITING, 0, "Verilog")
    model.save(folder / MODEL)
    checkpoint.tokenizer.save(folder / "tokenizer")
    (folder / "plan.json").write_text(json.dumps(plan.as_dict(), indent=1) + "\n", "utf-8")
    emit(plan, folder / "rtl")
    progress(WRITING, 0.5, "ROM images")
    write_images(model, plan, folder / "rtl" / "rom")
    progress(WRITING, 0.9, "hashes")
    figures = {
        "parameters": checkpoint.architecture.parameters,
        "bits_per_weight": model.bits_per_weight,
    }
    manifest = {
        "format": FORMAT,
        "model": label,
        "hash": model.hash(),
        "stages": {"compile": stage_entry(folder, record, tool_versions(), figures)},
    }
    (folder / MANIFEST).write_text(manifest_text(manifest), "utf-8")
    progress(WRITING, 1, "")


def integer_model(
    checkpoint: Checkpoint,
    options: CompileOptions,
    shape: Package | None,
    record: dict[str, Any],
    progress: Progress,
) -> IntModel:
    """The checkpoint in integers; chips that differ only in lanes or side memory share it."""
    key = key_of(integers={name: record[name] for name in QUANTIZED}, tools=tool_versions())
    store, steps = Store("integers"), ArrayStore(key)
    with store.locked(key, progress):
        model = kept_model(store, key)
        if model is None:
            model = quantize(
                checkpoint, quantize_options(options, shape), cache=steps,
                progress=lambda what, share: progress(QUANTIZING, min(share, 0.999), what),
            )  # fmt: skip
            with store.make(key) as folder:
                model.save(folder / MODEL)
                (folder / HASH).write_text(model.hash(), "ascii")
        steps.clear()
    return model


def kept_model(store: Store, key: str) -> IntModel | None:
    """The model that the cache holds; None where there is none or it is damaged."""
    folder = store.find(key)
    if folder is None:
        return None
    try:
        model = IntModel.load(folder / MODEL)
        if model.hash() == (folder / HASH).read_text("ascii"):
            return model
    except (BadPackage, OSError, UnicodeDecodeError):
        pass
    store.drop(key)
    return None


def quantize_options(options: CompileOptions, shape: Package | None) -> QuantizeOptions:
    """What ``quantize`` is asked for."""
    chosen = QuantizeOptions(
        bits=options.bits, uniform=options.uniform, context=options.context,
        calibration=options.calibration,
    )  # fmt: skip
    if shape is None:
        return chosen
    return replace(chosen, widths=shape.model.widths, forms=forms_of(shape.model))


def plan_of(model: IntModel, options: CompileOptions) -> ChipPlan:
    """The chip that the options ask for."""
    return make_plan(
        model, options.target, context=options.context, slots=options.slots, lanes=options.lanes,
        die=options.die, adapter_rank=options.adapter_rank, adapter_count=options.adapter_count,
    )  # fmt: skip


def shape_of(model: IntModel, base: ChipPlan) -> ChipPlan:
    """The base chip's plan, after a check that ``model`` has its shape."""
    plan = make_plan(
        model, base.target, context=base.context, slots=base.slots, beat=base.beat,
        positions=base.positions, base=base,
    )  # fmt: skip
    if plan != base:
        raise BadInput(
            "the model does not have the base chip's shape", hint="compile it without --base"
        )
    return plan


def publish(
    store: Store, key: str, path: Path, die: float | None, progress: Progress
) -> dict[str, Any] | None:
    """Put the cached package ``key`` at ``path``, unless it is there already; its manifest.

    None where the cached one is damaged; it is then forgotten. Raises :class:`DoesNotFit` where its
    cells exceed ``die``.
    """
    progress(PUTTING, 0, "")
    source = store.root / key
    try:
        manifest = read_manifest(source)
        plan = Package(source, manifest).plan
        check_fit(plan, target(plan.target), die)
        if found := held(path, manifest):
            manifest = found
            sweep(path)  # the one before, where a crash came when this one was in place
        else:
            with whole_folder(path) as folder:
                copy_package(source, folder)
    except BadPackage:
        store.drop(key)
        return None
    progress(PUTTING, 1, "")
    return manifest


def held(path: Path, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest at ``path`` if it is of this compile, undamaged; later stages may be there."""
    try:
        if compiled_part(read_manifest(path)) != compiled_part(manifest):
            return None
        return open_package(path).manifest
    except BadPackage:
        return None


def compiled_part(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without the stages after compile."""
    return {**manifest, "stages": {"compile": manifest["stages"]["compile"]}}
