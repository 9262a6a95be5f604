"""From null distributions to thresholds: the floor(alpha n) + 1-th largest, whatever alpha and rounding."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bids_group.stats.glm import Statistic
from bids_group.stats.permutation.batch import prepare
from bids_group.stats.permutation.engine import run_permutations
from bids_group.stats.permutation.exchangeability import exchange_freely
from bids_group.stats.permutation.inference import find_limit, infer_by_permutation
from tests import permutation_designs as designs


@pytest.mark.parametrize(("n", "alpha", "rank"), [(100, 0.29, 29), (100, 0.57, 57), (256, 0.05, 12), (1000, 0.001, 1)])
def test_the_limit_is_the_value_below_which_alpha_of_the_null_lies(n, alpha, rank):
    null = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    limit = find_limit(null, alpha)
    assert limit == n - rank
    assert (null > limit).mean() <= alpha < (null >= limit).mean()


def test_an_alpha_just_below_one_takes_the_smallest_value():
    assert find_limit(np.arange(200.0), 0.999999999999999) == 0.0


@pytest.fixture(scope="module")
def shifted():
    """A test of data with a strong effect in some voxels, its rearrangements, and the t of scipy."""
    test = designs.make_test(
        np.ones((12, 1)), [1], exchange_freely(12, "flips"), n_asked=600, tail="positive", levels=("voxel",)
    )
    data = test.data.copy()
    data[0, :, :6] += 2.0
    test = replace(test, data=data)
    t = stats.ttest_1samp(data[0].astype(float), 0).statistic
    return test, run_permutations(prepare(test)), Statistic("t", t, t, np.ones(len(t)), 1.0, 11.0)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_where_a_tail_is_fitted_the_threshold_is_the_value_whose_fitted_p_is_alpha(shifted, alpha):
    test, result, statistic = shifted
    found = infer_by_permutation(statistic, test, result, alpha=alpha, approximates_tail=True)[0]
    tail = found.permutation.tail
    assert tail.is_accepted
    fitted = stats.genpareto(tail.shape, loc=tail.threshold, scale=tail.scale)
    share = tail.n_exceedances / result.n
    assert share * fitted.sf(found.threshold) == pytest.approx(alpha, rel=1e-9)
    np.testing.assert_array_equal(found.survives, statistic.value > found.threshold)
    assert 0 < found.survives.sum() <= 6
    beyond = statistic.value > np.sort(found.permutation.null)[-50]
    np.testing.assert_allclose(10.0 ** -found.logp[beyond], share * fitted.sf(statistic.value[beyond]), rtol=1e-4)


def test_an_alpha_that_the_fitted_tail_does_not_reach_has_the_empirical_threshold(shifted):
    test, result, statistic = shifted
    fitted, counted = (
        infer_by_permutation(statistic, test, result, alpha=0.2, approximates_tail=one)[0] for one in (True, False)
    )
    assert fitted.threshold == counted.threshold == find_limit(counted.permutation.null, 0.2)
    np.testing.assert_array_equal(fitted.survives, counted.survives)
