"""Intervals of cell means are those of paired and one-sample t tests, and an added variable's line has the contrast as slope."""

import numpy as np
import pytest
from scipy import stats

from bids_group.column_space import decompose
from bids_group.stats.intervals import find_mean_interval, find_partial_points


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_one_cell_has_the_interval_of_the_one_sample_t_test(level):
    values = draw(13, 1) + 0.4
    mean, half_width = find_mean_interval(values, level=level)
    low, high = stats.ttest_1samp(values[:, 0], 0).confidence_interval(level)
    np.testing.assert_allclose([mean[0] - half_width[0], mean[0] + half_width[0]], [low, high], rtol=1e-12)


def test_two_cells_have_the_interval_of_their_difference_over_the_root_of_two():
    values = draw(11, 2) + 5 * draw(11, 1, seed=1)
    _, half_width = find_mean_interval(values, level=0.95)
    interval = stats.ttest_rel(values[:, 0], values[:, 1]).confidence_interval(0.95)
    np.testing.assert_allclose(half_width, (interval.high - interval.low) / 2 / np.sqrt(2), rtol=1e-12)


def test_differences_between_subjects_do_not_widen_the_interval_of_several_cells():
    values = draw(9, 4)
    mean, half_width = find_mean_interval(values, level=0.95)
    shifted, same = find_mean_interval(values + 100 * draw(9, 1, seed=2), level=0.95)
    np.testing.assert_allclose(same, half_width, rtol=1e-9)
    np.testing.assert_allclose(np.diff(shifted), np.diff(mean), atol=1e-12)


def test_one_subject_has_no_interval():
    mean, half_width = find_mean_interval(np.array([[1.0, 2.0]]), level=0.95)
    np.testing.assert_array_equal(mean, [1, 2])
    assert np.isnan(half_width).all()


def test_the_line_of_an_added_variable_has_the_contrast_as_slope_and_the_residuals_of_the_model():
    design = np.column_stack([np.ones(20), draw(20, 2, seed=3)])
    values = draw(20, seed=4) + 2 * design[:, 1]
    inverse = np.linalg.pinv(design)
    x, y = find_partial_points(values, decompose(design), inverse[1])
    line = stats.linregress(x, y)
    coefficients = inverse @ values
    np.testing.assert_allclose([line.slope, line.intercept], [coefficients[1], 0], atol=1e-12)
    np.testing.assert_allclose(y - line.slope * x, values - design @ coefficients, atol=1e-12)
    others = design[:, [0, 2]]
    np.testing.assert_allclose(x, design[:, 1] - others @ np.linalg.pinv(others) @ design[:, 1], atol=1e-12)
