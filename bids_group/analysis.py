"""One model from its maps to its results: where the rooms `inputs` and `stats` meet."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.errors import DataError, SpecError
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.images import AnalysedVoxels, GroupData, load_group, read_mask
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan, NodePlan, selects
from bids_group.inputs.settings import InferenceSpec
from bids_group.inputs.storage import Allocate
from bids_group.inputs.study import list_map_paths
from bids_group.outputs.naming import ModelNames
from bids_group.outputs.quality import find_flags, find_quality_warnings, list_quality
from bids_group.outputs.results import ContrastResult, ContrastTest, InferenceResult, ModelResult
from bids_group.stats.correct import infer
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
from bids_group.vocabulary import Connectivity

# A map that lacks more than this share of the analysed voxels deserves a look.
LARGE_LOSS = 0.1
# Where a pooled error term is no longer believed: simulated false positives then leave the nominal level.
LOWEST_POOLED_EPSILON = 0.75
HIGHEST_VARIANCE_RATIO = 1.2


def load_maps(
    plan: NodePlan,
    model: ModelPlan,
    grid: Grid,
    masks: tuple[Path, ...],
    *,
    allocate: Allocate,
    n_threads: int | None,
    report_progress: Callable[[], object],
) -> GroupData:
    """Read the maps of a model within its masks."""
    paths = list_map_paths(model)
    given = read_mask(masks, grid, paths[0]) if masks else None
    return load_group(
        paths,
        grid,
        given_mask=given,
        smoothing_fwhm=plan.node.settings.smoothing_fwhm,
        n_threads=n_threads,
        allocate=allocate,
        report_progress=report_progress,
    )


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
    statistics = [compute_statistic(fit, i, one.test) for i, one in enumerate(model.contrasts)]
    ratios, epsilon = _judge_pooled_error(model, data, kept, fit)
    smoothness = None
    if _needs_smoothness(plan):
        maps = data.effects if kept.all() else data.effects[:, kept]
        smoothness = _estimate_smoothness(maps, model.design.space.basis, fit.residual_ss, voxels)
    tests = tuple(
        ContrastTest(one, variance_ratio=ratio, smoothness=smoothness)
        for one, ratio in zip(statistics, ratios, strict=True)
    )
    return FittedModel(voxels, _average(data)[kept], tests, epsilon)


def _fit_partitioned(plan: NodePlan, model: ModelPlan, data: GroupData) -> FittedModel:
    fits = _fit_each_contrast(model, data)
    kept = ~np.logical_or.reduce([fit.find_unfitted() for fit in fits])
    voxels = _leave_out_constant(model, data, kept)
    sphericity = plan.node.settings.sphericity
    tests = []
    assert model.partition is not None  # what the plan of partitioned errors has
    rows = model.partition.design.layout.rows
    for contrast, factored, fit in zip(model.contrasts, model.partition.contrasts, fits, strict=True):
        restricted = fit.restrict(kept)
        statistic = compute_partitioned(restricted, contrast.test, sphericity=sphericity)
        is_corrected = restricted.n_within > 1 and sphericity != "none"
        epsilon = estimate_epsilon(restricted, sphericity=sphericity) if is_corrected else None
        smoothness = None
        if _needs_smoothness(plan) and factored.within.shape[1] == 1:
            scores = compute_subject_scores(data.effects, rows, factored.within[:, 0])[:, kept]
            smoothness = _estimate_smoothness(scores, factored.basis, restricted.fit.residual_ss, voxels)
        tests.append(ContrastTest(statistic, epsilon=epsilon, smoothness=smoothness))
    return FittedModel(voxels, _average(data)[kept], tuple(tests))


def _fit_unequal_variances(plan: NodePlan, model: ModelPlan, data: GroupData, groups: pd.Series) -> FittedModel:
    weights = [contrast.weights for contrast in model.contrasts]
    try:
        fit = fit_welch(data.effects, model.design.matrix.to_numpy(), weights, pd.factorize(groups, sort=True)[0])
    except ValueError as error:
        levels = ", ".join(sorted(groups.unique()))
        raise SpecError(f"{plan.node.settings.path}.VarianceGroups", f"{error} (in order: {levels})") from error
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


def _fit_each_contrast(model: ModelPlan, data: GroupData) -> list[PartitionedFit]:
    assert model.partition is not None  # what the plan of repeated measures has
    rows = model.partition.design.layout.rows
    return [
        fit_partitioned(data.effects, rows, one.within, one.between, one.basis, loadings=one.loadings)
        for one in model.partition.contrasts
    ]


def _judge_pooled_error(
    model: ModelPlan, data: GroupData, kept: NDArray[np.bool_], pooled: Fit
) -> tuple[list[float | None], float | None]:
    """Compare each contrast's own error variance with the pooled one, and estimate how spherical the errors are."""
    if model.error_term != "pooled" or model.partition is None:
        return [None] * len(model.contrasts), None
    fits = [fit.restrict(kept) for fit in _fit_each_contrast(model, data)]
    ratios: list[float | None] = [float(np.median(compare_error_variances(fit, pooled))) for fit in fits]
    design = model.partition.design
    return ratios, estimate_sphericity(data.effects, design.layout.rows, design.basis).median


def _average(data: GroupData) -> NDArray[np.float64]:
    return data.effects.mean(axis=0, dtype=np.float64)


def _leave_out_constant(model: ModelPlan, data: GroupData, kept: NDArray[np.bool_]) -> AnalysedVoxels:
    if not kept.any():
        raise DataError(
            f"{model.rows['path'].iloc[0]} and the others: no voxel has residual variance; are the maps copies?"
        )
    return data.voxels if kept.all() else data.voxels.leave_out_constant(kept)


def infer_contrasts(plan: NodePlan, model: ModelPlan, fitted: FittedModel) -> tuple[ContrastResult, ...]:
    """Correct each contrast's statistic in every way that is asked for."""
    settings = plan.node.settings
    results = []
    for contrast, test in zip(model.contrasts, fitted.tests, strict=True):
        entries = [entry for entry in settings.inference if selects(entry, contrast)]
        mask = fitted.voxels.mask
        inferences = [_correct(entry, test, mask, settings.connectivity) for entry in entries]
        results.append(ContrastResult(contrast, test, tuple(inferences)))
    return tuple(results)


def _correct(
    entry: InferenceSpec, test: ContrastTest, mask: NDArray[np.bool_], connectivity: Connectivity
) -> InferenceResult:
    try:
        found = infer(
            test.statistic,
            mask,
            correction=entry.correction,
            alpha=entry.alpha,
            tail=None if test.statistic.test == "F" else entry.tail,
            cluster_extent=entry.cluster_extent,
            connectivity=connectivity,
            smoothness=test.smoothness,
            cluster_forming=entry.cluster_forming,
        )
    except ValueError as error:
        raise SpecError(entry.path, str(error)) from error
    return InferenceResult(entry, found)


def assemble_result(
    plan: NodePlan,
    model: ModelPlan,
    fitted: FittedModel,
    contrasts: tuple[ContrastResult, ...],
    *,
    masks: tuple[Path, ...],
    datasets: tuple[Dataset, ...],
) -> ModelResult:
    """Put together everything that is written of a model."""
    return ModelResult(
        node=plan.node,
        names=ModelNames(model.entities, model.input_contrast),
        rows=model.rows,
        n_excluded=len(plan.excluded),
        design=model.design,
        voxels=fitted.voxels,
        mean_effect=fitted.mean_effect,
        quality=fitted.quality,
        mask_sources={_name_source(path, datasets): path for path in masks},
        contrasts=contrasts,
        error_term=model.error_term,
        dof=model.dof,
        epsilon=fitted.epsilon,
        warnings=(
            *model.warnings,
            *_find_data_warnings(model, fitted.voxels),
            *find_quality_warnings(fitted.quality),
            *_find_error_warnings(contrasts, fitted),
        ),
    )


def _find_data_warnings(model: ModelPlan, voxels: AnalysedVoxels) -> list[str]:
    """Say which voxels were left out, and which map cost the most."""
    warnings = []
    worst = int(np.argmax(voxels.missing))
    subject = f"sub-{model.rows['subject'].iloc[worst]} ({model.rows['contrast'].iloc[worst]})"
    n_analysed = int(voxels.mask.sum()) + voxels.n_voxels_constant
    if voxels.n_voxels_missing:
        warnings.append(
            f"{voxels.n_voxels_missing} of the {n_analysed + voxels.n_voxels_missing} voxels of the mask are left out "
            f"because a map lacks them; {subject} lacks the most, {voxels.missing[worst]}"
        )
    elif voxels.missing[worst] > LARGE_LOSS * n_analysed:
        warnings.append(
            f"{subject} lacks {voxels.missing[worst]} voxels that the fullest map has; it narrows the analysis mask"
        )
    if voxels.n_voxels_constant:
        warnings.append(f"{voxels.n_voxels_constant} voxels without residual variance are left out")
    return warnings


def _find_error_warnings(contrasts: tuple[ContrastResult, ...], fitted: FittedModel) -> list[str]:
    """Say where the data speak against the pooled error term."""
    warnings = []
    if fitted.epsilon is not None and fitted.epsilon < LOWEST_POOLED_EPSILON:
        warnings.append(
            f"the pooled error term assumes sphericity, but epsilon (Huynh-Feldt, median over voxels) is "
            f"{fitted.epsilon:.2f}; use partitioned error terms"
        )
    for result in contrasts:
        ratio = result.test.variance_ratio
        if ratio is not None and ratio > HIGHEST_VARIANCE_RATIO:
            warnings.append(
                f"the error variance of {result.contrast.name} is {ratio:.2f} times the pooled one (median over "
                "voxels), so that its pooled test finds too much; use partitioned error terms"
            )
    return warnings


def _name_source(path: Path, datasets: tuple[Dataset, ...]) -> str:
    """Return a file's BIDS URI where a dataset has it, else its address."""
    for dataset in datasets:
        if dataset.path in path.absolute().parents:
            return dataset.uri(path.absolute())
    return path.absolute().as_uri()
