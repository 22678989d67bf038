# amaranth: UnusedElaboratable=no
"""Attention against golden's, with its memory carried on from position to position."""

import numpy as np
import pytest
from streams import Flow, Job, beats, gap, run

from intaglio.golden.forward import Memory, attend
from intaglio.golden.number import KEY, VALUE, Int
from intaglio.hardware.attention import Attention

SMALL = {
    "heads": 4, "kv_heads": 2, "head_width": 8, "context": 16, "slots": 2, "beat": 4,
    "positions": 1, "query": Int(12),
}  # fmt: skip


class Bench:
    """Jobs for an attention block, and what golden makes of the same vectors."""

    def __init__(self, seed: int = 0, **changes) -> None:
        self.shape = {**SMALL, **changes}
        self.block = Attention(**self.shape)
        self.rng = np.random.default_rng(seed)
        kv_heads, context, width = (self.shape[k] for k in ("kv_heads", "context", "head_width"))
        self.memories = [Memory(kv_heads, context, width) for _ in range(self.shape["slots"])]
        self.jobs: list[Job] = []
        self.expected: list[np.ndarray] = []
        self.positions: list[int] = []

    def send(self, slot: int, position: int, scale: float = 1.0, shift: int = 6) -> None:
        """One position of random vectors; ``scale`` 0: all at the ends of their ranges."""
        heads, kv_heads, width = (self.shape[k] for k in ("heads", "kv_heads", "head_width"))
        vectors = [
            self._vector((number, width), to, scale)
            for number, to in ((heads, self.shape["query"]), (kv_heads, KEY), (kv_heads, VALUE))
        ]
        memory = self.memories[slot]
        memory.keys[:, position], memory.values[:, position] = vectors[1], vectors[2]
        self.expected.append(attend(vectors[0][None], memory, position, shift)[0])
        self.positions.append(position)
        flat = np.concatenate([vector.reshape(-1) for vector in vectors])
        self.jobs.append(
            Job(
                {"i": beats(flat, self.shape["beat"])},
                {"o": heads * width // self.shape["beat"]},
                {"slot": slot, "position": position, "score_shift": shift},
            )
        )

    def _vector(self, size: tuple[int, int], to: Int, scale: float) -> np.ndarray:
        if scale == 0:
            return self.rng.choice([to.low, to.high], size)
        values = self.rng.normal(0, scale * to.high / 4, size)
        return np.clip(np.rint(values), to.low, to.high).astype(np.int64)

    def check(self, **options) -> list[dict[str, Flow]]:
        """Run all jobs; every result and every gap must be golden's and the formula's."""
        results = run(self.block, self.jobs, deadline=60_000, **options)
        for flows, expected, position in zip(results, self.expected, self.positions, strict=True):
            got = flows["o"].array.reshape(expected.shape)
            np.testing.assert_array_equal(got, expected, f"position {position}")
            if not options.get("stall"):
                assert gap(flows) == self.block.gap(position)
                assert np.all(np.diff(flows["o"].cycles) == 1)
        return results


@pytest.mark.parametrize("positions", [1, 2, 4])
def test_attention_of_every_position(positions):
    bench = Bench(positions, positions=positions)
    for position in range(16):
        bench.send(0, position)
        bench.send(1, position, scale=0.3)
    bench.check()


@pytest.mark.parametrize("positions", [1, 4])
def test_attention_stalled_with_its_clock_gated(positions):
    bench = Bench(positions, positions=positions)
    for position in range(8):
        bench.send(position % 2, position // 2)
    bench.check(stall=0.5, gated=True)


def test_a_lower_position_is_sent_again():
    bench = Bench(3, positions=2)
    for position in (0, 1, 2, 3, 4, 5, 2, 3, 0, 1):
        bench.send(1, position, shift=4)
    bench.check()


@pytest.mark.parametrize("shift", [0, 3, 9, 31])
def test_attention_at_the_ends_of_its_ranges(shift):
    bench = Bench(shift)
    for position in range(12):
        bench.send(position % 2, position // 2, scale=0, shift=shift)
    bench.check()


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": 3, "kv_heads": 1, "head_width": 12, "context": 10, "slots": 3, "positions": 4},
        {"heads": 2, "kv_heads": 2, "head_width": 16, "context": 6, "slots": 1, "beat": 16},
        {"heads": 2, "kv_heads": 1, "query": Int(16), "positions": 8, "context": 20},
        {"heads": 1, "kv_heads": 1, "query": Int(4), "beat": 2, "head_width": 4, "context": 5},
    ],
)
def test_other_shapes(changes):
    bench = Bench(5, **changes)
    for position in range(bench.shape["context"]):
        for slot in range(bench.shape["slots"]):
            bench.send(slot, position, shift=bench.shape["query"].bits // 2)
    bench.check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_heads": 3}, r"^heads must be a multiple of kv_heads, not 4 and 3$"),
        ({"beat": 16}, r"^head_width must be a multiple of the beat 16, not 8$"),
        ({"positions": 3}, r"^positions must be a power of two, not 3$"),
        ({"context": 0}, r"^context must be from 1 to 131072, not 0$"),
    ],
)
def test_shape_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        Attention(**{**SMALL, **changes})
