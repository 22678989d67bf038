"""Choose: which chip a plan is of, by the options, by search, or as many dies as it takes."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from intaglio.architecture import Architecture
from intaglio.checkpoint import architecture_alone, open_checkpoint
from intaglio.errors import BadInput, DoesNotFit, UnsupportedModel
from intaglio.flow.package import Package, is_package, open_package
from intaglio.plan.chip import DEFAULT_CONTEXT, DEFAULT_SLOTS, MOST_SLOTS
from intaglio.plan.outline import Outline, outline, spine, widest_beat
from intaglio.plan.preset import Preset, preset, preset_names, read_preset
from intaglio.plan.process import Process, process
from intaglio.plan.tiling import DIGITS, GROUPS
from intaglio.quantity import Quantity, check_within
from intaglio.silicon.accuracy import narrowest
from intaglio.silicon.physical import Physical, figures
from intaglio.silicon.request import Choices
from intaglio.silicon.search import Bounds, Found, Search
from intaglio.silicon.several import Several, room_of, several

DEFAULT_TARGET = "n6"
DEFAULT_BITS = 4
DEFAULT_LOSS = 10.0
MOST_POSITIONS = 64
MOST_DIES = 1024
MOST_ROWS = 400
"""Of a layer of a chip too large for a die: beyond, a row more saves next to nothing."""
SHRINK = 0.97
"""By how much less area is asked for where the dies of a search come out too many."""


LIMITS = {
    "die": (0.01, 70_000, "mm2"),  # a wafer of 300 mm
    "power": (1e-6, 1e6, "W"),
    "loss": (0.01, 1000, "%"),
}
"""What a person may ask for."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a person chooses; None for the default.

    ``target``: a process or the path of a .yaml. ``die`` (mm²), ``power`` (W, one user): bounds.
    ``dies``: that the chip may take. ``bits``: of the layers' weights; by default the fewest whose
    expected growth of perplexity is at most ``loss`` percent. ``rows``: of a layer; by default, as
    ``positions`` (that attention takes per cycle) and ``beat`` (elements of a stream per cycle),
    those of the fastest chip under the bounds.
    """

    target: str | None = None
    die: float | None = None
    power: float | None = None
    context: int | None = None
    slots: int | None = None
    bits: int | None = None
    rows: int | None = None
    positions: int | None = None
    beat: int | None = None
    dies: int | None = None
    loss: float | None = None
    choices: Choices = field(default_factory=Choices)

    def __post_init__(self) -> None:
        for name, (low, high, unit) in LIMITS.items():
            value = getattr(self, name)
            if value is not None:
                check_within(name, value, low, high, unit)
        if self.slots is not None and not 1 <= self.slots <= MOST_SLOTS:
            raise BadInput(f"slots must be from 1 to {MOST_SLOTS}, not {self.slots}")
        if self.dies is not None and not 1 <= self.dies <= MOST_DIES:
            raise BadInput(f"dies must be from 1 to {MOST_DIES}, not {self.dies}")
        if self.bits is not None and self.bits not in DIGITS:
            raise BadInput(f"bits must be one of {', '.join(map(str, DIGITS))}, not {self.bits}")
        if self.context is not None and self.context < 1:
            raise BadInput(f"context must be at least 1, not {self.context}")
        if self.rows is not None and self.dies is not None:
            raise BadInput(
                "give --rows or --dies, not both", hint="rows say how many dies it takes"
            )

    @property
    def shape(self) -> dict[str, Any]:
        """What decides the chip's shape, as far as it was said."""
        names = ("context", "slots", "bits", "loss", "rows", "positions", "beat", "dies")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


@dataclass(frozen=True, slots=True)
class Model:
    """What is planned: a preset, an architecture, or a chip package's plan.

    ``growth``: of a package's perplexity, where it was evaluated.
    """

    title: str
    parameters: int
    active: int
    preset: Preset | None
    architecture: Architecture
    package: Outline | None = None
    growth: Quantity | None = None

    @property
    def source(self) -> Preset | Architecture:
        """What an outline is made of."""
        return self.preset or self.architecture


def open_model(name: str) -> Model:
    """A preset by its name or file, a chip package's folder, a checkpoint, or its config.json
    alone; no weight is read.

    Raises :class:`BadInput` for what is none of them.
    """
    path = Path(name)
    if name in preset_names() or (path.suffix == ".yaml" and path.is_file()):
        made = preset(name) if name in preset_names() else read_preset(path)
        return Model(made.title, made.parameters, made.active, made, made.architecture)
    if name and is_package(path):
        package = open_package(path)
        a = package.plan.architecture
        return Model(package.source, package.parameters, package.parameters, None, a,
                     Outline.of(package.plan), growth_of(package))  # fmt: skip
    if not (name and path.exists()) and name not in ("bundled-float", "smollm2"):
        raise BadInput(
            f"model must be a preset, a chip, or a checkpoint's folder or .gguf, not {name!r}",
            hint=f"presets: {', '.join(preset_names())}; or a config.json, or a preset's .yaml",
        )
    a = described(path)
    if a is not None:
        return Model(titled(path), a.parameters, a.parameters, None, a)
    checkpoint = open_checkpoint(name)
    a = checkpoint.architecture
    return Model(checkpoint.source, a.parameters, a.parameters, None, a)


def described(path: Path) -> Architecture | None:
    """The architecture of a config.json without weights; None where there are any."""
    try:
        return architecture_alone(path)
    except UnsupportedModel as error:
        raise UnsupportedModel(
            error.message,
            hint=error.hint or "state the architecture in a .yaml (docs/silicon.md, Presets)",
        ) from None


def titled(path: Path) -> str:
    """The folder that an architecture stands in, for a config.json is named as all others."""
    full = path.resolve()
    return full.name if full.is_dir() else full.parent.name


def growth_of(package: Package) -> Quantity | None:
    """Growth of perplexity as `intaglio evaluate` measured it, percent; None where it did not."""
    found = package.evaluation
    if found is None:
        return None
    text = found["text"]
    return Quantity(
        found["growth_percent"], "%", "measured",
        f"intaglio evaluate: {found['tokens']:,} tokens of {text['name']}, {text['bytes']:,} bytes "
        f"(SHA-256 {text['sha256'][:16]}), by the {found['engine']}",
    )  # fmt: skip


def target_of(model: Model, options: PlanOptions) -> Process:
    """The process that was asked for, the package's own if it has one, or the default."""
    if options.target is not None:
        return process(options.target)
    own = model.package.plan.target if model.package else "generic"
    return process(DEFAULT_TARGET if own == "generic" else own)


@dataclass(frozen=True)
class Chosen:
    """The chip of a plan with its figures.

    ``cut``: it on several dies, where one does not hold it. ``question``, ``found``: the search
    that found it, where one did.
    """

    physical: Physical
    cut: Several | None = None
    question: Search | None = None
    found: Found | None = None


def area_limit(own: Process, options: PlanOptions) -> tuple[str, float]:
    """What limits a die, and to how many mm²: the smallest limit there is."""
    limits = {"die": options.die, "reticle": own["reticle"].value,
              "user_area": own["user_area"].value}  # fmt: skip
    known = {name: limit for name, limit in limits.items() if limit is not None}
    if not known:
        raise BadInput(
            f"unknown: {own['reticle'].blocked_by}", hint="say with --die how large a die may be"
        )
    name = min(known, key=lambda key: known[key])
    return name, known[name]


def shape_of(model: Model, options: PlanOptions) -> dict[str, Any]:
    """Context, slots and bits as an outline takes them. Raises :class:`BadInput`."""
    context = options.context
    if context is None:
        context = min(model.architecture.context, DEFAULT_CONTEXT)
    bits = options.bits
    if bits is None:
        bits = narrowest(model.parameters, options.loss or DEFAULT_LOSS)
        if bits is None and options.loss is not None:
            raise BadInput(
                f"no width that was measured loses at most {options.loss:g} % of perplexity",
                hint="allow more with --loss, or name a width with --bits",
            )
    return {
        "context": context, "slots": options.slots or DEFAULT_SLOTS,
        "bits": DEFAULT_BITS if bits is None else bits,
    }  # fmt: skip


def choose(model: Model, own: Process, options: PlanOptions) -> Chosen:
    """The chip for these options, and its figures.

    The package's own; that of given rows; or the fastest under the bounds, where one keeps them.
    Where the die holds a chip and only the power is exceeded: the one that takes least.
    """
    _, limit = area_limit(own, options)
    if model.package is not None:
        if options.shape:
            name = next(iter(options.shape))
            raise BadInput(f"--{name} is the chip's own", hint="plan its checkpoint instead")
        return cut_where_needed(model.package, own, options, limit)
    shape = shape_of(model, options)
    check_numbers(model, options)
    if options.positions is not None and options.positions >= 2 * shape["context"]:
        raise BadInput(
            f"positions must be at most the context of {shape['context']}, not {options.positions}"
        )
    plain = plain_outline(model, own, options)
    if options.rows is not None:
        return held(cut_where_needed(plain, own, options, limit), own, options, limit)
    question = Search(
        model.source, own, Bounds(limit, options.power), options.choices, shape,
        beat=options.beat, positions=options.positions,
    )  # fmt: skip
    try:
        if options.dies and options.dies > 1:
            return on_dies(question, limit, options.dies)
        return searched(question)
    except DoesNotFit:
        if options.dies:
            raise
        least = least_power(question)
        if least is not None:
            return cut_where_needed(least, own, options, limit)
        return held(whole_layers(plain, model, own, options, limit), own, options, limit)


def held(chosen: Chosen, own: Process, options: PlanOptions, limit: float) -> Chosen:
    """``chosen``, unless it was asked for on dies that it does not fit on however it is cut.

    Raises :class:`DoesNotFit`. What a reticle or a seat does not hold is told beside it instead.
    """
    if options.die is None or own["user_area"].known:
        return chosen
    if chosen.cut or fits(chosen.physical, limit):
        return chosen
    try:
        several(chosen.physical, limit)  # in vain before: now it says why
    except DoesNotFit as error:
        raise DoesNotFit(
            f"no cut of the chip fits dies of {limit:g} mm2: {error.message}", hint=error.hint
        ) from None
    return chosen


def check_numbers(model: Model, options: PlanOptions) -> None:
    """Raise :class:`BadInput` for rows or a beat that no chip of the model has."""
    a = spine(model.source)
    least, most = len(GROUPS), 2 * a.width + a.query_width + a.inner  # a row for every input
    if options.rows is not None and not least <= options.rows <= most:
        raise BadInput(f"rows must be from {least} to {most:,} for this model, not {options.rows}")
    widest = widest_beat(a)
    if options.beat is not None and (
        options.beat & (options.beat - 1) or not 1 <= options.beat <= widest
    ):
        raise BadInput(
            f"beat must be a power of two up to {widest} for this model, not {options.beat}"
        )


def least_power(question: Search) -> Outline | None:
    """Of what a search in vain looked at on the die, the chip of the least power; None of none."""
    held = [point for point in question.seen.values() if "area" not in point.broken]
    return min(held, key=lambda point: point.power).outline if held else None


def fits(made: Physical, limit: float) -> bool:
    """One die of ``limit`` mm² holds the chip."""
    return made.area["area_mm2"].number <= limit


def cut_where_needed(made: Outline, own: Process, options: PlanOptions, limit: float) -> Chosen:
    """A chip on several dies, where one does not hold it; a shuttle's seat is one die.

    Whole where columns do not fit either: the bound that is exceeded is said.
    """
    physical = figures(made, own, options.choices)
    if own["user_area"].known or fits(physical, limit):
        return Chosen(physical)
    try:
        return Chosen(physical, several(physical, limit))
    except DoesNotFit:
        if options.dies:
            raise
        return Chosen(physical)


def whole_layers(
    plain: Outline, model: Model, own: Process, options: PlanOptions, limit: float
) -> Chosen:
    """A chip too large for a die with as few rows as leave every layer on one die.

    Cut by columns it would gather vectors in every layer. ``plain`` where no number of rows does,
    and for a seat, which is one die.
    """
    first = cut_where_needed(plain, own, options, limit)
    rows, made = own.rows, first
    while rows <= MOST_ROWS and not own["user_area"].known:
        if fits(made.physical, limit) or (made.cut and not made.cut.cut.gathers):
            return made
        rows = rows * 5 // 4 + 1
        other = plain_outline(model, own, replace(options, rows=rows))
        made = cut_where_needed(other, own, options, limit)
    return first


def searched(question: Search) -> Chosen:
    """The fastest chip of a question, on one die, with the question."""
    found = question.run()
    physical = figures(found.best.outline, question.process, question.choices)
    return Chosen(physical, None, question, found)


def on_dies(question: Search, limit: float, most: int) -> Chosen:
    """The fastest chip that so many dies of ``limit`` mm² hold.

    Raises :class:`DoesNotFit` where none was found.
    """
    area = most * room_of(limit, question.x)
    for _ in range(24):
        try:
            chosen = searched(replace(question, bounds=replace(question.bounds, area=area)))
        except DoesNotFit as error:
            raise DoesNotFit(error.message, hint="more --dies, or fewer bits") from None
        if fits(chosen.physical, limit):
            return chosen
        cut = several(chosen.physical, limit)
        if len(cut.cut.dies) <= most:
            return replace(chosen, cut=cut)
        area *= SHRINK
    raise DoesNotFit(
        f"no chip of this shape was found on {most} dies of {limit:g} mm2",
        hint="more --dies, or fewer bits",
    )


def plain_outline(model: Model, own: Process, options: PlanOptions) -> Outline:
    """The chip of the rows that were given, or the process' own; attention balanced with it."""
    source = model.source
    shape = {
        **shape_of(model, options), "rows": options.rows,
        "beat": options.beat or widest_beat(spine(source)),
    }  # fmt: skip
    made = outline(source, own, positions=options.positions or 1, **shape)
    if options.positions is None:
        made = outline(source, own, positions=balanced_positions(made), **shape)
    return made


def balanced_positions(outline: Outline) -> int:
    """Positions per cycle with which attention at full context takes about the fabrics' time."""
    fabrics = outline.plan.layers[0]
    linear = sum(max(fabrics[name].cycles for name in names) for names in GROUPS.values())
    positions = 1
    while positions < MOST_POSITIONS and outline.plan.context // positions >= linear:
        positions *= 2
    return positions
