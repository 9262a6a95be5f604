"""Smoothing of maps that have missing voxels."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))


def smooth_map(
    values: NDArray[np.float32], fwhm_mm: float, voxel_sizes: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Smooth a map with a Gaussian kernel, over the voxels that it has.

    ``(G * v p) / (G * p)`` with p 1 where the map has a value: missing voxels (zero or not finite) stay missing, and
    lend nothing to their neighbours, so that the edge of the brain is not drawn towards zero (normalised convolution,
    Knutsson & Westin 1993).

    Parameters
    ----------
    values : ndarray of float32, shape (x, y, z)
    fwhm_mm : float
        Full width at half maximum, in mm.
    voxel_sizes : tuple of float, length 3
        In mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        Missing voxels 0.
    """
    present = np.isfinite(values) & (values != 0)
    sigma = [fwhm_mm / FWHM_PER_SIGMA / size for size in voxel_sizes]
    known = np.where(present, values, 0.0).astype(np.float64)
    weighted = ndimage.gaussian_filter(known, sigma, mode="constant")
    weight = ndimage.gaussian_filter(present.astype(np.float64), sigma, mode="constant")
    smoothed = np.zeros(values.shape, dtype=np.float32)
    smoothed[present] = weighted[present] / weight[present]
    return smoothed
