"""The blocks that ``synthesis.py`` measures: at which sizes, and what their areas are sums of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Instance, Module, Value
from amaranth.lib.wiring import In

from intaglio.architecture import Architecture
from intaglio.golden.number import Int, Widths
from intaglio.hardware.accumulate import Accumulate, Start
from intaglio.hardware.adapter import Adapter
from intaglio.hardware.attention import GROUP, Attention
from intaglio.hardware.chain import Ends
from intaglio.hardware.embedding import Embedding
from intaglio.hardware.exponential import Exponential
from intaglio.hardware.gate import Gate
from intaglio.hardware.head import Head
from intaglio.hardware.layer import Layer
from intaglio.hardware.library import Library
from intaglio.hardware.linear import Linear
from intaglio.hardware.norm import Norm
from intaglio.hardware.product_bank import ProductBank
from intaglio.hardware.reciprocal import Reciprocal
from intaglio.hardware.residual import Residual
from intaglio.hardware.rotary import Rotary
from intaglio.hardware.sampler import Sampler
from intaglio.hardware.select import Select
from intaglio.hardware.shrink import Shrink
from intaglio.plan.adapter import AdapterPlan
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import FabricPlan


class Places:
    """A library that places components without emitting them: black boxes."""

    def place(self, m: Module, kind: Any, *, clock: Any, reset: Any, **parameters: Any) -> Any:
        """An instance with the interface of ``kind``."""
        component = kind(**parameters)
        interface = component.signature.create(path=(kind.__name__,))
        ports: dict[str, Any] = {"a_keep": True, "i_clk": clock, "i_rst": reset}
        for path, member, value in component.signature.flatten(interface):
            direction = "i" if member.flow == In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
        m.submodules += Instance(f"placed_{kind.__name__.lower()}", **ports)
        return interface


Sizes = dict[str, int]


@dataclass(frozen=True)
class Block:
    """A block to synthesise.

    ``points``: its sizes. ``make``: a component of these sizes. ``terms``: what its area is a sum
    of, each a number out of the sizes. ``known``: blocks inside that have terms of their own, with
    their sizes: taken off before the fit.
    """

    title: str
    points: list[Sizes]
    make: Callable[..., Any]
    terms: dict[str, Callable[..., float]]
    known: Callable[..., Iterator[tuple[str, Sizes, int]]] | None = None
    smallest: int = 0


def fabric(bits: int = 3, **sizes: int) -> FabricPlan:
    """A small fabric."""
    return FabricPlan(
        bits=bits, extra_rows=sizes.get("extra", 0), extra_shift=0,
        inputs=sizes["inputs"], outputs=sizes["outputs"], lanes=sizes["lanes"],
        activation=sizes.get("activation", 8), accumulator=sizes["accumulator"],
    )  # fmt: skip


def small_plan(beat: int, slots: int) -> ChipPlan:
    """A chip of one layer."""
    shape = Architecture(
        family="llama", vocabulary=512, width=64, layers=1, heads=4, kv_heads=2, head_width=16,
        inner=128, context=256, rope_base=1e4, norm_epsilon=1e-5, tied=False,
    )  # fmt: skip
    sizes = {
        "q": (64, 64), "k": (64, 32), "v": (64, 32), "o": (64, 64), "gate": (64, 128),
        "up": (64, 128), "down": (128, 64),
    }  # fmt: skip
    layer = {
        name: fabric(inputs=n, outputs=m, lanes=16, accumulator=24,
                     activation=Widths().inputs(name))
        for name, (n, m) in sizes.items()
    }  # fmt: skip
    return ChipPlan(
        target="generic", architecture=shape, widths=Widths(), context=256, slots=slots, beat=beat,
        positions=1, rotary=tuple(range(8)), layers=(layer,),
        head=fabric(inputs=64, outputs=512, lanes=16, accumulator=24),
    )  # fmt: skip


def make_narrow(beat: int, accumulator: int, to: int) -> Linear:
    """A fabric's narrowing; the fabric itself is a black box."""
    shape = fabric(inputs=8 * beat, outputs=8 * beat, lanes=8, accumulator=accumulator)
    return Linear(matrices=(("x", shape, Int(to)),), order="sequence", beat=beat)


def make_select(inputs: int, outputs: int, lanes: int, accumulator: int, beat: int) -> Select:
    """A fabric around its black boxes: cells, ROMs, banks, columns, start values."""
    shape = fabric(inputs=inputs, outputs=outputs, lanes=lanes, accumulator=accumulator)
    return Select(name="x", fabric=shape, beat=beat, library=Library())


def make_attention(heads: int, kv_heads: int, head_width: int, positions: int, beat: int):
    """Attention of a small context; its memories are outside."""
    return Attention(
        heads=heads, kv_heads=kv_heads, head_width=head_width, context=64 * positions, slots=2,
        beat=beat, positions=positions, query=Int(12),
    )  # fmt: skip


def attention_known(heads: int, kv_heads: int, head_width: int, positions: int, beat: int):
    """The exponentials and reciprocals inside."""
    yield "exponential", {"lanes": heads * positions}, 1
    yield "reciprocal", {"lanes": heads}, 1


def make_adapter(rank: int, lanes: int, beat: int) -> Adapter:
    """An adapter's block."""
    return Adapter(shape=AdapterPlan(64, 64, rank, lanes, beat, 8))


def sampler_places(vocabulary: int, beat: int) -> int:
    """Places of the sampler's lists."""
    return sum(Sampler(vocabulary=vocabulary, beat=beat).depths)


def sampler_comparators(vocabulary: int, beat: int) -> int:
    """Comparators of the sampler's sorting network."""
    return sum(map(len, Sampler(vocabulary=vocabulary, beat=beat).network))


ONE = {"base": lambda **s: 1}
PER_BEAT = {"beat": lambda **s: s["beat"], **ONE}
BEATS = [{"beat": beat} for beat in (1, 2, 4)]
BLOCKS: dict[str, Block] = {
    **{
        f"bank_{bits}": Block(
            f"product bank of one lane, {bits}-bit codes", [{}],
            lambda bits=bits: ProductBank(bits=bits), ONE,
        )
        for bits in (2, 3, 4)
    },
    "column": Block(
        "counter tree and accumulator of one column",
        [
            {"lanes": n, "product": p, "accumulator": a, "shift": s}
            for n, p, a, s in (
                (16, 12, 20, 0), (32, 14, 26, 0), (64, 12, 24, 0), (64, 12, 32, 0),
                (128, 12, 26, 0), (256, 12, 28, 0), (64, 12, 32, 6), (32, 12, 24, 4),
            )
        ],
        Accumulate,
        {
            "lanes": lambda **s: s["lanes"],
            "accumulator": lambda **s: s["accumulator"],
            "shifted": lambda **s: s["accumulator"] * bool(s["shift"]),
            **ONE,
        },
    ),
    "start": Block(
        "a beat of sums taken, and its start values added",
        [{"beat": b, "accumulator": a} for b, a in ((1, 20), (2, 24), (4, 32), (8, 24))],
        Start,
        {"sum_bits": lambda **s: s["beat"] * s["accumulator"]},
    ),
    "frame": Block(
        "a fabric's activation registers, row selection, control and reading of sums",
        [
            {"inputs": i, "outputs": o, "lanes": n, "accumulator": a, "beat": b}
            for i, o, n, a, b in (
                (32, 8, 8, 20, 4), (64, 8, 8, 20, 4), (64, 8, 16, 20, 4), (128, 8, 16, 20, 4),
                (64, 16, 8, 20, 4), (64, 16, 8, 24, 8), (64, 32, 16, 20, 4), (128, 64, 8, 24, 4),
            )
        ],
        make_select,
        {
            "activation_bits": lambda **s: 8 * s["inputs"],
            "lanes": lambda **s: s["lanes"],
            "sum_bits": lambda **s: s["outputs"] * s["accumulator"],
            **ONE,
        },
    ),
    "narrow": Block(
        "narrowing of a beat of sums: multiply, shift, round, saturate",
        [
            {"beat": b, "accumulator": a, "to": t}
            for b, a, t in ((1, 24, 16), (2, 24, 16), (4, 24, 16), (2, 32, 16), (2, 24, 32))
        ],
        make_narrow,
        {
            "sum_bits": lambda **s: s["beat"] * s["accumulator"],
            "beat": lambda **s: s["beat"],
            **ONE,
        },
    ),
    "norm": Block(
        "root mean square norm", BEATS[1:],
        lambda beat: Norm(width=64 * beat, beat=beat, to=Int(8)), PER_BEAT,
    ),
    "rotary": Block(
        "rotation of queries and keys, with its sines",
        [
            {"beat": b, "head_width": w}
            for b, w in ((2, 16), (4, 16), (2, 32), (4, 64))
        ],
        lambda beat, head_width: Rotary(
            heads=2, kv_heads=1, head_width=head_width, beat=beat, query=Int(12), position_bits=20,
            fractions=[round(2**32 * 1e4 ** (-2 * k / head_width) / 6.2832) % 2**32
                       for k in range(head_width // 2)],
        ),
        {"beat": lambda **s: s["beat"], "head_width": lambda **s: s["head_width"], **ONE},
    ),
    "exponential": Block(
        "exponential units, a lane each", [{"lanes": n} for n in (1, 2, 4)],
        lambda lanes: Exponential(lanes=lanes, bits=20), {"lanes": lambda **s: s["lanes"], **ONE},
    ),
    "reciprocal": Block(
        "serial reciprocals, a lane each", [{"lanes": n} for n in (1, 2, 4)],
        lambda lanes: Reciprocal(lanes=lanes, bits=27), {"lanes": lambda **s: s["lanes"], **ONE},
    ),
    "attention": Block(
        "attention without its memories, exponentials and reciprocals",
        [
            {"heads": h, "kv_heads": k, "head_width": w, "positions": p, "beat": b}
            for h, k, w, p, b in (
                (1, 1, 4, 1, 2), (2, 1, 4, 1, 2), (2, 2, 4, 1, 2), (2, 1, 8, 1, 2),
                (2, 1, 4, 2, 2), (2, 1, 4, 1, 4), (1, 1, 8, 2, 2), (1, 1, 4, 4, 2),
                (1, 1, 16, 1, 2),
            )
        ],
        make_attention,
        {
            # score and value MACs; accumulators and query registers; keys' sums; scores
            "products": lambda **s: s["heads"] * s["head_width"] * s["positions"],
            "elements": lambda **s: s["heads"] * s["head_width"],
            "key_elements": lambda **s: s["kv_heads"] * s["head_width"] * s["positions"],
            "scores": lambda **s: s["heads"] * s["positions"],
            # a register for the sum of up to 8 products
            "groups": lambda **s: s["heads"] * s["positions"] * -(-s["head_width"] // GROUP),
            "beat": lambda **s: s["beat"],
            **ONE,
        },
        known=attention_known,
    ),
    "gate": Block("gated unit: SiLU and product", BEATS[:2], Gate, PER_BEAT),
    "shrink": Block(
        "narrowing of a vector by its own power of two",
        [{"beat": b, "source": s, "to": t}
         for b, s, t in ((2, 16, 8), (4, 16, 8), (8, 16, 8), (4, 32, 10), (8, 32, 10))],
        lambda beat, source, to: Shrink(
            length=32 * beat, beat=beat, source=Int(source), to=Int(to)
        ),
        {"input_bits": lambda **s: s["beat"] * s["source"], **PER_BEAT},
    ),
    "residual": Block("adder of the residual stream", BEATS, Residual, PER_BEAT),
    "sampler": Block(
        "sampler: the 64 largest logits, their weights, Philox",
        [{"vocabulary": 8192, "beat": b} for b in (1, 2, 4, 8)],
        Sampler,
        {"places": lambda **s: sampler_places(**s),
         "comparators": lambda **s: sampler_comparators(**s), **ONE},
        smallest=2048,
    ),
    "embedding": Block(
        "scaling of the embedding", BEATS,
        lambda beat: Embedding(vocabulary=4096, width=32 * beat, beat=beat), PER_BEAT,
    ),
    "port": Block(
        "host port, settings of slots, ring",
        [{"slots": n} for n in (2, 4, 8)],
        lambda slots: Ends(library=Places(), plan=small_plan(4, slots)),
        {"slots": lambda **s: s["slots"], **ONE}, smallest=4096,
    ),
    "layer": Block(
        "control of a layer", BEATS[1:],
        lambda beat: Layer(library=Places(), plan=small_plan(beat, 2),
                           fabrics=small_plan(beat, 2).layers[0]),
        PER_BEAT,
    ),
    "head": Block(
        "control of the head", BEATS[1:],
        lambda beat: Head(library=Places(), plan=small_plan(beat, 2)), PER_BEAT, smallest=2048,
    ),
    "adapter": Block(
        "an adapter's block without its memories",
        [{"rank": r, "lanes": n, "beat": b}
         for r, n, b in ((4, 1, 2), (4, 2, 2), (4, 4, 2), (4, 2, 4), (8, 4, 4), (8, 8, 2))],
        make_adapter,
        {"multipliers": lambda **s: s["lanes"] * s["beat"], "lanes": lambda **s: s["lanes"],
         **PER_BEAT},
    ),
}  # fmt: skip
