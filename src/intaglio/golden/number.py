"""Widths, codebooks and function tables: the constants of the integer arithmetic.

Everything here is fixed logic of the base die, equal for every chip. Tables are computed from their
definitions by correctly rounded operations; a test pins their hashes.
"""

import math
from dataclasses import dataclass

import numpy as np

from intaglio.errors import Overflow


@dataclass(frozen=True, slots=True)
class Int:
    """A two's complement integer of ``bits`` bits."""

    bits: int

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 64:
            raise ValueError(f"Int bits must be an integer from 2 to 64, not {self.bits!r}")

    @property
    def low(self) -> int:
        """The least value."""
        return -(1 << self.bits - 1)

    @property
    def high(self) -> int:
        """The greatest value."""
        return (1 << self.bits - 1) - 1


RESIDUAL = Int(32)  # the stream between layers
ROTARY = Int(16)  # queries and keys before rotation
KEY = Int(8)
VALUE = Int(8)
SCORE = Int(20)  # log2 units, SCORE_FRACTION fraction bits
SCORE_FRACTION = 10
WEIGHT_BITS = 16  # unnormalised exponentials are unsigned, at most 2**16 - 1
ATTENTION = Int(16)  # the weighted mean of the values, ATTENTION_FRACTION fraction bits
ATTENTION_FRACTION = 8
GATE = Int(24)  # GATE_FRACTION fraction bits
GATE_FRACTION = 12
UP = Int(20)
PRODUCT = Int(32)
PRODUCT_SHIFT = 8  # silu (GATE_FRACTION fraction bits) times up, divided by 2**PRODUCT_SHIFT
LOGIT = Int(24)  # nats, LOGIT_FRACTION fraction bits
LOGIT_FRACTION = 12
EMBEDDING = Int(8)
LOW_RANK = Int(8)  # both factors of an adapter
LATENT = Int(16)  # what passes between an adapter's two factors
ADDEND_SHIFT = 8  # an adapter's scaled sums are taken times 2**ADDEND_SHIFT before their shift

MULTIPLIER_BITS = 16  # unsigned output multipliers
SQUARE_BITS = 80  # the sum of squares, epsilon included
ACCUMULATOR_LIMIT = 46  # widest accumulator: times a multiplier it still fits 63 bits
WIDTH_LIMIT = 1 << 16  # residual elements: their sum of squares is at most 2**78
CONTEXT_LIMIT = 1 << 17  # positions: the total weight of a head stays below 2**33
CANDIDATES = 64  # logits the sampler keeps
RANK_LIMIT = 64  # of an adapter


@dataclass(frozen=True, slots=True)
class Widths:
    """Activation widths that a chip's shape chooses, in bits.

    ``norm``: output of every norm. ``query``: rotated queries. ``attention``: input of ``o``, with
    a power of two per token. ``product``: input of ``down``, likewise.
    """

    norm: int = 8
    query: int = 12
    attention: int = 8
    product: int = 10

    def __post_init__(self) -> None:
        for name in ("norm", "query", "attention", "product"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 4 <= value <= 16:
                raise Overflow(f"width of {name} must be from 4 to 16 bits, not {value!r}")

    def inputs(self, matrix: str) -> int:
        """Bits of the integers that the matrix of a name takes."""
        return {"o": self.attention, "down": self.product}.get(matrix, self.norm)


# Magnitudes by code width; a code is a sign bit (1: negative) above the magnitude's rank.
CODEBOOKS: dict[int, tuple[int, ...]] = {
    2: (4, 13),
    3: (2, 5, 9, 15),
    4: (1, 2, 4, 5, 7, 9, 11, 15),
}
MAGNITUDE_BITS = 4  # of the largest magnitude


def code_values(bits: int) -> np.ndarray:
    """The signed value of every code of a width: int64 [2**bits]."""
    magnitudes = np.array(CODEBOOKS[bits], dtype=np.int64)
    return np.concatenate([magnitudes, -magnitudes])


def product_bits(activation: int) -> int:
    """Bits of one product, and so cycles per row: activation bits times a magnitude, signed."""
    return activation + MAGNITUDE_BITS


def accumulator_bits(inputs: int, magnitude: int, activation: int) -> int:
    """Bits, sign included, that hold any sum of ``inputs`` products.

    ``magnitude``: the largest absolute weight. Raises :class:`Overflow` past ACCUMULATOR_LIMIT.
    """
    bits = (inputs * magnitude << activation - 1).bit_length() + 1
    if bits > ACCUMULATOR_LIMIT:
        raise Overflow(
            f"accumulator of {inputs} inputs, weights up to {magnitude} and {activation}-bit "
            f"activations must fit {ACCUMULATOR_LIMIT} bits, not {bits}"
        )
    return bits


# Reciprocal square root: mantissa of RSQRT_MANTISSA bits with its top two bits not both zero;
# the entry at h - 64 starts from the middle of the interval that the top 8 bits h name.
RSQRT_MANTISSA = 24
RSQRT_TABLE = np.array(
    [round(2**12 * math.sqrt(256 / (h + 0.5))) for h in range(64, 256)], dtype=np.int64
)

# 2**-f for f in [0, 1], 64 intervals, scaled to 2**16 - 1.
EXP_TABLE = np.array([round(65535 * 2 ** (-h / 64)) for h in range(65)], dtype=np.int64)

# The first quarter of a sine, 256 intervals, one entry beyond the end for interpolation.
SINE_BITS = 16
SINE_TABLE = np.array(
    [round(32767 * math.sin(math.pi / 2 * h / 256)) for h in range(257)] + [32767], dtype=np.int64
)

# The logistic function for arguments in [0, 16], 256 intervals, scaled to 2**16.
SIGMOID_TABLE = np.array(
    [round(65536 / (1 + math.exp(-h / 16))) for h in range(257)], dtype=np.int64
)
