"""Means of cells with their confidence intervals, and a slope as points about a line: what is shown of one voxel."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bids_group.column_space import ColumnSpace

Floats = NDArray[np.float64]


def find_mean_interval(values: Floats, *, level: float) -> tuple[Floats, Floats]:
    """Return the mean of each cell of some subjects, and half the width of its confidence interval.

    Of one cell ``t sd / sqrt(n)`` on ``n - 1`` degrees of freedom. Of several the interval is one within subjects: each
    subject's values less their mean and plus the mean of all, their variance times ``c / (c - 1)``. Of two cells it is
    that of their difference, divided by the root of 2.

    Parameters
    ----------
    values : ndarray of float, shape (n_subjects, n_cells)
        Finite.
    level : float
        Of confidence, such as 0.95.

    Returns
    -------
    mean, half_width : ndarray of float64, shape (n_cells,)
        The width is nan of fewer than two subjects.

    References
    ----------
    Cousineau 2005; Morey 2008, Tutorials in Quantitative Methods for Psychology 4, 61-64, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> mean, half_width = find_mean_interval(np.array([[1.0], [2.0], [3.0]]), level=0.95)
    >>> float(mean[0]), round(float(half_width[0]), 4)
    (2.0, 2.4841)
    """
    values = np.asarray(values, dtype=np.float64)
    n_subjects, n_cells = values.shape
    mean = values.mean(axis=0)
    if n_subjects < 2:
        return mean, np.full(n_cells, np.nan)
    if n_cells > 1:
        values = np.sqrt(n_cells / (n_cells - 1)) * (values - values.mean(axis=1, keepdims=True))
    error = values.std(axis=0, ddof=1) / np.sqrt(n_subjects)
    return mean, stats.t.isf((1 - level) / 2, n_subjects - 1) * error


def find_partial_points(values: Floats, space: ColumnSpace, on_rows: Floats) -> tuple[Floats, Floats]:
    """Return the points of an added-variable plot, whose least-squares line has a contrast as its slope.

    With ``l`` the weights that the contrast ``c'b = l'y`` gives the rows: ``x = l / l'l``, what of the regressor the
    others leave, and ``y = (c'b) x + residual``.

    Parameters
    ----------
    values : ndarray of float, shape (n_rows,)
        Of one voxel.
    space : ColumnSpace
        Of the design of these rows.
    on_rows : ndarray of float64, shape (n_rows,)
        ``l``, in the column space of the design.

    Returns
    -------
    x, y : ndarray of float64, shape (n_rows,)
        In the units of the regressor, about 0, and of the values.

    References
    ----------
    Velleman & Welsch 1981, The American Statistician 35, 234-242.
    """
    values = np.asarray(values, dtype=np.float64)
    x = on_rows / (on_rows @ on_rows)
    residual = values - space.basis @ (space.basis.T @ values)
    return x, (on_rows @ values) * x + residual
