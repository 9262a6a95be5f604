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

from bids_group.stats.neighbours import NONE, Lattice, require_maps

EXTENT_POWER = 0.5  # E; Smith & Nichols 2009, section "Optimizing TFCE parameters"
HEIGHT_POWER = 2.0  # H; likewise

# The bits of a positive float32, read as an integer, sort as the number does: 31 bits in three rounds.
DIGIT_BITS = 11
N_DIGITS = 1 << DIGIT_BITS
N_ROUNDS = 3
INDEX_BITS = 32

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]
Labels = NDArray[np.uint16] | NDArray[np.int32]


class Sweep(NamedTuple):
    """The working memory of the sweep; ranks count from the lowest voxel of the map's sign.

    Attributes
    ----------
    order, spare : ndarray of uint64, shape (n_voxels,)
        Of each rank the bits of the absolute height, followed by the place of the voxel in the lattice.
    labels : ndarray of uint16 or int32, shape (n_places,)
        The component that the voxel of each place joined; 0 before, and where there is no voxel.
    roots : ndarray of int32, shape (n_voxels + 1,)
        The component that each component has become part of by now, itself if of none; 0 of 0.
    next_members : ndarray of int32, shape (n_voxels + 1,)
        The components of one root, as a ring: with it few steps bring all roots up to date when two components join,
        and a voxel's component is found without a search.
    lowest, sizes : ndarray of int32, shape (n_voxels + 1,)
        Of a root the rank of the lowest voxel, and the number of voxels.
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
    labels: Labels
    roots: Integers
    next_members: Integers
    lowest: Integers
    sizes: Integers
    below: Integers
    extents: Integers
    levels: Floats
    values: Floats


def find_largest_tfce(
    heights: NDArray[np.float32],
    lattice: Lattice,
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
    lattice : Lattice
        Of `build_lattice`.
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
    gains = _prepare_gains(heights, lattice, extent_power, height_power)
    sweep = _make_sweep(lattice)
    largest = np.zeros((2, len(heights)))
    _find_largest(heights, lattice, gains, float(height_power), bool(two_sided), sweep, largest)
    return largest


def compute_tfce(
    heights: NDArray[np.floating],
    lattice: Lattice,
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
    lattice : Lattice
        Of `build_lattice`.
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
    >>> from bids_group.stats.neighbours import build_lattice
    >>> line = build_lattice(np.ones((1, 1, 3), dtype=bool), 6)
    >>> compute_tfce(np.array([3.0, 3.0, -3.0]), line, extent_power=1, two_sided=True)
    array([18., 18., -9.])
    """
    rounded = np.asarray(heights, dtype=np.float32)[np.newaxis]
    gains = _prepare_gains(rounded, lattice, extent_power, height_power)
    values = np.zeros(lattice.n_places)
    _enhance_map(rounded, lattice, gains, float(height_power), bool(two_sided), _make_sweep(lattice), values)
    return values[lattice.places]


def _prepare_gains(heights: NDArray[np.float32], lattice: Lattice, extent_power: float, height_power: float) -> Floats:
    """Make sure that the compiled loops get what they expect; return ``e^E`` of every extent up to all voxels."""
    require_maps(heights, len(lattice.places))
    if not (extent_power >= 0 and height_power >= 0):
        raise ValueError(f"the powers of TFCE are at least 0, not {extent_power} and {height_power}")
    gains = np.arange(heights.shape[1] + 1, dtype=np.float64)
    gains **= extent_power
    return gains


@njit(nogil=True)
def _find_largest(
    heights: NDArray[np.float32],
    lattice: Lattice,
    gains: Floats,
    height_power: float,
    two_sided: bool,
    sweep: Sweep,
    largest: Floats,
) -> None:
    """Fill in the largest value of each map."""
    for i in range(heights.shape[0]):
        for side in range(2 if two_sided else 1):
            n = _enhance_sign(heights[i], 1 - 2 * side, lattice, gains, height_power, sweep)
            for rank in range(n):
                largest[side, i] = max(largest[side, i], sweep.values[rank])


@njit(nogil=True)
def _enhance_map(
    heights: NDArray[np.float32],
    lattice: Lattice,
    gains: Floats,
    height_power: float,
    two_sided: bool,
    sweep: Sweep,
    values: Floats,
) -> None:
    """Fill in the signed value of each place of the one map."""
    for sign in (1, -1):
        if sign > 0 or two_sided:
            n = _enhance_sign(heights[0], sign, lattice, gains, height_power, sweep)
            for rank in range(n):
                values[_read_place(sweep.order[rank])] = sign * sweep.values[rank]


def _make_sweep(lattice: Lattice) -> Sweep:
    """Set aside the working memory for maps of a mask."""
    n_voxels = len(lattice.places)
    order, spare = np.empty((2, n_voxels), np.uint64)
    roots, next_members, lowest, sizes = np.empty((4, n_voxels + 1), np.int32)
    below, extents = np.empty((2, n_voxels), np.int32)
    levels, values = np.empty((2, n_voxels))
    # There are at most as many components as voxels; small labels keep more of them in the processor's cache.
    is_small = n_voxels <= np.iinfo(np.uint16).max
    labels = np.zeros(lattice.n_places, np.uint16) if is_small else np.zeros(lattice.n_places, np.int32)
    return Sweep(order, spare, labels, roots, next_members, lowest, sizes, below, extents, levels, values)


@njit(nogil=True)
def _enhance_sign(
    heights: NDArray[np.float32], sign: int, lattice: Lattice, gains: Floats, height_power: float, sweep: Sweep
) -> int:
    """Compute the value of each voxel of a sign, by rank; return how many there are."""
    n = _sort_voxels(heights, sign, lattice.places, sweep)
    _grow_tree(n, lattice.steps, sweep)
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
def _read_place(key: np.uint64) -> np.int64:
    """Return the place of the voxel that ends a key."""
    return np.int64(key & np.uint64((1 << INDEX_BITS) - 1))


@njit(nogil=True)
def _sort_voxels(heights: NDArray[np.float32], sign: int, places: Integers, sweep: Sweep) -> int:
    """Sort the voxels of a sign by absolute height, digit by digit; return how many there are."""
    bits = heights.view(np.uint32)
    magnitude = np.uint64((1 << (INDEX_BITS - 1)) - 1)  # of a float32, all but its sign
    source, target = sweep.spare, sweep.order  # after an odd number of rounds the last target is the order
    n = 0
    for voxel in range(len(heights)):
        # Written whether it counts or not, and overwritten if not: signs are as good as random, a branch is not free.
        source[n] = ((np.uint64(bits[voxel]) & magnitude) << np.uint64(INDEX_BITS)) | np.uint64(places[voxel])
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
def _grow_tree(n: int, steps: NDArray[np.int64], sweep: Sweep) -> None:
    """Visit the voxels from the highest to the lowest, and note which components each of them joins."""
    labels, roots, lowest, sizes = sweep.labels, sweep.roots, sweep.lowest, sweep.sizes
    labels[:], roots[0] = 0, 0
    n_labels = 0
    for rank in range(n - 1, -1, -1):
        place = _read_place(sweep.order[rank])
        smallest, largest = _span_roots(place, steps, labels, roots)
        own = int(largest)
        if own == 0:
            n_labels += 1
            own = n_labels
            roots[own], sweep.next_members[own], sizes[own] = own, own, 0
        elif smallest == own:
            sweep.below[lowest[own]] = rank
        else:
            own = _join_components(rank, place, steps, sweep)
        sizes[own] += 1
        labels[place], lowest[own], sweep.below[rank], sweep.extents[rank] = own, rank, NONE, sizes[own]


@njit(nogil=True)
def _span_roots(
    place: np.int64, steps: NDArray[np.int64], labels: Labels, roots: Integers
) -> tuple[np.int64, np.int64]:
    """Return the smallest and the largest root of the neighbours visited; without branches, as nearly all agree."""
    smallest, largest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for step in steps:
        root = np.uint32(roots[np.uintp(labels[np.uintp(place + step)])])
        smallest = min(smallest, np.uint32(root - np.uint32(1)))  # 0, for not visited, becomes the largest of all
        largest = max(largest, root)
    return np.int64(smallest) + np.int64(1), np.int64(largest)


@njit(nogil=True)
def _join_components(rank: int, place: np.int64, steps: NDArray[np.int64], sweep: Sweep) -> int:
    """Join the components of the neighbours visited into the largest; return it."""
    own = 0
    for step in steps:
        root = sweep.roots[sweep.labels[place + step]]
        if root == 0 or root == own:
            continue
        sweep.below[sweep.lowest[root]] = rank
        if own == 0:
            own = root
        elif sweep.sizes[root] > sweep.sizes[own]:
            own = _take_over(own, root, sweep)
        else:
            own = _take_over(root, own, sweep)
    return own


@njit(nogil=True)
def _take_over(label: int, root: int, sweep: Sweep) -> int:
    """Give the members of a component to another root, and make one ring of their two rings; return the root.

    A voxel's component is taken over by a larger one, hence no more often than its extent can double.
    """
    roots, next_members = sweep.roots, sweep.next_members
    member = label
    while roots[member] != root:
        roots[member] = root
        member = next_members[member]
    next_members[label], next_members[root] = next_members[root], next_members[label]
    sweep.sizes[root] += sweep.sizes[label]
    return root


@njit(nogil=True)
def _add_pieces(n: int, gains: Floats, sweep: Sweep) -> None:
    """Add up the pieces of the integral, from the lowest voxels to the highest."""
    for rank in range(n):
        parent = sweep.below[rank]
        bottom, value = (sweep.levels[parent], sweep.values[parent]) if parent >= 0 else (0.0, 0.0)
        sweep.values[rank] = value + gains[sweep.extents[rank]] * (sweep.levels[rank] - bottom)
