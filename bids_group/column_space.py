"""The space that a design's columns span: rank, estimability, and the arithmetic of contrasts in it.

A leaf that both `inputs.design` (is this contrast estimable?) and `stats.glm` (what is its value?) stand on, so that
a design is judged and fitted by one and the same decomposition.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

# A contrast is estimable when the part of it outside the row space is rounding only. Weights such as 0.3333 for 1/3
# are not rounding: they are off by 1e-4 and refused, with "1/3" as the remedy.
ESTIMABILITY_TOLERANCE = 1e-8
# Of the largest singular value. The error of t is about the machine's over this share: what lies above keeps five
# digits. R's lm drops columns from 1e-7.
RANK_TOLERANCE = 1e-10


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
    smallest = values[0] * RANK_TOLERANCE if len(values) else 0.0
    kept = values > smallest
    return ColumnSpace(left[:, kept], right[kept].T, values[kept], norms)


def find_contrast_axes(
    space: ColumnSpace, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split a contrast's weights on the scores ``Q'y`` into orthonormal directions and loadings.

    ``C b = K Q'y = L W' Q'y`` with ``W'W = 1``; ``W`` has rank(C) columns. It is judged on rows of unit
    norm in the row space of the scaled design: it depends on the scale of neither contrast rows nor columns.

    Parameters
    ----------
    space : ColumnSpace
    weights : ndarray of float64, shape (n_contrast_rows, n_columns)

    Returns
    -------
    directions : ndarray of float64, shape (space.rank, rank)
        ``W``.
    loadings : ndarray of float64, shape (n_contrast_rows, rank)
        ``L``, the first non-zero one of each column positive.

    Raises
    ------
    ValueError
        If a row is zero.
    """
    in_row_space = (weights / space.norms) @ space.row_space
    sizes = np.linalg.norm(in_row_space, axis=1, keepdims=True)
    if not np.any(sizes > 0):
        raise ValueError("the contrast is zero in the row space of the design; give it an estimable weight")
    sizes = np.where(sizes > 0, sizes, 1.0)  # a row of zeros is a dependent row
    combinations, values, _ = np.linalg.svd(in_row_space / sizes, full_matrices=False)
    independent = combinations[:, values > ESTIMABILITY_TOLERANCE * values[0]]
    on_scores = space.score_weights(weights)
    directions, _ = np.linalg.qr((independent.T @ (on_scores / sizes)).T)
    loadings = on_scores @ directions
    signs = np.sign(loadings[np.argmax(loadings != 0, axis=0), np.arange(loadings.shape[1])])
    return directions * signs, loadings * signs


def partition_design(
    basis: NDArray[np.float64], directions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Divide a column space into what a contrast tests and the nuisance orthogonal to it.

    ``U = Q W``, ``N = Q W_0`` with ``[W W_0]`` orthogonal: ``C b = 0`` in the full model is ``u = 0`` in
    ``y = U u + N v + e``.

    Parameters
    ----------
    basis : ndarray of float64, shape (n_rows, rank)
        ``Q``, orthonormal.
    directions : ndarray of float64, shape (rank, r)
        ``W``, orthonormal, of `find_contrast_axes`.

    Returns
    -------
    interest : ndarray of float64, shape (n_rows, r)
    nuisance : ndarray of float64, shape (n_rows, rank - r)

    References
    ----------
    Ridgway 2009, PhD thesis, University College London; Winkler et al. 2014, NeuroImage 92, appendix A.
    """
    complement = linalg.qr(directions)[0][:, directions.shape[1] :]
    return basis @ directions, basis @ complement
