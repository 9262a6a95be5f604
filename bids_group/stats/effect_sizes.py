"""Standardised effect sizes, with confidence intervals from the noncentral t and F.

An interval holds the noncentralities under which the statistic seen is no more extreme than its tails allow:

    P(T <= t; upper) = P(T >= t; lower) = (1 - confidence) / 2.

Where many voxels share their degrees of freedom, the noncentrality is a smooth function of the statistic: it is solved
for at Chebyshev points and interpolated. Elsewhere it is solved for voxel by voxel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.polynomial.chebyshev import Chebyshev
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bids_group.stats.glm import Statistic

Measure = Literal["cohens_d", "partial_eta_squared"]

CONFIDENCE = 0.95
# With so many nodes an interpolated noncentrality is within 1e-8 standard errors of the solved one, for 1 to 1e5
# degrees of freedom.
N_NODES = 96
# Relative to 1 + the noncentrality.
SOLVER_TOLERANCE = 1e-12
MAX_ITERATIONS = 200
# Beyond these SciPy's noncentral distributions take long or fail, and a bound's distance from the statistic, in
# standard errors, no longer moves.
LARGE_T = 500.0
LARGE_F = 250_000.0
# The first guess of an upper end lies so many standard errors above the statistic, and moves up until it is one.
FIRST_BRACKET = 4.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EffectSize:
    """The map of an effect size and of its confidence interval.

    Attributes
    ----------
    measure : {'cohens_d', 'partial_eta_squared'}
    value, lower, upper : ndarray of float64, shape (n_voxels,)
        Without units. The interval is two-sided, voxel by voxel, not corrected for their number.
    confidence : float
        Its coverage.
    """

    measure: Measure
    value: Floats
    lower: Floats
    upper: Floats
    confidence: float


def compute_cohens_d(statistic: Statistic, standard_deviation: Floats, *, confidence: float = CONFIDENCE) -> EffectSize:
    """Compute Cohen's d of a contrast of one row, with its interval from the noncentral t.

    ``d = effect / SD``; with ``sqrt(variance) / SD`` as the unit, the interval of the noncentrality is that of d.
    With the SD of the subject scores it is d_z, with the residual SD the d of groups. It has no correction for small
    samples. The interval is exact where ``variance / SD^2`` is known, as in ordinary least squares, and an
    approximation for a v or a meta-analysis.

    Parameters
    ----------
    statistic : Statistic
        Of test t.
    standard_deviation : ndarray of float64, shape (n_voxels,)
        In the units of the effect, positive.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    EffectSize

    Raises
    ------
    ValueError
        If the statistic is an F, an SD is not positive, or the confidence is not between 0 and 1.

    References
    ----------
    Cohen 1988, Statistical Power Analysis, sections 2.2 and 2.3; Steiger & Fouladi 1997, chapter 9.
    """
    if statistic.test != "t" or statistic.effect is None or statistic.variance is None:
        raise ValueError("Cohen's d is of a t contrast; an F has partial eta squared")
    tail = _require_tail(confidence)
    n_bad = np.count_nonzero(~(standard_deviation > 0))
    if n_bad:
        raise ValueError(f"{n_bad} voxels have a standard deviation that is not positive")
    unit = np.sqrt(statistic.variance) / standard_deviation
    lower, upper = (find_noncentrality_t(statistic.value, statistic.dof, p) * unit for p in (1.0 - tail, tail))
    return EffectSize("cohens_d", statistic.effect / standard_deviation, lower, upper, confidence)


def compute_partial_eta_squared(statistic: Statistic, *, confidence: float = CONFIDENCE) -> EffectSize:
    """Compute partial eta squared of an F, or of a t as ``F = t^2``, with its interval from the noncentral F.

    ``eta2 = r1 F / (r1 F + r2)`` from the test's degrees of freedom; the bounds are
    ``lambda / (lambda + r1 + r2 + 1)`` of the noncentrality's.

    Parameters
    ----------
    statistic : Statistic
    confidence : float
        Between 0 and 1. The test at 0.05 goes with an interval of 0.90, since F has one tail.

    Returns
    -------
    EffectSize
        The lower bound is 0 where F is no larger than its central quantile. The value may lie outside of a
        narrow interval, for it overestimates.

    Raises
    ------
    ValueError
        If the confidence is not between 0 and 1.

    References
    ----------
    Cohen 1973, Educ Psychol Meas 33; Smithson 2001, Educ Psychol Meas 61; Steiger 2004, Psychol Methods 9.
    """
    tail = _require_tail(confidence)
    F = statistic.value if statistic.test == "F" else statistic.value**2
    explained = statistic.dof_effect * F
    n_units = statistic.dof_effect + statistic.dof + 1.0
    bounds = (find_noncentrality_f(F, statistic.dof_effect, statistic.dof, p) for p in (1.0 - tail, tail))
    lower, upper = (noncentrality / (noncentrality + n_units) for noncentrality in bounds)
    return EffectSize("partial_eta_squared", explained / (explained + statistic.dof), lower, upper, confidence)


def _require_tail(confidence: float) -> float:
    """Return the probability of either tail outside of an interval."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"the confidence of an interval is between 0 and 1, not {confidence}")
    return 0.5 * (1.0 - confidence)


def find_noncentrality_t(t: Floats, dof: ArrayLike, probability: float) -> Floats:
    """Find the noncentrality under which t has a given lower tail: ``P(T <= t; delta) = probability``.

    Parameters
    ----------
    t : ndarray of float64, shape (n_voxels,)
        Finite.
    dof : array_like of float, >= 1, one or of shape (n_voxels,)
    probability : float
        Between 0.0005 and 0.9995.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)

    References
    ----------
    Steiger & Fouladi 1997, What if there were no significance tests?, chapter 9.

    Examples
    --------
    >>> find_noncentrality_t(np.array([0.0]), 10.0, 0.975).round(6)
    array([-1.959964])
    """
    dof = np.broadcast_to(np.asarray(dof, dtype=np.float64), t.shape)
    noncentrality = np.empty(t.shape)
    # P(T <= -t; -delta) = P(T >= t; delta): one half of the line is enough.
    for chosen, sign, tail in ((t >= 0, 1.0, probability), (t < 0, -1.0, 1.0 - probability)):
        size, here = np.abs(t[chosen]), dof[chosen]
        places = np.arcsinh(np.minimum(size, LARGE_T) / np.sqrt(2.0 * here))
        bounds = _solve_or_interpolate(partial(_solve_t, probability=tail), places, (here,))
        noncentrality[chosen] = sign * (size + bounds * np.hypot(1.0, size / np.sqrt(2.0 * here)))
    return noncentrality


def _solve_t(places: Floats, dof: Floats, probability: float) -> Floats:
    """Return the bound's distance from t, in standard errors, for ``t = sqrt(2 dof) sinh(place)``, at least 0."""
    t, standard_error = np.sqrt(2.0 * dof) * np.sinh(places), np.cosh(places)
    # P(T <= t; delta) >= P(T <= 0; delta) = Phi(-delta).
    lower = np.full(t.shape, -special.ndtri(probability))
    upper = np.maximum(t, lower) + FIRST_BRACKET * standard_error
    return (_solve(partial(_cdf_t, t, dof), probability, lower, upper) - t) / standard_error


def _cdf_t(t: Floats, dof: Floats, noncentrality: Floats) -> Floats:
    """Return the lower tail of the noncentral t."""
    tail = special.nctdtr(dof, noncentrality, t)
    # SciPy has no number for some tails more than seven standard errors away, which are 0 or 1 to rounding.
    return np.where(np.isnan(tail), noncentrality < t, tail)


def find_noncentrality_f(F: Floats, dof1: ArrayLike, dof2: ArrayLike, probability: float) -> Floats:
    """Find the noncentrality under which F has a given lower tail: ``P(F' <= F; lambda) = probability``.

    Parameters
    ----------
    F : ndarray of float64, shape (n_voxels,)
        Finite, at least 0.
    dof1, dof2 : array_like of float, >= 1, one or of shape (n_voxels,)
        Of the numerator and of the denominator.
    probability : float
        Between 0.0005 and 0.9995.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        0 where the tail is smaller even without noncentrality.

    References
    ----------
    Steiger 2004, Psychol Methods 9.
    """
    first, second = (np.broadcast_to(np.asarray(dof, dtype=np.float64), F.shape) for dof in (dof1, dof2))
    central = special.fdtri(first, second, probability)
    places = np.log(np.clip(F, central, np.maximum(central, LARGE_F)))
    bounds = _solve_or_interpolate(partial(_solve_f, probability=probability), places, (first, second))
    return np.where(central < F, np.maximum(bounds, 0.0) * _spread_f(F, first, second), 0.0)


def _solve_f(places: Floats, dof1: Floats, dof2: Floats, probability: float) -> Floats:
    """Return the noncentrality, in standard errors, for ``F = exp(place)``."""
    F = np.exp(places)
    spread = _spread_f(F, dof1, dof2)
    upper = dof1 * F + FIRST_BRACKET * spread
    found = _solve(lambda shift: special.ncfdtr(dof1, dof2, shift, F), probability, np.zeros(F.shape), upper)
    return found / spread


def _spread_f(F: Floats, dof1: Floats, dof2: Floats) -> Floats:
    """Return about the standard error of ``dof1 F`` at a noncentrality of ``dof1 F`` itself."""
    return np.sqrt(2.0 * dof1 * (1.0 + 2.0 * F) + 2.0 * (dof1 * F) ** 2 / dof2)


def _solve_or_interpolate(solve: Callable[..., Floats], places: Floats, dofs: tuple[Floats, ...]) -> Floats:
    """Evaluate a smooth function of the places, by interpolation wherever more voxels than nodes share their dof."""
    kinds, members, counts = np.unique(np.stack(dofs), axis=1, return_inverse=True, return_counts=True)
    result = np.empty(places.shape)
    alone = counts[members] <= N_NODES
    result[alone] = solve(places[alone], *(dof[alone] for dof in dofs))
    for kind in np.flatnonzero(counts > N_NODES):
        chosen = members == kind
        first, last = places[chosen].min(), places[chosen].max()
        # Equal places span no domain; any wider one holds them.
        domain = [first, last if last > first else first + 1.0]
        curve = Chebyshev.interpolate(_share(solve, kinds[:, kind]), N_NODES - 1, domain)
        result[chosen] = curve(places[chosen])
    return result


def _share(solve: Callable[..., Floats], dofs: Floats) -> Callable[[Floats], Any]:
    """Return the function of the places alone, at the same degrees of freedom for all of them."""
    return lambda places: solve(places, *(np.full(places.shape, dof) for dof in dofs))


def _solve(cdf: Callable[[Floats], Floats], probability: float, lower: Floats, upper: Floats) -> Floats:
    """Find where a falling function takes a value, by regula falsi with the Illinois rule.

    The value at `lower` is at least `probability`; `upper` is moved up until the value there is at most that.
    """
    low, high = lower, upper
    at_low, at_high = cdf(low) - probability, cdf(high) - probability
    while np.any(at_high > 0):
        high = np.where(at_high > 0, high + 2.0 * (high - low), high)
        at_high = cdf(high) - probability
    last, side = low, np.zeros(low.shape)
    for _ in range(MAX_ITERATIONS):
        fall = at_low - at_high
        part = np.divide(at_low, fall, out=np.full(fall.shape, 0.5), where=fall > 0)
        guess = low + np.clip(part, 0.0, 1.0) * (high - low)
        if np.all(np.abs(guess - last) <= SOLVER_TOLERANCE * (1.0 + np.abs(guess))):
            break
        last, above = guess, cdf(guess) - probability
        is_low = above > 0
        # An end that stays twice in a row counts half, or it would stay for ever.
        at_high = np.where(is_low, np.where(side > 0, 0.5 * at_high, at_high), above)
        at_low = np.where(is_low, above, np.where(side < 0, 0.5 * at_low, at_low))
        low, high = np.where(is_low, guess, low), np.where(is_low, high, guess)
        side = np.where(is_low, 1.0, -1.0)
    return guess
