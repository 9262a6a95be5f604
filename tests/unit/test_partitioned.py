"""Partitioned error terms against R, pingouin, statsmodels and SciPy, and their laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from bids_group.stats.glm import compute_f, compute_p, compute_statistic, compute_t, compute_z, fit_glm
from bids_group.stats.partitioned import (
    compare_error_variances,
    compute_partitioned,
    estimate_epsilon,
    estimate_sphericity,
    fit_partitioned,
)
from bids_group.stats.sphericity import estimate_huynh_feldt
from tests.oracles_data import (
    DATA,
    DIFFERENCES,
    MEAN,
    WITH_AGE,
    fit_cells,
    fit_reference,
    lay_flat,
    load_reference,
    make_cells,
)

SEEDS = st.integers(0, 2**32 - 1)
REFERENCE = load_reference("partitioned")


@pytest.mark.parametrize("name", sorted(REFERENCE["R"].keys() - {"covariate_slope"}))
def test_f_dof_and_p_under_every_sphericity_are_those_of_r(name):
    oracle, fit = REFERENCE["R"][name], fit_reference(name)
    plain = compute_partitioned(fit, "F", sphericity="none")
    assert (plain.dof_effect, plain.dof) == (oracle["dof1"], oracle["dof2"])
    np.testing.assert_allclose(plain.value, oracle["F"], rtol=1e-10)
    np.testing.assert_allclose(compute_p(plain), oracle["p"], rtol=1e-9)
    for sphericity, field in (("greenhouse-geisser", "p_greenhouse_geisser"), ("huynh-feldt", "p_huynh_feldt")):
        corrected = compute_partitioned(fit, "F", sphericity=sphericity)
        np.testing.assert_array_equal(corrected.value, plain.value)
        np.testing.assert_allclose(compute_p(corrected), oracle[field], rtol=1e-9)


@pytest.mark.parametrize("name", sorted(REFERENCE["pingouin"]))
def test_f_and_epsilon_are_those_of_pingouin(name):
    oracle, fit = REFERENCE["pingouin"][name], fit_reference(name)
    statistic = compute_partitioned(fit, "F")
    np.testing.assert_allclose(statistic.value, oracle["F"], rtol=1e-9)
    np.testing.assert_allclose(estimate_epsilon(fit), oracle.get("epsilon", 1.0), rtol=1e-10)
    np.testing.assert_allclose(compute_p(statistic), oracle.get("p_greenhouse_geisser", oracle["p"]), rtol=1e-8)


@pytest.mark.parametrize("name", sorted(REFERENCE["statsmodels"]))
def test_f_dof_and_p_are_those_of_statsmodels(name):
    statistic = compute_partitioned(fit_reference(name), "F", sphericity="none")
    found = (statistic.value.item(), statistic.dof_effect, statistic.dof, compute_p(statistic).item())
    np.testing.assert_allclose(found, REFERENCE["statsmodels"][name], rtol=1e-9)


def test_slope_of_a_covariate_on_the_subject_average_is_that_of_r():
    oracle, age = REFERENCE["R"]["covariate_slope"], DATA["age"]
    t = compute_partitioned(fit_cells(DATA["covariate"], MEAN, age / (age**2).sum(), WITH_AGE), "t")
    found = (t.effect.item(), np.sqrt(t.variance.item()), t.value.item(), compute_p(t).item())
    np.testing.assert_allclose(found, [oracle[name] for name in ("effect", "se", "t", "p")], rtol=1e-9)
    assert t.dof == 12


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_difference_of_two_conditions_is_the_paired_t(seed):
    cells = make_cells(seed)
    t = compute_partitioned(
        fit_cells(cells, np.array([[0.0], [1], [0], [-1]]), np.full((9, 1), 1 / 9), np.ones((9, 1))), "t"
    )
    oracle = stats.ttest_rel(cells[:, 1], cells[:, 3])
    assert (t.dof_effect, t.dof) == (1, 8)
    np.testing.assert_allclose(t.value, oracle.statistic, rtol=1e-9)
    np.testing.assert_allclose(compute_p(t), oracle.pvalue, rtol=1e-9)
    np.testing.assert_allclose(t.effect, (cells[:, 1] - cells[:, 3]).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(t.variance, (cells[:, 1] - cells[:, 3]).var(axis=0, ddof=1) / 9, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_means_of_conditions_and_differences_of_groups_are_scipys_t(seed):
    cells = make_cells(seed)
    everyone, groups = np.ones((9, 1)), np.repeat(np.eye(2), [4, 5], axis=0)
    one = compute_partitioned(fit_cells(cells, np.eye(4)[:, :1], everyone / 9, everyone), "t")
    np.testing.assert_allclose(one.value, stats.ttest_1samp(cells[:, 0], 0).statistic, rtol=1e-9)
    mean = compute_partitioned(fit_cells(cells, np.full((4, 1), 1 / 4), everyone / 9, everyone), "t")
    np.testing.assert_allclose(mean.value, stats.ttest_1samp(cells.mean(axis=1), 0).statistic, rtol=1e-9)
    between = compute_partitioned(fit_cells(cells, np.full((4, 1), 1 / 4), groups @ [[1 / 4], [-1 / 5]], groups), "t")
    averages = cells.mean(axis=1)
    np.testing.assert_allclose(between.value, stats.ttest_ind(averages[:4], averages[4:]).statistic, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_several_groups_are_the_one_way_analysis_of_their_averages(seed):
    cells, groups = make_cells(seed), np.repeat(np.eye(3), [2, 3, 4], axis=0)
    F = compute_partitioned(
        fit_cells(cells, np.full((4, 1), 1 / 4), groups @ np.diag([1 / 2, 1 / 3, 1 / 4]) @ DIFFERENCES, groups), "F"
    )
    averages = cells.mean(axis=1)
    assert (F.dof_effect, F.dof) == (2, 6)
    np.testing.assert_allclose(F.value, stats.f_oneway(averages[:2], averages[2:5], averages[5:]).statistic, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_with_two_conditions_the_paired_t_is_that_of_the_pooled_model(seed):
    cells = make_cells(seed, n_cells=2)
    data, rows = lay_flat(cells)
    design = np.zeros((18, 11))
    design[rows, [0, 1]], design[rows, 2 + np.arange(9)[:, None]] = 1.0, 1.0
    pooled = fit_glm(data, design, [np.array([[1.0, -1] + 9 * [0]])])
    own = fit_cells(cells, np.array([[1.0], [-1]]), np.full((9, 1), 1 / 9), np.ones((9, 1)))
    t, expected = compute_partitioned(own, "t"), compute_t(pooled, 0)
    assert t.dof == expected.dof
    np.testing.assert_allclose(t.value, expected.value, rtol=1e-8)
    np.testing.assert_allclose(t.effect, expected.effect, rtol=1e-8)
    np.testing.assert_allclose(t.variance, expected.variance, rtol=1e-8)
    np.testing.assert_allclose(compare_error_variances(own, pooled), 1.0, rtol=1e-8)
    np.testing.assert_array_equal(estimate_sphericity(data, rows, linalg.orth(np.ones((9, 1)))).epsilon, 1.0)


def test_pooled_error_variance_is_the_mean_of_those_of_orthonormal_contrasts():
    cells = make_cells(3)
    data, rows = lay_flat(cells)
    design = np.zeros((36, 13))
    design[rows, np.arange(4)], design[rows, 4 + np.arange(9)[:, None]] = 1.0, 1.0
    omnibus = np.hstack([linalg.helmert(4), np.zeros((3, 9))])
    pooled = fit_glm(data, design, [omnibus])
    everyone = np.ones((9, 1))
    own = fit_cells(cells, linalg.helmert(4).T, everyone, everyone)
    each = [fit_cells(cells, row[:, None], everyone, everyone) for row in linalg.helmert(4)]
    ratios = [compare_error_variances(one, pooled) for one in each]
    np.testing.assert_allclose(np.mean(ratios, axis=0), 1.0, rtol=1e-10)
    assert np.ptp(ratios) > 0.5
    np.testing.assert_allclose(
        compute_partitioned(own, "F", sphericity="none").value, compute_f(pooled, 0).value, rtol=1e-9
    )


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_order_of_subjects_bases_and_constants_of_subjects_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    cells, order = make_cells(seed), rng.permutation(9)
    within, groups = linalg.helmert(4)[:2].T, np.repeat(np.eye(3), 3, axis=0)
    between = groups @ DIFFERENCES
    one = fit_cells(cells, within, between, groups)
    other = fit_cells(
        cells[order] + rng.normal(size=(9, 1, 1)),
        within @ rng.normal(size=(2, 2)),
        between[order] @ rng.normal(size=(2, 2)),
        groups[order] @ rng.normal(size=(3, 3)),
    )
    for sphericity in ("greenhouse-geisser", "huynh-feldt", "none"):
        F, again = (compute_partitioned(fit, "F", sphericity=sphericity) for fit in (one, other))
        np.testing.assert_allclose(again.value, F.value, rtol=1e-6)
        np.testing.assert_allclose(again.dof, F.dof, rtol=1e-6)
        np.testing.assert_allclose(again.dof_effect, F.dof_effect, rtol=1e-6)


def test_f_of_one_row_is_t_squared_whatever_the_sphericity():
    fit = fit_cells(make_cells(5), np.array([[1.0], [0], [0], [-1]]), np.ones((9, 1)), np.ones((9, 1)))
    t = compute_partitioned(fit, "t")
    for sphericity in ("greenhouse-geisser", "huynh-feldt", "none"):
        F = compute_partitioned(fit, "F", sphericity=sphericity)
        assert (F.dof_effect, F.dof) == (1.0, 8.0)
        np.testing.assert_allclose(F.value, t.value**2, rtol=1e-12)
        np.testing.assert_allclose(compute_p(F), compute_p(t), rtol=1e-10)


def test_epsilon_is_that_of_the_eigenvalues_of_the_covariance():
    cells, within = make_cells(7), linalg.helmert(4).T
    groups = np.repeat(np.eye(2), [4, 5], axis=0)
    fit = fit_cells(cells, within, groups, groups)
    n, r, dof = 9, 3, 7
    for voxel in range(cells.shape[2]):
        scores = cells[..., voxel] @ within
        residuals = scores - groups @ np.linalg.lstsq(groups, scores)[0]
        eigenvalues = np.linalg.eigvalsh(residuals.T @ residuals)
        epsilon = eigenvalues.sum() ** 2 / (r * (eigenvalues**2).sum())
        lecoutre = min(1, ((n - 2 + 1) * r * epsilon - 2) / (r * (n - 2 - r * epsilon)))
        np.testing.assert_allclose(estimate_epsilon(fit)[voxel], epsilon, rtol=1e-10)
        np.testing.assert_allclose(estimate_epsilon(fit, sphericity="huynh-feldt")[voxel], lecoutre, rtol=1e-10)
        F = compute_partitioned(fit, "F")
        np.testing.assert_allclose(
            [F.dof_effect[voxel], F.dof[voxel]], [epsilon * 2 * r, epsilon * r * dof], rtol=1e-10
        )


def test_epsilon_is_1_under_equal_errors_and_1_over_r_when_one_direction_has_them_all():
    directions = linalg.helmert(5).T
    equal, single = np.zeros((8, 4)), np.zeros((8, 4))
    equal[:, :4] = linalg.helmert(8).T[:, :4]  # uncorrelated, of equal size, without mean
    single[:, 2] = linalg.helmert(8).T[:, 0]
    cells = np.stack([equal @ directions.T, single @ directions.T], axis=2)
    fit = fit_cells(cells, directions, np.ones((8, 1)), np.ones((8, 1)))
    for sphericity in ("greenhouse-geisser", "huynh-feldt"):
        np.testing.assert_allclose(estimate_epsilon(fit, sphericity=sphericity), [1.0, 1 / 4], rtol=1e-12)


def test_fewer_degrees_of_freedom_than_directions_that_are_all_alike_are_sphericity_to_huynh_and_feldt():
    # So many voxels that memory which nobody has written is not what was left there by chance.
    np.testing.assert_array_equal(estimate_huynh_feldt(np.full(200_000, 0.5), 4, 2.0), 1.0)


def test_with_one_degree_of_freedom_both_epsilons_are_their_lower_bound():
    fit = fit_cells(make_cells(8, n_subjects=2), linalg.helmert(4).T, np.ones((2, 1)), np.ones((2, 1)))
    for sphericity in ("greenhouse-geisser", "huynh-feldt"):
        np.testing.assert_allclose(estimate_epsilon(fit, sphericity=sphericity), 1 / 3, rtol=1e-12)
    assert np.isfinite(compute_z(compute_partitioned(fit, "F"))).all()


@pytest.fixture(scope="module")
def null_cells():
    """Sixteen subjects, nine conditions, no effect, 20000 voxels; two conditions twice as noisy in the second."""
    even = np.random.default_rng(11).normal(size=(16, 9, 20000))
    uneven = even.copy()
    uneven[:, :2] *= 2.0
    return even, uneven


def test_corrected_f_keeps_its_level_with_two_conditions_twice_as_noisy_and_the_uncorrected_does_not(null_cells):
    fit = fit_cells(null_cells[1], linalg.helmert(9).T, np.ones((16, 1)), np.ones((16, 1)))
    counts = {
        sphericity: int((compute_p(compute_partitioned(fit, "F", sphericity=sphericity)) <= 0.05).sum())
        for sphericity in ("greenhouse-geisser", "none")
    }
    assert stats.binomtest(counts["none"], 20000, 0.05, alternative="greater").pvalue < 1e-10
    assert stats.binomtest(counts["greenhouse-geisser"], 20000, 0.05, alternative="greater").pvalue > 0.05


def test_under_sphericity_the_median_of_huynh_feldt_is_near_1_and_greenhouse_geissers_is_not(null_cells):
    data, rows = lay_flat(null_cells[0])
    Z = linalg.orth(np.ones((16, 1)))
    estimate = estimate_sphericity(data, rows, Z)
    assert estimate.n_within == 8
    assert estimate.median > 0.95
    fit = fit_cells(null_cells[0], linalg.helmert(9).T, np.ones((16, 1)), np.ones((16, 1)))
    assert 0.62 < np.median(estimate_epsilon(fit)) < 0.66
    assert estimate_sphericity(*lay_flat(null_cells[1]), Z).median < 0.85


def test_sphericity_of_voxels_without_error_is_unknown_and_left_out_of_the_median():
    cells = make_cells(9)
    cells[:, :, 1], cells[:, :, 2] = 0.0, np.arange(9)[:, None] * 0.1
    estimate = estimate_sphericity(*lay_flat(cells), linalg.orth(np.ones((9, 1))))
    np.testing.assert_array_equal(np.isnan(estimate.epsilon), [False, True, True, False, False])
    assert estimate.median == np.median(estimate.epsilon[[0, 3, 4]])
    assert np.isnan(estimate_sphericity(*lay_flat(cells[..., 1:3]), linalg.orth(np.ones((9, 1)))).median)


def test_voxels_whose_scores_have_no_error_are_found_and_left_out():
    cells = make_cells(10, n_voxels=6)
    cells[:, :, 1] = 0.0  # empty
    cells[:, :, 3] = 0.1 + np.arange(9)[:, None] / 7  # the same in all conditions of a subject
    cells[:, :, 4] = cells[:, :1, 4] + [1e3, 2, 3, 4]  # the same differences in all subjects
    within, everyone = linalg.helmert(4).T, np.ones((9, 1))
    fit = fit_cells(cells, within, everyone, everyone)
    np.testing.assert_array_equal(np.flatnonzero(fit.find_unfitted()), [1, 3, 4])
    with pytest.raises(ValueError, match="3 voxels have no error variance"):
        compute_partitioned(fit, "F")
    kept = ~fit.find_unfitted()
    restricted = compute_partitioned(fit.restrict(kept), "F")
    alone = compute_partitioned(fit_cells(cells[..., kept], within, everyone, everyone), "F")
    np.testing.assert_allclose(restricted.value, alone.value, rtol=1e-12)
    np.testing.assert_allclose(restricted.dof, alone.dof, rtol=1e-12)


def test_large_constants_of_subjects_leave_the_digits_of_small_differences():
    cells, within, everyone = make_cells(12), linalg.helmert(4).T, np.ones((9, 1))
    plain = fit_cells(cells, within, everyone, everyone)
    lifted = fit_cells(cells + 2.0**20 * np.arange(9)[:, None, None], within, everyone, everyone)
    assert not lifted.find_unfitted().any()
    np.testing.assert_allclose(compute_partitioned(lifted, "F").value, compute_partitioned(plain, "F").value, rtol=1e-8)


@pytest.mark.parametrize("block_voxels", [1, 10, 64, 10_000])
def test_block_size_does_not_matter(block_voxels):
    cells = make_cells(13, n_voxels=97)
    one, other = (
        compute_partitioned(
            fit_cells(cells, linalg.helmert(4).T, np.ones((9, 1)), np.ones((9, 1)), block_voxels=size), "F"
        )
        for size in (None, block_voxels)
    )
    np.testing.assert_allclose(other.value, one.value, rtol=1e-12)
    np.testing.assert_allclose(other.dof, one.dof, rtol=1e-12)


def test_float32_data_are_float64_of_the_same_numbers_and_stay_as_they_are():
    data, rows = lay_flat(make_cells(14))
    single = data.astype(np.float32)
    before = single.copy()
    parts = (linalg.helmert(4).T, linalg.orth(np.ones((9, 1))), linalg.orth(np.ones((9, 1))))
    one, other = (
        fit_partitioned(values, rows, *parts, loadings=np.eye(3)) for values in (single, single.astype(float))
    )
    np.testing.assert_array_equal(one.fit.residual_ss, other.fit.residual_ss)
    np.testing.assert_array_equal(one.fit.contrasts[0].scores, other.fit.contrasts[0].scores)
    np.testing.assert_array_equal(single, before)


def test_a_model_of_the_scores_is_the_linear_model_of_them():
    cells, groups = make_cells(15), np.repeat(np.eye(2), [4, 5], axis=0)
    within, between = np.array([[1.0], [1], [-1], [-1]]), groups @ [[1 / 4], [-1 / 5]]
    t = compute_partitioned(fit_cells(cells, within, between, groups), "t")
    expected = compute_statistic(
        fit_glm(np.einsum("nwv,w->nv", cells, within[:, 0]), groups, [np.array([[1.0, -1]])]), 0, "t"
    )
    assert t.dof == expected.dof
    for field in ("value", "effect", "variance"):
        np.testing.assert_allclose(getattr(t, field), getattr(expected, field), rtol=1e-9)


def test_what_cannot_be_fitted_is_refused():
    cells, everyone = make_cells(16), np.ones((9, 1))
    data, rows = lay_flat(cells)
    with pytest.raises(
        ValueError, match="9 subjects and a between-subject design of rank 9 leave no degree of freedom"
    ):
        fit_cells(cells, linalg.helmert(4).T, everyone, np.eye(9))
    with pytest.raises(ValueError, match="do not match 9 subjects and 4 cells"):
        fit_partitioned(data, rows, linalg.helmert(3).T, everyone / 3, everyone / 3, loadings=np.eye(2))
    with pytest.raises(ValueError, match="there is one cell only"):
        estimate_sphericity(data, rows[:, :1], everyone / 3)
    with pytest.raises(ValueError, match="test it with F"):
        compute_partitioned(fit_cells(cells, linalg.helmert(4).T, everyone, everyone), "t")
    unfitted = fit_glm(np.zeros((36, 5)), np.ones((36, 1)), [np.ones((1, 1))])
    with pytest.raises(ValueError, match="5 voxels have no pooled error variance"):
        compare_error_variances(fit_cells(cells, linalg.helmert(4).T, everyone, everyone), unfitted)
