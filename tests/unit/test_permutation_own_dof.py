"""Permutation tests with missing maps, unequal variances and known variances, against refitting every rearrangement."""

from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from bids_group.column_space import decompose, find_contrast_axes, partition_design
from bids_group.stats import distributions
from bids_group.stats.correct import find_cluster_threshold
from bids_group.stats.glm import Statistic, compute_statistic, compute_z, fit_glm
from bids_group.stats.meta_analysis import compute_meta_statistic, fit_meta
from bids_group.stats.permutation.batch import prepare, run_batch
from bids_group.stats.permutation.design import KnownVariances, PermutationTest
from bids_group.stats.permutation.engine import (
    PermutationsStoppedError,
    join_batch,
    run_permutations,
    start_state,
    summarise,
)
from bids_group.stats.permutation.exchangeability import exchange_freely, exchange_within
from bids_group.stats.permutation.inference import infer_by_permutation
from bids_group.stats.permutation.kernels import BATCH, TILE
from bids_group.stats.permutation.patterns import find_missing_rows
from bids_group.stats.permutation.rearrange import plan_rearrangements
from bids_group.stats.permutation.welch import plan_welch
from bids_group.stats.permutation.z_tables import build_full_table, look_up_between
from bids_group.stats.unequal_variances import compute_welch_statistic, fit_welch
from tests import permutation_oracle as oracle

ALL_LEVELS = ("voxel", "cluster-size", "cluster-mass", "tfce")
MASK = np.random.default_rng(0).random((4, 5, 4)) < 0.8
N_VOXELS = np.count_nonzero(MASK)
F = {"test": "F", "tail": None}


def make_test(matrix, weights, kind, *, n_asked=130, seed=0, n_within=1, units=None, n_missing=0, sd=1.0, **options):
    """A test of random data; of a voxel up to `n_missing` units are missing, in one of twelve ways."""
    rng = np.random.default_rng(seed)
    space = decompose(matrix)
    interest, nuisance = partition_design(space.basis, find_contrast_axes(space, np.atleast_2d(weights))[0])
    exchangeability = exchange_freely(len(matrix), kind) if isinstance(kind, str) else kind
    settings = {"test": "t", "tail": "two-sided", "levels": ALL_LEVELS, "cluster_threshold": 1.2, "mask": MASK}
    settings |= options
    n_voxels = np.count_nonzero(settings["mask"])
    data = (rng.normal(size=(n_within, len(matrix), n_voxels)) * np.reshape(sd, (-1, 1))).astype(np.float32)
    if n_missing:
        units = np.arange(len(matrix)) if units is None else units
        ways = [rng.choice(units.max() + 1, rng.integers(n_missing + 1), replace=False) for _ in range(12)]
        for voxel in range(n_voxels):
            data[:, np.isin(units, ways[rng.integers(12)]), voxel] = np.nan
        settings["missing"] = find_missing_rows(data[0], units)
    if "variance_groups" in options:
        groups = options["variance_groups"]
        rearrangements = plan_welch(interest, groups, exchangeability, n_asked=n_asked, seed=seed)
    else:
        rearrangements = plan_rearrangements(interest, exchangeability, n_asked=n_asked, seed=seed)
    return PermutationTest(data=data, interest=interest, nuisance=nuisance, rearrangements=rearrangements, **settings)


def run(test, **options):
    return run_permutations(prepare(test), **options)


def iterate_patterns(data):
    """The rows that voxels have, and which voxels these are."""
    present = ~np.isnan(data[0])
    for rows in np.unique(present, axis=1).T:
        yield rows, np.all(present == rows[:, None], axis=0)


def refit_present(test, sources, signs):
    """By least squares on the rows that each voxel has."""
    z = np.empty(test.data.shape[2])
    moved = signs[:, None] * test.interest[sources]
    for rows, voxels in iterate_patterns(test.data):
        nuisance, full = test.nuisance[rows], np.hstack([test.nuisance, moved])[rows]
        values = test.data[np.ix_(range(len(test.data)), rows, voxels)].astype(np.float64)
        rank, rank_full = (np.linalg.matrix_rank(one, tol=1e-6) if one.size else 0 for one in (nuisance, full))
        if rank_full < rank + moved.shape[1]:
            z[voxels] = 0.0 if test.test == "t" else -np.inf
            continue
        error = oracle.sum_residuals(full, values)
        total = oracle.sum_residuals(nuisance, values) if rank else (values**2).sum(axis=(0, 1))
        dof, dof_effect = len(values) * (rows.sum() - rank_full), len(values) * moved.shape[1]
        ratio = ((total - error) / dof_effect) / (error / dof)
        if test.test == "F":
            z[voxels] = distributions.f_to_z(ratio, dof_effect, dof)
        else:
            sign = np.sign(np.linalg.lstsq(full, values[0])[0][-1])
            z[voxels] = distributions.t_to_z(sign * np.sqrt(ratio), dof)
    return z


def refit_welch(test, sources, signs):
    """By the model of unequal variances whose groups move with the rows of the design."""
    design = np.hstack([signs[:, None] * test.interest[sources], test.nuisance])
    labels, weights = test.variance_groups[sources], np.eye(test.interest.shape[1], design.shape[1])
    z = np.empty(test.data.shape[2])
    for rows, voxels in iterate_patterns(test.data):
        fit = fit_welch(test.data[0][np.ix_(rows, voxels)], design[rows], [weights], labels[rows])
        z[voxels] = compute_z(compute_welch_statistic(fit, 0, test.test))
    return z


def refit_meta(test, sources, signs):
    """By the random-effects model; without a nuisance of flipped effects."""
    assert np.all(sources == np.arange(len(sources)))
    effects, design = test.data[0], np.hstack([test.interest, test.nuisance])
    if test.nuisance.shape[1]:
        design = np.hstack([signs[:, None] * test.interest, test.nuisance])
    else:
        effects = effects * signs[:, None]
    weights = np.eye(test.interest.shape[1], design.shape[1])
    fit = fit_meta(effects, test.known.variances, design, [weights], method=test.known.method)
    return compute_meta_statistic(fit, 0, test.test).value


def check(test, refit, *, atol=2e-5):
    """Hold null distributions and p against those of refitting each rearrangement."""
    sources, signs = test.rearrangements.draw(0, test.rearrangements.n)
    maps = [refit(test, *one) for one in zip(sources, signs, strict=True)]
    # TFCE of z is that of z, whatever test it comes from.
    seen = SimpleNamespace(**vars(test)) if not test.is_in_z else as_z(test)
    found = run(test)
    for level in test.levels:
        measured = np.array([oracle.measure(seen, values, level) for values in maps])
        null, observed = measured.max(axis=1), measured[0]
        p = oracle.count_reached(null[:, None], observed)
        if level != "voxel":
            p[observed == 0] = 1.0
        null, observed = (np.maximum(one, -5.0) for one in (null, observed))
        np.testing.assert_allclose(found.null[level], null, rtol=2e-5, atol=atol, err_msg=level)
        above = np.maximum(found.observed[level], -5.0)
        np.testing.assert_allclose(above, observed, rtol=2e-5, atol=atol, err_msg=level)
        np.testing.assert_array_equal(found.p[level], p, err_msg=level)
    heights = np.array([oracle.measure(seen, values, "voxel") for values in maps])
    np.testing.assert_array_equal(found.uncorrected_p, oracle.count_reached(heights, heights[0]))
    return found


def as_z(test):
    return SimpleNamespace(**vars(test) | {"test": "t", "tail": test.tail or "positive"})


def make_covariates(n_rows, n_columns, seed=3):
    return np.column_stack([np.ones(n_rows), np.random.default_rng(seed).normal(size=(n_rows, n_columns))])


GROUPS = np.repeat([[1.0, 0.0], [0.0, 1.0]], 6, axis=0)
BLOCKS = np.repeat(np.arange(7), 3)
CONDITIONS = np.hstack([np.kron(np.ones((7, 1)), np.eye(3)), np.kron(np.eye(7), np.ones((3, 1)))])
MISSING = {
    "one-sample": (np.ones((9, 1)), [1], "flips", {}),
    "one-sample, all flips": (np.ones((7, 1)), [1], "flips", {"tail": "negative"}),
    "covariate": (make_covariates(12, 2), [0, 0, 1], "permutations", {"tail": "positive"}),
    "covariate, downwards": (make_covariates(12, 2), [0, 0, 1], "permutations", {"tail": "negative"}),
    "two groups": (GROUPS, [1, -1], "permutations", {"connectivity": 18}),
    "F of covariates": (make_covariates(14, 3), np.eye(4)[2:], "permutations", F),
    "F of one mean": (np.ones((7, 1)), [1], "flips", F),
    "F of several directions": (make_covariates(12, 1), [0, 1], "permutations", {**F, "n_within": 3}),
    "conditions within subjects": (
        CONDITIONS,
        [1, -1, *[0] * 8],
        exchange_within(BLOCKS, "permutations"),
        {"units": BLOCKS},
    ),
    "F of conditions": (
        CONDITIONS,
        [[1, -1, 0, *[0] * 7], [0, 1, -1, *[0] * 7]],
        exchange_within(BLOCKS, "permutations"),
        {**F, "units": BLOCKS},
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_with_missing_rows_null_and_p_are_those_of_refitting_what_is_left(case):
    matrix, weights, kind, options = MISSING[case]
    test = make_test(matrix, weights, kind, n_missing=2, n_asked=40, **options)
    assert len(test.missing.present) > 5
    check(test, refit_present)


WELCH_SD = np.repeat([1.0, 3.0], 6)
TWO, THREE = np.repeat([4, 9], 6), np.repeat([1, 2, 3], 5)
THREE_GROUPS = (THREE[:, None] == [1, 2, 3]).astype(float)
AGE = np.random.default_rng(9).normal(size=(12, 1))
WELCH = {
    "two groups": (GROUPS, [1, -1], "permutations", {"variance_groups": TWO}),
    "two groups with age": (np.hstack([GROUPS, AGE]), [1, -1, 0], "permutations", {"variance_groups": TWO}),
    "two groups, downwards": (GROUPS, [1, -1], "permutations", {"variance_groups": TWO, "tail": "negative"}),
    "two unequal groups, all": (GROUPS[3:11], [1, -1], "permutations", {"variance_groups": TWO[3:11], "sd": 1.0}),
    "mean of one group": (GROUPS, [1, 0], "flips", {"variance_groups": TWO, "tail": "positive"}),
    "mean of all": (np.ones((12, 1)), [1], "flips", {"variance_groups": TWO}),
    "F of three groups": (
        THREE_GROUPS,
        [[1, -1, 0], [0, 1, -1]],
        "permutations",
        {**F, "variance_groups": THREE, "sd": THREE},
    ),
    "F of two groups": (GROUPS, [1, -1], "permutations", {**F, "variance_groups": TWO}),
    "F of means": (GROUPS, np.eye(2), "flips", {**F, "variance_groups": TWO}),
    "F in one group": (
        np.column_stack([GROUPS, GROUPS[:, :1] * AGE]),
        [[1, 0, 0], [0, 0, 1]],
        "flips",
        {**F, "variance_groups": TWO},
    ),
    "missing rows": (GROUPS, [1, -1], "permutations", {"variance_groups": TWO, "n_missing": 1}),
    "F, missing rows": (
        THREE_GROUPS,
        [[1, -1, 0], [0, 1, -1]],
        "permutations",
        {**F, "variance_groups": THREE, "n_missing": 2},
    ),
}


@pytest.mark.parametrize("case", WELCH)
def test_with_variance_groups_null_and_p_are_those_of_refitting_welch(case):
    matrix, weights, kind, options = WELCH[case]
    check(
        make_test(matrix, weights, kind, **{"sd": np.resize(WELCH_SD, len(matrix)), "n_asked": 40, **options}),
        refit_welch,
    )


def make_meta(matrix, weights, *, method="reml", seed=0, **options):
    test = make_test(matrix, weights, "flips", seed=seed, **options)
    variances = np.random.default_rng(seed + 1).uniform(0.2, 2.0, size=test.data.shape[1:]).astype(np.float32)
    return replace(test, known=KnownVariances(variances, method))


META = {
    "mean": (np.ones((8, 1)), [1], {}),
    "mean, all flips": (np.ones((6, 1)), [1], {"tail": "positive"}),
    "mean by moments": (np.ones((8, 1)), [1], {"method": "dersimonian-laird", "tail": "negative"}),
    "mean with age": (np.column_stack([np.ones(9), AGE[:9]]), [1, 0], {"method": "dersimonian-laird"}),
    "F of two means": (GROUPS, np.eye(2), F),
}


@pytest.mark.parametrize("case", META)
def test_of_a_meta_analysis_null_and_p_are_those_of_refitting_it(case):
    matrix, weights, options = META[case]
    check(make_meta(matrix, weights, n_asked=64, **options), refit_meta)


def make_large(which):
    """More batches and tiles than one, neither of them full."""
    mask = np.ones((11, 10, 10), dtype=bool)
    assert np.count_nonzero(mask) > TILE
    options = {"mask": mask, "n_asked": 2 * BATCH + 9, "tail": "positive"}
    if which == "meta":
        return make_meta(np.ones((9, 1)), [1], method="dersimonian-laird", **options)
    if which == "missing rows":
        return make_test(GROUPS, [1, -1], "permutations", n_missing=2, **options)
    options["n_missing"] = 2 if "missing" in which else 0
    return make_test(GROUPS, [1, -1], "permutations", variance_groups=TWO, **options)


@pytest.mark.parametrize("which", ["missing rows", "variance groups", "variance groups, missing rows", "meta"])
def test_threads_borders_of_batches_and_interruptions_do_not_matter(which):
    test = make_large(which)
    undisturbed = run(test)
    prepared = prepare(test)
    state = start_state(prepared)
    for start, stop in ((100, len(prepared.numbers)), (0, 7), (7, 100)):
        join_batch(state, run_batch(prepared, start, stop))
    seen = []
    with pytest.raises(PermutationsStoppedError) as stopped:
        run_permutations(prepared, on_batch=lambda state: seen.append(state.n_done), should_stop=lambda: bool(seen))
    resumed = run_permutations(prepare(test), state=stopped.value.state)
    voxels_only = run(replace(test, levels=("voxel",)))
    for found in (run(test, n_threads=2), summarise(prepared, state), resumed, voxels_only):
        for level in found.null:
            np.testing.assert_array_equal(found.null[level], undisturbed.null[level])
            np.testing.assert_array_equal(found.p[level], undisturbed.p[level])
        np.testing.assert_array_equal(found.uncorrected_p, undisturbed.uncorrected_p)


@pytest.mark.parametrize("case", ["one-sample, all flips", "covariate, downwards", "two groups", "F of covariates"])
def test_where_no_row_is_missing_p_are_those_of_the_ordinary_test(case):
    matrix, weights, kind, options = MISSING[case]
    ordinary = make_test(matrix, weights, kind, **options, n_asked=400)
    complete = replace(ordinary, missing=find_missing_rows(ordinary.data[0]))
    one, other = run(replace(ordinary, levels=("voxel",))), run(replace(complete, levels=("voxel",)))
    np.testing.assert_array_equal(one.p["voxel"], other.p["voxel"])
    np.testing.assert_array_equal(one.uncorrected_p, other.uncorrected_p)


def test_where_no_row_is_missing_clusters_of_z_are_those_of_t():
    matrix, weights, kind, options = MISSING["two groups"]
    ordinary = make_test(matrix, weights, kind, **options, levels=("cluster-size",))
    threshold = float(distributions.t_to_z(ordinary.cluster_threshold, ordinary.dof))
    complete = replace(ordinary, missing=find_missing_rows(ordinary.data[0]), cluster_threshold=threshold)
    np.testing.assert_array_equal(run(ordinary).null["cluster-size"], run(complete).null["cluster-size"])


def test_variance_groups_of_one_group_give_the_ordinary_p():
    matrix, weights, kind, options = MISSING["covariate"]
    ordinary = make_test(matrix, weights, kind, **options, levels=("voxel",), n_asked=400)
    one_group = replace(ordinary, variance_groups=np.zeros(12, dtype=np.int64))
    np.testing.assert_array_equal(run(ordinary).p["voxel"], run(one_group).p["voxel"])
    np.testing.assert_array_equal(run(ordinary).uncorrected_p, run(one_group).uncorrected_p)


def test_p_of_welchs_t_is_that_of_all_ways_to_divide_the_subjects():
    test = make_test(GROUPS[3:11], [1, -1], "permutations", variance_groups=TWO[3:11], levels=("voxel",))
    assert test.rearrangements.is_exhaustive
    values = test.data[0].astype(np.float64)
    sources, _ = test.rearrangements.draw(0, test.rearrangements.n)
    first = TWO[3:11][sources] == TWO[3]
    welch = [stats.ttest_ind(values[is_in], values[~is_in], equal_var=False) for is_in in first]
    z = np.array([distributions.t_to_z(np.abs(one.statistic), one.df) for one in welch])
    reached = z.max(axis=1)[:, None] >= z[0] * (1 - 1e-9)
    np.testing.assert_array_equal(run(test).p["voxel"], reached.mean(axis=0))


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_groups_of_two_tie_with_their_exchange_however_alike_the_two_are(spread):
    """What is left of such a group is a difference of nearly equal sums of squares."""
    labels = np.array([0, 0, 1, 1, 2, 2, 2])
    matrix = (labels[:, None] == [0, 1, 2]).astype(float)
    test = make_test(
        *(matrix, [[1, -1, 0], [0, 1, -1]], "permutations"),
        **{**F, "variance_groups": labels, "levels": ("voxel",), "n_asked": 1000},
    )
    data = test.data.copy()
    data[0, [1, 3]] = data[0, [0, 2]] + np.float32(spread) * data[0, [1, 3]]
    found = check(replace(test, data=data), refit_welch, atol=1e-3)  # the data are float32
    assert found.n == 210  # ways to divide seven into groups of two, two and three
    assert found.uncorrected_p.min() >= 2 / 210
    assert found.p["voxel"].min() >= 2 / 210


def test_variance_groups_across_the_compared_ones_are_permuted_with_them():
    matrix, scanners = GROUPS[3:9], np.array([0, 0, 1, 0, 1, 1])
    options = {"variance_groups": scanners, "mask": np.ones((30, 1, 1), dtype=bool), "levels": ("voxel",)}
    test = make_test(matrix, [1, -1], "permutations", n_asked=1000, **options)
    assert test.rearrangements.n == 720 / (2 * 2)  # two rows of one group and scanner are alike, twice
    plain = np.ones(6, dtype=np.int8)
    every = [refit_welch(test, np.array(order), plain) for order in permutations(range(6))]
    heights = np.abs(every)
    np.testing.assert_array_equal(run(test).uncorrected_p, oracle.count_reached(heights, heights[0]))


def test_identity_is_the_z_of_the_statistic_that_is_reported():
    matrix = make_covariates(30, 2)
    for weights, options in (([0, 0, 1], {}), (np.eye(3)[1:], F)):
        test = make_test(matrix, weights, "permutations", n_missing=6, n_asked=1, levels=("voxel",), **options)
        expected = np.empty(test.data.shape[2])
        for rows, voxels in iterate_patterns(test.data):
            fit = fit_glm(test.data[0][np.ix_(rows, voxels)], matrix[rows], [np.atleast_2d(weights)])
            expected[voxels] = compute_z(compute_statistic(fit, 0, test.test))
        np.testing.assert_allclose(prepare(test).heights, expected, atol=1e-5)
        groups = np.arange(30) // 10
        welch = replace(test, missing=None, variance_groups=groups, data=np.nan_to_num(test.data, nan=0.5))
        fit = fit_welch(welch.data[0], matrix, [np.atleast_2d(weights)], groups)
        expected = compute_z(compute_welch_statistic(fit, 0, test.test))
        np.testing.assert_allclose(prepare(welch).heights, expected, atol=1e-5)


def test_means_of_groups_without_variance_are_not_zero_however_different_in_size():
    test = make_test(GROUPS, np.eye(2), "flips", **{**F, "variance_groups": TWO, "levels": ("voxel",), "n_asked": 20})
    data = test.data.copy()
    data[0, :, 0] = GROUPS[:, :2] @ [1.0, 1e-3]
    assert prepare(replace(test, data=data)).heights[0] > 4


def test_permuting_welchs_t_keeps_the_false_positive_rate_where_permuting_t_does_not():
    rng, mask = np.random.default_rng(3), np.ones((400, 1, 1), dtype=bool)
    groups = np.repeat([0, 1], [8, 24])
    data = (rng.normal(size=(1, 32, 400)) * np.array([3.0, 1.0])[groups][:, None]).astype(np.float32)
    matrix = (groups[:, None] == [0, 1]).astype(float)
    pooled = make_test(matrix, [1, -1], "permutations", mask=mask, levels=("voxel",), n_asked=200)
    pooled = replace(pooled, data=data)
    rates = [np.mean(run(test).uncorrected_p <= 0.05) for test in (pooled, replace(pooled, variance_groups=groups))]
    assert stats.binom.cdf(400 * rates[0], 400, 0.10) > 0.99  # far more than one in ten
    assert stats.binom.sf(400 * rates[1] - 1, 400, 0.05) > 0.01


@pytest.mark.parametrize(("test", "dof_effect"), [("t", 1), ("F", 1), ("F", 2), ("F", 9)])
def test_z_from_the_table_is_the_exact_z_and_monotone(test, dof_effect):
    rng = np.random.default_rng(6)
    table = build_full_table(test, float(dof_effect), most_dof=150.0)
    dof = np.repeat(np.exp(rng.uniform(0.0, np.log(150.0), 60)), 200)
    explained = np.sort(np.minimum(rng.random((60, 200)) ** rng.choice([0.1, 1, 8], (60, 1)), 1 - 1e-7)).ravel()
    ratio = explained / (1 - explained) * dof / dof_effect
    exact = distributions.t_to_z(np.sqrt(ratio), dof) if test == "t" else distributions.f_to_z(ratio, dof_effect, dof)
    squared_w = -dof * np.log1p(-explained)
    found = np.array([look_up_between(table, *one) for one in zip(dof, squared_w, strict=True)])
    within = exact > -5.0
    np.testing.assert_allclose(found[within], exact[within], atol=5e-6)
    assert np.all(found[~within] < -4.9)
    assert np.all(np.diff(found.reshape(60, 200), axis=1) >= -1e-12)


def test_thresholds_of_tests_in_z_are_z():
    test = make_test(GROUPS, [2, -1], "flips", variance_groups=TWO, tail="negative", n_asked=200)
    test = replace(test, data=test.data - 2 * GROUPS[:, :1].astype(np.float32))
    fit = fit_welch(test.data[0], GROUPS, [np.array([[2.0, -1.0]])], TWO)
    found = infer_by_permutation(compute_welch_statistic(fit, 0, "t"), test, run(test), alpha=0.2)
    by_level = {one.permutation.level: one for one in found}
    voxel, fdr = by_level["voxel"], by_level["fdr"]
    assert {one.threshold_unit for one in (voxel, fdr, by_level["uncorrected"])} == {"z"}
    units = {level: by_level[level].threshold_unit for level in ("cluster-size", "cluster-mass", "tfce")}
    assert units == {"cluster-size": "voxels", "cluster-mass": "mass", "tfce": "TFCE"}
    z = compute_z(compute_welch_statistic(fit, 0, "t"))
    assert voxel.threshold == voxel.threshold_z < 0
    assert 0 < np.count_nonzero(voxel.survives) < len(z)
    np.testing.assert_array_equal(voxel.survives, z < voxel.threshold - 1e-5)
    assert fdr.threshold == fdr.threshold_z == z[fdr.survives].max()


@pytest.mark.parametrize("tail", ["positive", "two-sided"])
def test_p_that_no_fitted_tail_gives_are_those_counted_with_their_ties(tail):
    """The maximum of the identity stands in the null distribution in float64, the observed values in float32."""
    plain = np.ones((8, 1))
    for seed in range(6):
        test = make_test(plain, [1], "flips", tail=tail, n_asked=200, seed=seed, levels=("voxel",))
        result, fit = run(test), fit_glm(test.data[0], plain, [np.ones((1, 1))])
        found = infer_by_permutation(compute_statistic(fit, 0, "t"), test, result, alpha=0.05, approximates_tail=True)[
            0
        ]
        assert found.permutation.tail is not None
        counted = result.p["voxel"]
        approximated = (counted < 0.1) & found.permutation.tail.is_accepted
        np.testing.assert_allclose(10 ** -found.logp[~approximated], counted[~approximated], rtol=1e-12)
        assert counted.min() >= 1 / 200


def test_of_missing_rows_no_epsilon_is_in_the_threshold():
    matrix, weights, kind, options = MISSING["F of several directions"]
    test = make_test(matrix, weights, kind, n_missing=2, **options)
    heights, dof = prepare(test).heights, np.full(test.data.shape[2], 5.5)
    statistic = Statistic("F", np.ones(len(dof)), None, None, 1.5, dof)
    fdr = infer_by_permutation(statistic, test, run(test), alpha=0.999)[-1]
    expected = [distributions.f_to_z(1.0, 3.0, 3.0 * (n - 2)) for n in (~np.isnan(test.data[0])).sum(axis=0)]
    assert fdr.threshold == pytest.approx(min(np.array(expected)[fdr.survives]))
    assert len(heights) == len(dof)


@pytest.mark.parametrize(("test", "tail"), [("t", "two-sided"), ("t", "negative"), ("F", None)])
def test_cluster_forming_t_and_f_are_refused_where_dof_differ(test, tail):
    statistic = Statistic(test, np.ones(2), None, None, 1.0, np.array([5.0, 6.0]))
    assert find_cluster_threshold(statistic, ("z", 2.3), tail) == pytest.approx(2.3)
    upper = 0.01 / 2 if tail == "two-sided" else 0.01
    assert find_cluster_threshold(statistic, ("p", 0.01), tail) == pytest.approx(stats.norm.isf(upper))
    with pytest.raises(ValueError, match="degrees of freedom differ between voxels; give p or z"):
        find_cluster_threshold(statistic, (test, 2.3), tail)
    same = replace(statistic, dof=5.0)
    assert find_cluster_threshold(same, (test, 2.3), tail) == 2.3
    assert find_cluster_threshold(same, ("z", 2.3), tail, is_in_z=True) == pytest.approx(2.3)
    with pytest.raises(ValueError, match="give p or z"):
        find_cluster_threshold(same, (test, 2.3), tail, is_in_z=True)


def test_what_does_not_fit_is_refused():
    permuted = make_test(GROUPS, [1, -1], "permutations", variance_groups=TWO)
    known = KnownVariances(np.ones(permuted.data.shape[1:], dtype=np.float32))
    for options, message in (
        ({"known": known, "variance_groups": None}, "may change their sign, but not their place"),
        ({"known": known}, "neither variance groups nor missing rows"),
        ({"variance_groups": TWO[:5]}, "12 rows, but variance groups of shape"),
        ({"missing": find_missing_rows(np.ones((12, 3)))}, "do not match the data"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(permuted, **options)
    with pytest.raises(ValueError, match=r"less than one degree of freedom for their error: \[7\]"):
        prepare(replace(permuted, variance_groups=np.where(np.arange(12) == 0, 7, 1)))
    data = permuted.data.copy()
    data[:, 1:6, 0] = np.nan
    data[:, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 patterns of missing rows leave nothing of what is tested"):
        prepare(replace(permuted, variance_groups=None, data=data, missing=find_missing_rows(data[0])))
