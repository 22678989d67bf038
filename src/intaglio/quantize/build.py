"""The stage: from a checkpoint and options to an integer model."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import numpy as np

from intaglio.architecture import Architecture
from intaglio.checkpoint import Checkpoint, FloatModel
from intaglio.errors import BadInput
from intaglio.golden.model import MATRICES, IntModel
from intaglio.golden.number import Widths
from intaglio.quantize.assemble import Coded, assemble
from intaglio.quantize.calibrate import SOURCE, Statistics, default_text, observe, spread
from intaglio.quantize.codebook import digits, grid
from intaglio.quantize.rotate import Folded, split
from intaglio.quantize.scales import Scales, choose_scales, output_order
from intaglio.quantize.solve import damp, solve

DEFAULT_CONTEXT = 2048
CALIBRATION_WORK = 1 << 41  # block weights times tokens spent on calibration, within bounds
CALIBRATION_TOKENS = (16384, 65536)

Progress = Callable[[str, float], None]
"""``progress(what, share)``: what is being done, and the share of the whole that lies behind."""

Cache = MutableMapping[str, dict[str, np.ndarray]]
"""Solved matrices by name; belongs to one checkpoint and one set of options."""


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
    ``tokens`` are used (None: by the model's size). ``head_bits``: width of the head. ``forms``: a
    given form for every matrix (``layers.0.q`` ... ``head``), as of a base chip, instead of
    choosing.
    """

    bits: float = 4.0
    uniform: bool = False
    context: int | None = None
    calibration: str | None = field(default=None, repr=False)
    tokens: int | None = None
    widths: Widths = field(default_factory=Widths)
    head_bits: int = 8
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

    ``cache`` keeps what is solved, so that an interrupted run can go on; ``progress`` is called
    before every step.
    """
    options, report = options or QuantizeOptions(), progress or (lambda *_: None)
    cache = {} if cache is None else cache
    folded = Folded(checkpoint)
    report("calibrating", 0.0)
    statistics = calibrate(checkpoint, folded, options)
    scales = choose_scales(statistics, options.widths)
    names = list(matrix_names(folded.architecture))
    forms = options.forms or uniform_forms(folded, options)
    coded = {}
    for index, name in enumerate(names):
        report(f"solving {name}", 0.4 + 0.6 * index / len(names))
        if name not in cache:
            cache[name] = solve_matrix(folded, statistics, scales, name, forms[name])
        coded[name] = Coded(forms[name].bits, **cache[name])
    context = chosen_context(folded.architecture, options)
    scales = replace(scales, architecture=replace(scales.architecture, context=context))
    return assemble(scales, coded, folded.fold("embedding"))


def matrix_names(architecture: Architecture) -> Iterator[str]:
    """Full names of all matrices, the head last."""
    for layer in range(architecture.layers):
        yield from (f"layers.{layer}.{name}" for name in MATRICES)
    yield "head"


def chosen_context(architecture: Architecture, options: QuantizeOptions) -> int:
    """The chip's context: as asked for, at most the model's."""
    if options.context is None:
        return min(architecture.context, DEFAULT_CONTEXT)
    if not 1 <= options.context <= architecture.context:
        raise BadInput(
            f"context must be from 1 to the model's {architecture.context}, not {options.context}"
        )
    return options.context


def calibrate(checkpoint: Checkpoint, folded: Folded, options: QuantizeOptions) -> Statistics:
    """Run the calibration text through the folded float model."""
    a = folded.architecture
    text = default_text() if options.calibration is None else options.calibration
    ids = np.array(checkpoint.tokenizer.encode(text), np.int64)
    if len(ids) < 2:
        raise BadInput("calibration text must have at least two tokens")
    low, high = CALIBRATION_TOKENS
    tokens = options.tokens or min(max(CALIBRATION_WORK // a.block_parameters, low), high)
    model = FloatModel(folded)
    windows = spread(ids, tokens, min(512, a.context))
    return observe(model.hidden, folded, windows, norm_bits=options.widths.norm)


def uniform_forms(folded: Folded, options: QuantizeOptions) -> dict[str, Form]:
    """The same width for every block matrix."""
    forms = {}
    for name in matrix_names(folded.architecture):
        bits, count = digits(options.head_bits if name == "head" else int(options.bits))
        forms[name] = Form(bits, folded.shapes[name][1] if count == 2 else 0)
    return forms


def solve_matrix(
    folded: Folded, statistics: Statistics, scales: Scales, name: str, form: Form
) -> dict[str, np.ndarray]:
    """Solve one matrix on the integers that the chip will feed it."""
    prefix, short = split(name)
    layer = int(prefix.split(".")[1]) if prefix else folded.architecture.layers
    weights = folded.fold(name)[output_order(folded.architecture, short)]
    unit = np.broadcast_to(scales.inputs(layer, short), weights.shape[1])
    hessian = damp(statistics.hessians[layer, SOURCE[short]] / unit[:, None] / unit[None, :])
    extra = np.zeros(len(unit), bool)
    extra[np.argsort(-np.diagonal(hessian), kind="stable")[: form.extras]] = True
    solved = solve(weights * unit[None, :], hessian, grid(form.bits, form.extras > 0), extra)
    return {"levels": solved.levels, "scale": solved.scale, "extra": extra}
