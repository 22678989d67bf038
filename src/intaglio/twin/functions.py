"""The operations of docs/spec.md on arrays of either library, written for the twin alone.

Every array is int64 unless said. Nothing here is shared with ``golden``'s operations: that the two
agree is evidence.
"""

from typing import Any

import numpy as np

from intaglio.golden.model import Norm
from intaglio.golden.number import (
    ATTENTION,
    EXP_TABLE,
    GATE,
    PRODUCT,
    RESIDUAL,
    RSQRT_TABLE,
    SCORE,
    SIGMOID_TABLE,
    SINE_TABLE,
    Int,
)
from intaglio.twin.namespace import EXACT_FLOAT64, Arrays

NOTHING = 17 << 10  # the least distance of weight 0
STEEP = 1 << 16  # the least size from which the logistic function is 0 or 1


def round_shift(x: Any, shift: Any) -> Any:
    """``x / 2**shift``, halves up; ``shift`` 0 to 62: a number, or broadcast against ``x``."""
    y = x + ((1 << shift) >> 1)
    y >>= shift
    return y


def weight_table() -> np.ndarray:
    """``exp2`` of every distance up to NOTHING: 65535 to 0."""
    distance = np.arange(NOTHING + 1)
    whole, index, rest = distance >> 10, distance >> 4 & 63, distance & 15
    above, below = EXP_TABLE[index], EXP_TABLE[index + 1]
    return round_shift(above - ((above - below) * rest + 8 >> 4), whole)


def logistic_table() -> np.ndarray:
    """The logistic function of every size up to STEEP, 65536 being 1."""
    size = np.arange(STEEP + 1)
    index = np.minimum(size >> 8, 255)
    rest = size - (index << 8)
    here, there = SIGMOID_TABLE[index], SIGMOID_TABLE[index + 1]
    return here + ((there - here) * rest + 128 >> 8)


WEIGHTS, LOGISTIC = weight_table(), logistic_table()


class Functions:
    """The operations, with their tables, where ``arrays`` keeps its arrays."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.xp = arrays, arrays.xp
        tables = (RSQRT_TABLE, SINE_TABLE, WEIGHTS, LOGISTIC)
        self.roots, self.sines, self.weights, self.logistic = map(arrays.integers, tables)

    def bit_length(self, x: Any) -> Any:
        """Bits of ``x`` (0 to 2**53 - 1): the exponent of the float that it is exactly."""
        exponent = self.xp.frexp(self.arrays.floats(x, EXACT_FLOAT64))[1]
        return self.arrays.integers(exponent)

    def _saturate(self, x: Any, to: Int) -> Any:
        """The nearest value of ``to``, in place."""
        return self.arrays.clamp(x, to.low, to.high)

    def narrow(self, x: Any, multiplier: Any, shift: Any, to: Int) -> Any:
        """Times ``multiplier`` (16 bits), over ``2**shift``: ``x`` (46 bits) to ``to``."""
        return self._saturate(round_shift(x * multiplier, shift), to)

    def add(self, x: Any, y: Any) -> Any:
        """The residual and what a block adds to it."""
        return self._saturate(x + y, RESIDUAL)

    def reciprocal_root(self, upper: Any, lower: Any) -> tuple[Any, Any]:
        """``r`` (17 bits) and ``z`` (0 to 39) of squares ``upper * 2**32 + lower``.

        ``upper``: below 2**48. ``lower``: below 2**32. The square is at least 1.
        """
        high, low = self.bit_length(upper), self.bit_length(lower)
        length = self.xp.where(upper > 0, high + 32, low)
        z = (80 - length) >> 1
        cut = 56 - 2 * z  # bits below the mantissa; negative: zeros to append
        mantissa = upper << self._positive(32 - cut) >> self._positive(cut - 32)
        mantissa = mantissa + (lower << self._positive(-cut) >> self._positive(cut))
        start = self.xp.take(self.roots, (mantissa >> 16) - 64)
        return start * ((3 << 24) - (mantissa * start * start >> 24)) >> 21, z

    def _positive(self, x: Any) -> Any:
        """``x`` or 0, in place."""
        return self.arrays.clamp(x, 0, None)

    def norm(self, x: Any, constants: Norm, to: Int) -> Any:
        """RMSNorm of residuals ``x`` [T, n]; the 79 bits of a square in two words."""
        high, low = x >> 16, x & 0xFFFF
        cross = (high * low).sum(-1)
        lower = (low * low).sum(-1) + ((cross & 0x7FFF) << 17) + constants.epsilon
        upper = (high * high).sum(-1) + (cross >> 15) + (lower >> 32)
        root, z = self.reciprocal_root(upper, lower & 0xFFFFFFFF)
        gain = round_shift(root * constants.multiplier, 16)
        y = round_shift(x * gain[:, None], (constants.shift - z)[:, None])
        return self._saturate(y, to)

    def sine(self, angle: Any) -> Any:
        """Of ``angle`` modulo 2**32 (a turn), times 32767."""
        phase = angle >> 14 & 0xFFFF
        phase = self.xp.where((angle >> 30 & 1) > 0, 65536 - phase, phase)
        index, rest = phase >> 8, phase & 255
        here, there = self.xp.take(self.sines, index), self.xp.take(self.sines, index + 1)
        value = here + ((there - here) * rest + 128 >> 8)
        return self.xp.where((angle >> 31 & 1) > 0, -value, value)

    def turns(self, positions: Any, fractions: Any) -> tuple[Any, Any]:
        """Cosines and sines [T, 1, pairs] of ``positions`` [T] times ``fractions`` [pairs]."""
        angle = positions[:, None, None] * fractions
        return self.sine(angle + (1 << 30)), self.sine(angle)

    def rotate(self, x: Any, turns: tuple[Any, Any], to: Int) -> Any:
        """Pairs of ``x`` [T, heads, head_width] (16 bits), turned and cut to ``to``."""
        (cosine, sine), shift = turns, 31 - to.bits
        first, second = x[..., 0::2], x[..., 1::2]
        pairs = (first * cosine - second * sine, first * sine + second * cosine)
        pairs = [self._saturate(round_shift(pair, shift), to) for pair in pairs]
        return self.xp.stack(pairs, -1).reshape(x.shape)

    def attend(self, q: Any, keys: Any, values: Any, score_shift: int, bits: int) -> Any:
        """Attention of queries [T, heads, d] of ``bits`` bits: int64 of the same shape.

        ``keys``, ``values``: int8 [kv_heads, positions, d]; the queries are the last T positions.
        """
        count, heads, width = q.shape
        kv_heads, positions, _ = keys.shape
        floats, bound = self.arrays.floats, width << bits - 1 + 7
        q = q.reshape(count, kv_heads, -1, width).swapaxes(0, 1).reshape(kv_heads, -1, width)
        dot = floats(q, bound) @ floats(keys, bound).swapaxes(1, 2)
        dot = self.arrays.integers(dot).reshape(kv_heads, count, -1, positions)
        weights = self._weights(self._saturate(round_shift(dot, score_shift), SCORE))
        bound = positions << 16 + 7
        weighted = floats(weights.reshape(kv_heads, -1, positions), bound) @ floats(values, bound)
        weighted = self.arrays.integers(weighted).reshape(kv_heads, count, -1, width)
        y = self.mean(weighted, weights.sum(-1))
        return y.swapaxes(0, 1).reshape(count, heads, width)

    def _weights(self, scores: Any) -> Any:
        """Weights of ``scores`` [kv_heads, T, group, positions]; 0 at positions to come."""
        count, positions = scores.shape[1], scores.shape[-1]
        if count > 1:
            at = self.arrays.integers(np.arange(positions))
            hidden = at > at[positions - count :, None, None]
            scores = self.xp.where(hidden, SCORE.low - NOTHING, scores)
        return self._exp2(self.xp.amax(scores, -1)[..., None] - scores)

    def _exp2(self, distance: Any) -> Any:
        """``2**-distance`` times 65535; ``distance`` (cut in place): 10 fraction bits."""
        return self.xp.take(self.weights, self.arrays.clamp(distance, None, NOTHING))

    def mean(self, weighted: Any, total: Any) -> Any:
        """Sums of values [..., n] (41 bits) over their weights [...] (65535 to 2**33)."""
        length = self.bit_length(total)
        reciprocal = (1 << 31) // (total >> (length - 16))
        y = round_shift(weighted * reciprocal[..., None], (length + 7)[..., None])
        return self._saturate(y, ATTENTION)

    def shrink(self, x: Any, to: Int) -> tuple[Any, Any]:
        """Rows of ``x`` [T, n] over powers of two of their own; and the exponents [T, 1]."""
        size = self.xp.amax(x ^ (x >> 63), -1)[:, None]
        lift = self._positive(self.bit_length(size) - (to.bits - 1))
        return self._saturate(round_shift(x, lift), to), lift

    def gate(self, gate: Any, up: Any) -> Any:
        """SiLU of ``gate`` (24 bits, 12 fraction bits) times ``up`` (20 bits): 32 bits."""
        share = self.xp.take(self.logistic, self.arrays.clamp(self.xp.abs(gate), None, STEEP))
        share = self.xp.where(gate < 0, 65536 - share, share)
        silu = self._saturate(round_shift(gate * share, 16), GATE)
        return self._saturate(round_shift(silu * up, 8), PRODUCT)
