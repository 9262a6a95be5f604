"""The data of a test prepared once, and any batch of its rearrangements computed on its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.cluster_maxima import measure_largest_clusters
from bids_group.stats.neighbours import build_all_neighbours, build_neighbours
from bids_group.stats.permutation_design import PermutationTest
from bids_group.stats.permutation_kernels import (
    BATCH,
    SMALLEST_UNEXPLAINED,
    TILE,
    convert_to_f,
    convert_to_t,
    rearrange_interest,
    score_tile,
    tally,
)
from bids_group.stats.tfce import find_largest_tfce
from bids_group.vocabulary import PermutationLevel

# Equal statistics of different rearrangements differ by the rounding of float32 sums over rows: at most some 4e-7 of a
# correlation with 1000 rows. Ten times that is still far below the distance between unequal ones.
TIE_TOLERANCE = 4e-6

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Allocate = Callable[[tuple[int, ...]], Singles]


@dataclass(frozen=True)
class PreparedTest:
    """A test whose data are ready for the batches.

    Attributes
    ----------
    test : PermutationTest
        Without its data.
    tiles : ndarray of float32, shape (n_tiles, n_within, n_rows, TILE)
        ``Y``; 0 after the last voxel.
    numbers : ndarray of int64, shape (n_computed,)
        Which of the rearrangements are computed, ascending. Of two opposite ones only the first is.
    neighbours, all_neighbours : ndarray of int32, shape (n_voxels, width)
        For clusters, and for TFCE; without rows where not asked for.
    heights : ndarray of float32, shape (n_voxels,)
        The observed statistic; -t for the negative tail.
    tied : ndarray of float32, shape (n_voxels,)
        The least height that reaches the observed one, but for rounding.
    """

    test: PermutationTest
    tiles: Singles
    numbers: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    all_neighbours: NDArray[np.int32]
    heights: Singles
    tied: Singles

    @property
    def n_voxels(self) -> int:
        """Return the number of voxels."""
        return len(self.heights)

    @property
    def has_mirrors(self) -> bool:
        """Tell whether each rearrangement that is computed stands for its opposite as well."""
        return self.test.rearrangements.mirrors is not None


@dataclass(frozen=True)
class BatchResult:
    """What some of the rearrangements gave.

    Attributes
    ----------
    start, stop : int
        Which of the prepared test's `numbers` they are.
    numbers : ndarray of int64, shape (m,)
        Their numbers, followed by those of their opposites where these were not computed.
    maxima : dict of PermutationLevel to ndarray of float64, shape (m,)
        The largest value in the map of each.
    exceeding : ndarray of int64, shape (n_voxels,)
        How many of the m reach the observed statistic at the voxel, in the direction of the tail; ties count.
    """

    start: int
    stop: int
    numbers: NDArray[np.int64]
    maxima: dict[PermutationLevel, Floats]
    exceeding: NDArray[np.int64]


@dataclass(frozen=True)
class Workspace:
    """The memory that one batch after another is computed in; not to be shared by threads.

    Attributes
    ----------
    scores, product : ndarray of float32, shape (BATCH, TILE)
    maps : ndarray of float32, shape (BATCH, n_voxels), or None
        Heights, where whole maps are needed.
    """

    scores: Singles
    product: Singles
    maps: Singles | None


def prepare(test: PermutationTest, allocate: Allocate | None = None) -> PreparedTest:
    """Make the data ready: residuals from the nuisance, of unit sum of squares, in tiles; and the observed statistic.

    Parameters
    ----------
    test : PermutationTest
    allocate : callable, or None
        From a shape to a writable float32 array, for tiles that shall not stand in memory; they are as large as the
        data. None for `numpy.empty`.

    Returns
    -------
    PreparedTest
    """
    tiles = _fill_tiles(test, allocate or _allocate_in_memory)
    rearrangements = test.rearrangements
    numbers = np.arange(rearrangements.n, dtype=np.int64)
    if rearrangements.mirrors is not None:
        numbers = numbers[numbers <= rearrangements.mirrors]
    # The data themselves are not kept: the caller may want their memory back.
    kept = replace(
        test,
        data=np.empty((*test.data.shape[:2], 0), dtype=np.float32),
        interest=-test.interest if test.tail == "negative" else test.interest,
    )
    nowhere = np.zeros_like(test.mask)
    earlier = build_neighbours(test.mask if test.has_clusters else nowhere, test.connectivity)
    every = build_all_neighbours(test.mask if "tfce" in test.levels else nowhere, test.connectivity)
    unknown = np.zeros(test.data.shape[2], dtype=np.float32)
    prepared = PreparedTest(kept, tiles, numbers, earlier, every, unknown, unknown)
    heights = _compute_identity(prepared)
    return replace(prepared, heights=heights, tied=_lower_to_ties(test, heights))


def make_workspace(prepared: PreparedTest) -> Workspace:
    """Set aside the memory for batches of a test.

    Parameters
    ----------
    prepared : PreparedTest

    Returns
    -------
    Workspace
    """
    scores, product = np.empty((2, BATCH, TILE), dtype=np.float32)
    maps = np.empty((BATCH, prepared.n_voxels), dtype=np.float32) if prepared.test.needs_maps else None
    return Workspace(scores, product, maps)


def run_batch(prepared: PreparedTest, start: int, stop: int, *, workspace: Workspace | None = None) -> BatchResult:
    """Compute some of the rearrangements.

    What a rearrangement gives depends on nothing but its place among them: neither on `start` and `stop`, nor on
    threads, nor on what was computed before. Where a rearranged interest falls into the nuisance, the statistic of
    that rearrangement is 0 at all voxels.

    Parameters
    ----------
    prepared : PreparedTest
    start, stop : int
        Which of ``prepared.numbers``. They are computed in groups of BATCH that begin at its multiples.
    workspace : Workspace or None
        Of `make_workspace`, to be used again.

    Returns
    -------
    BatchResult

    Raises
    ------
    ValueError
        If not ``0 <= start < stop <= n_computed``.
    """
    if not 0 <= start < stop <= len(prepared.numbers):
        raise ValueError(f"rearrangements 0 to {len(prepared.numbers)} can be computed, not {start} to {stop}")
    workspace = workspace or make_workspace(prepared)
    exceeding = np.zeros(prepared.n_voxels, dtype=np.int64)
    pieces: list[dict[PermutationLevel, Floats]] = []
    for first in range(start - start % BATCH, stop, BATCH):
        rows = max(start - first, 0), min(stop - first, BATCH)
        pieces.append(_run_group(prepared, first, rows, workspace, exceeding))
    numbers = prepared.numbers[start:stop]
    maxima = {level: np.concatenate([piece[level] for piece in pieces], axis=1) for level in prepared.test.levels}
    mirrors = prepared.test.rearrangements.mirrors
    if mirrors is not None:
        numbers = np.concatenate([numbers, mirrors[numbers]])
    return BatchResult(start, stop, numbers, {level: both.ravel() for level, both in maxima.items()}, exceeding)


def _run_group(
    prepared: PreparedTest, first: int, rows: tuple[int, int], workspace: Workspace, exceeding: NDArray[np.int64]
) -> dict[PermutationLevel, Floats]:
    """Compute one group; return its maxima, of shape (1, m), or (2, m) with those of the opposites, add its counts."""
    test = prepared.test
    designs = _draw_designs(prepared, first, rows)
    above, below = np.zeros((2, prepared.n_voxels), dtype=np.int32)
    largest = np.full(BATCH, -np.inf, dtype=np.float32)
    smallest = -largest
    for tile, voxels in _iterate_tiles(prepared):
        heights, column = _compute_heights(prepared, designs, tile, voxels, workspace)
        counts = above[voxels], below[voxels]
        tally(heights, column, rows, prepared.tied[voxels], *counts, largest, smallest, test.is_two_sided)
    exceeding += above
    if prepared.has_mirrors:
        exceeding += below if test.is_directed else above
    used = slice(*rows)
    maxima = _measure_maps(prepared, workspace.maps[used]) if workspace.maps is not None else {}
    maxima["voxel"] = _stack(prepared, largest[used], -smallest[used])
    return maxima


def _draw_designs(prepared: PreparedTest, first: int, rows: tuple[int, int]) -> Singles:
    """Return the rearranged interest of some rows of a group, (r, BATCH, n_rows); 0 in the others."""
    test = prepared.test
    numbers = prepared.numbers[first + rows[0] : first + rows[1]]
    # Those between two that are computed may be opposites of others; they are drawn and left.
    sources, signs = test.rearrangements.draw(int(numbers[0]), int(numbers[-1]) + 1)
    drawn = numbers - numbers[0]
    return rearrange_interest(test.interest, test.nuisance, sources[drawn], signs[drawn], first_row=rows[0])


def _compute_heights(
    prepared: PreparedTest, designs: Singles, tile: Singles, voxels: slice, workspace: Workspace
) -> tuple[Singles, int]:
    """Compute the heights of a tile; return where they stand, and from which column on."""
    test = prepared.test
    score_tile(designs, tile, workspace.scores, workspace.product)
    heights, column = (workspace.product, 0) if workspace.maps is None else (workspace.maps, voxels.start)
    n_voxels = voxels.stop - voxels.start
    if test.test == "t":
        convert_to_t(workspace.scores, heights, column, n_voxels, float(test.dof))
    else:
        if test.dof_effect == 1:
            np.square(workspace.scores, out=workspace.scores)
        convert_to_f(workspace.scores, heights, column, n_voxels, test.dof / test.dof_effect)
    return heights, column


def _measure_maps(prepared: PreparedTest, maps: Singles) -> dict[PermutationLevel, Floats]:
    """Return the maxima of clusters and TFCE of maps, and of their opposites; the maps are overwritten."""
    found = [_measure_directed(prepared, maps)]
    if prepared.has_mirrors:
        is_directed = prepared.test.is_directed
        found.append(_measure_directed(prepared, np.negative(maps, out=maps)) if is_directed else found[0])
    return {level: np.stack([one[level] for one in found]) for level in found[0]}


def _measure_directed(prepared: PreparedTest, maps: Singles) -> dict[PermutationLevel, Floats]:
    """Return the maxima of clusters and TFCE of each map; those of F are overwritten with their square roots."""
    test = prepared.test
    maxima: dict[PermutationLevel, Floats] = {}
    if test.has_clusters:
        maxima["cluster-size"], maxima["cluster-mass"] = measure_largest_clusters(
            maps, test.cluster_threshold, prepared.neighbours, two_sided=test.is_two_sided
        )
    if "tfce" in test.levels:
        if test.test == "F":
            np.sqrt(maps, out=maps)
        maxima["tfce"] = find_largest_tfce(
            maps,
            prepared.all_neighbours,
            extent_power=test.extent_power,
            height_power=test.height_power,
            two_sided=test.is_two_sided,
        )
    return maxima


def _stack(prepared: PreparedTest, largest: Singles, opposite: Singles) -> Floats:
    """Return the maxima of the statistic, of shape (1, m), or (2, m) with those of the opposites."""
    if not prepared.has_mirrors:
        return largest[np.newaxis].astype(np.float64)
    return np.stack([largest, opposite if prepared.test.is_directed else largest]).astype(np.float64)


def _fill_tiles(test: PermutationTest, allocate: Allocate) -> Singles:
    """Return the scaled residuals, tile by tile; those of a voxel that is fitted exactly are left 0."""
    n_within, n_rows, n_voxels = test.data.shape
    tiles = allocate((-(-n_voxels // TILE), n_within, n_rows, TILE))
    for i, tile in enumerate(tiles):
        values = np.zeros((n_within, n_rows, TILE))
        block = test.data[:, :, i * TILE : (i + 1) * TILE]
        values[:, :, : block.shape[2]] = block
        values -= test.nuisance @ (test.nuisance.T @ values)
        norms = np.sqrt(np.einsum("wrv,wrv->v", values, values))
        tile[:] = values / np.where(norms > 0, norms, 1.0)
    return tiles


def _allocate_in_memory(shape: tuple[int, ...]) -> Singles:
    """Return an array in memory."""
    return np.empty(shape, dtype=np.float32)


def _iterate_tiles(prepared: PreparedTest) -> Iterator[tuple[Singles, slice]]:
    """Return each tile with the voxels that are in it."""
    starts = range(0, prepared.n_voxels, TILE)
    voxels = [slice(start, min(start + TILE, prepared.n_voxels)) for start in starts]
    return zip(prepared.tiles, voxels, strict=True)


def _compute_identity(prepared: PreparedTest) -> Singles:
    """Compute the observed heights as the first rearrangement of a batch is."""
    workspace = make_workspace(prepared)
    designs = _draw_designs(prepared, 0, (0, 1))
    heights = np.empty(prepared.n_voxels, dtype=np.float32)
    for tile, voxels in _iterate_tiles(prepared):
        found, column = _compute_heights(prepared, designs, tile, voxels, workspace)
        heights[voxels] = found[0, column : column + voxels.stop - voxels.start]
    return heights


def _lower_to_ties(test: PermutationTest, heights: Singles) -> Singles:
    """Return the least heights that count as ties.

    It is the correlation that has an absolute rounding error, whatever its size: near 1 the same error of it is a
    larger part of t.
    """
    values = heights.astype(np.float64)
    if test.test == "F":
        ratio = test.dof / test.dof_effect
        explained = values / (values + ratio) * (1.0 - TIE_TOLERANCE) ** 2
        return (ratio * explained / (1.0 - explained)).astype(np.float32)
    values = np.abs(values) if test.is_two_sided else values
    rho = values / np.sqrt(values**2 + test.dof)
    rho -= TIE_TOLERANCE * np.abs(rho)
    return (rho * np.sqrt(test.dof / np.maximum((1.0 - rho) * (1.0 + rho), SMALLEST_UNEXPLAINED))).astype(np.float32)
