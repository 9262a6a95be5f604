"""From a permutation test to inferences: the levels, the uncorrected p and the false discovery rate on them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bids_group.stats import distributions
from bids_group.stats.clusters import label_clusters
from bids_group.stats.correct import adjust_fdr, find_smallest, pass_alpha
from bids_group.stats.glm import Statistic
from bids_group.stats.inference import Inference, PermutationFacts, Threshold
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.engine import PermutationResult
from bids_group.stats.permutation.patterns import count_pattern_dof
from bids_group.stats.permutation.rearrange import Rearrangements
from bids_group.stats.permutation.tail_approximation import TAIL_P, TailFit, approximate_tail
from bids_group.vocabulary import PermutationLevel, Tail

# Whole numbers such as 0.29 x 100 must not round to the one below.
WHOLE_TOLERANCE = 1e-9
LEVEL_UNITS: dict[str, str] = {"cluster-size": "voxels", "cluster-mass": "mass", "tfce": "TFCE"}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Finding:
    """What one level found: p of each voxel, the threshold, and the distribution it comes from."""

    level: str
    log_p: Floats
    threshold: Threshold
    null: Floats | None = None
    tail: TailFit | None = None


def infer_by_permutation(
    statistic: Statistic,
    test: PermutationTest,
    result: PermutationResult,
    *,
    alpha: float,
    cluster_extent: int = 0,
    approximates_tail: bool = False,
) -> list[Inference]:
    """Find what survives at every level of a permutation test, uncorrected, and at a false discovery rate.

    Parameters
    ----------
    statistic : Statistic
        Of the linear model: the values that are shown.
    test : PermutationTest
        Of this statistic.
    result : PermutationResult
        Of this test.
    alpha : float
        Of the tail.
    cluster_extent : int
        Clusters with fewer voxels are removed from the survivors, never from `Inference.logp`.
    approximates_tail : bool
        Whether small familywise p are read off a distribution fitted to the tail of the maxima; not where all distinct
        rearrangements were visited.

    Returns
    -------
    list of Inference
        The levels of the test in their order, then ``uncorrected`` and ``fdr``.

    References
    ----------
    Nichols & Holmes 2002; Winkler et al. 2014, 2016.
    """
    nominal = Statistic(statistic.test, statistic.value, None, None, float(test.dof_effect), _find_dof(statistic, test))
    approximates = approximates_tail and not result.exact
    findings = [_test_level(nominal, test, result, level, alpha, approximates) for level in test.levels]
    findings += _test_voxels(nominal, test, result, alpha)
    smallest = test.rearrangements.compute_smallest_p(two_sided=test.tail in (None, "two-sided"))
    made = []
    for found in findings:
        clusters = label_clusters(
            statistic.value,
            pass_alpha(found.log_p, alpha),
            test.mask,
            connectivity=test.connectivity,
            min_voxels=cluster_extent,
        )
        listed: Rearrangements = test.rearrangements
        facts = PermutationFacts(
            found.level, result.n, listed.n_distinct, result.exact, smallest, found.null, found.tail
        )
        is_cluster = found.level in ("cluster-size", "cluster-mass")
        made.append(
            Inference(
                correction="permutation",
                alpha=alpha,
                tail=test.tail,
                threshold=found.threshold.value,
                threshold_z=found.threshold.z,
                threshold_unit=found.threshold.unit,
                logp=np.abs(found.log_p) / np.log(10.0),
                survives=clusters.labels > 0,
                clusters=clusters,
                cluster_extent=cluster_extent,
                connectivity=test.connectivity,
                permutation=facts,
                cluster_threshold=test.cluster_threshold if is_cluster else None,
            )
        )
    return made


def _find_dof(statistic: Statistic, test: PermutationTest) -> float | Floats:
    """Return the degrees of freedom of the error that the test reckons with; no epsilon is among them."""
    if test.variance_groups is not None:
        return statistic.dof
    return float(test.dof) if test.missing is None else count_pattern_dof(test)[test.missing.members]


def _test_level(
    nominal: Statistic,
    test: PermutationTest,
    result: PermutationResult,
    level: PermutationLevel,
    alpha: float,
    approximates_tail: bool,
) -> _Finding:
    """Return the familywise p of a level, and what its values must exceed."""
    null, p = result.null[level].copy(), result.p[level]
    if level == "voxel" and not test.is_in_z:
        null[0] = _orient(nominal.value, test.tail).max()  # of the map that is written, to its last digit
    tail = approximate_tail(null, result.observed[level], counted=p) if approximates_tail else None
    limit = find_limit(null, alpha)
    if tail is not None and tail.is_accepted:
        p = tail.p
        limit = _find_tail_limit(tail, len(null), alpha, limit)
    threshold = (
        Threshold(limit, np.nan, LEVEL_UNITS[level]) if level in LEVEL_UNITS else _to_threshold(nominal, test, limit)
    )
    return _Finding(level, np.log(p), threshold, null, tail)


def _orient(values: Floats, tail: Tail | None) -> Floats:
    """Return values of t in the direction of a tail."""
    return {"two-sided": np.abs(values), "negative": -values}.get(tail or "", values)


def find_limit(null: Floats, alpha: float) -> float:
    """Find what a value must exceed to be significant: the ``floor(alpha n) + 1``-th largest of the null distribution.

    Parameters
    ----------
    null : ndarray of float64, shape (n,)
    alpha : float
        Between 0 and 1.

    Returns
    -------
    float

    References
    ----------
    Nichols & Holmes 2002, section "Single threshold test".

    Examples
    --------
    >>> import numpy as np
    >>> find_limit(np.arange(1.0, 101.0), 0.05)
    95.0
    """
    n_above = min(int(np.floor(alpha * len(null) + WHOLE_TOLERANCE)), len(null) - 1)
    return float(np.sort(null)[::-1][n_above])


def _find_tail_limit(tail: TailFit, n: int, alpha: float, empirical: float) -> float:
    """Return the value whose approximated p is alpha; the empirical one where p are not approximated."""
    if alpha >= TAIL_P or alpha * n >= tail.n_exceedances:
        return empirical
    return tail.threshold + float(stats.genpareto.isf(alpha * n / tail.n_exceedances, tail.shape, scale=tail.scale))


def _to_threshold(nominal: Statistic, test: PermutationTest, limit: float) -> Threshold:
    """Return a limit of the statistic in the direction of the tail, with the z of equal tail."""
    value = -limit if test.tail == "negative" else limit
    if test.is_in_z:
        return Threshold(value, value, "z")
    if nominal.test == "t":
        z = distributions.t_to_z(np.array([value]), float(test.dof))
    else:
        z = distributions.f_to_z(np.array([value]), float(test.dof_effect), float(test.dof))
    return Threshold(value, float(z[0]), nominal.test)


def _test_voxels(
    nominal: Statistic, test: PermutationTest, result: PermutationResult, alpha: float
) -> Iterator[_Finding]:
    """Yield what is significant voxel by voxel, uncorrected and at a false discovery rate."""
    log_p = np.log(result.uncorrected_p)
    # Each voxel has a null distribution of its own, so that no single value of the statistic is the threshold.
    yield _Finding("uncorrected", log_p, Threshold(np.nan, np.nan, "z" if test.is_in_z else nominal.test))
    adjusted = adjust_fdr(log_p)
    smallest = find_smallest(nominal, pass_alpha(adjusted, alpha), test.tail)
    yield _Finding("fdr", adjusted, Threshold(smallest.z, smallest.z, "z") if test.is_in_z else smallest)
