"""The folded checkpoint computes the same function, and does not depend on how it was scaled."""

import numpy as np
import pytest
from quantize_models import RandomWeights

from intaglio.checkpoint import FloatModel
from intaglio.quantize.rotate import Folded, balance, hadamard, interleaved, rotation


@pytest.mark.parametrize("width", [1, 2, 3, 12, 64, 192, 576])
def test_rotation_is_orthogonal_and_spreads(width):
    matrix = rotation(width)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(width), atol=1e-12)
    assert np.abs(matrix).max() <= np.sqrt(2 / width) + 1e-12 or width < 3


def test_rotation_is_pinned():
    """The matrix is part of what a chip's weights mean: it must never change."""
    matrix = rotation(6)
    np.testing.assert_allclose(
        matrix[:, :3],
        [
            [-0.40824829, 0.40824829, -0.40824829],
            [-0.40824829, -0.40824829, -0.40824829],
            [-0.5, 0.5, 0.0],
            [-0.5, -0.5, 0.0],
            [-0.28867513, 0.28867513, 0.57735027],
            [-0.28867513, -0.28867513, 0.57735027],
        ],
        atol=1e-8,
    )


def test_hadamard_has_unit_entries():
    assert set(np.unique(hadamard(16))) == {-1.0, 1.0}


def test_interleaved_pairs_are_adjacent():
    assert interleaved(2, 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("turn_heads", [False, True])
def test_folding_preserves_the_function(tied, turn_heads):
    weights = RandomWeights(tied=tied)
    ids = np.random.default_rng(1).integers(0, 96, 24)
    expected = FloatModel(weights).logits(ids)
    folded = FloatModel(Folded(weights, turn_heads=turn_heads))
    np.testing.assert_allclose(folded.logits(ids), expected, rtol=0, atol=2e-4)


def test_gains_are_folded():
    folded = Folded(RandomWeights(tied=True))
    for name in ("norm", "layers.1.norm_mlp"):
        np.testing.assert_array_equal(folded.tensor(name), 1)
    assert not folded.architecture.tied
    assert not np.array_equal(folded.tensor("head"), folded.tensor("embedding"))


def test_balance_drops_a_scaling_of_up_against_down():
    plain, scaled = RandomWeights(), RandomWeights()
    scaled.tensors["layers.0.up"][::7] *= 1024
    scaled.tensors["layers.0.down"][:, ::7] /= 1024
    for name in ("layers.0.up", "layers.0.down"):
        np.testing.assert_array_equal(Folded(plain).tensor(name), Folded(scaled).tensor(name))


def test_balance_leaves_an_empty_channel():
    up, down = np.ones((3, 2)), np.ones((2, 3))
    down[:, 1] = 0
    np.testing.assert_array_equal(balance(up, down), [np.sqrt(2), 1, np.sqrt(2)])
