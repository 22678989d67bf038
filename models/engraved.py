"""What a finished chip's codes stand for, as the weights of an ordinary float model.

A code times its output's constant is a weight on the chip's integers. Taken in the units of those
integers (:mod:`intaglio.quantize.scales`) and turned back from the compiler's basis
(:class:`intaglio.quantize.adapter.Fold`), it is a weight in the checkpoint's own basis. The units
of keys, values and ``up`` are not stored; they are recovered as for any adapter. An error in one
drops out: what makes keys smaller makes queries larger. So the function is the chip's own, but for
the rounding of its activations, and an adapter trained on these weights is the one that
:func:`intaglio.quantize.adapter.quantize_adapter` puts beside the same codes.

Gains are 1: they were folded into the matrices before these were rounded, and are not divided out
again, for a gain may be 0. An adapter of the checkpoint acts behind the gains, so its A must be
multiplied by them (:func:`gains`).
"""

from dataclasses import replace

import numpy as np
import torch
from llama import EMBEDDING, FINAL_NORM, HEAD, Shape, Weights, layer_name

from intaglio.architecture import Architecture
from intaglio.checkpoint import MATRICES, Checkpoint
from intaglio.checkpoint.huggingface import STORED
from intaglio.golden.forward import Golden
from intaglio.golden.model import IntModel, Matrix
from intaglio.quantize.adapter import Fold, calibration, observe, recover_scales
from intaglio.quantize.rotate import balance, rotation
from intaglio.quantize.scales import Scales, output_order

INTO_STREAM = ("o", "down")


def shape_of(architecture: Architecture, context: int) -> Shape:
    """Return the dimensions of a model, for positions below ``context``."""
    a = architecture
    if a.rope_scaling is not None:
        raise SystemExit("rotary scaling is not in models/llama.py")
    return Shape(
        a.width, a.layers, a.heads, a.kv_heads, a.head_width, a.inner, a.vocabulary,
        context, a.rope_base, a.norm_epsilon,
    )  # fmt: skip


def stored(layer: int, name: str) -> str:
    """Return what a Hugging Face checkpoint calls a tensor of a layer."""
    return layer_name(layer, f"{STORED[name]}.weight")


def as_found(checkpoint: Checkpoint) -> Weights:
    """Return a checkpoint's own weights."""
    a = checkpoint.architecture
    names = {EMBEDDING: "embedding", FINAL_NORM: "norm"} | ({} if a.tied else {HEAD: "head"})
    for layer in range(a.layers):
        names |= {stored(layer, name): f"layers.{layer}.{name}" for name in STORED}
    return {ours: torch.tensor(checkpoint.tensor(theirs)) for ours, theirs in names.items()}


def norm_before(name: str) -> str:
    """Return which norm's outputs a matrix takes."""
    return "norm_mlp" if name in ("gate", "up") else "norm_attention"


def gains(checkpoint: Checkpoint) -> Weights:
    """Return what the inputs of each matrix are multiplied by before it, where they are."""
    return {
        stored(layer, name): torch.tensor(checkpoint.tensor(f"layers.{layer}.{norm_before(name)}"))
        for layer in range(checkpoint.architecture.layers)
        for name in MATRICES
        if name not in INTO_STREAM
    }


def scales_of(checkpoint: Checkpoint, model: IntModel) -> Scales:
    """Recover a chip's scales, the same ones as for an adapter."""
    golden = Golden(model)
    seen = observe(
        lambda ids, trace: golden.residual(ids, trace=trace),
        calibration(checkpoint, model.architecture.context, None),
    )
    return recover_scales(Fold(checkpoint), model, seen)


def on_floats(matrix: Matrix, scales: Scales, layer: int, name: str) -> np.ndarray:
    """Return the folded weights a matrix stands for: float64 [outputs, inputs]."""
    constant = np.ldexp(matrix.multiplier.astype(np.float64), -matrix.shift.astype(np.int64))
    outputs = (constant * scales.outputs(layer, name))[:, None]
    return matrix.weights().T * outputs / scales.inputs(layer, name)


class Back:
    """Turns folded weights back into the checkpoint's basis, gains left in."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.fold, self.architecture = Fold(checkpoint), checkpoint.architecture
        self.stream = rotation(self.architecture.width)
        self.head = rotation(self.architecture.head_width)

    def __call__(self, layer: int, name: str, folded: np.ndarray) -> np.ndarray:
        """Return float64 [outputs, inputs], rows of q and k half-split."""
        return self._outputs(layer, name, self._inputs(layer, name, folded))

    def _inputs(self, layer: int, name: str, rows: np.ndarray) -> np.ndarray:
        if name == "o":
            return (rows.reshape(len(rows), -1, len(self.head)) @ self.head).reshape(rows.shape)
        return rows * self._factor(layer)[None, :] if name == "down" else rows @ self.stream

    def _outputs(self, layer: int, name: str, columns: np.ndarray) -> np.ndarray:
        if name in INTO_STREAM:
            return self.stream.T @ columns
        if name == "v":
            heads = columns.reshape(-1, len(self.head), columns.shape[1])
            return np.matmul(self.head.T, heads).reshape(columns.shape)
        if name == "up":
            return columns / self._factor(layer)[:, None]
        ordered = np.empty_like(columns)
        ordered[output_order(self.architecture, name)] = columns
        return ordered

    def _factor(self, layer: int) -> np.ndarray:
        return balance(self.fold.read(layer, "up"), self.fold.read(layer, "down"))


def engraved(checkpoint: Checkpoint, model: IntModel) -> Weights:
    """Return the weights of the chip ``model``, which was made of ``checkpoint``."""
    a = replace(checkpoint.architecture, tied=False)
    scales, back = scales_of(checkpoint, model), Back(checkpoint)
    step = np.ldexp(
        model.embedding_multiplier.astype(np.float64), -model.embedding_shift - model.residual_step
    )
    found = {
        EMBEDDING: (model.embedding * step[:, None]) @ back.stream,
        HEAD: on_floats(model.head, scales, a.layers, "head") @ back.stream,
        FINAL_NORM: np.ones(a.width),
    }
    for layer in range(a.layers):
        for name in ("norm_attention", "norm_mlp"):
            found[stored(layer, name)] = np.ones(a.width)
        for name in MATRICES:
            folded = on_floats(getattr(model.layers[layer], name), scales, layer, name)
            found[stored(layer, name)] = back(layer, name, folded)
    return {name: torch.from_numpy(array).float() for name, array in found.items()}
