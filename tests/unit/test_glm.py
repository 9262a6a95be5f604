"""The linear model against statsmodels, and the laws of t and F."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.stats.glm import compute_f, compute_log_p, compute_p, compute_statistic, compute_t, compute_z, fit_glm
from tests.oracles_data import make_model

SEEDS = st.integers(0, 2**32 - 1)


def make_repeated_measures():
    """Nine conditions of sixteen subjects: a column per condition, a column per subject."""
    return np.hstack([np.kron(np.ones((16, 1)), np.eye(9)), np.kron(np.eye(16), np.ones((9, 1)))])


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(0, 3))
def test_t_and_f_are_those_of_statsmodels(seed, n_dependent):
    data, matrix, contrasts = make_model(seed, n_dependent)
    fit = fit_glm(data, matrix, contrasts)
    t, F = compute_t(fit, 0), compute_f(fit, 1)
    for voxel in range(data.shape[1]):
        oracle = sm.OLS(data[:, voxel], matrix).fit()
        t_oracle, f_oracle = oracle.t_test(contrasts[0]), oracle.f_test(contrasts[1])
        assert fit.dof == t.dof == F.dof == oracle.df_resid
        assert F.dof_effect == 3
        np.testing.assert_allclose(fit.residual_ss[voxel], oracle.ssr, rtol=1e-10)
        np.testing.assert_allclose(t.value[voxel], t_oracle.tvalue.item(), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(t.effect[voxel], t_oracle.effect.item(), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(np.sqrt(t.variance[voxel]), t_oracle.sd.item(), rtol=1e-9)
        np.testing.assert_allclose(compute_p(t)[voxel], t_oracle.pvalue.item(), rtol=1e-8)
        np.testing.assert_allclose(F.value[voxel], f_oracle.fvalue, rtol=1e-9)
        np.testing.assert_allclose(compute_p(F)[voxel], f_oracle.pvalue, rtol=1e-8)


def test_repeated_measures_has_120_dof_and_its_f_the_textbook_sums_of_squares():
    data = np.random.default_rng(3).normal(size=(144, 5))
    omnibus = np.hstack([np.eye(9)[:-1] - np.eye(9)[1:], np.zeros((8, 16))])
    fit = fit_glm(data, make_repeated_measures(), [omnibus])
    cells = data.reshape(16, 9, 5)
    condition = cells.mean(axis=0) - cells.mean(axis=(0, 1))
    residuals = cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean(axis=(0, 1))
    expected = (16 * (condition**2).sum(axis=0) / 8) / ((residuals**2).sum(axis=(0, 1)) / 120)
    assert (fit.rank, fit.dof) == (24, 120)
    np.testing.assert_allclose(compute_f(fit, 0).value, expected, rtol=1e-12)


@settings(deadline=None)
@given(SEEDS)
def test_order_of_rows_does_not_matter(seed):
    data, matrix, contrasts = make_model(seed, 2)
    order = np.random.default_rng(seed + 1).permutation(len(data))
    one, other = fit_glm(data, matrix, contrasts), fit_glm(data[order], matrix[order], contrasts)
    np.testing.assert_allclose(compute_t(one, 0).value, compute_t(other, 0).value, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(compute_f(one, 1).value, compute_f(other, 1).value, rtol=1e-9)


@settings(deadline=None)
@given(SEEDS, st.floats(1e-6, 1e6))
def test_scale_of_data_and_columns_does_not_matter(seed, data_scale):
    data, matrix, contrasts = make_model(seed, 2)
    column_scale = 10.0 ** np.random.default_rng(seed + 1).integers(-5, 6, size=matrix.shape[1])
    one = fit_glm(data, matrix, contrasts)
    other = fit_glm(data * data_scale, matrix * column_scale, [rows * column_scale for rows in contrasts])
    t, scaled = compute_t(one, 0), compute_t(other, 0)
    np.testing.assert_allclose(t.value, scaled.value, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(t.effect * data_scale, scaled.effect, rtol=1e-9, atol=1e-10 * data_scale)
    np.testing.assert_allclose(compute_f(one, 1).value, compute_f(other, 1).value, rtol=1e-9)


@settings(deadline=None)
@given(SEEDS)
def test_sign_of_the_contrast_is_the_sign_of_t(seed):
    data, matrix, contrasts = make_model(seed)
    fit = fit_glm(data, matrix, [contrasts[0], -contrasts[0]])
    np.testing.assert_array_equal(compute_t(fit, 0).value, -compute_t(fit, 1).value)
    np.testing.assert_array_equal(compute_z(compute_t(fit, 0)), -compute_z(compute_t(fit, 1)))


@settings(deadline=None)
@given(SEEDS)
def test_f_of_one_row_is_t_squared_and_has_its_p(seed):
    data, matrix, contrasts = make_model(seed, 1)
    fit = fit_glm(data, matrix, contrasts)
    t, F = compute_statistic(fit, 0, "t"), compute_statistic(fit, 0, "F")
    assert F.dof_effect == 1
    np.testing.assert_allclose(F.value, t.value**2, rtol=1e-13)
    np.testing.assert_allclose(compute_p(F), compute_p(t), rtol=1e-10)


@settings(deadline=None)
@given(SEEDS)
def test_f_depends_on_the_span_of_its_rows_alone(seed):
    data, matrix, (_, rows) = make_model(seed, 2)
    mixed = np.vstack([rows, rows[0], 1e6 * rows[1], 1e-6 * (rows[0] - rows[2] / 3)])
    fit = fit_glm(data, matrix, [rows, mixed])
    assert fit.contrasts[1].rank == 3
    np.testing.assert_allclose(compute_f(fit, 1).value, compute_f(fit, 0).value, rtol=1e-8)


@settings(deadline=None)
@given(SEEDS)
def test_f_does_not_depend_on_the_scale_of_its_rows(seed):
    data, matrix, (_, rows) = make_model(seed, 2)
    fit = fit_glm(data, matrix, [rows, rows * [[1e-9], [1.0], [1e9]]])
    assert fit.contrasts[1].rank == 3
    np.testing.assert_allclose(compute_f(fit, 1).value, compute_f(fit, 0).value, rtol=1e-8)


@settings(deadline=None)
@given(SEEDS)
def test_loadings_bring_the_scores_back_to_the_contrast(seed):
    data, matrix, (_, rows) = make_model(seed)
    kept = fit_glm(data, matrix, [rows]).contrasts[0]
    np.testing.assert_allclose(
        kept.loadings @ kept.scores, rows @ np.linalg.lstsq(matrix, data)[0], rtol=1e-8, atol=1e-9
    )
    np.testing.assert_allclose(
        kept.loadings @ kept.loadings.T, rows @ np.linalg.inv(matrix.T @ matrix) @ rows.T, rtol=1e-8
    )


def test_float32_data_are_float64_of_the_same_numbers():
    data, matrix, contrasts = make_model(1)
    single = data.astype(np.float32)
    one, other = fit_glm(single, matrix, contrasts), fit_glm(single.astype(np.float64), matrix, contrasts)
    np.testing.assert_array_equal(one.residual_ss, other.residual_ss)
    np.testing.assert_array_equal(compute_t(one, 0).value, compute_t(other, 0).value)


@pytest.mark.parametrize("block_voxels", [1, 10, 64, 10_000])
def test_block_size_does_not_matter(block_voxels):
    data, matrix, contrasts = make_model(2, 1, n_voxels=97)
    one, other = fit_glm(data, matrix, contrasts), fit_glm(data, matrix, contrasts, block_voxels=block_voxels)
    np.testing.assert_allclose(one.residual_ss, other.residual_ss, rtol=1e-12)
    np.testing.assert_allclose(one.total_ss, other.total_ss, rtol=1e-12)
    np.testing.assert_allclose(compute_f(one, 1).value, compute_f(other, 1).value, rtol=1e-12)


def test_residuals_of_a_model_that_fits_well_keep_their_digits():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(12, 6))
    fit = fit_glm(noise + 1e5, np.ones((12, 1)), [np.ones((1, 1))])
    np.testing.assert_allclose(fit.residual_ss, 11 * noise.var(axis=0, ddof=1), rtol=1e-8)


def test_voxels_that_the_design_fits_are_found_and_left_out():
    data, matrix, contrasts = make_model(4)
    data[:, 1], data[:, 3], data[:, 5] = 0.0, 0.1, matrix @ [1e3, 2, 3, 4]
    fit = fit_glm(data.astype(np.float64), matrix, contrasts)
    unfitted = fit.find_unfitted()
    np.testing.assert_array_equal(np.flatnonzero(unfitted), [1, 3, 5])
    with pytest.raises(ValueError, match="3 voxels have no error variance"):
        compute_t(fit, 0)
    restricted, alone = fit.restrict(~unfitted), fit_glm(data[:, ~unfitted], matrix, contrasts)
    np.testing.assert_allclose(compute_t(restricted, 0).value, compute_t(alone, 0).value, rtol=1e-12)
    np.testing.assert_allclose(compute_f(restricted, 1).value, compute_f(alone, 1).value, rtol=1e-12)


def test_the_tails_of_t_sum_to_one_and_the_two_sided_p_is_twice_the_smaller():
    data, matrix, contrasts = make_model(6)
    t = compute_t(fit_glm(data, matrix, contrasts), 0)
    upper, lower, both = (np.exp(compute_log_p(t, tail)) for tail in ("positive", "negative", "two-sided"))
    np.testing.assert_allclose(upper + lower, 1.0, rtol=1e-12)
    np.testing.assert_allclose(both, 2 * np.minimum(upper, lower), rtol=1e-12)
    with pytest.raises(ValueError, match="t has no tail None"):
        compute_log_p(t, None)


def test_without_dof_left_there_is_no_fit():
    with pytest.raises(ValueError, match="3 maps and a design of rank 3 leave no degree of freedom"):
        fit_glm(np.ones((3, 2)), np.eye(3), [np.eye(3)[:1]])


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="the design has 4 rows, but there are 5 maps"):
        fit_glm(np.ones((5, 2)), np.ones((4, 1)), [np.ones((1, 1))])


def test_contrast_of_zeros_is_refused():
    with pytest.raises(ValueError, match="contrast is zero"):
        fit_glm(np.ones((5, 2)), np.ones((5, 1)), [np.zeros((1, 1))])


def test_a_row_of_zeros_changes_no_f():
    data, matrix, contrasts = make_model(7)
    with_zeros = np.vstack([contrasts[1], np.zeros_like(contrasts[1][:1])])
    fit = fit_glm(data, matrix, [contrasts[1], with_zeros])
    np.testing.assert_allclose(compute_f(fit, 1).value, compute_f(fit, 0).value, rtol=1e-12)
    assert compute_f(fit, 1).dof_effect == compute_f(fit, 0).dof_effect


def test_columns_of_any_finite_size_are_fitted():
    data, matrix, contrasts = make_model(7)
    scale = np.ones(matrix.shape[1])
    scale[-1] = 1e200
    expected = compute_t(fit_glm(data, matrix, [contrasts[0]]), 0).value
    found = compute_t(fit_glm(data, matrix * scale, [contrasts[0] * scale]), 0).value
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_t_of_several_rows_is_refused():
    data, matrix, contrasts = make_model(7)
    with pytest.raises(ValueError, match="this one has 3; test it with F"):
        compute_t(fit_glm(data, matrix, contrasts), 1)
