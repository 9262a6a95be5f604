"""From null distributions to thresholds: the floor(alpha n) + 1-th largest, whatever alpha and rounding."""

import numpy as np
import pytest

from bids_group.stats.permutation.inference import find_limit


@pytest.mark.parametrize(("n", "alpha", "rank"), [(100, 0.29, 29), (100, 0.57, 57), (256, 0.05, 12), (1000, 0.001, 1)])
def test_the_limit_is_the_value_below_which_alpha_of_the_null_lies(n, alpha, rank):
    null = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    limit = find_limit(null, alpha)
    assert limit == n - rank
    assert (null > limit).mean() <= alpha < (null >= limit).mean()


def test_an_alpha_just_below_one_takes_the_smallest_value():
    assert find_limit(np.arange(200.0), 0.999999999999999) == 0.0
