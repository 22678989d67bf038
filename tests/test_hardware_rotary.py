"""The rotary block against the golden ops."""

import numpy as np
import pytest
from streams import Job, beats, gap, run

from intaglio.golden import ops
from intaglio.golden.number import KEY, ROTARY, SINE_TABLE, VALUE, Int
from intaglio.hardware.rotary import HERE_BITS, RISE_BITS, Rotary, table_words

POSITION_BITS = 20


def fractions(head_width: int, base: float = 10000.0) -> np.ndarray:
    exponents = -np.arange(0, head_width, 2) / head_width
    return np.rint(base**exponents / (2 * np.pi) * 2**32).astype(np.int64)


def block(heads: int, kv_heads: int, head_width: int, beat: int, query: int, turns=None) -> Rotary:
    turns = fractions(head_width) if turns is None else turns
    return Rotary(
        heads=heads, kv_heads=kv_heads, head_width=head_width, beat=beat,
        fractions=tuple(turns.tolist()), query=Int(query), position_bits=POSITION_BITS,
    )  # fmt: skip


def vectors(rng: np.random.Generator, rotary: Rotary) -> list[np.ndarray]:
    """Query, key, value of one position: int64 [heads, head_width] each."""
    width, beat = rotary.head_width, rotary.beat
    shapes = [(count * beat // width, width) for count in (rotary.query_beats, rotary.key_beats)]
    q, k = (rng.integers(ROTARY.low, ROTARY.high + 1, shape) for shape in shapes)
    q[0, 0::2], k[0] = ROTARY.low, rng.choice([ROTARY.low, ROTARY.high], width)
    return [q, k, rng.integers(VALUE.low, VALUE.high + 1, shapes[1])]


def job(rotary: Rotary, position: int, parts: list[np.ndarray]) -> Job:
    push = [beat for part in parts for beat in beats(part, rotary.beat)]
    return Job({"i": push}, {"o": len(push)}, {"position": position}, ["start"])


def expected(rotary: Rotary, position: int, parts: list[np.ndarray]) -> np.ndarray:
    turns = ops.turn(np.array([position]), np.array(rotary.fractions))
    q = ops.rotate(parts[0][None], *turns, rotary.query)
    k = ops.rotate(parts[1][None], *turns, KEY)
    return np.concatenate([q.reshape(-1), k.reshape(-1), parts[2].reshape(-1)])


@pytest.mark.parametrize(("stall", "gated"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_width", "beat", "query"),
    [(4, 2, 8, 4, 12), (3, 1, 16, 16, 16), (2, 1, 4, 2, 4), (1, 1, 2, 2, 9)],
)
def test_rotary_computes_the_golden_ops(heads, kv_heads, head_width, beat, query, stall, gated):
    rng = np.random.default_rng(query)
    rotary = block(heads, kv_heads, head_width, beat, query)
    positions = [0, 1, 2, 1000, 131071, (1 << POSITION_BITS) - 1]
    parts = [vectors(rng, rotary) for _ in positions]
    jobs = [job(rotary, *pair) for pair in zip(positions, parts, strict=True)]
    flows = run(rotary, jobs, stall=stall, gated=gated, seed=beat)
    for flow, position, part in zip(flows, positions, parts, strict=True):
        np.testing.assert_array_equal(flow["o"].array, expected(rotary, position, part))


def test_every_entry_of_the_sine_table():
    """Angles at both ends and within every interval of all four quarters."""
    rng = np.random.default_rng(0)
    starts = np.arange(1024) << 22
    angles = np.concatenate(
        [starts, starts + (1 << 22) - 1, starts + rng.integers(1 << 22, size=1024)]
    )
    rotary = block(1, 1, 2 * len(angles), 64, 16, angles)
    x = np.zeros((1, 2 * len(angles)), np.int64)
    x[:, 0::2] = ROTARY.low  # its turn is minus cosine and minus sine, exact
    zero = np.zeros_like(x)
    parts = [x, zero, zero]
    (flow,) = run(rotary, [job(rotary, 1, parts)], deadline=20_000)
    np.testing.assert_array_equal(flow["o"].array, expected(rotary, 1, parts))


@pytest.mark.parametrize("head_width", [8, 32])
def test_prepare_and_gap(head_width):
    rng = np.random.default_rng(0)
    rotary = block(2, 1, head_width, 8, 12)
    jobs = [job(rotary, position, vectors(rng, rotary)) for position in (5, 6)]
    began = 0
    for flow in run(rotary, jobs):
        assert flow["i"].cycles[0] - began == rotary.prepare
        assert gap(flow) + flow["i"].cycles[-1] - flow["i"].cycles[0] == rotary.gap
        for name in ("i", "o"):
            assert np.all(np.diff(flow[name].cycles) == 1)
        began = flow["o"].cycles[-1] + 1


def test_the_table_fits():
    assert max(table_words()) < 1 << HERE_BITS + RISE_BITS
    assert np.diff(SINE_TABLE).min() >= 0
