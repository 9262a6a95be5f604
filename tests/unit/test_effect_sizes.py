"""Effect sizes against pingouin, their intervals against R, and the intervals' laws and coverage.

The pinned numbers are in tests/reference/effect_sizes.json; the script beside it says how they were made.
"""

import numpy as np
import pytest
from scipy import special, stats

from bids_group.stats.effect_sizes import (
    LARGE_T,
    N_NODES,
    compute_cohens_d,
    compute_partial_eta_squared,
    find_noncentrality_f,
    find_noncentrality_t,
)
from bids_group.stats.glm import Statistic, compute_f, compute_t, fit_glm
from tests.oracles_data import SAMPLES, fit_samples, load_reference

PINNED = load_reference("effect_sizes")


def test_noncentralities_of_t_are_those_of_r():
    t, dof, probability, expected = np.array(PINNED["noncentrality"]["t"]).T
    assert len(t) > 50
    found = np.array(
        [find_noncentrality_t(np.array([one]), nu, p)[0] for one, nu, p in zip(t, dof, probability, strict=True)]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_noncentralities_of_f_are_those_of_r():
    F, dof1, dof2, probability, expected = np.array(PINNED["noncentrality"]["F"]).T
    assert 20 < np.count_nonzero(expected == 0) < len(F) - 50
    for one in np.unique(probability):
        here = probability == one
        found = find_noncentrality_f(F[here], dof1[here], dof2[here], float(one))
        np.testing.assert_allclose(found, expected[here], rtol=1e-7, atol=1e-7)
        np.testing.assert_array_equal(found == 0, expected[here] == 0)


@pytest.mark.parametrize("dof", [1.0, 2.5, 19.0, 1e5])
@pytest.mark.parametrize("largest", [3.0, 60.0, LARGE_T])
def test_interpolated_noncentralities_of_t_have_the_tail_asked_for(dof, largest):
    t = np.random.default_rng(1).uniform(-largest, largest, 3 * N_NODES)
    t[0] = largest
    for probability in (0.0005, 0.025, 0.975, 0.9995):
        found = find_noncentrality_t(t, dof, probability)
        np.testing.assert_allclose(special.nctdtr(dof, found, t), probability, rtol=1e-6)
        scattered = t[:N_NODES]
        solved = find_noncentrality_t(scattered, dof, probability)
        error = np.abs(found[:N_NODES] - solved) / np.hypot(1.0, scattered / np.sqrt(2 * dof))
        assert error.max() < 1e-8


@pytest.mark.parametrize(("dof1", "dof2"), [(1.0, 4.0), (1.0, 19.0), (8.0, 120.0), (3.0, 1e5)])
@pytest.mark.parametrize("largest", [2.0, 50.0, 1e4])
def test_interpolated_noncentralities_of_f_have_the_tail_asked_for(dof1, dof2, largest):
    F = np.random.default_rng(2).uniform(0, largest, 3 * N_NODES)
    for probability in (0.0005, 0.025, 0.975, 0.9995):
        found = find_noncentrality_f(F, dof1, dof2, probability)
        solved = find_noncentrality_f(F[:N_NODES], dof1, dof2, probability)
        np.testing.assert_array_equal(found == 0, special.fdtr(dof1, dof2, F) <= probability)
        np.testing.assert_allclose(found[:N_NODES], solved, rtol=1e-8, atol=1e-7)
        clear = found > 1e-6
        np.testing.assert_allclose(special.ncfdtr(dof1, dof2, found, F)[clear], probability, rtol=1e-6)


@pytest.mark.parametrize("dof", [3.0, 19.0, 2000.0])
def test_bounds_of_a_huge_t_approach_the_quantiles_of_the_standard_deviation(dof):
    t = np.array([1e3, 1e5, 1e8])
    for probability in (0.025, 0.975):
        found = find_noncentrality_t(t, dof, probability)
        # P(T <= t; delta) tends to P(s > delta / t), with dof s^2 chi-squared.
        limit = np.sqrt(special.chdtri(dof, probability) / dof)
        np.testing.assert_allclose(found[1:] / t[1:], limit, rtol=1e-4)
        assert special.nctdtr(dof, found[0], t[0]) == pytest.approx(probability, rel=1e-2)


def test_intervals_are_the_same_whether_dof_are_shared_or_not():
    t = np.random.default_rng(3).normal(size=4 * N_NODES) * 4
    few = np.resize([17.0, 18.0, 19.0], len(t))
    many = few + np.linspace(0, 1e-9, len(t))
    np.testing.assert_allclose(
        find_noncentrality_t(t, few, 0.975), find_noncentrality_t(t, many, 0.975), rtol=1e-8, atol=1e-8
    )
    np.testing.assert_allclose(
        find_noncentrality_f(t**2, 2.0, few, 0.025), find_noncentrality_f(t**2, 2.0, many, 0.025), rtol=1e-7, atol=1e-8
    )


def test_bounds_rise_with_t_and_mirror_its_sign():
    t = np.sort(np.random.default_rng(4).normal(size=2000) * 30)
    lower, upper = (find_noncentrality_t(t, 11.0, p) for p in (0.975, 0.025))
    assert np.all(np.diff(lower) > 0)
    assert np.all(np.diff(upper) > 0)
    np.testing.assert_allclose(find_noncentrality_t(-t, 11.0, 0.025), -lower, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(lower > 0, stats.t.sf(t, 11) < 0.025)


def test_equal_values_everywhere_are_one_interval():
    t = np.full(2 * N_NODES, 2.0)
    np.testing.assert_allclose(find_noncentrality_t(t, 9.0, 0.025), find_noncentrality_t(t[:1], 9.0, 0.025)[0])
    assert find_noncentrality_t(np.array([]), 9.0, 0.025).shape == (0,)


def test_d_and_partial_eta_squared_are_those_of_pingouin():
    one = fit_samples(SAMPLES[:1], [1])
    d = compute_cohens_d(compute_t(one, 0), np.sqrt(one.residual_variance))
    np.testing.assert_allclose(d.value, PINNED["pingouin"]["d_one_sample"], rtol=1e-12)
    two = fit_samples(SAMPLES[:2], [1, -1])
    d = compute_cohens_d(compute_t(two, 0), np.sqrt(two.residual_variance))
    np.testing.assert_allclose(d.value, PINNED["pingouin"]["d_two_samples"], rtol=1e-12)
    F = compute_f(fit_samples(SAMPLES, [[1, -1, 0], [0, 1, -1]]), 0)
    np.testing.assert_allclose(
        compute_partial_eta_squared(F).value, PINNED["pingouin"]["partial_eta_squared"], rtol=1e-10
    )


def test_interval_of_two_samples_is_the_one_of_the_noncentral_t():
    fit = fit_samples(SAMPLES[:2], [1, -1])
    t = compute_t(fit, 0)
    d = compute_cohens_d(t, np.sqrt(fit.residual_variance), confidence=0.9)
    unit = np.sqrt(1 / 9 + 1 / 12)
    np.testing.assert_allclose(stats.nct.sf(t.value, 19, d.lower / unit), 0.05, rtol=1e-8)
    np.testing.assert_allclose(stats.nct.cdf(t.value, 19, d.upper / unit), 0.05, rtol=1e-8)
    assert (d.measure, d.confidence) == ("cohens_d", 0.9)


@pytest.mark.parametrize("true_d", [0.0, 0.8])
def test_interval_of_d_covers_the_true_d_as_often_as_it_says(true_d):
    data = np.random.default_rng(20240122).normal(size=(12, 20_000)) + true_d
    fit = fit_glm(data, np.ones((12, 1)), [np.ones((1, 1))])
    d = compute_cohens_d(compute_t(fit, 0), np.sqrt(fit.residual_variance), confidence=0.9)
    for missed in (d.lower > true_d, d.upper < true_d):
        low, high = stats.binom.ppf([0.0005, 0.9995], 20_000, 0.05)
        assert low <= np.count_nonzero(missed) <= high


def test_interval_of_partial_eta_squared_covers_the_true_one_as_often_as_it_says():
    matrix = np.kron(np.eye(3), np.ones((8, 1)))
    means = np.array([0.0, 0.5, 1.2])
    data = np.random.default_rng(20240123).normal(size=(24, 20_000)) + (matrix @ means)[:, None]
    fit = fit_glm(data, matrix, [np.array([[1.0, -1, 0], [0, 1, -1]])])
    eta2 = compute_partial_eta_squared(compute_f(fit, 0), confidence=0.9)
    noncentrality = 8 * np.sum((means - means.mean()) ** 2)
    true = noncentrality / (noncentrality + 24)
    for missed in (eta2.lower > true, eta2.upper < true):
        low, high = stats.binom.ppf([0.0005, 0.9995], 20_000, 0.05)
        assert low <= np.count_nonzero(missed) <= high


def test_partial_eta_squared_of_t_is_that_of_its_square_as_f():
    t = np.random.default_rng(5).normal(size=50) * 3
    one = compute_partial_eta_squared(Statistic("t", t, t, np.ones(50), 1.0, 14.0))
    other = compute_partial_eta_squared(Statistic("F", t**2, None, None, 1.0, 14.0))
    for name in ("value", "lower", "upper"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert np.all((one.lower >= 0) & (one.lower <= one.upper) & (one.upper < 1))


def test_d_of_f_bad_standard_deviations_and_bad_confidences_are_refused():
    F, t = (
        Statistic("F", np.ones(2), None, None, 2.0, 9.0),
        Statistic("t", np.ones(2), np.ones(2), np.ones(2), 1.0, 9.0),
    )
    with pytest.raises(ValueError, match="Cohen's d is of a t contrast"):
        compute_cohens_d(F, np.ones(2))
    with pytest.raises(ValueError, match="1 voxels have a standard deviation that is not positive"):
        compute_cohens_d(t, np.array([1.0, 0.0]))
    for confidence in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match="the confidence of an interval is between 0 and 1"):
            compute_partial_eta_squared(F, confidence=confidence)
