"""The parts of a chip: what stands where, how often, and what it does for one token.

Counts only, out of the plan: fabrics, logic as synthesised, bits of memory, cycles. Areas and
energies of a process are made of them in :mod:`intaglio.silicon.physical`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from intaglio.golden.number import ATTENTION as ATTENTION_INT
from intaglio.golden.number import (
    CANDIDATES,
    EMBEDDING,
    KEY,
    MULTIPLIER_BITS,
    PRODUCT,
    RESIDUAL,
    ROTARY,
    SCORE,
)
from intaglio.plan.adapter import AdapterPlan
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import GROUPS, FabricPlan
from intaglio.silicon.circuits import Logic, logic

if TYPE_CHECKING:
    from intaglio.plan.outline import Outline

NARROW_BITS = MULTIPLIER_BITS + 6  # of ROM per output: multiplier and shift
NORM_BITS = 48 + 16 + 6  # of ROM per norm
RECIPROCAL_CYCLES = 18
GROUP = 8  # products that one register of a score's sum takes


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of part.

    ``layers``: numbers of the layers that have it, none for the ends of the chain. ``copies``: so
    many in each of them, or on the chip; ``active``: so many of those at work for one token.
    ``block``: its logic; ``sram``, ``rom``: its bits. For one token ``cycles``: in which its flops
    are clocked; ``sram_bits``, ``rom_bits``: read or written; ``moved``: bits that cross the layer.
    """

    name: str
    kind: str
    layers: tuple[int, ...] = ()
    copies: float = 1
    active: float = 1
    fabric: FabricPlan | None = None
    block: Logic = field(default_factory=Logic)
    sram: float = 0
    rom: float = 0
    cycles: float = 0
    sram_bits: float = 0
    rom_bits: float = 0
    moved: float = 0

    @property
    def places(self) -> int:
        """Layers that have it; 1 at the ends."""
        return max(len(self.layers), 1)

    @property
    def count(self) -> float:
        """How many the chip has."""
        return self.copies * self.places


def parts(outline: "Outline", position: float) -> list[Part]:
    """Every part of a chip, with what it does for a token at this position."""
    made = []
    for index, layers in layer_kinds(outline):
        made += [replace(part, layers=layers) for part in layer_parts(outline, index, position)]
    return [*made, *end_parts(outline.plan)]


def layer_kinds(outline: "Outline") -> Iterator[tuple[int, tuple[int, ...]]]:
    """Layers that are alike: the first one, and all."""
    kinds: dict[object, list[int]] = {}
    for index in range(len(outline.plan.layers)):
        kinds.setdefault(layer_key(outline, index), []).append(index)
    for indices in kinds.values():
        yield indices[0], tuple(indices)


def layer_key(outline: "Outline", index: int) -> object:
    """What makes layers alike."""
    counts = (outline.stored(index), outline.working(index))
    return (
        tuple(sorted(outline.fabrics(index).items())),
        tuple(tuple(sorted(each.items())) for each in counts),
        outline.positions_kept(index),
    )


def layer_parts(outline: "Outline", index: int, position: float) -> Iterator[Part]:
    """The parts of one layer."""
    plan, fabrics = outline.plan, outline.fabrics(index)
    stored, working = outline.stored(index), outline.working(index)
    for name, fabric in fabrics.items():
        yield from fabric_parts(name, fabric, plan.beat, copies=stored[name], active=working[name])
    yield from linear_parts(plan, fabrics, stored, working)
    yield from attention_parts(outline, index, position)
    yield from vector_parts(plan, stored, working)
    for name, block in plan.adapters[index].items():
        yield adapter_part(name, block)


def fabric_parts(
    name: str, fabric: FabricPlan, beat: int, copies: float = 1, active: float = 1
) -> Iterator[Part]:
    """A fabric, and the ROM of its outputs: multipliers, shifts, start values, which are added
    beat by beat; extra rows' maps."""
    moved = fabric.inputs * fabric.activation + fabric.outputs * fabric.accumulator
    yield Part(
        f"{name} fabric", "fabric", copies=copies, active=active, fabric=fabric, moved=moved
    )  # fmt: skip
    constants = fabric.outputs * (NARROW_BITS + fabric.accumulator)
    maps = fabric.extra_rows * fabric.lanes * fabric.rows.bit_length()
    yield Part(
        f"{name} constants", "constants", copies=copies, active=active,
        rom=constants + maps, rom_bits=constants + maps, cycles=-(-fabric.outputs // beat),
        block=logic("start", sum_bits=beat * fabric.accumulator),
    )  # fmt: skip


def linear_parts(
    plan: ChipPlan, fabrics: dict[str, FabricPlan], copies: dict[str, int], active: dict[str, int]
) -> Iterator[Part]:
    """What narrows the sums: a beat for every group; for gate and up one each."""
    beside = {name: (name,) for name in fabrics if not any(name in g for g in GROUPS.values())}
    for group, names in {**GROUPS, **beside}.items():
        each = names if group == "mlp" else (max(names, key=lambda n: fabrics[n].accumulator),)
        for name in each:
            bits = fabrics[name].accumulator
            beats = sum(-(-fabrics[n].outputs // plan.beat) for n in names) / len(each)
            yield Part(
                f"{name} narrow", "vectors", copies=copies[name], active=active[name], cycles=beats,
                block=logic("narrow", sum_bits=plan.beat * bits, beat=plan.beat),
            )  # fmt: skip


def attention_parts(outline: "Outline", index: int, position: float) -> Iterator[Part]:
    """Multipliers, exponentials, score buffer, keys and values of a layer."""
    plan, kept = outline.plan, outline.positions_kept(index)
    a, width = plan.architecture, plan.architecture.head_width
    words = min(position, kept - 1) // plan.positions + 1
    seen = words * plan.positions
    others = {"reciprocals": RECIPROCAL_CYCLES, "means": a.query_width // plan.beat}
    for name, block in attention_logic(outline).items():
        yield Part(f"attention {name}", "attention", block=block, cycles=others.get(name, words))
    held = -(-kept // plan.positions) * plan.positions
    yield Part(
        "score buffer", "buffers", sram=a.heads * held * SCORE.bits,
        sram_bits=2 * a.heads * seen * SCORE.bits,
    )  # fmt: skip
    stored = outline.cache_width * KEY.bits
    yield Part(
        "keys and values", "kv", sram=plan.slots * held * stored, sram_bits=(seen + 1) * stored,
        moved=(seen + 1) * stored,
    )  # fmt: skip
    turned = a.query_width + a.kv_width
    yield Part(
        "rotary", "vectors", block=logic("rotary", beat=plan.beat, head_width=width),
        cycles=turned / plan.beat + width, sram=width * ROTARY.bits,
        sram_bits=turned * ROTARY.bits,
    )  # fmt: skip


def attention_logic(outline: "Outline") -> dict[str, Logic]:
    """The logic of a layer's attention, by what it does."""
    plan, nothing = outline.plan, dict.fromkeys(ATTENTION_TERMS, 0.0)
    a, means = plan.architecture, outline.mean_width()
    # one multiplier for a score and one for a mean make a product
    products = a.heads * (a.head_width + means) / 2 * plan.positions
    keys = a.kv_heads * a.head_width * plan.positions
    groups = a.heads * plan.positions * -(-a.head_width // GROUP)
    base = logic("attention", **nothing)

    def term(**sizes: float) -> Logic:
        whole = logic("attention", **{**nothing, **sizes})
        return Logic(whole.area - base.area, whole.flops - base.flops)

    return {
        "multipliers": term(products=products) + term(key_elements=keys) + term(groups=groups),
        "accumulators": term(elements=a.heads * means),
        "scores": term(scores=a.heads * plan.positions),
        "exponentials": logic("exponential", lanes=a.heads * plan.positions),
        "reciprocals": logic("reciprocal", lanes=a.heads),
        "means": term(beat=plan.beat) + base,
    }


ATTENTION_TERMS = ("products", "elements", "key_elements", "scores", "groups", "beat")


def vector_parts(plan: ChipPlan, copies: dict[str, int], active: dict[str, int]) -> Iterator[Part]:
    """Norms, residual adders, gate, shrinks, control."""
    a, beat = plan.architecture, plan.beat
    beats, inner, query = a.width // beat, a.inner // beat, a.query_width // beat
    yield norm_part(plan, 2)
    yield Part("residual adders", "vectors", copies=2, active=2, block=logic("residual", beat=beat),
               cycles=beats, moved=a.width * RESIDUAL.bits)  # fmt: skip
    many, used = copies["down"], active["down"]
    yield Part("gate", "vectors", copies=many, active=used, block=logic("gate", beat=beat),
               cycles=inner)  # fmt: skip
    for name, length, bits, steps, n, k in (
        ("o shrink", a.query_width, ATTENTION_INT.bits, query, 1, 1),
        ("down shrink", a.inner, PRODUCT.bits, inner, many, used),
    ):
        yield Part(
            name, "vectors", copies=n, active=k, cycles=2 * steps,
            block=logic("shrink", input_bits=beat * bits, beat=beat),
            sram=length * bits, sram_bits=2 * length * bits,
        )  # fmt: skip
    yield Part("layer control", "vectors", block=logic("layer", beat=beat), cycles=2 * beats)


def norm_part(plan: ChipPlan, copies: int) -> Part:
    """Norms with their buffers: written once, read for the output and for the residual."""
    a, beat = plan.architecture, plan.beat
    bits = a.width * RESIDUAL.bits
    return Part(
        "norms", "vectors", copies=copies, active=copies, block=logic("norm", beat=beat),
        cycles=2 * (a.width // beat), sram=bits, sram_bits=3 * bits, rom=NORM_BITS,
        rom_bits=NORM_BITS,
    )  # fmt: skip


def adapter_part(name: str, shape: AdapterPlan) -> Part:
    """The block beside a matrix; at rest while no adapter is on."""
    block = logic("adapter", multipliers=shape.multipliers, lanes=shape.lanes, beat=shape.beat)
    return Part(f"{name} adapter", "adapters", active=0, block=block,
                sram=shape.bits + shape.buffer_bits)  # fmt: skip


def end_parts(plan: ChipPlan) -> Iterator[Part]:
    """Embedding, head, sampler, host port."""
    a, beat = plan.architecture, plan.beat
    beats, columns = a.width // beat, -(-a.vocabulary // beat)
    yield Part(
        "embedding", "embedding", block=logic("embedding", beat=beat), cycles=beats,
        rom=a.vocabulary * (a.width * EMBEDDING.bits + MULTIPLIER_BITS),
        rom_bits=a.width * EMBEDDING.bits + MULTIPLIER_BITS, moved=a.width * RESIDUAL.bits,
    )  # fmt: skip
    yield replace(norm_part(plan, 1), name="final norm", kind="head")
    yield from fabric_parts("head", plan.head, beat)
    narrow = logic("narrow", sum_bits=beat * plan.head.accumulator, beat=beat)
    yield Part("head narrow", "head", block=narrow, cycles=columns)
    yield Part("head control", "head", block=logic("head", beat=beat), cycles=columns)
    places, comparators = sampler_sizes(plan)
    block = logic("sampler", places=places, comparators=comparators)
    yield Part("sampler", "head", block=block, cycles=sampler_cycles(columns))
    yield Part("host port", "port", block=logic("port", slots=plan.slots), cycles=2)


def sampler_cycles(beats: int) -> float:
    """Cycles in which the sampler moves: beats with a candidate, then a candidate per cycle.

    In random order the j-th beat has one of the best so far with a chance of ``CANDIDATES / j``.
    """
    candidates = min(beats, CANDIDATES)
    return candidates * (1 + math.log(beats / candidates)) + CANDIDATES


def sampler_sizes(plan: ChipPlan) -> tuple[int, int]:
    """Places of the sampler's lists, and comparators of its sorting network."""
    beats, ranks = -(-plan.architecture.vocabulary // plan.beat), min(plan.beat, CANDIDATES)
    places = sum(min(CANDIDATES // (rank + 1), beats) for rank in range(ranks))
    width = plan.beat.bit_length() - 1
    comparators = (width * width - width + 4) * (1 << width) // 4 - 1 if width else 0
    return places, comparators
