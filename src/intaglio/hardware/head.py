"""The end of the chain: final norm, head, sampler."""

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect

from intaglio.golden.number import LOGIT, Int
from intaglio.hardware.layer import gated_clock, place_norm_constants, probe
from intaglio.hardware.library import Library
from intaglio.hardware.linear import Linear
from intaglio.hardware.norm import Norm
from intaglio.hardware.port import TOKEN_BITS, header_layout, logits_layout, residual_signature
from intaglio.hardware.sampler import Sampler
from intaglio.plan.chip import ChipPlan


class Head(wiring.Component):
    """Logits of the positions that want them, and the token chosen from them.

    Positions whose header is not ``last`` are dropped as they come. The others are taken one at a
    time. In host sampling mode the logits leave by ``logits`` and no token is chosen.

    Members
    -------
    root : ``In(1)``, the free-running clock; the head's own may stop while it is idle
    i : residual stream
    header : ``Out``, of the position inside
    beta, top_k, top_p, seed, host : ``In``, the settings of the header's slot
    o : stream of the chosen token
    logits : stream of logits, one beat at a time
    busy : ``Out(1)``
    """

    def __init__(self, *, library: Library, plan: ChipPlan) -> None:
        self.library, self.plan = library, plan
        header = header_layout(plan)
        super().__init__(
            {
                "root": In(1),
                "i": In(residual_signature(plan)),
                "header": Out(header),
                "beta": In(20),
                "top_k": In(7),
                "top_p": In(17),
                "seed": In(64),
                "host": In(1),
                "o": Out(stream.Signature(TOKEN_BITS)),
                "logits": Out(stream.Signature(logits_layout(plan.beat, LOGIT.bits, header))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        plan, beat = self.plan, self.plan.beat
        beats = plan.architecture.width // beat
        columns = -(-plan.architecture.vocabulary // beat)

        inside, receiving, wanted = Signal(), Signal(), Signal()
        header = Signal(header_layout(plan))
        received, sent = Signal(range(beats + 1)), Signal(range(columns + 1))
        enable = Signal()
        norm = self.library.place(
            m, Norm, **gated_clock(m, enable, self.root)._asdict(),
            width=plan.architecture.width, beat=beat, to=Int(plan.widths.norm),
        )  # fmt: skip
        m.d.comb += [
            enable.eq(norm.busy | norm.i.valid | norm.x.valid),
            self.busy.eq(inside),
            self.header.eq(header),
            wanted.eq(self.i.payload.header.last),
            Value.cast(norm.i.payload).eq(self.i.payload.data),
            norm.x.ready.eq(1),
        ]
        place_norm_constants(m, "norm", Const(0, 16), norm)
        with m.If(~wanted):
            m.d.comb += self.i.ready.eq(1)
        with m.Elif(~inside | receiving):
            m.d.comb += [norm.i.valid.eq(self.i.valid), self.i.ready.eq(norm.i.ready)]
        with m.If(norm.i.valid & norm.i.ready):
            m.d.sync += [received.eq(received + 1), receiving.eq(received != beats - 1)]
            with m.If(~inside):
                m.d.sync += [header.eq(self.i.payload.header), inside.eq(1)]

        linear = self._linear(m, norm.o)
        chosen = self._settings(m, norm.i.valid & norm.i.ready & ~inside)
        sampler, done = self._sampler(m, linear.o, chosen), Signal()
        m.submodules.port = port = SyncFIFO(width=beat * LOGIT.bits, depth=2)
        m.d.comb += [
            port.w_data.eq(Value.cast(linear.o.payload)),
            port.w_en.eq(linear.o.valid & chosen["host"]),
            sampler.i.valid.eq(linear.o.valid & ~chosen["host"]),
            linear.o.ready.eq(Mux(chosen["host"], port.w_rdy, sampler.i.ready)),
            self.logits.payload.header.eq(header),
            self.logits.payload.data.eq(port.r_data),
            self.logits.valid.eq(port.r_rdy),
            port.r_en.eq(self.logits.ready),
        ]
        # a register before the port: what the host does is not part of the sampler's logic
        token, full = Signal(TOKEN_BITS), Signal()
        m.d.comb += [
            sampler.o.ready.eq(~full),
            self.o.valid.eq(full),
            self.o.payload.eq(token),
            done.eq(
                (self.o.valid & self.o.ready)
                | (self.logits.valid & self.logits.ready & (sent == columns - 1))
            ),
        ]
        with m.If(sampler.o.valid & ~full):
            m.d.sync += [token.eq(sampler.o.payload), full.eq(1)]
        with m.If(self.logits.valid & self.logits.ready):
            m.d.sync += sent.eq(sent + 1)
        with m.If(done):
            m.d.sync += [inside.eq(0), full.eq(0), received.eq(0), sent.eq(0)]
        self._show(m, norm.o, linear.o)
        return m

    def _settings(self, m: Module, first: Value) -> dict[str, Signal]:
        """The settings as they are when a position has come: registers of the head's own."""
        names, taken = ("beta", "top_k", "top_p", "seed", "host"), Signal()
        chosen = {name: Signal.like(getattr(self, name), name=f"chosen_{name}") for name in names}
        m.d.sync += taken.eq(first)
        with m.If(taken):
            m.d.sync += [register.eq(getattr(self, name)) for name, register in chosen.items()]
        return chosen

    def _linear(self, m: Module, source):
        enable = Signal()
        linear = self.library.place(
            m, Linear, **gated_clock(m, enable, self.root)._asdict(),
            matrices=(("head", self.plan.head, LOGIT),), order="sequence", beat=self.plan.beat,
        )  # fmt: skip
        connect(m, source, linear.i)
        m.d.comb += [enable.eq(linear.busy | source.valid), linear.id.eq(0), linear.lift.eq(0)]
        return linear

    def _sampler(self, m: Module, source, chosen: dict[str, Signal]):
        enable = Signal()
        sampler = self.library.place(
            m, Sampler, **gated_clock(m, enable, self.root)._asdict(),
            vocabulary=self.plan.architecture.vocabulary, beat=self.plan.beat,
        )  # fmt: skip
        m.d.comb += [
            enable.eq(sampler.busy | sampler.i.valid),
            sampler.i.payload.eq(source.payload),
            sampler.beta.eq(chosen["beta"]),
            sampler.top_k.eq(chosen["top_k"]),
            sampler.top_p.eq(chosen["top_p"]),
            sampler.seed.eq(chosen["seed"]),
            sampler.position.eq(self.header.position),
        ]
        return sampler

    def _show(self, m: Module, normed, logits) -> None:
        layer = Const(self.plan.architecture.layers, 16)
        for op, source, bits in (
            ("norm", normed, self.plan.widths.norm),
            ("logits", logits, LOGIT.bits),
        ):
            probe(
                m, op, self.plan.beat, bits, fire=source.valid & source.ready, layer=layer,
                header=self.header, payload=source.payload,
            )  # fmt: skip
