"""Rounding and saturation between two registers."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value

from intaglio.golden.number import Int


def named(m: Module, x: Value) -> Signal:
    """``x`` as a wire: Verilog repeats an expression wherever it is used. Not within an ``If``."""
    wire = Signal(Shape.cast(x.shape()))
    m.d.comb += wire.eq(x)
    return wire


def saturated(m: Module, x: Value, to: Int) -> Value:
    """Clamp the signed ``x`` to the range of ``to``. Not within an ``If``: it makes wires."""
    if len(x) <= to.bits:
        return x
    x = named(m, x)
    spread = named(m, x[to.bits - 1 :])  # the sign and all that must equal it
    limit = Mux(x[-1], to.low, to.high)
    return Mux(spread.all() | ~spread.any(), x[: to.bits].as_signed(), limit)


def doubled(x: Value, shift: Value) -> Value:
    """Twice the signed ``x``, divided by ``2**shift`` and rounded down.

    Half of it, rounded up, is golden's ``round_shift``: the shift and the rounding carry can stand
    on the two sides of a register.
    """
    return (x << 1) >> shift


def halved(x: Value) -> Value:
    """Half of the signed ``x``, rounded up."""
    return (x + 1)[1:].as_signed()
