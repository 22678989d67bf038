"""ChipPlan: the shape of a chip, chosen once per base die; no weight is in it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from intaglio.architecture import Architecture
from intaglio.errors import BadInput, BadPackage, DoesNotFit
from intaglio.golden.model import MATRICES, IntModel, Matrix
from intaglio.golden.number import RANK_LIMIT, Widths
from intaglio.plan.adapter import AdapterPlan, layer_adapters
from intaglio.plan.target import Target, target
from intaglio.plan.tiling import (
    GROUPS,
    MOST_LANES,
    FabricPlan,
    Shape,
    fabric_plan,
    group_rows,
    lanes_for,
)

BEATS = (16, 8, 4, 2)
DEFAULT_CONTEXT = 2048
DEFAULT_SLOTS = 2
MOST_SLOTS = 256
MOST_ADAPTERS = 256


@dataclass(frozen=True, slots=True)
class ChipPlan:
    """The shape of one chip.

    ``beat``: elements per beat of every stream. ``positions``: positions that attention takes per
    cycle. ``rotary``: turn fractions, constants of the base die. ``layers``: the seven fabrics of
    every layer by name. ``adapter_rank``: the largest rank of an adapter that the side memory
    holds, 0 where there is no side memory; ``adapter_count``: so many adapters at once.
    """

    target: str
    architecture: Architecture
    widths: Widths
    context: int
    slots: int
    beat: int
    positions: int
    rotary: tuple[int, ...]
    layers: tuple[dict[str, FabricPlan], ...]
    head: FabricPlan
    adapter_rank: int = 0
    adapter_count: int = 1

    def __post_init__(self) -> None:
        a = self.architecture
        for name in ("width", "head_width", "inner"):
            if getattr(a, name) % self.beat:
                raise BadInput(f"{name} must be a multiple of the beat {self.beat}")
        if not 1 <= self.slots <= MOST_SLOTS:
            raise BadInput(f"slots must be from 1 to {MOST_SLOTS}, not {self.slots}")
        if not 1 <= self.context <= a.context:
            raise BadInput(f"context must be from 1 to the model's {a.context}, not {self.context}")
        if self.positions < 1 or self.positions & self.positions - 1:
            raise BadInput(f"positions must be a power of two, not {self.positions}")
        if not 0 <= self.adapter_rank <= RANK_LIMIT:
            raise BadInput(f"adapter rank must be from 0 to {RANK_LIMIT}, not {self.adapter_rank}")
        if not 1 <= self.adapter_count <= MOST_ADAPTERS:
            raise BadInput(
                f"adapters held at once must be from 1 to {MOST_ADAPTERS}, not {self.adapter_count}"
            )

    @property
    def cells(self) -> int:
        """Programmable contacts of all fabrics."""
        fabrics = [fabric for layer in self.layers for fabric in layer.values()]
        return sum(fabric.cells for fabric in [*fabrics, self.head])

    @property
    def adders(self) -> int:
        """One-bit inputs that all counter trees together take per cycle."""
        fabrics = [fabric for layer in self.layers for fabric in layer.values()]
        return sum(fabric.lanes * fabric.outputs for fabric in [*fabrics, self.head])

    @property
    def adapters(self) -> tuple[dict[str, AdapterPlan], ...]:
        """The blocks beside the fabrics of every layer by name; empty without side memory."""
        if not self.adapter_rank:
            return tuple({} for _ in self.layers)
        return tuple(
            layer_adapters(fabrics, self.adapter_rank, self.beat, self.adapter_count)
            for fabrics in self.layers
        )

    @property
    def side_memory_bits(self) -> int:
        """Bits that the host writes for all adapters at once, padding included."""
        return sum(block.bits for layer in self.adapters for block in layer.values())

    @property
    def adapter_buffer_bits(self) -> int:
        """Bits of memory that the folded blocks of the adapters work with."""
        return sum(block.buffer_bits for layer in self.adapters for block in layer.values())

    @property
    def adapter_multipliers(self) -> int:
        """Multipliers of 16 by 8 bits of all adapters' blocks: multiply-adds per cycle."""
        return sum(block.multipliers for layer in self.adapters for block in layer.values())

    @property
    def adapter_adders(self) -> int:
        """One-bit inputs that all adapters' multipliers together add per cycle."""
        return sum(block.adders for layer in self.adapters for block in layer.values())

    def side_memory_area(self) -> float | None:
        """Side memory and buffers in mm², or None where the target has no figure of SRAM."""
        bits, size = self.side_memory_bits + self.adapter_buffer_bits, target(self.target).sram
        if not bits:
            return 0.0
        return None if size is None else bits * size / 1e6

    def cell_area(self) -> float | None:
        """Lower bound of the fabrics' cells in mm², or None where the target does not know."""
        sizes = target(self.target).cells
        fabrics = [fabric for layer in self.layers for fabric in layer.values()]
        if not all(fabric.bits in sizes for fabric in [*fabrics, self.head]):
            return None
        return sum(f.cells * sizes[f.bits] for f in [*fabrics, self.head]) / 1e6

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; of adapters only where there is side memory."""
        values = asdict(self)
        if not self.adapter_rank:
            del values["adapter_rank"], values["adapter_count"]
        values["rotary"] = list(self.rotary)
        values["layers"] = [
            {name: asdict(fabric) for name, fabric in layer.items()} for layer in self.layers
        ]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ChipPlan":
        """Inverse of :meth:`as_dict`. Raises :class:`BadPackage` for missing or unknown keys."""
        try:
            return cls(
                **{
                    **values,
                    "architecture": Architecture.from_dict(values["architecture"]),
                    "widths": Widths(**values["widths"]),
                    "rotary": tuple(values["rotary"]),
                    "layers": tuple(
                        {name: FabricPlan(**fabric) for name, fabric in layer.items()}
                        for layer in values["layers"]
                    ),
                    "head": FabricPlan(**values["head"]),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BadPackage(f"plan.json: missing or unknown key: {error}") from None


def activation_bits(name: str, widths: Widths) -> int:
    """Input width of a matrix by its name."""
    return {"o": widths.attention, "down": widths.product}.get(name, widths.norm)


def default_beat(architecture: Architecture) -> int:
    """The widest beat that divides every vector."""
    for beat in BEATS:
        if not any(getattr(architecture, name) % beat for name in ("width", "head_width", "inner")):
            return beat
    raise BadInput(
        f"width {architecture.width}, head_width {architecture.head_width} and inner "
        f"{architecture.inner} must be even"
    )


def default_positions(context: int) -> int:
    """Positions per cycle with which attention at full context stays near the fabrics' time."""
    positions = 1
    while context // positions > 1024 and positions < 8:
        positions *= 2
    return positions


def make_plan(
    model: IntModel,
    target_name: str = "generic",
    *,
    context: int | None = None,
    slots: int = DEFAULT_SLOTS,
    lanes: int | None = None,
    die: float | None = None,
    beat: int | None = None,
    positions: int | None = None,
    base: ChipPlan | None = None,
    adapter_rank: int = 0,
    adapter_count: int = 1,
) -> ChipPlan:
    """Choose a chip for ``model``: lanes per matrix, rows, widths.

    ``lanes``: for every matrix, or None for the fewest adders under the target's rows. ``die``: mm²
    that the fabrics' cells must not exceed, beside the target's own bound. ``base``: a plan whose
    lanes and side memory are taken. ``adapter_rank``: of the side memory, 0 for none.
    Raises :class:`DoesNotFit` with the excess.
    """
    a, process = model.architecture, target(target_name)
    context = min(a.context, DEFAULT_CONTEXT) if context is None else context
    plan = ChipPlan(
        target=target_name,
        architecture=a,
        widths=model.widths,
        context=context,
        slots=slots,
        beat=beat or default_beat(a),
        positions=positions or default_positions(context),
        rotary=tuple(int(fraction) for fraction in model.rotary),
        layers=tuple(
            like_fabrics(model, index, base)
            if base
            else automatic_fabrics(model, index, process, lanes)
            for index in range(a.layers)
        ),
        head=head_fabric(
            model.head, model.widths, process.rows, base.head.lanes if base else lanes
        ),
        adapter_rank=base.adapter_rank if base else adapter_rank,
        adapter_count=base.adapter_count if base else adapter_count,
    )
    check_fit(plan, process, die)
    return plan


def layer_fabrics(
    layer: Mapping[str, Matrix | Shape],
    widths: Widths,
    rows: Mapping[str, int],
    lanes: int | None,
    most: int = MOST_LANES,
) -> dict[str, FabricPlan]:
    """The seven fabrics of one layer: with ``lanes``, or the fewest under the rows of a group."""
    return {
        name: fabric_plan(
            layer[name],
            min(lanes, most) if lanes else lanes_for(layer[name], rows[group], most),
            activation_bits(name, widths),
            most,
        )
        for group, names in GROUPS.items()
        for name in names
    }


def shared_rows(layer: Mapping[str, Matrix | Shape], total: int) -> dict[str, int]:
    """The rows of each group of a layer that has ``total``."""
    return group_rows(
        {
            group: (layer[names[0]].inputs, sum(layer[name].outputs for name in names))
            for group, names in GROUPS.items()
        },
        total,
    )


def automatic_fabrics(
    model: IntModel, index: int, process: Target, lanes: int | None
) -> dict[str, FabricPlan]:
    """The seven fabrics of one layer of a model."""
    layer = dict(model.layers[index].matrices())
    return layer_fabrics(layer, model.widths, shared_rows(layer, process.rows), lanes)


def like_fabrics(model: IntModel, index: int, base: ChipPlan) -> dict[str, FabricPlan]:
    """The seven fabrics of one layer with the lanes of ``base``."""
    return {
        name: fabric_plan(
            matrix, base.layers[index][name].lanes, activation_bits(name, model.widths)
        )
        for name, matrix in model.layers[index].matrices()
    }


def head_fabric(
    head: Matrix | Shape, widths: Widths, rows: int, lanes: int | None, most: int = MOST_LANES
) -> FabricPlan:
    """The head's fabric: as many rows as the average group of a layer that has ``rows``."""
    chosen = lanes or lanes_for(head, max(rows // len(GROUPS), 1), most)
    return fabric_plan(head, chosen, widths.norm, most)


def check_fit(plan: ChipPlan, process: Target, die: float | None) -> None:
    """Raise :class:`DoesNotFit` where the fabrics' cells alone exceed an area bound."""
    bounds = [bound for bound in (process.user_area, die) if bound is not None]
    area = plan.cell_area()
    if not bounds:
        return
    if area is None:
        raise BadInput(
            f"target {process.name} has no cell area, so --die cannot be checked",
            hint="choose a target with a process, for example sky130",
        )
    if area > min(bounds):
        raise DoesNotFit(
            f"the fabrics' cells alone need {in_mm2(area)} on {process.name}, "
            f"{in_mm2(area - min(bounds))} more than the {in_mm2(min(bounds))} there are",
            hint="fewer bits, a smaller model, or another target",
        )


def in_mm2(area: float) -> str:
    """An area in mm², with as many digits as say something."""
    return f"{area:.1f} mm2" if area >= 1 else f"{area:.2g} mm2"


assert set(sum(GROUPS.values(), ())) == set(MATRICES)
