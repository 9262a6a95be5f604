"""Regions of interest and what a model found in them, as they pass from the analysis to tables, figures and report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_group.inputs.contrasts import Contrast
from bids_group.stats.effect_sizes import EffectSize
from bids_group.stats.glm import Statistic
from bids_group.vocabulary import Tail

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """A region of interest on the grid of the maps.

    Attributes
    ----------
    name : str
        Unique among the regions of a model.
    source : str
        The atlas, the image or ``sphere``.
    voxels : ndarray of int, shape (n_voxels,)
        Positions in the grid, in C order, ascending.
    """

    name: str
    source: str
    voxels: NDArray[np.intp]


@dataclass(frozen=True)
class LocatedRegions:
    """The regions of a model, and where they come from.

    Attributes
    ----------
    regions : tuple of Region
        In the order of the spec.
    sources : tuple of Mapping
        What the sidecar says of each source.
    """

    regions: tuple[Region, ...]
    sources: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class RegionTest:
    """A contrast tested in all regions that can be.

    Attributes
    ----------
    contrast : Contrast
    statistic : Statistic
        A value for each tested region; on degrees of freedom after any epsilon.
    epsilon : ndarray of float64, shape (n_tested,), or None
        What they were multiplied by.
    effect_size : EffectSize or None
    p, p_fdr : ndarray of float64, shape (n_tested,)
        Of the tail, and adjusted for the false discovery rate over regions.
    p_fwe : ndarray of float64, shape (n_tested,), or None
        By permutation, from the largest statistic over regions; None where no permutation was asked for.
    permutation : Mapping of str to object
        How it was done, as sidecars say it.
    """

    contrast: Contrast
    statistic: Statistic
    epsilon: Floats | None
    effect_size: EffectSize | None
    p: Floats
    p_fdr: Floats
    p_fwe: Floats | None = None
    permutation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RegionResult:
    """What a model found in regions of interest.

    Attributes
    ----------
    located : LocatedRegions
    alpha : float
    tail : str
        Of t.
    n_voxels : ndarray of int64, shape (n_regions,)
        Of each region, that the mean of the maps is over.
    means : ndarray of float32, shape (n_maps, n_regions)
        The mean of each map; nan where a region has no voxel.
    reasons : Mapping of int to str
        Why regions are not tested, by their position.
    tests : tuple of RegionTest
    """

    located: LocatedRegions
    alpha: float
    tail: Tail
    n_voxels: NDArray[np.int64]
    means: NDArray[np.float32]
    tests: tuple[RegionTest, ...]
    reasons: Mapping[int, str] = field(default_factory=dict)

    @property
    def tested(self) -> NDArray[np.intp]:
        """Return the positions of the regions that are tested."""
        return np.array([i for i in range(len(self.located.regions)) if i not in self.reasons], dtype=np.intp)
