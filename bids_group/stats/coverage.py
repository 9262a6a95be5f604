"""Voxels that lack some maps, grouped by the maps that they have.

Voxels with the same maps have the same design, hence the same degrees of freedom and the same loadings: a model is
fitted once for each pattern of present maps, and what is found is joined again. Patterns are few next to voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.glm import Statistic, choose_block_voxels

# A pattern of more voxels is cut, so that a copy of its maps stays small: 128 MiB of float32.
PATTERN_VALUES = 2**25

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class CoveragePattern:
    """Voxels that have the same maps.

    Attributes
    ----------
    present : ndarray of bool, shape (n_units,)
        Of each unit (a map, or a subject with all of its maps) whether these voxels have it.
    voxels : ndarray of int, shape (n_pattern_voxels,)
        Columns of the data, ascending.
    """

    present: NDArray[np.bool_]
    voxels: Places


def find_patterns(
    data: NDArray[np.floating],
    units: NDArray[np.integer],
    *,
    most_voxels: int | None = None,
) -> tuple[CoveragePattern, ...]:
    """Group voxels by the units that they have; a unit without one of its rows is absent.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
        NaN where missing.
    units : ndarray of int, shape (n_rows,)
        The unit of each row, from 0, none left out: its own number where any row may be absent alone, its subject's
        where subjects are complete or not at all.
    most_voxels : int or None
        A pattern of more voxels comes in several parts; None for what suits the number of rows.

    Returns
    -------
    tuple of CoveragePattern
        The one with all units first, if there is one. Each voxel is in one of them.

    Examples
    --------
    >>> import numpy as np
    >>> data = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])
    >>> [one.voxels.tolist() for one in find_patterns(data, np.arange(2))]
    [[0, 1], [2]]
    """
    codes = _encode_presence(data, units)
    kinds, members, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    grouped = np.split(np.argsort(members.ravel(), kind="stable"), np.cumsum(counts)[:-1])
    n_units = int(units.max()) + 1
    size = most_voxels or max(1, PATTERN_VALUES // len(data))
    return tuple(
        CoveragePattern(np.unpackbits(kind, count=n_units).astype(bool), voxels[start : start + size])
        for kind, voxels in zip(kinds[::-1], grouped[::-1], strict=True)
        for start in range(0, len(voxels), size)
    )


def _encode_presence(data: NDArray[np.floating], units: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return a bit for each unit of each voxel, of shape (n_voxels, n_bytes)."""
    order = np.argsort(units, kind="stable")
    starts = np.searchsorted(units[order], np.arange(int(units.max()) + 1))
    n_voxels, n_block = data.shape[1], choose_block_voxels(len(data))
    codes = np.empty((n_voxels, (len(starts) + 7) // 8), dtype=np.uint8)
    for start in range(0, n_voxels, n_block):
        absent = np.isnan(data[:, start : start + n_block])[order]
        codes[start : start + n_block] = np.packbits(~np.logical_or.reduceat(absent, starts, axis=0), axis=0).T
    return codes


def join_voxels(parts: Sequence[NDArray], places: Sequence[Places]) -> NDArray:
    """Join what was found of several groups of voxels, in the order of the voxels.

    Parameters
    ----------
    parts : sequence of ndarray, each of shape (n_part_voxels,)
    places : sequence of ndarray of int, each of shape (n_part_voxels,)
        The voxels of each part; none is in two of them.

    Returns
    -------
    ndarray of the dtype of the parts, shape (n_voxels,)
        Of all voxels that are in a part.
    """
    return np.concatenate(parts)[np.argsort(np.concatenate(places))]


def join_statistics(statistics: Sequence[Statistic], places: Sequence[Places]) -> Statistic:
    """Join a test's statistics of several groups of voxels, each with degrees of freedom of its own.

    Parameters
    ----------
    statistics : sequence of Statistic
        Of one test of one rank.
    places : sequence of ndarray of int, each of shape (n_part_voxels,)
        The voxels of each.

    Returns
    -------
    Statistic
        Its dof of the error of shape (n_voxels,).

    Raises
    ------
    ValueError
        If the statistics are of different tests.
    """
    first = statistics[0]
    if len({(one.test, one.dof_effect) for one in statistics}) > 1:
        raise ValueError("the groups of voxels were tested with contrasts of different rank, or with t and F")
    joined = replace(
        first,
        value=join_voxels([one.value for one in statistics], places),
        dof=join_voxels([np.broadcast_to(one.dof, one.value.shape) for one in statistics], places),
    )
    if first.effect is None or first.variance is None:
        return joined
    return replace(
        joined,
        effect=join_voxels([one.effect for one in statistics if one.effect is not None], places),
        variance=join_voxels([one.variance for one in statistics if one.variance is not None], places),
    )


def average_present(data: NDArray[np.floating]) -> Floats:
    """Average over the rows that each voxel has.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
        NaN where missing; every voxel has a row.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
    """
    total, count = np.zeros(data.shape[1]), np.zeros(data.shape[1], dtype=np.int64)
    for row in data:  # not all at once: nanmean would copy the data
        present = ~np.isnan(row)
        total[present] += row[present]
        count += present
    return total / count


def find_used_rows(values: NDArray[np.floating], units: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mark the rows of one voxel whose unit has all of its rows.

    Parameters
    ----------
    values : ndarray of float, shape (n_rows,)
        NaN where missing.
    units : ndarray of int, shape (n_rows,)

    Returns
    -------
    ndarray of bool, shape (n_rows,)
    """
    return np.bincount(units, np.isnan(values))[units] == 0
