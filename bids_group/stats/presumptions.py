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


def compare_group_variances(residuals: Floats, leverage: Floats, interest: Floats, groups: NDArray[np.int64]) -> Floats:
    """Compare the variance that an effect has when each group has its own error variance with the one presumed.

    ``sum_g s_g^2 u_g'u_g / (s^2 u'u)`` with u_g the part of the interest in group g, ``s_g^2`` the sum of squared
    residuals of the group over its share ``sum of 1 - h`` of the degrees of freedom, and ``s^2`` that of all rows.

    Parameters
    ----------
    residuals : ndarray of float64, shape (n_rows, n_voxels)
    leverage : ndarray of float64, shape (n_rows,)
        Diagonal of the hat matrix, h.
    interest : ndarray of float64, shape (n_rows,)
        What the contrast tests, orthogonal to the nuisance.
    groups : ndarray of int64, shape (n_rows,)
        Each with degrees of freedom of its own.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        1 where the groups are alike; above 1 the test finds too much.
    """
    squares, free = residuals**2, 1.0 - leverage
    presumed = squares.sum(axis=0) / free.sum() * (interest @ interest)
    members = [groups == group for group in np.unique(groups)]
    own = sum(squares[rows].sum(axis=0) / free[rows].sum() * (interest[rows] @ interest[rows]) for rows in members)
    return np.asarray(own / presumed, np.float64)
