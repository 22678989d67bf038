"""One lane's products with every magnitude of a codebook, bit by bit."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import CODEBOOKS


@dataclass(frozen=True, slots=True)
class Step:
    """One serial adder: ``target`` is ``a * 2**a_delay`` plus or minus ``b * 2**b_delay``."""

    target: int
    a: int
    a_delay: int
    b: int
    b_delay: int
    minus: bool


def recipe(magnitudes: tuple[int, ...]) -> list[Step]:
    """The adders that make all magnitudes from 1, each from products that exist before it.

    A power of two needs none: it is a delay. Where one adder does not do, the least odd number
    that helps is made first.
    """
    known, steps = {1}, []
    for magnitude in sorted(magnitudes):
        odd = magnitude // (magnitude & -magnitude)
        if odd in known:
            continue
        step = one_step(odd, known)
        if step is None:
            helper = next(
                c for c in range(3, 2 * odd, 2)
                if (made := one_step(c, known)) and one_step(odd, known | {c})
            )  # fmt: skip
            made = one_step(helper, known)
            assert made is not None
            steps.append(made)
            known.add(helper)
            step = one_step(odd, known)
        assert step is not None
        steps.append(step)
        known.add(odd)
    return steps


def one_step(target: int, known: set[int]) -> Step | None:
    """The adder with the fewest delays that makes ``target``, or None."""
    found = [
        Step(target, a, i, b, j, minus)
        for a in known
        for b in known
        for i in range(target.bit_length() + 1)
        for j in range(target.bit_length() + 1)
        for minus in (False, True)
        if (a << i) + (-(b << j) if minus else b << j) == target and min(i, j) == 0
    ]
    return min(found, key=lambda s: (s.a_delay + s.b_delay, s.minus, s.a, s.b), default=None)


class ProductBank(wiring.Component):
    """Serial constant multipliers, one per magnitude of a code width, for one lane.

    The activation comes least significant bit first, its sign repeated to the end of the product;
    the lines are its products with the magnitudes, by rank, one register later.

    Members
    -------
    x : ``In(1)``, the activation's bit
    first : ``In(1)``, it is bit 0: what is left of the product before is forgotten
    last : ``In(1)``, it is the product's last bit: the lines come inverted
    enable : ``In(1)``
    lines : ``Out``, a bit per magnitude
    """

    def __init__(self, *, bits: int) -> None:
        self.magnitudes = CODEBOOKS[bits]
        super().__init__(
            {
                "x": In(1),
                "first": In(1),
                "last": In(1),
                "enable": In(1),
                "lines": Out(len(self.magnitudes)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        streams: dict[tuple[int, int], Value] = {(1, 0): self.x}
        for step in recipe(self.magnitudes):
            a = self._delayed(m, streams, step.a, step.a_delay)
            b = self._delayed(m, streams, step.b, step.b_delay)
            streams[step.target, 0] = self._adder(m, f"times_{step.target}", a, b, step.minus)
        lines = []
        for magnitude in self.magnitudes:
            delay = (magnitude & -magnitude).bit_length() - 1
            lines.append(self._delayed(m, streams, magnitude >> delay, delay))
        with m.If(self.enable):
            m.d.sync += self.lines.eq(Cat(*lines) ^ self.last.replicate(len(lines)))
        return m

    def _delayed(
        self, m: Module, streams: dict[tuple[int, int], Value], product: int, delay: int
    ) -> Value:
        """The stream of ``product * 2**delay``: 0 until its first bit."""
        for step in range(1, delay + 1):
            if (product, step) not in streams:
                held = Signal(name=f"times_{product}_late_{step}", reset_less=True)
                late = Signal(name=f"times_{product << step}_of_{product}")
                with m.If(self.enable):
                    m.d.sync += held.eq(streams[product, step - 1])
                m.d.comb += late.eq(held & ~self.first)
                streams[product, step] = late
        return streams[product, delay]

    def _adder(self, m: Module, name: str, a: Value, b: Value, minus: bool) -> Value:
        """Sum or difference of two streams; the carry waits for the next bit."""
        total, held, carry = Signal(name=name), Signal(name=f"{name}_carry"), Signal()
        other = ~b if minus else b
        m.d.comb += [
            carry.eq(Mux(self.first, int(minus), held)),
            total.eq(a ^ other ^ carry),
        ]
        with m.If(self.enable):
            m.d.sync += held.eq((a & other) | (carry & (a ^ other)))
        return total
