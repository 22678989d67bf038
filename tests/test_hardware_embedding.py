"""The embedding against the golden op, with its ROMs around it."""

import numpy as np
import pytest
from amaranth.hdl import Module, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from streams import Job, gap, run

from intaglio.golden import ops
from intaglio.hardware.embedding import Embedding

VOCABULARY = 50


class Tables(wiring.Component):
    """An embedding and two ROMs of one cycle's latency, on one clock."""

    def __init__(self, codes: np.ndarray, multipliers: np.ndarray, beat: int) -> None:
        width = codes.shape[1]
        self.block = Embedding(vocabulary=VOCABULARY, width=width, beat=beat)
        self.words = [
            sum((int(code) & 255) << 8 * lane for lane, code in enumerate(row))
            for row in codes.reshape(-1, beat)
        ]
        self.multipliers = multipliers.tolist()
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"token": 20}))),
                "o": Out(stream.Signature(data.ArrayLayout(signed(32), beat))),
                "shift": In(6),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.block = block = self.block
        for words, bits, address, word in (
            (self.words, 8 * block.beat, block.address, block.data),
            (self.multipliers, 16, block.multiplier_address, block.multiplier),
        ):
            rom = Memory(shape=bits, depth=len(words), init=words)
            m.submodules += rom
            port = rom.read_port()
            m.d.comb += [port.addr.eq(address), Value.cast(word).eq(port.data)]
        connect(m, flipped(self.i), block.i)
        connect(m, block.o, flipped(self.o))
        m.d.comb += [block.shift.eq(self.shift), self.busy.eq(block.busy)]
        return m


def tables(width: int, beat: int) -> tuple[Tables, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(width)
    codes = rng.integers(-128, 128, (VOCABULARY, width))
    codes[0, :4] = [-128, 127, 0, -1]
    multipliers = rng.integers(0, 1 << 16, VOCABULARY)
    multipliers[:3] = [65535, 0, 1]
    return Tables(codes, multipliers, beat), codes, multipliers


@pytest.mark.parametrize(("stall", "gated"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize(("width", "beat"), [(12, 4), (24, 8), (8, 8)])
@pytest.mark.parametrize("shift", [0, 7, 24, 56])
def test_embedding_computes_the_golden_op(shift, width, beat, stall, gated):
    block, codes, multipliers = tables(width, beat)
    tokens = [0, 1, 2, VOCABULARY - 1, *range(3, 12)]
    job = Job(
        {"i": [{"token": token} for token in tokens]},
        {"o": len(tokens) * width // beat},
        settings={"shift": shift},
    )
    (flows,) = run(block, [job], stall=stall, gated=gated, seed=shift)
    expected = ops.embed(codes[tokens], multipliers[tokens], shift)
    np.testing.assert_array_equal(flows["o"].array, expected.reshape(-1))


def test_gap_and_one_beat_per_cycle():
    block, _, _ = tables(32, 4)
    jobs = [Job({"i": [{"token": token}]}, {"o": 8}, {"shift": 7}) for token in (3, 4)]
    for flows in run(block, jobs):
        assert gap(flows) == Embedding.gap
        assert np.all(np.diff(flows["o"].cycles) == 1)
