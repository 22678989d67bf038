"""The chip: host port, embedding, layers, head, and the ring back to the embedding."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect

from intaglio.golden.number import LOGIT, RESIDUAL
from intaglio.hardware.embedding import Embedding
from intaglio.hardware.head import Head
from intaglio.hardware.layer import Layer, gated_clock, place_constant, probe
from intaglio.hardware.library import Library
from intaglio.hardware.port import (
    ADAPTED,
    COMMAND,
    RESULT,
    SETTINGS,
    TOKEN_BITS,
    command_layout,
    header_layout,
    logits_layout,
    residual_signature,
    side_layout,
)
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import FabricPlan


def entry_layout(plan: ChipPlan) -> data.StructLayout:
    """What enters the embedding."""
    return data.StructLayout({"token": TOKEN_BITS, "header": header_layout(plan)})


class Chain(wiring.Component):
    """A whole chip: the ends of the chain, and the layers between them.

    Members
    -------
    command : stream of tokens to run, settings of slots and writes, see :func:`command_layout`
    result : stream of generated tokens, see ``RESULT``
    logits : stream of logits, used in host sampling mode only
    busy : ``Out(1)``, something is inside
    """

    def __init__(self, *, library: Library, plan: ChipPlan) -> None:
        self.library, self.plan = library, plan
        super().__init__(port_members(plan))

    def elaborate(self, platform) -> Module:
        m = Module()
        ends = self.library.place(
            m, Ends, clock=ClockSignal(), reset=ResetSignal(), library=self.library,
            plan=self.plan,
        )  # fmt: skip
        connect(m, wiring.flipped(self.command), ends.command)
        connect(m, ends.result, wiring.flipped(self.result))
        connect(m, ends.logits, wiring.flipped(self.logits))
        source, busy, before = ends.first, [ends.busy], ends
        for index, fabrics in enumerate(self.plan.layers):
            enable = Signal(name=f"enable_{index}")
            layer = self.library.place(
                m, Layer, **gated_clock(m, enable, ClockSignal())._asdict(),
                **layer_parameters(self.library, self.plan, fabrics),
            )  # fmt: skip
            connect(m, source, layer.i)
            m.d.comb += [
                enable.eq(layer.busy | source.valid),
                layer.root.eq(ClockSignal()),
                layer.id.eq(index),
            ]
            if self.plan.adapter_rank:  # writes pass on, a layer per cycle
                m.d.comb += [
                    enable.eq(layer.busy | source.valid | before.next_side_valid),
                    layer.side.eq(before.next_side),
                    layer.side_valid.eq(before.next_side_valid),
                ]
            busy.append(layer.busy)
            source, before = layer.o, layer
        connect(m, source, ends.last)
        m.d.comb += self.busy.eq(Cat(*busy).any())
        return m


def port_members(plan: ChipPlan) -> dict:
    """The members of the host port."""
    return {
        "command": In(stream.Signature(command_layout(plan))),
        "result": Out(stream.Signature(RESULT)),
        "logits": Out(stream.Signature(logits_layout(plan.beat, LOGIT.bits, header_layout(plan)))),
        "busy": Out(1),
    }


def layer_parameters(library: Library, plan: ChipPlan, fabrics: dict[str, FabricPlan]) -> dict:
    """What a layer is made with."""
    return {"library": library, "plan": plan, "fabrics": fabrics}


class Ends(wiring.Component):
    """Both ends of the chain: host port, settings, embedding; head, and the ring between them.

    Members
    -------
    command, result, logits, busy : as of :class:`Chain`
    first : residual stream to the first layer
    last : residual stream from the last layer
    next_side, next_side_valid : with side memory, ``Out``: writes on their way to the layers
    """

    def __init__(self, *, library: Library, plan: ChipPlan) -> None:
        self.library, self.plan = library, plan
        residual = residual_signature(plan)
        side = (
            {"next_side": Out(side_layout(plan)), "next_side_valid": Out(1)}
            if plan.adapter_rank
            else {}
        )
        super().__init__(
            {**port_members(plan), "first": Out(residual), "last": In(residual), **side}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.ring = ring = SyncFIFO(
            width=entry_layout(self.plan).size, depth=max(self.plan.slots, 2)
        )
        settings = self._settings(m)
        entry = self._entry(m, ring)
        connect(m, entry.o, wiring.flipped(self.first))
        enable = Signal()
        head = self.library.place(
            m, Head, **gated_clock(m, enable, ClockSignal())._asdict(),
            library=self.library, plan=self.plan,
        )  # fmt: skip
        connect(m, wiring.flipped(self.last), head.i)
        connect(m, head.logits, wiring.flipped(self.logits))
        m.d.comb += [
            enable.eq(head.busy | self.last.valid),
            head.root.eq(ClockSignal()),
            self.busy.eq(entry.busy | ring.r_rdy | head.busy),
        ]
        self._exit(m, head, settings, ring)
        if self.plan.adapter_rank:
            self._send_side(m, entry.busy | ring.r_rdy | head.busy)
        return m

    def _send_side(self, m: Module, busy: Value) -> None:
        """Writes go to the first layer a cycle after they came."""
        command = self.command.payload
        m.d.comb += self.busy.eq(busy | self.next_side_valid)
        m.d.sync += self.next_side_valid.eq(self.command.valid & command.write)
        with m.If(self.command.valid & command.write):
            m.d.sync += self.next_side.eq(command.side)

    def _settings(self, m: Module) -> list[dict[str, Signal]]:
        """The settings of every slot, written by commands."""
        command = self.command.payload
        slots = [
            {name: Signal(COMMAND[name].shape, name=f"{name}_{slot}") for name in SETTINGS}
            for slot in range(self.plan.slots)
        ]
        for slot, registers in enumerate(slots):
            with m.If(self.command.valid & command.kind & (command.slot == slot)):
                m.d.sync += [register.eq(command[name]) for name, register in registers.items()]
        return slots

    def _entry(self, m: Module, ring: SyncFIFO):
        """The embedding; returning tokens go before the host's."""
        entry = self.library.place(
            m, Entry, clock=ClockSignal(), reset=ResetSignal(), library=self.library,
            plan=self.plan,
        )  # fmt: skip
        command = self.command.payload
        header = Signal(header_layout(self.plan))
        beside = command.kind  # commands that do not enter the chain
        if self.plan.adapter_rank:
            beside = command.kind | command.write
            m.d.comb += [header[name].eq(command[name]) for name in ADAPTED]
        m.d.comb += [
            header.slot.eq(command.slot),
            header.epoch.eq(command.epoch),
            header.position.eq(command.position),
            header.last.eq(command.last),
        ]
        with m.If(ring.r_rdy):
            m.d.comb += [
                entry.i.valid.eq(1),
                Value.cast(entry.i.payload).eq(ring.r_data),
                ring.r_en.eq(entry.i.ready),
            ]
        with m.Elif(~beside):
            m.d.comb += [
                entry.i.valid.eq(self.command.valid),
                Value.cast(entry.i.payload).eq(Cat(command.token, header)),
            ]
        m.d.comb += self.command.ready.eq(beside | (entry.i.ready & ~ring.r_rdy))
        return entry

    def _exit(self, m: Module, head, slots: list[dict[str, Signal]], ring: SyncFIFO) -> None:
        """From the head's token to the host and to the ring; stale epochs are dropped."""
        chosen = {name: Signal(COMMAND[name].shape, name=f"chosen_{name}") for name in SETTINGS}
        with m.Switch(head.header.slot):
            for slot, registers in enumerate(slots):
                with m.Case(slot):
                    m.d.comb += [chosen[name].eq(registers[name]) for name in SETTINGS]
        m.d.comb += [
            getattr(head, name).eq(chosen[name])
            for name in ("beta", "top_k", "top_p", "seed", "host")
        ]
        position = Signal.like(head.header.position)
        final, fresh = Signal(), Signal()
        stopped = chosen["stop_enable"] & (head.o.payload == chosen["stop"])
        after = Signal.like(position)
        adapted = [head.header[name] for name in ADAPTED] if self.plan.adapter_rank else []
        m.d.comb += [
            position.eq(head.header.position + 1),
            after.eq(position + 1),
            final.eq(stopped | (after >= chosen["limit"]) | (position >= self.plan.context)),
            fresh.eq(head.header.epoch == chosen["epoch"]),
            self.result.valid.eq(head.o.valid & fresh),
            head.o.ready.eq(self.result.ready | ~fresh),
            self.result.payload.slot.eq(head.header.slot),
            self.result.payload.epoch.eq(head.header.epoch),
            self.result.payload.position.eq(position),
            self.result.payload.token.eq(head.o.payload),
            self.result.payload.final.eq(final),
            ring.w_en.eq(self.result.valid & self.result.ready & ~final),
            ring.w_data.eq(
                Cat(
                    head.o.payload,
                    head.header.slot,
                    head.header.epoch,
                    position,
                    Const(1, 1),
                    *adapted,
                )
            ),
        ]


class Entry(wiring.Component):
    """The embedding with the header of the position it works on.

    Members
    -------
    i : stream of (token, header), the token in the low bits
    o : residual stream
    busy : ``Out(1)``
    """

    def __init__(self, *, library: Library, plan: ChipPlan) -> None:
        self.library, self.plan = library, plan
        super().__init__(
            {
                "i": In(stream.Signature(entry_layout(plan))),
                "o": Out(residual_signature(plan)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        a, beat = self.plan.architecture, self.plan.beat
        beats = a.width // beat
        enable = Signal()
        gated = gated_clock(m, enable, ClockSignal())
        block = self.library.place(
            m, Embedding, **gated._asdict(), vocabulary=a.vocabulary,
            width=a.width, beat=beat,
        )  # fmt: skip
        number = Const(0, 16)
        for name, width, depth, address, word in (
            ("embedding", beat * 8, a.vocabulary * beats, block.address, block.data),
            ("embedding_multiplier", 16, a.vocabulary, block.multiplier_address, block.multiplier),
        ):
            m.submodules += Instance(
                "rom", p_NAME=name, p_WIDTH=width, p_DEPTH=depth, i_clk=gated.clock, i_id=number,
                i_address=address, o_data=Value.cast(word),
            )  # fmt: skip
        layout = header_layout(self.plan)
        header, sent, inside = Signal(layout), Signal(range(beats + 1)), Signal()
        m.d.comb += [
            self.busy.eq(inside),
            block.shift.eq(place_constant(m, "embedding_shift", number, 6)),
            block.i.payload.token.eq(self.i.payload.token),
            block.i.valid.eq(self.i.valid & ~inside),
            self.i.ready.eq(block.i.ready & ~inside),
            enable.eq(block.busy | block.i.valid),
            self.o.valid.eq(block.o.valid),
            block.o.ready.eq(self.o.ready),
            self.o.payload.header.eq(header),
            self.o.payload.data.eq(Value.cast(block.o.payload)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [header.eq(self.i.payload.header), inside.eq(1), sent.eq(0)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += sent.eq(sent + 1)
            with m.If(sent == beats - 1):
                m.d.sync += inside.eq(0)
        probe(
            m, "embedding", beat, RESIDUAL.bits, fire=self.o.valid & self.o.ready,
            layer=Const(0xFFFF, 16), header=header, payload=block.o.payload,
        )  # fmt: skip
        return m
