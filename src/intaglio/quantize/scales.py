"""The static scale of every activation: a float is an integer times its scale.

A norm's output has one scale; a key one per (kv head, rotary pair), carried by the queries of its
group; a value one per channel, carried by the inputs of ``o``; ``gate`` the fixed step of the
sigmoid's table; ``up`` one per layer, carried by ``down``; the residual one power of two.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from intaglio.architecture import Architecture
from intaglio.golden.number import (
    ATTENTION_FRACTION,
    GATE_FRACTION,
    KEY,
    LOGIT_FRACTION,
    PRODUCT_SHIFT,
    ROTARY,
    SCORE_FRACTION,
    UP,
    VALUE,
    Int,
    Widths,
)
from intaglio.quantize.calibrate import Statistics
from intaglio.quantize.rotate import interleaved

RESIDUAL_BITS = 24  # significant bits of the residual at its calibrated peak
QUERY_MARGIN = 1.3  # room above the calibrated peak before a query saturates
UP_MARGIN = 4.0  # likewise
LEAST = 1e-30  # stands in for a peak of zero


@dataclass(frozen=True, eq=False)
class LayerScales:
    """Scales of one layer's activations.

    ``key``: [kv_heads, head_width / 2], of 8-bit keys. ``value``: [kv_heads, head_width].
    ``score_shift``: as in the integer model; fixes the scale of the queries.
    """

    norm_attention: float
    norm_mlp: float
    key: np.ndarray
    value: np.ndarray
    score_shift: int
    up: float


@dataclass(frozen=True, eq=False)
class Scales:
    """Scales of the whole model's activations."""

    architecture: Architecture
    widths: Widths
    layers: tuple[LayerScales, ...]
    norm: float
    residual_step: int

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, for a cache."""
        stacked = {
            f"scales.{part.name}": np.array([getattr(at, part.name) for at in self.layers])
            for part in fields(LayerScales)
        }
        ends = np.array([self.norm, self.residual_step], np.float64)
        return {**stacked, "scales.ends": ends}

    @classmethod
    def from_arrays(
        cls, architecture: Architecture, widths: Widths, arrays: dict[str, np.ndarray]
    ) -> "Scales":
        """Inverse of :meth:`arrays`; others among ``arrays`` are left alone."""

        def layer(index: int) -> LayerScales:
            parts = {
                part.name: arrays[f"scales.{part.name}"][index] for part in fields(LayerScales)
            }
            parts["score_shift"] = int(parts["score_shift"])
            return LayerScales(**parts)

        layers = tuple(layer(index) for index in range(architecture.layers))
        norm, step = arrays["scales.ends"].tolist()
        return cls(architecture, widths, layers, norm, int(step))

    def inputs(self, layer: int, name: str) -> np.ndarray | float:
        """Float per unit of the integers that a matrix takes, per input or for all."""
        if name == "head":
            return self.norm
        at = self.layers[layer]
        if name == "o":
            group = self.architecture.group
            return np.repeat(at.value, group, axis=0).reshape(-1) * 2.0**-ATTENTION_FRACTION
        if name == "down":
            return at.up * 2.0 ** (PRODUCT_SHIFT - GATE_FRACTION)
        return at.norm_attention if name in ("q", "k", "v") else at.norm_mlp

    def outputs(self, layer: int, name: str) -> np.ndarray | float:
        """Float per unit of the integers that a matrix gives, per output or for all.

        Outputs of q and k are in interleaved order.
        """
        if name == "head":
            return 2.0**-LOGIT_FRACTION
        at = self.layers[layer]
        if name == "q":
            each = self._query_step(at) / self._shared_key(at)
            return np.repeat(each, 2, axis=1).reshape(-1)
        if name == "k":
            return np.repeat(at.key, 2, axis=1).reshape(-1) * 2.0 ** (KEY.bits - ROTARY.bits)
        if name == "v":
            return at.value.reshape(-1)
        if name == "gate":
            return 2.0**-GATE_FRACTION
        return at.up if name == "up" else 2.0**-self.residual_step

    def _query_step(self, at: LayerScales) -> float:
        """Of queries times their key scale, as 16 bits before rotary."""
        scale = query_scale(at.score_shift, self.architecture.head_width)
        return scale * 2.0 ** (self.widths.query - ROTARY.bits)

    def _shared_key(self, at: LayerScales) -> np.ndarray:
        return np.repeat(at.key, self.architecture.group, axis=0)


def query_scale(score_shift: int, head_width: int) -> float:
    """Scale of the narrow queries with which scores have SCORE_FRACTION bits of log2 units."""
    unit = math.sqrt(head_width) / (math.log2(math.e) * 2**SCORE_FRACTION)
    return unit * 2.0**-score_shift


def choose_scales(statistics: Statistics, widths: Widths) -> Scales:
    """Choose every scale from what the calibration text showed."""
    a = statistics.architecture
    high = Int(widths.norm).high
    peak = max(statistics.residual, LEAST)
    return Scales(
        architecture=a,
        widths=widths,
        layers=tuple(layer_scales(statistics, widths, layer) for layer in range(a.layers)),
        norm=statistics.clip(a.layers, "head") / high,
        residual_step=math.floor(RESIDUAL_BITS - 1 - math.log2(peak)),
    )


def layer_scales(statistics: Statistics, widths: Widths, layer: int) -> LayerScales:
    """Choose one layer's scales."""
    a, high = statistics.architecture, Int(widths.norm).high
    key = np.maximum(statistics.key[layer], LEAST) / KEY.high
    query = statistics.query[layer] * np.repeat(key, a.group, axis=0)
    unit = query_scale(0, a.head_width)
    room = Int(widths.query).high / QUERY_MARGIN * unit / max(float(query.max()), LEAST)
    return LayerScales(
        norm_attention=statistics.clip(layer, "attention") / high,
        norm_mlp=statistics.clip(layer, "mlp") / high,
        key=key,
        value=np.maximum(statistics.value[layer], LEAST) / VALUE.high,
        score_shift=min(max(math.floor(math.log2(room)), 0), 31),
        up=max(statistics.up[layer], LEAST) * UP_MARGIN / UP.high,
    )


def output_order(architecture: Architecture, name: str) -> np.ndarray | slice:
    """Which of a checkpoint's rows is each output: interleaved pairs for q and k."""
    a = architecture
    if name in ("q", "k"):
        return interleaved(a.heads if name == "q" else a.kv_heads, a.head_width)
    return slice(None)
