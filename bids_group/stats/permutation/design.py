"""What is tested by rearrangement: data, a design split in two, a statistic and where its maxima are sought.

Every test has one form. Data ``D`` (stacks, rows, voxels), an interest ``U`` and a nuisance ``N``, both orthonormal and
orthogonal to each other. Of the residuals ``Y = R_N D``, scaled to unit sum of squares at each voxel, the rearranged
interest ``U*`` explains ``R2 = |U*'Y|^2``. With one stack of subjects' maps this is an ordinary t or F; with a stack
for each within-subject direction it is the F of repeated measures against their own error.

Three things may be known of the errors besides: rows that some voxels lack, groups of rows with variances of their
own, or the variance of every value. With the first two, degrees of freedom differ between voxels, and each statistic
becomes the z of equal tail by its own before any maximum is taken: the test is in z.
"""

import math
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.permutation.rearrange import Rearrangements
from bids_group.stats.tfce import EXTENT_POWER, HEIGHT_POWER
from bids_group.vocabulary import CLUSTER_LEVELS, Connectivity, Heterogeneity, PermutationLevel, Tail, Test

N_LOOKED_AT = 16  # rearrangements, to see whether they move rows: one at random leaves all where they are too rarely

# Equal statistics of different rearrangements differ by the rounding of float32 sums over rows: at most some 4e-7 of a
# correlation with 1000 rows. Ten times that is still far below the distance between unequal ones.
TIE_TOLERANCE = 4e-6
# A height that equals the cluster-forming threshold may come out as much above it, and is in no cluster.
FORMING_TOLERANCE = 1e-6

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class MissingRows:
    """Which rows the voxels lack, as few patterns.

    Attributes
    ----------
    present : ndarray of bool, shape (n_patterns, n_rows)
        Whether the voxels of a pattern have a row.
    members : ndarray of int32, shape (n_voxels,)
        The pattern of each voxel.
    """

    present: NDArray[np.bool_]
    members: NDArray[np.int32]


@dataclass(frozen=True)
class KnownVariances:
    """The variance of every value of the data, for a random-effects meta-analysis.

    Attributes
    ----------
    variances : ndarray of float32, shape (n_rows, n_voxels)
        Finite and positive. They stay with their row.
    method : {'reml', 'dersimonian-laird'}
        How the variance between rows is estimated, anew for each rearrangement.
    """

    variances: Singles
    method: Heterogeneity = "reml"


@dataclass(frozen=True)
class PermutationTest:
    """What is tested, and against which rearrangements.

    Attributes
    ----------
    data : ndarray of float32, shape (n_within, n_rows, n_voxels)
        ``D``; one stack, or one for each within-subject direction, whose rows are then subjects. Finite where not
        missing, and not fitted by the nuisance at any voxel.
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
        Cluster-forming, at least 0, in units of the statistic, of its absolute value; in z where `is_in_z`. The
        cluster levels need it.
    extent_power, height_power : float
        E and H of TFCE.
    missing : MissingRows or None
        Of voxels that lack rows. Each pattern is refitted with the rows that are left of the rearranged design.
    variance_groups : ndarray of int64, shape (n_rows,), or None
        Labels of groups of rows with error variances of their own: t is Welch's v, F is Welch's G. A permutation moves
        them with the rows of the interest; it is of `permutation_welch.plan_welch`.
    known : KnownVariances or None
        Of a meta-analysis, whose t and F are those of Knapp and Hartung; signs may be flipped, not rows permuted.
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
    missing: MissingRows | None = None
    variance_groups: NDArray[np.int64] | None = None
    known: KnownVariances | None = None

    def __post_init__(self) -> None:
        _require_shapes(self)
        _require_choices(self)
        _require_errors(self)

    @property
    def dof_effect(self) -> int:
        """Return the degrees of freedom of the effect, ``r n_within``."""
        return self.interest.shape[1] * self.data.shape[0]

    @property
    def dof(self) -> int:
        """Return the degrees of freedom of one error of all rows, ``n_within (n_rows - r - k)``."""
        n_rows, rank = self.interest.shape
        return self.data.shape[0] * (n_rows - rank - self.nuisance.shape[1])

    @property
    def is_in_z(self) -> bool:
        """Tell whether heights are z, because degrees of freedom differ between voxels, and not t or F."""
        return self.missing is not None or self.variance_groups is not None

    @property
    def takes_root(self) -> bool:
        """Tell whether TFCE is that of the root of the heights: of F, which is of the size of a square."""
        return self.test == "F" and not self.is_in_z

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
    def least_height(self) -> float:
        """Return what heights of clusters exceed: the threshold, and what float32 may add to a value that equals it."""
        return self.cluster_threshold * (1.0 + FORMING_TOLERANCE)

    @property
    def needs_maps(self) -> bool:
        """Tell whether whole maps of the rearrangements are needed, and not their maxima alone."""
        return "tfce" in self.levels

    @property
    def moves_rows(self) -> bool:
        """Tell whether rows are permuted, and not only flipped."""
        sources, _ = self.rearrangements.draw(0, min(self.rearrangements.n, N_LOOKED_AT))
        return bool(np.any(sources != np.arange(sources.shape[1])))

    def leave_data(self) -> "PermutationTest":
        """Return the test without what is as large as its data.

        Returns
        -------
        PermutationTest
        """
        known = None if self.known is None else replace(self.known, variances=self.known.variances[:, :0])
        return replace(self, data=np.empty((*self.data.shape[:2], 0), dtype=np.float32), known=known)


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


def _require_errors(test: PermutationTest) -> None:
    """Make sure that what is known of the errors fits the data, the statistic and the rearrangements."""
    n_within, n_rows, n_voxels = test.data.shape
    if test.missing is not None:
        shapes = test.missing.present.shape[1:], test.missing.members.shape
        if n_voxels and shapes != ((n_rows,), (n_voxels,)):
            raise ValueError(f"missing rows of {shapes[1]} voxels and {shapes[0]} rows do not match the data")
    if test.variance_groups is not None and test.variance_groups.shape != (n_rows,):
        raise ValueError(f"there are {n_rows} rows, but variance groups of shape {test.variance_groups.shape}")
    if n_within > 1 and (test.variance_groups is not None or test.known is not None):
        raise ValueError("unequal or known variances are those of one stack of data, not of several directions")
    if test.known is not None:
        _require_known(test, test.known)


def _require_known(test: PermutationTest, known: KnownVariances) -> None:
    """Make sure that a meta-analysis has a variance for each value, and that each stays with its row."""
    if test.missing is not None or test.variance_groups is not None:
        raise ValueError("a meta-analysis has neither variance groups nor missing rows here")
    if known.variances.shape != test.data.shape[1:]:
        raise ValueError(f"variances are of shape {known.variances.shape}, but the data of {test.data.shape[1:]}")
    if test.moves_rows:
        raise ValueError(
            "the effects of a meta-analysis may change their sign, but not their place: each has a variance of its own"
        )
