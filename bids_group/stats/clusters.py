"""Clusters of surviving voxels, sign by sign, and the local maxima in them.

Voxels are numbered in the order of ``np.nonzero(mask)``, which everything of shape (n_voxels,) follows.
"""

from dataclasses import dataclass
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from bids_group.vocabulary import Connectivity

# Voxels that touch by a face; by a face or an edge; by a face, an edge or a corner.
SHARED_BY: dict[int, int] = dict(zip(get_args(Connectivity), (1, 2, 3), strict=True))
# Affines are often rounded to float32: voxels four steps of 2 mm apart must still count as 8 mm apart.
DISTANCE_TOLERANCE = 1e-6

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class ClusterSet:
    """The clusters of a map; cluster ``i`` of the attributes of shape (n_clusters,) has the id ``i + 1``.

    Ids: positive clusters first, then by volume descending, by peak height descending, by first voxel.

    Attributes
    ----------
    labels : ndarray of int32, shape (n_voxels,)
        The id of each voxel's cluster, 0 outside.
    n_voxels : ndarray of int, shape (n_clusters,)
    sign : ndarray of int, shape (n_clusters,)
        1 or -1.
    peak : ndarray of int, shape (n_clusters,)
        Index of the voxel of largest absolute value, the first of several.
    mean : ndarray of float64, shape (n_clusters,)
        Of the values in the cluster.
    n_removed_clusters, n_removed_voxels : int
        How many clusters, and voxels in them, were smaller than asked for.
    """

    labels: NDArray[np.int32]
    n_voxels: Indices
    sign: Indices
    peak: Indices
    mean: Floats
    n_removed_clusters: int
    n_removed_voxels: int

    @property
    def n_clusters(self) -> int:
        """Return the number of clusters."""
        return len(self.n_voxels)


def label_clusters(
    values: Floats,
    survives: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    *,
    connectivity: Connectivity = 6,
    min_voxels: int = 0,
) -> ClusterSet:
    """Find the connected components of the survivors, positive and negative ones apart.

    Parameters
    ----------
    values : ndarray of float64, shape (n_voxels,)
        A value of exactly 0 has no sign and is in no cluster.
    survives : ndarray of bool, shape (n_voxels,)
    mask : ndarray of bool, shape (x, y, z)
        Of n_voxels true voxels.
    connectivity : {6, 18, 26}
        How many neighbours a voxel has.
    min_voxels : int
        Smaller clusters are removed, and counted.

    Returns
    -------
    ClusterSet

    Raises
    ------
    ValueError
        If the mask has another number of voxels than the values, or the connectivity is none of the three.
    """
    n_mask = np.count_nonzero(mask)
    if n_mask != len(values):
        raise ValueError(f"the mask has {n_mask} voxels, but there are {len(values)} values")
    if connectivity not in SHARED_BY:
        raise ValueError(f"connectivity is 6, 18 or 26, not {connectivity}")
    positive = _label_components(survives & (values > 0), mask, connectivity)
    negative = _label_components(survives & (values < 0), mask, connectivity)
    components = np.where(negative > 0, negative + positive.max(initial=0), positive)
    sizes = np.bincount(components, minlength=1)[1:]
    kept = _order_components(values, components, np.flatnonzero(sizes >= min_voxels) + 1)
    return _describe_clusters(values, components, kept, sizes)


def _label_components(marked: NDArray[np.bool_], mask: NDArray[np.bool_], connectivity: int) -> NDArray[np.int32]:
    """Number the connected components of the marked voxels from 1."""
    volume = np.zeros(mask.shape, dtype=bool)
    volume[mask] = marked
    structure = ndimage.generate_binary_structure(3, SHARED_BY[connectivity])
    return ndimage.label(volume, structure, output=np.int32)[0][mask]


def _find_peaks(values: Floats, labels: NDArray[np.int32], n_labels: int) -> Indices:
    """Return the first voxel of largest absolute value of each label from 1 to `n_labels`; all occur."""
    voxels = np.flatnonzero(labels)
    by_height = voxels[np.lexsort((voxels, -np.abs(values[voxels]), labels[voxels]))]
    return by_height[np.searchsorted(labels[by_height], np.arange(1, n_labels + 1))]


def _order_components(values: Floats, components: NDArray[np.int32], kept: Indices) -> Indices:
    """Return the kept components in the order of their ids."""
    n_components = int(components.max(initial=0))
    _, first = np.unique(components[components > 0], return_index=True)
    first = np.flatnonzero(components)[first][kept - 1]
    peak_values = values[_find_peaks(values, components, n_components)[kept - 1]]
    sizes = np.bincount(components, minlength=1)[kept]
    return kept[np.lexsort((first, -np.abs(peak_values), -sizes, peak_values < 0))]


def _describe_clusters(values: Floats, components: NDArray[np.int32], kept: Indices, sizes: Indices) -> ClusterSet:
    """Give the kept components their ids, in the order given, and describe them."""
    ids = np.zeros(len(sizes) + 1, dtype=np.int32)
    ids[kept] = np.arange(1, len(kept) + 1)
    labels = ids[components]
    n_voxels = sizes[kept - 1]
    peak = _find_peaks(values, labels, len(kept))
    sums = np.bincount(labels, weights=values, minlength=len(kept) + 1)[1:]
    return ClusterSet(
        labels=labels,
        n_voxels=n_voxels,
        sign=np.sign(values[peak]).astype(np.intp),
        peak=peak,
        mean=sums / n_voxels,
        n_removed_clusters=len(sizes) - len(kept),
        n_removed_voxels=int(sizes.sum() - n_voxels.sum()),
    )


def find_local_maxima(
    values: Floats,
    clusters: ClusterSet,
    mask: NDArray[np.bool_],
    affine: Floats,
    *,
    min_distance_mm: float = 8.0,
) -> tuple[NDArray[np.int32], Indices]:
    """Find the peaks of every cluster, none closer than a distance to a higher one of the same cluster.

    A peak is at least as large, in absolute value, as its 26 neighbours in the cluster. From the highest
    down, the first voxel of equal ones first, a peak is kept unless a kept one of its cluster is closer than
    `min_distance_mm`.

    Parameters
    ----------
    values : ndarray of float64, shape (n_voxels,)
    clusters : ClusterSet
        Of these values.
    mask : ndarray of bool, shape (x, y, z)
    affine : ndarray of float64, shape (4, 4)
        From voxel to world, in mm.
    min_distance_mm : float

    Returns
    -------
    cluster_id : ndarray of int32, shape (n_peaks,)
        Ascending; the cluster's own maximum is the first of each.
    voxel : ndarray of int, shape (n_peaks,)
        Index of the peak within the mask.
    """
    peaks = _find_candidates(np.abs(values), clusters.labels, mask)
    ids = clusters.labels[peaks]
    order = np.lexsort((peaks, -np.abs(values[peaks]), ids))
    peaks, ids = peaks[order], ids[order]
    world = np.argwhere(mask)[peaks] @ np.asarray(affine)[:3, :3].T
    kept = _thin_out(world, ids, min_distance_mm * (1.0 - DISTANCE_TOLERANCE))
    return ids[kept], peaks[kept]


def _find_candidates(heights: Floats, labels: NDArray[np.int32], mask: NDArray[np.bool_]) -> Indices:
    """Return the voxels that no 26-neighbour of their own cluster exceeds."""
    # One voxel of padding, so that a step from the edge of the grid never comes out on its other side.
    padded = np.pad(mask, 1)
    volume, ids = np.zeros(padded.size), np.zeros(padded.size, dtype=np.int32)
    places = np.flatnonzero(padded)
    volume[places], ids[places] = heights, labels
    voxels = np.flatnonzero(labels)
    steps = np.array(padded.strides) // padded.itemsize
    highest = np.ones(len(voxels), dtype=bool)
    for offset in product((-1, 0, 1), repeat=3):
        here = places[voxels]
        neighbour = here + np.dot(offset, steps)
        highest &= (ids[neighbour] != ids[here]) | (volume[neighbour] <= volume[here])
    return voxels[highest]


def _thin_out(world: Floats, ids: NDArray[np.int32], distance: float) -> NDArray[np.bool_]:
    """Keep each point, in order, unless it lies within `distance` of a kept point of the same id."""
    kept = np.ones(len(world), dtype=bool)
    if len(world) == 0:
        return kept
    tree = cKDTree(world)
    for point in range(len(world)):
        if kept[point]:
            near = np.array(tree.query_ball_point(world[point], distance), dtype=np.intp)
            kept[near[(near > point) & (ids[near] == ids[point])]] = False
    return kept
