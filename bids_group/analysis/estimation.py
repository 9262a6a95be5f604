"""The statistics of a model's contrasts in voxels that have the same maps, by the error term that the model has."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bids_group.analysis.measures import find_residual_sd, find_score_sd
from bids_group.errors import SpecError
from bids_group.inputs.error_terms import SubjectContrast
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.plan import ModelPlan, NodePlan, Partition
from bids_group.outputs.results import Heterogeneous
from bids_group.stats.glm import Fit, Statistic, compute_statistic, fit_glm
from bids_group.stats.meta_analysis import compute_meta_statistic, fit_meta
from bids_group.stats.partitioned import (
    PartitionedFit,
    SphericityEstimate,
    compare_error_variances,
    compute_partitioned,
    compute_subject_scores,
    estimate_epsilon,
    estimate_sphericity,
    fit_partitioned,
)
from bids_group.stats.smoothness import Smoothness, estimate_smoothness
from bids_group.stats.unequal_variances import compute_welch_statistic, fit_welch

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """What was found of one contrast.

    Attributes
    ----------
    statistic : Statistic
        On its degrees of freedom before any epsilon.
    epsilon : ndarray of float64, shape (n_voxels,), or None
        What they are multiplied by.
    spread : ndarray of float64, shape (n_voxels,), or None
        The SD that the effect is measured by, where there is one.
    variance_ratio : ndarray of float64, shape (n_voxels,), or None
        The contrast's own error variance over the pooled one.
    smoothness : Smoothness or None
    heterogeneous : Heterogeneous or None
        Of a meta-analysis.
    """

    statistic: Statistic
    epsilon: Floats | None = None
    spread: Floats | None = None
    variance_ratio: Floats | None = None
    smoothness: Smoothness | None = None
    heterogeneous: Heterogeneous | None = None

    @property
    def corrected(self) -> Statistic:
        """Return the statistic on the degrees of freedom that its p is read at: those times epsilon."""
        if self.epsilon is None:
            return self.statistic
        dof_effect, dof = self.epsilon * self.statistic.dof_effect, self.epsilon * self.statistic.dof
        return replace(self.statistic, dof_effect=dof_effect, dof=dof)


@dataclass(frozen=True)
class FittedVoxels:
    """A model fitted to voxels.

    Attributes
    ----------
    kept : ndarray of bool, shape (n_voxels,)
        The voxels with error variance, which the estimates are of.
    estimates : tuple of Estimate
        In the order of the contrasts.
    sphericity : SphericityEstimate or None
        Of the errors of a pooled model.
    n_subjects : ndarray of int64, shape (n_kept,), or None
        The subjects whose maps the tests used; None where they are all of them.
    """

    kept: NDArray[np.bool_]
    estimates: tuple[Estimate, ...]
    sphericity: SphericityEstimate | None = None
    n_subjects: NDArray[np.int64] | None = None


def fit_voxels(
    plan: NodePlan,
    model: ModelPlan,
    effects: NDArray[np.float32],
    voxels: AnalysedVoxels | None = None,
    variances: NDArray[np.float32] | None = None,
) -> FittedVoxels:
    """Fit the design to voxels that have all of its maps, and compute each contrast's statistic.

    Parameters
    ----------
    plan : NodePlan
    model : ModelPlan
    effects : ndarray of float32, shape (n_rows, n_voxels)
        Finite.
    voxels : AnalysedVoxels or None
        Where they are, for random field theory; None where there is none, because degrees of freedom differ.
    variances : ndarray of float32, shape (n_rows, n_voxels), or None
        Of the effects, for a meta-analysis.

    Raises
    ------
    SpecError
        If a variance group has too few maps.
    """
    if variances is not None:
        return _fit_meta(plan, model, effects, variances)
    if model.error_term == "partitioned":
        return _fit_partitioned(plan, model, effects, voxels)
    if model.variance_groups is not None:
        return _fit_unequal_variances(plan, model, effects, model.variance_groups.to_numpy(dtype=str))
    return _fit_maps(plan, model, effects, voxels)


def _needs_smoothness(plan: NodePlan) -> bool:
    return any(entry.correction == "rft" for entry in plan.node.settings.inference)


def _fit_maps(
    plan: NodePlan, model: ModelPlan, effects: NDArray[np.float32], voxels: AnalysedVoxels | None
) -> FittedVoxels:
    fit = fit_glm(effects, model.design.matrix.to_numpy(), [one.weights for one in model.contrasts])
    kept = ~fit.find_unfitted()
    fit = fit.restrict(kept)
    smoothness = None
    if voxels is not None and kept.any() and _needs_smoothness(plan):
        maps = effects if kept.all() else effects[:, kept]
        smoothness = _estimate_smoothness(maps, model.design.space.basis, fit.residual_ss, voxels, kept)
    judged = _judge_pooled_error(model, effects, kept, fit)
    estimates = []
    for i, contrast in enumerate(model.contrasts):
        statistic = compute_statistic(fit, i, contrast.test)
        spread = judged.score_sds[i] if model.error_term else find_residual_sd(contrast, model.design, fit)
        ratio = judged.variance_ratios[i]
        estimates.append(Estimate(statistic, spread=spread, variance_ratio=ratio, smoothness=smoothness))
    return FittedVoxels(kept, tuple(estimates), judged.sphericity)


def _fit_partitioned(
    plan: NodePlan, model: ModelPlan, effects: NDArray[np.float32], voxels: AnalysedVoxels | None
) -> FittedVoxels:
    assert model.partition is not None  # what the plan of partitioned errors has, every contrast factored
    factors = [factored for factored in model.partition.contrasts if factored is not None]
    fits = [_fit_contrast(model.partition, factored, effects) for factored in factors]
    kept = ~np.logical_or.reduce([fit.find_unfitted() for fit in fits])
    sphericity = plan.node.settings.sphericity
    estimates = []
    rows = model.partition.design.layout.rows
    for contrast, factored, fit in zip(model.contrasts, factors, fits, strict=True):
        restricted = fit.restrict(kept)
        statistic = compute_partitioned(restricted, contrast.test, sphericity="none")
        is_corrected = restricted.n_within > 1 and sphericity != "none"
        epsilon = estimate_epsilon(restricted, sphericity=sphericity) if is_corrected else None
        smoothness = None
        if voxels is not None and kept.any() and _needs_smoothness(plan) and factored.within.shape[1] == 1:
            scores = compute_subject_scores(effects, rows, factored.within[:, 0])[:, kept]
            smoothness = _estimate_smoothness(scores, factored.basis, restricted.fit.residual_ss, voxels, kept)
        spread = find_score_sd(model.partition.design, factored, restricted)
        estimates.append(Estimate(statistic, epsilon, spread, smoothness=smoothness))
    return FittedVoxels(kept, tuple(estimates))


def _fit_meta(
    plan: NodePlan, model: ModelPlan, effects: NDArray[np.float32], variances: NDArray[np.float32]
) -> FittedVoxels:
    weights = [contrast.weights for contrast in model.contrasts]
    design = model.design.matrix.to_numpy()
    fit = fit_meta(effects, variances, design, weights, method=plan.node.settings.heterogeneity)
    kept = ~fit.find_unfitted()
    fit = fit.restrict(kept)
    found = Heterogeneous(fit.tau2, fit.i2, int(np.count_nonzero(~fit.converged)))
    estimates = [
        Estimate(compute_meta_statistic(fit, i, one.test), heterogeneous=found) for i, one in enumerate(model.contrasts)
    ]
    return FittedVoxels(kept, tuple(estimates))


def _fit_unequal_variances(
    plan: NodePlan, model: ModelPlan, effects: NDArray[np.float32], groups: NDArray[np.str_]
) -> FittedVoxels:
    weights = [contrast.weights for contrast in model.contrasts]
    try:
        fit = fit_welch(effects, model.design.matrix.to_numpy(), weights, groups)
    except ValueError as error:
        raise SpecError(f"{plan.node.settings.path}.VarianceGroups", str(error)) from error
    kept = ~fit.find_unfitted()
    fit = fit.restrict(kept)
    statistics = [compute_welch_statistic(fit, i, one.test) for i, one in enumerate(model.contrasts)]
    return FittedVoxels(kept, tuple(Estimate(statistic) for statistic in statistics))


def _estimate_smoothness(
    maps: NDArray[np.float32],
    basis: Floats,
    residual_ss: Floats,
    voxels: AnalysedVoxels,
    kept: NDArray[np.bool_],
) -> Smoothness:
    mask = voxels.leave_out_constant(kept).mask
    return estimate_smoothness(maps, basis, residual_ss, mask, voxels.grid.voxel_sizes)


def _fit_contrast(partition: Partition, factored: SubjectContrast, effects: NDArray[np.float32]) -> PartitionedFit:
    return fit_partitioned(
        effects,
        partition.design.layout.rows,
        factored.within,
        factored.between,
        factored.basis,
        loadings=factored.loadings,
    )


@dataclass(frozen=True)
class _PooledError:
    """What the data say of a pooled error term, contrast by contrast; nothing where they do not factor."""

    variance_ratios: tuple[Floats | None, ...]
    score_sds: tuple[Floats | None, ...]
    sphericity: SphericityEstimate | None = None


def _judge_pooled_error(
    model: ModelPlan, effects: NDArray[np.float32], kept: NDArray[np.bool_], pooled: Fit
) -> _PooledError:
    """Compare each contrast's own error variance with the pooled one, and estimate how spherical the errors are."""
    if model.error_term != "pooled" or model.partition is None:
        return _PooledError((None,) * len(model.contrasts), (None,) * len(model.contrasts))
    ratios: list[Floats | None] = []
    score_sds: list[Floats | None] = []
    for factored in model.partition.contrasts:
        ratio, score_sd = None, None
        if factored is not None:
            fit = _fit_contrast(model.partition, factored, effects).restrict(kept)
            ratio = compare_error_variances(fit, pooled)
            score_sd = None if fit.find_unfitted().any() else find_score_sd(model.partition.design, factored, fit)
        ratios.append(ratio)
        score_sds.append(score_sd)
    design = model.partition.design
    return _PooledError(tuple(ratios), tuple(score_sds), estimate_sphericity(effects, design.layout.rows, design.basis))
