"""How smooth the noise is, from the residuals of the fit, and how many resels the search volume has.

The noise is taken to be a stationary Gaussian field: one smoothness along each axis of the grid, the same everywhere.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from bids_group.stats.distributions import LOG_HALF
from bids_group.stats.glm import choose_block_voxels

N_DIMENSIONS = 3
# Neighbours of unsmoothed noise do not correlate, and it would have no FWHM: it gets a third of a voxel, at which
# Bonferroni is the smaller p.
SMALLEST_CORRELATION = 1e-6

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Smoothness:
    """How smooth the noise is, and how much of it there is.

    Attributes
    ----------
    fwhm_mm, fwhm_voxels : ndarray of float64, shape (3,)
        Of the Gaussian kernel that makes noise of this smoothness, along the axes of the grid; infinite along an axis
        along which the mask is one voxel thick.
    resels : ndarray of float64, shape (4,)
        Of the search volume, R0 to R3: its EC, diameter, surface and volume in units of the FWHM.
    n_voxels : int
        Of the search volume.
    resel_size : float
        Voxels per resel, the product of the finite FWHM.
    """

    fwhm_mm: Floats
    fwhm_voxels: Floats
    resels: Floats
    n_voxels: int
    resel_size: float


def estimate_smoothness(
    data: NDArray[np.floating],
    basis: Floats,
    residual_ss: Floats,
    mask: NDArray[np.bool_],
    voxel_sizes: ArrayLike,
    *,
    block_voxels: int | None = None,
) -> Smoothness:
    """Estimate the smoothness of the noise from the standardised residuals.

    With ``u = (1 - Q Q') y / sqrt(residual_ss)`` the mean over the neighbours along an axis of
    ``1 - |u_i - u_j|^2 / 2`` is the mean sample correlation. The ``rho`` of which it is the expectation gives, for a
    Gaussian kernel, ``FWHM = sqrt(-2 log 2 / log rho)`` voxels.

    Kiebel takes ``|u_i - u_j|^2`` for the squared derivative, ``4 log 2 / FWHM^2``, averages the root of the
    determinant, and needs no other correction for nu dof: summed over the maps, ``u`` holds the factor n / nu by which
    a mean over n maps of residuals in units of their standard deviation would have to be scaled. But a difference of
    neighbours is smaller than the derivative: ``2 (1 - rho)`` against ``-2 log rho``, 4% too smooth along each axis at
    a FWHM of 3 voxels. Hence the correlation, whose mean over voxels is too small, ``1 - rho`` by a factor of about
    ``(nu - 1) / (nu - 2)``, and is corrected exactly. Correlations between the axes of the grid are neglected:
    there are then too many resels, not too few.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
        Voxels in the order of ``np.nonzero(mask)``. Three float64 blocks of `block_voxels` are held at a time.
    basis : ndarray of float64, shape (n_rows, rank)
        ``Q``, orthonormal, of the design's column space.
    residual_ss : ndarray of float64, shape (n_voxels,)
        Positive.
    mask : ndarray of bool, shape (x, y, z)
    voxel_sizes : array_like of float, shape (3,)
        Millimetres.
    block_voxels : int or None
        None for what suits the number of rows.

    Returns
    -------
    Smoothness

    Raises
    ------
    ValueError
        If mask and data differ in voxels, or a voxel has no residuals.

    References
    ----------
    Kiebel et al. 1999, NeuroImage 10:756-766; Forman et al. 1995 (FWHM from the correlation of neighbours);
    Hotelling 1953 (expectation of a correlation).
    """
    n_mask = int(np.count_nonzero(mask))
    if not n_mask == data.shape[1] == len(residual_ss):
        raise ValueError(f"the mask has {n_mask} voxels, but there are {data.shape[1]} in the data")
    if not np.all(residual_ss > 0):
        raise ValueError("a voxel without residuals has no smoothness; restrict the mask to the others first")
    neighbours = _find_neighbours(mask)
    block_voxels = block_voxels or choose_block_voxels(data.shape[0])
    squared = _sum_squared_differences(data, basis, residual_ss, neighbours, block_voxels)
    counts = [int(np.count_nonzero(one >= 0)) for one in neighbours]
    dof = data.shape[0] - basis.shape[1]
    fwhm = np.array([_find_fwhm(total, n, dof) for total, n in zip(squared, counts, strict=True)])
    resel_size = float(np.prod(fwhm[np.isfinite(fwhm)]))
    return Smoothness(fwhm * np.asarray(voxel_sizes, float), fwhm, count_resels(mask, fwhm), n_mask, resel_size)


def _find_neighbours(mask: NDArray[np.bool_]) -> Indices:
    """Return the number of each voxel's next neighbour along each axis, -1 outside the mask; shape (3, n_voxels)."""
    padded = np.pad(mask, (0, 1))
    numbers = np.full(padded.shape, -1, dtype=np.intp)
    numbers[padded] = np.arange(np.count_nonzero(mask))
    return np.stack([np.roll(numbers, -1, axis)[padded] for axis in range(N_DIMENSIONS)])


def _sum_squared_differences(
    data: NDArray[np.floating], basis: Floats, residual_ss: Floats, neighbours: Indices, block_voxels: int
) -> Floats:
    """Sum the squared differences of neighbours' standardised residuals along each axis, block by block."""
    totals = np.zeros(len(neighbours))
    for start in range(0, data.shape[1], block_voxels):
        block = np.arange(start, min(start + block_voxels, data.shape[1]))
        values = _standardise_residuals(data, basis, residual_ss, block)
        for axis, following in enumerate(neighbours[:, block]):
            # Made once more for the neighbours: they may be a whole plane of the grid away, far outside the block.
            difference = _standardise_residuals(data, basis, residual_ss, following[following >= 0])
            difference -= values[:, following >= 0]
            totals[axis] += np.vdot(difference, difference)
    return totals


def _standardise_residuals(data: NDArray[np.floating], basis: Floats, residual_ss: Floats, voxels: Indices) -> Floats:
    """Return the residuals of some voxels, of unit sum of squares."""
    values = data[:, voxels].astype(np.float64)
    values -= basis @ (basis.T @ values)
    values /= np.sqrt(residual_ss[voxels])
    return values


def _find_fwhm(squared_differences: float, n_pairs: int, dof: int) -> float:
    """Return the FWHM, in voxels, of the kernel whose noise has this sum of squared differences."""
    if n_pairs == 0:
        return np.inf
    mean = 1.0 - squared_differences / (2.0 * n_pairs)
    if mean <= _expect_correlation(SMALLEST_CORRELATION, dof):
        return float(np.sqrt(2.0 * LOG_HALF / np.log(SMALLEST_CORRELATION)))
    rho = optimize.brentq(lambda one: _expect_correlation(one, dof) - mean, SMALLEST_CORRELATION, 1.0)
    return float(np.sqrt(2.0 * LOG_HALF / np.log(rho)))


def _expect_correlation(rho: float, dof: int) -> float:
    """Return the expectation of the sample correlation of `dof` independent pairs of known mean."""
    ratio = np.exp(special.gammaln((dof + 1) / 2) - special.gammaln(dof / 2))
    return float(rho * 2.0 / dof * ratio**2 * special.hyp2f1(0.5, 0.5, dof / 2 + 1, rho**2))


def count_resels(mask: NDArray[np.bool_], fwhm_voxels: ArrayLike) -> Floats:
    """Count the resels of a mask of any shape.

    Voxels are points; points, edges, faces and cubes of which all corners lie in the mask are counted as ``P``,
    ``E_x``, ``F_xy``, ``C``. With ``r = 1 / FWHM``: ``R0 = P - sum E + sum F - C``,
    ``R1 = sum r_x (E_x - F_xy - F_xz + C)``, ``R2 = sum r_x r_y (F_xy - C)``, ``R3 = r_x r_y r_z C``.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    fwhm_voxels : array_like of float, shape (3,)

    Returns
    -------
    ndarray of float64, shape (4,)

    References
    ----------
    Worsley et al. 1996, Human Brain Mapping 4:58-73, resels of an arbitrary search region.

    Examples
    --------
    >>> import numpy as np
    >>> count_resels(np.ones((3, 4, 5), bool), (1.0, 1.0, 2.0))
    array([ 1.,  7., 16., 12.])
    """
    x, y, z = 1.0 / np.asarray(fwhm_voxels, dtype=np.float64)
    points, cubes = _count_boxes(mask, ()), _count_boxes(mask, (0, 1, 2))
    edges = [_count_boxes(mask, (axis,)) for axis in range(N_DIMENSIONS)]
    xy, xz, yz = (_count_boxes(mask, axes) for axes in ((0, 1), (0, 2), (1, 2)))
    return np.array(
        [
            points - sum(edges) + xy + xz + yz - cubes,
            x * (edges[0] - xy - xz + cubes) + y * (edges[1] - xy - yz + cubes) + z * (edges[2] - xz - yz + cubes),
            x * y * (xy - cubes) + x * z * (xz - cubes) + y * z * (yz - cubes),
            x * y * z * cubes,
        ]
    )


def _count_boxes(mask: NDArray[np.bool_], axes: tuple[int, ...]) -> int:
    """Count the boxes, one voxel long along the axes and flat along the others, with all corners in the mask."""
    inside = np.asarray(mask, dtype=bool)
    for axis in axes:
        inside = np.delete(inside, 0, axis) & np.delete(inside, -1, axis)
    return int(np.count_nonzero(inside))
