"""Outline: the chip of an architecture without weights; dense models, mixtures, latent attention.

For a dense model it holds the ChipPlan that :func:`make_plan` would choose, where every matrix has
one or two digits throughout. Beyond the integer spec, and so without RTL, are:

- *Mixtures.* A layer stores its experts side by side, each with its own gate and product. A
  router's fabric takes the norm's output, then a sorter the best of its outputs; only then do the
  chosen experts start, all at once, and at the end their weighted outputs are added. A dense layer
  among them is as many experts as make its inner width.
- *Latent attention*, absorbed: keys and values stay latent. Queries go down, through a norm, up,
  then head by head into the latent; the mean of the latents goes head by head through the values'
  fabric. Heads have their own, small fabrics that work as their part of the stream arrives.
- *Windows.* A layer with one attends to the last positions only.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

from intaglio.architecture import Architecture
from intaglio.errors import BadInput
from intaglio.golden.number import Widths
from intaglio.plan.adapter import tree_registers
from intaglio.plan.chip import (
    ChipPlan,
    default_beat,
    default_positions,
)
from intaglio.plan.parts import Bits, Rows, counts, fabrics_of, head_of, layer_shapes, rows_of
from intaglio.plan.preset import Latent, Preset, Window
from intaglio.plan.process import Process
from intaglio.plan.schedule import (
    RESIDUAL_GAP,
    ROTARY_GAP,
    SHRINK_GAP,
    Schedule,
    linear_gap,
    norm_gap,
)
from intaglio.plan.tiling import GROUPS, FabricPlan

CHOICE_STAGES = 4  # of a router: scores narrowed, sorted in, experts named, experts started
COMBINE_STAGES = 2  # outputs of experts weighted, and added behind the tree


@dataclass(frozen=True, slots=True)
class Extra:
    """A matrix beside the seven: its fabric, how many a layer stores, how many work per token."""

    fabric: FabricPlan
    copies: int
    active: int


@dataclass(frozen=True)
class Outline:
    """A chip without weights.

    ``plan``: what the schedule runs; in a mixture a layer's gate, up and down are those of one
    expert; under latent attention q goes up from the queries' latent, k down to the keys', v is one
    head's. ``copies``: fabrics of a name that a layer stores, ``active``: of them at work for one
    token. ``extra``: further fabrics by layer and name: ``router``, ``query_down``, ``key_up``.
    ``bits``: stored per weight by name, the average of all layers.
    """

    preset: Preset | None
    plan: ChipPlan
    copies: dict[str, int]
    active: dict[str, int]
    extra: tuple[dict[str, Extra], ...]
    bits: dict[str, float]

    @classmethod
    def of(cls, plan: ChipPlan) -> "Outline":
        """The outline of a chip that is planned with its weights."""
        ones = {name: 1 for names in GROUPS.values() for name in names}
        return cls(None, plan, ones, dict(ones), tuple({} for _ in plan.layers), mean_bits(plan))

    @property
    def latent(self) -> Latent | None:
        """Latent attention, or None."""
        return self.preset.latent if self.preset else None

    @property
    def window(self) -> Window | None:
        """Windows of some layers, or None."""
        return self.preset.window if self.preset else None

    def dense(self, layer: int) -> bool:
        """The layer has no router."""
        experts = self.preset.experts if self.preset else None
        return experts is None or layer < experts.dense_layers

    def stored(self, layer: int) -> dict[str, int]:
        """How many fabrics of each name, ``extra`` included, this layer stores."""
        kept = self.active if self.dense(layer) else self.copies
        return kept | {name: extra.copies for name, extra in self.extra[layer].items()}

    def working(self, layer: int) -> dict[str, int]:
        """How many fabrics of each name, ``extra`` included, work in this layer for one token."""
        return self.active | {name: extra.active for name, extra in self.extra[layer].items()}

    def fabrics(self, layer: int) -> dict[str, FabricPlan]:
        """Every kind of fabric of this layer by name, ``extra`` included."""
        extra = {name: extra.fabric for name, extra in self.extra[layer].items()}
        return self.plan.layers[layer] | extra

    def _contacts(self, counts: list[dict[str, int]]) -> int:
        layers = sum(
            fabric.cells * counts[layer][name]
            for layer in range(len(self.plan.layers))
            for name, fabric in self.fabrics(layer).items()
        )
        return layers + self.plan.head.cells

    @property
    def weights(self) -> int:
        """Programmable contacts of all fabrics, padding and second digits included."""
        return self._contacts([self.stored(layer) for layer in range(len(self.plan.layers))])

    @property
    def active_weights(self) -> int:
        """Those of the fabrics that work for one token."""
        return self._contacts([self.working(layer) for layer in range(len(self.plan.layers))])

    @property
    def cells(self) -> int:
        """The same as ``weights``: every cell has one contact."""
        return self.weights

    @property
    def cache_width(self) -> int:
        """Values of 8 bits that a layer keeps of a position: keys and values, or the latent."""
        return self.latent.stored if self.latent else 2 * self.plan.architecture.kv_width

    def mean_width(self) -> int:
        """Elements of a head's mean of values."""
        return self.latent.kv_rank if self.latent else self.plan.architecture.head_width

    def positions_kept(self, layer: int) -> int:
        """Positions that a layer's cache holds for a user."""
        window = self.window
        if window is None or layer % window.every:
            return self.plan.context
        return min(window.positions, self.plan.context)

    def schedule(self) -> Schedule:
        """Its cycles: exact for a dense model, the model of this module for anything else."""
        if self.preset is None:
            return Schedule(self.plan)
        return OutlineSchedule(self)


class OutlineSchedule(Schedule):
    """The cycles of an outline: a router's added, latent attention's own, windows observed."""

    def __init__(self, outline: Outline) -> None:
        self.outline = outline
        self._choices: dict[int, int] = {}
        super().__init__(outline.plan)

    def kind(self, index: int) -> Hashable:
        """What is equal of layers that take equally long at every position."""
        return super().kind(index), self.outline.positions_kept(index), self.choice(index)

    def layer(self, index: int, position: int, *, adapted: bool = False) -> int:
        """Cycles from a layer's first beat in to its first beat out."""
        seen = min(position, self.outline.positions_kept(index) - 1)
        return super().layer(index, seen, adapted=adapted) + self.choice(index)

    def choice(self, index: int) -> int:
        """Cycles that a layer's router and the sum over its experts add; 0 in a dense layer."""
        if index not in self._choices:
            self._choices[index] = 0 if self.outline.dense(index) else self._choice(index)
        return self._choices[index]

    def _choice(self, index: int) -> int:
        router = self.outline.extra[index]["router"].fabric
        width = self.plan.beat.bit_length() - 1
        network = width * (width + 1) // 2  # stages that sort a beat
        columns, experts = -(-router.outputs // self.plan.beat), self.outline.active["down"]
        chosen = (columns - 1) + network + CHOICE_STAGES + experts - 1
        made = linear_gap([router], self.plan.beat) + chosen
        # experts start when all inputs have long been there
        starting = [self.plan.layers[index][name] for name in GROUPS["mlp"]]
        late = max(f.cycles for f in starting) - max(f.tail(self.plan.beat) for f in starting)
        return made + late + COMBINE_STAGES + tree_registers(experts)

    def _attention_fixed(self, gaps: dict[str, int]) -> int:
        """With latent attention a chain of fabrics; the streams between them are a beat wide."""
        latent = self.outline.latent
        if latent is None:
            return super()._attention_fixed(gaps)
        plan, beats, beat = self.plan, self.beats, self.plan.beat
        fabrics, heads = self.outline.fabrics(0), self.plan.architecture.heads
        rank, kept = -(-latent.query_rank // beat), -(-latent.kv_rank // beat)
        query = -(-heads * (latent.plain + latent.rotary) // beat)
        mean = -(-heads * latent.value // beat)
        down = (beats - 1) + norm_gap(plan) + (beats - 1)
        down += linear_gap([fabrics["query_down"], fabrics["k"]], beat)
        up = (rank - 1) + norm_gap(plan) + (rank - 1) + linear_gap([fabrics["q"]], beat)
        turned = (query - 1) + ROTARY_GAP + linear_gap([fabrics["key_up"]], beat) + (kept - 1)
        value = (kept - 1) + SHRINK_GAP + (kept - 1) + linear_gap([fabrics["v"]], beat)
        return down + up + turned + value + (
            (mean - 1) + SHRINK_GAP + (mean - 1) + gaps["o"] + RESIDUAL_GAP
        )  # fmt: skip


def outline(
    model: Preset | Architecture,
    process: Process | None = None,
    *,
    context: int,
    slots: int,
    bits: Bits = 4,
    rows: Rows = None,
    positions: int | None = None,
    beat: int | None = None,
    adapter_rank: int = 0,
    lanes: int | None = None,
    widths: Widths | None = None,
) -> Outline:
    """The chip of ``model`` for these choices.

    ``bits``: width of the layers' matrices (2, 3, 4, 6 or 8), or by name, ``layers.0.q`` before
    ``q``; ``head`` and ``router`` have 8 where not named. ``rows``: the sum of a layer's groups,
    shared by the rule of fewest adders, or by group; None for the process's. ``lanes``: for every
    matrix instead. ``beat``: None for :func:`default_beat`, the compiler's; :func:`widest_beat` is
    the largest there can be.
    """
    preset = model if isinstance(model, Preset) else None
    a = spine(model)
    check_choices(preset, rows, adapter_rank)
    for name, value in (("beat", beat), ("lanes", lanes)):
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}")
    parts = [layer_shapes(a, preset, bits, index) for index in range(a.layers)]
    copies, active = counts(a, preset)
    kinds = {
        kind: fabrics_of(dict(kind), copies, rows_of(dict(kind), copies, rows, process),
                         widths or Widths(), lanes)
        for kind in {tuple(part.items()) for part in parts}
    }  # fmt: skip
    made = [kinds[tuple(part.items())] for part in parts]
    plan = ChipPlan(
        target=process.name if process else "generic",
        architecture=a,
        widths=widths or Widths(),
        context=context,
        slots=slots,
        beat=beat or default_beat(a),
        positions=default_positions(context) if positions is None else positions,
        rotary=(),  # turn fractions are no part of a chip's size or cycles
        layers=tuple(seven for seven, _ in made),
        head=head_of(a, bits, rows, process, lanes, widths or Widths()),
        adapter_rank=adapter_rank,
    )
    extra = tuple(
        {name: Extra(fabric, copies[name], active[name]) for name, fabric in others.items()}
        for _, others in made
    )
    seven = {name for names in GROUPS.values() for name in names}
    return Outline(
        preset,
        plan,
        {name: copies[name] for name in seven},
        {name: active[name] for name in seven},
        extra,
        mean_bits(plan),
    )


def spine(model: Preset | Architecture) -> Architecture:
    """The architecture that the plan holds.

    Under latent attention that of the absorbed form: one key of latent and rotary elements for all
    heads. Its values are shorter than its keys, see :meth:`Outline.mean_width`.
    """
    if isinstance(model, Architecture):
        return model
    if model.latent is None:
        return model.architecture
    return replace(model.architecture, kv_heads=1, head_width=model.latent.stored)


def widest_beat(architecture: Architecture, most: int = 256) -> int:
    """The largest power of two up to ``most`` that divides every vector."""
    beat = most
    while any(getattr(architecture, name) % beat for name in ("width", "head_width", "inner")):
        beat //= 2
    return beat


def check_choices(preset: Preset | None, rows: Rows, adapter_rank: int) -> None:
    """Raise :class:`BadInput` for choices that no outline can have."""
    if preset and adapter_rank and (preset.experts or preset.latent):
        raise BadInput("adapter rank must be 0 for a mixture and for latent attention")
    if preset and preset.experts and (preset.experts.dense_inner or 0) % preset.architecture.inner:
        raise BadInput(f"{preset.name}: dense_inner must be a multiple of inner")
    if isinstance(rows, Mapping):
        if missing := set(GROUPS) - set(rows):
            raise BadInput(f"rows must have every group, not lack {', '.join(sorted(missing))}")
        least = min(rows.values())
    else:
        least = len(GROUPS) if rows is None else rows
    if least < 1:
        raise BadInput(f"rows must be at least 1, not {least}")


def mean_bits(plan: ChipPlan) -> dict[str, float]:
    """Stored bits per weight by matrix name, the average of all layers, and the head's."""
    names = [name for group in GROUPS.values() for name in group]
    found = {
        name: sum(stored_bits(layer[name]) for layer in plan.layers) / len(plan.layers)
        for name in names
    }
    return found | {"head": stored_bits(plan.head)}


def stored_bits(fabric: FabricPlan) -> float:
    """Bits per weight, second digits included, padding not."""
    return fabric.bits * (1 + fabric.extra_rows / fabric.rows)
