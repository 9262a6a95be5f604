"""Noise for simulated datasets: smooth random fields on a small brain-like mask, in several laws."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

SHAPE = (12, 14, 12)  # voxels
VOXEL_SIZE = 3.0  # mm
FWHM = 3.0  # voxels: the least that random field theory is asked to hold for
SIGMA = FWHM / np.sqrt(8 * np.log(2))
REACH = 4  # voxels beyond the volume that lend to it: three sigmas
HEAVY_DOF = 4  # of the t that stands for heavy tails: its kurtosis is infinite
SIGNAL_RADIUS = 0.45  # of the ellipsoid: some 10% of its voxels
LAWS = ("gaussian", "heavy", "skewed")


class Search:
    """The volume that is searched: an ellipsoid of some 1,000 voxels, and what noise is smoothed by."""

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Return the searched voxels, of shape (x, y, z)."""
        return self.measure_radius() <= 1

    @cached_property
    def n_voxels(self) -> int:
        """Return how many there are."""
        return int(self.mask.sum())

    @cached_property
    def kernels(self) -> tuple[NDArray[np.float32], ...]:
        """Return for each axis the weights of the noise, of shape (n_out, n_out + 2 reach), each row of unit norm."""
        return tuple(_build_kernel(length) for length in SHAPE)

    def measure_radius(self) -> Floats:
        """Return the distance from the centre, 1 at the ellipsoid's surface, of shape (x, y, z)."""
        halves = np.array(SHAPE) / 2
        offsets = [np.arange(length) - (length - 1) / 2 for length in SHAPE]
        x, y, z = np.meshgrid(*(one / half for one, half in zip(offsets, halves, strict=True)), indexing="ij")
        return np.sqrt(x**2 + y**2 + z**2)


def _build_kernel(length: int) -> NDArray[np.float32]:
    distance = np.arange(length)[:, np.newaxis] - (np.arange(length + 2 * REACH) - REACH)
    weights = np.exp(-(distance**2) / (2 * SIGMA**2))
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


SEARCH = Search()


def draw_fields(rng: np.random.Generator, n: int) -> Floats:
    """Draw smooth Gaussian fields of mean 0 and variance 1 on the searched voxels.

    Parameters
    ----------
    rng : Generator
    n : int

    Returns
    -------
    ndarray of float64, shape (n, n_voxels)
    """
    x, y, z = SEARCH.kernels
    white = rng.standard_normal((n, x.shape[1], y.shape[1], z.shape[1]), dtype=np.float32)
    smooth = y @ (white @ z.T)  # along the last two axes
    smooth = x @ smooth.reshape(n, x.shape[1], len(y) * len(z))
    return smooth.reshape(n, *SHAPE)[:, SEARCH.mask].astype(np.float64)


def _make_heavy(fields: Floats) -> Floats:
    return special.stdtrit(HEAVY_DOF, special.ndtr(fields))


def _make_skewed(fields: Floats) -> Floats:
    return -special.log_ndtr(-fields) - 1.0


_MAKE: dict[str, Callable[[Floats], Floats]] = {
    "gaussian": lambda fields: fields,
    "heavy": _make_heavy,
    "skewed": _make_skewed,
}


def draw_errors(rng: np.random.Generator, n: int, law: str) -> Floats:
    """Draw smooth fields of mean 0 in some law, voxel by voxel a rising function of a Gaussian field.

    Parameters
    ----------
    rng : Generator
    n : int
    law : {'gaussian', 'heavy', 'skewed'}
        Normal; t with 4 degrees of freedom; exponential minus its mean.

    Returns
    -------
    ndarray of float64, shape (n, n_voxels)
    """
    return _MAKE[law](draw_fields(rng, n))


def find_signal() -> NDArray[np.bool_]:
    """Return which searched voxels have an effect in the cells with signal: the innermost, of shape (n_voxels,)."""
    return SEARCH.measure_radius()[SEARCH.mask] <= SIGNAL_RADIUS
