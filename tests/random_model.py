"""Random integer models of any shape, for tests: legal, and busy enough that no value is idle."""

import math

import numpy as np

from intaglio.architecture import Architecture
from intaglio.golden.model import MATRICES, IntModel, Layer, Matrix, Norm
from intaglio.golden.number import Widths, code_values


def random_architecture(**changes) -> Architecture:
    """A small architecture; any field can be changed."""
    fields = {
        "family": "llama", "vocabulary": 96, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2,
        "head_width": 8, "inner": 48, "context": 32, "rope_base": 10000.0, "norm_epsilon": 1e-5,
        "tied": False,
    }  # fmt: skip
    return Architecture(**{**fields, **changes})


def random_matrix(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    *,
    source: float,
    target: float,
    bits: int = 4,
    extras: int = 0,
    least_shift: int = 0,
) -> Matrix:
    """A matrix whose narrowed outputs are about ``target`` for activations of about ``source``."""
    extra_shift = bits if extras else 0
    top = np.abs(code_values(bits)).mean() * (2**extra_shift)
    scale = target / (source * top * math.sqrt(inputs))
    shift = max(int(15 - math.floor(math.log2(scale))), least_shift)
    base = scale * 2.0**shift
    multiplier = np.clip(base * rng.uniform(0.6, 1.0, outputs), 1, 65535).astype(np.uint16)
    return Matrix(
        bits=bits,
        codes=rng.integers(0, 1 << bits, (inputs, outputs), dtype=np.uint8),
        extra_shift=extra_shift,
        extra_inputs=np.sort(rng.choice(inputs, extras, replace=False)).astype(np.int32),
        extra_codes=rng.integers(0, 1 << bits, (extras, outputs), dtype=np.uint8),
        multiplier=multiplier,
        shift=np.full(outputs, shift, np.uint8),
    )


def random_model(
    seed: int = 0,
    architecture: Architecture | None = None,
    widths: Widths | None = None,
    bits: dict[str, int] | None = None,
    extras: dict[str, float] | None = None,
) -> IntModel:
    """A random model; ``bits`` and ``extras`` (fractions of the inputs) by matrix name."""
    rng = np.random.default_rng(seed)
    a, widths = architecture or random_architecture(), widths or Widths()
    bits, extras = bits or {}, extras or {}
    normed = 2 ** (widths.norm - 1) / 4

    def norm() -> Norm:
        gain = math.sqrt(a.width) * normed * rng.uniform(0.8, 1.0)
        exponent = math.floor(math.log2(gain))
        multiplier = int(gain * 2.0 ** (15 - exponent))
        return Norm(int(rng.integers(1, 1 << 20)), multiplier, 40 + 16 - 16 + 15 - exponent)

    def matrix(name: str, inputs: int, outputs: int, source: float, target: float, low: int = 0):
        return random_matrix(
            rng, inputs, outputs, source=source, target=target, bits=bits.get(name, 4),
            extras=round(extras.get(name, 0) * inputs), least_shift=low,
        )  # fmt: skip

    def layer() -> Layer:
        made = {
            "q": matrix("q", a.width, a.query_width, normed, 6000),
            "k": matrix("k", a.width, a.kv_width, normed, 8000),
            "v": matrix("v", a.width, a.kv_width, normed, 40),
            "o": matrix("o", a.query_width, a.width, 40, 80, 16 - widths.attention),
            "gate": matrix("gate", a.width, a.inner, normed, 8000),
            "up": matrix("up", a.width, a.inner, normed, 1e5),
            "down": matrix("down", a.inner, a.width, 100, 4, 32 - widths.product),
        }
        assert tuple(made) == MATRICES
        score_shift = max(round(math.log2(375 * 31 * math.sqrt(a.head_width) / 2048)), 0)
        return Layer(norm_attention=norm(), norm_mlp=norm(), score_shift=score_shift, **made)

    fraction = a.rope_base ** (-np.arange(0, a.head_width, 2) / a.head_width) / (2 * math.pi)
    return IntModel(
        architecture=a,
        widths=widths,
        residual_step=12,
        rotary=np.rint(fraction * 2**32).astype(np.int64),
        embedding=rng.integers(-128, 128, (a.vocabulary, a.width)).astype(np.int8),
        embedding_multiplier=rng.integers(1 << 15, 1 << 16, a.vocabulary).astype(np.uint16),
        embedding_shift=7,
        layers=tuple(layer() for _ in range(a.layers)),
        norm=norm(),
        head=matrix("head", a.width, a.vocabulary, normed, 8000),
    )
