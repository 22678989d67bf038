"""From solved levels and scales to the constants that the chip stores."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from intaglio.architecture import Architecture
from intaglio.checkpoint import rope_frequencies
from intaglio.errors import Overflow
from intaglio.golden.model import MATRICES, IntModel, Layer, Matrix, Norm
from intaglio.golden.number import EMBEDDING, MULTIPLIER_BITS, PRODUCT, SQUARE_BITS, Int
from intaglio.quantize.codebook import grid
from intaglio.quantize.scales import Scales

EPSILON_LIMIT = 1 << 48
CLIPS = np.linspace(0.6, 1.0, 17)  # of a token's embedding, in shares of its peak


@dataclass(frozen=True, eq=False)
class Coded:
    """A matrix as levels: int16 [outputs, inputs], scale float64 [outputs], extra bool [inputs].

    A weight, on the integers of the activations, is its level times its output's scale.
    """

    bits: int
    levels: np.ndarray
    scale: np.ndarray
    extra: np.ndarray


def assemble(scales: Scales, coded: Mapping[str, Coded], embedding: np.ndarray) -> IntModel:
    """Build the integer model of ``coded`` matrices and a rotated float ``embedding``."""
    a = scales.architecture
    scales = replace(scales, residual_step=legal_step(scales, coded))
    codes, multiplier, shift = embed(embedding, scales.residual_step)

    def layer(index: int) -> Layer:
        at = scales.layers[index]
        return Layer(
            norm_attention=norm_constants(scales, at.norm_attention),
            norm_mlp=norm_constants(scales, at.norm_mlp),
            score_shift=at.score_shift,
            **{
                name: matrix_of(coded[f"layers.{index}.{name}"], scales, index, name)
                for name in MATRICES
            },
        )

    return IntModel(
        architecture=a,
        widths=scales.widths,
        residual_step=scales.residual_step,
        rotary=turn_fractions(a),
        embedding=codes,
        embedding_multiplier=multiplier,
        embedding_shift=shift,
        layers=tuple(layer(index) for index in range(a.layers)),
        norm=norm_constants(scales, scales.norm),
        head=matrix_of(coded["head"], scales, a.layers, "head"),
    )


def turn_fractions(architecture: Architecture) -> np.ndarray:
    """Rotary turns per position times 2**32: int64 [head_width / 2]."""
    fraction = rope_frequencies(architecture) / (2 * math.pi)
    return np.rint(fraction * 2.0**32).astype(np.int64) & 0xFFFFFFFF


def norm_constants(scales: Scales, scale: float) -> Norm:
    """Constants of a norm whose outputs have ``scale``; gains are folded, so its root mean is 1."""
    a = scales.architecture
    multiplier, shift = mantissa(np.array([math.sqrt(a.width) / scale]))
    epsilon = round(a.norm_epsilon * a.width * 4.0**scales.residual_step)
    return Norm(max(epsilon, 1), int(multiplier[0]), int(shift[0]) + SQUARE_BITS // 2)


def mantissa(
    ratio: np.ndarray, least: int | np.ndarray = 0, most: int = 62
) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers (16 bits) and shifts, ``least`` to ``most``, closest to positive ``ratio``.

    As many significant bits as the shift allows; a ratio of 0 has multiplier 0.
    """
    largest = (1 << MULTIPLIER_BITS) - 1
    _, exponent = np.frexp(ratio)
    shift = np.clip(MULTIPLIER_BITS - exponent.astype(np.int64), least, most)
    over = np.rint(np.ldexp(ratio, shift)) > largest
    shift = np.where(over & (shift > least), shift - 1, shift)
    multiplier = np.rint(np.ldexp(ratio, shift))
    if (multiplier > largest).any():
        raise Overflow(f"output multiplier must be below 2**16, not {int(multiplier.max())}")
    return multiplier.astype(np.int64), shift


def least_shift(scales: Scales, name: str) -> int:
    """What a token's own shift can take off the shift of ``o`` or ``down``; else 0."""
    if name == "o":
        return 16 - scales.widths.attention
    return PRODUCT.bits - scales.widths.product if name == "down" else 0


def ratio_of(coded: Coded, scales: Scales, layer: int, name: str) -> np.ndarray:
    """Integer out per accumulator unit: float64 [outputs]."""
    return coded.scale / scales.outputs(layer, name)


def legal_step(scales: Scales, coded: Mapping[str, Coded]) -> int:
    """The calibrated residual step, or the next coarser one with which no constant overflows."""
    a, step = scales.architecture, scales.residual_step
    for layer in range(a.layers):
        for name in ("o", "down"):
            ratio = ratio_of(coded[f"layers.{layer}.{name}"], scales, layer, name).max()
            room = (
                MULTIPLIER_BITS - least_shift(scales, name) - math.frexp(ratio)[1] if ratio else 0
            )
            step = min(step, scales.residual_step + room)
    limit = math.log(EPSILON_LIMIT / (a.norm_epsilon * a.width), 4)
    return min(step, math.floor(limit - 1e-9))


def matrix_of(coded: Coded, scales: Scales, layer: int, name: str) -> Matrix:
    """One matrix as the chip stores it."""
    extra = np.flatnonzero(coded.extra)
    table = grid(coded.bits, bool(len(extra)))
    codes, _ = table.codes(coded.levels, extra=False)
    first, second = table.codes(coded.levels[:, extra], extra=True)
    codes[:, extra] = first
    multiplier, shift = mantissa(ratio_of(coded, scales, layer, name), least_shift(scales, name))
    return Matrix(
        bits=coded.bits,
        codes=np.ascontiguousarray(codes.T),
        extra_shift=table.extra_shift,
        extra_inputs=extra.astype(np.int32),
        extra_codes=np.ascontiguousarray(second.T),
        multiplier=multiplier.astype(np.uint16),
        shift=shift.astype(np.uint8),
    )


def embed(embedding: np.ndarray, residual_step: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes int8 [vocabulary, width], multipliers uint16 [vocabulary] and their one shift."""
    high = Int(EMBEDDING.bits).high
    peak = np.abs(embedding).max(1).astype(np.float64)
    best, least = peak / high, np.full(len(embedding), np.inf)
    for clip in CLIPS:
        scale = np.where(peak > 0, peak * clip / high, 1.0)[:, None]
        steps = np.clip(np.rint(embedding / scale), -high - 1, high)
        error = np.square(steps * scale - embedding).sum(1)
        better = error < least
        best, least = np.where(better, scale[:, 0], best), np.where(better, error, least)
    ratio = best * 2.0**residual_step
    shift = int(mantissa(np.array([ratio.max()]))[1][0])
    multiplier = np.maximum(np.rint(np.ldexp(ratio, shift)), 1).astype(np.int64)
    exact = np.ldexp(multiplier.astype(np.float64), -shift - residual_step)
    codes = np.clip(np.rint(embedding / exact[:, None]), -high - 1, high)
    return codes.astype(np.int8), multiplier.astype(np.uint16), shift


def embedding_weights(embedding: np.ndarray, residual_step: int) -> np.ndarray:
    """What the chip's embedding stands for: float32 [vocabulary, width]."""
    codes, multiplier, shift = embed(embedding, residual_step)
    scale = np.ldexp(multiplier.astype(np.float64), -shift - residual_step)
    return (codes * scale[:, None]).astype(np.float32)
