"""An adapter's share of one matrix: latents while the inputs stream in, then addends, in order."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import ADDEND_SHIFT, LATENT, LOW_RANK, MULTIPLIER_BITS
from intaglio.hardware.rounding import doubled, halved, named, saturated
from intaglio.hardware.side_memory import write_layout
from intaglio.plan.adapter import CONSTANT_BITS, TREE, AdapterPlan, tree_registers

# Cycles from the one that addresses a word to the one that has it in the register named.
OPERANDS, PRODUCTS = 1, 2  # weights and what they meet; products, behind which a tree stands
# From the one that has a sum in its accumulator.
SCALED, SHIFTED, ROUNDED = 1, 2, 3


def adapter_gap(shape: AdapterPlan) -> int:
    """Cycles from the last beat in to the first beat out."""
    s = shape
    fold = s.beats + s.groups - 1  # its accumulators leave group by group before the next
    latents = PRODUCTS + tree_registers(s.beat) + 1 + ROUNDED + s.groups - 1
    sums = s.folds - 1 + PRODUCTS + tree_registers(s.lanes) + 1 + (2 if s.folds > 1 else 0)
    return (s.folds - 1) * fold + latents + sums + ROUNDED


class Adapter(wiring.Component):
    """Computes a matrix' addends from its inputs with two narrow matrices in side memory.

    Computes :class:`intaglio.golden.forward.Addition`. Takes ``inputs / beat`` beats of
    activations, gives as many beats of addends as the matrix has of outputs, what pads the last one
    as the side memory has it: 0. ``gap`` cycles from the last beat in to the first out; then one
    beat every ``folds`` cycles. With one fold a beat that is not taken makes the others wait; with
    more, sums are kept and beats that were not taken in time follow each other. The next vector is
    taken when the last beat has left.

    Without ``enable`` inputs are not looked at and the addends are 0, though none is offered: the
    clock may stop.

    Members
    -------
    enable : ``In(1)``, steady from before the first beat in to the last beat out
    number : ``In``, which of the ``count`` adapters; steady likewise
    i : stream of ``beat`` activations
    o : stream of ``beat`` addends
    write : stream of :func:`~intaglio.hardware.side_memory.write_layout`, always ready; not to be
        of an adapter that is at work
    busy : ``Out(1)``, the clock must run; low between the beats of an unfinished vector
    """

    def __init__(self, *, shape: AdapterPlan) -> None:
        self.shape = shape
        super().__init__(
            {
                "enable": In(1),
                "number": In(range(max(shape.count, 2))),
                "i": In(stream.Signature(data.ArrayLayout(signed(shape.activation), shape.beat))),
                "o": Out(stream.Signature(data.ArrayLayout(signed(shape.addend_bits), shape.beat))),
                "write": In(stream.Signature(write_layout(shape))),
                "busy": Out(1),
            }
        )

    @property
    def gap(self) -> int:
        """Cycles from the last beat in to the first beat out."""
        return adapter_gap(self.shape)

    @property
    def down_registers(self) -> int:
        """Registers of the trees that add a beat of products."""
        return tree_registers(self.shape.beat)

    @property
    def up_registers(self) -> int:
        """Registers of the trees that add the lanes' products."""
        return tree_registers(self.shape.lanes)

    def elaborate(self, platform) -> Module:
        m = Module()
        self._control(m)
        weights, self.constants = self._side_memory(m)
        products = self._multiply(m, weights)
        latents = self._down(m, products)
        sums = self._up(m, products)
        self._scale(m, latents, sums)
        pipelines = Cat(self.down, self.narrowing)
        m.d.comb += [self.write.ready.eq(1), self.busy.eq(~self.taking | pipelines.any())]
        return m

    def _control(self, m: Module) -> None:
        """Where the work stands; which words are addressed, and what the pipelines hold of them."""
        s = self.shape
        # beats of sums at the scalers, stage by stage, the last one before ``o``: a beat moves on
        # where there is room, so that none that follows late is late twice
        self.scaling, self.room = Signal(ROUNDED + 1), Signal(ROUNDED + 1)
        self.move = self.room[0] if s.folds == 1 else Const(1, 1)  # of the multipliers
        self.taking = Signal(init=1)
        self.passing, self.rising = Signal(), Signal()
        self.go_down, self.go_up = Signal(), Signal()
        self.beat, self.fold = Signal(range(max(s.beats, 2))), Signal(range(max(s.folds, 2)))
        self.finished = Signal()
        accept, pause = Signal(), Signal(range(max(s.groups, 2)))
        last_beat, last_fold = self.beat == s.beats - 1, self.fold == s.folds - 1
        m.d.comb += [
            self.room.eq(~self.scaling | Cat(self.room[1:], self.o.ready)),
            self.i.ready.eq(self.taking),
            accept.eq(self.i.valid & self.taking & self.enable),
            self.go_down.eq(accept | (self.passing & (pause == 0))),
            self.go_up.eq(self.rising & self.move),
        ]
        self.accept = accept
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.If(self.go_down):
            m.d.sync += self.beat.eq(self.beat + 1)
            with m.If(last_beat):
                m.d.sync += [self.beat.eq(0), self.taking.eq(0), pause.eq(s.groups - 1)]
                m.d.sync += [self.passing.eq(~last_fold), self.fold.eq(self.fold + 1)]
                with m.If(last_fold):
                    m.d.sync += self.fold.eq(0)
        column = Signal(range(max(s.columns, 2)))
        with m.If(self.go_up):
            m.d.sync += self.fold.eq(self.fold + 1)
            with m.If(last_fold):
                m.d.sync += [self.fold.eq(0), column.eq(column + 1)]
                with m.If(column == s.columns - 1):
                    m.d.sync += [column.eq(0), self.rising.eq(0)]
        with m.If(self.finished):
            m.d.sync += self.taking.eq(1)
        self._follow(m, named(m, last_beat), named(m, last_fold))

    def _follow(self, m: Module, last_beat: Value, last_fold: Value) -> None:
        """Flags of the words on their way, bit 0 of the one whose operands are there.

        The last bit goes with the sum that the accumulators take.
        """
        down, up = PRODUCTS + self.down_registers, PRODUCTS + self.up_registers
        self.down, self.down_first, self.down_last = (
            Signal(down, name=name) for name in ("down", "down_first", "down_last")
        )
        self.up, self.up_first, self.up_last = (
            Signal(up, name=name) for name in ("up", "up_first", "up_last")
        )
        with m.If(self.move):
            m.d.sync += [
                self.down.eq(Cat(self.go_down, self.down)),
                self.down_first.eq(Cat(self.beat == 0, self.down_first)),
                self.down_last.eq(Cat(last_beat, self.down_last)),
                self.up.eq(Cat(self.go_up, self.up)),
                self.up_first.eq(Cat(self.fold == 0, self.up_first)),
                self.up_last.eq(Cat(last_fold, self.up_last)),
            ]

    def _side_memory(self, m: Module) -> tuple[Value, Memory]:
        """Weights, read as the multipliers take them; the memory of constants."""
        s, write = self.shape, self.write
        lane_bits = s.beat * LOW_RANK.bits
        m.submodules.weights = weights = Memory(
            shape=s.lanes * lane_bits, depth=max(s.count * s.words, 2), init=[]
        )
        m.submodules.constants = constants = Memory(
            shape=s.beat * CONSTANT_BITS, depth=max(s.count * s.constant_words, 2), init=[]
        )
        port, others = weights.write_port(granularity=lane_bits), constants.write_port()
        m.d.comb += [
            port.addr.eq(write.payload.word),
            port.data.eq(write.payload.data[:lane_bits].replicate(s.lanes)),
            others.addr.eq(write.payload.word),
            others.data.eq(write.payload.data),
            others.en.eq(write.valid & (write.payload.lane == s.lanes)),
        ]
        for lane in range(s.lanes):
            m.d.comb += port.en[lane].eq(write.valid & (write.payload.lane == lane))
        read, word = weights.read_port(), Signal(range(max(s.words, 2)))
        m.d.comb += [
            read.en.eq(self.go_down | self.go_up),
            read.addr.eq(self.number * s.words + word if s.count > 1 else word),
        ]
        with m.If(read.en):
            m.d.sync += word.eq(Mux(word == s.words - 1, 0, word + 1))
        return read.data, constants

    def _multiply(self, m: Module, weights: Value) -> list[list[Signal]]:
        """Products by lane and element of the beat, of inputs or of latents."""
        s, bits = self.shape, LATENT.bits
        inputs = self._inputs(m)
        self.latents = [
            Memory(shape=bits * size, depth=max(s.folds, 2), init=[]) for size in group_sizes(s)
        ]
        latents = []
        for group, memory in enumerate(self.latents):
            m.submodules[f"latents_{group}"] = memory
            read = memory.read_port()
            m.d.comb += [read.en.eq(self.go_up), read.addr.eq(self.fold)]
            latents += elements(read.data, bits)
        products = []
        for lane, latent in enumerate(latents):
            products.append([])
            for element, x in enumerate(inputs):
                product = Signal(
                    signed(bits + LOW_RANK.bits), name=f"product_{lane}_{element}", reset_less=True
                )
                weight = weights.word_select(lane * s.beat + element, LOW_RANK.bits).as_signed()
                factor = named(m, Mux(self.up[0], latent, x))
                with m.If(self.move & (self.down[0] | self.up[0])):
                    m.d.sync += product.eq(weight * factor)
                products[-1].append(product)
        return products

    def _inputs(self, m: Module) -> list[Value]:
        """A beat of inputs a cycle after it was taken; of later folds out of a memory."""
        s = self.shape
        x = Signal(s.beat * s.activation, reset_less=True)
        with m.If(self.accept):
            m.d.sync += x.eq(Value.cast(self.i.payload))
        if s.folds == 1:
            return elements(x, s.activation)
        m.submodules.inputs = memory = Memory(shape=len(x), depth=max(s.beats, 2), init=[])
        write, read, kept = memory.write_port(), memory.read_port(), Signal()
        m.d.comb += [
            write.addr.eq(self.beat),
            write.data.eq(Value.cast(self.i.payload)),
            write.en.eq(self.accept),
            read.addr.eq(self.beat),
            read.en.eq(self.passing & self.go_down),
        ]
        m.d.sync += kept.eq(self.passing)
        return elements(named(m, Mux(kept, read.data, x)), s.activation)

    def _down(self, m: Module, products: list[list[Signal]]) -> list[Value]:
        """Sums over the inputs, one accumulator per lane; returns the beat of them to narrow.

        When a fold is summed up its accumulators move on by a beat per cycle, until the last group
        is narrowed.
        """
        s = self.shape
        self.narrow = Signal()  # a group of latents is before the accumulators' end: read constants
        self.narrowing = Signal(ROUNDED)  # groups on their way through the scalers
        waiting, ended = Signal(range(max(s.groups, 2))), Signal()
        m.d.comb += [
            ended.eq(self.down[-1] & self.down_last[-1]),
            self.narrow.eq(ended | (waiting != 0)),
        ]
        m.d.sync += self.narrowing.eq(Cat(self.narrow, self.narrowing))
        with m.If(ended):
            m.d.sync += waiting.eq(s.groups - 1)
        with m.Elif(waiting != 0):
            m.d.sync += waiting.eq(waiting - 1)
        totals = [
            Signal(signed(s.accumulator), name=f"down_total_{lane}", reset_less=True)
            for lane in range(s.lanes)
        ]
        gates = self.down[PRODUCTS - 1 : -1]
        for lane, total in enumerate(totals):
            sum_ = tree(m, products[lane], f"down_{lane}", gates)
            with m.If(self.down[-1]):
                m.d.sync += total.eq(Mux(self.down_first[-1], 0, total) + sum_)
            if lane + s.beat < s.lanes:
                with m.Elif(self.narrowing[0]):
                    m.d.sync += total.eq(totals[lane + s.beat])
        return [*totals[: s.beat], *[Const(0, 1)] * (s.beat - s.lanes)]

    def _up(self, m: Module, products: list[list[Signal]]) -> list[Value]:
        """Sums over the latents; returns a beat of them to scale, when ``scaling`` says so."""
        s = self.shape
        totals = [
            Signal(signed(s.sum_bits), name=f"up_total_{element}", reset_less=True)
            for element in range(s.beat)
        ]
        gates = [self.move & flag for flag in self.up[PRODUCTS - 1 : -1]]
        for element, total in enumerate(totals):
            sum_ = tree(m, [lane[element] for lane in products], f"up_{element}", gates)
            with m.If(self.move & self.up[-1]):
                m.d.sync += total.eq(Mux(self.up_first[-1], 0, total) + sum_)
        self.scale = Signal()  # a beat of sums is there a cycle later: read constants
        for stage, before in enumerate([self.scale, *self.scaling[:-1]]):
            with m.If(self.room[stage]):
                m.d.sync += self.scaling[stage].eq(before)
        if s.folds > 1:
            return self._keep(m, totals)
        m.d.comb += self.scale.eq(self.up[-1] & self.move)
        return totals

    def _keep(self, m: Module, totals: list[Signal]) -> list[Value]:
        """A memory for the sums of all outputs: folded sums are ready before they are wanted."""
        s = self.shape
        m.submodules.sums = memory = Memory(
            shape=s.beat * s.sum_bits, depth=max(s.columns, 2), init=[]
        )
        write, read = memory.write_port(), memory.read_port()
        written, begun = Signal(range(s.columns + 1)), Signal(range(s.columns + 1))
        m.d.sync += write.en.eq(self.up[-1] & self.up_last[-1])
        m.d.comb += [
            write.addr.eq(written),
            write.data.eq(Cat(*totals)),
            self.scale.eq((begun != written) & self.room[0]),
            read.addr.eq(begun),
            read.en.eq(self.scale),
        ]
        with m.If(write.en):
            m.d.sync += written.eq(written + 1)
        with m.If(self.scale):
            m.d.sync += begun.eq(begun + 1)
        with m.If(self.finished):
            m.d.sync += [written.eq(0), begun.eq(0)]
        return elements(read.data, s.sum_bits)

    def _scale(self, m: Module, latents: list[Value], sums: list[Value]) -> None:
        """Multiply, shift and round: latents to 16 bits, sums to addends."""
        s = self.shape
        wide = max(s.accumulator + MULTIPLIER_BITS + 1, s.addend_bits + 1)
        constants = self._constants(m)
        rounded = []
        for element in range(s.beat):
            constant = constants[element]
            product = Signal(
                signed(s.scaler_bits + MULTIPLIER_BITS), name=f"scaled_{element}", reset_less=True
            )
            shift = Signal(
                CONSTANT_BITS - MULTIPLIER_BITS, name=f"shift_{element}", reset_less=True
            )
            shifted = Signal(signed(wide), name=f"shifted_{element}", reset_less=True)
            factor = named(m, Mux(self.narrowing[0], latents[element], sums[element]))
            # the bits that either can have
            whole = named(m, Mux(self.narrowing[1], product, product << ADDEND_SHIFT)[: wide - 1])
            with m.If(self.room[SCALED]):
                m.d.sync += [
                    product.eq(factor * constant[:MULTIPLIER_BITS]),
                    shift.eq(constant[MULTIPLIER_BITS:]),
                ]
            with m.If(self.room[SHIFTED]):
                m.d.sync += shifted.eq(doubled(whole.as_signed(), shift))
            rounded.append(named(m, halved(shifted)))
        self._keep_latents(m, [named(m, saturated(m, value, LATENT)) for value in rounded])
        self._give(m, rounded)

    def _constants(self, m: Module) -> list[Value]:
        """Multipliers and shifts of what the scalers take next."""
        s = self.shape
        read, word = self.constants.read_port(), Signal(range(max(s.constant_words, 2)))
        m.d.comb += [
            read.en.eq(self.narrow | self.scale),
            read.addr.eq(self.number * s.constant_words + word if s.count > 1 else word),
        ]
        with m.If(read.en):
            m.d.sync += word.eq(Mux(word == s.constant_words - 1, 0, word + 1))
        return elements(read.data, CONSTANT_BITS, as_signed=False)

    def _keep_latents(self, m: Module, latents: list[Value]) -> None:
        """Write group after group, fold after fold; the last one lets the sums rise."""
        s, take = self.shape, self.narrowing[-1]
        group, fold = Signal(range(max(s.groups, 2))), Signal(range(max(s.folds, 2)))
        for number, (memory, size) in enumerate(zip(self.latents, group_sizes(s), strict=True)):
            write = memory.write_port()
            m.d.comb += [
                write.addr.eq(fold),
                write.data.eq(Cat(*latents[:size])),
                write.en.eq(take & (group == number)),
            ]
        with m.If(take):
            m.d.sync += group.eq(group + 1)
            with m.If(group == s.groups - 1):
                m.d.sync += [group.eq(0), fold.eq(fold + 1)]
                with m.If(fold == s.folds - 1):
                    m.d.sync += [fold.eq(0), self.rising.eq(1)]

    def _give(self, m: Module, addends: list[Value]) -> None:
        """The register before ``o``; 0 without ``enable``."""
        s, given = self.shape, Signal(range(max(self.shape.columns, 2)))
        m.d.comb += [
            self.o.valid.eq(self.scaling[ROUNDED]),
            self.finished.eq(self.o.valid & self.o.ready & (given == s.columns - 1)),
        ]
        for element, addend in zip(self.o.payload, addends, strict=True):
            register = Signal(signed(s.addend_bits), reset_less=True)
            with m.If(self.room[ROUNDED] & self.scaling[SHIFTED]):
                m.d.sync += register.eq(addend)
            m.d.comb += element.eq(Mux(self.enable, register, 0))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += given.eq(given + 1)
        with m.If(self.finished):
            m.d.sync += given.eq(0)


def group_sizes(shape: AdapterPlan) -> list[int]:
    """How many of a fold's latents each beat of them has."""
    return [min(shape.beat, shape.lanes - group * shape.beat) for group in range(shape.groups)]


def elements(word: Value, bits: int, *, as_signed: bool = True) -> list[Value]:
    """The elements of a word."""
    parts = [word.word_select(index, bits) for index in range(len(word) // bits)]
    return [part.as_signed() for part in parts] if as_signed else parts


def tree(m: Module, terms: Sequence[Value], name: str, gates: Sequence[Value]) -> Value:
    """The sum of signed ``terms``, ``TREE`` at a time, a register for each level's gate."""
    level = list(terms)
    for number, gate in enumerate(gates):
        groups = [added(level[at : at + TREE]) for at in range(0, len(level), TREE)]
        level = [
            Signal(Shape.cast(group.shape()), name=f"{name}_{number}_{index}", reset_less=True)
            for index, group in enumerate(groups)
        ]
        with m.If(gate):
            m.d.sync += [term.eq(group) for term, group in zip(level, groups, strict=True)]
    (total,) = level
    return total


def added(terms: Sequence[Value]) -> Value:
    """Sum as a balanced tree."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return added(terms[:half]) + added(terms[half:])
