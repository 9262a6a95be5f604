"""The variance between maps of a random-effects meta-analysis, and the weighted fits that it is found by.

The symbols Q, W, H and P are those of `meta_analysis`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_group.vocabulary import Heterogeneity

# The restricted likelihood may have several maxima. It is first evaluated at points of this many steps from 0 to a
# bound above all maxima, denser near 0, where it curves most.
SEARCH_STEPS = 8
SEARCH_POWER = 3
# tau2 is found when it moves less than this part of itself and the smallest variance of the voxel. Newton's steps
# double the digits; a voxel that needed bisection all the way would take 60.
TAU2_TOLERANCE = 1e-10
MAX_ITERATIONS = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedFit:
    """A weighted least-squares fit of the basis to a block of voxels.

    Attributes
    ----------
    weights, residuals : ndarray of float64, shape (n_rows, n_voxels)
    coefficients : ndarray of float64, shape (rank, n_voxels)
    information, covariance : ndarray of float64, shape (n_voxels, rank, rank)
        ``Q'WQ`` and its inverse H.
    """

    weights: Floats
    residuals: Floats
    coefficients: Floats
    information: Floats
    covariance: Floats

    @property
    def residual_ss(self) -> Floats:
        """Return ``y'Py``, the weighted residual sum of squares."""
        return np.einsum("iv,iv,iv->v", self.weights, self.residuals, self.residuals)


def weigh(effects: Floats, weights: Floats, basis: Floats) -> WeightedFit:
    """Fit the basis to each voxel by least squares under weights of its own.

    Parameters
    ----------
    effects, weights : ndarray of float64, shape (n_rows, n_voxels)
    basis : ndarray of float64, shape (n_rows, rank)
        Q, orthonormal.

    Returns
    -------
    WeightedFit
    """
    information = _sum_products(weights, basis)
    covariance = np.linalg.inv(information).astype(np.float64, copy=False)
    coefficients = np.einsum("vij,jv->iv", covariance, basis.T @ (weights * effects))
    return WeightedFit(weights, effects - basis @ coefficients, coefficients, information, covariance)


def _sum_products(weights: Floats, basis: Floats) -> Floats:
    """Return ``Q' diag(weights) Q`` of each voxel, of shape (n_voxels, rank, rank)."""
    n_rows, rank = basis.shape
    products = (basis[:, :, np.newaxis] * basis[:, np.newaxis, :]).reshape(n_rows, rank * rank)
    return (weights.T @ products).reshape(-1, rank, rank)


def trace_projection(model: WeightedFit, basis: Floats) -> Floats:
    """Return ``tr P = tr W - tr(H Q'W^2 Q)``.

    Parameters
    ----------
    model : WeightedFit
    basis : ndarray of float64, shape (n_rows, rank)
        Q, orthonormal.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
    """
    squares = _sum_products(model.weights**2, basis)
    return model.weights.sum(axis=0) - np.einsum("vij,vji->v", model.covariance, squares)


def estimate_tau2(
    effects: Floats, variances: Floats, basis: Floats, *, method: Heterogeneity
) -> tuple[Floats, NDArray[np.bool_]]:
    """Estimate the variance between maps.

    ``dersimonian-laird``: ``max(0, (Q - (n - p)) / tr P)`` with the weights ``1 / v``. ``reml``: the maximum over
    ``tau2 >= 0`` of

        -2 log L = sum of log(v + tau2) + log |Q'WQ| + y'Py.

    Parameters
    ----------
    effects, variances : ndarray of float64, shape (n_rows, n_voxels)
        Finite; variances positive.
    basis : ndarray of float64, shape (n_rows, rank)
        An orthonormal basis of the design's column space.
    method : {'reml', 'dersimonian-laird'}

    Returns
    -------
    tau2 : ndarray of float64, shape (n_voxels,)
        At least 0.
    converged : ndarray of bool, shape (n_voxels,)
        False where the iterations ran out, True everywhere for `dersimonian-laird`.

    References
    ----------
    DerSimonian & Laird 1986, Control Clin Trials 7; DerSimonian & Kacker 2007, Contemp Clin Trials 28; Raudenbush
    2009, Handbook of Research Synthesis, chapter 16.
    """
    if method == "dersimonian-laird":
        fixed = weigh(effects, 1.0 / variances, basis)
        excess = fixed.residual_ss - (basis.shape[0] - basis.shape[1])
        return np.maximum(excess / trace_projection(fixed, basis), 0.0), np.ones(effects.shape[1], dtype=bool)
    lower, upper = _bracket_maximum(effects, variances, basis)
    return _find_root(effects, variances, basis, lower, upper)


def _bracket_maximum(effects: Floats, variances: Floats, basis: Floats) -> tuple[Floats, Floats]:
    """Return two values of tau2 with the maximum of the restricted likelihood between them; equal ones are it."""
    residuals = effects - basis @ (basis.T @ effects)
    spread = np.einsum("iv,iv->v", residuals, residuals) / (basis.shape[0] - basis.shape[1])
    # The slope is negative from here on: y'PPy <= dof spread / (tau2 + smallest v)^2, tr P >= dof / (tau2 + largest v).
    bound = spread + np.sqrt(spread * variances.max(axis=0))
    points = bound * (np.arange(SEARCH_STEPS + 1)[:, np.newaxis] / SEARCH_STEPS) ** SEARCH_POWER
    deviance = [_compute_deviance(effects, variances + tau2, basis) for tau2 in points]
    best, voxels = np.argmin(deviance, axis=0), np.arange(effects.shape[1])
    slope, _ = _compute_slope(effects, variances + points[best, voxels], basis)
    first = np.where(slope > 0, best, np.maximum(best - 1, 0))
    last = np.where(slope > 0, np.minimum(best + 1, SEARCH_STEPS), best)
    return points[first, voxels], points[last, voxels]


def _compute_deviance(effects: Floats, variances: Floats, basis: Floats) -> Floats:
    """Return -2 times the logarithm of the restricted likelihood, up to a constant."""
    model = weigh(effects, 1.0 / variances, basis)
    return np.log(variances).sum(axis=0) + np.linalg.slogdet(model.information)[1] + model.residual_ss


def _compute_slope(effects: Floats, variances: Floats, basis: Floats) -> tuple[Floats, Floats]:
    """Return twice the first derivative of the restricted log likelihood in tau2, and minus its derivative.

    The first is ``y'PPy - tr P``, the second ``2 y'PPPy - tr PP``.
    """
    model = weigh(effects, 1.0 / variances, basis)
    projected = model.weights * model.residuals
    weighted = basis.T @ (model.weights * projected)
    explained = np.einsum("iv,vij,jv->v", weighted, model.covariance, weighted, optimize=True)
    curvature = np.einsum("iv,iv,iv->v", model.weights, projected, projected) - explained
    squares = model.covariance @ _sum_products(model.weights**2, basis)
    cubes = np.einsum("vij,vji->v", model.covariance, _sum_products(model.weights**3, basis))
    trace = model.weights.sum(axis=0) - np.einsum("vii->v", squares)
    trace_of_square = (model.weights**2).sum(axis=0) - 2.0 * cubes + np.einsum("vij,vji->v", squares, squares)
    return np.einsum("iv,iv->v", projected, projected) - trace, 2.0 * curvature - trace_of_square


def _find_root(
    effects: Floats, variances: Floats, basis: Floats, lower: Floats, upper: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Find where the slope of the restricted likelihood falls through 0, by Newton's steps within a bracket."""
    tau2, smallest = 0.5 * (lower + upper), variances.min(axis=0)
    moving = np.flatnonzero(upper > lower)
    for _ in range(MAX_ITERATIONS):
        if len(moving) == 0:
            break
        here = tau2[moving]
        slope, curvature = _compute_slope(effects[:, moving], variances[:, moving] + here, basis)
        lower[moving] = np.where(slope > 0, here, lower[moving])
        upper[moving] = np.where(slope > 0, upper[moving], here)
        there = here + slope / np.where(curvature > 0, curvature, np.nan)
        inside = (there >= lower[moving]) & (there <= upper[moving])
        tau2[moving] = np.where(inside, there, 0.5 * (lower[moving] + upper[moving]))
        moving = moving[np.abs(tau2[moving] - here) > TAU2_TOLERANCE * (here + smallest[moving])]
    converged = np.ones(len(tau2), dtype=bool)
    converged[moving] = False
    return tau2, converged
