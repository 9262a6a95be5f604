"""Conjunctions: what is significant in every one of several contrasts (minimum statistic, conjunction null).

The null hypothesis is that at least one of the contrasts has no effect, so that the largest of their p is a p of the
conjunction, and controls the familywise error where each of them does.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.clusters import label_clusters
from bids_group.stats.correct import adjust_fdr, find_smallest, pass_alpha
from bids_group.stats.glm import Statistic, compute_p, compute_z
from bids_group.stats.inference import Inference, PermutationFacts, Threshold

SAME_THRESHOLD = 1e-9  # relative: thresholds of equal p differ by rounding

Floats = NDArray[np.float64]


def conjoin_statistics(statistics: Sequence[Statistic]) -> Statistic:
    """Take the weakest of several statistics, as a z so that degrees of freedom may differ.

    ``z = s min_i |z_i|`` for t, with s the sign that all of them share, and 0 where signs differ; ``z = min_i z_i`` for
    F.

    Parameters
    ----------
    statistics : sequence of Statistic
        All t or all F, of the same voxels.

    Returns
    -------
    Statistic
        Of the test ``z``, without effect, variance and degrees of freedom.

    References
    ----------
    Nichols, Brett, Andersson, Wager & Poline 2005, "Valid conjunction inference with the minimum statistic".
    """
    z = np.array([compute_z(statistic) for statistic in statistics])
    if statistics[0].test == "F":
        weakest = z.min(axis=0)
    else:
        weakest = np.where((z > 0).all(axis=0), z.min(axis=0), np.where((z < 0).all(axis=0), z.max(axis=0), 0.0))
    return Statistic("z", weakest, None, None, np.nan, np.nan)


def conjoin_p(statistics: Sequence[Statistic]) -> Floats:
    """Take the largest of several uncorrected p: two-sided for t, and 1 where their signs differ.

    Parameters
    ----------
    statistics : sequence of Statistic
        All t or all F, of the same voxels.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
    """
    p = np.max([compute_p(statistic) for statistic in statistics], axis=0)
    return p if statistics[0].test == "F" else np.where(conjoin_statistics(statistics).value == 0, 1.0, p)


def conjoin_inferences(
    statistic: Statistic,
    inferences: Sequence[Inference],
    mask: NDArray[np.bool_],
    *,
    uncorrected: Sequence[Floats],
) -> Inference:
    """Find where every contrast is significant under one correction.

    The corrected p is the largest of the contrasts', and 1 where it is two-sided and signs differ; a voxel survives
    where it does in all of them. A cluster of at least k voxels of the conjunction lies in such a cluster of every
    contrast, so that a cluster extent leaves the same voxels before and after.

    Of false discovery rates that would not hold: a voxel in two lists that each have 5% of false ones may be a false
    one in most cases. There the largest uncorrected p, which is a p of the conjunction, is adjusted anew.

    Parameters
    ----------
    statistic : Statistic
        Of `conjoin_statistics`.
    inferences : sequence of Inference
        Of the contrasts, by one correction of voxels, with one alpha and tail.
    mask : ndarray of bool, shape (x, y, z)
        The search volume.
    uncorrected : sequence of ndarray of float64, shape (n_voxels,)
        Natural logarithms of the uncorrected p of each contrast in that tail; only false discovery rates need them.

    Returns
    -------
    Inference
        In z. The threshold is nan where each contrast has its own.

    References
    ----------
    Nichols et al. 2005; Berger 1982 (intersection-union tests); Benjamini & Heller 2008 (false discovery rates).
    """
    first = inferences[0]
    differs = (statistic.value == 0) & (first.tail == "two-sided")
    if _is_of_fdr(first):
        log_p = adjust_fdr(np.where(differs, 0.0, np.max(uncorrected, axis=0)))
        logp, survives = np.abs(log_p) / np.log(10.0), pass_alpha(log_p, first.alpha)
        threshold = find_smallest(statistic, survives, first.tail)
    else:
        logp = np.where(differs, 0.0, np.min([one.logp for one in inferences], axis=0))
        survives = np.all([one.survives for one in inferences], axis=0)
        threshold = _find_common_threshold(inferences)
    clusters = label_clusters(
        statistic.value, survives, mask, connectivity=first.connectivity, min_voxels=first.cluster_extent
    )
    return replace(
        first,
        threshold=threshold.value,
        threshold_z=threshold.z,
        threshold_unit="z",
        logp=logp,
        survives=clusters.labels > 0,
        clusters=clusters,
        permutation=_join_facts([one.permutation for one in inferences if one.permutation is not None]),
        cluster_threshold=None,
        extent_p=None,
    )


def _is_of_fdr(inference: Inference) -> bool:
    facts = inference.permutation
    return inference.correction == "fdr" or (facts is not None and facts.level == "fdr")


def _find_common_threshold(inferences: Sequence[Inference]) -> Threshold:
    """Return the z that all contrasts must reach; nan where it is not the same."""
    z = np.array([one.threshold_z for one in inferences])
    is_common = bool(np.isfinite(z).all()) and float(np.ptp(z)) <= SAME_THRESHOLD * float(np.abs(z).max())
    return Threshold(float(z[0]), float(z[0]), "z") if is_common else Threshold(np.nan, np.nan, "z")


def _join_facts(facts: Sequence[PermutationFacts]) -> PermutationFacts | None:
    """Return what holds of all of several permutation tests: the fewest rearrangements, the largest smallest p."""
    if not facts:
        return None
    return replace(
        facts[0],
        n=min(one.n for one in facts),
        n_distinct=min(one.n_distinct for one in facts),
        exact=all(one.exact for one in facts),
        smallest_p=max(one.smallest_p for one in facts),
        null=None,
        tail=next((one.tail for one in facts if one.tail is not None), None),
    )
