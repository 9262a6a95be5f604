"""The largest cluster of each of many maps: what permutation holds the observed clusters against.

Compiled loops that release the interpreter's lock and run in one thread; callers give batches of maps to threads.
Voxels above the threshold are listed while the map is in the processor's cache; the rest is done with the lists.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bids_group.stats.clusters import ClusterSet
from bids_group.stats.neighbours import require_maps, require_neighbours

STRETCH = 128  # voxels; one without any above the threshold is passed over as a whole, as most of a map is

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Labels = NDArray[np.int32]


class VoxelLists(NamedTuple):
    """Of each of several maps the voxels above a threshold.

    Attributes
    ----------
    counts : ndarray of int32, shape (n_maps,)
        How many there are.
    voxels : ndarray of int32, shape (n_maps, n_voxels)
        Their numbers, ascending; anything after the last.
    heights : ndarray of float32, shape (n_maps, n_voxels)
        Their heights, or what a caller puts in their place.
    """

    counts: Labels
    voxels: Labels
    heights: Singles


def make_lists(n_maps: int, n_voxels: int) -> VoxelLists:
    """Set aside memory for lists that are empty; what is never listed costs none.

    Parameters
    ----------
    n_maps, n_voxels : int

    Returns
    -------
    VoxelLists
    """
    shape = n_maps, n_voxels
    return VoxelLists(np.zeros(n_maps, np.int32), np.empty(shape, np.int32), np.empty(shape, np.float32))


@njit(nogil=True)
def list_voxels(
    heights: Singles,
    column: int,
    rows: tuple[int, int],
    voxels: tuple[int, int],
    least: float,
    two_sided: bool,
    lists: VoxelLists,
) -> None:
    """Add to the lists of several maps those of some voxels that are strictly above a threshold.

    Parameters
    ----------
    heights : ndarray of float32, shape (n_maps, n_columns)
        nan is above nothing.
    column : int
        Where the voxels begin among the columns.
    rows : (int, int)
        First and last + 1 of the maps whose lists are meant.
    voxels : (int, int)
        The number of the first, and of the last + 1; all that are listed already come before.
    least : float
        The threshold, at least 0, in units of the heights.
    two_sided : bool
        Whether the voxels below ``-least`` are listed as well.
    lists : VoxelLists
    """
    bound = np.float32(least)
    n = voxels[1] - voxels[0]
    for i in range(rows[0], rows[1]):
        row = heights[i, column : column + n]
        for start in range(0, n, STRETCH):
            stretch = row[start : start + STRETCH]
            if _count_sizes(stretch, bound) if two_sided else _count_values(stretch, bound):
                _list_stretch(stretch, voxels[0] + start, bound, two_sided, i, lists)


@njit(nogil=True)
def _count_sizes(stretch: Singles, bound: np.float32) -> int:
    """Count the absolute values above a bound; a loop from 0 and without branches, so that it is vectorised."""
    n_above = 0
    for place in range(len(stretch)):
        n_above += int(abs(stretch[place]) > bound)
    return n_above


@njit(nogil=True)
def _count_values(stretch: Singles, bound: np.float32) -> int:
    """Count the values above a bound, likewise."""
    n_above = 0
    for place in range(len(stretch)):
        n_above += int(stretch[place] > bound)
    return n_above


@njit(nogil=True)
def _list_stretch(stretch: Singles, first: int, bound: np.float32, two_sided: bool, i: int, lists: VoxelLists) -> None:
    """Add the voxels of a stretch to the list of a map."""
    n = lists.counts[i]
    for place in range(len(stretch)):
        height = stretch[place]
        if height > bound or (two_sided and -height > bound):
            lists.voxels[i, n], lists.heights[i, n] = first + place, height
            n += 1
    lists.counts[i] = n


def measure_largest_clusters(
    lists: VoxelLists, threshold: float, neighbours: NDArray[np.int32]
) -> tuple[Floats, Floats]:
    """Measure the largest extent and the largest mass of a cluster in each map, on either side of 0.

    A cluster C is a connected component of the listed voxels of one sign; its extent is ``|C|``, its mass the sum of
    ``|h| - threshold`` over it. The two maxima may be those of different clusters.

    Parameters
    ----------
    lists : VoxelLists
        Of the voxels above the threshold.
    threshold : float
        Cluster-forming, at least 0, in units of the heights.
    neighbours : ndarray of int32, shape (n_voxels, 3 or 9 or 13)
        Of `build_neighbours`.

    Returns
    -------
    extents : ndarray of float64, shape (2, n_maps)
        Voxels, of the positive and of the negative clusters; 0 where there is none.
    masses : ndarray of float64, shape (2, n_maps)
        Units of the heights; 0 where there is no cluster.

    Raises
    ------
    ValueError
        If the lists, the table or the threshold are not as said.

    References
    ----------
    Bullmore et al. 1999 (mass, as the sum of what exceeds the threshold).

    Examples
    --------
    >>> from bids_group.stats.neighbours import build_neighbours
    >>> line = build_neighbours(np.ones((1, 1, 5), dtype=bool), 6)
    >>> lists = make_lists(1, 5)
    >>> list_voxels(np.array([[3, 4, 0, -9, 2]], dtype=np.float32), 0, (0, 1), (0, 5), 2.0, True, lists)
    >>> measure_largest_clusters(lists, 2.0, line)
    (array([[2.],
           [1.]]), array([[3.],
           [7.]]))
    """
    require_neighbours(neighbours)
    require_maps(lists.heights, len(neighbours))
    if not threshold >= 0:
        raise ValueError(f"the cluster-forming threshold is at least 0, not {threshold}")
    extents, masses = np.zeros((2, 2, len(lists.counts)))
    _measure_maps(lists, float(threshold), neighbours, extents, masses)
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
    lists: VoxelLists, threshold: float, neighbours: NDArray[np.int32], extents: Floats, masses: Floats
) -> None:
    """Fill in the largest extents and masses of each map."""
    labels = np.zeros(len(neighbours), np.int32)
    most = max(1, lists.counts.max()) + 1
    parents, sizes, sums = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most)
    for i in range(len(lists.counts)):
        voxels, heights = lists.voxels[i, : lists.counts[i]], lists.heights[i, : lists.counts[i]]
        for side in range(2):
            sign = 1 - 2 * side
            n_labels = 0
            for place in range(len(voxels)):
                excess = sign * np.float64(heights[place]) - threshold
                if sign * heights[place] > 0:
                    n_labels = _add_voxel(voxels[place], excess, neighbours, labels, parents, sizes, sums, n_labels)
            for voxel in voxels:
                labels[voxel] = 0
            # Components that became part of another are among these, but hold less than that one.
            for label in range(1, n_labels + 1):
                extents[side, i] = max(extents[side, i], sizes[label])
                masses[side, i] = max(masses[side, i], sums[label])


@njit(nogil=True)
def _add_voxel(
    voxel: int,
    excess: float,
    neighbours: NDArray[np.int32],
    labels: Labels,
    parents: Labels,
    sizes: Labels,
    sums: Floats,
    n_labels: int,
) -> int:
    """Put a voxel into the components of its earlier neighbours, which it joins, or a new one; return their number."""
    own = 0
    for neighbour in neighbours[voxel]:
        if neighbour < 0 or labels[neighbour] == 0:
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
    sums[own] += excess
    return n_labels


@njit(nogil=True)
def _find_root(parents: Labels, label: int) -> int:
    """Follow a label to the root of its tree; halve the path for those to come (Tarjan & van Leeuwen 1984)."""
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label
