"""Smoothing over the voxels that a map has."""

import numpy as np
from scipy import ndimage

from bids_group.inputs.smoothing import FWHM_PER_SIGMA, smooth_map

SIZES = (2.0, 3.0, 4.0)


def test_a_point_becomes_a_gaussian_of_the_width_asked_for():
    values = np.full((41, 41, 41), 1e-12, dtype=np.float32)
    values[20, 20, 20] = 1.0
    smoothed = smooth_map(values, 12.0, SIZES)
    for axis, size in enumerate(SIZES):
        line = np.moveaxis(smoothed, axis, 0)[:, 20, 20]
        variance = (line * (np.arange(41) - 20) ** 2).sum() / line.sum() * size**2
        np.testing.assert_allclose(np.sqrt(variance) * FWHM_PER_SIGMA, 12.0, rtol=0.01)


def test_within_a_full_map_it_is_the_plain_filter():
    values = np.random.default_rng(0).standard_normal((30, 30, 30)).astype(np.float32)
    sigma = [6.0 / FWHM_PER_SIGMA / size for size in SIZES]
    plain = ndimage.gaussian_filter(values.astype(float), sigma, mode="constant")
    inner = (slice(8, -8),) * 3
    np.testing.assert_allclose(smooth_map(values, 6.0, SIZES)[inner], plain[inner], atol=1e-6)


def test_missing_voxels_stay_missing_and_lend_nothing():
    values = np.full((12, 12, 12), 3.0, dtype=np.float32)
    values[:4] = np.nan
    values[:, :3] = 0.0
    smoothed = smooth_map(values, 8.0, SIZES)
    present = np.isfinite(values) & (values != 0)
    assert np.all(smoothed[~present] == 0)
    np.testing.assert_allclose(smoothed[present], 3.0, rtol=1e-6)
