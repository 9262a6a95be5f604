"""From a statistic to an inference: corrected p, threshold, survivors and their clusters.

A correction is a function of a statistic, alpha and a tail that returns a `Corrected`; they stand in
`CORRECTIONS`. Alpha belongs to the tail: two-sided puts half of it in each. F has its upper tail
only, and alpha is never halved.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from bids_group.stats import distributions
from bids_group.stats.clusters import label_clusters
from bids_group.stats.glm import Statistic, compute_log_p, compute_z
from bids_group.stats.inference import Inference, Threshold
from bids_group.stats.random_fields import find_critical_height, log_p_extents, log_p_heights
from bids_group.stats.smoothness import Smoothness
from bids_group.vocabulary import ClusterForming, Connectivity, Tail

DEFAULT_CLUSTER_FORMING: ClusterForming = ("p", 0.001)  # Woo et al. 2014; above it random field theory fails

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Corrected:
    """What a correction finds: the logarithm of the corrected p of every voxel, and the threshold.

    Attributes
    ----------
    log_p : ndarray of float64, shape (n_voxels,)
        Natural logarithm, at most 0.
    threshold : Threshold
    """

    log_p: Floats
    threshold: Threshold


Correct = Callable[[Statistic, float, Tail | None], Corrected]


def infer(
    statistic: Statistic,
    mask: NDArray[np.bool_],
    *,
    correction: str,
    alpha: float,
    tail: Tail | None,
    cluster_extent: int = 0,
    connectivity: Connectivity = 6,
    smoothness: Smoothness | None = None,
    cluster_forming: ClusterForming = DEFAULT_CLUSTER_FORMING,
) -> Inference:
    """Correct a statistic for the number of voxels, and find what survives.

    Parameters
    ----------
    statistic : Statistic
    mask : ndarray of bool, shape (x, y, z)
        Of as many voxels as the statistic has values: the search volume.
    correction : str
        A key of `CORRECTIONS`.
    alpha : float
        Of the tail, between 0 and 1.
    tail : {'positive', 'negative', 'two-sided'} or None
        Ignored for F.
    cluster_extent : int
        Clusters with fewer voxels are removed from the survivors, never from `Inference.logp`.
    connectivity : {6, 18, 26}
    smoothness : Smoothness or None
        Of the search volume; random field theory needs it.
    cluster_forming : ClusterForming
        Of random field theory.

    Returns
    -------
    Inference

    Raises
    ------
    ValueError
        If the correction is unknown, alpha is not between 0 and 1, the tail is none of t's, or random field theory
        does not hold: degrees of freedom that differ between voxels, or a cluster-forming p above 0.001.
    """
    corrections: dict[str, Correct] = {**CORRECTIONS, "rft": partial(correct_rft, smoothness)}
    if correction not in corrections:
        raise ValueError(f"unknown correction {correction!r}; there are {', '.join(corrections)}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, not at {alpha}")
    tail = None if statistic.test == "F" else tail
    corrected = corrections[correction](statistic, alpha, tail)
    clusters = label_clusters(
        statistic.value,
        pass_alpha(corrected.log_p, alpha),
        mask,
        connectivity=connectivity,
        min_voxels=cluster_extent,
    )
    found = Inference(
        correction=correction,
        alpha=alpha,
        tail=tail,
        threshold=corrected.threshold.value,
        threshold_z=corrected.threshold.z,
        threshold_unit=corrected.threshold.unit,
        logp=np.abs(corrected.log_p) / np.log(10.0),
        survives=clusters.labels > 0,
        clusters=clusters,
        cluster_extent=cluster_extent,
        connectivity=connectivity,
    )
    if correction == "rft" and smoothness is not None:
        return _test_extents(found, statistic, mask, smoothness, cluster_forming)
    return found


def _test_extents(
    found: Inference,
    statistic: Statistic,
    mask: NDArray[np.bool_],
    smoothness: Smoothness,
    cluster_forming: ClusterForming,
) -> Inference:
    """Add the p of the extent of the clusters, above the cluster-forming threshold, that the survivors are in."""
    tail, threshold = found.tail, find_cluster_threshold(statistic, cluster_forming, found.tail)
    height = {"two-sided": np.abs(statistic.value), "negative": -statistic.value}.get(tail or "", statistic.value)
    formed = label_clusters(statistic.value, height > threshold, mask, connectivity=found.connectivity)
    log_p = log_p_extents(formed.n_voxels, threshold, statistic, smoothness, tail)
    containing = formed.labels[found.clusters.peak]
    extent_p = np.append(np.exp(log_p), np.nan)[containing - 1]  # label 0, in none, takes the last
    return replace(found, cluster_threshold=threshold, extent_p=extent_p)


def find_cluster_threshold(
    statistic: Statistic, cluster_forming: ClusterForming, tail: Tail | None, *, is_in_z: bool = False
) -> float:
    """Find the cluster-forming threshold in units of the statistic, or in z where degrees of freedom differ.

    Parameters
    ----------
    statistic : Statistic
    cluster_forming : ClusterForming
        A p belongs to the tail, so that two-sided puts half of it in each; t, z and F apply to each sign.
    tail : {'positive', 'negative', 'two-sided'}, or None for F
    is_in_z : bool
        Whether clusters are formed on z even if the degrees of freedom happen to be the same in all voxels.

    Returns
    -------
    float
        Of the absolute value; clusters lie strictly above it.

    Raises
    ------
    ValueError
        If a t is given for an F, an F for a t, or either where degrees of freedom differ between voxels.
    """
    unit, value = cluster_forming
    is_in_z = is_in_z or _has_own_dof(statistic)
    if unit in ("p", "z"):
        upper = value if unit == "p" else float(special.ndtr(-value))
        threshold = find_critical_value(statistic, upper, tail if unit == "p" or tail is None else "positive")
        return abs(threshold.z if is_in_z else threshold.value)
    if is_in_z:
        raise ValueError(
            f"a cluster-forming threshold in {unit} has no single meaning where degrees of freedom differ between "
            "voxels; give p or z"
        )
    if unit != statistic.test:
        raise ValueError(f"a cluster-forming threshold in {unit} cannot be laid on {statistic.test}; give p or z")
    return value


def leave_uncorrected(statistic: Statistic, alpha: float, tail: Tail | None) -> Corrected:
    """Take every voxel's own p.

    Parameters
    ----------
    statistic : Statistic
    alpha : float
    tail : {'positive', 'negative', 'two-sided'}, or None for F

    Returns
    -------
    Corrected
    """
    return Corrected(compute_log_p(statistic, tail), find_critical_value(statistic, alpha, tail))


def correct_bonferroni(statistic: Statistic, alpha: float, tail: Tail | None) -> Corrected:
    """Control the familywise error by Bonferroni's inequality: ``p_corrected = min(1, V p)``.

    Parameters
    ----------
    statistic : Statistic
        Of V voxels.
    alpha : float
    tail : {'positive', 'negative', 'two-sided'}, or None for F

    Returns
    -------
    Corrected
    """
    n_tests = max(1, statistic.value.size)
    log_p = np.minimum(0.0, compute_log_p(statistic, tail) + np.log(n_tests))
    return Corrected(log_p, find_critical_value(statistic, alpha / n_tests, tail))


def correct_fdr(statistic: Statistic, alpha: float, tail: Tail | None) -> Corrected:
    """Control the false discovery rate by Benjamini and Hochberg's procedure.

    The threshold is the smallest surviving value: nan when nothing survives.

    Parameters
    ----------
    statistic : Statistic
    alpha : float
    tail : {'positive', 'negative', 'two-sided'}, or None for F

    Returns
    -------
    Corrected

    References
    ----------
    Benjamini & Hochberg 1995.
    """
    log_p = adjust_fdr(compute_log_p(statistic, tail))
    return Corrected(log_p, find_smallest(statistic, pass_alpha(log_p, alpha), tail))


def correct_rft(smoothness: Smoothness | None, statistic: Statistic, alpha: float, tail: Tail | None) -> Corrected:
    """Control the familywise error by random field theory, or by Bonferroni's inequality where that is less strict.

    Parameters
    ----------
    smoothness : Smoothness
        Of the search volume.
    statistic : Statistic
    alpha : float
    tail : {'positive', 'negative', 'two-sided'}, or None for F

    Returns
    -------
    Corrected

    Raises
    ------
    ValueError
        If the smoothness is not known, or degrees of freedom differ between voxels.

    References
    ----------
    Worsley et al. 1996.
    """
    if smoothness is None:
        raise ValueError("random field theory needs the smoothness of the residuals")
    log_p = log_p_heights(statistic, smoothness, tail)
    value = find_critical_height(statistic, smoothness, alpha, tail)
    dof = float(np.ravel(statistic.dof)[0])
    if statistic.test == "t":
        z = float(distributions.t_to_z(np.array([value]), dof)[0])
    else:
        z = float(distributions.f_to_z(np.array([value]), float(np.ravel(statistic.dof_effect)[0]), dof)[0])
    return Corrected(log_p, Threshold(value, z, statistic.test))


# Every correction that needs no more than the statistic, by the name that a model spec gives it.
CORRECTIONS: dict[str, Correct] = {
    "none": leave_uncorrected,
    "bonferroni": correct_bonferroni,
    "fdr": correct_fdr,
}


def adjust_fdr(log_p: Floats) -> Floats:
    """Adjust p for the false discovery rate: ``min over j >= i of V p_(j) / j``, at most 1.

    Parameters
    ----------
    log_p : ndarray of float64, shape (n_tests,)
        Natural logarithms.

    Returns
    -------
    ndarray of float64, shape (n_tests,)
        Natural logarithms of the adjusted p, at most 0.

    References
    ----------
    Benjamini & Hochberg 1995, equation 1; Yekutieli & Benjamini 1999, definition 2.4.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(adjust_fdr(np.log([0.01, 0.04, 0.03]))).round(3)
    array([0.03, 0.04, 0.04])
    """
    order = np.argsort(log_p, kind="stable")
    ranks = np.arange(1, len(log_p) + 1)
    scaled = log_p[order] + np.log(len(log_p) / ranks)
    adjusted = np.empty(len(log_p))
    adjusted[order] = np.minimum(0.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


def find_critical_value(statistic: Statistic, p: float, tail: Tail | None) -> Threshold:
    """Find the value whose p, of the tail, is the one given.

    Parameters
    ----------
    statistic : Statistic
        For its kind and degrees of freedom.
    p : float
        Of the tail: two-sided puts half of it in each.
    tail : {'positive', 'negative', 'two-sided'}, or None for F

    Returns
    -------
    Threshold
    """
    upper = p / 2 if tail == "two-sided" else p
    sign = -1.0 if tail == "negative" else 1.0
    z = -sign * float(special.ndtri(upper))
    if _has_own_dof(statistic):
        return Threshold(z, z, "z")
    dof = float(np.ravel(statistic.dof)[0])
    if statistic.test == "t":
        return Threshold(sign * float(stats.t.isf(upper, dof)), z, "t")
    return Threshold(float(stats.f.isf(upper, float(np.ravel(statistic.dof_effect)[0]), dof)), z, "F")


def find_smallest(statistic: Statistic, survives: NDArray[np.bool_], tail: Tail | None) -> Threshold:
    """Return the smallest surviving value, in absolute value when two-sided, as a threshold.

    Parameters
    ----------
    statistic : Statistic
    survives : ndarray of bool, shape (n_voxels,)
    tail : {'positive', 'negative', 'two-sided'}, or None for F

    Returns
    -------
    Threshold
        nan where nothing survives.
    """
    unit = "z" if _has_own_dof(statistic) else statistic.test
    if not np.any(survives):
        return Threshold(np.nan, np.nan, unit)
    z = compute_z(statistic)[survives]
    value = z if unit == "z" else statistic.value[survives]
    if tail == "negative":
        return Threshold(float(value.max()), float(z.max()), unit)
    if tail == "two-sided":
        value, z = np.abs(value), np.abs(z)
    return Threshold(float(value.min()), float(z.min()), unit)


def _has_own_dof(statistic: Statistic) -> bool:
    """Tell whether degrees of freedom differ between voxels."""
    return bool(np.ptp(statistic.dof) > 0 or np.ptp(statistic.dof_effect) > 0)


def pass_alpha(log_p: Floats, alpha: float) -> NDArray[np.bool_]:
    """Mark what is significant at alpha.

    Parameters
    ----------
    log_p : ndarray of float64, shape (n_tests,)
    alpha : float

    Returns
    -------
    ndarray of bool, shape (n_tests,)
    """
    return log_p <= np.log(alpha)
