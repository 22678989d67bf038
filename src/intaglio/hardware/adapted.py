"""Matrices that share one input vector, each with an adapter beside it."""

from collections.abc import Sequence

from amaranth.hdl import (
    Cat,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, connect, flipped

from intaglio.hardware.adapter import Adapter, adapter_gap
from intaglio.hardware.library import Library
from intaglio.hardware.linear import (
    NARROW_STAGES,
    Linear,
    Named,
    Order,
    linear_gap,
    linear_members,
)
from intaglio.hardware.side_memory import write_layout
from intaglio.plan.adapter import AdapterPlan


class Adapted(wiring.Component):
    """A :class:`~intaglio.hardware.linear.Linear` whose matrices have adapters.

    Both take the same beats; what an adapter adds is there, as a rule, before the fabrics are
    done. ``adapters``: the shape of each matrix' adapter. Without ``enable`` it is the Linear
    alone, to the cycle, and the adapters' clocks stand.

    Members
    -------
    root : ``In(1)``, the free-running clock, of which each block has its own gate
    id, lift, i, o, busy : as of Linear
    enable : ``In(1)``, with adapters; held while a vector is inside
    number : ``In``, which of those in side memory; held likewise
    write : stream of :func:`group_write_layout`, always ready
    """

    def __init__(
        self,
        *,
        library: Library,
        matrices: Sequence[Named],
        adapters: Sequence[AdapterPlan],
        order: Order,
        beat: int,
    ) -> None:
        self.library, self.adapters = library, tuple(adapters)
        if len({adapter.count for adapter in adapters}) != 1:
            raise ValueError("adapters must hold equally many at once")
        self.matrices, self.order, self.beat = tuple(matrices), order, beat
        super().__init__(
            {
                "root": In(1),
                **linear_members(self.matrices, order, beat),
                "enable": In(1),
                "number": In(range(max(adapters[0].count, 2))),
                "write": In(stream.Signature(group_write_layout(adapters))),
            }
        )

    @property
    def gap(self) -> int:
        """Cycles from the last beat in to the first out, with adapters."""
        behind = NARROW_STAGES - 1  # of the one in which sums meet addends
        first = self.adapters if self.order == "parallel" else self.adapters[:1]
        fabrics = linear_gap([fabric for _, fabric, _ in self.matrices], self.beat)
        return max(fabrics, *(adapter_gap(shape) + behind for shape in first))

    def elaborate(self, platform) -> Module:
        m = Module()
        linear, enable = self._place(
            m, Linear, matrices=self.matrices, order=self.order, beat=self.beat,
            addend=max(adapter.addend_bits for adapter in self.adapters),
        )  # fmt: skip
        blocks = [self._adapter(m, index) for index in range(len(self.adapters))]
        sinks = [linear.i, *(block.i for block in blocks)]
        busy = [linear.busy, *(block.busy for block in blocks)]
        for sink in sinks:  # a beat is taken by all at once
            others = Cat(other.ready for other in sinks if other is not sink)
            m.d.comb += [
                sink.valid.eq(self.i.valid & others.all()),
                Value.cast(sink.payload).eq(Value.cast(self.i.payload)),
            ]
        m.d.comb += [
            enable.eq(linear.busy | self.i.valid),
            linear.id.eq(self.id),
            linear.lift.eq(self.lift),
            linear.adapted.eq(self.enable),
            self.i.ready.eq(Cat(sink.ready for sink in sinks).all()),
            self.busy.eq(Cat(*busy).any()),
            self.write.ready.eq(1),
        ]
        for block, e in zip(blocks, linear.e, strict=True):
            m.d.comb += [
                e.valid.eq(block.o.valid),
                block.o.ready.eq(e.ready),
                *(to.eq(addend) for to, addend in zip(e.payload, block.o.payload, strict=True)),
            ]
        connect(m, linear.o, flipped(self.o))
        return m

    def _adapter(self, m: Module, index: int):
        """One matrix' adapter, its clock stopped unless it is wanted."""
        block, enable = self._place(m, Adapter, shape=self.adapters[index])
        write = self.write.payload
        m.d.comb += [
            enable.eq(block.busy | (self.i.valid & self.enable) | block.write.valid),
            block.enable.eq(self.enable),
            block.number.eq(self.number),
            block.write.valid.eq(self.write.valid & (write.matrix == index)),
            block.write.payload.lane.eq(write.lane),
            block.write.payload.word.eq(write.word),
            block.write.payload.data.eq(write.data),
        ]
        return block

    def _place(self, m: Module, kind, **parameters):
        """A block behind a gate of its own; returns it and what opens the gate."""
        enable, clock, reset = Signal(), Signal(), Signal()
        m.submodules += Instance(
            "clock_gate", i_clk=self.root, i_rst=ResetSignal(), i_enable=enable,
            o_gated=clock, o_gated_rst=reset,
        )  # fmt: skip
        return self.library.place(m, kind, clock=clock, reset=reset, **parameters), enable


def group_write_layout(adapters: Sequence[AdapterPlan]) -> data.StructLayout:
    """A write into the side memory of one of several matrices, by its number among them."""
    layouts = [write_layout(adapter) for adapter in adapters]
    fields = {
        name: max(layout[name].width for layout in layouts) for name in ("lane", "word", "data")
    }
    return data.StructLayout({"matrix": range(max(len(layouts), 2)), **fields})
