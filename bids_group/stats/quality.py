"""What is odd about the maps of a model: likeness to the others, scale, mirror images, copies, influence on the fit.

Everything but the mirror comes from one walk over the voxels: the Gram matrix of the rows gives their correlations
and the principal components of their residuals, the residuals themselves Cook's distances. Nothing is judged here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bids_group.column_space import ColumnSpace
from bids_group.stats.glm import UNFITTED_PART, choose_block_voxels

# The median absolute deviation of normal values times this is their standard deviation.
MAD_TO_SD = 1.4826
# Voxels with a Cook's distance above 4 / n deserve a look (Bollen & Jackman 1985).
COOK_NUMERATOR = 4.0
# A row of this leverage is fitted whatever it holds: its residual is rounding.
FULL_LEVERAGE = 1.0 - 1e-8
# Components are taken until they hold this share of the residuals; the rest is mostly noise of single voxels ...
COMPONENT_SHARE = 0.5
# ... and no more than one for this many rows, so that the spread of each can be estimated.
ROWS_PER_COMPONENT = 5
# With fewer, one of the maps of most studies of pure noise lies several robust standard deviations out.
FEWEST_ROWS_OF_DISTANCES = 15
# Copies correlate to rounding; only such pairs are compared value by value.
COPY_CORRELATION = 1.0 - 1e-6
# A grid whose x axis leans further (sine of the angle) has no mirror image on its own voxels.
LARGEST_LEAN = 0.02
# With fewer voxels on both sides of x = 0 the mask says little about left and right.
LEAST_PAIRED_SHARE = 0.8
FEWEST_COMPARED = 3  # a map can stand out from others, when these are at least two

Floats = NDArray[np.float64]
Columns = NDArray[np.integer] | None  # None for all


@dataclass(frozen=True)
class MapQuality:
    """What was measured of each map; NaN where a measure does not exist.

    Attributes
    ----------
    mean, sd : ndarray of float64, shape (n_rows,)
        Over the analysed voxels, in the units of the maps.
    correlation : ndarray of float64, shape (n_rows,)
        With the mean of the other maps of its group, each scaled to unit SD.
    asymmetry : ndarray of float64, shape (n_rows,)
        The same correlation of the differences between left and right. It is negative exactly where the mirrored map
        is more like the others than the map itself is.
    distance : ndarray of float64, shape (n_rows,)
        Robust distance of the residuals from their centre, in the leading principal components, the maps being scaled
        to unit SD: of their patterns, whatever their scale.
    leverage : ndarray of float64, shape (n_rows,)
    cook_share, cook_expected : ndarray of float64, shape (n_rows,)
        Share of the voxels with a Cook's distance above ``4 / n_rows``, and the share expected of normal errors.
    same_as : ndarray of int64, shape (n_rows,)
        The first row with the same values, its own if there is none before.
    """

    mean: Floats
    sd: Floats
    correlation: Floats
    asymmetry: Floats
    distance: Floats
    leverage: Floats
    cook_share: Floats
    cook_expected: Floats
    same_as: NDArray[np.int64]


@dataclass(frozen=True)
class _Moments:
    """Sums of the rows over the voxels and, of each row, the voxels that it moves."""

    total: Floats
    gram: Floats
    n_moved: Floats
    n_fitted: int


def measure_quality(
    data: NDArray[np.floating],
    space: ColumnSpace,
    groups: NDArray[np.integer],
    mirror: NDArray[np.int64] | None = None,
    *,
    columns: Columns = None,
    block_voxels: int | None = None,
) -> MapQuality:
    """Measure what may be odd about each map of a model.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_columns)
        Finite in the measured columns. Computed in float64, block by block.
    space : ColumnSpace
        Of the design that the residuals, leverages and Cook's distances are of.
    groups : ndarray of int, shape (n_rows,)
        Maps of one group (of one contrast) are compared with each other.
    mirror : ndarray of int64, shape (n_voxels,), or None
        What `find_mirror` returned, of the measured voxels.
    columns : ndarray of int, shape (n_voxels,), or None
        The columns of the data that are measured; None for all of them. Copies are judged in all columns.
    block_voxels : int or None
        Voxels computed at a time; None for what suits the number of rows.

    Returns
    -------
    MapQuality
        Without columns, mean and SD are NaN.

    References
    ----------
    Cook 1977, Technometrics 19, 15-18.
    """
    n_rows = len(data)
    size = block_voxels or choose_block_voxels(n_rows)
    leverage = np.einsum("ij,ij->i", space.basis, space.basis)
    moments = _sum_over_voxels(data, columns, space.basis, leverage, size)
    n_voxels = (data.shape[1] if columns is None else len(columns)) or np.nan
    mean = moments.total / n_voxels
    covariance = moments.gram / n_voxels - np.outer(mean, mean)
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.where(sd > 0, sd, 1.0)
    likeness = covariance / np.outer(scale, scale)
    cook_share = np.where(leverage < FULL_LEVERAGE, moments.n_moved / max(moments.n_fitted, 1), np.nan)
    unknown = np.full(n_rows, np.nan)
    return MapQuality(
        mean=mean,
        sd=sd,
        correlation=correlate_with_others(likeness, groups),
        asymmetry=unknown if mirror is None else _correlate_asymmetry(data, columns, scale, groups, mirror, size),
        distance=find_distances(moments.gram / np.outer(scale, scale), space.basis),
        leverage=leverage,
        cook_share=cook_share,
        cook_expected=expect_cook_share(leverage, space.rank),
        same_as=_find_copies(data, likeness),
    )


def _sum_over_voxels(
    data: NDArray[np.floating], columns: Columns, basis: Floats, leverage: Floats, block_voxels: int
) -> _Moments:
    n_rows = len(data)
    total, gram, n_moved, n_fitted = np.zeros(n_rows), np.zeros((n_rows, n_rows)), np.zeros(n_rows), 0
    for start in range(0, data.shape[1] if columns is None else len(columns), block_voxels):
        block = slice(start, start + block_voxels)
        values = data[:, block if columns is None else columns[block]].astype(np.float64)
        total += values.sum(axis=1)
        gram += values @ values.T
        total_ss = np.einsum("ij,ij->j", values, values)
        values -= basis @ (basis.T @ values)
        fitted = np.einsum("ij,ij->j", values, values) > UNFITTED_PART * total_ss
        n_fitted += int(fitted.sum())
        distances = compute_cook(values[:, fitted], leverage, basis.shape[1])
        n_moved += (distances > COOK_NUMERATOR / n_rows).sum(axis=1)
    return _Moments(total, gram, n_moved, n_fitted)


def compute_cook(residuals: Floats, leverage: Floats, rank: int) -> Floats:
    """Compute Cook's distance of every row in every voxel.

    ``D = e^2 h / (rank s2 (1 - h)^2)``: how far the fitted values move, in units of their own error, without the row.

    Parameters
    ----------
    residuals : ndarray of float64, shape (n_rows, n_voxels)
        No column of zeros.
    leverage : ndarray of float64, shape (n_rows,)
    rank : int
        Of the design.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_voxels)
        0 where the leverage is 1, since nothing is known of such a row.

    References
    ----------
    Cook 1977, Technometrics 19, equation 8.
    """
    is_free = leverage < FULL_LEVERAGE
    weight = np.where(is_free, leverage, 0.0) / np.where(is_free, 1.0 - leverage, 1.0) ** 2
    squares = residuals**2
    variance = squares.sum(axis=0) / (len(residuals) - rank)
    squares *= weight[:, None] / rank
    squares /= variance
    return squares


def expect_cook_share(leverage: Floats, rank: int) -> Floats:
    """Return the share of voxels in which an ordinary row exceeds a Cook's distance of ``4 / n``.

    ``P(B > 4 rank (1 - h) / (n h dof))``: a squared studentised residual over dof is ``B ~ Beta(1/2, (dof - 1) / 2)``.

    Parameters
    ----------
    leverage : ndarray of float64, shape (n_rows,)
    rank : int
        Of the design.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        NaN where the leverage is 1, or with fewer than 2 degrees of freedom.

    References
    ----------
    Cook & Weisberg 1982, Residuals and Influence in Regression, section 2.2.1.
    """
    n_rows = len(leverage)
    dof = n_rows - rank
    if dof <= 1:
        return np.full(n_rows, np.nan)
    with np.errstate(divide="ignore"):
        bound = COOK_NUMERATOR * rank * (1.0 - leverage) / (n_rows * leverage * dof)
    expected: Floats = stats.beta.sf(bound, 0.5, (dof - 1) / 2.0)
    return np.where(leverage < FULL_LEVERAGE, expected, np.nan)


def correlate_with_others(likeness: Floats, groups: NDArray[np.integer]) -> Floats:
    """Correlate each map with the mean of the other maps of its group, all scaled to unit SD.

    ``r_i = sum_j R_ij / sqrt(sum_jk R_jk)`` over the others j, k of the group: a map of a larger scale has no more say.

    Parameters
    ----------
    likeness : ndarray of float64, shape (n_rows, n_rows)
        ``R``, the correlations of the rows over voxels.
    groups : ndarray of int, shape (n_rows,)

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        NaN for maps that are alone in their group, or constant.
    """
    same = groups[:, None] == groups[None, :]
    within = np.where(same, likeness, 0.0)
    to_group = within.sum(axis=1)
    whole = same @ to_group  # of each row's group, over all pairs
    own = np.diag(likeness)
    others = whole - 2.0 * to_group + own
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (to_group - own) / np.sqrt(others)
    return np.where((same.sum(axis=1) > 1) & (own > 0) & (others > 0), found, np.nan)


def find_distances(gram: Floats, basis: Floats) -> Floats:
    """Find how far each map's residuals lie from the centre, in the leading principal components.

    ``d_i = sqrt(mean_k z_ik^2)``, ``z_ik`` the i-th score on component k, less the median, over the scaled MAD.

    Parameters
    ----------
    gram : ndarray of float64, shape (n_rows, n_rows)
        ``Y Y'`` of maps of about the same scale.
    basis : ndarray of float64, shape (n_rows, rank)
        Of the design, whose fit is taken out first.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        About 1 for an ordinary map; NaN with fewer than 15 rows, or a leverage of 1.

    References
    ----------
    Filzmoser, Maronna & Werner 2008, Computational Statistics & Data Analysis 52, 1694-1711, phase 1, with the
    classical components of few rows in place of robust ones.
    """
    n_rows = len(gram)
    if n_rows < FEWEST_ROWS_OF_DISTANCES:
        return np.full(n_rows, np.nan)
    residual = gram - basis @ (basis.T @ gram)
    residual -= (residual @ basis) @ basis.T
    values, vectors = np.linalg.eigh((residual + residual.T) / 2.0)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    n_needed = int(np.searchsorted(np.cumsum(values), COMPONENT_SHARE * values.sum())) + 1
    leading = vectors[:, : min(n_needed, n_rows // ROWS_PER_COMPONENT)]
    leading = np.where((np.einsum("ij,ij->i", basis, basis) < FULL_LEVERAGE)[:, None], leading, np.nan)
    scores = np.column_stack([score_robustly(one) for one in leading.T])
    return np.sqrt(np.mean(scores**2, axis=1))


def score_robustly(values: Floats, *, least_spread: float = 0.0) -> Floats:
    """Return how many robust standard deviations values lie from their median.

    ``z = (x - median) / max(1.4826 median|x - median|, least_spread)``.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        NaN are left out of median and spread.
    least_spread : float
        In the units of the values: differences of less do not count as a spread.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where the value is; all NaN with fewer than 3 values, 0 where there is no spread.

    References
    ----------
    Iglewicz & Hoaglin 1993, How to detect and handle outliers.
    """
    known = values[~np.isnan(values)]
    if len(known) < FEWEST_COMPARED:
        return np.full(len(values), np.nan)
    centred = values - np.median(known)
    spread = max(MAD_TO_SD * float(np.median(np.abs(known - np.median(known)))), least_spread)
    return centred / spread if spread > 0 else np.where(np.isnan(values), np.nan, 0.0)


def _find_copies(data: NDArray[np.floating], likeness: Floats) -> NDArray[np.int64]:
    same_as = np.arange(len(data))
    for later, first in np.argwhere(np.tril(likeness, -1) > COPY_CORRELATION):
        if same_as[later] == later and np.array_equal(data[later], data[first], equal_nan=True):
            same_as[later] = first
    return same_as


def find_mirror(mask: NDArray[np.bool_], affine: Floats) -> NDArray[np.int64] | None:
    """Find the voxel on the other side of x = 0, to within half a voxel, for each voxel of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    affine : ndarray of float64, shape (4, 4)
        From voxel indices to world coordinates, in mm, x from left to right.

    Returns
    -------
    ndarray of int64, shape (n_voxels,), or None
        Positions among the voxels of the mask, -1 where its mirror image has none. None if no axis of the grid runs
        along x, if fewer than 80% of the voxels have a partner, or if there is no voxel.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axis = int(np.argmax(np.abs(directions[0])))
    crossing = np.concatenate([np.delete(directions[0], axis), np.delete(directions[:, axis], 0)])
    if np.abs(crossing).max() > LARGEST_LEAN or not mask.any():
        return None
    indices = np.argwhere(mask)
    # The centre of the mask in the other axes: with a slight lean, where x = 0 is there.
    origin = affine[0, 3] + np.delete(affine[0, :3], axis) @ np.delete(indices.mean(axis=0), axis)
    indices[:, axis] = np.rint(-2.0 * origin / affine[0, axis]).astype(np.int64) - indices[:, axis]
    inside = (indices[:, axis] >= 0) & (indices[:, axis] < mask.shape[axis])
    positions = np.full(mask.shape, -1, dtype=np.int64)
    positions[mask] = np.arange(len(indices))
    partners = np.full(len(indices), -1, dtype=np.int64)
    partners[inside] = positions[tuple(indices[inside].T)]
    return partners if np.mean(partners >= 0) >= LEAST_PAIRED_SHARE else None


def _correlate_asymmetry(
    data: NDArray[np.floating],
    columns: Columns,
    scale: Floats,
    groups: NDArray[np.integer],
    mirror: NDArray[np.int64],
    block_voxels: int,
) -> Floats:
    """Correlate each map's differences between the sides with those of the mean of the others of its group.

    A difference changes its sign with the side, so that its mean over all voxels with a partner is 0.
    """
    here: NDArray[np.integer] = np.flatnonzero(mirror >= 0)
    there: NDArray[np.integer] = mirror[here]
    if columns is not None:
        here, there = columns[here], columns[there]
    names, of_group = np.unique(groups, return_inverse=True)
    members = (of_group == np.arange(len(names))[:, None]).astype(np.float64)
    own_ss, others_ss, cross = np.zeros((3, len(data)))
    for start in range(0, len(here), block_voxels):
        block = slice(start, start + block_voxels)
        own = data[:, here[block]].astype(np.float64)
        own -= data[:, there[block]]
        own /= scale[:, None]
        others = (members @ own)[of_group] - own
        own_ss += np.einsum("ij,ij->i", own, own)
        others_ss += np.einsum("ij,ij->i", others, others)
        cross += np.einsum("ij,ij->i", own, others)
    size = np.sqrt(own_ss * others_ss)
    return np.where(size > 0, cross / np.where(size > 0, size, 1.0), np.nan)


def delete_rows(values: NDArray[np.floating], space: ColumnSpace, weights: Floats) -> Floats:
    """Compute the t of one voxel without each of its rows in turn, exactly and without fitting again.

    With ``k = c'(X'X)^-``, the effect becomes ``c'b - k x_i e_i / (1 - h_i)``, its unscaled variance
    ``k c + (k x_i)^2 / (1 - h_i)`` and the residual sum of squares ``RSS - e_i^2 / (1 - h_i)``.

    Parameters
    ----------
    values : ndarray of float, shape (n_rows,)
        Of the voxel.
    space : ColumnSpace
        Of the design.
    weights : ndarray of float64, shape (n_columns,)
        Of the contrast; estimable.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        NaN where without the row nothing is left to test: no degree of freedom, or a leverage of 1.

    References
    ----------
    Belsley, Kuh & Welsch 1980, Regression Diagnostics, equations 2.1, 2.8 and 2.13.
    """
    dof = len(values) - space.rank - 1
    scores = space.basis.T @ values.astype(np.float64)
    residuals = values - space.basis @ scores
    left = 1.0 - np.einsum("ij,ij->i", space.basis, space.basis)
    is_free = left > 1.0 - FULL_LEVERAGE
    left = np.where(is_free, left, 1.0)
    loading = space.score_weights(weights[None])[0]
    at_rows = space.basis @ loading
    effect = loading @ scores - at_rows * residuals / left
    variance = (loading @ loading + at_rows**2 / left) * (residuals @ residuals - residuals**2 / left) / max(dof, 1)
    is_tested = is_free & (dof > 0) & (variance > 0)
    return np.where(is_tested, effect / np.sqrt(np.where(is_tested, variance, 1.0)), np.nan)
