"""The arithmetic of one batch of rearrangements: rearranged design -> scores -> heights -> maxima and counts.

The design side is computed in float64 for the whole batch at once. The voxels are visited tile by tile: one matrix
product makes the scores of all rearrangements of a batch, which are turned into heights and counted while they are in
the processor's cache. All shapes are fixed: a batch that is not full is padded, so that the rounding of a
rearrangement depends on its number alone. (In some BLAS kernels it also depends on the row of the product.)
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

# A multiple of the 12 and 16 rows that the kernels of BLAS take at once; a tile of scores (0.4 MB) stays in the cache
# of one core beside the data, and the heights of a batch of 230,000 voxels fit in 177 MB.
BATCH, TILE = 192, 512
# A rearranged direction of interest of which no more than this part of the sum of squares lies outside the nuisance
# is nuisance: what is left of it keeps 8 of float64's 16 digits, and is float32 afterwards.
DEGENERATE_PART = 1e-8
# Squared correlations are known to float32's rounding, so that no smaller part can be told to be unexplained.
SMALLEST_UNEXPLAINED = np.finfo(np.float32).eps
MAGNITUDE = np.int32(0x7FFFFFFF)  # of a float32, all bits but its sign
SIGN_PLACE = np.int32(31)
ONE = np.float32(1.0)

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


def rearrange_interest(
    interest: Floats,
    nuisance: Floats,
    sources: NDArray[np.int64],
    signs: NDArray[np.int8],
    *,
    first_row: int = 0,
    rotation: Floats | None = None,
) -> Singles:
    """Rearrange the rows of the interest, and make it orthonormal and orthogonal to the nuisance again.

    ``X = R_N S P U`` and ``U* = X (X'X)^(-1/2)``: of all orthonormal bases of its span the one closest to ``X``, so
    that the sign of a single direction is kept. Where ``X`` has lost rank, ``U*`` is 0.

    Parameters
    ----------
    interest : ndarray of float64, shape (n_all_rows, r)
        ``U``, orthonormal.
    nuisance : ndarray of float64, shape (n_rows, k)
        ``N``, orthonormal and orthogonal to ``U``; where rows are missing, of the rows that are left.
    sources : ndarray of int64, shape (m, n_rows)
        Row i of a rearrangement comes from row ``sources[i]``.
    signs : ndarray of int8, shape (m, n_rows)
        1 or -1.
    first_row : int
        Where in the batch they begin; ``first_row + m <= BATCH``.
    rotation : ndarray of float64, shape (n_rows, n_kept), or None
        An orthonormal basis of what is orthogonal to the nuisance, to give ``U*`` in its coordinates.

    Returns
    -------
    ndarray of float32, shape (r, BATCH, n_rows), or (r, BATCH, n_kept)
        0 in the rows of the batch that are not used.

    References
    ----------
    Winkler et al. 2014, table 2 (Smith; Dekker); Löwdin 1950, on symmetric orthogonalisation.
    """
    rearranged, whitening = _rearrange(interest, nuisance, sources, signs, first_row)
    if rotation is not None:
        rearranged = (rearranged.reshape(-1, sources.shape[1]) @ rotation).reshape(*rearranged.shape[:2], -1)
    return np.ascontiguousarray((whitening @ rearranged).swapaxes(0, 1), dtype=np.float32)


def rearrange_interest_exactly(
    interest: Floats, nuisance: Floats, sources: NDArray[np.int64], signs: NDArray[np.int8], *, first_row: int
) -> Floats:
    """Rearrange the rows of the interest as `rearrange_interest` does, without rounding to float32.

    Parameters
    ----------
    interest, nuisance, sources, signs, first_row
        As there.

    Returns
    -------
    ndarray of float64, shape (r, BATCH, n_rows)
    """
    rearranged, whitening = _rearrange(interest, nuisance, sources, signs, first_row)
    return np.ascontiguousarray((whitening @ rearranged).swapaxes(0, 1))


def _rearrange(
    interest: Floats, nuisance: Floats, sources: NDArray[np.int64], signs: NDArray[np.int8], first_row: int
) -> tuple[Floats, Floats]:
    """Return ``X`` of a batch, (BATCH, r, n_rows), and ``(X'X)^(-1/2)``."""
    n_rows, rank = sources.shape[1], interest.shape[1]
    rearranged = np.zeros((BATCH, rank, n_rows))
    rearranged[first_row : first_row + len(sources)] = (interest.T[:, sources] * signs).swapaxes(0, 1)
    flat = rearranged.reshape(-1, n_rows)
    flat -= (flat @ nuisance) @ nuisance.T
    return rearranged, find_whitening(rearranged @ rearranged.swapaxes(1, 2))


def find_whitening(gram: Floats) -> Floats:
    """Find the symmetric matrices that make vectors of given products orthonormal, ``(X'X)^(-1/2)``.

    Parameters
    ----------
    gram : ndarray of float64, shape (..., r, r)
        ``X'X``, of vectors of which 1 is the largest norm that they can have.

    Returns
    -------
    ndarray of float64, shape (..., r, r)
        0 where rank was lost.
    """
    if gram.shape[-1] == 1:  # as below, without a decomposition
        return np.where(gram > DEGENERATE_PART, 1.0 / np.sqrt(np.where(gram > DEGENERATE_PART, gram, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(gram)
    has_rank = values[..., 0] > DEGENERATE_PART
    scale = 1.0 / np.sqrt(np.where(has_rank[..., np.newaxis], values, 1.0))
    whitening: Floats = (vectors * scale[..., np.newaxis, :]) @ vectors.swapaxes(-1, -2)
    whitening[~has_rank] = 0.0
    return whitening


def score_tile(designs: Singles, tile: Singles, scores: Singles, product: Singles) -> None:
    """Compute the correlation of the voxels of a tile with each rearrangement, or its square where there are several.

    ``rho = U*'Y``; with several directions or stacks of data the sum of their squares, ``R2``.

    Parameters
    ----------
    designs : ndarray of float32, shape (r, BATCH, n_rows)
        ``U*``, of `rearrange_interest`.
    tile : ndarray of float32, shape (n_within, n_rows, TILE)
        ``Y``, of unit sum of squares at each voxel, in the coordinates of the designs.
    scores : ndarray of float32, shape (BATCH, TILE)
        Filled with rho (signed) if r = n_within = 1, else with R2.
    product : ndarray of float32, shape (BATCH, TILE)
        Scratch.
    """
    if len(designs) == len(tile) == 1:
        np.matmul(designs[0], tile[0], out=scores)
        return
    scores.fill(0.0)
    for stack in tile:
        for design in designs:
            np.matmul(design, stack, out=product)
            add_squares(product, scores)


@njit(nogil=True)
def add_squares(values: Singles, total: Singles) -> None:
    """Add the squares of values to a total.

    Parameters
    ----------
    values, total : ndarray of float32, shape (BATCH, TILE)
    """
    for row in range(values.shape[0]):
        for voxel in range(values.shape[1]):
            total[row, voxel] += values[row, voxel] * values[row, voxel]


@njit(nogil=True)
def convert_to_t(scores: Singles, heights: Singles, column: int, n_voxels: int, dof: float) -> None:
    """Turn correlations into t.

    ``t = rho sqrt(dof / (1 - rho^2))``.

    Parameters
    ----------
    scores : ndarray of float32, shape (BATCH, TILE)
    heights : ndarray of float32, shape (BATCH, n_columns)
        Filled from `column` on. Not the scores themselves: the loop would not be vectorised.
    column, n_voxels : int
        Where the tile's voxels begin among the columns, and how many there are.
    dof : float
        Of the error.
    """
    single_dof = np.float32(dof)
    smallest = np.float32(SMALLEST_UNEXPLAINED)
    for row in range(scores.shape[0]):
        for voxel in range(n_voxels):
            rho = scores[row, voxel]
            unexplained = max((ONE - rho) * (ONE + rho), smallest)
            heights[row, column + voxel] = rho * np.sqrt(single_dof / unexplained)


@njit(nogil=True)
def convert_to_f(scores: Singles, heights: Singles, column: int, n_voxels: int, dof_ratio: float) -> None:
    """Turn explained parts of the sum of squares into F.

    ``F = (R2 / dof1) / ((1 - R2) / dof2)``.

    Parameters
    ----------
    scores : ndarray of float32, shape (BATCH, TILE)
    heights : ndarray of float32, shape (BATCH, n_columns)
        Filled from `column` on. Not the scores themselves: the loop would not be vectorised.
    column, n_voxels : int
        Where the tile's voxels begin among the columns, and how many there are.
    dof_ratio : float
        ``dof2 / dof1``, of the error over that of the effect.
    """
    ratio = np.float32(dof_ratio)
    smallest = np.float32(SMALLEST_UNEXPLAINED)
    for row in range(scores.shape[0]):
        for voxel in range(n_voxels):
            explained = scores[row, voxel]
            heights[row, column + voxel] = ratio * explained / max(ONE - explained, smallest)


@njit(nogil=True)
def tally(
    scores: Singles,
    column: int,
    rows: tuple[int, int],
    tied: Singles,
    above: NDArray[np.int32],
    below: NDArray[np.int32],
    largest: Singles,
    smallest: Singles,
    two_sided: bool,
) -> None:
    """Update the maxima of the rearrangements, and at each voxel how many reach what was observed.

    Parameters
    ----------
    scores : ndarray of float32, shape (BATCH, n_columns)
        Not nan.
    column : int
        Where the tile's voxels begin among the columns.
    rows : (int, int)
        First and last + 1 of the batch's rows that are used.
    tied : ndarray of float32, shape (n_tile_voxels,)
        The least score that counts as one that reaches the observed.
    above, below : ndarray of int32, shape (n_tile_voxels,)
        Raised by how many scores, and by how many of the negated scores, are at least `tied`; two-sided only the
        first, by how many absolute values.
    largest, smallest : ndarray of float32, shape (BATCH,)
        Of the scores so far; two-sided only the first, of the absolute values.
    two_sided : bool
        Whether the absolute values of the scores are meant.
    """
    # As whole numbers the bits of floats are compared in the processor's vectors, which floats' maxima are not.
    bits, high, low = scores.view(np.int32), largest.view(np.int32), smallest.view(np.int32)
    for row in range(rows[0], rows[1]):
        if two_sided:
            high[row] = _tally_sizes(scores[row, column:], bits[row, column:], tied, above, high[row])
        else:
            found = _tally_values(scores[row, column:], bits[row, column:], tied, above, below, high[row], low[row])
            high[row], low[row] = found


@njit(nogil=True)
def _tally_sizes(
    scores: Singles, bits: NDArray[np.int32], tied: Singles, above: NDArray[np.int32], high: np.int32
) -> np.int32:
    """Count the absolute values that reach what was observed; return the bits of the largest."""
    for voxel in range(len(tied)):
        high = max(high, bits[voxel] & MAGNITUDE)
        above[voxel] += np.int32(abs(scores[voxel]) >= tied[voxel])
    return high


@njit(nogil=True)
def _tally_values(
    scores: Singles,
    bits: NDArray[np.int32],
    tied: Singles,
    above: NDArray[np.int32],
    below: NDArray[np.int32],
    high: np.int32,
    low: np.int32,
) -> tuple[np.int32, np.int32]:
    """Count the values, and the negated values, that reach what was observed; return the bits of the extremes."""
    largest, smallest = _order_bits(high), _order_bits(low)
    for voxel in range(len(tied)):
        key = _order_bits(bits[voxel])
        largest, smallest = max(largest, key), min(smallest, key)
        above[voxel] += np.int32(scores[voxel] >= tied[voxel])
        below[voxel] += np.int32(-scores[voxel] >= tied[voxel])
    return _order_bits(largest), _order_bits(smallest)


@njit(nogil=True)
def _order_bits(bits: np.int32) -> np.int32:
    """Turn the bits of a float into a whole number that sorts as the float does, or back."""
    return bits ^ ((bits >> SIGN_PLACE) & MAGNITUDE)
