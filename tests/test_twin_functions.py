"""Every operation of the twin on arrays equals ``golden``'s over its whole range."""

import numpy as np
import pytest
from array_devices import every_device, functions, integers, into, same, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.golden import ops
from intaglio.golden.forward import Memory, attend
from intaglio.golden.model import Norm
from intaglio.golden.number import RESIDUAL, Int

properties = settings(max_examples=60, deadline=None)
WIDTHS = (8, 10, 16, 20, 24, 32)


@every_device
@properties
@given(seeds, st.sampled_from(WIDTHS))
def test_narrow_equals_golden(device, rng, bits):
    x, multiplier = integers(rng, 46, (4, 6)), rng.integers(0, 1 << 16, 6)
    shift, lift = rng.integers(24, 63, 6), rng.integers(0, 25, (4, 1))
    multiplier[:2] = 0, 65535
    moved, factor, power = into(device, x, multiplier, shift - lift)
    got = functions(device).narrow(moved, factor, power, Int(bits))
    same(device, got, ops.narrow(x, multiplier, shift - lift, Int(bits)))


@every_device
@pytest.mark.parametrize("shift", [0, 1, 56])
def test_narrow_by_one_shift_equals_golden(device, shift):
    x = np.array([[-(1 << 45), -3, -1, 0, 1, 3, (1 << 45) - 1]])
    for multiplier in (0, 1, 3, 65535):
        (moved,) = into(device, x)
        got = functions(device).narrow(moved, multiplier, shift, RESIDUAL)
        same(device, got, ops.narrow(x, np.array(multiplier), shift, RESIDUAL))


@every_device
@properties
@given(seeds)
def test_add_equals_golden(device, rng):
    x, y = integers(rng, 32, 50), integers(rng, 32, 50)
    same(device, functions(device).add(*into(device, x, y)), ops.add(x, y))


def squares() -> list[int]:
    """Squares of every length: the corners of each and random ones; corners of the table."""
    rng = np.random.default_rng(1)
    found = []
    for bits in range(1, 81):
        low = 1 << bits - 1
        found += [low, 2 * low - 1, low + low // 2, *(low + int(x * low) for x in rng.random(60))]
    near = [h << 72 >> shift for h in range(64, 256) for shift in (0, 1, 2, 39, 40, 41, 60)]
    return found + [x + d for x in near for d in (-1, 0, 1)]


@every_device
def test_reciprocal_root_equals_golden(device):
    given_squares = [square for square in squares() if 0 < square < 1 << 80]
    words = [[s >> 32 for s in given_squares], [s & 0xFFFFFFFF for s in given_squares]]
    root, z = functions(device).reciprocal_root(*into(device, *words))
    want = np.array([ops.reciprocal_root(square) for square in given_squares])
    same(device, root, want[:, 0])
    same(device, z, want[:, 1])


def golden_norm(x: np.ndarray, n: Norm, to: Int) -> np.ndarray:
    return ops.norm(x, n.epsilon, n.multiplier, n.shift, to)


@every_device
@properties
@given(
    seeds,
    st.integers(1, 40),
    st.integers(1, (1 << 48) - 1) | st.sampled_from([1, (1 << 48) - 1]),
    st.integers(1, 65535) | st.sampled_from([1, 65535]),
    st.integers(40, 62),
    st.integers(4, 16),
)
def test_norm_equals_golden(device, rng, n, epsilon, multiplier, shift, bits):
    constants = Norm(epsilon, multiplier, shift)
    x = integers(rng, 32, (5, n)) >> rng.integers(0, 32, (5, 1))
    (moved,) = into(device, x)
    got = functions(device).norm(moved, constants, Int(bits))
    same(device, got, golden_norm(x, constants, Int(bits)))


@every_device
@pytest.mark.parametrize("epsilon", [1, (1 << 48) - 1])
def test_norm_of_the_widest_residual_equals_golden(device, epsilon):
    """The square has 79 bits, and every part of it its most."""
    x = np.full((6, 1 << 16), RESIDUAL.low)
    x[1], x[2] = RESIDUAL.high, -1
    x[3], x[4] = RESIDUAL.low + 0xFFFF, RESIDUAL.high - 0xFFFF
    x[5, ::2] = RESIDUAL.high
    constants = Norm(epsilon, 65535, 40)
    (moved,) = into(device, x)
    got = functions(device).norm(moved, constants, Int(16))
    same(device, got, golden_norm(x, constants, Int(16)))


@every_device
def test_sine_equals_golden_at_every_angle_it_tells_apart(device):
    angle = np.arange(1 << 18) << 14
    for rest in (0, (1 << 14) - 1):
        (moved,) = into(device, angle + rest)
        same(device, functions(device).sine(moved), ops.sine(angle + rest))


@every_device
@properties
@given(seeds, st.integers(4, 16))
def test_rotary_equals_golden(device, rng, bits):
    positions = rng.integers(0, 1 << 17, 5)
    positions[:2] = 0, (1 << 17) - 1
    fractions = rng.integers(0, 1 << 32, 4)
    fractions[:2] = 0, (1 << 32) - 1
    x = integers(rng, 16, (5, 3, 8))
    f = functions(device)
    moved, at, per = into(device, x, positions, fractions)
    turns, want = f.turns(at, per), ops.turn(positions, fractions)
    for mine, theirs in zip(turns, want, strict=True):
        same(device, mine, theirs[:, None])
    same(device, f.rotate(moved, turns, Int(bits)), ops.rotate(x, *want, Int(bits)))


@every_device
def test_exp2_equals_golden_at_every_distance(device):
    distance = np.arange(1 << 20)
    (moved,) = into(device, distance)
    same(device, functions(device)._exp2(moved), ops.exp2(distance))


@every_device
@properties
@given(seeds)
def test_mean_equals_golden(device, rng):
    total = 65535 + (rng.integers(0, (1 << 33) - 65536, (9, 3)) >> rng.integers(0, 33, (9, 3)))
    total[0] = 65535, 65536, (1 << 33) - 1
    total[1] = (1 << 32) - 1, 1 << 32, (1 << 17) - 1
    share = rng.integers(-128, 127, (9, 3, 4), endpoint=True)
    weighted = total[..., None] * share - rng.integers(0, 3, (9, 3, 4)) * np.sign(share)
    got = functions(device).mean(*into(device, weighted, total))
    same(device, got, ops.mean(weighted, total))


@every_device
@properties
@given(seeds, st.sampled_from([16, 32]), st.integers(4, 16))
def test_shrink_equals_golden(device, rng, source, bits):
    x = integers(rng, source, (6, 7)) >> rng.integers(0, source, (6, 1))
    x[0] = 0
    (moved,) = into(device, x)
    small, lift = functions(device).shrink(moved, Int(bits))
    want, shift = ops.shrink(x, Int(bits))
    same(device, small, want)
    same(device, lift, shift[:, None])


@every_device
def test_gate_equals_golden(device):
    """Each size that the logistic function tells apart, both signs, with every kind of up."""
    rng = np.random.default_rng(5)
    near = np.arange(-(1 << 16) - 300, (1 << 16) + 300)
    gate = np.concatenate([near, integers(rng, 24, 50000), near])
    up = integers(rng, 20, len(gate))
    up[: len(near)] = 256
    got = functions(device).gate(*into(device, gate, up))
    same(device, got, ops.gate(gate, up))


@every_device
@properties
@given(
    seeds,
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(0, 40),
    st.integers(4, 16),
    st.integers(0, 31),
)
def test_attention_equals_golden(device, rng, kv_heads, group, count, before, bits, shift):
    end, width = before + count, 2 * int(rng.integers(1, 40))
    memory = Memory(kv_heads, end, width)
    memory.keys[:], memory.values[:] = integers(rng, 8, (2, *memory.keys.shape))
    q = integers(rng, bits, (count, kv_heads * group, width))
    a = functions(device).arrays
    got = functions(device).attend(
        a.integers(q), a.stored(memory.keys), a.stored(memory.values), shift, bits
    )
    same(device, got, attend(q, memory, before, shift))


@every_device
@pytest.mark.parametrize(
    ("bits", "width", "shift"), [(12, 64, 5), (12, 66, 6), (12, 80, 6), (16, 128, 10)]
)
def test_attention_at_the_edge_of_its_floats_is_exact(device, bits, width, shift):
    """Dots around 2**24 and beyond, of odd numbers: a shorter float would round some up."""
    rng = np.random.default_rng(width)
    memory = Memory(1, 700, width)
    memory.keys[:] = rng.integers(-128, -119, memory.keys.shape)
    memory.values[:] = rng.choice([-128, 127], memory.values.shape)
    q = Int(bits).low + rng.integers(0, 9, (4, 1, width))
    a = functions(device).arrays
    keys, values = a.stored(memory.keys), a.stored(memory.values)
    got = functions(device).attend(a.integers(q), keys, values, shift, bits)
    same(device, got, attend(q, memory, 696, shift))


@every_device
def test_attention_of_full_weights_is_exact(device):
    memory = Memory(1, 3000, 2)
    memory.values[:], memory.values[0, ::7] = Int(8).low, Int(8).low + 1
    q = np.zeros((2, 1, 2), np.int64)
    a = functions(device).arrays
    keys, values = a.stored(memory.keys), a.stored(memory.values)
    got = functions(device).attend(a.integers(q), keys, values, 0, 4)
    same(device, got, attend(q, memory, 2998, 0))
