"""The space that a design's columns span: rank, estimability, and the arithmetic of contrasts in it.

A leaf that both `inputs.design` (is this contrast estimable?) and `stats.glm` (what is its value?) stand on, so that
a design is judged and fitted by one and the same decomposition.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A contrast is estimable when the part of it outside the row space is rounding only. Weights such as 0.3333 for 1/3
# are not rounding: they are off by 1e-4 and refused, with "1/3" as the remedy.
ESTIMABILITY_TOLERANCE = 1e-8


@dataclass(frozen=True)
class ColumnSpace:
    """The thin singular value decomposition of a design whose columns were scaled to unit norm.

    With ``D`` the column norms, ``X = Q S V' D``, of which the `rank` non-zero singular values are kept.

    Attributes
    ----------
    basis : ndarray of float64, shape (n_rows, rank)
        ``Q``, an orthonormal basis of the column space.
    row_space : ndarray of float64, shape (n_columns, rank)
        ``V``, an orthonormal basis of the row space of the scaled design.
    singular_values : ndarray of float64, shape (rank,)
        ``S``.
    norms : ndarray of float64, shape (n_columns,)
        ``D``; 1 for a column of zeros.
    """

    basis: NDArray[np.float64]
    row_space: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    norms: NDArray[np.float64]

    @property
    def rank(self) -> int:
        """Return the rank of the design."""
        return len(self.singular_values)

    def score_weights(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Express contrasts of the coefficients as weights on the scores ``Q'y``.

        ``C b = K (Q'y)`` with ``K = C D^-1 V S^-1``, hence ``C (X'X)^- C' = K K'``. Right only for estimable rows.

        Parameters
        ----------
        weights : ndarray of float64, shape (n_contrast_rows, n_columns)

        Returns
        -------
        ndarray of float64, shape (n_contrast_rows, rank)
        """
        return (weights / self.norms) @ self.row_space / self.singular_values

    def find_inestimable(self, weights: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mark, for each contrast row, the columns in which it leaves the row space of the design.

        Parameters
        ----------
        weights : ndarray of float64, shape (n_contrast_rows, n_columns)

        Returns
        -------
        ndarray of bool, shape (n_contrast_rows, n_columns)
            All False in the rows that are estimable.
        """
        scaled = weights / self.norms
        outside = scaled - (scaled @ self.row_space) @ self.row_space.T
        size = np.linalg.norm(scaled, axis=1, keepdims=True)
        return np.abs(outside) > ESTIMABILITY_TOLERANCE * size

    def find_dependent_columns(self) -> NDArray[np.bool_]:
        """Mark the columns that are linear combinations of other columns (or are zero).

        Returns
        -------
        ndarray of bool, shape (n_columns,)
        """
        outside = 1.0 - np.einsum("ij,ij->i", self.row_space, self.row_space)
        return outside > ESTIMABILITY_TOLERANCE


def decompose(design_matrix: NDArray[np.float64]) -> ColumnSpace:
    """Decompose a design after scaling its columns to unit norm.

    Parameters
    ----------
    design_matrix : ndarray of float64, shape (n_rows, n_columns)

    Returns
    -------
    ColumnSpace

    Examples
    --------
    >>> import numpy as np
    >>> decompose(np.array([[1.0, 1, 0], [1, 1, 0], [1, 0, 1]])).rank
    2
    """
    matrix = np.asarray(design_matrix, dtype=np.float64)
    largest = np.abs(matrix).max(axis=0, initial=0.0)
    largest = np.where(largest > 0, largest, 1.0)
    norms = largest * np.linalg.norm(matrix / largest, axis=0)  # squares of the values themselves may overflow
    norms = np.where(norms > 0, norms, 1.0)
    left, values, right = np.linalg.svd(matrix / norms, full_matrices=False)
    smallest = values[0] * max(matrix.shape) * np.finfo(np.float64).eps if len(values) else 0.0
    kept = values > smallest
    return ColumnSpace(left[:, kept], right[kept].T, values[kept], norms)
