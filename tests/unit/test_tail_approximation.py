"""Small p from a fitted tail: maximum likelihood, its goodness of fit, and what becomes of p."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bids_group.stats.permutation.tail_approximation import (
    FIT_P,
    FIT_POINTS,
    FIT_SHAPES,
    approximate_tail,
    compute_fit_p,
    fit_generalised_pareto,
)

SEEDS = st.integers(0, 2**32 - 1)


def compute_loss(values, shape, scale):
    return -stats.genpareto.logpdf(values, shape, scale=scale).mean()


def draw_exceedances(shape, size, seed):
    return np.sort(stats.genpareto.rvs(shape, scale=2.5, size=size, random_state=np.random.default_rng(seed)), axis=-1)


@pytest.mark.parametrize("shape", [-0.4, -0.2, 0.0, 0.1, 0.4, 0.9])
def test_the_fit_is_the_maximum_likelihood_of_scipy(shape):
    values = draw_exceedances(shape, 400, 1)
    fitted = fit_generalised_pareto(values)
    oracle_shape, _, oracle_scale = stats.genpareto.fit(values, floc=0)
    np.testing.assert_allclose(fitted, (oracle_shape, oracle_scale), rtol=2e-3, atol=2e-3)
    assert compute_loss(values, *fitted) <= compute_loss(values, oracle_shape, oracle_scale) + 1e-9


def test_the_fit_follows_the_scale_of_the_values():
    values = draw_exceedances(-0.1, 300, 2)
    shape, scale = fit_generalised_pareto(values)
    np.testing.assert_allclose(fit_generalised_pareto(1e-6 * values), (shape, 1e-6 * scale), rtol=1e-5)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2])
def test_a_true_tail_is_refused_in_5_of_100_cases(shape):
    samples = draw_exceedances(shape, (600, 125), 10)
    refused = sum(compute_fit_p(values, *fit_generalised_pareto(values)) <= 0.05 for values in samples)
    assert stats.binom.ppf(0.001, 600, 0.05) <= refused <= stats.binom.ppf(0.999, 600, 0.05)


def test_tail_points_of_the_fit_fall_smoothly_with_shape_and_rise_as_p_falls():
    points = np.log(FIT_POINTS)
    assert FIT_POINTS.shape == (len(FIT_SHAPES), len(FIT_P))
    assert np.all(np.diff(points, axis=1) > 0)
    assert np.all(np.diff(points, axis=0) < 0)
    # A slip of a digit, of 1% or more, bends the curve over the equal steps of shape more than this.
    bends = np.diff(points[FIT_SHAPES <= 0.2], 2, axis=0)
    assert 0 < bends.min() <= bends.max() < 0.012


def test_the_goodness_of_fit_of_a_known_sample_is_the_anderson_darling_of_the_definition():
    values = draw_exceedances(0.0, 60, 4)
    n, cdf = len(values), stats.expon.cdf(values, scale=values.mean())
    terms = [(2 * j + 1) * (np.log(cdf[j]) + np.log(1 - cdf[n - 1 - j])) for j in range(n)]
    expected = np.interp(-n - np.sum(terms) / n, [0.397, 0.569, 0.796, 0.974], [0.5, 0.25, 0.1, 0.05])
    assert compute_fit_p(values, 0.0, values.mean()) == pytest.approx(expected, rel=1e-9)


def test_a_tail_that_is_not_pareto_is_refused():
    rng = np.random.default_rng(5)
    lumps = np.sort(np.concatenate([rng.normal(1, 0.01, 100), rng.normal(5, 0.01, 100)]))
    assert compute_fit_p(lumps, *fit_generalised_pareto(lumps)) <= 0.005


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.1])
def test_p_of_a_known_quantile_is_found_more_precisely_than_by_counting(shape):
    quantile = np.array([stats.genpareto.isf(2e-3, shape)])
    nulls = stats.genpareto.rvs(shape, size=(200, 2000), random_state=np.random.default_rng(9))
    fits = [approximate_tail(null, quantile) for null in nulls]
    accepted = [fit.is_accepted for fit in fits]
    fitted = np.log10([fit.p[0] / 2e-3 for fit in fits])
    counted = np.log10(np.maximum(np.mean(nulls >= quantile, axis=1), 1 / 2000) / 2e-3)
    assert np.mean(accepted) > 0.98
    assert abs(np.median(fitted)) < 0.06
    assert np.std(fitted) < 0.95 * np.std(counted)


def test_small_p_are_the_fitted_tail_and_large_ones_empirical():
    null = np.random.default_rng(6).gumbel(size=5000)
    observed = np.quantile(null, [0.05, 0.5, 0.85, 0.95, 0.999])
    fit = approximate_tail(null, observed)
    empirical = np.array([np.mean(null >= value) for value in observed])
    np.testing.assert_array_equal(fit.p[:3], empirical[:3])
    tail = stats.genpareto.sf(observed[3:] - fit.threshold, fit.shape, scale=fit.scale)
    np.testing.assert_allclose(fit.p[3:], fit.n_exceedances / 5000 * tail, rtol=1e-12)
    np.testing.assert_allclose(fit.p[3:], empirical[3:], rtol=0.3)
    assert fit.is_accepted
    assert fit.n_exceedances == np.count_nonzero(null > fit.threshold)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from(["normal", "gumbel", "chisquare", "lumps"]))
def test_p_never_increases_with_the_observed_value(seed, kind):
    rng = np.random.default_rng(seed)
    null = {
        "normal": lambda: rng.normal(size=400),
        "gumbel": lambda: rng.gumbel(size=400),
        "chisquare": lambda: rng.chisquare(2, size=400).round(2),
        "lumps": lambda: np.concatenate([rng.normal(size=350), rng.normal(30, 1, size=50)]),
    }[kind]()
    fit = approximate_tail(null, np.linspace(null.min() - 1, 2 * null.max(), 500))
    assert np.all(np.diff(fit.p) <= 0)
    assert fit.p.min() >= 1 / 400**2
    assert fit.p[0] == 1


def test_the_threshold_is_raised_until_the_tail_fits():
    rng = np.random.default_rng(7)
    null = np.concatenate([rng.uniform(0, 1, 8000), [1.0] * 500, 1 + rng.exponential(size=1500)])
    fit = approximate_tail(null, np.array([8.0]))
    assert fit.is_accepted
    assert fit.threshold >= 1
    assert fit.n_exceedances <= 1500
    assert fit.p[0] == pytest.approx(0.15 * np.exp(-7), rel=0.6)


def test_a_discrete_null_keeps_its_empirical_p_with_ties_counted():
    null = np.repeat(np.arange(20.0), 50)
    fit = approximate_tail(null, np.array([0.0, 19.0, 18.5, 25.0]))
    assert not fit.is_accepted
    np.testing.assert_allclose(fit.p, [1.0, 0.05, 0.05, 0.001], rtol=1e-15)


def test_beyond_the_end_of_the_tail_p_is_not_zero():
    null = np.random.default_rng(8).beta(1, 3, size=2000)
    fit = approximate_tail(null, np.array([5.0, 50.0]))
    assert fit.is_accepted
    assert fit.threshold - fit.scale / fit.shape < 5
    np.testing.assert_array_equal(fit.p, 1 / 2000**2)


def test_few_values_are_not_fitted():
    fit = approximate_tail(np.arange(100.0), np.array([98.0, 200.0]))
    assert not fit.is_accepted
    assert np.isnan(fit.shape)
    np.testing.assert_allclose(fit.p, [0.02, 0.01])


@pytest.mark.parametrize(("null", "observed"), [([], [1.0]), ([1.0, np.nan], [1.0]), ([1.0, 2.0], [np.inf])])
def test_what_has_no_order_is_refused(null, observed):
    with pytest.raises(ValueError, match="finite"):
        approximate_tail(np.array(null), np.array(observed))
