"""Tails of t and F in logarithms, and the z of equal tail, for any finite statistic.

Every tail is one regularised incomplete beta function ``I_x(a, b)``. SciPy evaluates it until it nears the
smallest double; beyond that its logarithm comes from the prefactor, in logarithms, and a continued fraction.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

# Below this SciPy's value nears the smallest normal double (2e-308) and loses digits.
SMALLEST_DIRECT = 1e-280
# The continued fraction stops when its last factor is 1 to rounding. In the tails that reach it 300 terms are
# enough up to 1e9 degrees of freedom.
FRACTION_TOLERANCE = 4 * np.finfo(np.float64).eps
FRACTION_MAX_TERMS = 1000
# F = 0 has a lower tail of 0, and no finite z; the smallest double above it has one.
SMALLEST_F = np.finfo(np.float64).smallest_subnormal
LOG_HALF = np.log(0.5)

Floats = NDArray[np.float64]


def log_sf_t(t: ArrayLike, dof: ArrayLike) -> Floats:
    """Return the natural logarithm of the upper tail of Student's t.

    ``sf(t) = I_x(dof / 2, 1 / 2) / 2`` with ``x = dof / (dof + t^2)`` for ``t >= 0``.

    Parameters
    ----------
    t : array_like of float, broadcast against `dof`
    dof : array_like of float, > 0, whole or fractional

    Returns
    -------
    ndarray of float64
        Finite for every finite `t`.

    References
    ----------
    Abramowitz & Stegun 1964, equation 26.7.1.

    Examples
    --------
    >>> round(float(log_sf_t(1e6, 120.0)), 6)
    -1373.92653
    """
    t, dof = np.broadcast_arrays(np.asarray(t, np.float64), np.asarray(dof, np.float64))
    log_smaller = LOG_HALF + _log_tail(_log_square_ratio(t, dof), 0.5 * dof, np.full(dof.shape, 0.5))
    return np.where(t < 0, np.log1p(-np.exp(log_smaller)), log_smaller)


def log_cdf_t(t: ArrayLike, dof: ArrayLike) -> Floats:
    """Return the natural logarithm of the lower tail of Student's t: ``cdf(t) = sf(-t)``.

    Parameters
    ----------
    t : array_like of float, broadcast against `dof`
    dof : array_like of float, > 0

    Returns
    -------
    ndarray of float64
    """
    return log_sf_t(np.negative(t), dof)


def log_sf_f(F: ArrayLike, dof1: ArrayLike, dof2: ArrayLike) -> Floats:
    """Return the natural logarithm of the upper tail of F.

    ``sf(F) = I_x(dof2 / 2, dof1 / 2)`` with ``x = dof2 / (dof2 + dof1 F)``.

    Parameters
    ----------
    F : array_like of float, >= 0, broadcast against the degrees of freedom
    dof1, dof2 : array_like of float, > 0, whole or fractional
        Of the numerator and of the denominator.

    Returns
    -------
    ndarray of float64
        Finite for every finite `F`.

    References
    ----------
    Abramowitz & Stegun 1964, equation 26.6.2.
    """
    log_ratio, dof1, dof2 = _log_f_ratio(F, dof1, dof2)
    return _log_tail(log_ratio, 0.5 * dof2, 0.5 * dof1)


def log_cdf_f(F: ArrayLike, dof1: ArrayLike, dof2: ArrayLike) -> Floats:
    """Return the natural logarithm of the lower tail of F: ``cdf(F) = I_(1-x)(dof1 / 2, dof2 / 2)``.

    Parameters
    ----------
    F : array_like of float, >= 0, broadcast against the degrees of freedom
    dof1, dof2 : array_like of float, > 0

    Returns
    -------
    ndarray of float64
        Finite for every finite ``F > 0``; ``-inf`` at 0.
    """
    log_ratio, dof1, dof2 = _log_f_ratio(F, dof1, dof2)
    return _log_tail(-log_ratio, 0.5 * dof1, 0.5 * dof2)


def p_two_sided(t: ArrayLike, dof: ArrayLike) -> Floats:
    """Return the two-sided p of Student's t: ``2 sf(|t|)``.

    Parameters
    ----------
    t : array_like of float, broadcast against `dof`
    dof : array_like of float, > 0

    Returns
    -------
    ndarray of float64
        Between 0 and 1; 0 where p is below the smallest double.
    """
    return np.exp(log_sf_t(np.abs(t), dof) - LOG_HALF)


def t_to_z(t: ArrayLike, dof: ArrayLike) -> Floats:
    """Return the z whose upper tail under the normal is that of `t` under Student's t.

    Parameters
    ----------
    t : array_like of float, broadcast against `dof`
    dof : array_like of float, > 0

    Returns
    -------
    ndarray of float64
        Odd and monotone in `t`, finite for every finite `t`.

    Examples
    --------
    >>> round(float(t_to_z(-3.0, 10.0)), 6)
    -2.474463
    """
    return np.copysign(_upper_tail_to_z(log_sf_t(np.abs(t), dof)), t)


def f_to_z(F: ArrayLike, dof1: ArrayLike, dof2: ArrayLike) -> Floats:
    """Return the z whose upper tail under the normal is that of `F` under the F distribution.

    Parameters
    ----------
    F : array_like of float, >= 0, broadcast against the degrees of freedom
        0 is taken as the smallest double above it, so that z stays finite.
    dof1, dof2 : array_like of float, > 0

    Returns
    -------
    ndarray of float64
        Monotone in `F`, finite for every finite `F`; negative where `F` is below its median.
    """
    F = np.maximum(F, SMALLEST_F)
    log_upper, log_lower = log_sf_f(F, dof1, dof2), log_cdf_f(F, dof1, dof2)
    return np.where(log_upper < log_lower, _upper_tail_to_z(log_upper), -_upper_tail_to_z(log_lower))


def _upper_tail_to_z(log_p: Floats) -> Floats:
    """Return z from the logarithm of its upper tail."""
    return -special.ndtri_exp(log_p)


def _log(values: ArrayLike) -> Floats:
    """Return the natural logarithm, ``-inf`` at 0 without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(values)


def _log_square_ratio(t: Floats, dof: Floats) -> Floats:
    """Return ``log(t^2 / dof)``; the square itself would overflow beyond 1e154."""
    return 2.0 * _log(np.abs(t)) - np.log(dof)


def _log_f_ratio(F: ArrayLike, dof1: ArrayLike, dof2: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return ``log(dof1 F / dof2)`` and the degrees of freedom, all of one shape."""
    F, dof1, dof2 = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in (F, dof1, dof2)))
    return _log(F) + np.log(dof1) - np.log(dof2), dof1, dof2


def _log_tail(log_ratio: Floats, a: Floats, b: Floats) -> Floats:
    """Return ``log I_x(a, b)`` for ``x = 1 / (1 + exp(log_ratio))``."""
    log_x, log_y = -np.logaddexp(0.0, log_ratio), -np.logaddexp(0.0, -log_ratio)
    x, y = np.exp(log_x), np.exp(log_y)
    # Of x and 1 - x the smaller one carries the digits; the larger tail follows from the smaller one.
    direct = x < y
    first, second, smaller = np.where(direct, a, b), np.where(direct, b, a), np.minimum(x, y)
    below, above = special.betainc(first, second, smaller), special.betaincc(first, second, smaller)
    tail, rest = np.where(direct, below, above), np.where(direct, above, below)
    result = np.where(tail < rest, _log(tail), np.log1p(-np.minimum(rest, 0.5)))
    deep = tail < SMALLEST_DIRECT
    if np.any(deep):
        result[deep] = _log_deep_tail(log_x[deep], log_y[deep], a[deep], b[deep])
    return result


def _log_deep_tail(log_x: Floats, log_y: Floats, a: Floats, b: Floats) -> Floats:
    """Return ``log I_x(a, b) = log(x^a (1 - x)^b / (a B(a, b)) fraction)`` far below the mean of the beta."""
    prefactor = a * log_x + b * log_y - np.log(a) - special.betaln(a, b)
    return prefactor + np.log(_evaluate_fraction(np.exp(log_x), a, b))


def _evaluate_fraction(x: Floats, a: Floats, b: Floats) -> Floats:
    """Evaluate the continued fraction of the incomplete beta function by Lentz's method (DLMF 8.17.22)."""
    backward = 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    forward, fraction = np.ones_like(x), backward
    for m in range(1, FRACTION_MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        last = fraction
        for term in (even, odd):
            backward, forward = 1.0 / (1.0 + term * backward), 1.0 + term / forward
            fraction = fraction * backward * forward
        if np.all(np.abs(fraction - last) <= FRACTION_TOLERANCE * np.abs(fraction)):
            break
    return fraction
