"""A float checkpoint becomes a legal integer model that computes nearly the same function."""

import numpy as np
import pytest
from quantize_models import random_checkpoint

from intaglio.checkpoint import FloatModel
from intaglio.errors import BadInput
from intaglio.golden.forward import Golden
from intaglio.golden.number import Widths
from intaglio.quantize import QuantizeOptions, forms_of, quantize

IDS = np.random.default_rng(1).integers(0, 96, 24)


@pytest.fixture(scope="module")
def weights():
    return random_checkpoint()


def error(weights, model) -> float:
    """Relative root-mean-square distance of the chip's logits from the float model's."""
    golden, expected = Golden(model), FloatModel(weights).logits(IDS)
    logits = golden.logits(golden.residual(IDS)) / 4096
    return float(np.sqrt(np.square(logits - expected).mean() / np.square(expected).mean()))


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.08), (6, 0.13), (4, 0.4), (3, 0.7)])
def test_error_shrinks_with_bits(weights, bits, bound):
    model = quantize(weights, QuantizeOptions(bits=bits, uniform=True, tokens=2048))
    assert model.bits_per_weight == bits
    assert error(weights, model) < bound


def test_wide_activations_leave_little_error(weights):
    widths = Widths(norm=12, query=16, attention=12, product=14)
    options = QuantizeOptions(bits=8, uniform=True, tokens=2048, widths=widths)
    assert error(weights, quantize(weights, options)) < 0.06


def test_same_input_same_bytes(weights):
    options = QuantizeOptions(tokens=1024)
    assert quantize(weights, options).hash() == quantize(weights, options).hash()


def test_cache_resumes(weights):
    options, cache = QuantizeOptions(tokens=1024, refinement=2), {}
    first = quantize(weights, options, cache=cache)
    assert cache
    steps = []
    second = quantize(weights, options, cache=cache, progress=lambda what, _: steps.append(what))
    assert second.hash() == first.hash()
    assert steps == []  # nothing was done again


def test_forms_of_a_base_are_kept(weights):
    base = quantize(weights, QuantizeOptions(bits=4, tokens=1024))
    other = quantize(random_checkpoint(seed=5), QuantizeOptions(forms=forms_of(base), tokens=1024))
    assert forms_of(other) == forms_of(base)
    assert other.hash() != base.hash()


def test_context_is_bounded(weights):
    assert quantize(weights, QuantizeOptions(context=8, tokens=512)).architecture.context == 8
    with pytest.raises(BadInput, match="context must be from 1 to the model's 32, not 33"):
        quantize(weights, QuantizeOptions(context=33, tokens=512))
