"""What the tests of a contrast presume of the errors, measured: symmetry, and the same variance in all groups."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def measure_skewness(residuals: Floats) -> Floats:
    """Measure the skewness of residuals in each voxel.

    ``g = m3 / m2^1.5`` with m2 and m3 the mean square and the mean cube.

    Parameters
    ----------
    residuals : ndarray of float64, shape (n_rows, n_voxels)
        Of a model with a constant; not all 0.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)

    Examples
    --------
    >>> float(measure_skewness(np.array([[-1.0], [-1.0], [2.0]]))[0])
    0.7071067811865475
    """
    return np.mean(residuals**3, axis=0) / np.mean(residuals**2, axis=0) ** 1.5


def estimate_group_variances(residuals: Floats, leverage: Floats, groups: NDArray[np.int64]) -> Floats:
    """Estimate the error variance of each group.

    ``s_g^2``: the sum of the group's squared residuals over its share, the sum of 1 - h, of the degrees of freedom.

    Parameters
    ----------
    residuals : ndarray of float64, shape (n_rows, n_voxels)
    leverage : ndarray of float64, shape (n_rows,)
        Diagonal of the hat matrix, h.
    groups : ndarray of int64, shape (n_rows,)
        Numbers from 0; each with degrees of freedom of its own.

    Returns
    -------
    ndarray of float64, shape (n_groups, n_voxels)
    """
    members = [groups == group for group in np.unique(groups)]
    return np.array([np.sum(residuals[rows] ** 2, axis=0) / np.sum(1.0 - leverage[rows]) for rows in members])


def divide_variance(variances: Floats, interest: Floats, groups: NDArray[np.int64]) -> Floats:
    """Divide the variance of an effect into what each group gives to it: ``s_g^2 u_g'u_g``.

    Parameters
    ----------
    variances : ndarray of float64, shape (n_groups, n_voxels)
    interest : ndarray of float64, shape (n_rows,)
        What the contrast tests, orthogonal to the nuisance: u.
    groups : ndarray of int64, shape (n_rows,)

    Returns
    -------
    ndarray of float64, shape (n_groups, n_voxels)
        Of the effect ``u'y``.
    """
    return variances * np.bincount(groups, interest**2)[:, np.newaxis]
