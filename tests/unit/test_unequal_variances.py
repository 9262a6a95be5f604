"""Welch's v and G against SciPy, statsmodels and a naive loop of the published formula; their laws and error rates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from bids_group.stats.glm import compute_f, compute_p, compute_t, fit_glm
from bids_group.stats.unequal_variances import compute_g, compute_v, compute_welch_statistic, fit_welch
from tests.oracles_data import make_groups

SEEDS = st.integers(0, 2**32 - 1)
DIFFERENCE = np.array([[1.0, -1.0]])
# What a rate of 5% exceeds in one of a thousand simulations.
UPPER_P = 0.999


def count_by_chance(n_tests, rate=0.05):
    return stats.binom.ppf(UPPER_P, n_tests, rate)


def compute_weighted_v(data, matrix, contrast, groups):
    """Winkler et al. 2014: the effect of ordinary, the variance of weighted least squares."""
    pseudoinverse = np.linalg.pinv(matrix)
    hat = matrix @ pseudoinverse
    values = []
    for y in data.T:
        residuals = y - hat @ y
        weights = np.zeros(len(y))
        for group in np.unique(groups):
            here = groups == group
            weights[here] = np.sum(1 - np.diag(hat)[here]) / np.sum(residuals[here] ** 2)
        weighted = np.linalg.pinv(matrix.T @ np.diag(weights) @ matrix)
        values.append((contrast @ pseudoinverse @ y / np.sqrt(contrast @ weighted @ contrast.T)).item())
    return np.array(values)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_v_of_two_means_is_welchs_t(seed):
    data, matrix, groups = make_groups(seed, (5, 12), (1.0, 4.0))
    v = compute_v(fit_welch(data, matrix, [DIFFERENCE], groups), 0)
    oracle = stats.ttest_ind(data[groups == 0], data[groups == 1], equal_var=False)
    np.testing.assert_allclose(v.value, oracle.statistic, rtol=1e-10)
    np.testing.assert_allclose(v.dof, oracle.df, rtol=1e-10)
    np.testing.assert_allclose(compute_p(v), oracle.pvalue, rtol=1e-9)
    means = data[groups == 0].mean(axis=0) - data[groups == 1].mean(axis=0)
    np.testing.assert_allclose(v.effect, means, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(v.effect / np.sqrt(v.variance), v.value, rtol=1e-12)


@pytest.mark.parametrize("n_groups", [2, 3, 5])
def test_g_of_equal_means_is_welchs_analysis_of_variance(n_groups):
    data, matrix, groups = make_groups(n_groups, (6, 9, 14, 4, 8)[:n_groups], (1.0, 3.0, 0.4, 2.0, 1.0)[:n_groups])
    omnibus = np.eye(n_groups)[:-1] - np.eye(n_groups)[1:]
    G = compute_g(fit_welch(data, matrix, [omnibus], groups), 0)
    for voxel in range(data.shape[1]):
        samples = [data[groups == group, voxel] for group in range(n_groups)]
        oracle = anova_oneway(samples, use_var="unequal", welch_correction=True)
        np.testing.assert_allclose(G.value[voxel], oracle.statistic, rtol=1e-10)
        np.testing.assert_allclose((G.dof_effect, G.dof[voxel]), oracle.df, rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_with_one_variance_group_v_is_t_and_g_is_f(seed):
    data, matrix, groups = make_groups(seed)
    matrix = np.column_stack([matrix, np.random.default_rng(seed + 1).normal(size=len(groups))])
    contrasts = [np.array([[1.0, -1, 0, 0]]), np.eye(4)[1:]]
    ordinary, welch = fit_glm(data, matrix, contrasts), fit_welch(data, matrix, contrasts, np.full(len(groups), 7))
    t, v, F, G = compute_t(ordinary, 0), compute_v(welch, 0), compute_f(ordinary, 1), compute_g(welch, 1)
    np.testing.assert_allclose(v.value, t.value, rtol=1e-10)
    np.testing.assert_allclose(v.variance, t.variance, rtol=1e-10)
    np.testing.assert_allclose(G.value, F.value, rtol=1e-10)
    np.testing.assert_allclose(v.dof, np.full(5, t.dof), rtol=1e-12)
    np.testing.assert_allclose(G.dof, np.full(5, F.dof), rtol=1e-12)


def test_a_contrast_of_two_groups_is_not_told_of_the_third():
    data, matrix, groups = make_groups(3)
    v = compute_v(fit_welch(data, matrix, [np.array([[1.0, 0, -1]])], groups), 0)
    oracle = stats.ttest_ind(data[groups == 0], data[groups == 2], equal_var=False)
    np.testing.assert_allclose(v.value, oracle.statistic, rtol=1e-10)
    np.testing.assert_allclose(v.dof, oracle.df, rtol=1e-10)


def test_a_contrast_within_one_group_has_the_f_of_that_group_alone():
    data, matrix, groups = make_groups(4)
    age = np.random.default_rng(5).normal(size=len(groups))
    own = np.column_stack([matrix, matrix * age[:, None]])
    fit = fit_welch(data, own, [np.eye(6)[[1, 4]]], groups)
    here = groups == 1
    alone = compute_f(fit_glm(data[here], own[here][:, [1, 4]], [np.eye(2)]), 0)
    G = compute_g(fit, 0)
    np.testing.assert_allclose(G.value, alone.value, rtol=1e-9)
    np.testing.assert_allclose(G.dof, np.full(5, alone.dof), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_v_is_winklers_where_each_column_belongs_to_one_variance_group(seed):
    data, matrix, groups = make_groups(seed)
    age = np.random.default_rng(seed + 1).normal(size=len(groups))
    own = np.column_stack([matrix, matrix * age[:, None]])
    contrast = np.array([[1.0, -2, 1, 0.5, 0, -0.5]])
    v = compute_v(fit_welch(data, own, [contrast], groups), 0)
    np.testing.assert_allclose(v.value, compute_weighted_v(data, own, contrast, groups), rtol=1e-8)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_g_of_one_row_is_v_squared_on_its_dof(seed):
    data, matrix, groups = make_groups(seed)
    fit = fit_welch(data, matrix, [np.array([[1.0, 1, -2]])], groups)
    v, G = compute_welch_statistic(fit, 0, "t"), compute_welch_statistic(fit, 0, "F")
    np.testing.assert_allclose(G.value, v.value**2, rtol=1e-10)
    np.testing.assert_allclose(G.dof, v.dof, rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_neither_dependent_columns_nor_row_order_nor_labels_nor_scale_matter(seed):
    rng = np.random.default_rng(seed)
    data, matrix, groups = make_groups(seed)
    order = rng.permutation(len(groups))
    rows = np.array([[1.0, -1, 0], [0, 1, -1]])
    deficient = np.column_stack([matrix, np.ones(len(groups))])
    wide = np.vstack([np.column_stack([rows, [0, 0]]), [2.0, 0, -2, 0]])
    one = fit_welch(data, matrix, [rows[:1], rows], groups)
    labels = np.array([40, -3, 7])[groups]
    other = fit_welch(1e-3 * data[order], deficient[order], [wide[:1], wide], labels[order])
    for index, test in ((0, "t"), (1, "F")):
        first, second = compute_welch_statistic(one, index, test), compute_welch_statistic(other, index, test)
        np.testing.assert_allclose(second.value, first.value, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(second.dof, first.dof, rtol=1e-8)


def test_block_size_and_float32_do_not_matter():
    data, matrix, groups = make_groups(8, n_voxels=37)
    data, omnibus = data.astype(np.float32), np.array([[1.0, -1, 0], [0, 1, -1]])
    one, other = (
        fit_welch(data.astype(kind), matrix, [omnibus], groups, block_voxels=size)
        for kind, size in ((np.float32, 5), (np.float64, 1000))
    )
    np.testing.assert_allclose(one.group_residual_ss, other.group_residual_ss, rtol=1e-12)
    np.testing.assert_allclose(compute_g(one, 0, block_voxels=5).value, compute_g(other, 0).value, rtol=1e-12)
    np.testing.assert_allclose(one.group_dof, [5, 8, 13], rtol=1e-12)


def simulate_sites(n_voxels=4000):
    """No effect; two sites of unequal noise share the mean and a covariate that is not alike in both."""
    rng = np.random.default_rng(20240120)
    sites = np.repeat([0, 1], [12, 12])
    age = rng.normal(size=24) + sites
    matrix = np.column_stack([np.ones(24), age])
    return np.array([1.0, 4.0])[sites, None] * rng.normal(size=(24, n_voxels)), matrix, sites


def test_v_keeps_its_error_rate_where_variance_groups_share_columns_and_winklers_does_not():
    data, matrix, sites = simulate_sites()
    contrast = np.array([[1.0, 0.0]])
    v = compute_v(fit_welch(data, matrix, [contrast], sites), 0)
    allowed = count_by_chance(data.shape[1])
    assert np.count_nonzero(compute_p(v) <= 0.05) <= allowed
    weighted = compute_weighted_v(data, matrix, contrast, sites)
    assert np.count_nonzero(2 * stats.t.sf(np.abs(weighted), v.dof) <= 0.05) > 2 * allowed


def test_g_keeps_its_error_rate_where_f_does_not():
    data, matrix, groups = make_groups(11, (8, 16, 24), (4.0, 2.0, 1.0), n_voxels=4000)
    omnibus = np.array([[1.0, -1, 0], [0, 1, -1]])
    fit = fit_welch(data, matrix, [omnibus], groups)
    allowed = count_by_chance(data.shape[1])
    assert np.count_nonzero(compute_p(compute_g(fit, 0)) <= 0.05) <= allowed
    assert np.count_nonzero(compute_p(compute_f(fit.fit, 0)) <= 0.05) > 2 * allowed


@pytest.mark.parametrize("constant", [0.1, -0.1, -3e4])
def test_a_voxel_without_variance_in_one_group_is_found_and_left_out(constant):
    data, matrix, groups = make_groups(12)
    data[groups == 1, 2] = constant
    fit = fit_welch(data, matrix, [np.array([[1.0, -1, 0]])], groups)
    np.testing.assert_array_equal(fit.find_unfitted(), [False, False, True, False, False])
    for compute in (compute_v, compute_g):
        with pytest.raises(ValueError, match="1 voxels have a variance group without error variance"):
            compute(fit, 0)
    kept = fit.restrict(~fit.find_unfitted())
    alone = fit_welch(data[:, [0, 1, 3, 4]], matrix, [np.array([[1.0, -1, 0]])], groups)
    np.testing.assert_allclose(compute_v(kept, 0).value, compute_v(alone, 0).value, rtol=1e-12)


def test_a_variance_group_without_a_degree_of_freedom_is_named():
    data, matrix, groups = make_groups(13, (6, 1, 8))
    with pytest.raises(ValueError, match=r"less than one degree of freedom for their error: 1 \("):
        fit_welch(data, matrix, [np.array([[1.0, 0, -1]])], groups)


def test_wrong_shapes_and_a_v_of_several_rows_are_refused():
    data, matrix, groups = make_groups(14)
    with pytest.raises(ValueError, match=r"29 maps, but variance groups of shape \(28,\)"):
        fit_welch(data, matrix, [DIFFERENCE @ np.eye(3)[:2]], groups[1:])
    with pytest.raises(ValueError, match="this one has 2; test it with F"):
        compute_v(fit_welch(data, matrix, [np.eye(3)[:2]], groups), 0)
