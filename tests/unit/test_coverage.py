"""Voxels that lack some maps: each is tested as if its own maps were all there are, or is left out and counted."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.anova import AnovaRM

from bids_group.analysis.fitting import fit_model
from bids_group.errors import DataError
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.loading import GroupData
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import read_spec
from bids_group.stats.coverage import average_present, find_patterns, find_used_rows, join_statistics
from bids_group.stats.glm import Statistic, compute_p, compute_z
from tests.builders import AFFINE, make_participants, make_rows, make_spec, write_spec

SHAPE = (4, 5, 3)
N_VOXELS = 60
SUBJECTS = tuple(f"{i:02d}" for i in range(1, 11))
GROUPS = np.array(["p", "c"] * 5)
AGES = np.array([31.5, 20, 44, 27, 52.5, 36, 23, 61, 48, 39])
PARTICIPANTS = make_participants(SUBJECTS, group=GROUPS, age=AGES)
DIFFERENCE = {"Name": "Difference", "Test": "t", "ConditionList": ["group[p]", "group[c]"], "Weights": [1, -1]}
EITHER = {"Name": "Either", "Test": "F", "ConditionList": ["group[p]", "group[c]"], "Weights": [[1, 0], [0, 1]]}


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans a spec's one node over the maps of subjects and conditions."""

    def build(document, conditions=("A",), subjects=SUBJECTS):
        node = read_spec(write_spec(tmp_path / "smdl.json", document)).nodes[0]
        rows = make_rows(subjects, conditions)
        return plan_node(node, InputTable(rows, rows[:0].assign(reason="")), PARTICIPANTS.loc[list(subjects)])

    return build


def make_contrasts(terms, *contrasts, **options):
    document = make_spec(settings=options, model={"X": list(terms)}, node={"GroupBy": [], "Contrasts": list(contrasts)})
    del document["Nodes"][0]["DummyContrasts"]
    return document


def make_anova(error_term, **options):
    return make_spec("anova", settings={"ErrorTerm": error_term, **options})


def draw(n_rows, *, seed=0, share=0.15):
    """Draw normal maps with holes; the first voxels have none, and no other has only a few maps."""
    rng = np.random.default_rng(seed)
    effects = (rng.standard_normal((n_rows, N_VOXELS)) + 0.5).astype(np.float32)
    holes = rng.random(effects.shape) < share
    holes[:, :10] = False
    effects[holes] = np.nan
    return effects


def fit(planned, effects, *, min_coverage=0.3):
    present = ~np.isnan(effects)
    voxels = AnalysedVoxels(
        mask=np.ones(SHAPE, bool),
        grid=Grid(SHAPE, AFFINE),
        missing=(~present).sum(axis=1),
        finite_share=present.mean(axis=1),
        zero_share=np.zeros(len(effects)),
        n_voxels_missing=0,
        min_coverage=min_coverage,
        complete=present.all(axis=0).reshape(SHAPE) if min_coverage < 1 else None,
    )
    return fit_model(planned, planned.models[0], GroupData(effects, voxels))


def list_maps(test):
    """Return a test's maps, one row each."""
    one, size = test.statistic, test.effect_size
    maps = [one.value, compute_z(one), compute_p(one), one.dof_effect, one.dof, test.epsilon]
    maps += [] if one.test == "F" else [one.effect, one.variance]
    maps += [] if size is None else [size.value, size.lower, size.upper]
    return np.array([np.broadcast_to(np.asarray(m, float), one.value.shape) for m in maps if m is not None])


# The parts


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_patterns_share_out_the_voxels_by_the_units_that_they_have_in_full(seed):
    rng = np.random.default_rng(seed)
    n_units, n_voxels = int(rng.integers(1, 20)), int(rng.integers(1, 40))
    units = rng.permutation(np.repeat(np.arange(n_units), rng.integers(1, 4, n_units)))
    data = np.where(rng.random((len(units), n_voxels)) < 0.1, np.nan, 1.0)
    patterns = find_patterns(data, units, most_voxels=5)
    np.testing.assert_array_equal(np.sort(np.concatenate([one.voxels for one in patterns])), np.arange(n_voxels))
    for one in patterns:
        assert len(one.voxels) <= 5
        for voxel in one.voxels:
            expected = [not np.isnan(data[units == unit, voxel]).any() for unit in range(n_units)]
            np.testing.assert_array_equal(one.present, expected)
            np.testing.assert_array_equal(find_used_rows(data[:, voxel], units), one.present[units])
    distinct = {one.present.tobytes() for one in find_patterns(data, units)}
    assert len(distinct) == len(find_patterns(data, units))
    assert patterns[0].present.all() or not any(one.present.all() for one in patterns)


def test_average_is_over_the_rows_that_are_there():
    data = draw(10, seed=1).astype(np.float64)
    np.testing.assert_allclose(average_present(data), np.nanmean(data, axis=0), rtol=1e-13)


def test_statistics_of_different_rank_are_not_joined():
    one, other = (Statistic("F", np.ones(2), None, None, rank, 9.0) for rank in (1.0, 2.0))
    with pytest.raises(ValueError, match="different rank"):
        join_statistics([one, other], [np.arange(2), np.arange(2, 4)])


# Each voxel against other programs


def test_a_mean_is_the_t_test_of_scipy_on_the_maps_that_the_voxel_has(plan):
    effects = draw(10)
    found = fit(plan(make_spec()), effects)
    (test,) = found.tests
    one, data = test.statistic, effects.astype(np.float64)
    count = (~np.isnan(data)).sum(axis=0)
    assert np.ptp(count) >= 3
    expected = stats.ttest_1samp(data, 0.0, nan_policy="omit")
    sd = np.nanstd(data, axis=0, ddof=1)
    for name, value, other in (
        ("t", one.value, expected.statistic),
        ("p", compute_p(one), expected.pvalue),
        ("effect", one.effect, np.nanmean(data, axis=0)),
        ("variance", one.variance, sd**2 / count),
        ("d", test.effect_size.value, np.nanmean(data, axis=0) / sd),
        ("mean", found.mean_effect, np.nanmean(data, axis=0)),
    ):
        np.testing.assert_allclose(value, other, rtol=1e-10, err_msg=name)
    np.testing.assert_allclose(stats.norm.sf(compute_z(one)), stats.t.sf(expected.statistic, count - 1), rtol=1e-9)
    np.testing.assert_array_equal(one.dof, count - 1)
    np.testing.assert_array_equal(test.n_subjects, count)
    lower = stats.nct.cdf(one.value, count - 1, test.effect_size.lower * np.sqrt(count))
    np.testing.assert_allclose(lower, 0.975, rtol=1e-6)
    assert found.voxels.n_voxels_partly == (count < 10).sum()


def test_groups_with_a_covariate_are_the_least_squares_of_statsmodels_on_the_maps_that_the_voxel_has(plan):
    effects = draw(10, seed=2)
    found = fit(plan(make_contrasts(["group", "age"], DIFFERENCE, EITHER)), effects)
    design = np.column_stack([GROUPS == "c", GROUPS == "p", AGES]).astype(float)
    assert found.voxels.mask.all()
    for voxel in range(N_VOXELS):
        present = ~np.isnan(effects[:, voxel])
        model = sm.OLS(effects[present, voxel].astype(np.float64), design[present]).fit()
        t, f = model.t_test([-1, 1, 0]), model.f_test(np.eye(3)[:2])
        expected = [t.tvalue[0, 0], t.pvalue, t.effect[0], t.sd[0, 0] ** 2, model.df_resid]
        one, other = (test.statistic for test in found.tests)
        at = [one.value, compute_p(one), one.effect, one.variance, one.dof]
        np.testing.assert_allclose([np.ravel(values)[voxel] for values in at], np.ravel(expected), rtol=1e-8)
        size = found.tests[0].effect_size.value[voxel]
        np.testing.assert_allclose(size, t.effect[0] / np.sqrt(model.scale), rtol=1e-8)
        np.testing.assert_allclose([other.value[voxel], compute_p(other)[voxel]], [f.fvalue, f.pvalue], rtol=1e-8)
        assert (other.dof_effect, other.dof[voxel]) == (f.df_num, f.df_denom)


def test_variance_groups_are_welchs_test_on_the_maps_that_the_voxel_has(plan):
    effects = draw(10, seed=3)
    found = fit(plan(make_contrasts(["group"], DIFFERENCE, VarianceGroups="group")), effects)
    of_groups = np.array([(~np.isnan(effects))[group == GROUPS].sum(axis=0) for group in "pc"])
    np.testing.assert_array_equal(found.voxels.mask.ravel(), (of_groups >= 2).all(axis=0))
    (test,) = found.tests
    data = effects[:, found.voxels.mask.ravel()].astype(np.float64)
    expected = stats.ttest_ind(data[GROUPS == "p"], data[GROUPS == "c"], equal_var=False, nan_policy="omit")
    np.testing.assert_allclose(test.statistic.value, np.asarray(expected.statistic), rtol=1e-9)
    np.testing.assert_allclose(compute_p(test.statistic), np.asarray(expected.pvalue), rtol=1e-9)


def find_complete(effects, n_conditions):
    """Return which subjects have all maps of a voxel, of shape (n_subjects, n_voxels)."""
    return ~np.isnan(effects).reshape(-1, n_conditions, effects.shape[1]).any(axis=1)


def test_partitioned_errors_are_those_of_the_subjects_with_all_maps_by_scipy_and_anova_rm(plan):
    effects = draw(30, seed=4, share=0.08)
    omnibus, paired = fit(plan(make_anova("partitioned"), "ABC"), effects).tests
    complete = find_complete(effects, 3)
    np.testing.assert_array_equal(omnibus.n_subjects, complete.sum(axis=0))
    for voxel in range(0, N_VOXELS, 3):
        values = effects[:, voxel].reshape(10, 3)[complete[:, voxel]].astype(np.float64)
        t = stats.ttest_rel(values[:, 0], values[:, 1])
        found = [paired.statistic.value[voxel], compute_p(paired.statistic)[voxel]]
        np.testing.assert_allclose(found, [t.statistic, t.pvalue], rtol=1e-9)
        long = pd.DataFrame(values, columns=list("ABC")).rename_axis("s").reset_index().melt("s", var_name="c")
        anova = AnovaRM(long, "value", "s", within=["c"]).fit().anova_table
        np.testing.assert_allclose(omnibus.statistic.value[voxel], anova["F Value"].iloc[0], rtol=1e-9)
        covariance = np.cov(values.T)
        centred = covariance - covariance.mean(axis=0) - covariance.mean(axis=1)[:, None] + covariance.mean()
        epsilon = np.trace(centred) ** 2 / (2 * np.trace(centred @ centred))
        np.testing.assert_allclose(omnibus.epsilon[voxel], epsilon, rtol=1e-9)
        dof = epsilon * anova[["Num DF", "Den DF"]].to_numpy()[0]
        expected = stats.f.sf(anova["F Value"].iloc[0], *dof)
        np.testing.assert_allclose(compute_p(omnibus.statistic)[voxel], expected, rtol=1e-9)
        assert omnibus.own_dof[voxel] == anova["Den DF"].iloc[0]


def test_pooled_errors_are_the_least_squares_of_the_subjects_with_all_maps(plan):
    effects = draw(30, seed=5, share=0.08)
    _, paired = fit(plan(make_anova("pooled"), "ABC"), effects).tests
    complete = find_complete(effects, 3)
    for voxel in range(0, N_VOXELS, 3):
        kept = complete[:, voxel]
        values = effects[:, voxel].reshape(10, 3)[kept].astype(np.float64)
        n = len(values)
        design = np.hstack([np.tile(np.eye(3), (n, 1)), np.kron(np.eye(n), np.ones((3, 1)))[:, 1:]])
        t = sm.OLS(values.ravel(), design).fit().t_test(np.r_[1.0, -1.0, np.zeros(n)])
        one = paired.statistic
        found = [one.value[voxel], compute_p(one)[voxel], one.effect[voxel], one.dof[voxel]]
        np.testing.assert_allclose(found, [t.tvalue[0, 0], float(t.pvalue), t.effect[0], 2 * (n - 1)], rtol=1e-8)
        scores = values[:, 0] - values[:, 1]
        np.testing.assert_allclose(paired.effect_size.value[voxel], scores.mean() / scores.std(ddof=1), rtol=1e-8)


MODELS = {
    "mean": (make_spec(), "A"),
    "covariate": (make_contrasts(["group", "age"], DIFFERENCE, EITHER), "A"),
    "welch": (make_contrasts(["group"], DIFFERENCE, EITHER, VarianceGroups="group"), "A"),
    "partitioned": (make_anova("partitioned"), "ABC"),
    "huynh-feldt": (make_anova("partitioned", Sphericity="huynh-feldt"), "ABC"),
    "pooled": (make_anova("pooled"), "ABC"),
}


@pytest.mark.parametrize("name", MODELS)
def test_each_pattern_is_the_model_planned_again_without_the_absent_subjects(plan, name):
    document, conditions = MODELS[name]
    n_cells = len(conditions)
    effects = draw(10 * n_cells, seed=6, share=0.0)
    effects[2 * n_cells, 20:40] = np.nan
    effects[[3 * n_cells, 7 * n_cells], 30:50] = np.nan
    found = fit(plan(document, conditions), effects)
    complete = find_complete(effects, n_cells)
    for voxels in (slice(0, 20), slice(20, 30), slice(30, 40), slice(40, 50)):
        kept = complete[:, voxels.start]
        again = plan(document, conditions, tuple(np.array(SUBJECTS)[kept]))
        repeated = np.resize(effects[:, voxels][np.repeat(kept, n_cells)], (kept.sum() * n_cells, N_VOXELS))
        repeated[:, : voxels.stop - voxels.start] = effects[:, voxels][np.repeat(kept, n_cells)]
        expected = fit(again, repeated, min_coverage=1.0)
        for one, other in zip(found.tests, expected.tests, strict=True):
            there = list_maps(other)[:, : voxels.stop - voxels.start]
            np.testing.assert_allclose(list_maps(one)[:, voxels], there, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_without_a_hole_nothing_depends_on_the_coverage_asked_for(plan, name):
    document, conditions = MODELS[name]
    effects = draw(10 * len(conditions), seed=7, share=0.0)
    whole, partial = (fit(plan(document, conditions), effects, min_coverage=c) for c in (1.0, 0.5))
    for one, other in zip(whole.tests, partial.tests, strict=True):
        np.testing.assert_array_equal(list_maps(one), list_maps(other))
        assert (one.dof, one.variance_ratio) == (other.dof, other.variance_ratio)
    np.testing.assert_allclose(whole.mean_effect, partial.mean_effect, rtol=1e-6)
    assert whole.epsilon == partial.epsilon
    pd.testing.assert_frame_equal(whole.quality, partial.quality)


# What cannot be tested


def test_voxels_without_a_group_leave_the_mask_and_are_counted_with_the_reason(plan):
    effects = draw(10, seed=8, share=0.0)
    effects[np.ix_(GROUPS == "p", np.arange(5, 9))] = np.nan
    effects[np.ix_(GROUPS == "c", [9])] = np.nan
    found = fit(plan(make_contrasts(["group", "age"], DIFFERENCE)), effects)
    np.testing.assert_array_equal(np.flatnonzero(~found.voxels.mask), np.arange(5, 10))
    assert found.voxels.untestable == {"Difference is not estimable from the maps that are left": 5}
    assert len(found.mean_effect) == len(found.tests[0].statistic.value) == len(found.tests[0].n_subjects) == 55


def test_a_group_that_no_contrast_needs_may_be_absent(plan):
    only = {**DIFFERENCE, "Name": "Controls", "ConditionList": ["group[c]"], "Weights": [1]}
    effects = draw(10, seed=9, share=0.0)
    effects[np.ix_(GROUPS == "p", np.arange(5, 9))] = np.nan
    found = fit(plan(make_contrasts(["group"], only)), effects)
    assert found.voxels.mask.all()
    expected = stats.ttest_1samp(effects[GROUPS == "c", 5:9].astype(np.float64), 0)
    np.testing.assert_allclose(found.tests[0].statistic.value[5:9], expected.statistic, rtol=1e-9)
    np.testing.assert_array_equal(found.tests[0].statistic.dof[4:10], [8, 4, 4, 4, 4, 8])


def test_the_mean_of_a_reference_group_is_lost_where_the_others_alone_are_left(plan):
    contrast = {"Name": "Baseline", "Test": "t", "ConditionList": ["1"], "Weights": [1]}
    effects = draw(10, seed=10, share=0.0)
    effects[np.ix_(GROUPS == "c", [4])] = np.nan
    found = fit(plan(make_contrasts(["1", "group[p]"], contrast)), effects)
    assert found.voxels.untestable == {"Baseline is not estimable from the maps that are left": 1}


@pytest.mark.parametrize(
    ("document", "n_left", "reason"),
    [
        (make_spec(), 1, "too few maps are left to estimate the error"),
        (make_anova("partitioned"), 1, "too few maps are left to estimate the error"),
        (make_anova("pooled"), 1, "too few maps are left to estimate the error"),
        (make_anova("partitioned"), 0, "too few maps are left to estimate the error"),
        (make_anova("pooled"), 0, "too few maps are left to estimate the error"),
        (
            make_contrasts(["group"], DIFFERENCE, VarianceGroups="group"),
            3,
            "a variance group has too few maps left",
        ),
    ],
)
def test_voxels_without_an_error_leave_the_mask_and_are_counted_with_the_reason(plan, document, n_left, reason):
    conditions = "ABC" if "ErrorTerm" in str(document) else "A"
    effects = draw(10 * len(conditions), seed=11, share=0.0)
    effects[n_left * len(conditions) :: len(conditions), 12] = np.nan
    found = fit(plan(document, conditions), effects)
    np.testing.assert_array_equal(np.flatnonzero(~found.voxels.mask), [12])
    assert found.voxels.untestable == {reason: 1}


def test_a_contrast_that_loses_its_own_error_among_the_subjects_left_is_not_tested_there(plan):
    # A covariate centred over all subjects is not centred over some: the mean of a condition then mixes with the slope.
    demean = {"Name": "Demean", "Input": ["age"]}
    contrast = {"Name": "MeanA", "Test": "t", "ConditionList": ["A"], "Weights": [1]}
    document = make_contrasts(["A", "B", "age"], contrast)
    document["Nodes"][0]["Transformations"] = {"Transformer": "pybids-transforms-v1", "Instructions": [demean]}
    effects = draw(20, seed=12, share=0.0)
    effects[0, :3] = np.nan
    found = fit(plan(document, "AB"), effects)
    np.testing.assert_array_equal(np.flatnonzero(~found.voxels.mask), np.arange(3))
    assert list(found.voxels.untestable) == ["MeanA has another error term, or none, among the subjects that are left"]


def test_constant_voxels_of_a_pattern_are_counted_apart(plan):
    effects = draw(10, seed=13, share=0.0)
    effects[:, 3] = 1.0
    effects[4, 3:6] = np.nan
    found = fit(plan(make_spec()), effects)
    np.testing.assert_array_equal(np.flatnonzero(~found.voxels.mask), [3])
    assert (found.voxels.n_voxels_constant, dict(found.voxels.untestable)) == (1, {})
    np.testing.assert_array_equal(found.tests[0].n_subjects[:6], [10, 10, 10, 9, 9, 10])


def test_a_model_that_can_be_tested_nowhere_is_refused_with_the_reasons(plan):
    effects = draw(10, seed=14, share=0.0)
    effects[GROUPS == "p"] = np.nan
    with pytest.raises(DataError, match=r"MinCoverage: no voxel can be tested: Difference is not .* \(60 voxels\)"):
        fit(plan(make_contrasts(["group"], DIFFERENCE)), effects)


# The maps themselves


def test_t_at_the_peak_without_a_map_is_that_of_the_model_fitted_again(plan):
    effects = draw(10, seed=15)
    effects[:, 30] += 9  # the peak, where maps 3 and 4 are missing
    effects[:, 30] = np.where(np.isin(np.arange(10), [3, 4]), np.nan, np.nan_to_num(effects[:, 30], nan=9.0))
    found = fit(plan(make_spec()), effects)
    assert np.argmax(np.abs(found.tests[0].statistic.value)) == 30
    values = effects[:, 30].astype(np.float64)
    for row in range(10):
        expected = stats.ttest_1samp(np.delete(values, row), 0, nan_policy="omit").statistic
        found_t = found.quality["peak_t_without"][row]
        assert np.isnan(found_t) if row in (3, 4) else found_t == pytest.approx(expected, rel=1e-9)


def test_quality_is_measured_where_all_maps_are_and_never_fails_for_want_of_voxels(plan):
    effects = draw(10, seed=16)
    found = fit(plan(make_spec()), effects).quality
    complete = ~np.isnan(effects).any(axis=0)
    expected = effects[:, complete].astype(np.float64)
    np.testing.assert_allclose(found["mean"], expected.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["sd"], expected.std(axis=1), rtol=1e-10)
    effects[np.arange(N_VOXELS) % 10, np.arange(N_VOXELS)] = np.nan
    nothing = fit(plan(make_spec()), effects).quality
    assert nothing["mean"].isna().all()
    assert nothing["flags"].isna().all()
