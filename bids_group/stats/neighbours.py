"""Which voxels of a mask touch, in the forms that the loops over rearranged maps walk through.

Voxels are numbered in the order of ``np.nonzero(mask)``, as everywhere in `stats`.
"""

from itertools import product
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.clusters import SHARED_BY
from bids_group.vocabulary import Connectivity

NONE = -1  # stands in the table where a neighbour lies outside the mask or the grid

EARLIER_WIDTHS = tuple(
    width // 2 for width in get_args(Connectivity)
)  # of each pair of opposite neighbours one comes earlier

Table = NDArray[np.int32]


def build_neighbours(mask: NDArray[np.bool_], connectivity: Connectivity) -> Table:
    """List the neighbours of each voxel that come before it, so that every touching pair occurs once.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Of n_voxels true voxels.
    connectivity : {6, 18, 26}
        How many neighbours a voxel has.

    Returns
    -------
    ndarray of int32, shape (n_voxels, connectivity / 2)
        Numbers of voxels; -1 where there is none.

    Raises
    ------
    ValueError
        If the connectivity is none of the three.

    Examples
    --------
    >>> build_neighbours(np.ones((1, 2, 2), dtype=bool), 6).tolist()
    [[-1, -1, -1], [0, -1, -1], [-1, 0, -1], [2, 1, -1]]
    """
    return _look_up(mask, _list_earlier_steps(connectivity))


class Lattice(NamedTuple):
    """The voxels of a mask in a row of places in which steps lead to the neighbours.

    Attributes
    ----------
    places : ndarray of int32, shape (n_voxels,)
        Where each voxel stands, ascending. A step from there never leaves the row, nor comes out on another side.
    steps : ndarray of int64, shape (6 or 18 or 26,)
        From a voxel to all its neighbours; a place that a step leads to need not be a voxel of the mask.
    n_places : int
    """

    places: NDArray[np.int32]
    steps: NDArray[np.int64]
    n_places: int


def build_lattice(mask: NDArray[np.bool_], connectivity: Connectivity) -> Lattice:
    """Lay the voxels out so that all their neighbours are found without a table.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Of n_voxels true voxels.
    connectivity : {6, 18, 26}
        How many neighbours a voxel has.

    Returns
    -------
    Lattice

    Raises
    ------
    ValueError
        If the connectivity is none of the three.

    Examples
    --------
    >>> lattice = build_lattice(np.ones((1, 1, 2), dtype=bool), 6)
    >>> lattice.places.tolist(), lattice.steps.tolist(), lattice.n_places
    ([17, 18], [-1, -4, -12, 1, 4, 12], 36)
    """
    padded, earlier = _pad(mask), _list_earlier_steps(connectivity) @ _measure_strides(_pad(mask))
    places = np.flatnonzero(padded).astype(np.int32)
    return Lattice(places, np.concatenate([earlier, -earlier]).astype(np.int64), padded.size)


def require_maps(heights: NDArray[np.float32], n_voxels: int) -> None:
    """Make sure that maps are what a compiled loop, which checks nothing, expects.

    Parameters
    ----------
    heights : ndarray of float32, shape (n_maps, n_voxels)
        In C order.
    n_voxels : int
        Of the mask.

    Raises
    ------
    ValueError
        If they are not.
    """
    if heights.ndim != 2 or heights.dtype != np.float32 or not heights.flags.c_contiguous:
        raise ValueError(f"maps are float32, (n_maps, n_voxels) in C order, not {heights.dtype}, {heights.shape}")
    if heights.shape[1] != n_voxels:
        raise ValueError(f"the maps have {heights.shape[1]} voxels, the mask {n_voxels}")


def require_neighbours(neighbours: Table) -> None:
    """Make sure that a table is one of `build_neighbours`.

    Parameters
    ----------
    neighbours : ndarray of int32, shape (n_voxels, width)

    Raises
    ------
    ValueError
        If it is not.
    """
    if neighbours.ndim != 2 or neighbours.shape[1] not in EARLIER_WIDTHS or neighbours.dtype != np.int32:
        allowed = ", ".join(map(str, EARLIER_WIDTHS))
        raise ValueError(
            f"the table of neighbours is int32 with {allowed} columns, not {neighbours.dtype}, {neighbours.shape}"
        )


def _list_earlier_steps(connectivity: Connectivity) -> NDArray[np.intp]:
    """Return the steps, of shape (connectivity / 2, 3), to the neighbours that come earlier in C order."""
    if connectivity not in SHARED_BY:
        raise ValueError(f"connectivity is 6, 18 or 26, not {connectivity}")
    steps = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= SHARED_BY[connectivity]]
    # Of steps sorted in C order the first half goes back; its end is nearest in memory.
    return np.array(steps[: len(steps) // 2][::-1], dtype=np.intp)


def _look_up(mask: NDArray[np.bool_], steps: NDArray[np.intp]) -> Table:
    """Return the number of the voxel that each step leads to from each voxel."""
    padded = _pad(mask)
    places = np.flatnonzero(padded)
    numbers = np.full(padded.size, NONE, dtype=np.int32)
    numbers[places] = np.arange(len(places), dtype=np.int32)
    table = np.empty((len(places), len(steps)), dtype=np.int32)
    for column, jump in enumerate(steps @ _measure_strides(padded)):
        table[:, column] = numbers[places + jump]
    return table


def _pad(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add one voxel on each side, so that a step from the edge of the grid never comes out on its other side."""
    return np.pad(mask, 1)


def _measure_strides(padded: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return how many voxels a step along each axis passes in memory."""
    return np.array(padded.strides, dtype=np.intp) // padded.itemsize
