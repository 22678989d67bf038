"""What the tests of the native twin share: instruction sets, and models made for one purpose."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from random_model import random_architecture, random_model

from intaglio.golden.model import IntModel, Matrix
from intaglio.golden.number import CODEBOOKS, Widths

pytest.importorskip("intaglio.twin._native", reason="the native twin was not built")

from intaglio.twin.native import NativeEngine, kernels_here

KERNELS = kernels_here()
every_kernels = pytest.mark.parametrize("kernels", KERNELS)
MIXED: Any = {"bits": {"q": 3, "gate": 2, "up": 3}, "extras": {"v": 1.0, "k": 0.25, "down": 0.1}}
SHAPES: dict[str, dict[str, int]] = {
    "default": {},
    "odd": {"width": 17, "inner": 23, "heads": 6, "kv_heads": 2, "head_width": 6, "layers": 3},
    "one head": {"heads": 1, "kv_heads": 1, "head_width": 2, "width": 5, "inner": 3, "layers": 1},
    "no groups": {"heads": 3, "kv_heads": 3, "head_width": 16, "width": 48, "inner": 80},
    "group of 8": {"heads": 8, "kv_heads": 1, "head_width": 34, "width": 66, "inner": 130},
    "wide heads": {"heads": 2, "kv_heads": 2, "head_width": 256, "width": 40, "layers": 1},
    "super tiles": {"width": 130, "inner": 200, "vocabulary": 131, "layers": 1},
}
ACTIVATIONS = {
    "default": Widths(),
    "odd": Widths(norm=6, query=16, attention=16, product=16),
    "one head": Widths(norm=12, query=5, attention=5, product=4),
    "no groups": Widths(norm=4, query=4, attention=4, product=9),
    "group of 8": Widths(norm=9, query=7, attention=15, product=15),
    "wide heads": Widths(norm=16, query=14, attention=9, product=12),
    "super tiles": Widths(norm=8, query=15, attention=8, product=8),
}
"""A shape, and with it widths of one, two and three digits, of queries too."""


def shaped_model(shape: str, seed: int = 4, **changes: int) -> IntModel:
    """A random model of one of the shapes, codes of every width, inputs with second digits."""
    architecture = random_architecture(**{**SHAPES[shape], **changes})
    return random_model(seed, architecture, ACTIVATIONS[shape], **MIXED)


def loud(model: IntModel) -> IntModel:
    """The same model with outputs so large that everything saturates, as far as shifts allow."""
    least = {"o": 16 - model.widths.attention, "down": 32 - model.widths.product}

    def louder(name: str, matrix: Matrix) -> Matrix:
        more = 11 if name in ("gate", "head") else 7
        shift = np.maximum(matrix.shift.astype(int) - more, least.get(name, 0))
        return replace(matrix, shift=shift.astype(np.uint8))

    layers = tuple(
        replace(layer, **{name: louder(name, matrix) for name, matrix in layer.matrices()})
        for layer in model.layers
    )
    return replace(model, layers=layers, head=louder("head", model.head))


def model_with(down: Matrix, product: int) -> IntModel:
    """A small model around one matrix, which takes integers of ``product`` bits."""
    architecture = random_architecture(
        width=down.outputs, inner=down.inputs, heads=1, kv_heads=1, head_width=2, layers=1,
        vocabulary=2, context=4,
    )  # fmt: skip
    model = random_model(0, architecture, Widths(product=product))
    return replace(model, layers=(replace(model.layers[0], down=down),))


def any_matrix(
    rng: np.random.Generator,
    shape: tuple[int, int],
    bits: int,
    extras: int,
    extra_shift: int,
    activation: int,
) -> Matrix:
    """Codes of every kind, multipliers of every size; shifts with which few results saturate.

    Legal as ``down`` of a model whose products are ``activation`` bits wide.
    """
    inputs, outputs = shape
    top = len(CODEBOOKS[bits]) - 1  # the largest magnitude; with the sign bit the least value
    wholes = rng.choice([top, 2 * top + 1], outputs)
    codes = np.where(
        rng.random(outputs) < 0.3, wholes, rng.integers(0, 1 << bits, (inputs, outputs))
    )
    second = rng.integers(0, 1 << bits, (extras, outputs))
    middle = activation + extra_shift + max(inputs.bit_length() // 2, 0) + 18 - 16
    shift = np.clip(middle + rng.integers(-8, 9, outputs), 32 - activation, 62)
    return Matrix(
        bits=bits,
        codes=codes.astype(np.uint8),
        extra_shift=extra_shift if extras else 0,
        extra_inputs=np.sort(rng.choice(inputs, extras, replace=False)).astype(np.int32),
        extra_codes=np.where(rng.random(outputs) < 0.3, wholes, second).astype(np.uint8),
        multiplier=np.where(
            rng.random(outputs) < 0.2, rng.choice([0, 1, 65535], outputs),
            rng.integers(0, 1 << 16, outputs),
        ).astype(np.uint16),
        shift=shift.astype(np.uint8),
    )  # fmt: skip


def native(model: IntModel, kernels: str, threads: int = 1, context: int = 0) -> NativeEngine:
    """The engine of a model."""
    return NativeEngine(model, context or model.architecture.context, threads, kernels)


def run(engine: Any, sequence: Any, tokens: np.ndarray, position: int = 0) -> np.ndarray:
    """Logits of consecutive tokens of one sequence."""
    rows = np.arange(len(tokens))
    return engine.forward([sequence] * len(tokens), tokens, position + rows, rows)
