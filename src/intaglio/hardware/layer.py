"""One layer: its fabrics, norms, attention and gate, for one position at a time."""

from typing import NamedTuple

from amaranth.hdl import Cat, ClockSignal, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from intaglio.golden.model import MATRICES
from intaglio.golden.number import ATTENTION, GATE, KEY, PRODUCT, RESIDUAL, ROTARY, UP, VALUE, Int
from intaglio.hardware.adapted import Adapted
from intaglio.hardware.attention import Attention
from intaglio.hardware.gate import Gate
from intaglio.hardware.library import Library
from intaglio.hardware.linear import Linear
from intaglio.hardware.norm import Norm
from intaglio.hardware.port import (
    POSITION_BITS,
    PROBES,
    header_layout,
    residual_signature,
    side_layout,
)
from intaglio.hardware.residual import Residual
from intaglio.hardware.rotary import Rotary
from intaglio.hardware.shrink import Shrink
from intaglio.plan.adapter import layer_adapters
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import GROUPS, FabricPlan


class Gated(NamedTuple):
    """The clock of a gated block, and its reset."""

    clock: Signal
    reset: Signal


def gated_clock(m: Module, enable: Value, root: Value) -> Gated:
    """The clock ``root`` while ``enable`` or reset is high, for a block placed in this module.

    ``root`` is the chip's free-running clock: behind another gate, a gate would open a cycle late.
    """
    gated = Gated(Signal(), Signal())
    m.submodules += Instance(
        "clock_gate",
        i_clk=root,
        i_rst=ResetSignal(),
        i_enable=enable,
        o_gated=gated.clock,
        o_gated_rst=gated.reset,
    )
    return gated


def probe(
    m: Module, op: str, beat: int, bits: int, *, fire: Value, layer: Value, header, payload
) -> None:
    """Show one beat of an operation's result to a simulation; nothing in silicon."""
    m.submodules += Instance(
        "probe",
        p_OP=PROBES.index(op),
        p_COUNT=beat,
        p_BITS=bits,
        i_clk=ClockSignal(),
        i_fire=fire,
        i_layer=layer,
        i_slot=header.slot,
        i_position=header.position,
        i_data=Value.cast(payload),
    )


class Layer(wiring.Component):
    """A transformer layer.

    Takes a position's residual (width / beat beats, one header), returns it with attention and MLP
    added; the next position is taken when the last beat has left. Which layer it is comes on a
    port, so that layers of one shape are one module.

    Members
    -------
    root : ``In(1)``, the free-running clock; the layer's own may stop while it is idle
    id : ``In(16)``, the layer's number: names its ROM images
    i, o : residual streams
    busy : ``Out(1)``, a position is inside, or a write
    side, side_valid, next_side, next_side_valid : with side memory, writes, see
        :func:`~intaglio.hardware.port.side_layout`: every layer passes all of them on
    """

    def __init__(self, *, library: Library, plan: ChipPlan, fabrics: dict[str, FabricPlan]) -> None:
        self.library, self.plan, self.fabrics = library, plan, fabrics
        self.adapters, side = {}, {}
        if plan.adapter_rank:
            self.adapters = layer_adapters(
                fabrics, plan.adapter_rank, plan.beat, plan.adapter_count
            )
            layout = side_layout(plan)
            side = {
                "side": In(layout), "side_valid": In(1),
                "next_side": Out(layout), "next_side_valid": Out(1),
            }  # fmt: skip
        super().__init__(
            {
                "root": In(1),
                "id": In(16),
                "i": In(residual_signature(plan)),
                "o": Out(residual_signature(plan)),
                "busy": Out(1),
                **side,
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        a, beat = self.plan.architecture, self.plan.beat
        beats = a.width // beat

        self.header = header = Signal(header_layout(self.plan))
        inside, receiving, started = Signal(), Signal(), Signal()
        received, sent = Signal(range(beats + 1)), Signal(range(beats + 1))
        first, last = Signal(), Signal()

        norm = self._norm(m, "norm_attention", self.i.valid)
        with m.If(~inside | receiving):
            m.d.comb += [
                norm.i.valid.eq(self.i.valid),
                self.i.ready.eq(norm.i.ready),
            ]
        m.d.comb += [
            Value.cast(norm.i.payload).eq(self.i.payload.data),
            self.busy.eq(inside | self.next_side_valid if self.adapters else inside),
            first.eq(self.i.valid & self.i.ready & ~inside),
            last.eq(self.o.valid & self.o.ready & (sent == beats - 1)),
        ]
        m.d.sync += started.eq(first)
        with m.If(first):
            m.d.sync += [header.eq(self.i.payload.header), inside.eq(1)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                received.eq(received + 1),
                receiving.eq(received != beats - 1),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += sent.eq(sent + 1)
        with m.If(last):
            m.d.sync += [inside.eq(0), received.eq(0), sent.eq(0)]
        if self.adapters:
            m.d.sync += self.next_side_valid.eq(self.side_valid)
            with m.If(self.side_valid):
                m.d.sync += self.next_side.eq(self.side)

        def show(op: str, source, bits: int, when: Value | int = 1, payload=None) -> None:
            probe(
                m, op, beat, bits, fire=source.valid & source.ready & when, layer=self.id,
                header=header, payload=source.payload if payload is None else payload,
            )  # fmt: skip

        show("norm_attention", norm.o, self.plan.widths.norm)
        mixed = self._attention(m, norm.o, header, started, show)
        after = self._residual(m, mixed, norm.x)
        show("residual_attention", after.o, RESIDUAL.bits)

        norm_mlp = self._norm(m, "norm_mlp", after.o.valid)
        connect(m, after.o, norm_mlp.i)
        show("norm_mlp", norm_mlp.o, self.plan.widths.norm)
        made = self._mlp(m, norm_mlp.o, show)
        end = self._residual(m, made, norm_mlp.x)
        show("residual_mlp", end.o, RESIDUAL.bits)
        m.d.comb += [
            self.o.valid.eq(end.o.valid),
            end.o.ready.eq(self.o.ready),
            self.o.payload.header.eq(header),
            self.o.payload.data.eq(Value.cast(end.o.payload)),
        ]
        return m

    def _place(self, m: Module, kind, gated: Gated, **parameters):
        return self.library.place(m, kind, clock=gated.clock, reset=gated.reset, **parameters)

    def _norm(self, m: Module, name: str, valid: Value):
        clock_enable = Signal()
        norm = self._place(
            m, Norm, gated_clock(m, clock_enable, self.root),
            width=self.plan.architecture.width, beat=self.plan.beat, to=Int(self.plan.widths.norm),
        )  # fmt: skip
        # the replay waits with its clock stopped until the adder takes it
        m.d.comb += clock_enable.eq(norm.busy | valid | (norm.x.valid & norm.x.ready))
        place_norm_constants(m, name, self.id, norm)
        return norm

    def _residual(self, m: Module, y, x):
        clock_enable = Signal()
        block = self._place(
            m, Residual, gated_clock(m, clock_enable, self.root), beat=self.plan.beat
        )
        m.d.comb += clock_enable.eq(block.busy | y.valid)
        connect(m, y, block.y)
        connect(m, x, block.x)
        return block

    def _linear(self, m: Module, group: str, source, to: dict[str, Int], lift: Value | int = 0):
        names = GROUPS[group]
        parameters = {
            "matrices": tuple((name, self.fabrics[name], to[name]) for name in names),
            "order": "parallel" if group == "mlp" else "sequence",
            "beat": self.plan.beat,
        }
        if self.adapters:
            linear = self._adapted(m, names, parameters)
            connect(m, source, linear.i)
        else:
            enable = Signal(name="clock_enable")
            linear = self._place(m, Linear, gated_clock(m, enable, self.root), **parameters)
            connect(m, source, linear.i)
            m.d.comb += enable.eq(linear.busy | source.valid)
        m.d.comb += [linear.id.eq(self.id), linear.lift.eq(lift)]
        return linear

    def _adapted(self, m: Module, names: tuple[str, ...], parameters: dict):
        """The matrices with their adapters, which take the writes that are for them."""
        block = self._place(
            m, Adapted, Gated(ClockSignal(), ResetSignal()), library=self.library,
            adapters=tuple(self.adapters[name] for name in names), **parameters,
        )  # fmt: skip
        side, first = self.next_side, MATRICES.index(names[0])
        mine = (side.matrix >= first) & (side.matrix < first + len(names))
        m.d.comb += [
            block.root.eq(self.root),
            block.enable.eq(self.header.adapted),
            block.number.eq(self.header.adapter),
            block.write.valid.eq(self.next_side_valid & (side.layer == self.id) & mine),
            block.write.payload.matrix.eq(side.matrix - first),
            *(block.write.payload[name].eq(side[name]) for name in ("lane", "word", "data")),
        ]
        return block

    def _shrink(self, m: Module, source, length: int, wide: Int, bits: int):
        clock_enable = Signal()
        block = self._place(
            m, Shrink, gated_clock(m, clock_enable, self.root),
            length=length, beat=self.plan.beat, source=wide, to=Int(bits),
        )  # fmt: skip
        m.d.comb += clock_enable.eq(block.busy | source.valid)
        connect(m, source, block.i)
        return block

    def _attention(self, m: Module, source, header, started: Value, show):
        """From the norm's output to the increment of the residual."""
        plan, a, beat = self.plan, self.plan.architecture, self.plan.beat
        linear = self._linear(m, "qkv", source, {"q": ROTARY, "k": ROTARY, "v": VALUE})
        enable = Signal()
        gated = gated_clock(m, enable, self.root)
        query = Int(plan.widths.query)
        rotary = self._place(
            m, Rotary, gated, heads=a.heads, kv_heads=a.kv_heads, head_width=a.head_width,
            beat=beat, fractions=plan.rotary, query=query, position_bits=POSITION_BITS,
        )  # fmt: skip
        attention = self._place(
            m, Attention, gated, heads=a.heads, kv_heads=a.kv_heads, head_width=a.head_width,
            context=plan.context, slots=plan.slots, beat=beat, positions=plan.positions,
            query=query,
        )  # fmt: skip
        connect(m, linear.o, rotary.i)
        connect(m, rotary.o, attention.i)
        score_shift = place_constant(m, "score_shift", self.id, 5)
        m.d.comb += [
            enable.eq(started | rotary.busy | attention.busy | linear.o.valid),
            rotary.start.eq(started),
            rotary.position.eq(header.position),
            attention.slot.eq(header.slot),
            attention.position.eq(header.position),
            attention.score_shift.eq(score_shift),
        ]
        self._show_heads(m, linear.o, ("q", "k", "v"), (ROTARY, ROTARY, VALUE), show)
        self._show_heads(m, rotary.o, ("rotary_q", "rotary_k", None), (query, KEY, VALUE), show)
        show("attention", attention.o, ATTENTION.bits)
        shrink = self._shrink(m, attention.o, a.query_width, ATTENTION, plan.widths.attention)
        show("attention_shrink", shrink.o, plan.widths.attention)
        out = self._linear(m, "o", shrink.o, {"o": RESIDUAL}, shrink.shift)
        show("o", out.o, RESIDUAL.bits)
        return out.o

    def _show_heads(self, m: Module, source, names, widths, show) -> None:
        """Probe a stream of q beats, then k beats, then v beats."""
        a, beat = self.plan.architecture, self.plan.beat
        ends = [a.query_width // beat, (a.query_width + a.kv_width) // beat]
        ends.append(ends[-1] + a.kv_width // beat)
        count = Signal(range(ends[-1]))
        with m.If(source.valid & source.ready):
            m.d.sync += count.eq(count + 1)
            with m.If(count == ends[-1] - 1):
                m.d.sync += count.eq(0)
        start = 0
        for name, width, end in zip(names, widths, ends, strict=True):
            if name:
                elements = Cat(source.payload[i][: width.bits] for i in range(beat))
                show(name, source, width.bits, (count >= start) & (count < end), elements)
            start = end

    def _mlp(self, m: Module, source, show):
        """From the norm's output to the increment of the residual."""
        plan, a, beat = self.plan, self.plan.architecture, self.plan.beat
        linear = self._linear(m, "mlp", source, {"gate": GATE, "up": UP})
        enable = Signal()
        gate = self._place(m, Gate, gated_clock(m, enable, self.root), beat=beat)
        gates = Cat(linear.o.payload[0][i][: GATE.bits] for i in range(beat))
        ups = Cat(linear.o.payload[1][i][: UP.bits] for i in range(beat))
        m.d.comb += [
            enable.eq(gate.busy | linear.o.valid),
            gate.i.valid.eq(linear.o.valid),
            linear.o.ready.eq(gate.i.ready),
            Value.cast(gate.i.payload.gate).eq(gates),
            Value.cast(gate.i.payload.up).eq(ups),
        ]
        show("gate", linear.o, GATE.bits, payload=gates)
        show("up", linear.o, UP.bits, payload=ups)
        show("product", gate.o, PRODUCT.bits)
        shrink = self._shrink(m, gate.o, a.inner, PRODUCT, plan.widths.product)
        show("product_shrink", shrink.o, plan.widths.product)
        out = self._linear(m, "down", shrink.o, {"down": RESIDUAL}, shrink.shift)
        show("down", out.o, RESIDUAL.bits)
        return out.o


def place_constant(m: Module, name: str, number: Value | int, bits: int) -> Signal:
    """One word of the programmable layer, from the image ``name`` of layer ``number``."""
    word = Signal(bits, name=name)
    m.submodules += Instance(
        "rom",
        p_NAME=name,
        p_WIDTH=bits,
        p_DEPTH=1,
        i_clk=ClockSignal(),
        i_id=number,
        i_address=0,
        o_data=word,
    )
    return word


def place_norm_constants(m: Module, name: str, number: Value | int, norm) -> None:
    """Wire a norm's epsilon, multiplier and shift to its word of ROM."""
    word = place_constant(m, name, number, 48 + 16 + 6)
    m.d.comb += Cat(norm.epsilon, norm.multiplier, norm.shift).eq(word)
