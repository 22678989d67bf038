"""The stage: from a checkpoint and options to an integer model.

Three passes over the calibration text: the float model with its gradient (scales, widths), then
float and chip side by side while the matrices are solved, then the refinement of all scales.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import numpy as np

from intaglio.architecture import Architecture
from intaglio.checkpoint import Checkpoint, tensor_shapes
from intaglio.errors import BadInput
from intaglio.golden.model import IntModel, matrix_names
from intaglio.golden.number import Widths
from intaglio.quantize.allocate import allocate, unit_loss
from intaglio.quantize.assemble import Coded, assemble, embedding_weights
from intaglio.quantize.calibrate import SOURCE, WINDOW, default_text, spread
from intaglio.quantize.codebook import WIDTHS, digits, grid
from intaglio.quantize.refine import refine
from intaglio.quantize.repair import repaired
from intaglio.quantize.rotate import Folded, split
from intaglio.quantize.scales import Scales, choose_scales, output_order
from intaglio.quantize.sensitivity import Sensitivity
from intaglio.quantize.solve import damp, solve
from intaglio.quantize.stream import Halves, Streams

DEFAULT_CONTEXT = 2048
CALIBRATION_WORK = 1 << 41  # block weights times tokens spent on calibration, within bounds
CALIBRATION_TOKENS = (16384, 65536)
SHARES = {"calibrating": 0.0, "solving": 0.35, "refining": 0.7}  # of the time, behind each step

Progress = Callable[[str, float], None]
"""``progress(what, share)``: what is being done, and the share of the whole that lies behind."""

Arrays = dict[str, np.ndarray]
Cache = MutableMapping[str, Arrays]
"""What is found, by step; belongs to one checkpoint and one set of options."""


@dataclass(frozen=True, slots=True)
class Form:
    """How one matrix is stored: bits of a digit, and how many inputs have a second one."""

    bits: int
    extras: int = 0


@dataclass(frozen=True)
class QuantizeOptions:
    """What a user chooses. ``bits``: average over the block weights, second digits included.

    ``uniform``: the same width for every matrix. ``context``: None for the smaller of the model's
    and 2048. ``calibration``: a text, None for the one that comes with the compiler, of which
    ``tokens`` are used (None: by the model's size). ``head_bits``: width of the head.
    ``refinement``: steps of the refinement of scales. ``forms``: a given form for every matrix
    (``layers.0.q`` ... ``head``), as of a base chip, instead of choosing.
    """

    bits: float = 4.0
    uniform: bool = False
    context: int | None = None
    calibration: str | None = field(default=None, repr=False)
    tokens: int | None = None
    widths: Widths = field(default_factory=Widths)
    head_bits: int = 8
    refinement: int = 48
    forms: Mapping[str, Form] | None = field(default=None, repr=False)


def forms_of(model: IntModel) -> dict[str, Form]:
    """The form of every matrix of a model: what a checkpoint for the same base die must keep."""
    return {name: Form(matrix.bits, matrix.extras) for name, matrix in model.matrices()}


def quantize(
    checkpoint: Checkpoint,
    options: QuantizeOptions | None = None,
    *,
    cache: Cache | None = None,
    progress: Progress | None = None,
) -> IntModel:
    """Quantize ``checkpoint``: the same checkpoint and options give the same model.

    ``cache`` keeps what is found, so that an interrupted run can go on; ``progress`` is called
    before every step.
    """
    options = options or QuantizeOptions()
    check_options(checkpoint.architecture, options)
    run = Run(checkpoint, options, {} if cache is None else cache, progress or (lambda *_: None))
    run.look()
    run.solve()
    run.refine()
    return run.assemble()


def check_options(architecture: Architecture, options: QuantizeOptions) -> None:
    """Raise :class:`BadInput` for options that no model can have."""
    if not WIDTHS[0] <= options.bits <= WIDTHS[-1]:
        raise BadInput(f"bits must be from {WIDTHS[0]} to {WIDTHS[-1]}, not {options.bits}")
    if options.uniform:
        digits(options.bits)
    digits(options.head_bits)
    if options.context is not None and not 1 <= options.context <= architecture.context:
        raise BadInput(
            f"context must be from 1 to the model's {architecture.context}, not {options.context}"
        )
    for name in matrix_names(architecture) if options.forms is not None else ():
        form = (options.forms or {}).get(name)
        if form is None or form.extras > matrix_shape(architecture, name)[1]:
            raise BadInput(f"form of {name} must fit the checkpoint, not {form}")


class Run:
    """One quantization on its way: what each step finds is in ``cache``."""

    def __init__(
        self, checkpoint: Checkpoint, options: QuantizeOptions, cache: Cache, progress: Progress
    ) -> None:
        self.options, self.cache, self.progress = options, cache, progress
        self.folded = Folded(checkpoint)
        self.architecture = self.folded.architecture
        self.windows = calibration_windows(checkpoint, options)
        self.names = list(matrix_names(self.architecture))

    def look(self) -> None:
        """Choose scales and widths."""
        if "look" not in self.cache:
            found = Sensitivity(self.folded, self.options.widths.norm)
            for index, ids in enumerate(self.windows):
                self._report("calibrating", "text", index / len(self.windows))
                found.run([ids])
            scales = choose_scales(found.statistics, self.options.widths)
            losses = np.array([self._unit_loss(found, scales, name) for name in self.names[:-1]])
            taught = {f"taught.{index}": hidden for index, hidden in enumerate(found.hidden)}
            self.cache["look"] = {"losses": losses, **scales.arrays(), **taught}
        arrays = self.cache["look"]
        self.scales = Scales.from_arrays(self.architecture, self.options.widths, arrays)
        self.forms = self._forms(arrays["losses"])

    def solve(self) -> None:
        """Solve every matrix, in the order of the data's flow."""
        if all(name in self.cache for name in self.names):
            return
        embedding = embedding_weights(self.folded.tensor("embedding"), self.scales.residual_step)
        streams = Streams(self.folded, embedding, self.scales, self.windows)
        for layer in range(self.architecture.layers):
            streams.layer(layer, self._solve)
        streams.head(self._solve)

    def refine(self) -> None:
        """Move all scales together."""
        if self.options.refinement and "refined" not in self.cache:
            looked = self.cache["look"]
            self.cache["refined"] = refine(
                self._quantized(),
                self.folded.tensor("head"),
                [looked[f"taught.{index}"] for index in range(len(self.windows))],
                self.windows,
                self.options.refinement,
                lambda share: self._report("refining", "scales", share),
            )

    def assemble(self) -> IntModel:
        """Put the model together."""
        context = self.options.context or min(self.architecture.context, DEFAULT_CONTEXT)
        scales = replace(self.scales, architecture=replace(self.architecture, context=context))
        coded = {name: self._coded(name) for name in self.names}
        return assemble(scales, coded, self.folded.tensor("embedding"))

    def _report(self, step: str, what: str, share: float) -> None:
        behind = SHARES[step]
        ahead = min((other for other in SHARES.values() if other > behind), default=1.0)
        self.progress(f"{step} {what}", behind + (ahead - behind) * share)

    def _forms(self, losses: np.ndarray) -> dict[str, Form]:
        if self.options.forms is not None:
            return {name: self.options.forms[name] for name in self.names}
        a, blocks = self.architecture, self.names[:-1]
        if self.options.uniform:
            widths = dict.fromkeys(blocks, int(self.options.bits))
        else:
            sizes = {name: int(np.prod(matrix_shape(a, name))) for name in blocks}
            widths = allocate(
                dict(zip(blocks, losses.tolist(), strict=True)), sizes, self.options.bits
            )
        widths["head"] = self.options.head_bits
        return {name: form_of(width, matrix_shape(a, name)[1]) for name, width in widths.items()}

    def _unit_loss(self, found: Sensitivity, scales: Scales, name: str) -> float:
        layer, short = place(self.architecture, name)
        unit = np.broadcast_to(
            scales.inputs(layer, short), matrix_shape(self.architecture, name)[1]
        )
        hessian = found.statistics.hessians[layer, SOURCE[short]] / found.statistics.tokens
        hessian = damp(hessian / unit[:, None] / unit[None, :])
        return unit_loss(
            self.folded.tensor(name) * unit,
            hessian,
            found.energy[layer, short] / found.statistics.tokens,
        )

    def _solve(self, layer: int, short: str, halves: Callable[[], Halves]) -> np.ndarray:
        """Solve one matrix, or take it from the cache: its weights in the checkpoint's order."""
        name = full_name(self.architecture, layer, short)
        self._report("solving", name, self.names.index(name) / len(self.names))
        if name not in self.cache:
            form = self.forms[name]
            order = output_order(self.architecture, short)
            unit = np.broadcast_to(
                self.scales.inputs(layer, short), matrix_shape(self.architecture, name)[1]
            )
            self.cache[name] = solve_matrix(self.folded.tensor(name), halves(), order, unit, form)
        return self._weights(name)

    def _coded(self, name: str) -> Coded:
        arrays = self.cache[name]
        scale = arrays["scale"]
        factor = self.cache.get("refined", {}).get(name)
        if factor is not None:
            scale = (
                scale * factor[output_order(self.architecture, place(self.architecture, name)[1])]
            )
        return Coded(self.forms[name].bits, arrays["levels"], scale, arrays["extra"])

    def _weights(self, name: str) -> np.ndarray:
        """What the solved levels stand for, before refinement: float32, the checkpoint's order."""
        layer, short = place(self.architecture, name)
        arrays = self.cache[name]
        weights = arrays["levels"] * arrays["scale"][:, None] / self.scales.inputs(layer, short)
        ordered = np.empty(weights.shape, np.float32)
        ordered[output_order(self.architecture, short)] = weights
        return ordered

    def _quantized(self) -> "Quantized":
        embedding = embedding_weights(self.folded.tensor("embedding"), self.scales.residual_step)
        return Quantized(self.architecture, {"embedding": embedding}, self._weights)


@dataclass(frozen=True, eq=False)
class Quantized:
    """The quantized model's weights as a folded checkpoint, without norms."""

    architecture: Architecture
    fixed: dict[str, np.ndarray]
    solved: Callable[[str], np.ndarray]

    def tensor(self, name: str) -> np.ndarray:
        """One tensor: float32."""
        return self.fixed[name] if name in self.fixed else self.solved(name)


def place(architecture: Architecture, name: str) -> tuple[int, str]:
    """Layer and short name of a matrix; the head is in the layer after the last."""
    prefix, short = split(name)
    return int(prefix.split(".")[1]) if prefix else architecture.layers, short


def full_name(architecture: Architecture, layer: int, short: str) -> str:
    """Inverse of :func:`place`."""
    return short if layer == architecture.layers else f"layers.{layer}.{short}"


def matrix_shape(architecture: Architecture, name: str) -> tuple[int, ...]:
    """Outputs and inputs of a matrix."""
    return tensor_shapes(architecture)[name]


def form_of(width: float, inputs: int) -> Form:
    """The form of a whole matrix of one width."""
    bits, count = digits(width)
    return Form(bits, inputs if count == 2 else 0)


def calibration_windows(checkpoint: Checkpoint, options: QuantizeOptions) -> list[np.ndarray]:
    """The calibration text as windows of tokens, each as a text begins."""
    a = checkpoint.architecture
    text = default_text() if options.calibration is None else options.calibration
    ids = np.array(checkpoint.tokenizer.encode(text), np.int64)
    if len(ids) < 2:
        raise BadInput("calibration text must have at least two tokens")
    low, high = CALIBRATION_TOKENS
    tokens = options.tokens or min(max(CALIBRATION_WORK // a.block_parameters, low), high)
    begin = checkpoint.tokenizer.begin_ids
    windows = spread(ids, tokens, max(min(WINDOW, a.context) - len(begin), 1))
    return [np.array([*begin, *window], np.int64) for window in windows]


def solve_matrix(
    weights: np.ndarray, halves: Halves, order: np.ndarray | slice, unit: np.ndarray, form: Form
) -> Arrays:
    """Solve one matrix on the integers that the chip will feed it.

    ``weights`` [outputs, inputs] in the checkpoint's order, ``unit`` [inputs]: float per integer
    of an input.
    """
    target = repaired(weights.astype(np.float64), halves) * unit[None, :]
    chip = halves[0].chip + halves[1].chip
    hessian = damp(chip / unit[:, None] / unit[None, :])
    extra = np.zeros(len(unit), bool)
    extra[np.argsort(-np.diagonal(hessian), kind="stable")[: form.extras]] = True
    solved = solve(target[order], hessian, grid(form.bits, form.extras > 0), extra)
    return {"levels": solved.levels, "scale": solved.scale, "extra": extra}
