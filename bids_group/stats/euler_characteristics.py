"""Euler characteristics (EC) of fields of t and F: their densities, and what is expected above a height."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bids_group.stats import distributions
from bids_group.stats.glm import Statistic
from bids_group.stats.smoothness import N_DIMENSIONS
from bids_group.vocabulary import Test

# The squared FWHM of a Gaussian is this times its variance; resels per FWHM are sqrt(4 log 2) of the field's own units.
RESEL_UNIT = 4.0 * np.log(2.0)

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
    return _exponentiate(log_expected_ec(np.asarray(value, np.float64), field, resels))


def log_expected_ec(value: Floats, field: Field, resels: Floats) -> Signed:
    """Return logarithm and sign of the expected EC.

    Parameters
    ----------
    value : ndarray of float64
    field : Field
    resels : ndarray of float64, shape (4,)
        Of dimensions 0 to 3.

    Returns
    -------
    logarithm, sign : ndarray of float64
    """
    return _log_sum(*_log_densities(value, field), resels)


def _log_sum(logs: Floats, signs: Floats, resels: Floats) -> Signed:
    """Return logarithm and sign of the sum over dimensions of resels times densities."""
    weights = signs * resels.reshape(-1, *([1] * (logs.ndim - 1)))
    log_size, sign = special.logsumexp(logs, axis=0, b=weights, return_sign=True)
    return np.asarray(log_size), np.asarray(sign)
