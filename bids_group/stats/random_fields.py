"""Random field theory: what the smoothness of the noise means for the height of voxels and the size of clusters.

The smoothness and the shape of the mask give the resels; the resels and the Euler
characteristic (EC) densities of t or F give the expected EC of what exceeds a height, which for a high one is the
probability that anything does. The noise is taken to be a stationary Gaussian field, finely sampled: FWHM of three
voxels or more. All p are of the upper tail and in logarithms; `log_p_heights` and `log_p_extents` know the tails.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from bids_group.stats import distributions
from bids_group.stats.distributions import LOG_HALF
from bids_group.stats.euler_characteristics import Field, _log_densities, _log_sum, log_expected_ec, make_field
from bids_group.stats.glm import Statistic
from bids_group.stats.smoothness import Smoothness
from bids_group.vocabulary import Tail

# Above this cluster-forming p the theory's false positives far exceed alpha: Eklund, Nichols & Knutsson 2016, figure 1.
LARGEST_CLUSTER_FORMING_P = 0.001
# A p that is the limit itself may come back from its threshold some roundings larger.
P_TOLERANCE = 1e-9
# The expected EC falls from its last maximum on, which lies among the heights of these p.
HEIGHTS_OF_P = np.geomspace(0.5, 1e-8, 512)
# Below this, log(1 - exp(-exp(x))) is x to rounding.
SMALLEST_LOG_POISSON = -40.0

Floats = NDArray[np.float64]


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
    log_ec, sign = log_expected_ec(heights, field, resels)
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
    log_ec, _ = log_expected_ec(np.asarray(threshold, np.float64), field, resels)
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
    refuse_low_threshold(threshold, statistic, tail)
    log_p = log_p_fwe_clusters(n_voxels, threshold, make_field(statistic), smoothness)
    return _double(log_p) if tail == "two-sided" else log_p


def refuse_low_threshold(threshold: float, statistic: Statistic, tail: Tail | None) -> None:
    """Refuse a cluster-forming threshold at which extents do not follow the theory.

    Parameters
    ----------
    threshold : float
        Of the absolute value.
    statistic : Statistic
        Of which only the test and the degrees of freedom count.
    tail : {'positive', 'negative', 'two-sided'}, or None for F
        Two-sided: the p is that of both signs.

    Raises
    ------
    ValueError
        If its p exceeds 0.001, or as `make_field` does.
    """
    log_p = float(_log_sf(np.asarray(threshold, np.float64), make_field(statistic)))
    _require_high_threshold(log_p - LOG_HALF if tail == "two-sided" else log_p)


def _double(log_p: Floats) -> Floats:
    """Return the logarithm of ``min(1, 2 p)``."""
    return np.minimum(0.0, log_p - LOG_HALF)
