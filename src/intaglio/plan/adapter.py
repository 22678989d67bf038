"""The block that adds an adapter's share beside a fabric: its side memory, multipliers, cycles.

Its one array of ``lanes * beat`` multipliers works twice on every vector. *Down*: a beat of inputs
meets ``lanes`` latents' weights per cycle; a rank of more lanes is folded, and the inputs, kept
beside, pass once per fold. *Up*: ``lanes`` latents meet the weights of a beat of outputs, once per
fold. ``beat`` scalers narrow the latents, then scale the addends.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from intaglio.errors import BadInput
from intaglio.golden.number import (
    ADDEND_SHIFT,
    LATENT,
    LOW_RANK,
    MULTIPLIER_BITS,
    RANK_LIMIT,
    accumulator_bits,
)
from intaglio.plan.tiling import DRAIN, GROUPS, FabricPlan

CONSTANT_BITS = MULTIPLIER_BITS + 6  # a multiplier and its shift
TREE = 16  # terms that one register of an adder tree takes
DOWN_STAGES = 6  # weights, products, accumulators, scaled, shifted, latents: a register each
UP_STAGES = 6  # weights, products, sums, scaled, shifted, addends
BUFFER_STAGES = 2  # sums written, sums read

ROUNDS = {"qkv": (("q",), ("k",), ("v",)), "o": (("o",),), "mlp": (("gate", "up"),),
          "down": (("down",),)}  # fmt: skip
"""By group: the matrices whose beats leave at once, round by round."""


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """The shape of the block beside one matrix.

    ``rank``: the largest that fits. ``lanes``: latents at work per cycle; the last fold
    is padded. ``activation``: bits of an input. ``count``: adapters that
    the side memory holds at once. Cycles are counted from the one that takes the last beat of
    inputs.
    """

    inputs: int
    outputs: int
    rank: int
    lanes: int
    beat: int
    activation: int
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= RANK_LIMIT:
            raise BadInput(f"adapter rank must be from 1 to {RANK_LIMIT}, not {self.rank}")
        if not 1 <= self.lanes <= self.rank:
            raise BadInput(
                f"adapter lanes must be from 1 to the rank {self.rank}, not {self.lanes}"
            )
        if self.count < 1:
            raise BadInput(f"adapter count must be at least 1, not {self.count}")
        if self.inputs % self.beat:
            raise BadInput(f"inputs must be a multiple of the beat {self.beat}, not {self.inputs}")
        accumulator_bits(self.inputs, -LOW_RANK.low, self.activation)

    @property
    def folds(self) -> int:
        """Passes over the inputs; cycles per beat of addends."""
        return -(-self.rank // self.lanes)

    @property
    def beats(self) -> int:
        """Beats of inputs."""
        return self.inputs // self.beat

    @property
    def columns(self) -> int:
        """Beats of outputs."""
        return -(-self.outputs // self.beat)

    @property
    def groups(self) -> int:
        """Beats of latents in a fold: cycles in which a fold is narrowed."""
        return -(-self.lanes // self.beat)

    @property
    def accumulator(self) -> int:
        """Bits of the sums of down."""
        return accumulator_bits(self.inputs, -LOW_RANK.low, self.activation)

    @property
    def sum_bits(self) -> int:
        """Bits of the sums of up."""
        return (self.rank * LATENT.low * LOW_RANK.low).bit_length() + 1

    @property
    def addend_bits(self) -> int:
        """Bits of an addend."""
        largest = self.rank * LATENT.low * LOW_RANK.low * ((1 << MULTIPLIER_BITS) - 1)
        return (largest << ADDEND_SHIFT).bit_length() + 1

    @property
    def words(self) -> int:
        """Words of one adapter's weights: first those of down, fold by fold, then those of up."""
        return self.folds * (self.beats + self.columns)

    @property
    def constant_words(self) -> int:
        """Words of one adapter's multipliers and shifts, a beat to a word: latents, outputs."""
        return self.folds * self.groups + self.columns

    @property
    def bits(self) -> int:
        """Bits of side memory, padding included."""
        weights = self.words * self.lanes * LOW_RANK.bits
        return self.count * self.beat * (weights + self.constant_words * CONSTANT_BITS)

    @property
    def buffer_bits(self) -> int:
        """Bits of memory that a folded block works with: the inputs, the sums of all outputs."""
        if self.folds == 1:
            return 0
        return self.beat * (self.beats * self.activation + self.columns * self.sum_bits)

    @property
    def multipliers(self) -> int:
        """Multipliers of 16 by 8 bits, each with an addition per cycle."""
        return self.lanes * self.beat

    @property
    def scalers(self) -> int:
        """Multipliers by 16 bits with a shift behind them: of ``scaler_bits``."""
        return self.beat

    @property
    def scaler_bits(self) -> int:
        """Bits of what the scalers multiply."""
        return max(self.accumulator, self.sum_bits)

    @property
    def adders(self) -> int:
        """One-bit inputs that all multipliers together add per cycle."""
        products = self.multipliers * LATENT.bits * LOW_RANK.bits
        return products + self.scalers * self.scaler_bits * MULTIPLIER_BITS

    @property
    def gap(self) -> int:
        """Cycles to the first beat of addends. They follow every ``folds`` cycles."""
        passes = (self.folds - 1) * (self.beats + self.groups - 1)
        down = DOWN_STAGES + tree_registers(self.beat) + self.groups - 1
        up = self.folds - 1 + UP_STAGES + tree_registers(self.lanes)
        return passes + down + up + (BUFFER_STAGES if self.folds > 1 else 0)

    @property
    def last(self) -> int:
        """Cycles to the last beat of addends, taken as they come."""
        return self.gap + self.folds * (self.columns - 1)


def tree_registers(terms: int) -> int:
    """Registers of an adder tree."""
    registers = 0
    while terms > 1:
        registers, terms = registers + 1, -(-terms // TREE)
    return registers


def first_sums(fabrics: Sequence[FabricPlan], beat: int) -> int:
    """Cycles to the one in which the fabrics' first beat of sums is multiplied."""
    return max(fabric.tail(beat) for fabric in fabrics) + DRAIN + 1


def added_cycles(
    group: str, fabrics: Mapping[str, FabricPlan], adapters: Mapping[str, AdapterPlan]
) -> int:
    """How much later a group's last beat leaves with its adapters; 0 where they are hidden."""
    beat = adapters[GROUPS[group][0]].beat
    alone = adapted = first_sums([fabrics[name] for name in GROUPS[group]], beat) - 1
    for names in ROUNDS[group]:
        columns = adapters[names[0]].columns
        alone += columns
        adapted = max(adapted + columns, *(adapters[name].last for name in names))
    return adapted - alone


def layer_adapters(
    fabrics: Mapping[str, FabricPlan], rank: int, beat: int, count: int = 1
) -> dict[str, AdapterPlan]:
    """The blocks of one layer, by matrix: each with the fewest lanes that add no cycle.

    With as many as the rank where none hides it behind the fabrics.
    """
    made = {}
    for group, rounds in ROUNDS.items():
        end = first_sums([fabrics[name] for name in GROUPS[group]], beat) - 1
        for names in rounds:
            end += -(-fabrics[names[0]].outputs // beat)
            for name in names:
                shapes = list(foldings(fabrics[name], rank, beat, count))
                made[name] = next((shape for shape in shapes if shape.last <= end), shapes[-1])
    return made


def foldings(fabric: FabricPlan, rank: int, beat: int, count: int) -> Iterator[AdapterPlan]:
    """Every number of folds with the fewest lanes that do, the fewest lanes first."""
    lanes = sorted({-(-rank // folds) for folds in range(1, rank + 1)})
    for each in lanes:
        yield AdapterPlan(fabric.inputs, fabric.outputs, rank, each, beat, fabric.activation, count)
