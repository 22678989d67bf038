"""Plan: a chip predicted from an architecture alone. No weights are read; it takes a second.

:func:`open_model` says what is planned, :func:`run_plan` makes its figures and holds them
against the bounds that were asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intaglio.architecture import Architecture
from intaglio.checkpoint import open_checkpoint
from intaglio.errors import BadInput, IntaglioError
from intaglio.flow.package import is_package, open_package
from intaglio.plan.chip import DEFAULT_CONTEXT, DEFAULT_SLOTS, MOST_SLOTS
from intaglio.plan.outline import Outline, outline, spine, widest_beat
from intaglio.plan.preset import Preset, preset, preset_names
from intaglio.plan.process import Process, process
from intaglio.plan.tiling import GROUPS
from intaglio.quantity import Quantity
from intaglio.silicon.cost import Chip, cost
from intaglio.silicon.derived import Figure, unknown
from intaglio.silicon.physical import Physical, figures
from intaglio.silicon.request import Choices

DEFAULT_TARGET = "n6"
MOST_POSITIONS = 64
HEADLINE = (
    "area_mm2", "power_w", "tokens_per_second_per_user", "millijoule_per_token",
    "first_token_seconds",
)  # fmt: skip
MORE = (
    "power_full_w", "power_all_w", "leakage_w", "millijoule_per_token_full",
    "tokens_per_second_all", "tokens_per_second_full", "tokens_per_second_end_to_end",
    "prompt_tokens_per_second", "hottest_w_per_mm2", "hottest_single_w_per_mm2", "transistors",
    "femtojoule_per_weight",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a person chooses; None for the default.

    ``target``: a process or the path of a .yaml. ``die`` (mm²), ``power`` (W, one user): bounds.
    ``bits``: of the layers' weights. ``rows``: of a layer. ``positions``: that attention takes per
    cycle. ``beat``: elements of a stream per cycle; by default the most there can be.
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
    choices: Choices = field(default_factory=Choices)

    def __post_init__(self) -> None:
        for name, unit in (("die", "an area in mm2"), ("power", "a power in W")):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadInput(f"{name} must be {unit} greater than 0, not {value:g}")
        if self.slots is not None and not 1 <= self.slots <= MOST_SLOTS:
            raise BadInput(f"slots must be from 1 to {MOST_SLOTS}, not {self.slots}")
        for name in ("context", "rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} must be at least 1, not {value}")

    @property
    def shape(self) -> dict[str, Any]:
        """What decides the chip's shape, as far as it was said."""
        names = ("context", "slots", "bits", "rows", "positions", "beat")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


@dataclass(frozen=True, slots=True)
class Model:
    """What is planned: a preset, an architecture, or a chip package's plan."""

    title: str
    parameters: int
    active: int
    preset: Preset | None
    architecture: Architecture
    package: Outline | None = None

    def outline(self, process: Process, options: PlanOptions) -> Outline:
        """The chip for these options."""
        if self.package is not None:
            if options.shape:
                name = next(iter(options.shape))
                raise BadInput(f"--{name} is the chip's own", hint="plan its checkpoint instead")
            return self.package
        context = options.context
        if context is None:
            context = min(self.architecture.context, DEFAULT_CONTEXT)
        source, slots = self.preset or self.architecture, options.slots or DEFAULT_SLOTS
        shape = {
            "context": context, "slots": slots, "bits": 4 if options.bits is None else options.bits,
            "rows": options.rows,
            "beat": options.beat or widest_beat(spine(source)),
        }  # fmt: skip
        made = outline(source, process, positions=options.positions or 1, **shape)
        if options.positions is None:
            made = outline(source, process, positions=balanced_positions(made), **shape)
        return made


def balanced_positions(outline: Outline) -> int:
    """Positions per cycle with which attention at full context takes about the fabrics' time."""
    fabrics = outline.plan.layers[0]
    linear = sum(max(fabrics[name].cycles for name in names) for names in GROUPS.values())
    positions = 1
    while positions < MOST_POSITIONS and outline.plan.context // positions >= linear:
        positions *= 2
    return positions


def open_model(name: str) -> Model:
    """A preset by its name, a chip package's folder, or a checkpoint; no weight is read.

    Raises :class:`BadInput` for what is none of them.
    """
    if name in preset_names():
        made = preset(name)
        return Model(made.title, made.parameters, made.active, made, made.architecture)
    path = Path(name)
    if is_package(path):
        package = open_package(path)
        a = package.plan.architecture
        return Model(package.source, package.parameters, package.parameters, None, a,
                     Outline.of(package.plan))  # fmt: skip
    if not path.exists() and name not in ("bundled-float", "smollm2"):
        raise BadInput(
            f"model must be a preset, a chip, or a checkpoint's folder or .gguf, not {name!r}",
            hint=f"presets: {', '.join(preset_names())}",
        )
    checkpoint = open_checkpoint(name)
    a = checkpoint.architecture
    return Model(checkpoint.source, a.parameters, a.parameters, None, a)


def target_of(model: Model, options: PlanOptions) -> Process:
    """The process that was asked for, the package's own if it has one, or the default."""
    if options.target is not None:
        return process(options.target)
    own = model.package.plan.target if model.package else "generic"
    return process(DEFAULT_TARGET if own == "generic" else own)


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound and what is held against it. ``holds``: by the value; ``surely``: over its range."""

    name: str
    limit: float
    unit: str
    value: Quantity

    @property
    def holds(self) -> bool:
        """The value keeps it."""
        return self.value.number <= self.limit

    @property
    def surely(self) -> bool:
        """All of the range keeps it."""
        return self.value.bounds[1] <= self.limit

    @property
    def excess(self) -> float:
        """The value over the bound."""
        return self.value.number / self.limit

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name, "limit": self.limit, "unit": self.unit,
            "value": self.value.number, "holds": self.holds, "surely": self.surely,
        }  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A planned chip and its figures. ``die``: what one costs; ``dies``: that a chip takes."""

    name: str
    model: Model
    options: PlanOptions
    process: Process
    physical: Physical
    die: Figure
    dies: int | None
    bounds: tuple[Bound, ...]

    @property
    def outline(self) -> Outline:
        """The chip."""
        return self.physical.outline

    @property
    def cost_per_die(self) -> Quantity:
        """USD of a die, packaged and tested."""
        return self.die.quantity

    @property
    def binding(self) -> str | None:
        """The bound that is exceeded, the most exceeded of several; None where all are kept."""
        broken = [bound for bound in self.bounds if not bound.holds]
        return max(broken, key=lambda bound: bound.excess).name if broken else None

    @property
    def figures(self) -> Mapping[str, Quantity]:
        """The headline figures by name."""
        made = {name: self.physical.figures[name].quantity for name in (*HEADLINE, *MORE)}
        return made | {"cost_per_die_usd": self.cost_per_die}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; the keys are listed in docs/json.md."""
        plan, physical = self.outline.plan, self.physical
        rest = physical.as_dict()
        return {
            "model": self.name, "title": self.model.title, "target": self.process.name,
            "context": plan.context, "slots": plan.slots,
            "parameters": self.model.parameters, "active_parameters": self.model.active,
            "weights": self.outline.weights, "active_weights": self.outline.active_weights,
            "bits": self.outline.bits, "positions": plan.positions, "beat": plan.beat,
            "rows": rows_of(self.outline), "lanes": lanes_of(self.outline),
            "cell": physical.cells,
            **{name: quantity.as_dict() for name, quantity in self.figures.items()},
            "binding": self.binding, "bounds": [bound.as_dict() for bound in self.bounds],
            "area_by_kind": {
                kind.removeprefix("area_"): quantity.as_dict()
                for kind, quantity in physical.area.items()
                if kind not in ("area_mm2", "transistors")
            },
            "moved_by": {name: moves[:5] for name, moves in physical.moves.items()
                         if name in HEADLINE},
            "cycles": rest["cycles"], "users": rest["users"], "dies": self.dies,
        }  # fmt: skip


def rows_of(outline: Outline) -> dict[str, int]:
    """Rows of the first layer's fabrics by name, extra ones included, and the head's."""
    fabrics = {**outline.plan.layers[0], "head": outline.plan.head}
    return {name: fabric.rows + fabric.extra_rows for name, fabric in fabrics.items()}


def lanes_of(outline: Outline) -> dict[str, int]:
    """Lanes of the same."""
    fabrics = {**outline.plan.layers[0], "head": outline.plan.head}
    return {name: fabric.lanes for name, fabric in fabrics.items()}


def run_plan(name: str, options: PlanOptions | None = None) -> Planned:
    """The figures of the chip of a model, by its name or path."""
    options = options or PlanOptions()
    model = open_model(name)
    return plan_outline(name, model, target_of(model, options), options)


def plan_outline(name: str, model: Model, process: Process, options: PlanOptions) -> Planned:
    """The figures of an opened model's chip on a process."""
    made = figures(model.outline(process, options), process, options.choices)
    die, dies = die_cost(made, process)
    return Planned(name, model, options, process, made, die, dies, bounds_of(made, options))


def bounds_of(made: Physical, options: PlanOptions) -> tuple[Bound, ...]:
    """The bounds of a chip: the smallest of its areas, and power where it was asked for."""
    area, own = made.area["area_mm2"], made.process
    limits = {"die": options.die, "reticle": own["reticle"].value,
              "user_area": own["user_area"].value}  # fmt: skip
    known = {name: limit for name, limit in limits.items() if limit is not None}
    name = min(known, key=lambda key: known[key])
    bounds = [Bound(name, known[name], "mm2", area)]
    if options.power is not None:
        bounds.append(Bound("power", options.power, "W", made.power["power_w"]))
    return tuple(bounds)


def die_cost(made: Physical, process: Process) -> tuple[Figure, int | None]:
    """USD of a die, packaged and tested, and how many a chip takes; unknown where none can be."""
    speed, power = made.speed, made.power
    chip = Chip(
        made.area["area_mm2"],
        (speed["tokens_per_second_per_user"], power["power_w"]),
        (speed["tokens_per_second_all"], power["power_all_w"]),
    )
    try:
        bill = cost(chip, process, process.node)
    except IntaglioError as error:
        return unknown("USD", "silicon.cost", error.message), None
    dies = bill["dies"].value
    return bill.figures["cost_per_die_usd"], None if dies is None else round(dies)
