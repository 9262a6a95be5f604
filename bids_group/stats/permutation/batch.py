"""The data of a test prepared once, and any batch of its rearrangements computed on its own."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.cluster_maxima import list_voxels, make_lists, measure_largest_clusters
from bids_group.stats.neighbours import Lattice, build_lattice, build_neighbours
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.kernels import BATCH, tally
from bids_group.stats.permutation.meta import prepare_meta
from bids_group.stats.permutation.patterns import prepare_patterns
from bids_group.stats.permutation.rearrange import Rearrangements
from bids_group.stats.permutation.sources import (
    Allocate,
    HeightSource,
    Rearranged,
    Workspace,
    compute_identity,
    prepare_ordinary,
)
from bids_group.stats.permutation.sources import make_workspace as make_source_workspace
from bids_group.stats.permutation.welch import prepare_welch
from bids_group.stats.tfce import find_largest_tfce
from bids_group.vocabulary import PermutationLevel

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class PreparedTest:
    """A test whose data are ready for the batches.

    Attributes
    ----------
    test : PermutationTest
        Without its data.
    source : HeightSource
        The data, from which the heights of rearrangements are computed.
    numbers : ndarray of int64, shape (n_computed,)
        Which of the rearrangements are computed, ascending. Of two opposite ones only the first is.
    neighbours : ndarray of int32, shape (n_voxels, width)
        For clusters; without rows where not asked for.
    lattice : Lattice
        For TFCE; without voxels where not asked for.
    heights : ndarray of float32, shape (n_voxels,)
        The observed statistic, in the test's unit; its negative for the negative tail.
    tied : ndarray of float32, shape (n_voxels,)
        The least score that reaches the observed one, but for rounding.
    """

    test: PermutationTest
    source: HeightSource
    numbers: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    lattice: Lattice
    heights: Singles
    tied: Singles

    @property
    def n_voxels(self) -> int:
        """Return the number of voxels."""
        return len(self.heights)

    @property
    def tiles(self) -> Singles:
        """Return the data."""
        return self.source.tiles

    @property
    def has_mirrors(self) -> bool:
        """Tell whether each rearrangement that is computed stands for its opposite as well."""
        return self.test.rearrangements.mirrors is not None

    @property
    def has_sides(self) -> bool:
        """Tell whether negative heights are measured as well: they count, or are those of the opposites."""
        return self.test.is_two_sided or (self.has_mirrors and self.test.is_directed)

    @property
    def least_score(self) -> float:
        """Return what the scores of voxels in clusters exceed."""
        return self.source.score_height(self.test.least_height)


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


def prepare(test: PermutationTest, allocate: Allocate | None = None) -> PreparedTest:
    """Make the data ready for the batches, and compute the observed statistic.

    Parameters
    ----------
    test : PermutationTest
    allocate : callable, or None
        From a shape to a writable float32 array, for data that shall not stand in memory; they are as large as those
        of the test. None for `numpy.empty`.

    Returns
    -------
    PreparedTest

    Raises
    ------
    ValueError
        If a pattern of missing rows, or a variance group, leaves no degree of freedom.
    """
    rearrangements = _choose_mirrors(test)
    numbers = np.arange(rearrangements.n, dtype=np.int64)
    if rearrangements.mirrors is not None:
        numbers = numbers[numbers <= rearrangements.mirrors]
    nowhere = np.zeros_like(test.mask)
    earlier = build_neighbours(test.mask if test.has_clusters else nowhere, test.connectivity)
    lattice = build_lattice(test.mask if "tfce" in test.levels else nowhere, test.connectivity)
    interest = -test.interest if test.tail == "negative" else test.interest
    directed = replace(test, interest=interest, rearrangements=rearrangements)
    source = _choose_source(test)(directed, allocate or _allocate_in_memory)
    _, n_rows, n_voxels = test.data.shape
    heights = compute_identity(source, n_rows, n_voxels, has_maps=test.needs_maps)
    # The data themselves are not kept: the caller may want their memory back.
    return PreparedTest(
        directed.leave_data(), source, numbers, earlier, lattice, heights, source.lower_to_ties(heights)
    )


def _choose_mirrors(test: PermutationTest) -> Rearrangements:
    """Return the rearrangements, without their opposites where these need not have the opposite statistic.

    Variance groups that move may be others when the interest is turned over.
    """
    if test.variance_groups is not None and test.moves_rows:
        return replace(test.rearrangements, mirrors=None)
    return test.rearrangements


def _choose_source(test: PermutationTest) -> Callable[[PermutationTest, Allocate], HeightSource]:
    """Return what makes the data of a test ready, by what is known of its errors."""
    if test.known is not None:
        return prepare_meta
    if test.variance_groups is not None:
        return prepare_welch
    return prepare_ordinary if test.missing is None else prepare_patterns


def _allocate_in_memory(shape: tuple[int, ...]) -> Singles:
    """Return an array in memory."""
    return np.empty(shape, dtype=np.float32)


def make_workspace(prepared: PreparedTest) -> Workspace:
    """Set aside the memory for batches of a test.

    Parameters
    ----------
    prepared : PreparedTest

    Returns
    -------
    Workspace
    """
    test = prepared.test
    workspace = make_source_workspace(prepared.source, prepared.n_voxels, has_maps=test.needs_maps)
    return replace(workspace, lists=make_lists(BATCH, prepared.n_voxels)) if test.has_clusters else workspace


def measure_workspace(prepared: PreparedTest) -> int:
    """Return how many bytes the workspace of a thread takes, but for lists of voxels, which stay short.

    Parameters
    ----------
    prepared : PreparedTest

    Returns
    -------
    int
    """
    has_maps = prepared.test.needs_maps or prepared.source.fills_maps
    n_values = BATCH * prepared.n_voxels if has_maps else 0
    return np.dtype(np.float32).itemsize * (n_values + sum(array.size for array in prepared.source.allocate_scratch()))


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
    test, source = prepared.test, prepared.source
    above, below = np.zeros((2, prepared.n_voxels), dtype=np.int32)
    largest = np.full(BATCH, -np.inf, dtype=np.float32)
    smallest = -largest
    lists = workspace.lists
    if lists is not None:
        lists.counts[:] = 0
    for voxels, scores, column in source.compute_scores(_draw(prepared, first, rows), workspace):
        counts = above[voxels], below[voxels]
        tally(scores, column, rows, prepared.tied[voxels], *counts, largest, smallest, test.is_two_sided)
        if lists is not None:
            span = voxels.start, voxels.stop
            list_voxels(scores, column, rows, span, prepared.least_score, prepared.has_sides, lists)
    exceeding += above
    if prepared.has_mirrors:
        exceeding += below if test.is_directed else above
    used = slice(*rows)
    ends = source.convert_scores(np.stack([largest[used], smallest[used]])).astype(np.float64)
    sides = {"voxel": ends * [[1.0], [-1.0]], **_measure(prepared, workspace, used)}
    return {level: _combine_sides(prepared, both) for level, both in sides.items()}


def _draw(prepared: PreparedTest, first: int, rows: tuple[int, int]) -> Rearranged:
    """Return the rearrangements of some rows of a group."""
    numbers = prepared.numbers[first + rows[0] : first + rows[1]]
    # Those between two that are computed may be opposites of others; they are drawn and left.
    sources, signs = prepared.test.rearrangements.draw(int(numbers[0]), int(numbers[-1]) + 1)
    drawn = numbers - numbers[0]
    return Rearranged(sources[drawn], signs[drawn], rows[0])


def _measure(prepared: PreparedTest, workspace: Workspace, rows: slice) -> dict[PermutationLevel, Floats]:
    """Return the maxima of clusters and TFCE of the maps of a group; those of F are overwritten by their roots."""
    test = prepared.test
    maxima: dict[PermutationLevel, Floats] = {}
    if workspace.lists is not None:
        most = int(workspace.lists.counts.max())
        scores = np.ascontiguousarray(workspace.lists.heights[:, :most])
        workspace.lists.heights[:, :most] = prepared.source.convert_scores(scores)
        extents, masses = measure_largest_clusters(workspace.lists, test.least_height, prepared.neighbours)
        maxima["cluster-size"], maxima["cluster-mass"] = extents[:, rows], masses[:, rows]
    if "tfce" in test.levels and workspace.maps is not None:
        maps = workspace.maps[rows]
        if test.takes_root:
            np.sqrt(maps, out=maps)
        maxima["tfce"] = find_largest_tfce(
            maps,
            prepared.lattice,
            extent_power=test.extent_power,
            height_power=test.height_power,
            two_sided=prepared.has_sides,
        )
    return maxima


def _combine_sides(prepared: PreparedTest, sides: Floats) -> Floats:
    """Turn the maxima of positive and of negative heights, (2, m), into those of the rearrangements, (1, m).

    Those of the opposites follow, if they were not computed: (2, m).
    """
    if prepared.test.is_directed:
        return sides if prepared.has_mirrors else sides[:1]
    largest = sides.max(axis=0, keepdims=True) if prepared.test.is_two_sided else sides[:1]
    return np.repeat(largest, 1 + prepared.has_mirrors, axis=0)
