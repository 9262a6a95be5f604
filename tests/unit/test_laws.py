"""Laws of the parts of the statistics that other tests reach only through the whole: against scipy and statsmodels,
least squares, and enumeration.
"""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.oneway import anova_oneway

from bids_group.column_space import decompose
from bids_group.stats import correct, coverage, glm, heterogeneity, overlap, partitioned, random_fields, sphericity
from bids_group.stats.euler_characteristics import log_expected_ec, make_field
from bids_group.stats.glm import Statistic
from bids_group.stats.permutation import kernels, patterns, schemes, sources, z_tables
from bids_group.stats.permutation.batch import BATCH
from bids_group.stats.permutation.design import KnownVariances
from bids_group.stats.permutation.exchangeability import (
    Exchangeability,
    exchange_freely,
    exchange_whole,
    exchange_within,
    find_flips,
    find_shuffles,
    grow_tree,
)
from bids_group.stats.permutation.kernels import TILE
from bids_group.stats.permutation.meta import prepare_meta
from bids_group.stats.permutation.patterns import find_missing_rows, prepare_patterns
from bids_group.stats.permutation.rearrange import label_rows
from bids_group.stats.permutation.welch import plan_welch, prepare_welch
from bids_group.stats.permutation.welch_kernels import convert_to_g, convert_to_v
from bids_group.stats.smoothness import Smoothness
from tests import permutation_designs as designs
from tests.permutation_oracle import refit

DOF = 14
TAILS = {"positive": stats.t.sf, "negative": stats.t.cdf, "two-sided": lambda t, dof: 2 * stats.t.sf(abs(t), dof)}
SMOOTH = Smoothness(np.full(3, 9.0), np.full(3, 3.0), np.array([1.0, 30.0, 290.0, 1000.0]), 27_000, 27.0)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def make_t(values, dof=DOF):
    values = np.asarray(values, dtype=float)
    return Statistic("t", values, values, np.ones(len(values)), 1.0, dof)


def allocate(shape):
    return np.empty(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def t():
    values = stats.t(DOF).rvs(400, random_state=1)
    values[:30] += 5.0
    return values


# Corrections


@pytest.mark.parametrize("tail", TAILS)
def test_corrected_p_of_each_correction_is_that_of_statsmodels(t, tail):
    p = TAILS[tail](t, DOF)
    made = {
        "bonferroni": correct.correct_bonferroni(make_t(t), 0.05, tail),
        "fdr_bh": correct.correct_fdr(make_t(t), 0.05, tail),
    }
    np.testing.assert_allclose(np.exp(correct.leave_uncorrected(make_t(t), 0.05, tail).log_p), p, rtol=1e-10)
    for method, found in made.items():
        expected = multipletests(p, 0.05, method)
        np.testing.assert_allclose(np.exp(found.log_p), expected[1], rtol=1e-10)
        np.testing.assert_array_equal(correct.pass_alpha(found.log_p, 0.05), expected[0])


@pytest.mark.parametrize("tail", TAILS)
def test_the_threshold_of_a_correction_is_where_its_p_is_alpha(t, tail):
    for function, alpha in ((correct.leave_uncorrected, 0.01), (correct.correct_bonferroni, 0.05)):
        threshold = function(make_t(t), alpha, tail).threshold.value
        at_threshold = np.append(t[:-1], threshold)
        assert np.exp(function(make_t(at_threshold), alpha, tail).log_p[-1]) == pytest.approx(alpha, rel=1e-9)
        assert stats.norm.isf(stats.t.sf(threshold, DOF)) == pytest.approx(
            function(make_t(t), alpha, tail).threshold.z, rel=1e-9
        )


@pytest.mark.parametrize("tail", TAILS)
def test_the_threshold_of_fdr_is_the_survivor_nearest_to_zero_and_none_without_any(t, tail):
    found = correct.correct_fdr(make_t(t), 0.05, tail)
    survives = correct.pass_alpha(found.log_p, 0.05)
    smallest = correct.find_smallest(make_t(t), survives, tail)
    nearest = {"positive": np.min, "negative": np.max, "two-sided": lambda values: np.abs(values).min()}[tail]
    if survives.any():
        assert found.threshold.value == smallest.value == nearest(t[survives])
    assert math.isnan(correct.find_smallest(make_t(t), np.zeros(len(t), bool), tail).value)


def test_adjusted_p_are_the_least_q_at_which_each_test_is_rejected(t):
    p = TAILS["two-sided"](t, DOF)[:40]
    adjusted = np.exp(correct.adjust_fdr(np.log(p)))
    for q in (0.001, 0.01, 0.05, 0.2):
        ranks = np.sort(p) <= q * np.arange(1, 41) / 40  # the step-up procedure itself
        cut = np.sort(p)[np.flatnonzero(ranks)[-1]] if ranks.any() else -1
        np.testing.assert_array_equal(adjusted <= q, p <= cut)


# Worsley et al. 1996, table II: the densities of a t field in three dimensions, at unit roughness.
def expect_ec_of_t(t, dof, resels):
    a, density = 4 * math.log(2), (1 + t**2 / dof) ** (-(dof - 1) / 2)
    gamma = math.exp(math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2)) / math.sqrt(dof / 2)
    densities = (
        stats.t.sf(t, dof),
        math.sqrt(a) / (2 * math.pi) * density,
        a / (2 * math.pi) ** 1.5 * gamma * t * density,
        a**1.5 / (2 * math.pi) ** 2 * ((dof - 1) / dof * t**2 - 1) * density,
    )
    return sum(r * d for r, d in zip(resels, densities, strict=True))


@pytest.mark.parametrize("height", [2.5, 4.0, 6.0])
def test_the_expected_euler_characteristic_is_that_of_worsleys_table(height):
    logarithm, sign = log_expected_ec(np.array([height]), make_field(make_t([height])), SMOOTH.resels)
    assert sign[0] * np.exp(logarithm[0]) == pytest.approx(expect_ec_of_t(height, DOF, SMOOTH.resels), rel=1e-9)


def test_random_fields_correct_by_the_expected_euler_characteristic_or_by_bonferroni():
    high = make_t([8.5, 10.0])
    found = correct.correct_rft(replace(SMOOTH, n_voxels=10**7), high, 0.05, "positive")
    expected = [expect_ec_of_t(value, DOF, SMOOTH.resels) for value in high.value]
    np.testing.assert_allclose(np.exp(found.log_p), expected, rtol=1e-9)
    assert expect_ec_of_t(found.threshold.value, DOF, SMOOTH.resels) == pytest.approx(0.05, rel=1e-6)
    of_few = correct.correct_rft(replace(SMOOTH, n_voxels=100), high, 0.05, "positive")
    np.testing.assert_allclose(np.exp(of_few.log_p), 100 * stats.t.sf(high.value, DOF), rtol=1e-9)
    with pytest.raises(ValueError, match="needs the smoothness"):
        correct.correct_rft(None, high, 0.05, "positive")


def test_a_field_needs_one_number_of_degrees_of_freedom_and_more_than_dimensions():
    with pytest.raises(ValueError, match="same degrees of freedom at every voxel"):
        make_field(make_t([1.0, 2.0], np.array([9.0, 10.0])))
    with pytest.raises(ValueError, match="more than 3 degrees of freedom, there are 3"):
        make_field(make_t([1.0], 3))


# Models


def test_blocks_of_voxels_shrink_with_the_rows_and_stay_between_their_bounds():
    sizes = [glm.choose_block_voxels(n) for n in (1, 100, 10_000, 10**9)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == glm.BLOCK_VOXELS
    assert sizes[-1] == glm.FEWEST_BLOCK_VOXELS


def test_parts_are_joined_in_the_order_of_their_voxels():
    values, order = np.arange(20) * 1.5, np.random.default_rng(0).permutation(20)
    places = np.split(order, [3, 3, 11])
    np.testing.assert_array_equal(coverage.join_voxels([values[one] for one in places], places), values)


def test_a_weighted_fit_is_that_of_statsmodels_and_its_projection_has_the_trace_of_its_definition():
    effects, weights = draw(9, 4), np.exp(draw(9, 4, seed=1))
    basis = decompose(np.column_stack([np.ones(9), draw(9, seed=2)])).basis
    found = heterogeneity.weigh(effects, weights, basis)
    traces = heterogeneity.trace_projection(found, basis)
    for voxel in range(4):
        w = weights[:, voxel]
        fit = WLS(effects[:, voxel], basis, weights=w).fit()
        np.testing.assert_allclose(found.coefficients[:, voxel], fit.params, rtol=1e-9)
        np.testing.assert_allclose(found.covariance[voxel], fit.normalized_cov_params, rtol=1e-9)
        np.testing.assert_allclose(found.residuals[:, voxel], effects[:, voxel] - fit.fittedvalues, atol=1e-12)
        big = np.diag(w)
        projection = big - big @ basis @ np.linalg.inv(basis.T @ big @ basis) @ basis.T @ big
        assert traces[voxel] == pytest.approx(np.trace(projection), rel=1e-9)


def test_packed_marks_are_counted_as_unpacked_ones():
    marks = draw(1003) > 0.4
    assert overlap.count_bits(np.packbits(marks)) == marks.sum()


def test_scores_of_subjects_do_not_depend_on_where_their_maps_stand():
    data, within, order = (
        draw(12, 5).astype(np.float32),
        np.array([1.0, -1.0, 0.5]),
        np.random.default_rng(3).permutation(12),
    )
    rows = order.reshape(4, 3)
    scores = partitioned.compute_subject_scores(data, rows, within)
    np.testing.assert_allclose(scores, [data[one].T @ within for one in rows], atol=1e-5)


def test_epsilon_is_one_of_a_sphere_and_one_over_its_rank_of_a_line():
    eigenvalues = np.array([[2.0, 2, 2], [5, 0, 0], [6, 1, 0.5]])
    e = sphericity.estimate_greenhouse_geisser(eigenvalues.sum(axis=1), (eigenvalues**2).sum(axis=1), 3)
    np.testing.assert_allclose(e, [1.0, 1 / 3, 7.5**2 / (3 * 37.25)])
    huynh = sphericity.estimate_huynh_feldt(e, 3, 11.0)
    # Girden (1992), with n = 12 subjects in one group: (n (k - 1) e - 2) / ((k - 1) (n - 1 - (k - 1) e)).
    np.testing.assert_allclose(huynh[2], (12 * 3 * e[2] - 2) / (3 * (11 - 3 * e[2])))
    assert huynh[0] == 1.0
    assert np.all(huynh >= e)
    np.testing.assert_array_equal(sphericity.estimate_huynh_feldt(e, 3, 1.0), e)
    assert np.isnan(sphericity.estimate_greenhouse_geisser(np.zeros(1), np.zeros(1), 3))


# Rearrangements

TREES = {
    "freely": (exchange_freely(4, "permutations"), 24),
    "within": (exchange_within(np.array([0, 0, 0, 1, 1]), "permutations"), 12),
    "whole": (exchange_whole(np.array([0, 0, 1, 1, 2, 2]), "permutations"), 6),
    # Two families of two twins: twins change places, and so do families.
    "nested": (Exchangeability("permutations", np.array([[1, 1], [1, 1], [1, 2], [1, 2]])), 8),
}


@pytest.mark.parametrize("name", TREES)
def test_as_many_rearrangements_as_the_blocks_allow_and_each_is_one(name):
    exchangeability, expected = TREES[name]
    tree = grow_tree(exchangeability)
    n_rows = exchangeability.n_rows
    plan = schemes.plan_permutations(tree, np.arange(n_rows))
    assert plan.n_distinct == math.prod(math.factorial(len(one.branches)) for one in find_shuffles(tree)) == expected
    orders, signs = plan.enumerate(0, expected)
    assert len({tuple(order) for order in orders}) == expected
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(n_rows), orders.shape))
    np.testing.assert_array_equal(orders[0], np.arange(n_rows))
    assert np.all(signs == 1)
    for column in exchangeability.blocks.T:  # rows of one block stay in one block
        assert all(len(set(column[order[column == block]])) == 1 for order in orders for block in set(column))


def test_rearrangements_that_leave_the_design_as_it_is_are_counted_once():
    tree = grow_tree(exchange_freely(6, "permutations"))
    plan = schemes.plan_permutations(tree, np.array([0, 0, 0, 1, 1, 1]))
    assert plan.n_distinct == math.comb(6, 3)


def test_rows_have_one_label_where_they_differ_by_rounding_only():
    rows = np.array([[1.0, 0.0], [1.0 + 1e-14, 0.0], [1.0, 1e-3], [0.0, 1.0]])
    labels = label_rows(rows)
    assert labels[0] == labels[1]
    assert len(set(labels)) == 3


def test_branches_have_one_content_exactly_where_one_can_be_rearranged_into_the_other():
    tree = grow_tree(Exchangeability("permutations", np.array([[-1, 1]] * 2 + [[-1, 2]] * 2 + [[-1, 3]] * 2)))
    names = {}
    contents = [schemes.name_content(branch, np.array([0, 1, 1, 0, 1, 1]), names) for branch in tree.branches]
    assert contents[0] == contents[1] != contents[2]


def test_signs_are_flipped_of_rows_or_of_whole_blocks_that_the_design_shows():
    rows = find_flips(grow_tree(exchange_freely(3, "flips")))
    assert [one.tolist() for one in rows] == [[0], [1], [2]]
    whole = grow_tree(exchange_whole(np.array([0, 0, 1, 1]), "flips"))
    assert [one.tolist() for one in find_flips(whole)] == [[0, 1], [2, 3]]
    plan = schemes.plan_flips(whole, np.array([True, False, False, False]))
    assert plan.n_distinct == 2
    _, signs = schemes.plan_flips(whole, np.ones(4, bool)).enumerate(0, 4)
    assert {tuple(row) for row in signs} == {(a, a, b, b) for a, b in product((1, -1), repeat=2)}


# The engine's loops, against least squares


def test_whitened_vectors_are_orthonormal_and_the_nearest_such():
    vectors = decompose(draw(7, 3)).basis @ np.diag([1.0, 0.7, 0.2]) @ stats.ortho_group.rvs(3, random_state=0)
    whitening = kernels.find_whitening((vectors.T @ vectors)[np.newaxis])[0]
    made = vectors @ whitening
    np.testing.assert_allclose(made.T @ made, np.eye(3), atol=1e-10)
    u, _, vh = np.linalg.svd(vectors, full_matrices=False)  # the polar factor
    np.testing.assert_allclose(made, u @ vh, atol=1e-10)
    assert not kernels.find_whitening(np.zeros((2, 1, 1))).any()
    assert not kernels.find_whitening(np.diag([1.0, 0.0])[np.newaxis]).any()


@pytest.mark.parametrize("name", ["covariate", "F of covariates", "F of several directions"])
def test_scores_are_the_part_of_the_data_that_a_rearranged_design_explains(name):
    test = designs.make_test(*designs.CASES[name][:3], **{"n_asked": 20, **designs.CASES[name][3]})
    orders, signs = test.rearrangements.draw(0, 5)
    interest = kernels.rearrange_interest(test.interest, test.nuisance, orders, signs, first_row=2)
    assert not interest[:, :2].any()
    exact = kernels.rearrange_interest_exactly(test.interest, test.nuisance, orders, signs, first_row=2)
    if sources.find_rotation(test.nuisance) is None:
        np.testing.assert_array_equal(interest, exact.astype(np.float32))
    np.testing.assert_allclose(exact[:, 2:7] @ test.nuisance, 0, atol=1e-12)
    np.testing.assert_allclose(
        np.einsum("abi,cbi->bac", exact, exact)[2:7], np.eye(len(exact))[np.newaxis].repeat(5, 0), atol=1e-10
    )
    n_within, n_rows, n_voxels = test.data.shape
    data = test.data - test.nuisance @ (test.nuisance.T @ test.data.astype(float))
    tile = np.zeros((n_within, n_rows, TILE), dtype=np.float32)
    tile[:, :, :n_voxels] = data / sources.measure_norms(data)
    np.testing.assert_allclose((tile[:, :, :n_voxels].astype(float) ** 2).sum(axis=(0, 1)), 1.0, rtol=1e-5)
    scores, product_ = np.empty((2, BATCH, TILE), dtype=np.float32)
    kernels.score_tile(interest, tile, scores, product_)
    t_maps, f_maps = np.zeros((2, BATCH, n_voxels), dtype=np.float32)
    dof = n_rows - test.interest.shape[1] - test.nuisance.shape[1]
    kernels.convert_to_t(scores, t_maps, 0, n_voxels, float(dof))
    kernels.convert_to_f(scores, f_maps, 0, n_voxels, dof / test.interest.shape[1])
    for number, (order, sign) in enumerate(zip(orders, signs, strict=True)):
        expected = refit(test, order, sign)
        np.testing.assert_allclose((t_maps if test.test == "t" else f_maps)[number + 2], expected, rtol=2e-3, atol=2e-5)


def test_squares_are_added_to_a_total():
    values, total = draw(2, 3).astype(np.float32), np.ones((2, 3), dtype=np.float32)
    kernels.add_squares(values, total)
    np.testing.assert_allclose(total, 1 + values**2, rtol=1e-6)


@pytest.mark.parametrize("two_sided", [True, False])
def test_the_tally_counts_what_reaches_the_observed_and_keeps_the_extremes(two_sided):
    scores = np.round(draw(BATCH, 9), 1).astype(np.float32)
    tied = np.array([0.5, 1.0, 0.0, 2.0, 1.5], dtype=np.float32)
    above, below = np.zeros((2, 5), dtype=np.int32)
    largest, smallest = np.full(BATCH, 0.0, np.float32), np.full(BATCH, 0.0, np.float32)
    kernels.tally(scores, 3, (10, 40), tied, above, below, largest, smallest, two_sided)
    used = scores[10:40, 3:8]
    measured = np.abs(used) if two_sided else used
    np.testing.assert_array_equal(above, (measured >= tied).sum(axis=0))
    np.testing.assert_array_equal(below, np.zeros(5) if two_sided else (-used >= tied).sum(axis=0))
    np.testing.assert_array_equal(largest[10:40], np.maximum(measured.max(axis=1), 0))
    assert not largest[:10].any()
    if not two_sided:
        np.testing.assert_array_equal(smallest[10:40], np.minimum(used.min(axis=1), 0))


def test_tiles_cover_every_voxel_once():
    for n_voxels in (1, TILE, 2 * TILE + 3):
        covered = np.concatenate([np.arange(n_voxels)[one] for one in sources.iterate_tiles(n_voxels)])
        np.testing.assert_array_equal(covered, np.arange(n_voxels))


def test_a_rotation_leaves_out_the_nuisance_and_nothing_else():
    nuisance = decompose(draw(10, 6)).basis
    rotation = sources.find_rotation(nuisance)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(nuisance.T @ rotation, 0, atol=1e-12)
    assert sources.find_rotation(np.zeros((10, 0))) is None


def identify(test, prepare):
    source = prepare(test, allocate)
    _, n_rows, n_voxels = test.data.shape
    return sources.compute_identity(source, n_rows, n_voxels, has_maps=False)


def make_groups(**options):
    return designs.make_test(designs.GROUPS, [1, -1], exchange_freely(12, "permutations"), n_asked=20, **options)


def test_the_identity_of_an_ordinary_test_is_students_t_of_scipy():
    test = make_groups()
    expected = stats.ttest_ind(*np.split(test.data[0].astype(float), 2)).statistic
    np.testing.assert_allclose(identify(test, sources.prepare_ordinary), expected, rtol=1e-4, atol=1e-5)
    workspace = sources.make_workspace(sources.prepare_ordinary(test, allocate), 5, has_maps=True)
    assert workspace.maps.shape == (BATCH, 5)
    assert sources.make_workspace(sources.prepare_ordinary(test, allocate), 5, has_maps=False).maps is None


def test_the_identity_of_welchs_test_is_the_z_of_scipys():
    groups = np.repeat([0, 1], 6)
    test = make_groups(variance_groups=groups)
    plan = plan_welch(test.interest, groups, exchange_freely(12, "permutations"), n_asked=20, seed=0)
    assert plan.n == test.rearrangements.n
    found = stats.ttest_ind(*np.split(test.data[0].astype(float), 2), equal_var=False)
    expected = np.sign(found.statistic) * stats.norm.isf(found.pvalue / 2)
    np.testing.assert_allclose(identify(test, prepare_welch), expected, atol=1e-4)


def test_the_identity_of_welchs_analysis_of_variance_is_the_z_of_statsmodels():
    groups = np.repeat([0, 1, 2], 5)
    matrix = np.eye(3)[groups]
    exchangeability = exchange_freely(15, "permutations")
    options = {**designs.F, "variance_groups": groups, "n_asked": 20}
    test = designs.make_test(matrix, [[1, -1, 0], [0, 1, -1]], exchangeability, **options)
    found = identify(test, prepare_welch)
    for voxel in range(0, test.data.shape[2], 9):
        p = anova_oneway(test.data[0, :, voxel].astype(float), groups, use_var="unequal").pvalue
        assert found[voxel] == pytest.approx(stats.norm.isf(p), abs=1e-3)


def test_the_identity_with_missing_maps_is_the_z_of_the_maps_that_are_there():
    data = designs.make_data(0, 12)
    data[0, 2, ::3], data[0, 8, 1::3] = np.nan, np.nan
    missing = find_missing_rows(data[0], np.arange(12))
    test = make_groups(missing=missing)
    test = replace(test, data=np.nan_to_num(data))
    found = stats.ttest_ind(*np.split(data[0].astype(float), 2), nan_policy="omit")
    expected = np.sign(found.statistic) * stats.norm.isf(found.pvalue / 2)
    np.testing.assert_allclose(identify(test, prepare_patterns), expected, atol=1e-4)
    dof = patterns.count_pattern_dof(test)
    np.testing.assert_array_equal(dof[missing.members], (~np.isnan(data[0])).sum(axis=0) - 2)


def test_the_identity_of_a_meta_analysis_of_equal_variances_is_students_t():
    """Where all variances are one, their estimate between maps cancels, and Knapp and Hartung's t is Student's."""
    matrix, data = np.ones((8, 1)), designs.make_data(4, 8)
    known = KnownVariances(np.full(data.shape[1:], 0.3, dtype=np.float32), "dersimonian-laird")
    test = designs.make_test(matrix, [1], exchange_freely(8, "flips"), seed=4, known=known, n_asked=20)
    expected = stats.ttest_1samp(data[0].astype(float), 0).statistic
    np.testing.assert_allclose(identify(test, prepare_meta), expected, rtol=1e-3, atol=1e-4)


def test_ties_reach_a_little_below_the_observed_in_the_direction_of_the_tail():
    heights = np.array([2.0, -2.0, 0.0], dtype=np.float32)
    farther, nearer = heights * np.float32(1.001), heights * np.float32(0.999)
    two_sided = patterns.choose_ties(make_groups(), heights, farther, nearer)
    np.testing.assert_allclose(two_sided, [1.998, 1.998, 0.0], atol=1e-5)
    positive = patterns.choose_ties(make_groups(tail="positive"), heights, farther, nearer)
    np.testing.assert_allclose(positive, [1.998, -2.002, 0.0], atol=1e-5)
    assert np.all(positive < heights)
    assert np.all(two_sided < np.abs(heights))


@pytest.mark.parametrize(("test", "dof_effect"), [("t", 1.0), ("F", 3.0)])
def test_tabulated_z_are_those_of_scipy(test, dof_effect):
    kinds = np.array([4.0, 11.0, 60.0])
    table = z_tables.build_table(test, dof_effect, kinds)
    for row, dof in enumerate(kinds):
        for value in (0.3, 1.0, 3.0, 8.0):
            explained = value**2 / dof if test == "t" else dof_effect * value / dof
            p = stats.t.sf(value, dof) if test == "t" else stats.f.sf(value, dof_effect, dof)
            found = z_tables.look_up(table, row, dof * np.log1p(explained))
            assert found == pytest.approx(stats.norm.isf(p), abs=2e-5)


def test_a_contrast_within_one_variance_group_has_the_z_of_that_groups_own_f():
    groups = np.repeat([0, 1], 8)
    own = np.column_stack([np.ones(16), draw(16, seed=5), draw(16, seed=6)])
    matrix = np.hstack([own * (groups == group)[:, np.newaxis] for group in (0, 1)])
    exchangeability = exchange_freely(16, "permutations")
    weights = np.eye(6)[[1, 2]]
    options = {**designs.F, "variance_groups": groups, "n_asked": 20}
    test = designs.make_test(matrix, weights, exchangeability, **options)
    found = identify(test, prepare_welch)
    for voxel in range(0, test.data.shape[2], 9):
        fit = OLS(test.data[0, :8, voxel].astype(float), own[:8]).fit()
        p = fit.f_test(np.eye(3)[1:]).pvalue
        assert found[voxel] == pytest.approx(stats.norm.isf(p), abs=1e-3)


def test_a_rearrangement_without_a_statistic_has_the_least_z_and_touches_no_other():
    rng = np.random.default_rng(0)
    scores, squares = rng.standard_normal((2, 1, 2, 3)), np.full((2, 2, 3), 9.0)
    shares = np.broadcast_to(np.eye(1) / 2, (2, 2, 1, 1)).copy()
    group_dof = np.array([[0.0, 0.0], [5.0, 7.0]])
    heights = np.full((2, 3), 7, dtype=np.float32)
    t_table, f_table = (z_tables.build_full_table(name, 1.0, most_dof=40.0) for name in ("t", "F"))
    convert_to_v(scores[:, 0], squares, shares, group_dof, t_table, heights, (0, 2))
    assert not heights[0].any()
    score = scores[:, 0, 1]  # by hand: c_1 + c_2 over the sum of a_g s2_g
    rest = 9 - 2 * score * score.sum(axis=0) + score.sum(axis=0) ** 2 / 2
    part = rest / 2 / group_dof[1][:, np.newaxis]
    v = score.sum(axis=0) / np.sqrt(part.sum(axis=0))
    dof = part.sum(axis=0) ** 2 / (part**2 / group_dof[1][:, np.newaxis]).sum(axis=0)
    np.testing.assert_allclose(heights[1], stats.norm.isf(stats.t.sf(v, dof)), atol=1e-4)
    made = np.full((2, 3), 7, dtype=np.float32)
    convert_to_g(scores, squares, shares, group_dof, np.array([-1, -1]), f_table, made, (0, 2))
    assert np.all(made[0] < -5)
    np.testing.assert_allclose(made[1], stats.norm.isf(stats.f.sf(v**2, 1, dof)), atol=1e-3)
    nothing = np.zeros_like(shares)  # whose covariance cannot be inverted
    convert_to_g(scores, squares, nothing, group_dof, np.array([-1, -1]), f_table, made, (1, 2))
    assert np.all(made[1] < -5)


def test_a_search_volume_of_one_voxel_has_the_threshold_of_one_test():
    one = Smoothness(np.full(3, 9.0), np.full(3, 3.0), np.array([1.0, 0.0, 0.0, 0.0]), 1, 27.0)
    found = correct.correct_rft(one, make_t([3.0]), 0.05, "positive")
    assert found.threshold.value == pytest.approx(stats.t.isf(0.05, DOF), rel=1e-9)
    assert np.exp(found.log_p[0]) == pytest.approx(stats.t.sf(3.0, DOF), rel=1e-9)


def test_the_threshold_of_random_fields_of_f_has_the_z_of_its_p():
    values = np.array([20.0, 25.0])
    statistic = Statistic("F", values, None, None, 2.0, DOF)
    found = correct.correct_rft(SMOOTH, statistic, 0.05, None)
    expected = stats.norm.isf(stats.f.sf(found.threshold.value, 2.0, DOF))
    assert found.threshold.z == pytest.approx(expected, rel=1e-9)


def test_a_flip_that_turns_the_interest_into_the_nuisance_has_no_statistic():
    nuisance = np.array([1.0, 1, -1, -1])
    known = KnownVariances(np.full((4, designs.N_VOXELS), 0.3, dtype=np.float32))
    matrix = np.column_stack([np.ones(4), nuisance])
    test = designs.make_test(matrix, [1, 0], exchange_freely(4, "flips"), known=known, n_asked=16)
    source = prepare_meta(test, allocate)
    workspace = sources.make_workspace(source, designs.N_VOXELS, has_maps=True)
    flips = np.array([[1, 1, -1, -1], [1, 1, 1, 1]], dtype=np.int8)
    rearranged = sources.Rearranged(np.tile(np.arange(4), (2, 1)), flips, 0)
    for _ in source.compute_scores(rearranged, workspace):
        pass
    assert not workspace.maps[0, : designs.N_VOXELS].any()
    assert workspace.maps[1, : designs.N_VOXELS].all()


def test_voxels_whose_maps_leave_no_error_cannot_be_tested():
    data = designs.make_data(0, 6)
    data[0, :5, 0] = np.nan
    missing = find_missing_rows(data[0], np.arange(6))
    test = designs.make_test(np.ones((6, 1)), [1], exchange_freely(6, "flips"), missing=missing)
    with pytest.raises(ValueError, match="1 patterns of missing rows leave no degree of freedom"):
        prepare_patterns(test, allocate)


def test_without_a_correction_epsilon_is_one_everywhere():
    data = draw(12, 5).astype(np.float32)
    rows = np.arange(12).reshape(4, 3)
    within = np.linalg.qr(np.column_stack([np.ones(3), np.arange(3), [1.0, -2, 1]]))[0][:, 1:]
    mean = np.full((4, 1), 0.5)
    fit = partitioned.fit_partitioned(data, rows, within, mean, mean, loadings=np.eye(2))
    np.testing.assert_array_equal(partitioned.estimate_epsilon(fit, sphericity="none"), np.ones(5))
    assert np.all(partitioned.estimate_epsilon(fit) < 1)


def test_values_equal_but_for_rounding_are_ties_and_others_are_not():
    values = np.array([0.0, 0.5, -0.5, 4.0])
    least = sources.lower_by_rounding(values)
    assert np.all(least < values)
    assert np.all(values.astype(np.float32) * (1 - np.sign(values) * 3e-7) > least)
    assert np.all(values - np.maximum(np.abs(values), 1) * 1e-4 < least)


@pytest.mark.parametrize("tail", ["positive", "two-sided"])
def test_extents_need_a_threshold_of_p_0_001_of_the_tail(tail):
    limit = stats.t.isf(0.001 / (2 if tail == "two-sided" else 1), DOF)
    random_fields.refuse_low_threshold(limit + 1e-6, make_t([0.0]), tail)
    with pytest.raises(ValueError, match=r"0\.001"):
        random_fields.refuse_low_threshold(limit - 1e-3, make_t([0.0]), tail)
