"""What an inference is: the one object that map, table, figure and text of a result are made from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.clusters import ClusterSet
from bids_group.stats.permutation.tail_approximation import TailFit
from bids_group.vocabulary import Connectivity, Tail

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """What a voxel must reach to survive, in two units.

    For the negative tail it is negative, and the voxel must be at or below it; for the others it is the
    smallest value, or absolute value, that survives. nan when there is none.

    Attributes
    ----------
    value : float
        In `unit`.
    z : float
        The z of equal tail.
    unit : {'t', 'F', 'z'}
        z where degrees of freedom differ between voxels, so that no single t or F is the threshold.
    """

    value: float
    z: float
    unit: str


@dataclass(frozen=True)
class PermutationFacts:
    """What is particular to an inference by rearrangement.

    Attributes
    ----------
    level : str
        Of which the maximum was taken: ``voxel``, ``cluster-size``, ``cluster-mass``, ``tfce``; or ``uncorrected`` and
        ``fdr``, which have none.
    n : int
        Rearrangements, the identity counted.
    n_distinct : int
        How many distinct ones there are.
    exact : bool
        Whether every distinct rearrangement was visited.
    smallest_p : float
        That rearrangements can give.
    null : ndarray of float64, shape (n,), or None
        Distribution of the maximum, the identity first.
    tail : TailFit or None
        Of the null distribution, where small p were read off it.
    """

    level: str
    n: int
    n_distinct: int
    exact: bool
    smallest_p: float
    null: Floats | None = None
    tail: TailFit | None = None


@dataclass(frozen=True)
class Inference:
    """One correction of one statistic; map, table, figure and text are all made from it.

    Attributes
    ----------
    correction : str
        A key of `CORRECTIONS`, ``rft`` or ``permutation``.
    alpha : float
    tail : {'positive', 'negative', 'two-sided'}, or None for F
    threshold, threshold_z : float
        As `Threshold` has them; nan when there is none.
    threshold_unit : {'t', 'F', 'z', 'voxels', 'mass', 'TFCE'}
    logp : ndarray of float64, shape (n_voxels,)
        ``-log10`` of the corrected p of the tail; at least 0, whatever the cluster extent.
    survives : ndarray of bool, shape (n_voxels,)
        Corrected p <= alpha, and in a cluster of at least `cluster_extent` voxels. A value of exactly 0 never
        does.
    clusters : ClusterSet
        Of the survivors.
    cluster_extent : int
        Voxels.
    connectivity : {6, 18, 26}
    permutation : PermutationFacts or None
        Of rearrangements only.
    cluster_threshold : float or None
        Cluster-forming threshold, in units of the statistic (of its absolute value), where extents are tested.
    extent_p : ndarray of float64, shape (n_clusters,), or None
        By random field theory, the familywise p of the extent of the cluster above `cluster_threshold` that each
        cluster of survivors is in; nan where its peak is not above it.
    """

    correction: str
    alpha: float
    tail: Tail | None
    threshold: float
    threshold_z: float
    threshold_unit: str
    logp: Floats
    survives: NDArray[np.bool_]
    clusters: ClusterSet
    cluster_extent: int
    connectivity: Connectivity
    permutation: PermutationFacts | None = None
    cluster_threshold: float | None = None
    extent_p: Floats | None = None
