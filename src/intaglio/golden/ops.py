"""The operations of the chip, one function each, exact on integers.

Every array is int64 unless said; widths and ranges are stated per operation. ``docs/spec.md`` says
the same in prose.
"""

import numpy as np

from intaglio.golden.number import (
    ADDEND_SHIFT,
    ATTENTION,
    ATTENTION_FRACTION,
    EXP_TABLE,
    GATE,
    PRODUCT,
    PRODUCT_SHIFT,
    RESIDUAL,
    ROTARY,
    RSQRT_MANTISSA,
    RSQRT_TABLE,
    SCORE,
    SCORE_FRACTION,
    SIGMOID_TABLE,
    SINE_TABLE,
    SQUARE_BITS,
    Int,
)


def saturate(x: np.ndarray, to: Int) -> np.ndarray:
    """Clamp to the range of ``to``."""
    return np.clip(x, to.low, to.high)


def round_shift(x: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """Divide by ``2**shift``, round half up. ``shift`` from 0 to 62, broadcast against ``x``."""
    one = np.int64(1)
    return (x + ((one << np.asarray(shift, np.int64)) >> one)) >> np.asarray(shift, np.int64)


def narrow(
    x: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray | int,
    to: Int,
    addend: np.ndarray | int = 0,
) -> np.ndarray:
    """Multiply by an unsigned 16-bit multiplier, divide by ``2**shift``, round half up, saturate.

    ``x``: at most 46 bits. ``multiplier``, ``shift``: broadcast against ``x``, per output.
    ``addend``: of :func:`addend`, joins the product before it is divided.
    """
    return saturate(round_shift(x * np.asarray(multiplier, np.int64) + addend, shift), to)


def addend(x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Scale an adapter's sums ``x`` [T, outputs] (30 bits) to the products of ``narrow``: 53 bits.

    ``multiplier`` (unsigned, 16 bits) and ``shift`` (0 to 62): per output.
    """
    scaled = x * np.asarray(multiplier, np.int64) << np.int64(ADDEND_SHIFT)
    return round_shift(scaled, shift)


def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Add to the residual; saturates at 32 bits."""
    return saturate(x + y, RESIDUAL)


def embed(codes: np.ndarray, multiplier: np.ndarray, shift: int) -> np.ndarray:
    """Residual of tokens: ``codes`` [T, width] (8 bits) times ``multiplier`` [T] (16 bits)."""
    return narrow(codes.astype(np.int64), multiplier[:, None], shift, RESIDUAL)


def sum_of_squares(x: np.ndarray) -> list[int]:
    """Exact sums over the last axis of ``x`` [T, n] (32 bits); Python integers, at most 79 bits."""
    high, low = x >> 16, x & 0xFFFF
    parts = zip(
        (high * high).sum(-1).tolist(), (high * low).sum(-1).tolist(), (low * low).sum(-1).tolist(),
        strict=True,
    )  # fmt: skip
    return [(a << 32) + (b << 17) + c for a, b, c in parts]


def reciprocal_root(square: int) -> tuple[int, int]:
    """Return ``(r, z)`` with ``r / 2**16 / 2**(40 - z)`` close to ``1 / sqrt(square)``.

    ``square``: from 1 to ``2**80 - 1``. ``z``: pairs of leading zeros, 0 to 39. ``r``: 17 bits,
    relative error below ``2**-15``. A table and one Newton step.
    """
    z = (SQUARE_BITS - square.bit_length()) // 2
    mantissa = square << 2 * z >> SQUARE_BITS - RSQRT_MANTISSA
    start = int(RSQRT_TABLE[(mantissa >> 16) - 64])
    error = mantissa * start * start >> 24
    return start * ((3 << 24) - error) >> 21, z


def norm(x: np.ndarray, epsilon: int, multiplier: int, shift: int, to: Int) -> np.ndarray:
    """RMSNorm with a static output scale: ``x`` [T, n] (32 bits) to ``to``.

    ``epsilon``: added to the sum of squares, at least 1. ``multiplier`` (16 bits) and ``shift``
    (40 to 62) carry ``sqrt(n)`` and the output scale.
    """
    gain, exponent = [], []
    for square in sum_of_squares(x):
        root, z = reciprocal_root(square + epsilon)
        gain.append((root * multiplier + (1 << 15)) >> 16)
        exponent.append(shift - z)
    gains, shifts = np.array(gain, np.int64), np.array(exponent, np.int64)
    return saturate(round_shift(x * gains[:, None], shifts[:, None]), to)


def sine(angle: np.ndarray) -> np.ndarray:
    """Sine of ``angle`` in turns times ``2**32`` (uint32 range); 16 bits, scaled to 32767."""
    quadrant, phase = angle >> 30, angle >> 14 & 0xFFFF
    phase = np.where(quadrant & 1, 65536 - phase, phase)
    index, rest = phase >> 8, phase & 0xFF
    here, there = SINE_TABLE[index], SINE_TABLE[index + 1]
    value = here + ((there - here) * rest + 128 >> 8)
    return np.where(quadrant & 2, -value, value)


def turn(position: np.ndarray, fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine [T, pairs] of ``position`` [T] times ``fraction`` [pairs] (turns, 2**-32)."""
    angle = position[:, None] * fraction[None, :] & 0xFFFFFFFF
    return sine((angle + (1 << 30)) & 0xFFFFFFFF), sine(angle)


def rotate(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray, to: Int) -> np.ndarray:
    """Rotate adjacent pairs of ``x`` [T, heads, head_width] (16 bits) and narrow to ``to``.

    ``cosine``, ``sine``: [T, head_width / 2]. The result keeps the top ``to.bits`` of 16.
    """
    first, second = x[..., 0::2], x[..., 1::2]
    cosine, sine = cosine[:, None, :], sine[:, None, :]
    shift = 15 + ROTARY.bits - to.bits
    out = np.empty_like(x)
    out[..., 0::2] = saturate(round_shift(first * cosine - second * sine, shift), to)
    out[..., 1::2] = saturate(round_shift(first * sine + second * cosine, shift), to)
    return out


def score(dot: np.ndarray, shift: int) -> np.ndarray:
    """Score, log2 units with 10 fraction bits, of an exact dot product of query and key."""
    return saturate(round_shift(dot, shift), SCORE)


def exp2(distance: np.ndarray) -> np.ndarray:
    """``2**-distance`` times 65535, 16 bits unsigned; ``distance`` >= 0 with 10 fraction bits."""
    whole = np.minimum(distance >> SCORE_FRACTION, 17)
    index, rest = distance >> 4 & 63, distance & 15
    here, there = EXP_TABLE[index], EXP_TABLE[index + 1]
    mantissa = here - ((here - there) * rest + 8 >> 4)
    return round_shift(mantissa, whole)


def mean(weighted: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Divide weighted sums of values [..., n] by their total weight [...]; 8 fraction bits.

    ``weighted``: at most 41 bits. ``total``: 65535 to ``2**33``. One reciprocal per total: its top
    16 bits divide ``2**31``.
    """
    length = np.frexp(total.astype(np.float64))[1].astype(np.int64)  # bits of total, exact
    divisor = total >> length - 16
    reciprocal = (1 << 31) // divisor
    shift = 31 - ATTENTION_FRACTION - 16 + length
    return saturate(round_shift(weighted * reciprocal[..., None], shift[..., None]), ATTENTION)


def shrink(x: np.ndarray, to: Int) -> tuple[np.ndarray, np.ndarray]:
    """Narrow each row of ``x`` [T, n] by a power of two of its own.

    Returns the narrow values and the shifts [T]: the fewest bits with which the largest magnitude
    fits before rounding.
    """
    largest = np.bitwise_or.reduce(x ^ (x >> 63), axis=-1)
    length = np.array([int(value).bit_length() for value in largest], np.int64)
    shift = np.maximum(length - (to.bits - 1), 0)
    return saturate(round_shift(x, shift[:, None]), to), shift


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function of ``x`` (24 bits, 12 fraction bits), scaled to 65536."""
    size = np.abs(x)
    index, rest = np.minimum(size >> 8, 255), np.where(size >> 8 > 255, 256, size & 0xFF)
    here, there = SIGMOID_TABLE[index], SIGMOID_TABLE[index + 1]
    value = here + ((there - here) * rest + 128 >> 8)
    return np.where(x < 0, 65536 - value, value)


def gate(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """SiLU of ``gate`` (24 bits, 12 fraction bits) times ``up`` (20 bits); 32 bits."""
    silu = saturate(round_shift(gate * sigmoid(gate), 16), GATE)
    return saturate(round_shift(silu * up, PRODUCT_SHIFT), PRODUCT)
