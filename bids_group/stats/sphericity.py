"""How far the errors of repeated measures are from sphericity, and what that takes from the degrees of freedom.

Epsilon is 1 when all orthonormal contrasts of the conditions have equal and uncorrelated errors, and 1 / r_w when one
of the r_w contrasts carries all of the error. Their F is referred to its degrees of freedom times epsilon.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def estimate_greenhouse_geisser(trace: Floats, squared_trace: Floats, n_within: int) -> Floats:
    """Estimate epsilon as the plain ratio of the error's traces, biased downwards when it is near 1.

    ``e = tr(E)^2 / (r_w tr(E^2))``.

    Parameters
    ----------
    trace, squared_trace : ndarray of float64, shape (n_voxels,)
        ``tr(E)`` and ``tr(E^2)`` of the error sums of squares and products E of orthonormal contrasts, at any scale.
    n_within : int
        ``r_w``, the number of orthonormal contrasts.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        From 1 / r_w to 1; nan where there is no error.

    References
    ----------
    Box 1954; Greenhouse & Geisser 1959.
    """
    epsilon = np.full(trace.shape, np.nan)
    np.divide(trace**2, n_within * squared_trace, out=epsilon, where=squared_trace > 0)
    return np.clip(epsilon, 1.0 / n_within, 1.0)


def estimate_huynh_feldt(greenhouse_geisser: Floats, n_within: int, dof: float) -> Floats:
    """Estimate epsilon with less bias, from the Greenhouse-Geisser estimate ``e``.

    ``min(1, ((dof + 1) r_w e - 2) / (r_w (dof - r_w e)))``, with Lecoutre's ``dof + 1`` where Huynh and Feldt had the
    number of subjects: the two differ when the between-subject design has more than the constant.

    Parameters
    ----------
    greenhouse_geisser : ndarray of float64, shape (n_voxels,)
    n_within : int
        ``r_w``, the number of orthonormal contrasts.
    dof : float
        Of the error between subjects, subjects minus the rank of the between-subject design.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        From the Greenhouse-Geisser estimate to 1.

    References
    ----------
    Huynh & Feldt 1976; Lecoutre 1991.
    """
    # With one degree of freedom r_w e is 1, and the formula 0 / 0. For more of them it gives e itself there.
    if dof <= 1:
        return greenhouse_geisser
    effective = n_within * greenhouse_geisser
    left = n_within * (dof - effective)
    # E has rank dof at most, so that nothing is left only where its eigenvalues are equal: the sphericity asked for.
    epsilon = np.divide((dof + 1) * effective - 2, left, out=np.ones_like(effective), where=left > 0)
    return np.clip(epsilon, greenhouse_geisser, 1.0)
