"""Two to the power of a negative number, for attention's weights and the sampler's."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import EXP_TABLE, SCORE_FRACTION, WEIGHT_BITS

INDEX_BITS, REST_BITS = 6, 4  # of the fraction: interval of the table, place in the interval
DROP_BITS = 10  # the widest step from an entry of the table to the next
FARTHEST = WEIGHT_BITS + 1  # whole powers beyond which nothing is left

ENTRY = data.StructLayout({"value": WEIGHT_BITS, "drop": DROP_BITS})
"""Where an interval of the table starts, and how far it falls."""

ENTRIES = [{"value": int(here), "drop": int(here - there)} for here, there in pairwise(EXP_TABLE)]

assert SCORE_FRACTION == INDEX_BITS + REST_BITS
assert max(entry["drop"] for entry in ENTRIES) < 1 << DROP_BITS


class Exponential(wiring.Component):
    """``2**-distance`` times 65535 of ``lanes`` distances at a time.

    Computes :func:`intaglio.golden.ops.exp2`. A pipeline of ``latency`` cycles that moves only
    while ``enable`` is high: table, interpolation, rounding shift. All lanes share one table.

    Members
    -------
    enable : ``In(1)``
    distance : ``In(bits)`` by lane, 10 fraction bits
    weight : ``Out(16)`` by lane, of the distance ``latency`` enabled cycles before
    """

    latency = 3

    def __init__(self, *, lanes: int, bits: int) -> None:
        if bits <= SCORE_FRACTION:
            raise ValueError(f"bits must be greater than {SCORE_FRACTION}, not {bits}")
        self.lanes, self.bits = lanes, bits
        super().__init__(
            {
                "enable": In(1),
                "distance": In(bits).array(lanes),
                "weight": Out(WEIGHT_BITS).array(lanes),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.table = table = Memory(shape=ENTRY, depth=1 << INDEX_BITS, init=ENTRIES)
        for lane in range(self.lanes):
            self._lane(m, table, lane)
        return m

    def _lane(self, m: Module, table: Memory, lane: int) -> None:
        distance, port = self.distance[lane], table.read_port()
        whole_bits = FARTHEST.bit_length()
        rest = Signal(REST_BITS, name=f"rest_{lane}", reset_less=True)
        whole = Signal(whole_bits, name=f"whole_{lane}", reset_less=True)
        power = Signal(whole_bits, name=f"power_{lane}", reset_less=True)
        mantissa = Signal(WEIGHT_BITS, name=f"mantissa_{lane}", reset_less=True)
        fall, twice = Signal(DROP_BITS + REST_BITS, name=f"fall_{lane}"), Signal(WEIGHT_BITS + 1)
        far = distance[SCORE_FRACTION:] >= FARTHEST
        m.d.comb += [
            port.addr.eq(distance[REST_BITS:SCORE_FRACTION]),
            port.en.eq(self.enable),
            fall.eq(port.data.drop * rest + (1 << REST_BITS - 1)),
            # half of it, rounded up, is the rounded quotient, for the power 0 too
            twice.eq(Cat(Const(0, 1), mantissa) >> power),
        ]
        with m.If(self.enable):
            m.d.sync += [
                rest.eq(distance[:REST_BITS]),
                whole.eq(Mux(far, FARTHEST, distance[SCORE_FRACTION:])),
                power.eq(whole),
                mantissa.eq(port.data.value - fall[REST_BITS:]),
                self.weight[lane].eq((twice + 1)[1:]),
            ]
