"""Random field theory: what the smoothness of the noise means for the height of voxels and the size of clusters.

The smoothness and the shape of the mask give the resels; the resels and the Euler
characteristic (EC) densities of t or F give the expected EC of what exceeds a height, which for a high one is the
probability that anything does. The noise is taken to be a stationary Gaussian field, finely sampled: FWHM of three
voxels or more. All p are of the upper tail and in logarithms; `log_p_heights` and `log_p_extents` know the tails.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from bids_group.stats import distributions
from bids_group.stats.distributions import LOG_HALF
from bids_group.stats.glm import Statistic
from bids_group.stats.smoothness import N_DIMENSIONS, Smoothness
from bids_group.vocabulary import Tail, Test

# Above this cluster-forming p the theory's false positives far exceed alpha: Eklund, Nichols & Knutsson 2016, figure 1.
LARGEST_CLUSTER_FORMING_P = 0.001
# A p that is the limit itself may come back from its threshold some roundings larger.
P_TOLERANCE = 1e-9
# The squared FWHM of a Gaussian is this times its variance; resels per FWHM are sqrt(4 log 2) of the field's own units.
RESEL_UNIT = 4.0 * np.log(2.0)
# The expected EC falls from its last maximum on, which lies among the heights of these p.
HEIGHTS_OF_P = np.geomspace(0.5, 1e-8, 512)
# Below this, log(1 - exp(-exp(x))) is x to rounding.
SMALLEST_LOG_POISSON = -40.0

Floats = NDArray[np.float64]
Signed = tuple[Floats, Floats]  # logarithm of the absolute value, and sign


@dataclass(frozen=True)
class Field:
    """The distribution of a field: t, or F.

    Attributes
    ----------
    test : {'t', 'F'}
    dof_effect : float
        Of the numerator; 1 for t.
    dof : float
        Of the error.
    """

    test: Test
    dof_effect: float
    dof: float


def make_field(statistic: Statistic) -> Field:
    """Return the field that a statistic is a sample of.

    Parameters
    ----------
    statistic : Statistic

    Returns
    -------
    Field

    Raises
    ------
    ValueError
        If degrees of freedom differ between voxels, or are too few for three dimensions.
    """
    if np.ptp(statistic.dof) > 0 or np.ptp(statistic.dof_effect) > 0:
        raise ValueError(
            "random field theory needs the same degrees of freedom at every voxel; ask for permutation instead"
        )
    dof_effect, dof = float(np.ravel(statistic.dof_effect)[0]), float(np.ravel(statistic.dof)[0])
    # Fields of t and F are defined, and their densities fall to 0, where the error has more dof than space dimensions.
    if dof <= N_DIMENSIONS:
        raise ValueError(
            f"random field theory needs more than {N_DIMENSIONS} degrees of freedom, there are {dof:g}; add maps"
        )
    return Field(statistic.test, dof_effect, dof)


def ec_densities_t(t: ArrayLike, dof: float) -> Floats:
    """Compute the EC densities of a field of t, per resel.

    With ``a = 4 log 2``, ``nu`` dof and ``c = (1 + t^2 / nu)^(-(nu - 1) / 2)``: ``rho_0 = sf(t)``,
    ``rho_1 = a^(1/2) / (2 pi) c``,
    ``rho_2 = a / (2 pi)^(3/2) G((nu + 1) / 2) / ((nu / 2)^(1/2) G(nu / 2)) t c``,
    ``rho_3 = a^(3/2) / (2 pi)^2 ((nu - 1) t^2 / nu - 1) c``.

    Parameters
    ----------
    t : array_like of float, shape (...)
    dof : float
        More than 3, for all four densities to fall to 0.

    Returns
    -------
    ndarray of float64, shape (4, ...)
        Of 0 to 3 dimensions.

    References
    ----------
    Worsley et al. 1996, Human Brain Mapping 4:58-73, table of EC densities.
    """
    return _exponentiate(_log_densities_t(np.asarray(t, np.float64), dof))


def ec_densities_f(F: ArrayLike, dof1: float, dof2: float) -> Floats:
    """Compute the EC densities of a field of F, per resel.

    With ``b = 4 log 2 / (2 pi)``, k and nu dof, ``x = k F / nu`` and
    ``c_d = b^(d/2) G((nu + k - d) / 2) / (G(nu / 2) G(k / 2)) x^((k - d) / 2) (1 + x)^(-(nu + k - 2) / 2)``:
    ``rho_0 = sf(F)``, ``rho_1 = 2^(1/2) c_1``, ``rho_2 = c_2 ((nu - 1) x - (k - 1))``,
    ``rho_3 = 2^(-1/2) c_3 ((nu - 1)(nu - 2) x^2 - (2 nu k - nu - k - 1) x + (k - 1)(k - 2))``.

    Parameters
    ----------
    F : array_like of float, >= 0, shape (...)
        0 is taken as the smallest double above it.
    dof1, dof2 : float
        Of the numerator, and of the error: more than 3.

    Returns
    -------
    ndarray of float64, shape (4, ...)
        Of 0 to 3 dimensions.

    References
    ----------
    Worsley et al. 1996, Human Brain Mapping 4:58-73, table of EC densities.
    """
    return _exponentiate(_log_densities_f(np.asarray(F, np.float64), dof1, dof2))


def _exponentiate(signed: Signed) -> Floats:
    """Return the values of which logarithm and sign are given."""
    return signed[1] * np.exp(signed[0])


def _log_densities(value: Floats, field: Field) -> Signed:
    """Return the logarithms and signs of a field's EC densities, of shape (4, ...)."""
    if field.test == "t":
        return _log_densities_t(value, field.dof)
    return _log_densities_f(value, field.dof_effect, field.dof)


def _log_densities_t(t: Floats, dof: float) -> Signed:
    """Return the logarithms and signs of the EC densities of t, of shape (4, ...)."""
    size = np.log(np.maximum(np.abs(t), distributions.SMALLEST_F))
    log_x = 2.0 * size - np.log(dof)
    fall = -(dof - 1) / 2 * np.logaddexp(0.0, log_x)
    unit, turn = np.log(RESEL_UNIT) / 2, np.log(2 * np.pi)
    gammas = special.gammaln((dof + 1) / 2) - special.gammaln(dof / 2) - np.log(dof / 2) / 2
    log_cubic, sign_cubic = _log_polynomial((-1.0, dof - 1.0), log_x)
    logs = [
        distributions.log_sf_t(t, dof),
        unit - turn + fall,
        2 * unit - 1.5 * turn + gammas + size + fall,
        3 * unit - 2 * turn + log_cubic + fall,
    ]
    return np.stack(logs), np.stack([np.ones_like(t), np.ones_like(t), np.sign(t), sign_cubic])


def _log_densities_f(F: Floats, k: float, nu: float) -> Signed:
    """Return the logarithms and signs of the EC densities of F, of shape (4, ...)."""
    F = np.maximum(F, distributions.SMALLEST_F)
    log_x = np.log(F) + np.log(k) - np.log(nu)
    fall = -(nu + k - 2) / 2 * np.logaddexp(0.0, log_x) - special.gammaln(nu / 2) - special.gammaln(k / 2)
    polynomials = [
        (np.sqrt(2.0),),
        (-(k - 1), nu - 1),
        tuple(np.array([(k - 1) * (k - 2), -(2 * nu * k - nu - k - 1), (nu - 1) * (nu - 2)]) / np.sqrt(2.0)),
    ]
    logs, signs = [distributions.log_sf_f(F, k, nu)], [np.ones_like(log_x)]
    for dimension, coefficients in enumerate(polynomials, start=1):
        factor, sign = _log_polynomial(coefficients, log_x)
        constant = dimension / 2 * np.log(RESEL_UNIT / (2 * np.pi)) + special.gammaln((nu + k - dimension) / 2)
        logs.append(constant + (k - dimension) / 2 * log_x + fall + factor)
        signs.append(sign)
    return np.stack(logs), np.stack(signs)


def _log_polynomial(coefficients: tuple[float, ...], log_x: Floats) -> Signed:
    """Return logarithm and sign of ``sum_i c_i x^i``; divided by its largest power, no ``x`` overflows."""
    degree = len(coefficients) - 1
    small, large = np.minimum(log_x, 0.0), np.maximum(log_x, 0.0)
    total = sum(one * np.exp(i * small - (degree - i) * large) for i, one in enumerate(coefficients))
    with np.errstate(divide="ignore"):
        return degree * large + np.log(np.abs(total)), np.sign(total)


def expected_ec(value: ArrayLike, field: Field, resels: Floats) -> Floats:
    """Compute the expected Euler characteristic of what exceeds a height: ``sum_d R_d rho_d(value)``.

    Parameters
    ----------
    value : array_like of float, shape (...)
    field : Field
    resels : ndarray of float64, shape (4,)

    Returns
    -------
    ndarray of float64, shape (...)

    References
    ----------
    Worsley et al. 1996, Human Brain Mapping 4:58-73.
    """
    return _exponentiate(_log_expected_ec(np.asarray(value, np.float64), field, resels))


def _log_expected_ec(value: Floats, field: Field, resels: Floats) -> Signed:
    """Return logarithm and sign of the expected EC."""
    return _log_sum(*_log_densities(value, field), resels)


def _log_sum(logs: Floats, signs: Floats, resels: Floats) -> Signed:
    """Return logarithm and sign of the sum over dimensions of resels times densities."""
    weights = signs * resels.reshape(-1, *([1] * (logs.ndim - 1)))
    log_size, sign = special.logsumexp(logs, axis=0, b=weights, return_sign=True)
    return np.asarray(log_size), np.asarray(sign)


def log_p_fwe(value: ArrayLike, field: Field, smoothness: Smoothness) -> Floats:
    """Return the logarithm of the familywise p of heights, the smaller one of random field theory's and Bonferroni's.

    ``p = min(1, V sf(value), EC(value))``, but at least ``sf(value)``. Below the last height at which the expected EC
    rises, where it no longer counts peaks, its largest value stands for it; so p falls with height everywhere.

    Parameters
    ----------
    value : array_like of float, shape (...)
        Of the upper tail.
    field : Field
    smoothness : Smoothness

    Returns
    -------
    ndarray of float64, shape (...)
        At most 0; finite for every finite value.

    References
    ----------
    Worsley et al. 1996, Human Brain Mapping 4:58-73.
    """
    return _log_p_above(np.asarray(value, np.float64), field, smoothness, _find_last_rise(field, smoothness.resels))


def _log_p_above(value: Floats, field: Field, smoothness: Smoothness, last_rise: tuple[float, float]) -> Floats:
    """Return the logarithm of the familywise p of heights, given what `_find_last_rise` found."""
    lowest, log_largest = last_rise
    logs, signs = _log_densities(value, field)
    log_ec, sign = _log_sum(logs, signs, smoothness.resels)
    log_ec = np.where(value <= lowest, log_largest, np.where(sign > 0, log_ec, -np.inf))
    log_sf = logs[0]
    smaller = np.minimum(log_ec, log_sf + np.log(smoothness.n_voxels))
    return np.minimum(0.0, np.maximum(log_sf, smaller))


def _find_last_rise(field: Field, resels: Floats) -> tuple[float, float]:
    """Return the height from which on the expected EC falls, and the logarithm of its largest value up to there."""
    heights = _find_height(HEIGHTS_OF_P, field)
    log_ec, sign = _log_expected_ec(heights, field, resels)
    log_ec = np.where(sign > 0, log_ec, -np.inf)
    rising = np.flatnonzero(log_ec[1:] > log_ec[:-1])
    last = int(rising[-1]) + 1 if len(rising) else 0
    return float(heights[last]), float(log_ec.max())


def _log_sf(value: Floats, field: Field) -> Floats:
    """Return the logarithm of the upper tail of one voxel."""
    if field.test == "t":
        return distributions.log_sf_t(value, field.dof)
    return distributions.log_sf_f(np.maximum(value, 0.0), field.dof_effect, field.dof)


def _find_height(p: ArrayLike, field: Field) -> Floats:
    """Return the value whose upper tail, at one voxel, is p."""
    if field.test == "t":
        return np.asarray(stats.t.isf(p, field.dof))
    return np.asarray(stats.f.isf(p, field.dof_effect, field.dof))


def find_threshold(alpha: float, field: Field, smoothness: Smoothness) -> float:
    """Find the height whose familywise p is alpha: ``log_p_fwe(threshold) = log(alpha)``.

    Parameters
    ----------
    alpha : float
        Of the upper tail, between 0 and 1.
    field : Field
    smoothness : Smoothness

    Returns
    -------
    float
        At most Bonferroni's threshold.

    Raises
    ------
    ValueError
        If alpha is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, not at {alpha}")
    lowest, highest = (float(_find_height(p, field)) for p in (alpha, alpha / smoothness.n_voxels))
    last_rise = _find_last_rise(field, smoothness.resels)

    def exceed(value: float) -> float:
        return float(_log_p_above(np.asarray(value), field, smoothness, last_rise) - np.log(alpha))

    return _find_root(exceed, lowest, highest)


def _find_root(falling: Callable[[float], float], lowest: float, highest: float) -> float:
    """Return where a falling function crosses 0; an end where it does so to rounding."""
    if falling(lowest) <= 0:
        return lowest
    if falling(highest) >= 0:
        return highest
    return float(optimize.brentq(falling, lowest, highest, xtol=1e-12, rtol=1e-14))


def log_p_fwe_clusters(n_voxels: ArrayLike, threshold: float, field: Field, smoothness: Smoothness) -> Floats:
    """Return the logarithm of the familywise p of clusters of the upper tail, by their extent.

    ``p = 1 - exp(-m q)``: ``m`` the expected EC at the threshold stands for the number of clusters, and one of them
    has at least k resels with ``q = exp(-(G(D / 2 + 1) k rho_D / rho_0)^(2/D))``.

    Parameters
    ----------
    n_voxels : array_like of int, shape (n_clusters,)
        Extents.
    threshold : float
        Cluster-forming, in units of the field.
    field : Field
    smoothness : Smoothness

    Returns
    -------
    ndarray of float64, shape (n_clusters,)
        At most 0.

    Raises
    ------
    ValueError
        If the upper tail of the threshold exceeds 0.001, or the mask has no extent.

    References
    ----------
    Friston et al. 1994, Human Brain Mapping 1:210-220; Worsley et al. 1996, Human Brain Mapping 4:58-73 (the EC).
    """
    log_p = float(_log_sf(np.asarray(threshold, np.float64), field))
    _require_high_threshold(log_p)
    # A mask of many tunnels has negative R0 and R1, which no number of clusters has.
    resels = np.maximum(smoothness.resels, 0.0)
    if not np.any(resels[1:] > 0):
        raise ValueError("no two voxels of the mask are neighbours, so that clusters have no extent")
    n_dims = int(np.flatnonzero(resels > 0)[-1])
    log_density = _log_densities(np.asarray(threshold, np.float64), field)[0][n_dims]
    extent = np.asarray(n_voxels, np.float64) / smoothness.resel_size
    ratio = np.exp(special.gammaln(n_dims / 2 + 1) + log_density - log_p)
    log_tail = -((ratio * extent) ** (2 / n_dims))
    log_ec, _ = _log_expected_ec(np.asarray(threshold, np.float64), field, resels)
    return _log_any(log_ec + log_tail)


def _require_high_threshold(log_p: float) -> None:
    """Refuse a cluster-forming p at which extents do not follow the theory."""
    if log_p > np.log(LARGEST_CLUSTER_FORMING_P) + P_TOLERANCE:
        raise ValueError(
            f"clusters by random field theory need a cluster-forming p of at most {LARGEST_CLUSTER_FORMING_P}, "
            f"not {np.exp(log_p):.4g}; raise the threshold or ask for permutation"
        )


def _log_any(log_mean: Floats) -> Floats:
    """Return the logarithm of the probability that a Poisson number of a given mean is not 0."""
    mean = np.exp(np.maximum(log_mean, SMALLEST_LOG_POISSON))
    return np.where(log_mean > SMALLEST_LOG_POISSON, np.log(-np.expm1(-mean)), log_mean)


def log_p_heights(statistic: Statistic, smoothness: Smoothness, tail: Tail | None) -> Floats:
    """Return the logarithm of every voxel's familywise p of a tail.

    Parameters
    ----------
    statistic : Statistic
    smoothness : Smoothness
        Of the statistic's search volume.
    tail : {'positive', 'negative', 'two-sided'}, or None for F
        Two-sided: twice the p of the absolute value.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        At most 0.

    Raises
    ------
    ValueError
        If degrees of freedom differ between voxels, or are 3 or fewer.
    """
    field = make_field(statistic)
    value = -statistic.value if tail == "negative" else statistic.value
    if tail == "two-sided":
        return _double(log_p_fwe(np.abs(value), field, smoothness))
    return log_p_fwe(value, field, smoothness)


def find_critical_height(statistic: Statistic, smoothness: Smoothness, alpha: float, tail: Tail | None) -> float:
    """Find the height at which the familywise p of a tail is alpha.

    Parameters
    ----------
    statistic : Statistic
    smoothness : Smoothness
    alpha : float
        Of the tail: two-sided puts half of it in each.
    tail : {'positive', 'negative', 'two-sided'}, or None for F

    Returns
    -------
    float
        In units of the statistic; negative for the negative tail.

    Raises
    ------
    ValueError
        As `log_p_heights` and `find_threshold` do.
    """
    threshold = find_threshold(alpha / 2 if tail == "two-sided" else alpha, make_field(statistic), smoothness)
    return -threshold if tail == "negative" else threshold


def log_p_extents(
    n_voxels: ArrayLike, threshold: float, statistic: Statistic, smoothness: Smoothness, tail: Tail | None
) -> Floats:
    """Return the logarithm of the familywise p of a tail of clusters, by their extent.

    Parameters
    ----------
    n_voxels : array_like of int, shape (n_clusters,)
        Extents, of clusters of either sign when two-sided.
    threshold : float
        Cluster-forming, of the absolute value.
    statistic : Statistic
    smoothness : Smoothness
    tail : {'positive', 'negative', 'two-sided'}, or None for F
        Two-sided: twice the p of one sign; the cluster-forming p is then of both.

    Returns
    -------
    ndarray of float64, shape (n_clusters,)
        At most 0.

    Raises
    ------
    ValueError
        As `make_field` and `log_p_fwe_clusters` do; the cluster-forming p of the tail may not exceed 0.001.
    """
    field = make_field(statistic)
    log_p = log_p_fwe_clusters(n_voxels, threshold, field, smoothness)
    if tail != "two-sided":
        return log_p
    _require_high_threshold(float(_log_sf(np.asarray(threshold, np.float64), field)) - LOG_HALF)
    return _double(log_p)


def _double(log_p: Floats) -> Floats:
    """Return the logarithm of ``min(1, 2 p)``."""
    return np.minimum(0.0, log_p - LOG_HALF)
