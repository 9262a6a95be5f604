"""Effect sizes of a model's contrasts: which standard deviation an effect is measured by."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.design import DesignMatrix
from bids_group.inputs.error_terms import SubjectContrast
from bids_group.stats.effect_sizes import EffectSize, compute_cohens_d, compute_partial_eta_squared
from bids_group.stats.glm import Fit, Statistic
from bids_group.stats.partitioned import PartitionedFit

Floats = NDArray[np.float64]


def measure_effect(
    statistic: Statistic, standard_deviation: Floats | None, *, epsilon: Floats | None = None
) -> EffectSize | None:
    """Return Cohen's d of a t, or partial eta squared of an F.

    Parameters
    ----------
    statistic : Statistic
    standard_deviation : ndarray of float64, shape (n_voxels,), or None
        What a t's effect is measured by; None where there is no such thing.
    epsilon : ndarray of float64, shape (n_voxels,), or None
        What the degrees of freedom of an F were multiplied by; its eta squared is that of the test before.
    """
    if statistic.test == "t":
        return None if standard_deviation is None else compute_cohens_d(statistic, standard_deviation)
    if epsilon is None:
        return compute_partial_eta_squared(statistic)
    effect, error = (float(np.median(one / epsilon)) for one in (statistic.dof_effect, statistic.dof))
    return compute_partial_eta_squared(replace(statistic, dof_effect=effect, dof=error))


def find_residual_sd(fit: Fit) -> Floats:
    """Return the standard deviation of the residuals: of subjects, where each has one map."""
    return np.sqrt(fit.residual_variance)


def find_score_sd(
    contrast: Contrast, design: DesignMatrix, factored: SubjectContrast, fit: PartitionedFit
) -> Floats | None:
    """Return the standard deviation of the subjects' scores of a contrast, in its own units.

    The score of a subject is the weighted sum of its maps of which the contrast is the mean over subjects, or the
    difference of two groups' means: the weights that the contrast gives the subjects add up to 1 on at least one side.

    Returns
    -------
    ndarray of float64, shape (n_voxels,), or None
        None for several rows, and where the contrast weighs a covariate, so that it is no mean of scores.
    """
    weighted = design.matrix.to_numpy()[:, np.any(contrast.weights != 0, axis=0)]
    if factored.rank != 1 or len(contrast.weights) != 1 or not np.isin(weighted, (0.0, 1.0)).all():
        return None
    on_subjects = factored.between[:, 0]
    largest_side = max(on_subjects[on_subjects > 0].sum(), -on_subjects[on_subjects < 0].sum())
    scale = float(np.abs(factored.loadings[0, 0])) * float(largest_side)
    return scale * np.sqrt(fit.residual_variance)
