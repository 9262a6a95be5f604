"""The compiled loops of Welch's v and G: from scores and sums of squares of a batch of rearrangements to z."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bids_group.stats.permutation.z_tables import DOF_STEP, LARGEST_LOG, ZTable, look_up_between

# A covariance whose pivots fall below this part of the first has lost rank.
SMALLEST_PIVOT = 1e-12
# Of a group's sum of squares, what the rounding of the data to float32 leaves where the design fits it exactly.
SMALLEST_UNEXPLAINED = float(np.finfo(np.float32).eps) ** 2

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@njit(nogil=True, error_model="numpy")
def convert_to_v(
    scores: Floats,
    squares: Floats,
    shares: Floats,
    group_dof: Floats,
    table: ZTable,
    heights: Singles,
    rows: tuple[int, int],
) -> None:
    """Turn the scores of a part into the z of Welch's v.

    ``v = u / sqrt(sum of a_g s2_g)`` on ``(sum of a_g s2_g)^2 / (sum of (a_g s2_g)^2 / dof_g)`` degrees of freedom.

    Parameters
    ----------
    scores, squares : ndarray of float64, shape (n_groups, BATCH, n_voxels)
        ``c_g`` and ``|Y_g|^2``.
    shares : ndarray of float64, shape (BATCH, n_groups, 1, 1)
        ``a_g``.
    group_dof : ndarray of float64, shape (BATCH, n_groups)
        0 where the rearrangement has no statistic: z is 0.
    table : ZTable
        Of all degrees of freedom.
    heights : ndarray of float32, shape (BATCH, n_voxels)
    rows : (int, int)
        First and last + 1 of the batch's rows that are used.
    """
    n_groups, _, n_voxels = scores.shape
    for row in range(rows[0], rows[1]):
        if group_dof[row, 0] == 0.0:
            heights[row] = 0.0
            continue
        for voxel in range(n_voxels):
            score = 0.0
            for group in range(n_groups):
                score += scores[group, row, voxel]
            variance, divided = 0.0, 0.0
            for group in range(n_groups):
                total, share = squares[group, row, voxel], shares[row, group, 0, 0]
                rest = total - 2.0 * score * scores[group, row, voxel] + score * score * share
                part = share * max(rest, SMALLEST_UNEXPLAINED * total) / group_dof[row, group]
                variance += part
                divided += part * part / group_dof[row, group]
            z = 0.0
            if divided > 0.0:
                z = _find_z(table, score * score / variance, variance * variance / divided)
            heights[row, voxel] = -z if score < 0.0 else z


@njit(nogil=True, error_model="numpy")
def convert_to_g(
    scores: Floats,
    squares: Floats,
    shares: Floats,
    group_dof: Floats,
    alone: NDArray[np.int64],
    table: ZTable,
    heights: Singles,
    rows: tuple[int, int],
) -> None:
    """Turn the scores of a part into the z of Welch's G; see `unequal_variances.compute_g`.

    Parameters
    ----------
    scores : ndarray of float64, shape (n_groups, r, BATCH, n_voxels)
        ``c_g``.
    squares : ndarray of float64, shape (n_groups, BATCH, n_voxels)
        ``|Y_g|^2``.
    shares : ndarray of float64, shape (BATCH, n_groups, r, r)
        ``A_g``.
    group_dof : ndarray of float64, shape (BATCH, n_groups)
        0 where the rearrangement has no statistic: z is the smallest of the table.
    alone : ndarray of int64, shape (BATCH,)
        The group that alone carries the interest, -1 where there is none.
    table : ZTable
        Of all degrees of freedom.
    heights : ndarray of float32, shape (BATCH, n_voxels)
    rows : (int, int)
        First and last + 1 of the batch's rows that are used.
    """
    n_groups, rank, _, n_voxels = scores.shape
    total, variances = np.empty(rank), np.empty(n_groups)
    covariance, precision = np.empty((rank, rank)), np.empty((rank, rank))
    for row in range(rows[0], rows[1]):
        for voxel in range(n_voxels):
            square, dof = 0.0, 1.0
            if group_dof[row, 0] > 0.0:
                _estimate_variances(scores, squares, shares, group_dof, row, voxel, total, variances)
                if alone[row] >= 0:
                    square, dof = _divide(total, variances[alone[row]]), group_dof[row, alone[row]]
                else:
                    _sum_covariances(shares, variances, row, covariance)
                    if _invert(covariance, precision):
                        square, dof = _compute_wald(total, precision, shares, variances, group_dof, row, covariance)
            heights[row, voxel] = _find_z(table, square, dof)


@njit(nogil=True, error_model="numpy")
def _find_z(table: ZTable, square: float, dof: float) -> float:
    """Return the z of ``t^2`` or ``r F``; dof below 1 or beyond the table are taken as its ends."""
    dof = min(max(dof, 1.0), np.exp(DOF_STEP * (table.values.shape[0] - 3)))
    return look_up_between(table, dof, dof * min(np.log1p(square / dof), LARGEST_LOG))


@njit(nogil=True, error_model="numpy")
def _estimate_variances(
    scores: Floats,
    squares: Floats,
    shares: Floats,
    group_dof: Floats,
    row: int,
    voxel: int,
    total: Floats,
    variances: Floats,
) -> None:
    """Fill in the scores of all groups together, and each group's error variance."""
    for i in range(len(total)):
        total[i] = 0.0
        for group in range(len(variances)):
            total[i] += scores[group, i, row, voxel]
    for group in range(len(variances)):
        rest = squares[group, row, voxel]
        smallest = SMALLEST_UNEXPLAINED * rest
        for i in range(len(total)):
            rest -= 2.0 * scores[group, i, row, voxel] * total[i]
            for j in range(len(total)):
                rest += total[i] * shares[row, group, i, j] * total[j]
        variances[group] = max(rest, smallest) / group_dof[row, group]


@njit(nogil=True, error_model="numpy")
def _divide(total: Floats, variance: float) -> float:
    """Return ``|u|^2`` over the variance; 0 where there is none."""
    square = 0.0
    for score in total:
        square += score * score
    return square / variance if variance > 0.0 else 0.0


@njit(nogil=True, error_model="numpy")
def _sum_covariances(shares: Floats, variances: Floats, row: int, covariance: Floats) -> None:
    """Fill in ``S = sum of A_g s2_g``."""
    for i in range(len(covariance)):
        for j in range(len(covariance)):
            covariance[i, j] = 0.0
            for group in range(len(variances)):
                covariance[i, j] += shares[row, group, i, j] * variances[group]


@njit(nogil=True, error_model="numpy")
def _invert(matrix: Floats, inverse: Floats) -> bool:
    """Fill in the inverse of a symmetric positive definite matrix, which is overwritten; return whether it has one."""
    size, largest = len(matrix), 0.0
    for i in range(size):
        largest = max(largest, matrix[i, i])
        for j in range(size):
            inverse[i, j] = 1.0 if i == j else 0.0
    for k in range(size):
        if not matrix[k, k] > SMALLEST_PIVOT * largest:
            return False
        reciprocal = 1.0 / matrix[k, k]
        for j in range(size):
            matrix[k, j] *= reciprocal
            inverse[k, j] *= reciprocal
        for i in range(size):
            factor = matrix[i, k] if i != k else 0.0
            for j in range(size):
                matrix[i, j] -= factor * matrix[k, j]
                inverse[i, j] -= factor * inverse[k, j]
    return True


@njit(nogil=True, error_model="numpy")
def _compute_wald(
    total: Floats, precision: Floats, shares: Floats, variances: Floats, group_dof: Floats, row: int, product: Floats
) -> tuple[float, float]:
    """Return ``r G`` and its degrees of freedom; `product`, of the shape of the precision, is overwritten."""
    rank = len(total)
    wald, approximation = 0.0, 0.0
    for i in range(rank):
        for j in range(rank):
            wald += total[i] * precision[i, j] * total[j]
    for group in range(len(variances)):
        trace, trace_of_square = 0.0, 0.0
        for i in range(rank):
            for j in range(rank):
                product[i, j] = 0.0
                for k in range(rank):
                    product[i, j] += shares[row, group, i, k] * precision[k, j]
        for i in range(rank):
            trace += product[i, i]
            for j in range(rank):
                trace_of_square += product[i, j] * product[j, i]
        approximation += variances[group] ** 2 * (trace_of_square + trace * trace) / (2.0 * group_dof[row, group])
    inflation = 1.0 + 2.0 * approximation * (rank - 1.0) / (rank * (rank + 2.0))
    return wald / inflation, rank * (rank + 2.0) / (3.0 * approximation)
