"""Which voxels of a mask touch, as tables that the loops over rearranged maps walk through.

Voxels are numbered in the order of ``np.nonzero(mask)``, as everywhere in `stats`.
"""

from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.clusters import SHARED_BY
from bids_group.vocabulary import Connectivity

NONE = -1  # stands in the table where a neighbour lies outside the mask or the grid

ALL_WIDTHS: tuple[int, ...] = get_args(Connectivity)
EARLIER_WIDTHS = tuple(width // 2 for width in ALL_WIDTHS)  # of each pair of opposite neighbours one comes earlier

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


def build_all_neighbours(mask: NDArray[np.bool_], connectivity: Connectivity) -> Table:
    """List all neighbours of each voxel, so that every touching pair occurs twice.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Of n_voxels true voxels.
    connectivity : {6, 18, 26}
        How many neighbours a voxel has.

    Returns
    -------
    ndarray of int32, shape (n_voxels, connectivity)
        Numbers of voxels, the earlier ones as in `build_neighbours` first; -1 where there is none.

    Raises
    ------
    ValueError
        If the connectivity is none of the three.
    """
    earlier = _list_earlier_steps(connectivity)
    return _look_up(mask, np.concatenate([earlier, -earlier]))


def require_maps(heights: NDArray[np.float32], neighbours: Table, widths: tuple[int, ...]) -> None:
    """Make sure that maps and a table of neighbours are what a compiled loop, which checks nothing, expects.

    Parameters
    ----------
    heights : ndarray of float32, shape (n_maps, n_voxels)
        In C order.
    neighbours : ndarray of int32, shape (n_voxels, width)
    widths : tuple of int
        `EARLIER_WIDTHS` or `ALL_WIDTHS`.

    Raises
    ------
    ValueError
        If they are not.
    """
    if heights.ndim != 2 or heights.dtype != np.float32 or not heights.flags.c_contiguous:
        raise ValueError(f"maps are float32, (n_maps, n_voxels) in C order, not {heights.dtype}, {heights.shape}")
    if neighbours.ndim != 2 or neighbours.shape[1] not in widths or neighbours.dtype != np.int32:
        allowed = ", ".join(map(str, widths))
        raise ValueError(
            f"the table of neighbours is int32 with {allowed} columns, not {neighbours.dtype}, {neighbours.shape}"
        )
    if len(neighbours) != heights.shape[1]:
        raise ValueError(f"the maps have {heights.shape[1]} voxels, the table of neighbours {len(neighbours)}")


def _list_earlier_steps(connectivity: Connectivity) -> NDArray[np.intp]:
    """Return the steps, of shape (connectivity / 2, 3), to the neighbours that come earlier in C order."""
    if connectivity not in SHARED_BY:
        raise ValueError(f"connectivity is 6, 18 or 26, not {connectivity}")
    steps = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= SHARED_BY[connectivity]]
    # Of steps sorted in C order the first half goes back; its end is nearest in memory.
    return np.array(steps[: len(steps) // 2][::-1], dtype=np.intp)


def _look_up(mask: NDArray[np.bool_], steps: NDArray[np.intp]) -> Table:
    """Return the number of the voxel that each step leads to from each voxel."""
    # One voxel of padding, so that a step from the edge of the grid never comes out on its other side.
    padded = np.pad(mask, 1)
    places = np.flatnonzero(padded)
    numbers = np.full(padded.size, NONE, dtype=np.int32)
    numbers[places] = np.arange(len(places), dtype=np.int32)
    strides = np.array(padded.strides) // padded.itemsize
    table = np.empty((len(places), len(steps)), dtype=np.int32)
    for column, jump in enumerate(steps @ strides):
        table[:, column] = numbers[places + jump]
    return table
