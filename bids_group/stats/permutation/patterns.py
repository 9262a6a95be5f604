"""Heights of rearrangements where voxels lack rows: each pattern of missing rows refitted, by one product of matrices.

With P the rows that a voxel has, ``N_P`` and ``U*_P`` those of the nuisance and of the rearranged interest, it is

    R2 = |(G^(-1/2))' U*_P'Y|^2,    Y = R_(N_P) D_P,    G = U*_P' R_(N_P) U*_P,

``Y`` scaled to unit sum of squares. As ``Y`` is 0 in the missing rows, ``U*'Y`` is one product for all voxels; of a
pattern only G is needed, and the degrees of freedom ``n_within (|P| - r - rank N_P)``, by which R2 becomes z.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bids_group.column_space import decompose
from bids_group.stats.coverage import find_patterns
from bids_group.stats.permutation.design import TIE_TOLERANCE, MissingRows, PermutationTest
from bids_group.stats.permutation.kernels import (
    BATCH,
    SMALLEST_UNEXPLAINED,
    TILE,
    find_whitening,
    rearrange_interest,
)
from bids_group.stats.permutation.sources import (
    ROUNDING,
    Allocate,
    HeightScores,
    Rearranged,
    Scores,
    Workspace,
    compute_identity,
    iterate_tiles,
    measure_norms,
)
from bids_group.stats.permutation.z_tables import ZTable, build_table, look_up

PATTERN_BLOCK = 64  # patterns whose bases are held at a time
LARGEST_EXPLAINED = 1.0 - float(SMALLEST_UNEXPLAINED)

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class PatternSource(HeightScores):
    """The z of tests whose voxels lack rows.

    Attributes
    ----------
    test : PermutationTest
        Without its data.
    missing : MissingRows
    tiles : ndarray of float32, shape (n_tiles, n_within, n_rows, TILE)
        ``Y``; 0 in missing rows and after the last voxel.
    transformations : ndarray of float64, shape (n_patterns, k, k)
        Of each pattern ``N_P`` times it is an orthonormal basis of ``N_P``, followed by columns of 0.
    dof : ndarray of float64, shape (n_patterns,)
    table : ZTable
        A row for each of the degrees of freedom that there are.
    table_rows : ndarray of int64, shape (n_patterns,)
    scale : float
        What correlations are multiplied by: 1, but for ties.
    """

    test: PermutationTest
    missing: MissingRows
    tiles: Singles
    transformations: Floats
    dof: Floats
    table: ZTable
    table_rows: NDArray[np.int64]
    scale: float = 1.0
    fills_maps: bool = False

    @property
    def n_voxels(self) -> int:
        """Return the number of voxels."""
        return len(self.missing.members)

    def allocate_scratch(self) -> tuple[Singles, ...]:
        """Set aside memory for scores, and for heights where maps are not kept."""
        n_scores = self.test.dof_effect
        return np.empty((n_scores, BATCH, TILE), dtype=np.float32), np.empty((BATCH, TILE), dtype=np.float32)

    def compute_scores(self, rearranged: Rearranged, workspace: Workspace) -> Iterator[Scores]:
        """Compute the heights of rearrangements, tile by tile."""
        sources, signs, first_row = rearranged
        test = self.test
        designs = rearrange_interest(test.interest, test.nuisance, sources, signs, first_row=first_row)
        whitening = self._find_whitening(designs)
        rows = first_row, first_row + len(sources)
        scores, scratch = workspace.scratch
        for tile, voxels in zip(self.tiles, iterate_tiles(self.n_voxels), strict=True):
            heights, column = (scratch, 0) if workspace.maps is None else (workspace.maps, voxels.start)
            products = ((design, stack) for stack in tile for design in designs)
            for out, (design, stack) in zip(scores, products, strict=True):
                np.matmul(design, stack, out=out)
            members = self.missing.members[voxels]
            convert_patterns(
                *(scores, whitening, members, self.dof, self.table, self.table_rows),
                *(heights, column, rows, self.scale),
            )
            yield Scores(voxels, heights, column)

    def lower_to_ties(self, heights: Singles) -> Singles:
        """Return the least heights that count as ties: those of correlations that are nearer to 0, or farther below."""
        n_rows = self.missing.present.shape[1]
        higher, lower = (
            compute_identity(replace(self, scale=1.0 + change), n_rows, self.n_voxels, has_maps=False)
            for change in (TIE_TOLERANCE, -TIE_TOLERANCE)
        )
        return choose_ties(self.test, heights, higher, lower)

    def _find_whitening(self, designs: Singles) -> Singles:
        """Return ``G^(-1/2)`` of each rearrangement and pattern, of shape (BATCH, n_patterns, r, r)."""
        rank, n_batch, n_rows = designs.shape
        rows = designs.swapaxes(0, 1).astype(np.float64)
        squares = (rows[:, :, np.newaxis] * rows[:, np.newaxis]).reshape(-1, n_rows)
        found = np.empty((n_batch, len(self.dof), rank, rank), dtype=np.float32)
        for start in range(0, len(self.dof), PATTERN_BLOCK):
            block = slice(start, start + PATTERN_BLOCK)
            present = self.missing.present[block].astype(np.float64)
            bases = (present[:, :, np.newaxis] * self.test.nuisance) @ self.transformations[block]
            projected = (rows.reshape(-1, n_rows) @ bases).reshape(len(present), n_batch, rank, -1)
            gram = (squares @ present.T).reshape(n_batch, rank, rank, -1).transpose(3, 0, 1, 2)
            whitening = find_whitening(gram - projected @ projected.swapaxes(2, 3))
            found[:, block] = whitening.swapaxes(0, 1)
        return found


def find_missing_rows(data: NDArray[np.floating], units: NDArray[np.integer] | None = None) -> MissingRows:
    """Find which rows the voxels lack.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
        NaN where missing.
    units : ndarray of int, shape (n_rows,), or None
        The unit of each row, from 0: where one of its rows is missing all of them count as missing. None where each
        row is a unit of its own.

    Returns
    -------
    MissingRows

    Examples
    --------
    >>> import numpy as np
    >>> find_missing_rows(np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])).members
    array([0, 0, 1], dtype=int32)
    """
    units = np.arange(len(data)) if units is None else units
    patterns = find_patterns(data, units, most_voxels=max(1, data.shape[1]))
    members = np.empty(data.shape[1], dtype=np.int32)
    for number, pattern in enumerate(patterns):
        members[pattern.voxels] = number
    return MissingRows(np.array([pattern.present[units] for pattern in patterns]), members)


def prepare_patterns(test: PermutationTest, allocate: Allocate) -> PatternSource:
    """Make the data of a test of voxels that lack rows ready: residuals from what is left of the nuisance, in tiles.

    Parameters
    ----------
    test : PermutationTest
        With missing rows.
    allocate : callable
        From a shape to a writable float32 array.

    Returns
    -------
    PatternSource

    Raises
    ------
    ValueError
        If a pattern leaves no degree of freedom for the error, or nothing of a direction of the interest.
    """
    assert test.missing is not None
    n_within, n_rows, n_voxels = test.data.shape
    present = test.missing.present
    transformations = np.zeros((len(present), *2 * test.nuisance.shape[1:]))
    for i, rows in enumerate(present):
        space = decompose(test.nuisance[rows])
        transformations[i, :, : space.rank] = space.score_weights(np.eye(test.nuisance.shape[1]))
    dof = count_pattern_dof(test)
    if np.any(dof < 1):
        raise ValueError(f"{np.count_nonzero(dof < 1)} patterns of missing rows leave no degree of freedom")
    kinds, table_rows = np.unique(dof, return_inverse=True)
    table = build_table(test.test, float(test.dof_effect), kinds)
    tiles = allocate((-(-n_voxels // TILE), n_within, n_rows, TILE))
    source = PatternSource(
        test.leave_data(), test.missing, tiles, transformations, dof, table, table_rows.astype(np.int64)
    )
    _require_interest(source)
    for tile, voxels in zip(tiles, iterate_tiles(n_voxels), strict=True):
        tile[:] = _fit_nuisance(source, test.data[:, :, voxels], test.missing.members[voxels])
    return source


def count_pattern_dof(test: PermutationTest) -> Floats:
    """Count the degrees of freedom of the error of each pattern of missing rows, ``n_within (|P| - r - rank N_P)``.

    Parameters
    ----------
    test : PermutationTest
        With missing rows; its data are not needed.

    Returns
    -------
    ndarray of float64, shape (n_patterns,)
    """
    assert test.missing is not None
    ranks = np.array([decompose(test.nuisance[rows]).rank for rows in test.missing.present])
    return test.data.shape[0] * (np.count_nonzero(test.missing.present, axis=1) - test.interest.shape[1] - ranks) * 1.0


def _require_interest(source: PatternSource) -> None:
    """Make sure that what is tested can be estimated from the rows of each pattern."""
    interest = source.test.interest
    designs = np.zeros((interest.shape[1], BATCH, len(interest)), dtype=np.float32)
    designs[:, 0] = interest.T
    n_lost = np.count_nonzero(~source._find_whitening(designs)[0].any(axis=(1, 2)))
    if n_lost:
        raise ValueError(f"{n_lost} patterns of missing rows leave nothing of what is tested")


def _fit_nuisance(source: PatternSource, data: Singles, members: NDArray[np.int32]) -> Floats:
    """Return the scaled residuals of some voxels, 0 in their missing rows, of shape (n_within, n_rows, TILE)."""
    n_within, n_rows, _ = data.shape
    values = np.zeros((n_within, n_rows, TILE))
    for number in np.unique(members):
        rows = np.flatnonzero(source.missing.present[number])
        voxels = np.flatnonzero(members == number)
        basis = source.test.nuisance[rows] @ source.transformations[number]
        block = data[np.ix_(np.arange(n_within), rows, voxels)].astype(np.float64)
        block -= basis @ (basis.T @ block)
        values[np.ix_(np.arange(n_within), rows, voxels)] = block
    return values / measure_norms(values)


def choose_ties(test: PermutationTest, heights: Singles, higher: Singles, lower: Singles) -> Singles:
    """Choose the least heights that count as ties from those of a statistic that is a little larger or smaller.

    Parameters
    ----------
    test : PermutationTest
    heights : ndarray of float32, shape (n_voxels,)
        Of the identity.
    higher, lower : ndarray of float32, shape (n_voxels,)
        Those whose statistic is larger, and smaller, in absolute value.

    Returns
    -------
    ndarray of float32, shape (n_voxels,)
        Of absolute values when two-sided.
    """
    if test.test == "F":
        return lower
    rounding = np.float32(ROUNDING)  # of a t near 0, and of its z
    if test.is_two_sided:
        return np.minimum(np.abs(lower), np.abs(heights) - rounding)
    return np.minimum(np.where(heights < 0, higher, lower), heights - rounding)


@njit(nogil=True, error_model="numpy")
def convert_patterns(
    scores: Singles,
    whitening: Singles,
    members: NDArray[np.int32],
    dof: Floats,
    table: ZTable,
    table_rows: NDArray[np.int64],
    heights: Singles,
    column: int,
    rows: tuple[int, int],
    scale: float,
) -> None:
    """Turn the scores of a tile into z, by the pattern of each voxel.

    Parameters
    ----------
    scores : ndarray of float32, shape (n_within r, BATCH, TILE)
        ``U*'Y``, of the directions of each stack together.
    whitening : ndarray of float32, shape (BATCH, n_patterns, r, r)
        ``G^(-1/2)``.
    members : ndarray of int32, shape (n_tile_voxels,)
    dof : ndarray of float64, shape (n_patterns,)
    table : ZTable
    table_rows : ndarray of int64, shape (n_patterns,)
    heights : ndarray of float32, shape (BATCH, n_columns)
        Filled from `column` on.
    column : int
    rows : (int, int)
        First and last + 1 of the batch's rows that are used.
    scale : float
        What correlations are multiplied by.
    """
    rank = whitening.shape[2]
    for row in range(rows[0], rows[1]):
        for voxel in range(members.shape[0]):
            pattern = members[voxel]
            explained, part = 0.0, 0.0
            for first in range(0, scores.shape[0], rank):
                for direction in range(rank):
                    part = 0.0
                    for other in range(rank):
                        part += whitening[row, pattern, direction, other] * scores[first + other, row, voxel]
                    explained += part * part
            explained = min(explained * scale * scale, LARGEST_EXPLAINED)
            z = look_up(table, table_rows[pattern], -dof[pattern] * np.log1p(-explained))
            heights[row, column + voxel] = -z if table.is_t and part < 0.0 else z
