"""A float LoRA adapter in the units of a finished chip.

Three things were done to the checkpoint before its weights became codes, and are done to an adapter
alike: norm gains, balance and rotation are folded in (``rotate``), inputs and outputs are taken in
the units of the chip's integers (``scales``), q and k stand in interleaved order. The units that
the chip does not state are recovered: on a text, from what its own k, v and up give.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from intaglio.architecture import Architecture
from intaglio.checkpoint import Checkpoint
from intaglio.checkpoint.forward import Weights
from intaglio.checkpoint.peft import Factors, FloatAdapter
from intaglio.errors import BadInput, Overflow
from intaglio.golden.adapter import Adapter, LowRank, full_name
from intaglio.golden.model import IntModel, Norm
from intaglio.golden.number import ADDEND_SHIFT, KEY, LATENT, LOW_RANK, ROTARY, SQUARE_BITS
from intaglio.quantize.assemble import mantissa
from intaglio.quantize.calibrate import default_text, spread
from intaglio.quantize.rotate import balance, rotation
from intaglio.quantize.scales import LEAST, LayerScales, Scales, output_order

TOKENS = 512  # of the calibration text
LATENT_MARGIN = 4.0  # room above the calibrated peak before what passes between saturates
UP_ROWS = 256  # of up, from which its one unit is recovered
SEEN = {  # what a trace shows that is needed
    "norm_attention": np.int16, "k": np.int16, "v": np.int8, "attention_shrink": np.int16,
    "norm_mlp": np.int16, "up": np.int32, "product_shrink": np.int16,
}  # fmt: skip
INPUT = {
    "q": "norm_attention", "k": "norm_attention", "v": "norm_attention", "o": "attention_shrink",
    "gate": "norm_mlp", "up": "norm_mlp", "down": "product_shrink",
}  # fmt: skip

Trace = Callable[[int, str, int, np.ndarray], None]
Forward = Callable[[np.ndarray, Trace], object]
"""The chip's forward pass on token ids [T] from position 0, showing itself to a trace."""

Seen = Mapping[tuple[int, str], np.ndarray]
"""The chip's integers on the calibration text: [tokens, n] by layer and name in the trace."""


def quantize_adapter(
    adapter: FloatAdapter,
    checkpoint: Checkpoint,
    model: IntModel,
    forward: Forward,
    text: str | None = None,
) -> Adapter:
    """Quantize ``adapter`` for the chip ``model``, which was made of ``checkpoint``.

    ``forward``: that of the chip without an adapter. ``text``: calibrates the ranges; None for
    the compiler's own. The same input gives the same adapter.
    """
    plain = replace(checkpoint.architecture, context=model.architecture.context, tied=False)
    if plain != model.architecture:
        raise BadInput(
            f"{checkpoint.source}: not the model that the chip was made of",
            hint="name the right one with --model",
        )
    seen = observe(forward, calibration(checkpoint, model.architecture.context, text))
    fold = Fold(checkpoint)
    scales = recover_scales(fold, model, seen)
    parts = {
        (layer, name): low_rank(
            fold, scales, layer, name, factors, getattr(model.layers[layer], name).shift,
            seen[layer, INPUT[name]],
        )
        for (layer, name), factors in adapter.parts.items()
    }  # fmt: skip
    made = Adapter(model.hash(), parts)
    made.check(model)
    return made


def calibration(checkpoint: Checkpoint, context: int, text: str | None) -> list[np.ndarray]:
    """About ``TOKENS`` tokens of the text in windows, each as a text begins."""
    ids = np.array(checkpoint.tokenizer.encode(default_text() if text is None else text), np.int64)
    if not len(ids):
        raise BadInput("calibration text must have at least one token")
    begin = checkpoint.tokenizer.begin_ids
    windows = spread(ids, TOKENS, max(min(TOKENS, context) - len(begin), 1))
    return [np.array([*begin, *window], np.int64) for window in windows]


def observe(forward: Forward, windows: list[np.ndarray]) -> Seen:
    """Run the windows and keep what is needed of the trace."""
    found: dict[tuple[int, str], list[np.ndarray]] = {}

    def trace(layer: int, name: str, position: int, values: np.ndarray) -> None:
        if name in SEEN:
            found.setdefault((layer, name), []).append(values.astype(SEEN[name]))

    for window in windows:
        forward(window, trace)
    return {key: np.concatenate(arrays) for key, arrays in found.items()}


class Fold:
    """What :class:`intaglio.quantize.rotate.Folded` does to a matrix, side by side."""

    def __init__(self, checkpoint: Weights) -> None:
        self.checkpoint, self.architecture = checkpoint, checkpoint.architecture
        self._rotation = rotation(self.architecture.width)
        self._turn = rotation(self.architecture.head_width)
        self._factors: dict[int, np.ndarray] = {}

    def read(self, layer: int, name: str) -> np.ndarray:
        """One tensor of a layer: float64."""
        return self.checkpoint.tensor(full_name(layer, name)).astype(np.float64)

    def inputs(self, layer: int, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows [any, inputs] on the checkpoint's inputs, as rows on the folded ones."""
        if name == "o":
            turned = rows.reshape(len(rows), -1, len(self._turn)) @ self._turn.T
            return turned.reshape(rows.shape)
        if name == "down":
            return rows / self._factor(layer)[None, :]
        norm = "norm_mlp" if name in ("gate", "up") else "norm_attention"
        return (rows * self.read(layer, norm)[None, :]) @ self._rotation.T

    def outputs(self, layer: int, name: str, columns: np.ndarray) -> np.ndarray:
        """Columns [outputs, any] of the checkpoint's outputs, as columns of the chip's."""
        if name in ("o", "down"):
            return self._rotation @ columns
        if name == "v":
            heads = columns.reshape(-1, len(self._turn), columns.shape[1])
            return np.matmul(self._turn, heads).reshape(columns.shape)
        if name == "up":
            return columns * self._factor(layer)[: len(columns), None]
        return columns[output_order(self.architecture, name)]

    def _factor(self, layer: int) -> np.ndarray:
        if layer not in self._factors:
            self._factors[layer] = balance(self.read(layer, "up"), self.read(layer, "down"))
        return self._factors[layer]


def recover_scales(fold: Fold, model: IntModel, seen: Seen) -> Scales:
    """The scales with which ``model`` was made.

    Most are in its constants. Those of k, v and up are the ratio of what the float weights give on
    the chip's own inputs to what the chip gives: unlike a comparison of weights it does not depend
    on where the solver hid its errors.
    """
    return Scales(
        architecture=model.architecture,
        widths=model.widths,
        layers=tuple(layer_scales(fold, model, layer, seen) for layer in range(len(model.layers))),
        norm=norm_scale(model.norm, model.architecture),
        residual_step=model.residual_step,
    )


def norm_scale(norm: Norm, architecture: Architecture) -> float:
    """Float per unit of a norm's output."""
    return float(
        architecture.width**0.5 / (norm.multiplier * 2.0 ** (SQUARE_BITS // 2 - norm.shift))
    )


def layer_scales(fold: Fold, model: IntModel, layer: int, seen: Seen) -> LayerScales:
    """The scales of one layer."""
    at, a = model.layers[layer], model.architecture
    attention, mlp = (norm_scale(norm, a) for norm in (at.norm_attention, at.norm_mlp))

    def given(name: str, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Outputs [tokens, n] of the float weights on the chip's inputs, and of the chip."""
        folded = fold.outputs(layer, name, fold.inputs(layer, name, fold.read(layer, name)[rows]))
        inputs = seen[layer, INPUT[name]] * (mlp if name == "up" else attention)
        return inputs @ folded.T, seen[layer, name][:, rows].astype(np.float64)

    pairs, heads = (a.kv_heads, a.head_width // 2), (a.kv_heads, a.head_width)
    key = ratio(*(sides.reshape(len(sides), *pairs, 2) for sides in given("k")), over=(0, 3))
    value = ratio(*given("v"), over=(0,))
    return LayerScales(
        norm_attention=attention,
        norm_mlp=mlp,
        key=key * 2.0 ** (ROTARY.bits - KEY.bits),
        value=value.reshape(heads),
        score_shift=at.score_shift,
        up=float(ratio(*given("up", slice(UP_ROWS)), over=(0, 1))),
    )


def ratio(true: np.ndarray, chip: np.ndarray, over: tuple[int, ...]) -> np.ndarray:
    """By what to multiply ``chip`` to come closest to ``true``; at least ``LEAST``."""
    power = np.square(chip).sum(over)
    return np.maximum((true * chip).sum(over) / np.where(power > 0, power, 1.0), LEAST)


def low_rank(
    fold: Fold,
    scales: Scales,
    layer: int,
    name: str,
    factors: Factors,
    shift: np.ndarray,
    inputs: np.ndarray,
) -> LowRank:
    """Quantize what one matrix gets.

    ``shift``: of the matrix' narrow. ``inputs``: the matrix' own on the calibration text.
    """
    down = fold.inputs(layer, name, factors.down.astype(np.float64))
    codes, step = rounded(down * scales.inputs(layer, name))
    up = fold.outputs(layer, name, factors.scale * factors.up.astype(np.float64))
    up = up * np.exp2(shift.astype(np.float64))[:, None]
    up = up / np.broadcast_to(scales.outputs(layer, name), len(up))[:, None]  # units of the addend

    unit = latent_unit(codes * step[:, None], up, inputs, scales.widths.inputs(name))
    down_multiplier, down_shift = mantissa(step / unit)
    up = up * (step * np.exp2(down_shift) / np.maximum(down_multiplier, 1))[None, :]
    try:
        up_multiplier, up_shift = mantissa(rounded(up)[1] * 2.0**-ADDEND_SHIFT)
    except Overflow:
        raise Overflow(
            f"{full_name(layer, name)}: adapter must stay within the range of the chip's outputs"
        ) from None
    exact = np.maximum(up_multiplier, 1) * np.exp2(ADDEND_SHIFT - up_shift)
    return LowRank(
        down=np.ascontiguousarray(codes.T),
        down_multiplier=down_multiplier.astype(np.uint16),
        down_shift=down_shift.astype(np.uint8),
        up=np.ascontiguousarray(to_codes(up / exact[:, None]).T),
        up_multiplier=up_multiplier.astype(np.uint16),
        up_shift=up_shift.astype(np.uint8),
    )


def rounded(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8 of each row and their step; the step of an empty row is 0."""
    step = np.abs(rows).max(1) / LOW_RANK.high
    return to_codes(rows / np.where(step > 0, step, 1.0)[:, None]), step


def to_codes(x: np.ndarray) -> np.ndarray:
    """Round to int8, saturate."""
    return np.clip(np.rint(x), LOW_RANK.low, LOW_RANK.high).astype(np.int8)


def latent_unit(down: np.ndarray, up: np.ndarray, inputs: np.ndarray, bits: int) -> np.ndarray:
    """The unit of what passes between the factors ``down`` and ``up``: float64 [rank].

    Small enough to be fine, large enough that four times what calibration showed, or whatever
    ``bits`` wide inputs can give, does not saturate. Within that, each is as fine as it counts in
    the outputs, so that the rows of ``up`` are of one size and share their outputs' steps well.
    """
    reach = np.abs(down).sum(1) * 2.0 ** (bits - 1)
    shown = LATENT_MARGIN * np.abs(inputs @ down.T).max(0)
    peak = np.where(shown > 0, np.minimum(shown, reach), reach)
    power = np.square(up * peak)  # [outputs, rank]
    whole = power.sum(1, keepdims=True)
    share = np.sqrt((power / np.where(whole > 0, whole, 1.0)).sum(0))
    share = np.maximum(share / (share.max() or 1.0), 2.0**-LATENT.bits)
    return np.where(peak > 0, peak, 1.0) / share / LATENT.high
