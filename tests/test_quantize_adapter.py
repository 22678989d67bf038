"""A float adapter on a finished chip: folded like its weights, in its units, close to the merge."""

import pydoc_data.topics
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from quantize_models import RandomWeights, random_checkpoint

from intaglio.checkpoint import Checkpoint, FloatModel, open_checkpoint, tensor_shapes
from intaglio.checkpoint.peft import Factors, FloatAdapter, Merged
from intaglio.errors import BadInput, Overflow
from intaglio.golden.adapter import Adapter, LowRank
from intaglio.golden.forward import Golden
from intaglio.golden.model import MATRICES, IntModel
from intaglio.golden.number import LATENT
from intaglio.quantize import QuantizeOptions, cut, score
from intaglio.quantize.adapter import (
    INPUT,
    Fold,
    calibration,
    norm_scale,
    observe,
    quantize_adapter,
    recover_scales,
)
from intaglio.quantize.assemble import norm_constants
from intaglio.quantize.build import Run
from intaglio.quantize.rotate import Folded
from intaglio.quantize.scales import Scales, output_order

IDS = np.random.default_rng(1).integers(0, 96, 24)


def random_adapter(
    checkpoint: Any, rank: int = 3, size: float = 0.3, seed: int = 0, **changes: Any
) -> FloatAdapter:
    """Of every matrix, or the ``matrices``; each product's norm is ``size`` of its matrix'."""
    rng = np.random.default_rng(seed)
    names = changes.get("matrices", MATRICES)
    parts = {}
    for layer in range(checkpoint.architecture.layers):
        for name in names:
            weights = checkpoint.tensor(f"layers.{layer}.{name}").astype(np.float64)
            down = rng.standard_normal((rank, weights.shape[1]))
            up = rng.standard_normal((weights.shape[0], rank))
            scale = size * np.linalg.norm(weights) / np.linalg.norm(up @ down)
            parts[layer, name] = Factors(
                down.astype(np.float32), up.astype(np.float32), float(scale)
            )
    return FloatAdapter(parts, "random")


def run_of(checkpoint: Checkpoint, **options: Any) -> tuple[IntModel, Scales]:
    """A quantized model and the scales that were chosen for it."""
    run = Run(checkpoint, QuantizeOptions(**options), {}, lambda *_: None)
    run.look()
    run.solve()
    run.refine()
    model = run.assemble()
    return model, replace(
        run.scales, residual_step=model.residual_step, architecture=model.architecture
    )


def forward_of(model: IntModel):
    golden = Golden(model)
    return lambda ids, trace: golden.residual(ids, trace=trace)


def quantized(
    adapter: FloatAdapter, checkpoint: Any, model: IntModel, text: str | None = None
) -> Adapter:
    return quantize_adapter(adapter, checkpoint, model, forward_of(model), text)


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return random_checkpoint()


@pytest.fixture(scope="module")
def made(weights) -> tuple[IntModel, Scales]:
    return run_of(weights, bits=8, uniform=True, tokens=2048)


@pytest.fixture(scope="module")
def model(made) -> IntModel:
    return made[0]


# --- folding


@pytest.mark.parametrize("name", MATRICES)
def test_fold_is_what_the_weights_got(weights, name):
    fold, folded = Fold(weights), Folded(weights)
    for layer in range(2):
        got = fold.outputs(layer, name, fold.inputs(layer, name, fold.read(layer, name)))
        want = folded.tensor(f"layers.{layer}.{name}")[output_order(weights.architecture, name)]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


class Added:
    """A folded checkpoint with an adapter's folded factors added to its weights."""

    def __init__(self, checkpoint: Any, adapter: FloatAdapter) -> None:
        self.folded, self.fold, self.adapter = Folded(checkpoint), Fold(checkpoint), adapter
        self.architecture = self.folded.architecture

    def tensor(self, name: str) -> np.ndarray:
        tensor = self.folded.tensor(name)
        prefix, _, short = name.rpartition(".")
        part = self.adapter.parts.get((int(prefix.split(".")[1]), short)) if prefix else None
        if part is None:
            return tensor
        layer = int(prefix.split(".")[1])
        down = self.fold.inputs(layer, short, part.down.astype(np.float64))
        up = self.fold.outputs(layer, short, part.up.astype(np.float64))
        sum_ = tensor.astype(np.float64)
        sum_[output_order(self.architecture, short)] += part.scale * up @ down
        return sum_.astype(np.float32)


@pytest.mark.parametrize("tied", [False, True])
def test_the_folded_adapter_is_the_same_function(tied):
    weights = random_checkpoint(tied=tied)
    adapter = random_adapter(weights)
    want = FloatModel(Merged(weights, adapter)).logits(IDS)
    np.testing.assert_allclose(
        FloatModel(Added(weights, adapter)).logits(IDS), want, rtol=0, atol=1e-3
    )
    assert np.abs(want - FloatModel(weights).logits(IDS)).max() > 0.5


# --- units


def test_norm_scale_is_what_its_constants_were_made_of(made):
    model, scales = made
    for scale in (0.01, 0.0347, 0.9):
        norm = norm_constants(scales, scale)
        assert norm_scale(norm, model.architecture) == pytest.approx(scale, rel=2e-5)


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.01), (4, 0.02)])
def test_scales_are_recovered(weights, made, bits, bound):
    model, scales = made
    if bits != 8:
        model, scales = run_of(weights, bits=bits, uniform=True, tokens=2048, refinement=0)
    windows = calibration(weights, model.architecture.context, None)
    found = recover_scales(Fold(weights), model, observe(forward_of(model), windows))
    for layer in range(2):
        for name in MATRICES:
            for side in ("inputs", "outputs"):
                got, want = getattr(found, side)(layer, name), getattr(scales, side)(layer, name)
                error = np.log(np.asarray(got) / np.asarray(want))
                assert np.sqrt(np.square(error).mean()) < bound, (layer, name, side)
                # comparing weights with weights is off by a tenth
                assert abs(error.mean()) < 0.75 * bound, (layer, name, side)


# --- integers


def product(part: LowRank) -> np.ndarray:
    """Addend per unit of input that the integers stand for: float64 [inputs, outputs]."""
    down = part.down * (part.down_multiplier / 2.0**part.down_shift)
    up = part.up * (part.up_multiplier / 2.0 ** (part.up_shift.astype(float) - 8))
    return down @ up


def wanted(
    weights: Any, scales: Scales, model: IntModel, key: tuple[int, str], part: Factors
) -> np.ndarray:
    """The same, of the float factors and the true scales."""
    layer, name = key
    fold, matrix = Fold(weights), getattr(model.layers[layer], name)
    whole = fold.outputs(layer, name, fold.inputs(layer, name, part.product()))
    per = np.broadcast_to(scales.outputs(layer, name), matrix.outputs) / 2.0**matrix.shift
    return (whole * scales.inputs(layer, name) / per[:, None]).T


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_integers_are_the_float_factors(weights, made, rank):
    """8 bits on both sides, and the units recovered: a percent or two of the addition."""
    model, scales = made
    adapter = random_adapter(weights, rank)
    made_of_it = quantized(adapter, weights, model)
    assert made_of_it.parts.keys() == adapter.parts.keys()
    for key, part in made_of_it.parts.items():
        want = wanted(weights, scales, model, key, adapter.parts[key])
        error = np.linalg.norm(product(part) - want) / np.linalg.norm(want)
        assert error < 0.02, (key, error)
        assert part.rank == rank


def test_ranks_that_count_differently(weights, made):
    """The scale of a factor's rows is nobody's choice: a thousandfold must not matter."""
    model, scales = made
    plain = random_adapter(weights, 4)
    factor = np.array([1e3, 1, 1e-3, 1e-6], np.float32)
    skewed = {
        key: replace(part, down=part.down * factor[:, None], up=part.up / factor[None, :])
        for key, part in plain.parts.items()
    }
    for key, part in quantized(replace(plain, parts=skewed), weights, model).parts.items():
        want = wanted(weights, scales, model, key, plain.parts[key])
        assert np.linalg.norm(product(part) - want) / np.linalg.norm(want) < 0.02, key


@pytest.mark.parametrize("factors", [[1, 1e-3, 1e-9, 1e-25], [1] + [0.01] * 63])
def test_ranks_that_count_little_cost_the_others_nothing(weights, made, factors):
    """Were all latents equally large, the second would be off by 1.4 to 2.5 percent."""
    model, scales = made
    adapter = random_adapter(weights, len(factors))
    faded = {
        key: replace(part, down=part.down * np.array(factors, np.float32)[:, None])
        for key, part in adapter.parts.items()
    }
    for key, part in quantized(replace(adapter, parts=faded), weights, model).parts.items():
        want = wanted(weights, scales, model, key, faded[key])
        assert np.linalg.norm(product(part) - want) / np.linalg.norm(want) < 0.012, key


def test_latents_use_their_range_and_do_not_saturate(weights, model):
    adapter = quantized(random_adapter(weights), weights, model)
    seen = observe(forward_of(model), calibration(weights, model.architecture.context, None))
    for (layer, name), part in adapter.parts.items():
        dot = seen[layer, INPUT[name]].astype(np.int64) @ part.down.astype(np.int64)
        largest = np.abs(dot * (part.down_multiplier / 2.0**part.down_shift)).max()
        assert LATENT.high / 4.01 < largest < LATENT.high


def test_latents_of_short_inputs_are_bounded_by_what_inputs_can_be(weights, model):
    """Of one input that counts: its largest value makes the largest latent, with no room lost."""
    parts = {
        key: replace(part, down=part.down * 0)
        for key, part in random_adapter(weights).parts.items()
    }
    for part in parts.values():
        part.down[:, 0] = 1
    adapter = quantized(FloatAdapter(parts, "one input"), weights, model)
    part = adapter.parts[0, "down"]  # its inputs are not rotated
    assert np.count_nonzero(part.down) == part.rank
    reach = 127 * 2**9 * (part.down_multiplier / 2.0**part.down_shift).max()
    assert LATENT.high / 4.01 < reach < LATENT.high * 1.001


@pytest.mark.parametrize("zero", ["down", "up", "one rank", "all", "scale"])
def test_zeros_add_nothing(weights, model, zero):
    """An adapter as PEFT initialises it has an ``up`` of zeros."""
    adapter = random_adapter(weights)

    def emptied(part: Factors) -> Factors:
        if zero == "scale":
            return replace(part, scale=0.0)
        names = ("down", "up") if zero == "all" else ("down" if zero == "one rank" else zero,)
        rows = slice(1) if zero == "one rank" else slice(None)
        changed = {name: getattr(part, name).copy() for name in names}
        for array in changed.values():
            array[rows] = 0
        return replace(part, **changed)

    parts = {key: emptied(part) for key, part in adapter.parts.items()}
    made = quantized(replace(adapter, parts=parts), weights, model)
    golden = Golden(model, adapters={"a": made})
    same = (golden.residual(IDS, adapter="a") == golden.residual(IDS)).all()
    assert same == (zero != "one rank")
    if zero == "one rank":  # as if it were not there
        rest = {
            key: Factors(part.down[1:], part.up[:, 1:], part.scale)
            for key, part in adapter.parts.items()
        }
        other = quantized(replace(adapter, parts=rest), weights, model)
        for key, part in made.parts.items():
            np.testing.assert_array_equal(product(part), product(other.parts[key]))


def test_only_what_the_adapter_has(weights, model):
    adapter = random_adapter(weights, matrices=("o", "up"))
    made = quantized(adapter, weights, model)
    assert set(made.parts) == {(0, "o"), (0, "up"), (1, "o"), (1, "up")}
    assert made.model == model.hash()


def test_same_input_same_adapter(weights, model):
    adapter = random_adapter(weights)
    first = quantized(adapter, weights, model).hash()
    assert quantized(adapter, weights, model).hash() == first
    assert quantized(adapter, weights, model, "another text " * 9).hash() != first


# --- what is refused


def test_another_checkpoint(model):
    other = random_checkpoint(inner=64)
    cast(Any, other).source = "other (from F32)"
    with pytest.raises(
        BadInput,
        match=r"^other \(from F32\): not the model that the chip was made of "
        r"\(name the right one with --model\)$",
    ):
        quantized(random_adapter(other), other, model)


def test_a_text_without_tokens(weights, model):
    with pytest.raises(BadInput, match=r"^calibration text must have at least one token$"):
        quantized(random_adapter(weights), weights, model, "")


def test_an_adapter_beyond_the_outputs(weights, model):
    with pytest.raises(
        Overflow,
        match=r"^layers\.0\.q: adapter must stay within the range of the chip's outputs$",
    ):
        quantized(random_adapter(weights, size=1e12), weights, model)


def test_a_channel_that_the_chip_has_no_scale_for():
    """A row of v that is empty in the checkpoint stays empty: its adapter cannot be expressed."""
    weights = RandomWeights()
    weights.tensors["layers.1.v"][:8] = 0  # head 0: the turn within a head mixes its channels
    checkpoint = cast(Checkpoint, weights)
    model, _ = run_of(checkpoint, tokens=512, refinement=0)
    adapter = random_adapter(weights, matrices=("v",))
    with pytest.raises(Overflow, match=r"^layers\.1\.v: adapter must stay within the range"):
        quantized(adapter, checkpoint, model)
    key = (1, "v")
    up = adapter.parts[key].up.copy()
    up[:8] = 0
    parts = {**adapter.parts, key: replace(adapter.parts[key], up=up)}
    quantized(replace(adapter, parts=parts), checkpoint, model)


# --- beside the float model with the adapter merged


def distance(reference: np.ndarray, logits: np.ndarray) -> float:
    """Relative root-mean-square distance of logits, in nats."""
    return float(np.sqrt(np.square(logits - reference).mean() / np.square(reference).mean()))


def chip_logits(model: IntModel, ids: np.ndarray, adapter: Adapter | None = None) -> np.ndarray:
    golden = Golden(model, adapters={"a": adapter} if adapter else None)
    return golden.logits(golden.residual(ids, adapter="a" if adapter else None)) / 4096


@pytest.mark.parametrize("seed", range(3))
def test_the_chip_follows_the_merged_model(weights, model, seed):
    """About as well as it follows the plain one; without the adapter it is far off."""
    adapter = random_adapter(weights, 4, 0.15, seed)
    merged = FloatModel(Merged(weights, adapter)).logits(IDS)
    plain = distance(FloatModel(weights).logits(IDS), chip_logits(model, IDS))
    with_it = distance(merged, chip_logits(model, IDS, quantized(adapter, weights, model)))
    without = distance(merged, chip_logits(model, IDS))
    assert with_it < 1.5 * plain
    assert without > 5 * with_it


@pytest.mark.parametrize("name", MATRICES)
def test_each_matrix_alone_is_followed(weights, model, name):
    """A sign, a transposition or a factor of two in any one of them would show."""
    adapter = random_adapter(weights, 4, 0.3, matrices=(name,))
    merged = FloatModel(Merged(weights, adapter)).logits(IDS)
    with_it = distance(merged, chip_logits(model, IDS, quantized(adapter, weights, model)))
    without = distance(merged, chip_logits(model, IDS))
    plain = distance(FloatModel(weights).logits(IDS), chip_logits(model, IDS))
    assert with_it < 1.25 * plain
    assert without > 4 * plain


def kl(reference: np.ndarray, logits: np.ndarray) -> float:
    """Mean divergence of predictions, in nats per token."""

    def logs(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64) - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = logs(reference), logs(logits)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


@pytest.fixture(scope="module")
def bundled() -> tuple[Checkpoint, IntModel]:
    checkpoint = open_checkpoint("bundled-float")
    return checkpoint, run_of(checkpoint, tokens=8192)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "size"), [(8, 0.1), (64, 0.3)])
def test_bundled_float_with_an_adapter(bundled, rank, size):
    """The chip's perplexity above the float model's: with an adapter about what it is without."""
    checkpoint, model = bundled
    adapter = random_adapter(checkpoint, rank, size)
    made = quantized(adapter, checkpoint, model)
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics)[len(topics) // 2 :])
    windows = cut(checkpoint.tokenizer.encode(text), 512, checkpoint.tokenizer.begin_ids, 6)
    golden = Golden(model, adapters={"a": made})
    growth, divergence = {}, {}
    for choice, reference in ((None, checkpoint), ("a", Merged(checkpoint, adapter))):
        truth = FloatModel(reference).logits

        def chip(ids: np.ndarray, choice: str | None = choice) -> np.ndarray:
            return golden.logits(golden.residual(ids, adapter=choice))

        scores = [score(forward, windows, len).perplexity for forward in (truth, chip)]
        growth[choice] = 100 * (scores[1] / scores[0] - 1)
        divergence[choice] = kl(truth(windows[0]), chip(windows[0]) / 4096)
    changed = kl(FloatModel(Merged(checkpoint, adapter)).logits(windows[0]),
                 FloatModel(checkpoint).logits(windows[0]))  # fmt: skip
    assert growth["a"] < growth[None] + (0.5 if size < 0.2 else 2.0)
    assert divergence["a"] < (0.02 if size < 0.2 else 0.045)
    assert changed > 2.5 * divergence["a"]


def test_every_matrix_has_a_shape():
    """The names that an adapter can have are those of the checkpoint's matrices."""
    shapes = tensor_shapes(random_checkpoint().architecture)
    assert {f"layers.0.{name}" for name in INPUT} <= shapes.keys()
    assert tuple(INPUT) == MATRICES
