"""The solver beats rounding, agrees with its own account of the loss, and repeats itself."""

import numba
import numpy as np
import pytest

from intaglio.quantize.codebook import grid
from intaglio.quantize.solve import damp, solve

OUTPUTS, INPUTS = 24, 48


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    mixing = np.eye(INPUTS) + rng.standard_normal((INPUTS, INPUTS)) / 4
    x = rng.standard_normal((400, INPUTS)) @ mixing
    return rng.standard_normal((OUTPUTS, INPUTS)), damp(x.T @ x)


def lost(weights, hessian, solved):
    gap = weights - solved.levels * solved.scale[:, None]
    return np.einsum("oi,ij,oj->o", gap, hessian, gap)


def rounded(weights, hessian, table):
    """Loss of rounding to the nearest level, at the best of many scales per output."""
    best = np.full(len(weights), np.inf)
    for share in np.linspace(0.2, 1.2, 60):
        scale = share * np.abs(weights).max(1, keepdims=True) / table.levels.max()
        near = table.levels[np.abs(weights[..., None] / scale[..., None] - table.levels).argmin(-1)]
        gap = weights - near * scale
        best = np.minimum(best, np.einsum("oi,ij,oj->o", gap, hessian, gap))
    return best


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_error_feedback_beats_rounding(problem, bits):
    weights, hessian = problem
    table = grid(bits)
    solved = solve(weights, hessian, table)
    assert lost(weights, hessian, solved).sum() < 0.6 * rounded(weights, hessian, table).sum()


def test_loss_is_what_it_says(problem):
    weights, hessian = problem
    solved = solve(weights, hessian, grid(4))
    energy = np.einsum("oi,ij,oj->o", weights, hessian, weights)
    np.testing.assert_allclose(
        solved.loss, lost(weights, hessian, solved), atol=1e-5 * energy.max()
    )


def test_descent_never_adds_loss(problem):
    weights, hessian = problem
    before, after = (solve(weights, hessian, grid(3), passes=passes) for passes in (0, 2))
    assert after.loss.sum() < before.loss.sum()


def test_levels_are_of_the_grid(problem):
    weights, hessian = problem
    extra = np.arange(INPUTS) % 5 == 0
    table = grid(3, True)
    solved = solve(weights, hessian, table, extra)
    assert np.isin(solved.levels[:, extra], table.extra_levels).all()
    assert np.isin(solved.levels[:, ~extra], table.levels).all()


def test_second_digits_help(problem):
    weights, hessian = problem
    losses = [
        solve(weights, hessian, grid(3, count > 0), np.arange(INPUTS) < count).loss.sum()
        for count in (0, INPUTS // 2, INPUTS)
    ]
    assert losses[0] > 1.3 * losses[1] > 2 * losses[2]


def test_an_output_of_zeros_has_scale_zero(problem):
    weights, hessian = problem
    weights = weights.copy()
    weights[3] = 0
    assert solve(weights, hessian, grid(4)).scale[3] == 0


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**40])
def test_a_power_of_two_changes_scales_alone(problem, factor):
    weights, hessian = problem
    plain, scaled = solve(weights, hessian, grid(4)), solve(weights * factor, hessian, grid(4))
    np.testing.assert_array_equal(plain.levels, scaled.levels)
    np.testing.assert_allclose(plain.scale * factor, scaled.scale)


def test_threads_change_nothing(problem):
    weights, hessian = problem
    many = solve(weights, hessian, grid(4))
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        one = solve(weights, hessian, grid(4))
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(many.levels, one.levels)
    np.testing.assert_array_equal(many.scale, one.scale)
