"""Exact cycles: how long a chip takes, position by position.

Blocks take a fixed number of cycles from the last beat they accept to the first they give; these
numbers are stated here and by the hardware, and tests hold both to what the RTL does. A layer works
on one position at a time, so the chain is a recurrence over layers and positions.
"""

from dataclasses import dataclass, field

from intaglio.errors import BadInput
from intaglio.golden.sample import Sampling
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import GROUPS, FabricPlan

EXTRA_BITS_OF_SCORE_TREE = 0


@dataclass(frozen=True, slots=True)
class User:
    """One user of a run: so many prompt tokens, so many generated, and how they are sampled."""

    prompt: int
    generated: int
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Visit:
    """One position at the embedding: ``arrival`` is the first cycle at which it can enter."""

    arrival: int
    user: int
    position: int
    last: bool


class Schedule:
    """The cycles of one chip."""

    def __init__(self, plan: ChipPlan) -> None:
        self.plan = plan
        self.beats = plan.architecture.width // plan.beat
        self._fixed = [self._layer_fixed(layer) for layer in plan.layers]

    def layer(self, index: int, position: int) -> int:
        """Cycles from a layer's first beat in to its first beat out."""
        return self._fixed[index] + attention_gap(self.plan, position)
