"""Heights of rearrangements under unequal variances: Welch's v and G, computed anew for each, as z.

With ``Y`` the residuals from the nuisance, U* the rearranged interest and g a variance group,

    c_g = U*_g'Y,    u = sum of c_g,    |e_g|^2 = |Y_g|^2 - 2 u'c_g + u'A_g u,    A_g = U*_g'U*_g,

so that all a voxel needs is a product of matrices for each group and direction, and one for each group's sum of
squares. The group's degrees of freedom are the sum over its rows of the residual-forming matrix's diagonal.

A rearrangement moves the rows of the interest together with their group, as a permutation of the data would move
them under a design that stays: the two-sample test of permuted labels. Without a nuisance it is exact if the errors
are exchangeable; whatever their variances it is valid for many rows (Chung & Romano 2013, Ann Stat 41).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bids_group.column_space import decompose
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.exchangeability import Exchangeability
from bids_group.stats.permutation.kernels import BATCH, TILE, rearrange_interest_exactly
from bids_group.stats.permutation.rearrange import Rearrangements, plan_rearrangements
from bids_group.stats.permutation.sources import (
    Allocate,
    HeightScores,
    Rearranged,
    Scores,
    Workspace,
    iterate_tiles,
    lower_by_rounding,
    measure_norms,
)
from bids_group.stats.permutation.welch_kernels import convert_to_g, convert_to_v
from bids_group.stats.permutation.z_tables import ZTable, build_full_table
from bids_group.stats.unequal_variances import DOF_TOLERANCE

# A group whose rows a rearranged design fits exactly has no error variance, and the rearrangement no statistic.
SMALLEST_GROUP_DOF = 1e-6
# A group alone carries a contrast if no more than this part of it is elsewhere: float32's rounding.
ALONE_TOLERANCE = 1e-6
# Of Welch and Satterthwaite's degrees of freedom, in relation to the number of rows, what the table of z reaches to.
MOST_DOF_PER_ROW = 4.0

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Some voxels that have the same rows.

    Attributes
    ----------
    pattern : int
    rows, voxels : ndarray of int, shapes (n_part_rows,) and (n_part_voxels,)
    data : ndarray of float32, shape (n_part_rows, n_part_voxels)
        ``Y``, of unit sum of squares.
    """

    pattern: int
    rows: NDArray[np.intp]
    voxels: NDArray[np.intp]
    data: Singles


class GroupDesigns(NamedTuple):
    """Rearranged designs, divided into variance groups.

    Attributes
    ----------
    interests : ndarray of float64, shape (n_groups, r, BATCH, n_part_rows)
        ``U*_g``, 0 outside of the group.
    members : ndarray of float64, shape (n_groups, BATCH, n_part_rows)
        1 in the group.
    shares : ndarray of float64, shape (BATCH, n_groups, r, r)
        ``A_g``.
    dof : ndarray of float64, shape (BATCH, n_groups)
        Of each group's error; 0 for all where the rearrangement has no statistic.
    alone : ndarray of int64, shape (BATCH,)
        The group that alone carries the interest, -1 where there is none.
    """

    interests: Floats
    members: Floats
    shares: Floats
    dof: Floats
    alone: NDArray[np.int64]


@dataclass(frozen=True)
class WelchSource(HeightScores):
    """The z of Welch's v or G.

    Attributes
    ----------
    test : PermutationTest
        Without its data.
    tiles : ndarray of float32, shape (n_values,)
        The data of all parts, one after another.
    parts : tuple of Part
        Those of a pattern of missing rows one after another.
    bases : tuple of ndarray of float64, each of shape (n_part_rows, k)
        Of each pattern an orthonormal basis of the nuisance.
    n_voxels : int
    table : ZTable
    """

    test: PermutationTest
    tiles: Singles
    parts: tuple[Part, ...]
    bases: tuple[Floats, ...]
    n_voxels: int
    table: ZTable

    @property
    def fills_maps(self) -> bool:
        """Tell whether voxels are computed pattern by pattern, not in their order."""
        return self.test.missing is not None

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the number of each row's variance group, from 0."""
        assert self.test.variance_groups is not None
        return np.unique(self.test.variance_groups, return_inverse=True)[1].ravel()

    def allocate_scratch(self) -> tuple[Singles, ...]:
        """Set aside memory for scores and sums of squares in float64, heights, and data and their squares in float64.

        What is left of a small group is the difference of nearly equal numbers, of which float32 would leave noise.
        """
        n_rows, rank = self.test.interest.shape
        n_groups = int(self.labels.max()) + 1
        sizes = (2 * n_groups * rank * BATCH, 2 * n_groups * BATCH, BATCH, 2 * n_rows, 2 * n_rows)
        return tuple(np.empty(size * TILE, dtype=np.float32) for size in sizes)

    def compute_scores(self, rearranged: Rearranged, workspace: Workspace) -> Iterator[Scores]:
        """Compute the heights of rearrangements, part by part."""
        designs, pattern = None, -1
        for part in self.parts:
            if designs is None or part.pattern != pattern:
                designs, pattern = self._divide_designs(rearranged, part), part.pattern
            heights = self._compute_part(designs, part, rearranged, workspace.scratch)
            if workspace.maps is not None:
                _place(workspace.maps, part.voxels, heights)
            if not self.fills_maps:
                yield Scores(slice(int(part.voxels[0]), int(part.voxels[-1]) + 1), heights, 0)
        if self.fills_maps and workspace.maps is not None:
            yield from (Scores(voxels, workspace.maps, voxels.start) for voxels in iterate_tiles(self.n_voxels))

    def lower_to_ties(self, heights: Singles) -> Singles:
        """Return the least heights that count as ties, of absolute values when two-sided."""
        values = heights.astype(np.float64)
        return lower_by_rounding(np.abs(values) if self.test.is_two_sided else values).astype(np.float32)

    def _divide_designs(self, rearranged: Rearranged, part: Part) -> GroupDesigns:
        """Rearrange the interest and the groups of the rows of a part, and divide the one by the others."""
        sources, signs = rearranged.sources[:, part.rows], rearranged.signs[:, part.rows]
        first, basis = rearranged.first_row, self.bases[part.pattern]
        interest = rearrange_interest_exactly(self.test.interest, basis, sources, signs, first_row=first)
        labels = np.full((BATCH, len(part.rows)), -1)
        labels[first : first + len(sources)] = self.labels[sources]
        groups = np.arange(self.labels.max() + 1)
        members = (labels == groups[:, np.newaxis, np.newaxis]).astype(np.float64)
        interests = interest * members[:, np.newaxis]
        rows = interests.transpose(2, 0, 1, 3)
        shares = np.ascontiguousarray(rows @ rows.swapaxes(2, 3))
        traces = np.einsum("bgjj->bg", shares)
        carries = traces > len(interest) - ALONE_TOLERANCE
        return GroupDesigns(
            interests=interests,
            members=members,
            shares=shares,
            dof=_count_dof(members, traces, np.einsum("nk,nk->n", basis, basis)),
            alone=np.where(carries.any(axis=1), carries.argmax(axis=1), -1),
        )

    def _compute_part(
        self, designs: GroupDesigns, part: Part, rearranged: Rearranged, scratch: tuple[Singles, ...]
    ) -> Singles:
        """Compute the heights of a part, (BATCH, n_part_voxels)."""
        n_groups, rank, _, n_rows = designs.interests.shape
        n_voxels = part.data.shape[1]
        scores = _shape_doubles(scratch[0], (n_groups, rank, BATCH, n_voxels))
        squares = _shape_doubles(scratch[1], (n_groups, BATCH, n_voxels))
        heights = scratch[2][: BATCH * n_voxels].reshape(BATCH, n_voxels)
        data = _shape_doubles(scratch[3], (n_rows, n_voxels))
        data[:] = part.data
        squared = np.square(data, out=_shape_doubles(scratch[4], (n_rows, n_voxels)))
        for group in range(n_groups):
            np.matmul(designs.members[group], squared, out=squares[group])
            for direction in range(rank):
                np.matmul(designs.interests[group, direction], data, out=scores[group, direction])
        rows = rearranged.first_row, rearranged.first_row + len(rearranged.sources)
        if self.test.test == "t":
            convert_to_v(
                *(scores.reshape(squares.shape), squares, designs.shares, designs.dof),
                *(self.table, heights, rows),
            )
        else:
            convert_to_g(
                *(scores, squares, designs.shares, designs.dof, designs.alone),
                *(self.table, heights, rows),
            )
        return heights


def plan_welch(
    interest: Floats, variance_groups: NDArray[np.int64], exchangeability: Exchangeability, *, n_asked: int, seed: int
) -> Rearrangements:
    """Plan the rearrangements of a test with variance groups: rows are alike if they are of one group as well.

    Flips do not move the groups, so that they are planned as without.

    Parameters
    ----------
    interest : ndarray of float64, shape (n_rows, r)
    variance_groups : ndarray of int64, shape (n_rows,)
    exchangeability : Exchangeability
    n_asked, seed : int
        As for `plan_rearrangements`.

    Returns
    -------
    Rearrangements

    Raises
    ------
    ValueError
        As `plan_rearrangements` does.
    """
    if exchangeability.kind == "permutations":
        groups = variance_groups[:, np.newaxis] == np.unique(variance_groups)
        interest = np.hstack([interest, groups.astype(np.float64)])
    return plan_rearrangements(interest, exchangeability, n_asked=n_asked, seed=seed)


def prepare_welch(test: PermutationTest, allocate: Allocate) -> WelchSource:
    """Make the data of a test with variance groups ready: residuals from the nuisance, of unit sum of squares.

    Parameters
    ----------
    test : PermutationTest
        With variance groups, and with or without missing rows.
    allocate : callable
        From a shape to a writable float32 array.

    Returns
    -------
    WelchSource

    Raises
    ------
    ValueError
        If a variance group of a pattern of missing rows has less than one degree of freedom for its error.
    """
    assert test.variance_groups is not None
    _, n_rows, n_voxels = test.data.shape
    present = np.ones((1, n_rows), dtype=bool) if test.missing is None else test.missing.present
    members = np.zeros(n_voxels, dtype=np.int32) if test.missing is None else test.missing.members
    rows = tuple(np.flatnonzero(one) for one in present)
    bases = tuple(decompose(test.nuisance[one]).basis for one in rows)
    for one in rows:
        _require_group_dof(np.hstack([test.interest, test.nuisance])[one], test.variance_groups[one])
    counts = np.bincount(members, minlength=len(rows))
    tiles = allocate((int(sum(count * len(one) for count, one in zip(counts, rows, strict=True))),))
    parts = tuple(_fill_parts(test, members, rows, bases, tiles))
    table = build_full_table(test.test, float(test.dof_effect), most_dof=MOST_DOF_PER_ROW * n_rows)
    return WelchSource(test.leave_data(), tiles, parts, bases, n_voxels, table)


def _require_group_dof(design: Floats, labels: NDArray[np.int64]) -> None:
    """Make sure that every variance group has a degree of freedom for its error."""
    basis = decompose(design).basis
    groups, members = np.unique(labels, return_inverse=True)
    dof = np.bincount(members.ravel(), 1.0 - np.einsum("nk,nk->n", basis, basis))
    short = groups[dof < 1.0 - DOF_TOLERANCE]
    if len(short):
        raise ValueError(f"variance groups with less than one degree of freedom for their error: {short.tolist()}")


def _count_dof(members: Floats, traces: Floats, leverage: Floats) -> Floats:
    """Return the degrees of freedom of each rearrangement's groups, (BATCH, n_groups); 0 where one has none.

    A group of which no row is left has no part in the statistic, and any number does.
    """
    dof = np.ascontiguousarray((members @ (1.0 - leverage)).T) - traces
    dof[~members.any(axis=2).T] = 1.0
    has_statistic = np.all(dof > SMALLEST_GROUP_DOF, axis=1) & (traces.sum(axis=1) > 0)
    return np.where(has_statistic[:, np.newaxis], dof, 0.0)


def _fill_parts(
    test: PermutationTest,
    members: NDArray[np.int32],
    rows: tuple[NDArray[np.intp], ...],
    bases: tuple[Floats, ...],
    tiles: Singles,
) -> Iterator[Part]:
    """Yield the voxels of each pattern, cut to the width of a tile, with their scaled residuals."""
    filled = 0
    for pattern, (present, basis) in enumerate(zip(rows, bases, strict=True)):
        voxels = np.flatnonzero(members == pattern)
        for start in range(0, len(voxels), TILE):
            own = voxels[start : start + TILE]
            values = test.data[np.ix_(np.arange(1), present, own)].astype(np.float64)
            values -= basis @ (basis.T @ values)
            data = tiles[filled : filled + values.size].reshape(len(present), len(own))
            data[:] = values[0] / measure_norms(values)
            filled += values.size
            yield Part(pattern, present, own, data)


def _shape_doubles(memory: Singles, shape: tuple[int, ...]) -> Floats:
    """Return the beginning of some memory as float64 in a shape."""
    return memory.view(np.float64)[: int(np.prod(shape))].reshape(shape)


def _place(maps: Singles, voxels: NDArray[np.intp], heights: Singles) -> None:
    """Put heights where their voxels stand."""
    if voxels[-1] - voxels[0] + 1 == len(voxels):
        maps[:, voxels[0] : voxels[-1] + 1] = heights
    else:
        maps[:, voxels] = heights
