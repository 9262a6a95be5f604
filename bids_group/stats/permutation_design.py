"""What is tested by rearrangement: data, a design split in two, a statistic and where its maxima are sought.

Every test has one form. Data ``D`` (stacks, rows, voxels), an interest ``U`` and a nuisance ``N``, both orthonormal and
orthogonal to each other. Of the residuals ``Y = R_N D``, scaled to unit sum of squares at each voxel, the rearranged
interest ``U*`` explains ``R2 = |U*'Y|^2``. With one stack of subjects' maps this is an ordinary t or F; with a stack
for each within-subject direction it is the F of repeated measures against their own error.
"""

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.rearrange import Rearrangements
from bids_group.stats.tfce import EXTENT_POWER, HEIGHT_POWER
from bids_group.vocabulary import Connectivity, PermutationLevel, Tail, Test

CLUSTER_LEVELS: tuple[PermutationLevel, ...] = ("cluster-size", "cluster-mass")

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class PermutationTest:
    """What is tested, and against which rearrangements.

    Attributes
    ----------
    data : ndarray of float32, shape (n_within, n_rows, n_voxels)
        ``D``; one stack, or one for each within-subject direction, whose rows are then subjects. Finite, and not
        fitted by the nuisance at any voxel.
    interest : ndarray of float64, shape (n_rows, r)
        ``U``, orthonormal.
    nuisance : ndarray of float64, shape (n_rows, k)
        ``N``, orthonormal and orthogonal to ``U``.
    test : {'t', 'F'}
        t needs r = n_within = 1.
    rearrangements : Rearrangements
        Of n_rows.
    mask : ndarray of bool, shape (x, y, z)
        Of n_voxels true voxels: the search volume.
    tail : {'positive', 'negative', 'two-sided'}, or None for F
    levels : tuple of {'voxel', 'cluster-size', 'cluster-mass', 'tfce'}
        Of which the null distribution of the maximum is wanted.
    connectivity : {6, 18, 26}
    cluster_threshold : float
        Cluster-forming, at least 0, in units of the statistic, of its absolute value. The cluster levels need it.
    extent_power, height_power : float
        E and H of TFCE.
    """

    data: Singles
    interest: Floats
    nuisance: Floats
    test: Test
    rearrangements: Rearrangements
    mask: NDArray[np.bool_]
    tail: Tail | None
    levels: tuple[PermutationLevel, ...]
    connectivity: Connectivity = 6
    cluster_threshold: float = math.inf
    extent_power: float = EXTENT_POWER
    height_power: float = HEIGHT_POWER

    def __post_init__(self) -> None:
        _require_shapes(self)
        _require_choices(self)

    @property
    def dof_effect(self) -> int:
        """Return the degrees of freedom of the effect, ``r n_within``."""
        return self.interest.shape[1] * self.data.shape[0]

    @property
    def dof(self) -> int:
        """Return the degrees of freedom of the error, ``n_within (n_rows - r - k)``."""
        n_rows, rank = self.interest.shape
        return self.data.shape[0] * (n_rows - rank - self.nuisance.shape[1])

    @property
    def is_two_sided(self) -> bool:
        """Tell whether negative heights count as positive ones do."""
        return self.tail == "two-sided"

    @property
    def is_directed(self) -> bool:
        """Tell whether the opposite of a rearrangement gives another maximum: only a t with one tail."""
        return self.tail in ("positive", "negative")

    @property
    def has_clusters(self) -> bool:
        """Tell whether clusters are sought."""
        return any(level in CLUSTER_LEVELS for level in self.levels)

    @property
    def needs_maps(self) -> bool:
        """Tell whether whole maps of the rearrangements are needed, and not their maxima alone."""
        return any(level != "voxel" for level in self.levels)


def _require_shapes(test: PermutationTest) -> None:
    """Make sure that data, design, rearrangements and mask fit each other."""
    _, n_rows, n_voxels = test.data.shape
    shapes = {
        "the interest": len(test.interest),
        "the nuisance": len(test.nuisance),
        "the rearrangements": test.rearrangements.n_rows,
    }
    for name, found in shapes.items():
        if found != n_rows:
            raise ValueError(f"{name} has {found} rows, but the data have {n_rows}")
    if n_voxels and np.count_nonzero(test.mask) != n_voxels:
        raise ValueError(f"the mask has {np.count_nonzero(test.mask)} voxels, but the data have {n_voxels}")
    if test.dof < 1:
        raise ValueError(f"{n_rows} rows and a design of their rank leave no degree of freedom for the error")
    if test.test == "t" and test.dof_effect != 1:
        raise ValueError(f"a t has one degree of freedom of the effect, not {test.dof_effect}; test it with F")


def _require_choices(test: PermutationTest) -> None:
    """Make sure that tail, levels and cluster threshold are what there is and fit each other."""
    if (test.tail is None) != (test.test == "F"):
        raise ValueError(f"{test.test} has no tail {test.tail!r}")
    if test.tail is not None and test.tail not in get_args(Tail):
        raise ValueError(f"t has no tail {test.tail!r}")
    unknown = [level for level in test.levels if level not in get_args(PermutationLevel)]
    if unknown or not test.levels:
        raise ValueError(f"levels are some of {', '.join(get_args(PermutationLevel))}, not {list(test.levels)}")
    if test.has_clusters and not 0 <= test.cluster_threshold < math.inf:
        raise ValueError(f"the cluster levels need a cluster_threshold of at least 0, not {test.cluster_threshold}")
