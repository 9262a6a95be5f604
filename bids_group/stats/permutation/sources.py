"""Where the maps of rearrangements come from: what every source of heights offers, and that of ordinary tests.

A source holds the prepared data of a test. From rearrangements it computes their maps, some voxels at a time, so that
these can be counted while they are in the processor's cache.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.cluster_maxima import VoxelLists
from bids_group.stats.permutation.design import TIE_TOLERANCE, PermutationTest
from bids_group.stats.permutation.kernels import (
    BATCH,
    TILE,
    convert_to_f,
    convert_to_t,
    rearrange_interest,
    score_tile,
)

# Where the nuisance takes a tenth of the rows, the matrix products of all rearrangements become a tenth cheaper for one
# more product with the data; the basis of so many rows takes 32 MB.
LEAST_SAVING, MOST_ROTATED_ROWS = 0.1, 2048
# What a correlation near 0 is known to: equal sums of whole numbers must tie there too.
ROUNDING = 5e-7

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Allocate = Callable[[tuple[int, ...]], Singles]


class Rearranged(NamedTuple):
    """Some rearrangements of a group of BATCH.

    Attributes
    ----------
    sources : ndarray of int64, shape (m, n_rows)
        Row i of a rearrangement comes from row ``sources[i]``.
    signs : ndarray of int8, shape (m, n_rows)
    first_row : int
        Where in the group they begin.
    """

    sources: NDArray[np.int64]
    signs: NDArray[np.int8]
    first_row: int


class Scores(NamedTuple):
    """What rises with the heights of a group of rearrangements at some voxels: the heights, unless a source converts.

    Attributes
    ----------
    voxels : slice
        After those of the scores before.
    values : ndarray of float32, shape (BATCH, n_columns)
        Rows that were not asked for may hold anything.
    column : int
        Where the voxels begin among the columns.
    """

    voxels: slice
    values: Singles
    column: int


@dataclass(frozen=True)
class Workspace:
    """The memory that one batch after another is computed in; not to be shared by threads.

    Attributes
    ----------
    scratch : tuple of ndarray of float32
        What the source of heights asks for.
    maps : ndarray of float32, shape (BATCH, n_voxels), or None
        Heights, where whole maps are needed.
    lists : VoxelLists or None
        Voxels above the cluster-forming threshold, where clusters are sought.
    """

    scratch: tuple[Singles, ...]
    maps: Singles | None
    lists: VoxelLists | None = None


class HeightSource(Protocol):
    """Computes the maps of rearrangements; a pure function of them."""

    @property
    def tiles(self) -> Singles:
        """Return the prepared data."""

    @property
    def fills_maps(self) -> bool:
        """Tell whether it computes in an order of its own, so that it needs whole maps even for maxima of voxels."""

    def allocate_scratch(self) -> tuple[Singles, ...]:
        """Set aside the memory that one thread needs beside the maps."""

    def compute_scores(self, rearranged: Rearranged, workspace: Workspace) -> Iterator[Scores]:
        """Compute the scores of rearrangements, voxels by voxels.

        Where a workspace has maps they are filled with heights. What was yielded may be overwritten afterwards.
        """

    def convert_scores(self, scores: Singles) -> Singles:
        """Return the heights of scores, of any number of rows."""

    def score_height(self, height: float) -> float:
        """Return the score of a height that is at least 0."""

    def lower_to_ties(self, heights: Singles) -> Singles:
        """Return the least scores that count as equal to the observed ones, or their absolute values when two-sided.

        Parameters
        ----------
        heights : ndarray of float32, shape (n_voxels,)
            Of the identity.

        Returns
        -------
        ndarray of float32, shape (n_voxels,)
        """


@dataclass(frozen=True)
class HeightScores:
    """What a source has whose scores are the heights themselves."""

    def convert_scores(self, scores: Singles) -> Singles:
        """Return the scores."""
        return scores

    def score_height(self, height: float) -> float:
        """Return the height."""
        return height


@dataclass(frozen=True)
class OrdinarySource:
    """The t or F of ordinary tests, of the same degrees of freedom at all voxels.

    Its scores are the correlations, of F the explained parts of the sums of squares: both rise with the statistic, so
    that only maxima, voxels above the cluster-forming threshold and maps for TFCE need be converted.

    Attributes
    ----------
    test : PermutationTest
        Without its data.
    tiles : ndarray of float32, shape (n_tiles, n_within, n_kept, TILE)
        ``Y``; 0 after the last voxel.
    n_voxels : int
    rotation : ndarray of float64, shape (n_rows, n_kept), or None
        The coordinates of the data: an orthonormal basis of what is orthogonal to the nuisance; None for the rows.
    """

    test: PermutationTest
    tiles: Singles
    n_voxels: int
    rotation: Floats | None = None
    fills_maps: bool = False

    def allocate_scratch(self) -> tuple[Singles, ...]:
        """Set aside memory for scores and products."""
        scores, product = np.empty((2, BATCH, TILE), dtype=np.float32)
        return scores, product

    def compute_scores(self, rearranged: Rearranged, workspace: Workspace) -> Iterator[Scores]:
        """Compute the scores of rearrangements, tile by tile."""
        test, (scores, product) = self.test, workspace.scratch
        sources, signs, first_row = rearranged
        designs = rearrange_interest(
            test.interest, test.nuisance, sources, signs, first_row=first_row, rotation=self.rotation
        )
        for tile, voxels in zip(self.tiles, iterate_tiles(self.n_voxels), strict=True):
            score_tile(designs, tile, scores, product)
            if test.test == "F" and test.dof_effect == 1:
                np.square(scores, out=scores)
            if workspace.maps is not None:
                self._convert(scores, workspace.maps, voxels)
            yield Scores(voxels, scores, 0)

    def convert_scores(self, scores: Singles) -> Singles:
        """Return the t of correlations, or the F of explained parts."""
        heights = np.empty_like(scores)
        self._convert(scores, heights, slice(0, scores.shape[1]))
        return heights

    def score_height(self, height: float) -> float:
        """Return the correlation, or the explained part, of a t or F."""
        test = self.test
        if test.test == "F":
            return height / (height + test.dof / test.dof_effect)
        return height / math.sqrt(height**2 + test.dof)

    def lower_to_ties(self, heights: Singles) -> Singles:
        """Return the least scores that count as ties.

        It is the correlation that has an absolute rounding error, whatever its size.
        """
        test = self.test
        values = heights.astype(np.float64)
        if test.test == "F":
            rho = np.sqrt(values / (values + test.dof / test.dof_effect))
            return (np.maximum(lower_by_rounding(rho), 0.0) ** 2).astype(np.float32)
        values = np.abs(values) if test.is_two_sided else values
        return lower_by_rounding(values / np.sqrt(values**2 + test.dof)).astype(np.float32)

    def _convert(self, scores: Singles, heights: Singles, voxels: slice) -> None:
        """Write the heights of scores into the columns of some voxels."""
        test = self.test
        n_voxels = voxels.stop - voxels.start
        if test.test == "t":
            convert_to_t(scores, heights, voxels.start, n_voxels, float(test.dof))
        else:
            convert_to_f(scores, heights, voxels.start, n_voxels, test.dof / test.dof_effect)


def lower_by_rounding(values: Floats) -> Floats:
    """Return the least values that count as equal to some, of correlations or of z.

    Parameters
    ----------
    values : ndarray of float64, shape (n_voxels,)

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
    """
    return values - np.maximum(TIE_TOLERANCE * np.abs(values), ROUNDING)


def prepare_ordinary(test: PermutationTest, allocate: Allocate) -> OrdinarySource:
    """Make the data of an ordinary test ready: residuals from the nuisance, of unit sum of squares, in tiles.

    Parameters
    ----------
    test : PermutationTest
    allocate : callable
        From a shape to a writable float32 array.

    Returns
    -------
    OrdinarySource
    """
    n_within, n_rows, n_voxels = test.data.shape
    rotation = find_rotation(test.nuisance)
    n_kept = n_rows if rotation is None else rotation.shape[1]
    tiles = allocate((-(-n_voxels // TILE), n_within, n_kept, TILE))
    for tile, voxels in zip(tiles, iterate_tiles(n_voxels), strict=True):
        values = np.zeros((n_within, n_rows, TILE))
        block = test.data[:, :, voxels]
        values[:, :, : block.shape[2]] = block
        if rotation is None:
            values -= test.nuisance @ (test.nuisance.T @ values)
        else:
            values = rotation.T @ values
        tile[:] = values / measure_norms(values)
    return OrdinarySource(test.leave_data(), tiles, n_voxels, rotation)


def find_rotation(nuisance: Floats) -> Floats | None:
    """Find coordinates in which what is orthogonal to the nuisance has fewer values than there are rows.

    Parameters
    ----------
    nuisance : ndarray of float64, shape (n_rows, k)
        Orthonormal.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_rows - k), or None
        An orthonormal basis; None where the rows will do, because it would save little or be large.
    """
    n_rows, n_nuisance = nuisance.shape
    if n_nuisance < LEAST_SAVING * n_rows or n_rows > MOST_ROTATED_ROWS:
        return None
    basis: Floats = np.linalg.qr(nuisance, mode="complete")[0][:, n_nuisance:]
    return basis


def measure_norms(values: Floats) -> Floats:
    """Return what to divide residuals by so that each voxel has unit sum of squares; 1 where it is 0.

    Parameters
    ----------
    values : ndarray of float64, shape (n_within, n_rows, n_voxels)

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
    """
    norms = np.sqrt(np.einsum("wrv,wrv->v", values, values))
    return np.where(norms > 0, norms, 1.0)


def iterate_tiles(n_voxels: int) -> Iterator[slice]:
    """Iterate over the voxels of the tiles.

    Parameters
    ----------
    n_voxels : int

    Returns
    -------
    iterator of slice
    """
    return (slice(start, min(start + TILE, n_voxels)) for start in range(0, n_voxels, TILE))


def make_workspace(source: HeightSource, n_voxels: int, *, has_maps: bool) -> Workspace:
    """Set aside the memory for batches.

    Parameters
    ----------
    source : HeightSource
    n_voxels : int
    has_maps : bool
        Whether whole maps are needed.

    Returns
    -------
    Workspace
    """
    maps = np.empty((BATCH, n_voxels), dtype=np.float32) if has_maps or source.fills_maps else None
    return Workspace(source.allocate_scratch(), maps)


def compute_identity(source: HeightSource, n_rows: int, n_voxels: int, *, has_maps: bool) -> Singles:
    """Compute the observed heights as the first rearrangement of a batch is.

    Parameters
    ----------
    source : HeightSource
    n_rows, n_voxels : int
    has_maps : bool

    Returns
    -------
    ndarray of float32, shape (n_voxels,)
    """
    workspace = make_workspace(source, n_voxels, has_maps=has_maps)
    identity = Rearranged(np.arange(n_rows)[np.newaxis], np.ones((1, n_rows), dtype=np.int8), 0)
    scores = np.empty((1, n_voxels), dtype=np.float32)
    for voxels, values, column in source.compute_scores(identity, workspace):
        scores[0, voxels] = values[0, column : column + voxels.stop - voxels.start]
    return source.convert_scores(scores)[0]
