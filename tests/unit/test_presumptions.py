"""Errors that break a test are told where most voxels show them, and no others are."""

import numpy as np
import pytest
from scipy import stats

from bids_group.stats.presumptions import divide_variance, estimate_group_variances, measure_skewness
from validation.alarms import count_alarms, find_warnings
from validation.scenarios import SCENARIOS
from validation.simulate import draw_data, plan_scenario

BY_NAME = {one.name: one for one in SCENARIOS}
N_DATASETS = 5


def test_skewness_is_that_of_scipy():
    values = np.random.default_rng(0).exponential(size=(12, 7))
    np.testing.assert_allclose(measure_skewness(values - values.mean(axis=0)), stats.skew(values), rtol=1e-12)


def test_group_variances_give_the_ratio_of_welchs_and_students_squared_errors():
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((5, 4)) * 3, rng.standard_normal((9, 4))
    groups = np.repeat([0, 1], (5, 9))
    interest = np.where(groups == 0, 1 / 5, -1 / 9)
    residuals = np.vstack([one - one.mean(axis=0), other - other.mean(axis=0)])
    variances = estimate_group_variances(residuals, np.where(groups == 0, 1 / 5, 1 / 9), groups)
    np.testing.assert_allclose(variances, [one.var(axis=0, ddof=1), other.var(axis=0, ddof=1)], rtol=1e-12)
    presumed = np.sum(residuals**2, axis=0) / 12 * (1 / 5 + 1 / 9)
    ratio = divide_variance(variances, interest, groups).sum(axis=0) / presumed
    equal, unequal = (stats.ttest_ind(one, other, equal_var=same).statistic for same in (True, False))
    np.testing.assert_allclose(ratio, (equal / unequal) ** 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mean-skewed", "errors are skewed"),
        ("groups-unequal", "VarianceGroups"),
        ("groups-balanced", "permutations exchange"),
        ("welch-unequal", "Welch's degrees of freedom"),
        ("mixed-group-unequal", "one map per subject"),
        ("pooled-t-noisy", "partitioned error terms"),
        ("uncorrected-F-noisy", "presumes sphericity"),
        ("partitioned-F-autocorrelated", "far in the tail"),
    ],
)
def test_a_test_that_does_not_hold_is_warned_of(name, words):
    rng = np.random.default_rng(0)
    plan = plan_scenario(BY_NAME[name], rng)
    assert any(words in warning for warning in find_warnings(plan, draw_data(BY_NAME[name], plan, rng)))


@pytest.mark.parametrize(
    "name",
    [
        "mean",
        "mean-small",
        "mean-heavy",
        "groups",
        "groups-skewed",
        "slope-skewed",
        "welch-small",
        "mixed-F",
        "mixed-group",
        "partitioned-F-noisy",
        "mean-missing",
    ],
)
def test_a_test_that_holds_is_not_warned_of(name):
    assert count_alarms(BY_NAME[name], N_DATASETS) == 0
