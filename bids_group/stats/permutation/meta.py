"""Heights of rearrangements of a random-effects meta-analysis: signs flipped, every model fitted anew.

The rows of what is tested change their sign, which without a nuisance is the same as to flip the effects. Each
variance stays with its row, and the variance between rows is estimated again for each rearrangement.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_group.column_space import decompose
from bids_group.stats.meta_analysis import compute_meta_statistic, fit_meta
from bids_group.stats.permutation.design import TIE_TOLERANCE, PermutationTest
from bids_group.stats.permutation.kernels import BATCH, TILE
from bids_group.stats.permutation.sources import Allocate, HeightScores, Rearranged, Scores, Workspace, iterate_tiles
from bids_group.vocabulary import Heterogeneity

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class MetaSource(HeightScores):
    """The t or F of a meta-analysis, of the same degrees of freedom at all voxels.

    Attributes
    ----------
    test : PermutationTest
        Without its data.
    tiles : ndarray of float32, shape (2, n_rows, n_voxels)
        The effects, and their variances.
    method : {'reml', 'dersimonian-laird'}
    """

    test: PermutationTest
    tiles: Singles
    method: Heterogeneity
    fills_maps: bool = False

    def allocate_scratch(self) -> tuple[Singles, ...]:
        """Set aside memory for heights where maps are not kept."""
        return (np.zeros((BATCH, TILE), dtype=np.float32),)

    def compute_scores(self, rearranged: Rearranged, workspace: Workspace) -> Iterator[Scores]:
        """Compute the heights of rearrangements, tile by tile."""
        _, signs, first_row = rearranged
        for voxels in iterate_tiles(self.tiles.shape[2]):
            heights, column = (workspace.scratch[0], 0) if workspace.maps is None else (workspace.maps, voxels.start)
            for row, flips in enumerate(signs, start=first_row):
                heights[row, column : column + voxels.stop - voxels.start] = self._refit(flips, voxels)
            yield Scores(voxels, heights, column)

    def lower_to_ties(self, heights: Singles) -> Singles:
        """Return the least heights that count as ties; the models are fitted in float64."""
        values = np.abs(heights) if self.test.is_two_sided else heights
        return (values - TIE_TOLERANCE * np.abs(values)).astype(np.float32)

    def _refit(self, flips: NDArray[np.int8], voxels: slice) -> Floats:
        """Return the statistic of one rearrangement at some voxels; 0 where rank was lost."""
        test = self.test
        design = np.hstack([flips[:, np.newaxis] * test.interest, test.nuisance])
        if decompose(design).rank < design.shape[1]:
            return np.zeros(voxels.stop - voxels.start)
        weights = np.eye(test.interest.shape[1], design.shape[1])
        effects, variances = self.tiles[:, :, voxels]
        fit = fit_meta(effects, variances, design, [weights], method=self.method)
        return compute_meta_statistic(fit, 0, test.test).value


def prepare_meta(test: PermutationTest, allocate: Allocate) -> MetaSource:
    """Put effects and variances of a meta-analysis together.

    Parameters
    ----------
    test : PermutationTest
        With known variances.
    allocate : callable
        From a shape to a writable float32 array.

    Returns
    -------
    MetaSource
    """
    assert test.known is not None
    tiles = allocate((2, *test.data.shape[1:]))
    tiles[0], tiles[1] = test.data[0], test.known.variances
    return MetaSource(test.leave_data(), tiles, test.known.method)
