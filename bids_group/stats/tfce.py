"""Threshold-free cluster enhancement, as the exact integral and not as a sum of steps.

A map is swept from its highest voxel to its lowest. What has been visited falls into components; each voxel that is
visited joins those that it touches into one, of which it is the lowest point. This makes a tree of the voxels, a
voxel's parent being the next one that joined its component. Between the heights of a voxel and of its parent the
component does not change, so that the integral over this piece is known in closed form; the integral of a voxel is
the sum of the pieces on its way down the tree (the max-tree, or component tree, of the map).
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bids_group.stats.neighbours import ALL_WIDTHS, NONE, require_maps

EXTENT_POWER = 0.5  # E; Smith & Nichols 2009, section "Optimizing TFCE parameters"
HEIGHT_POWER = 2.0  # H; likewise

# The bits of a positive float32, read as an integer, sort as the number does: 31 bits in three rounds.
DIGIT_BITS = 11
N_DIGITS = 1 << DIGIT_BITS
N_ROUNDS = 3
INDEX_BITS = 32

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


class Sweep(NamedTuple):
    """The working memory of the sweep; ranks count from the lowest voxel of the map's sign.

    Attributes
    ----------
    order, spare : ndarray of uint64, shape (n_voxels,)
        Of each rank the bits of the absolute height, followed by the number of the voxel.
    labels : ndarray of int32, shape (n_voxels + 1,)
        The component that each voxel joined, 0 before; shifted by one, so that no neighbour, -1, has a place too.
    roots : ndarray of int32, shape (n_voxels + 1,)
        The component that each component has become part of by now, itself if of none; 0 of 0.
    next_members : ndarray of int32, shape (n_voxels + 1,)
        The components of one root, as a ring: with it few steps bring all roots up to date when two components join,
        and a voxel's component is found without a search.
    lowest : ndarray of int32, shape (n_voxels + 1,)
        Of a root the rank of the lowest voxel.
    below : ndarray of int32, shape (n_voxels,)
        The tree: of each rank the rank of its parent, -1 where there is none.
    extents : ndarray of int32, shape (n_voxels,)
        Of each rank the voxels of the component that it is the lowest of.
    levels : ndarray of float64, shape (n_voxels,)
        Of each rank ``h^(H + 1) / (H + 1)``.
    values : ndarray of float64, shape (n_voxels,)
        Of each rank the TFCE.
    """

    order: NDArray[np.uint64]
    spare: NDArray[np.uint64]
    labels: Integers
    roots: Integers
    next_members: Integers
    lowest: Integers
    below: Integers
    extents: Integers
    levels: Floats
    values: Floats


def find_largest_tfce(
    heights: NDArray[np.float32],
    neighbours: NDArray[np.int32],
    *,
    extent_power: float = EXTENT_POWER,
    height_power: float = HEIGHT_POWER,
    two_sided: bool,
) -> Floats:
    """Find the largest TFCE of each map among its positive and, in absolute value, its negative; see `compute_tfce`.

    Parameters
    ----------
    heights : ndarray of float32, shape (n_maps, n_voxels)
        Finite, in C order. For F statistics their square roots.
    neighbours : ndarray of int32, shape (n_voxels, 6 or 18 or 26)
        Of `build_all_neighbours`.
    extent_power, height_power : float
        E and H, at least 0.
    two_sided : bool
        Whether the negative heights are enhanced as well.

    Returns
    -------
    ndarray of float64, shape (2, n_maps)
        Of the positive and of the negative heights; 0 where there are none, or they do not count. The same, to the
        bit, as the largest of `compute_tfce`.

    Raises
    ------
    ValueError
        If the maps, the table or the powers are not as said.
    """
    gains = _prepare_gains(heights, neighbours, extent_power, height_power)
    largest = np.zeros((2, len(heights)))
    _find_largest(heights, neighbours, gains, float(height_power), bool(two_sided), largest)
    return largest


def compute_tfce(
    heights: NDArray[np.floating],
    neighbours: NDArray[np.int32],
    *,
    extent_power: float = EXTENT_POWER,
    height_power: float = HEIGHT_POWER,
    two_sided: bool,
) -> Floats:
    """Enhance a map: ``TFCE(v) = integral from 0 to h_v of e_v(h)^E h^H dh``, exactly.

    ``e_v(h)`` is the number of voxels in the connected component of the heights >= h that v is in. Negative heights
    are enhanced as positive ones are, with their sign put back.

    Parameters
    ----------
    heights : ndarray of float, shape (n_voxels,)
        Finite; rounded to float32, as the rearranged maps are with which the result is compared. For F statistics
        their square roots.
    neighbours : ndarray of int32, shape (n_voxels, 6 or 18 or 26)
        Of `build_all_neighbours`.
    extent_power, height_power : float
        E and H, at least 0.
    two_sided : bool
        Whether negative heights count as well, apart from the positive ones.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Signed; 0 where the height does not count.

    Raises
    ------
    ValueError
        If the map, the table or the powers are not as said.

    References
    ----------
    Smith & Nichols 2009, equation 1.

    Examples
    --------
    >>> from bids_group.stats.neighbours import build_all_neighbours
    >>> line = build_all_neighbours(np.ones((1, 1, 3), dtype=bool), 6)
    >>> compute_tfce(np.array([3.0, 3.0, -3.0]), line, extent_power=1, two_sided=True)
    array([18., 18., -9.])
    """
    rounded = np.asarray(heights, dtype=np.float32)[np.newaxis]
    gains = _prepare_gains(rounded, neighbours, extent_power, height_power)
    values = np.zeros(rounded.shape[1])
    _enhance_map(rounded, neighbours, gains, float(height_power), bool(two_sided), values)
    return values


def _prepare_gains(
    heights: NDArray[np.float32], neighbours: Integers, extent_power: float, height_power: float
) -> Floats:
    """Make sure that the compiled loops get what they expect; return ``e^E`` of every extent up to all voxels."""
    require_maps(heights, neighbours, ALL_WIDTHS)
    if not (extent_power >= 0 and height_power >= 0):
        raise ValueError(f"the powers of TFCE are at least 0, not {extent_power} and {height_power}")
    gains = np.arange(heights.shape[1] + 1, dtype=np.float64)
    gains **= extent_power
    return gains


@njit(nogil=True)
def _find_largest(
    heights: NDArray[np.float32],
    neighbours: Integers,
    gains: Floats,
    height_power: float,
    two_sided: bool,
    largest: Floats,
) -> None:
    """Fill in the largest value of each map."""
    sweep = _make_sweep(heights.shape[1])
    for i in range(heights.shape[0]):
        for side in range(2 if two_sided else 1):
            n = _enhance_sign(heights[i], 1 - 2 * side, neighbours, gains, height_power, sweep)
            for rank in range(n):
                largest[side, i] = max(largest[side, i], sweep.values[rank])


@njit(nogil=True)
def _enhance_map(
    heights: NDArray[np.float32],
    neighbours: Integers,
    gains: Floats,
    height_power: float,
    two_sided: bool,
    values: Floats,
) -> None:
    """Fill in the signed value of each voxel of the one map."""
    sweep = _make_sweep(heights.shape[1])
    for sign in (1, -1):
        if sign > 0 or two_sided:
            n = _enhance_sign(heights[0], sign, neighbours, gains, height_power, sweep)
            for rank in range(n):
                values[_read_voxel(sweep.order[rank])] = sign * sweep.values[rank]


@njit(nogil=True)
def _make_sweep(n_voxels: int) -> Sweep:
    """Set aside the working memory for maps of a size."""
    return Sweep(
        order=np.empty(n_voxels, np.uint64),
        spare=np.empty(n_voxels, np.uint64),
        labels=np.zeros(n_voxels + 1, np.int32),
        roots=np.empty(n_voxels + 1, np.int32),
        next_members=np.empty(n_voxels + 1, np.int32),
        lowest=np.empty(n_voxels + 1, np.int32),
        below=np.empty(n_voxels, np.int32),
        extents=np.empty(n_voxels, np.int32),
        levels=np.empty(n_voxels, np.float64),
        values=np.empty(n_voxels, np.float64),
    )


@njit(nogil=True)
def _enhance_sign(
    heights: NDArray[np.float32], sign: int, neighbours: Integers, gains: Floats, height_power: float, sweep: Sweep
) -> int:
    """Compute the value of each voxel of a sign, by rank; return how many there are."""
    n = _sort_voxels(heights, sign, sweep)
    _grow_tree(n, neighbours, sweep)
    _integrate_heights(n, height_power, sweep)
    _add_pieces(n, gains, sweep)
    return n


@njit(nogil=True)
def _integrate_heights(n: int, height_power: float, sweep: Sweep) -> None:
    """Compute the integral of ``h^H`` from 0 to each height."""
    power = height_power + 1.0
    for rank in range(n):
        height = np.float64(np.uint32(sweep.order[rank] >> np.uint64(INDEX_BITS)).view(np.float32))
        # The common power is spelled out, because a general one takes ten times as long.
        raised = height * height * height if power == 3.0 else height**power
        sweep.levels[rank] = raised / power


@njit(nogil=True)
def _read_voxel(key: np.uint64) -> np.int64:
    """Return the number of the voxel that ends a key."""
    return np.int64(key & np.uint64((1 << INDEX_BITS) - 1))


@njit(nogil=True)
def _sort_voxels(heights: NDArray[np.float32], sign: int, sweep: Sweep) -> int:
    """Sort the voxels of a sign by absolute height, digit by digit; return how many there are."""
    bits = heights.view(np.uint32)
    magnitude = np.uint64((1 << (INDEX_BITS - 1)) - 1)  # of a float32, all but its sign
    source, target = sweep.spare, sweep.order  # after an odd number of rounds the last target is the order
    n = 0
    for voxel in range(len(heights)):
        # Written whether it counts or not, and overwritten if not: signs are as good as random, a branch is not free.
        source[n] = ((np.uint64(bits[voxel]) & magnitude) << np.uint64(INDEX_BITS)) | np.uint64(voxel)
        n += sign * heights[voxel] > 0
    for i in range(N_ROUNDS):
        _sort_by_digit(source[:n], target, np.uint64(INDEX_BITS + DIGIT_BITS * i))
        source, target = target, source
    return n


@njit(nogil=True)
def _sort_by_digit(source: NDArray[np.uint64], target: NDArray[np.uint64], shift: np.uint64) -> None:
    """Sort keys by the digit at a place, those of the same digit as they come."""
    digit = np.uint64(N_DIGITS - 1)
    starts = np.zeros(N_DIGITS + 1, np.int64)
    for key in source:
        starts[((key >> shift) & digit) + np.uint64(1)] += 1
    for i in range(N_DIGITS):
        starts[i + 1] += starts[i]
    for key in source:
        place = (key >> shift) & digit
        target[starts[place]] = key
        starts[place] += 1


@njit(nogil=True)
def _grow_tree(n: int, neighbours: Integers, sweep: Sweep) -> None:
    """Visit the voxels from the highest to the lowest, and note which components each of them joins."""
    labels, roots, lowest = sweep.labels, sweep.roots, sweep.lowest
    labels[:], roots[0] = 0, 0
    n_labels = 0
    for rank in range(n - 1, -1, -1):
        voxel = _read_voxel(sweep.order[rank])
        smallest, largest = _span_roots(neighbours[voxel], labels, roots)
        own, extent = int(largest), 1
        if own == 0:
            n_labels += 1
            own = n_labels
            roots[own] = sweep.next_members[own] = own
        elif smallest == own:
            extent += sweep.extents[lowest[own]]
            sweep.below[lowest[own]] = rank
        else:
            own, extent = _join_components(rank, neighbours[voxel], sweep)
        labels[voxel + 1], lowest[own], sweep.below[rank], sweep.extents[rank] = own, rank, NONE, extent


@njit(nogil=True)
def _span_roots(neighbours: Integers, labels: Integers, roots: Integers) -> tuple[np.int64, np.int64]:
    """Return the smallest and the largest root of the neighbours visited; without branches, as nearly all agree."""
    smallest, largest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for neighbour in neighbours:
        root = np.uint32(roots[np.uintp(labels[np.uintp(neighbour + 1)])])
        smallest = min(smallest, np.uint32(root - np.uint32(1)))  # 0, for not visited, becomes the largest of all
        largest = max(largest, root)
    return np.int64(smallest) + np.int64(1), np.int64(largest)


@njit(nogil=True)
def _join_components(rank: int, neighbours: Integers, sweep: Sweep) -> tuple[int, int]:
    """Join the components of the neighbours visited into the largest; return it, and its extent with the new voxel."""
    own, extent = 0, 0
    for neighbour in neighbours:
        root = sweep.roots[sweep.labels[neighbour + 1]]
        if root == 0 or root == own:
            continue
        lowest = sweep.lowest[root]
        sweep.below[lowest] = rank
        if own == 0:
            own = root
        elif sweep.extents[lowest] > extent:
            _take_over(own, root, sweep)
            own = root
        else:
            _take_over(root, own, sweep)
        extent += sweep.extents[lowest]
    return own, extent + 1


@njit(nogil=True)
def _take_over(label: int, root: int, sweep: Sweep) -> None:
    """Give the members of a component to another root, and make one ring of their two rings.

    A voxel's component is taken over by a larger one, hence no more often than its extent can double.
    """
    roots, next_members = sweep.roots, sweep.next_members
    member = label
    while roots[member] != root:
        roots[member] = root
        member = next_members[member]
    next_members[label], next_members[root] = next_members[root], next_members[label]


@njit(nogil=True)
def _add_pieces(n: int, gains: Floats, sweep: Sweep) -> None:
    """Add up the pieces of the integral, from the lowest voxels to the highest."""
    for rank in range(n):
        parent = sweep.below[rank]
        bottom, value = (sweep.levels[parent], sweep.values[parent]) if parent >= 0 else (0.0, 0.0)
        sweep.values[rank] = value + gains[sweep.extents[rank]] * (sweep.levels[rank] - bottom)
