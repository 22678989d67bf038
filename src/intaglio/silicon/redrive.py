"""Re-drives: what product lines longer than a tile add to the cycles of a pass.

A product line reaches ``line_reach`` of the process; at the edge of such a tile it is driven anew,
from a register, with its row's word line beside it. The tiles of a fabric then work some cycles
one after the other, and a pass ends when the last of them does. The plan's cycles, which are the
RTL's, know no tiles: this term stands beside them, in the figures only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.plan.tiling import GROUPS, FabricPlan
from intaglio.silicon.fabric import Inputs, tiles

if TYPE_CHECKING:
    from intaglio.plan.outline import Outline

Cells = Mapping[FabricPlan, str]


@dataclass(frozen=True, slots=True)
class Redrives:
    """Cycles that re-drives add: to a ``token``, to the slowest ``layer``, to the ``head``."""

    token: float
    layer: float
    head: float


def passes(outline: "Outline", layer: int) -> tuple[tuple[str, ...], ...]:
    """Fabrics of a layer in the order in which they work; those of one pass at once."""
    rest = tuple(names for group, names in GROUPS.items() if group != "qkv")
    attention = (GROUPS["qkv"],)
    if outline.latent is not None:
        attention = (("query_down", "k"), ("q",), ("key_up",), ("v",))
    router = () if outline.dense(layer) else (("router",),)
    return (*attention, rest[0], *router, *rest[1:])


def redrives(outline: "Outline", layers: Mapping[int, int], cells: Cells, x: Inputs) -> Redrives:
    """The cycles at these numbers. ``layers``: the first of each kind, and how many there are."""
    each = {first: layer_crossings(outline, first, cells, x) for first in layers}
    head = crossings(outline.plan.head, cells, x)
    whole = sum(count * each[first] for first, count in layers.items()) + head
    cycles = x["crossing_cycles"]
    return Redrives(whole * cycles, max(each.values(), default=0) * cycles, head * cycles)


def layer_crossings(outline: "Outline", layer: int, cells: Cells, x: Inputs) -> int:
    """Edges of tiles that a position waits for in a layer; of fabrics at once, the most."""
    fabrics = outline.fabrics(layer)
    return sum(
        max(crossings(fabrics[name], cells, x) for name in names)
        for names in passes(outline, layer)
    )


def crossings(fabric: FabricPlan, cells: Cells, x: Inputs) -> int:
    """Edges between the tiles of a fabric; none where every weight is a wire."""
    cell = cells[fabric]
    return 0 if cell == "counters" else tiles(fabric, cell, x) - 1
