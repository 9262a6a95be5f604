"""Effect sizes of a model's contrasts: which standard deviation an effect is measured by."""

import numpy as np
from numpy.typing import NDArray

from bids_group.column_space import ESTIMABILITY_TOLERANCE
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.design import DesignMatrix
from bids_group.inputs.error_terms import SubjectContrast, SubjectDesign, weigh_maps
from bids_group.stats.effect_sizes import EffectSize, compute_cohens_d, compute_partial_eta_squared
from bids_group.stats.glm import Fit, Statistic
from bids_group.stats.partitioned import PartitionedFit

Floats = NDArray[np.float64]
INDICATOR_DECIMALS = 9  # a design put together again from its decomposition is rounded


def measure_effect(statistic: Statistic, standard_deviation: Floats | None) -> EffectSize | None:
    """Return Cohen's d of a t, or partial eta squared of an F.

    Parameters
    ----------
    statistic : Statistic
        On its degrees of freedom before any epsilon.
    standard_deviation : ndarray of float64, shape (n_voxels,), or None
        What a t's effect is measured by; None where there is no such thing.
    """
    if statistic.test == "t":
        return None if standard_deviation is None else compute_cohens_d(statistic, standard_deviation)
    return compute_partial_eta_squared(statistic)


def find_residual_sd(contrast: Contrast, design: DesignMatrix, fit: Fit) -> Floats | None:
    """Return what the effect of a contrast is measured by where each subject has one map: the SD of the residuals.

    Returns
    -------
    ndarray of float64, shape (n_voxels,), or None
        None for several rows, and for slopes, which are no difference of means.
    """
    if len(contrast.weights) != 1:
        return None
    on_subjects = weigh_maps(design.space, contrast.weights)[0]
    scale = _find_larger_side(on_subjects, design.matrix.to_numpy())
    return None if scale is None else scale * np.sqrt(fit.residual_variance)


def find_score_sd(design: SubjectDesign, factored: SubjectContrast, fit: PartitionedFit) -> Floats | None:
    """Return what the effect of a contrast of repeated measures is measured by: the SD of the subjects' scores.

    The score of a subject is the weighted sum of its maps of which the contrast is the mean over subjects, or the
    difference between groups' means.

    Returns
    -------
    ndarray of float64, shape (n_voxels,), or None
        None for several rows, and for slopes.
    """
    if factored.rank != 1 or len(factored.loadings) != 1:
        return None
    # The design has one row per map; that of a subject is all of its maps' rows, one behind the other.
    matrix = (design.space.basis * design.space.singular_values) @ design.space.row_space.T * design.space.norms
    of_subjects = matrix.reshape(len(design.layout.subjects), -1)
    on_subjects = factored.between[:, 0] * factored.loadings[0, 0]
    scale = _find_larger_side(on_subjects, of_subjects)
    return None if scale is None else scale * np.sqrt(fit.residual_variance)


def _find_larger_side(on_subjects: Floats, of_subjects: Floats) -> float | None:
    """Return what a contrast's weights on groups of subjects add up to, on the side where that is more.

    Groups are the subjects with the same indicators. Within a group a covariate may make weights of either sign; their
    sum is the weight of the group's adjusted mean. Dividing an effect by the larger side makes it a mean, or a
    difference of means, whatever the scale of the contrast.

    Parameters
    ----------
    on_subjects : ndarray of float64, shape (n_subjects,)
    of_subjects : ndarray of float64, shape (n_subjects, n_values)
        What the design says of each subject.

    Returns
    -------
    float or None
        None where no group has a weight: the contrast is a slope.
    """
    rounded = np.round(of_subjects, INDICATOR_DECIMALS)
    indicators = rounded[:, np.isin(rounded, (0.0, 1.0)).all(axis=0)]
    _, groups = np.unique(indicators, axis=0, return_inverse=True)
    sums = np.bincount(groups.ravel(), on_subjects)
    side = float(max(sums[sums > 0].sum(), -sums[sums < 0].sum()))
    return side if side > ESTIMABILITY_TOLERANCE * np.abs(on_subjects).sum() else None
