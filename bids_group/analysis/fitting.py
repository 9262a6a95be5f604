"""From the maps of a model to the statistics of its contrasts, by the error term that the model has."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.analysis.measures import find_residual_sd, find_score_sd, measure_effect
from bids_group.errors import DataError, SpecError
from bids_group.inputs.error_terms import SubjectContrast
from bids_group.inputs.images import AnalysedVoxels, GroupData
from bids_group.inputs.plan import ModelPlan, NodePlan, Partition
from bids_group.outputs.quality import find_flags, list_quality
from bids_group.outputs.results import ContrastTest
from bids_group.stats.glm import Fit, compute_statistic, fit_glm
from bids_group.stats.partitioned import (
    PartitionedFit,
    compare_error_variances,
    compute_partitioned,
    compute_subject_scores,
    estimate_epsilon,
    estimate_sphericity,
    fit_partitioned,
)
from bids_group.stats.quality import delete_rows, find_mirror, measure_quality
from bids_group.stats.smoothness import Smoothness, estimate_smoothness
from bids_group.stats.unequal_variances import compute_welch_statistic, fit_welch


@dataclass(frozen=True)
class FittedModel:
    """The statistics of a model's contrasts, and the voxels they are of.

    Attributes
    ----------
    voxels : AnalysedVoxels
    mean_effect : ndarray of float64, shape (n_voxels,)
        The mean over all maps.
    tests : tuple of ContrastTest
        In the order of the contrasts.
    epsilon : float or None
        How spherical the errors of a pooled model are: the median of Huynh and Feldt's estimate.
    quality : DataFrame
        What was measured of each map, and what is odd about it; empty until that was done.
    """

    voxels: AnalysedVoxels
    mean_effect: NDArray[np.float64]
    tests: tuple[ContrastTest, ...]
    epsilon: float | None = None
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)


def fit_model(plan: NodePlan, model: ModelPlan, data: GroupData) -> FittedModel:
    """Fit the design, compute each contrast's statistic, and look at the maps one by one.

    Voxels whose error variance is rounding only are left out.

    Raises
    ------
    DataError
        If no voxel is left.
    """
    fitted = _fit_contrasts(plan, model, data)
    return replace(fitted, quality=_measure_maps(model, data, fitted))


def _measure_maps(model: ModelPlan, data: GroupData, fitted: FittedModel) -> pd.DataFrame:
    """Measure what may be odd about each map, and flag it."""
    groups = pd.factorize(model.rows["contrast"])[0]
    mirror = find_mirror(data.voxels.mask, data.voxels.grid.affine)
    measured = measure_quality(data.effects, model.design.space, groups, mirror)
    return list_quality(
        model.rows,
        measured,
        find_flags(measured, groups),
        missing=data.voxels.missing,
        peak_t_without=_delete_maps_at_peak(model, data, fitted),
    )


def _delete_maps_at_peak(model: ModelPlan, data: GroupData, fitted: FittedModel) -> NDArray[np.float64]:
    """Return the first contrast's t at its peak without each of the maps; NaN where it is not an OLS t of the maps."""
    statistic = fitted.tests[0].statistic
    if statistic.test == "F" or model.error_term == "partitioned" or isinstance(statistic.dof, np.ndarray):
        return np.full(len(model.rows), np.nan)
    kept = np.flatnonzero(fitted.voxels.mask[data.voxels.mask])
    peak = kept[np.argmax(np.abs(statistic.value))]
    return delete_rows(data.effects[:, peak], model.design.space, model.contrasts[0].weights[0])


def _fit_contrasts(plan: NodePlan, model: ModelPlan, data: GroupData) -> FittedModel:
    if model.error_term == "partitioned":
        return _fit_partitioned(plan, model, data)
    if model.variance_groups is not None:
        return _fit_unequal_variances(plan, model, data, model.variance_groups)
    fit = fit_glm(data.effects, model.design.matrix.to_numpy(), [one.weights for one in model.contrasts])
    kept = ~fit.find_unfitted()
    voxels = _leave_out_constant(model, data, kept)
    fit = fit.restrict(kept)
    smoothness = None
    if _needs_smoothness(plan):
        maps = data.effects if kept.all() else data.effects[:, kept]
        smoothness = _estimate_smoothness(maps, model.design.space.basis, fit.residual_ss, voxels)
    judged = _judge_pooled_error(model, data, kept, fit)
    tests = []
    for i, contrast in enumerate(model.contrasts):
        statistic = compute_statistic(fit, i, contrast.test)
        spread = judged.score_sds[i] if model.error_term else find_residual_sd(contrast, model.design, fit)
        effect_size = measure_effect(statistic, spread)
        ratio = judged.variance_ratios[i]
        tests.append(ContrastTest(statistic, variance_ratio=ratio, smoothness=smoothness, effect_size=effect_size))
    return FittedModel(voxels, _average(data)[kept], tuple(tests), judged.epsilon)


def _fit_partitioned(plan: NodePlan, model: ModelPlan, data: GroupData) -> FittedModel:
    assert model.partition is not None  # what the plan of partitioned errors has, every contrast factored
    factors = [factored for factored in model.partition.contrasts if factored is not None]
    fits = [_fit_contrast(model.partition, factored, data) for factored in factors]
    kept = ~np.logical_or.reduce([fit.find_unfitted() for fit in fits])
    voxels = _leave_out_constant(model, data, kept)
    sphericity = plan.node.settings.sphericity
    tests = []
    rows = model.partition.design.layout.rows
    for contrast, factored, fit in zip(model.contrasts, factors, fits, strict=True):
        restricted = fit.restrict(kept)
        statistic = compute_partitioned(restricted, contrast.test, sphericity=sphericity)
        is_corrected = restricted.n_within > 1 and sphericity != "none"
        epsilon = estimate_epsilon(restricted, sphericity=sphericity) if is_corrected else None
        smoothness = None
        if _needs_smoothness(plan) and factored.within.shape[1] == 1:
            scores = compute_subject_scores(data.effects, rows, factored.within[:, 0])[:, kept]
            smoothness = _estimate_smoothness(scores, factored.basis, restricted.fit.residual_ss, voxels)
        spread = find_score_sd(model.partition.design, factored, restricted)
        effect_size = measure_effect(statistic, spread, epsilon=epsilon)
        tests.append(ContrastTest(statistic, epsilon=epsilon, smoothness=smoothness, effect_size=effect_size))
    return FittedModel(voxels, _average(data)[kept], tuple(tests))


def _fit_unequal_variances(plan: NodePlan, model: ModelPlan, data: GroupData, groups: pd.Series) -> FittedModel:
    weights = [contrast.weights for contrast in model.contrasts]
    try:
        fit = fit_welch(data.effects, model.design.matrix.to_numpy(), weights, groups.to_numpy(dtype=str))
    except ValueError as error:
        raise SpecError(f"{plan.node.settings.path}.VarianceGroups", str(error)) from error
    kept = ~fit.find_unfitted()
    voxels = _leave_out_constant(model, data, kept)
    fit = fit.restrict(kept)
    tests = [ContrastTest(compute_welch_statistic(fit, i, one.test)) for i, one in enumerate(model.contrasts)]
    return FittedModel(voxels, _average(data)[kept], tuple(tests))


def _needs_smoothness(plan: NodePlan) -> bool:
    return any(entry.correction == "rft" for entry in plan.node.settings.inference)


def _estimate_smoothness(
    maps: NDArray[np.float32], basis: NDArray[np.float64], residual_ss: NDArray[np.float64], voxels: AnalysedVoxels
) -> Smoothness:
    return estimate_smoothness(maps, basis, residual_ss, voxels.mask, voxels.grid.voxel_sizes)


def _fit_contrast(partition: Partition, factored: SubjectContrast, data: GroupData) -> PartitionedFit:
    return fit_partitioned(
        data.effects,
        partition.design.layout.rows,
        factored.within,
        factored.between,
        factored.basis,
        loadings=factored.loadings,
    )


@dataclass(frozen=True)
class _PooledError:
    """What the data say of a pooled error term, contrast by contrast; nothing where they do not factor."""

    variance_ratios: tuple[float | None, ...]
    score_sds: tuple[NDArray[np.float64] | None, ...]
    epsilon: float | None = None


def _judge_pooled_error(model: ModelPlan, data: GroupData, kept: NDArray[np.bool_], pooled: Fit) -> _PooledError:
    """Compare each contrast's own error variance with the pooled one, and estimate how spherical the errors are."""
    if model.error_term != "pooled" or model.partition is None:
        return _PooledError((None,) * len(model.contrasts), (None,) * len(model.contrasts))
    ratios: list[float | None] = []
    score_sds: list[NDArray[np.float64] | None] = []
    for factored in model.partition.contrasts:
        ratio, score_sd = None, None
        if factored is not None:
            fit = _fit_contrast(model.partition, factored, data).restrict(kept)
            ratio = float(np.median(compare_error_variances(fit, pooled)))
            score_sd = None if fit.find_unfitted().any() else find_score_sd(model.partition.design, factored, fit)
        ratios.append(ratio)
        score_sds.append(score_sd)
    design = model.partition.design
    epsilon = estimate_sphericity(data.effects, design.layout.rows, design.basis).median
    return _PooledError(tuple(ratios), tuple(score_sds), epsilon)


def _average(data: GroupData) -> NDArray[np.float64]:
    return data.effects.mean(axis=0, dtype=np.float64)


def _leave_out_constant(model: ModelPlan, data: GroupData, kept: NDArray[np.bool_]) -> AnalysedVoxels:
    if not kept.any():
        raise DataError(
            f"{model.rows['path'].iloc[0]} and the others: no voxel has residual variance; are the maps copies?"
        )
    return data.voxels if kept.all() else data.voxels.leave_out_constant(kept)
