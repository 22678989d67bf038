"""What hardwiring does to a model's weights, in PyTorch, simple enough for every training step.

The compiler (``intaglio.quantize.rotate``) folds each norm's gain into the matrices behind it,
gives the columns of ``down`` norm 1, rotates the residual stream and the values of each head, and
stores each weight as a code: a sign and a magnitude from a fixed table, times one real scale per
output. Here the codes are rounded to the nearest; the compiler chooses them better. Embedding and
head are rounded to 8 bits per row.

All functions return weights in the checkpoint's own, unrotated basis, so that the same forward
pass runs both; gains become 1 and a tied checkpoint is untied.
"""

from collections.abc import Iterator

import torch
from llama import (
    ATTENTION_NORM,
    EMBEDDING,
    FINAL_NORM,
    GATE_NORM,
    HEAD,
    Shape,
    Weights,
    layer_name,
)
from torch import Tensor

from intaglio.golden.number import CODEBOOKS
from intaglio.quantize.rotate import rotation

INTO_STREAM = ("o_proj", "down_proj")
ROW_LEVELS = 127


def fold(weights: Weights, shape: Shape) -> Weights:
    """Fold every gain into the matrices behind its norm, balance up and down, untie the head."""
    folded = dict(weights) | {HEAD: weights[EMBEDDING] * weights[FINAL_NORM]}
    for layer in range(shape.layers):
        for short in shape.matrices():
            if not any(part in short for part in INTO_STREAM):
                norm = ATTENTION_NORM if "self_attn" in short else GATE_NORM
                name = layer_name(layer, short)
                folded[name] = weights[name] * weights[layer_name(layer, norm)]
        up, down = (layer_name(layer, f"mlp.{part}.weight") for part in ("up_proj", "down_proj"))
        factor = folded[down].norm(dim=0)
        folded[up], folded[down] = folded[up] * factor[:, None], folded[down] / factor
    ones = {name: torch.ones_like(w) for name, w in weights.items() if w.ndim == 1}
    return folded | ones


class Hardwiring:
    """Rounds folded weights to what a chip stores, with a scale per output kept between calls."""

    def __init__(self, shape: Shape, bits: int):
        self.shape = shape
        self.stream = torch.from_numpy(rotation(shape.width)).float()
        self.head = torch.from_numpy(rotation(shape.head_width)).float()
        self.magnitudes = torch.tensor(CODEBOOKS[bits], dtype=torch.float32)
        self.limits = (self.magnitudes[1:] + self.magnitudes[:-1]) / 2
        self.scales: Weights = {}

    def _codes(self, scaled: Tensor) -> Tensor:
        ranks = torch.bucketize(scaled.abs(), self.limits)
        return torch.where(scaled < 0, -1.0, 1.0) * self.magnitudes[ranks]

    def _search(self, matrix: Tensor) -> Tensor:
        """Return the best of 40 scales for each output."""
        largest = matrix.abs().amax(1, keepdim=True) / self.magnitudes[-1]
        best, found = torch.full_like(largest, torch.inf), largest
        for share in torch.linspace(0.4, 1.2, 40):
            scale = largest * share
            error = (self._codes(matrix / scale) * scale - matrix).square().sum(1, keepdim=True)
            found = torch.where(error < best, scale, found)
            best = torch.minimum(error, best)
        return found

    def _round(self, name: str, matrix: Tensor, passes: int) -> Tensor:
        """Round a rotated matrix, refitting its scales by least squares ``passes`` times."""
        scale = self.scales.get(name)
        scale = self._search(matrix) if scale is None else scale
        for _ in range(passes):
            codes = self._codes(matrix / scale)
            fitted = (codes * matrix).sum(1, keepdim=True) / codes.square().sum(1, keepdim=True)
            scale = fitted.clamp_min(1e-8)
        self.scales[name] = scale
        return self._codes(matrix / scale) * scale

    def _heads(self, matrix: Tensor, turn: Tensor) -> Tensor:
        """Turn the outputs of each head of the values."""
        return (turn @ matrix.view(-1, *turn.shape[:1], matrix.shape[1])).view(matrix.shape)

    def rotated(self, name: str, matrix: Tensor, back: bool = False) -> Tensor:
        """Take a folded matrix to the compiler's basis, or ``back`` from it."""
        stream, head = self.stream, self.head
        if back:
            stream, head = stream.T, head.T
        if "o_proj" in name:
            return stream @ self._heads(matrix.T.contiguous(), head).T
        if "down_proj" in name:
            return stream @ matrix
        turned = (matrix @ stream.T).contiguous()
        return self._heads(turned, head) if "v_proj" in name else turned

    @torch.no_grad()
    def changes(self, folded: Weights, passes: int = 1) -> Iterator[tuple[str, Tensor]]:
        """Return what rounding adds to each matrix of ``folded``."""
        for name, weight in folded.items():
            if weight.ndim != 2:
                continue
            matrix = self.rotated(name, weight)
            if name in (EMBEDDING, HEAD):
                step = matrix.abs().amax(1, keepdim=True) / ROW_LEVELS
                rounded = (matrix / step).round() * step
            else:
                rounded = self._round(name, matrix, passes)
            yield name, self.rotated(name, rounded - matrix, back=True)

    def __call__(self, weights: Weights, passes: int = 1) -> Weights:
        """Return hardwired weights; their gradient reaches ``weights`` as if nothing was rounded.

        This is the straight-through estimator: the rounding counts as a constant added.
        """
        folded = fold(weights, self.shape)
        changed = {name: folded[name] + change for name, change in self.changes(folded, passes)}
        return folded | changed


def hardwired(weights: Weights, shape: Shape, bits: int) -> Weights:
    """Return ``weights`` rounded to the nearest codes of ``bits`` bits."""
    return Hardwiring(shape, bits)(weights, passes=8)


def settled(weights: Weights, shape: Shape, bits: int) -> Weights:
    """Return the tied checkpoint whose matrices are what hardwiring makes of ``weights``.

    Hardwiring it again finds the same codes: a float model that costs next to nothing to engrave.
    Embedding and final gain, where 8 bits cost nothing anyway, stay as trained.
    """
    changed = hardwired(weights, shape, bits)
    changed.pop(HEAD)
    return changed | {EMBEDDING: weights[EMBEDDING], FINAL_NORM: weights[FINAL_NORM]}
