"""The largest cluster of each of many maps: what permutation holds the observed clusters against.

Compiled loops that release the interpreter's lock and run in one thread; callers give batches of maps to threads.
A map costs one pass over its voxels, and the rest only for those above the threshold.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bids_group.stats.clusters import ClusterSet
from bids_group.stats.neighbours import EARLIER_WIDTHS, require_maps

STRETCH = 128  # voxels; one without any above the threshold is passed over as a whole, as most of a map is

Floats = NDArray[np.float64]
Labels = NDArray[np.int32]


def measure_largest_clusters(
    heights: NDArray[np.float32], threshold: float, neighbours: NDArray[np.int32], *, two_sided: bool
) -> tuple[Floats, Floats]:
    """Measure the largest extent and the largest mass of a cluster in each map.

    A cluster C is a connected component of the voxels strictly above the threshold; its extent is ``|C|``, its mass
    the sum of ``|h| - threshold`` over it. The two maxima may be those of different clusters.

    Parameters
    ----------
    heights : ndarray of float32, shape (n_maps, n_voxels)
        In C order. nan is in no cluster.
    threshold : float
        Cluster-forming, at least 0, in units of the heights.
    neighbours : ndarray of int32, shape (n_voxels, 3 or 9 or 13)
        Of `build_neighbours`.
    two_sided : bool
        Whether the voxels below ``-threshold`` form clusters as well, apart from those above the threshold. For the
        negative side alone turn the maps over.

    Returns
    -------
    extents : ndarray of float64, shape (n_maps,)
        Voxels; 0 where there is no cluster.
    masses : ndarray of float64, shape (n_maps,)
        Units of the heights; 0 where there is no cluster.

    Raises
    ------
    ValueError
        If the maps, the table or the threshold are not as said.

    References
    ----------
    Bullmore et al. 1999 (mass, as the sum of what exceeds the threshold).

    Examples
    --------
    >>> from bids_group.stats.neighbours import build_neighbours
    >>> line = build_neighbours(np.ones((1, 1, 5), dtype=bool), 6)
    >>> heights = np.array([[3, 4, 0, -9, 2]], dtype=np.float32)
    >>> measure_largest_clusters(heights, 2.0, line, two_sided=True)
    (array([2.]), array([7.]))
    """
    require_maps(heights, neighbours, EARLIER_WIDTHS)
    if not threshold >= 0:
        raise ValueError(f"the cluster-forming threshold is at least 0, not {threshold}")
    extents, masses = np.zeros(len(heights)), np.zeros(len(heights))
    _measure_maps(heights, float(threshold), neighbours, bool(two_sided), extents, masses)
    return extents, masses


def measure_masses(values: NDArray[np.floating], threshold: float, clusters: ClusterSet) -> Floats:
    """Measure the mass of the clusters of the observed map: the sum of ``|value| - threshold`` over each.

    Parameters
    ----------
    values : ndarray of float, shape (n_voxels,)
    threshold : float
        The one that the clusters lie above.
    clusters : ClusterSet
        Of `label_clusters`, with the same neighbourhood as the rearranged maps'.

    Returns
    -------
    ndarray of float64, shape (n_clusters,)
        The extents are the clusters' own ``n_voxels``.
    """
    above = np.abs(values, dtype=np.float64) - threshold
    return np.bincount(clusters.labels, weights=above, minlength=clusters.n_clusters + 1)[1:].astype(np.float64)


@njit(nogil=True)
def _measure_maps(
    heights: NDArray[np.float32],
    threshold: float,
    neighbours: NDArray[np.int32],
    two_sided: bool,
    extents: Floats,
    masses: Floats,
) -> None:
    """Fill in the largest extent and mass of each map."""
    n_voxels = heights.shape[1]
    voxels, labels = np.empty(n_voxels, np.int32), np.zeros(n_voxels, np.int32)
    parents, sizes, sums = np.empty(n_voxels + 1, np.int32), np.empty(n_voxels + 1, np.int32), np.empty(n_voxels + 1)
    for i in range(heights.shape[0]):
        n_above = _collect_voxels(heights[i], threshold, two_sided, voxels)
        n_labels = 0
        for voxel in voxels[:n_above]:
            n_labels = _add_voxel(voxel, heights[i], threshold, neighbours, labels, parents, sizes, sums, n_labels)
        for voxel in voxels[:n_above]:
            labels[voxel] = 0
        # Components that became part of another are among these, but hold less than that one.
        for label in range(1, n_labels + 1):
            extents[i] = max(extents[i], sizes[label])
            masses[i] = max(masses[i], sums[label])


@njit(nogil=True)
def _collect_voxels(heights: NDArray[np.float32], threshold: float, two_sided: bool, voxels: Labels) -> int:
    """List the voxels above the threshold, in either direction if two-sided, in order; return how many."""
    n_above = 0
    for start in range(0, len(heights), STRETCH):
        stop = min(start + STRETCH, len(heights))
        n_in_stretch = 0
        for voxel in range(start, stop):
            n_in_stretch += (heights[voxel] > threshold) | (two_sided & (heights[voxel] < -threshold))
        if n_in_stretch:
            for voxel in range(start, stop):
                if heights[voxel] > threshold or (two_sided and heights[voxel] < -threshold):
                    voxels[n_above] = voxel
                    n_above += 1
    return n_above


@njit(nogil=True)
def _add_voxel(
    voxel: int,
    heights: NDArray[np.float32],
    threshold: float,
    neighbours: NDArray[np.int32],
    labels: Labels,
    parents: Labels,
    sizes: Labels,
    sums: Floats,
    n_labels: int,
) -> int:
    """Put a voxel into the components of its earlier neighbours, which it joins, or a new one; return their number."""
    is_positive = heights[voxel] > 0
    own = 0
    for neighbour in neighbours[voxel]:
        if neighbour < 0 or labels[neighbour] == 0 or (heights[neighbour] > 0) != is_positive:
            continue
        root = _find_root(parents, labels[neighbour])
        if own == 0:
            own = root
        elif root != own:
            parents[root] = own
            sizes[own] += sizes[root]
            sums[own] += sums[root]
    if own == 0:
        n_labels += 1
        own = n_labels
        parents[own], sizes[own], sums[own] = own, 0, 0.0
    labels[voxel] = own
    sizes[own] += 1
    sums[own] += abs(np.float64(heights[voxel])) - threshold
    return n_labels


@njit(nogil=True)
def _find_root(parents: Labels, label: int) -> int:
    """Follow a label to the root of its tree; halve the path for those to come (Tarjan & van Leeuwen 1984)."""
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label
