"""Random-effects meta-analysis against metafor and PyMARE, and its laws.

The pinned numbers are in tests/reference/meta_analysis.json; the script beside it says how they were made.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bids_group.stats.glm import compute_f, compute_p, compute_t, fit_glm
from bids_group.stats.heterogeneity import estimate_tau2
from bids_group.stats.meta_analysis import compute_meta_f, compute_meta_statistic, compute_meta_t, fit_meta
from tests.oracles_data import ROWS, fit_pinned_meta, pick_meta

SEEDS = st.integers(0, 2**32 - 1)
METHODS = ("dersimonian-laird", "reml")


def make_maps(seed, n_rows=12, n_voxels=20, spread=1.0):
    """Two groups and a covariate, variances that differ, and heterogeneity of a random size."""
    rng = np.random.default_rng(seed)
    group = np.arange(n_rows) % 2
    matrix = np.column_stack([1 - group, group, rng.normal(size=n_rows)]).astype(float)
    variances = np.exp(spread * rng.normal(size=(n_rows, n_voxels)))
    tau2 = rng.choice([0.0, 0.3, 3.0], n_voxels)
    return np.sqrt(variances + tau2) * rng.normal(size=(n_rows, n_voxels)), variances, matrix


@pytest.mark.parametrize("method", METHODS)
def test_everything_is_that_of_metafor(method):
    fit = fit_pinned_meta(method)
    np.testing.assert_allclose(fit.tau2, pick_meta("metafor", method, "tau2"), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(fit.q, pick_meta("metafor", method, "q"), rtol=1e-10)
    np.testing.assert_allclose(fit.i2, pick_meta("metafor", method, "i2"), rtol=1e-9, atol=1e-10)
    t = [compute_meta_t(fit, index) for index in range(3)]
    np.testing.assert_allclose(
        np.transpose([one.effect for one in t]), pick_meta("metafor", method, "effects"), rtol=1e-8
    )
    errors = np.sqrt([one.variance for one in t]).T
    np.testing.assert_allclose(errors, pick_meta("metafor", method, "knapp_hartung_errors"), rtol=1e-9)
    np.testing.assert_allclose(
        errors / np.sqrt(fit.scale)[:, None], pick_meta("metafor", method, "standard_errors"), rtol=1e-9
    )
    F = compute_meta_f(fit, 3)
    np.testing.assert_allclose(F.value, pick_meta("metafor", method, "F"), rtol=1e-8)
    assert (F.dof_effect, F.dof, t[0].dof) == (2, 12, 12)
    assert np.all(fit.converged)


@pytest.mark.parametrize(
    ("method", "tolerance"), [("dersimonian-laird", 1e-9), ("reml", 1e-6)]
)  # PyMARE's own search ends at 1e-6
def test_tau2_effects_and_standard_errors_are_those_of_pymare(method, tolerance):
    fit = fit_pinned_meta(method)
    t = [compute_meta_t(fit, index) for index in range(3)]
    np.testing.assert_allclose(fit.tau2, pick_meta("pymare", method, "tau2"), rtol=tolerance, atol=1e-7)
    np.testing.assert_allclose(
        np.transpose([one.effect for one in t]), pick_meta("pymare", method, "effects"), rtol=tolerance, atol=1e-7
    )
    errors = np.sqrt([one.variance / fit.scale for one in t]).T
    np.testing.assert_allclose(errors, pick_meta("pymare", method, "standard_errors"), rtol=tolerance)


def compute_likelihoods(effects, variances, matrix, tau2):
    """-2 log restricted likelihood of one voxel at many values of tau2, by matrices of maps by maps."""
    found = []
    for one in tau2:
        weights = np.diag(1 / (variances + one))
        information = matrix.T @ weights @ matrix
        projection = weights - weights @ matrix @ np.linalg.solve(information, matrix.T @ weights)
        found.append(np.log(variances + one).sum() + np.linalg.slogdet(information)[1] + effects @ projection @ effects)
    return np.array(found)


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.sampled_from([0.3, 1.0, 3.0]))
def test_reml_is_at_the_highest_point_of_the_restricted_likelihood(seed, spread):
    effects, variances, matrix = make_maps(seed, n_voxels=6, spread=spread)
    fit = fit_meta(effects, variances, matrix, ROWS)
    assert np.all(fit.converged)
    for voxel in range(6):
        tried = np.concatenate([[0.0], np.geomspace(1e-4, 1e3, 200)])
        voxel_maps = effects[:, voxel], variances[:, voxel], matrix
        (here,) = compute_likelihoods(*voxel_maps, [fit.tau2[voxel]])
        assert here <= compute_likelihoods(*voxel_maps, tried).min() + 1e-8


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_with_equal_variances_t_and_f_are_those_of_ordinary_least_squares(method, seed):
    effects, _, matrix = make_maps(seed)
    contrasts = [np.array([[1.0, -1, 0]]), np.eye(3)[1:]]
    fit = fit_meta(effects, np.full(effects.shape, 0.4), matrix, contrasts, method=method)
    ordinary = fit_glm(effects, matrix, contrasts)
    np.testing.assert_allclose(compute_meta_t(fit, 0).value, compute_t(ordinary, 0).value, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(compute_meta_t(fit, 0).variance, compute_t(ordinary, 0).variance, rtol=1e-8)
    np.testing.assert_allclose(compute_meta_f(fit, 1).value, compute_f(ordinary, 1).value, rtol=1e-8)
    expected = np.maximum(ordinary.residual_variance - 0.4, 0.0)
    np.testing.assert_allclose(fit.tau2, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(SEEDS, st.sampled_from([1e-6, 1e-2, 1e5]))
def test_tau2_has_the_units_of_a_variance_and_t_has_none(method, seed, scale):
    effects, variances, matrix = make_maps(seed)
    one = fit_meta(effects, variances, matrix, ROWS, method=method)
    other = fit_meta(-scale * effects, scale**2 * variances, matrix * [10, 10, 1e-3], ROWS, method=method)
    np.testing.assert_allclose(other.tau2 / scale**2, one.tau2, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(other.i2, one.i2, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(compute_meta_t(other, 1).value, -compute_meta_t(one, 1).value, rtol=1e-7, atol=1e-8)


def test_dependent_columns_and_rows_block_size_and_float32_do_not_matter():
    effects, variances, matrix = (one.astype(np.float32) for one in make_maps(3, n_voxels=23))
    matrix = matrix.astype(np.float64)
    wide = np.column_stack([matrix, matrix[:, 0] + matrix[:, 1]])
    rows = np.array([[1.0, -1, 0, 0], [0, 0, 1, 0], [1, -1, 1, 0]])
    one = fit_meta(effects.astype(np.float64), variances.astype(np.float64), matrix, [rows[:2, :3]])
    other = fit_meta(effects, variances, wide, [rows], block_voxels=5)
    assert (other.rank, other.dof, other.contrasts[0].rank) == (3, 9, 2)
    np.testing.assert_allclose(other.tau2, one.tau2, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(compute_meta_f(other, 0).value, compute_meta_f(one, 0).value, rtol=1e-8)


def test_f_of_one_row_is_t_squared():
    effects, variances, matrix = make_maps(4)
    fit = fit_meta(effects, variances, matrix, ROWS)
    t, F = compute_meta_statistic(fit, 1, "t"), compute_meta_statistic(fit, 1, "F")
    np.testing.assert_allclose(F.value, t.value**2, rtol=1e-11)


def test_tau2_is_estimated_without_bias_and_t_keeps_its_error_rate():
    rng = np.random.default_rng(20240121)
    variances = np.exp(rng.normal(size=(16, 1))) * np.ones((16, 3000))
    effects = np.sqrt(variances + 1.0) * rng.normal(size=variances.shape)
    fit = fit_meta(effects, variances, np.ones((16, 1)), [np.ones((1, 1))])
    # The cut at 0 lifts the mean a little; without it the estimate is unbiased to first order.
    assert 0.95 < fit.tau2.mean() < 1.10
    assert np.count_nonzero(compute_p(compute_meta_t(fit, 0)) <= 0.05) <= stats.binom.ppf(0.999, 3000, 0.05)


def test_estimated_tau2_is_that_of_the_fit():
    effects, variances, matrix = make_maps(6)
    for method in METHODS:
        tau2, converged = estimate_tau2(effects, variances, np.linalg.qr(matrix)[0], method=method)
        fit = fit_meta(effects, variances, matrix, ROWS, method=method)
        np.testing.assert_allclose(tau2, fit.tau2, rtol=1e-8, atol=1e-10)
        assert np.all(converged)


def test_voxels_that_the_design_fits_are_found_and_left_out():
    effects, variances, matrix = make_maps(7, n_voxels=4)
    effects[:, 1], effects[:, 2] = 0.0, matrix @ [1.0, 2.0, 3.0]
    fit = fit_meta(effects, variances, matrix, ROWS)
    np.testing.assert_array_equal(fit.find_unfitted(), [False, True, True, False])
    with pytest.raises(ValueError, match="2 voxels have no error variance"):
        compute_meta_t(fit, 0)
    kept = fit.restrict(~fit.find_unfitted())
    alone = fit_meta(effects[:, [0, 3]], variances[:, [0, 3]], matrix, ROWS)
    np.testing.assert_allclose(compute_meta_f(kept, 1).value, compute_meta_f(alone, 1).value, rtol=1e-8)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_variances_that_are_not_finite_and_positive_are_counted(bad):
    effects, variances, matrix = make_maps(8)
    variances[[2, 3], 5] = variances[0, 9] = bad
    with pytest.raises(ValueError, match="2 voxels have a variance that is not finite and positive"):
        fit_meta(effects, variances, matrix, ROWS)


def test_shapes_methods_and_designs_that_do_not_fit_are_refused():
    effects, variances, matrix = make_maps(9)
    with pytest.raises(ValueError, match=r"effects are of shape \(12, 20\), but variances of \(12, 19\)"):
        fit_meta(effects, variances[:, 1:], matrix, ROWS)
    with pytest.raises(ValueError, match="the design has 11 rows, but there are 12 maps"):
        fit_meta(effects, variances, matrix[1:], ROWS)
    with pytest.raises(ValueError, match="12 maps and a design of rank 12 leave no degree of freedom"):
        fit_meta(effects, variances, np.eye(12), [np.eye(12)[:1]])
    with pytest.raises(ValueError, match="the method is one of reml, dersimonian-laird, not 'ml'"):
        fit_meta(effects, variances, matrix, ROWS, method="ml")
    with pytest.raises(ValueError, match="this one has 2; test it with F"):
        compute_meta_t(fit_meta(effects, variances, matrix, [np.eye(3)[1:]]), 0)
