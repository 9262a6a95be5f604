"""From the maps of a model to the statistics of its contrasts, and to what is odd about the maps."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.analysis.coverage import fit_patterns, number_subjects
from bids_group.analysis.estimation import Estimate, FittedVoxels, fit_voxels
from bids_group.analysis.measures import measure_effect
from bids_group.column_space import decompose
from bids_group.errors import DataError
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import ModelPlan, NodePlan
from bids_group.outputs.quality import find_flags, list_quality
from bids_group.outputs.results import ContrastTest
from bids_group.stats.coverage import average_present, find_used_rows
from bids_group.stats.quality import delete_rows, find_mirror, measure_quality


@dataclass(frozen=True)
class FittedModel:
    """The statistics of a model's contrasts, and the voxels they are of.

    Attributes
    ----------
    voxels : AnalysedVoxels
    mean_effect : ndarray of float64, shape (n_voxels,)
        The mean over all maps that a voxel has.
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

    Voxels whose error variance is rounding only are left out, and those whose maps do not allow the tests.

    Raises
    ------
    SpecError
        If a variance group has too few maps.
    DataError
        If no voxel is left.
    """
    found, voxels = estimate_contrasts(plan, model, data)
    fitted = FittedModel(
        voxels,
        _average(data)[voxels.mask[data.voxels.mask]],
        tuple(describe_contrast(model, found, estimate) for estimate in found.estimates),
        None if found.sphericity is None else found.sphericity.median,
    )
    return replace(fitted, quality=_measure_maps(model, data, fitted))


def estimate_contrasts(plan: NodePlan, model: ModelPlan, data: GroupData) -> tuple[FittedVoxels, AnalysedVoxels]:
    """Fit the design and compute each contrast's statistic, no more.

    Returns
    -------
    FittedVoxels
    AnalysedVoxels
        Those that the statistics are of.

    Raises
    ------
    SpecError, DataError
        As `fit_model` does.
    """
    if data.voxels.min_coverage < 1:
        found, voxels = fit_patterns(plan, model, data)
    else:
        found, voxels = fit_voxels(plan, model, data.effects, data.voxels, data.variances), data.voxels
    return found, _leave_out_constant(model, voxels, found.kept)


def describe_contrast(model: ModelPlan, found: FittedVoxels, estimate: Estimate) -> ContrastTest:
    """Put a contrast's statistic on its degrees of freedom, and measure its effect.

    Parameters
    ----------
    model : ModelPlan
    found : FittedVoxels
        What the estimate is one of.
    estimate : Estimate
    """
    ratio = estimate.variance_ratio
    # Welch's tests and meta-analyses have no single SD that an effect could be measured by.
    has_none = model.variance_groups is not None or estimate.heterogeneous is not None
    effect_size = None if has_none else measure_effect(estimate.statistic, estimate.spread)
    return ContrastTest(
        estimate.corrected,
        epsilon=estimate.epsilon,
        variance_ratio=None if ratio is None else float(np.median(ratio)),
        smoothness=estimate.smoothness,
        effect_size=effect_size,
        n_subjects=found.n_subjects,
        heterogeneous=estimate.heterogeneous,
    )


def _measure_maps(model: ModelPlan, data: GroupData, fitted: FittedModel) -> pd.DataFrame:
    """Measure what may be odd about each map, in the voxels that all maps have, and flag it."""
    groups = pd.factorize(model.rows["contrast"])[0]
    mask, columns = data.voxels.mask, None
    if data.voxels.complete is not None:
        columns = np.flatnonzero(data.voxels.complete[mask])
        mask = mask & data.voxels.complete
    mirror = find_mirror(mask, data.voxels.grid.affine)
    measured = measure_quality(data.effects, model.design.space, groups, mirror, columns=columns)
    return list_quality(
        model.rows,
        measured,
        find_flags(measured, groups),
        voxels=data.voxels,
        peak_t_without=_delete_maps_at_peak(model, data, fitted),
    )


def _delete_maps_at_peak(model: ModelPlan, data: GroupData, fitted: FittedModel) -> NDArray[np.float64]:
    """Return the first contrast's t at its peak without each of the maps; NaN where it is not an OLS t of the maps."""
    statistic = fitted.tests[0].statistic
    without = np.full(len(model.rows), np.nan)
    if (
        data.variances is not None
        or statistic.test == "F"
        or model.error_term == "partitioned"
        or model.variance_groups is not None
    ):
        return without
    columns = np.flatnonzero(fitted.voxels.mask[data.voxels.mask])
    values = data.effects[:, columns[np.argmax(np.abs(statistic.value))]]
    used = find_used_rows(values, number_subjects(model.rows))
    space = model.design.space if used.all() else decompose(model.design.matrix.to_numpy()[used])
    without[used] = delete_rows(values[used], space, model.contrasts[0].weights[0])
    return without


def _average(data: GroupData) -> NDArray[np.float64]:
    if data.voxels.min_coverage < 1:
        return average_present(data.effects)
    return data.effects.mean(axis=0, dtype=np.float64)


def _leave_out_constant(model: ModelPlan, voxels: AnalysedVoxels, kept: NDArray[np.bool_]) -> AnalysedVoxels:
    if not kept.any():
        raise DataError(
            f"{model.rows['path'].iloc[0]} and the others: no voxel has residual variance; are the maps copies?"
        )
    return voxels if kept.all() else voxels.leave_out_constant(kept)
