"""Where the maps of rearrangements come from: what every source of heights offers, and that of ordinary tests.

A source holds the prepared data of a test. From rearrangements it computes their maps, some voxels at a time, so that
these can be counted while they are in the processor's cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.permutation.design import TIE_TOLERANCE, PermutationTest
from bids_group.stats.permutation.kernels import (
    BATCH,
    SMALLEST_UNEXPLAINED,
    TILE,
    convert_to_f,
    convert_to_t,
    rearrange_interest,
    score_tile,
)

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


class Heights(NamedTuple):
    """The heights of a group of rearrangements at some voxels.

    Attributes
    ----------
    voxels : slice
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
    """

    scratch: tuple[Singles, ...]
    maps: Singles | None


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

    def compute_heights(self, rearranged: Rearranged, workspace: Workspace) -> Iterator[Heights]:
        """Compute the heights of rearrangements, voxels by voxels.

        Where a workspace has maps they are filled. What was yielded may be overwritten afterwards.
        """

    def lower_to_ties(self, heights: Singles) -> Singles:
        """Return the least heights that count as equal to the observed ones, or their absolute values when two-sided.

        Parameters
        ----------
        heights : ndarray of float32, shape (n_voxels,)
            Of the identity.

        Returns
        -------
        ndarray of float32, shape (n_voxels,)
        """


@dataclass(frozen=True)
class OrdinarySource:
    """The t or F of ordinary tests, of the same degrees of freedom at all voxels.

    Attributes
    ----------
    test : PermutationTest
        Without its data.
    tiles : ndarray of float32, shape (n_tiles, n_within, n_rows, TILE)
        ``Y``; 0 after the last voxel.
    n_voxels : int
    """

    test: PermutationTest
    tiles: Singles
    n_voxels: int
    fills_maps: bool = False

    def allocate_scratch(self) -> tuple[Singles, ...]:
        """Set aside memory for scores, and for heights where maps are not kept."""
        scores, product = np.empty((2, BATCH, TILE), dtype=np.float32)
        return scores, product

    def compute_heights(self, rearranged: Rearranged, workspace: Workspace) -> Iterator[Heights]:
        """Compute the heights of rearrangements, tile by tile."""
        test = self.test
        sources, signs, first_row = rearranged
        designs = rearrange_interest(test.interest, test.nuisance, sources, signs, first_row=first_row)
        for tile, voxels in zip(self.tiles, iterate_tiles(self.n_voxels), strict=True):
            yield self._compute_tile(designs, tile, voxels, workspace)

    def _compute_tile(self, designs: Singles, tile: Singles, voxels: slice, workspace: Workspace) -> Heights:
        """Compute the heights of a tile."""
        test, (scores, product) = self.test, workspace.scratch
        score_tile(designs, tile, scores, product)
        heights, column = (product, 0) if workspace.maps is None else (workspace.maps, voxels.start)
        n_voxels = voxels.stop - voxels.start
        if test.test == "t":
            convert_to_t(scores, heights, column, n_voxels, float(test.dof))
        else:
            if test.dof_effect == 1:
                np.square(scores, out=scores)
            convert_to_f(scores, heights, column, n_voxels, test.dof / test.dof_effect)
        return Heights(voxels, heights, column)

    def lower_to_ties(self, heights: Singles) -> Singles:
        """Return the least heights that count as ties.

        It is the correlation that has an absolute rounding error, whatever its size: near 1 the same error of it is a
        larger part of t.
        """
        test = self.test
        values = heights.astype(np.float64)
        if test.test == "F":
            ratio = test.dof / test.dof_effect
            rho = np.sqrt(values / (values + ratio))
            explained = np.maximum(rho - np.maximum(TIE_TOLERANCE * rho, ROUNDING), 0.0) ** 2
            return (ratio * explained / (1.0 - explained)).astype(np.float32)
        values = np.abs(values) if test.is_two_sided else values
        rho = values / np.sqrt(values**2 + test.dof)
        rho -= np.maximum(TIE_TOLERANCE * np.abs(rho), ROUNDING)
        unexplained = np.maximum((1.0 - rho) * (1.0 + rho), SMALLEST_UNEXPLAINED)
        return (rho * np.sqrt(test.dof / unexplained)).astype(np.float32)


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
    tiles = allocate((-(-n_voxels // TILE), n_within, n_rows, TILE))
    for tile, voxels in zip(tiles, iterate_tiles(n_voxels), strict=True):
        values = np.zeros((n_within, n_rows, TILE))
        block = test.data[:, :, voxels]
        values[:, :, : block.shape[2]] = block
        values -= test.nuisance @ (test.nuisance.T @ values)
        tile[:] = values / measure_norms(values)
    return OrdinarySource(test.leave_data(), tiles, n_voxels)


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
    heights = np.empty(n_voxels, dtype=np.float32)
    for voxels, values, column in source.compute_heights(identity, workspace):
        heights[voxels] = values[0, column : column + voxels.stop - voxels.start]
    return heights
