"""A model of voxels that lack some maps: one model of the remaining maps for each pattern of those present.

What is tested must be the same everywhere: a voxel whose maps do not allow all of the model's tests is left out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.analysis.estimation import Estimate, FittedVoxels, fit_voxels
from bids_group.column_space import ESTIMABILITY_TOLERANCE, decompose
from bids_group.errors import DataError, SpecError
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.design import DesignMatrix, drop_subject_columns
from bids_group.inputs.error_terms import (
    SubjectContrast,
    SubjectDesign,
    SubjectLayout,
    build_subject_design,
    factor_contrast,
    factor_map_weights,
    weigh_maps,
)
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import ModelPlan, NodePlan, Partition
from bids_group.stats.coverage import CoveragePattern, Places, find_patterns, join_statistics, join_voxels
from bids_group.stats.partitioned import SphericityEstimate

TOO_FEW = "too few maps are left to estimate the error"
TOO_FEW_IN_GROUP = "a variance group has too few maps left"


class UntestableError(DataError):
    """The maps that are left do not allow a model's tests; the message is the reason."""


def fit_patterns(plan: NodePlan, model: ModelPlan, data: GroupData) -> tuple[FittedVoxels, AnalysedVoxels]:
    """Fit a model to voxels of which some maps may be missing.

    Each pattern of present maps has a design of its own. Of repeated measures a subject takes part where all of its
    maps are present.

    Returns
    -------
    FittedVoxels
    AnalysedVoxels
        Those that `FittedVoxels.kept` is of: where the maps allow every test of the model.

    Raises
    ------
    DataError
        If they allow them nowhere.
    """
    units = number_subjects(model.rows)
    fitted: list[tuple[CoveragePattern, FittedVoxels]] = []
    reasons: Counter[str] = Counter()
    for pattern in find_patterns(data.effects, units):
        try:
            fitted.append((pattern, _fit_pattern(plan, model, data, units, pattern)))
        except UntestableError as error:
            reasons[str(error)] += len(pattern.voxels)
    if not fitted:
        told = "; ".join(f"{reason} ({count} voxels)" for reason, count in reasons.items())
        raise DataError(f"{plan.node.settings.path}.MinCoverage: no voxel can be tested: {told}; raise it")
    places = [pattern.voxels for pattern, _ in fitted]
    tested = np.zeros(data.effects.shape[1], dtype=bool)
    tested[np.concatenate(places)] = True
    n_subjects = [int(pattern.present.sum()) for pattern, _ in fitted]
    joined = _join([part for _, part in fitted], places, n_subjects)
    return joined, data.voxels.leave_out_untestable(tested, reasons)


def number_subjects(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number of each map's subject, in the order of their labels."""
    return np.unique(rows["subject"].to_numpy(dtype=str), return_inverse=True)[1].astype(np.int64)


def _fit_pattern(
    plan: NodePlan, model: ModelPlan, data: GroupData, units: NDArray[np.int64], pattern: CoveragePattern
) -> FittedVoxels:
    """Fit the model of a pattern's maps to its voxels.

    Raises
    ------
    UntestableError
    """
    restricted = restrict_model(model, units, pattern.present)
    effects = data.effects[np.ix_(pattern.present[units], pattern.voxels)]
    try:
        return fit_voxels(plan, restricted, effects)
    except SpecError as error:
        raise UntestableError(TOO_FEW_IN_GROUP) from error


def restrict_model(model: ModelPlan, units: NDArray[np.int64], present: NDArray[np.bool_]) -> ModelPlan:
    """Return the model of the maps of some subjects, in which every contrast is what it is in the whole one.

    Parameters
    ----------
    model : ModelPlan
    units : ndarray of int64, shape (n_rows,)
        What `number_subjects` returned.
    present : ndarray of bool, shape (n_subjects,)

    Returns
    -------
    ModelPlan

    Raises
    ------
    UntestableError
        If a contrast is not estimable, has another error than in the whole model, or none is left for it.
    """
    if present.all():
        return model
    kept = present[units]
    matrix = model.design.matrix[kept]
    design = replace(model.design, matrix=matrix, space=decompose(matrix.to_numpy()))
    if design.dof < 1:
        raise UntestableError(TOO_FEW)
    for contrast in model.contrasts:
        if design.space.find_inestimable(contrast.weights).any():
            raise UntestableError(f"{contrast.name} is not estimable from the maps that are left")
    return replace(
        model,
        rows=model.rows[kept],
        design=design,
        partition=None if model.partition is None else _restrict_partition(model, design, kept, present),
        variance_groups=None if model.variance_groups is None else model.variance_groups[kept],
    )


def _restrict_partition(
    model: ModelPlan, design: DesignMatrix, kept: NDArray[np.bool_], present: NDArray[np.bool_]
) -> Partition:
    """Factor the contrasts again, among the subjects that are left."""
    assert model.partition is not None
    layout = _restrict_layout(model.partition.design.layout, kept, present)
    without_subjects = design if model.error_term == "partitioned" else drop_subject_columns(design)
    try:
        subject_design = build_subject_design(without_subjects.matrix, layout)
    except DataError as error:  # its columns are products as they were before, so that it can only be this
        raise UntestableError(TOO_FEW) from error
    pairs = zip(model.contrasts, model.partition.contrasts, strict=True)
    if model.error_term == "partitioned":
        return Partition(subject_design, tuple(_factor(subject_design, *pair) for pair in pairs))
    return Partition(subject_design, tuple(_factor_pooled(subject_design, design, *pair) for pair in pairs))


def _restrict_layout(layout: SubjectLayout, kept: NDArray[np.bool_], present: NDArray[np.bool_]) -> SubjectLayout:
    positions = np.cumsum(kept) - 1
    subjects = tuple(subject for subject, is_left in zip(layout.subjects, present, strict=True) if is_left)
    return SubjectLayout(subjects, layout.cells, positions[layout.rows[present]])


def _factor(subject_design: SubjectDesign, contrast: Contrast, whole: SubjectContrast | None) -> SubjectContrast:
    """Factor a contrast, and make sure that its error is that of the same scores as among all subjects."""
    assert whole is not None  # what the plan of partitioned errors has
    reason = f"{contrast.name} has another error term, or none, among the subjects that are left"
    try:
        found = factor_contrast(subject_design, contrast.weights)
    except DataError as error:
        raise UntestableError(reason) from error
    outside = whole.within - found.within @ (found.within.T @ whole.within)
    n_within = whole.within.shape[1]
    if found.within.shape[1] != n_within or np.linalg.norm(outside) > ESTIMABILITY_TOLERANCE * np.sqrt(n_within):
        raise UntestableError(reason)
    return found


def _factor_pooled(
    subject_design: SubjectDesign, design: DesignMatrix, contrast: Contrast, whole: SubjectContrast | None
) -> SubjectContrast | None:
    """Factor a contrast of a pooled model where it can be, to judge the error term."""
    if whole is None:
        return None
    on_maps = weigh_maps(design.space, contrast.weights)[:, subject_design.layout.rows.ravel()]
    try:
        return factor_map_weights(subject_design, on_maps)
    except DataError:
        return None


def _join(parts: Sequence[FittedVoxels], places: Sequence[Places], n_subjects: Sequence[int]) -> FittedVoxels:
    kept_places = [place[part.kept] for part, place in zip(parts, places, strict=True)]
    by_contrast = zip(*(part.estimates for part in parts), strict=True)
    counts = [np.full(len(place), count) for place, count in zip(kept_places, n_subjects, strict=True)]
    return FittedVoxels(
        kept=join_voxels([part.kept for part in parts], places),
        estimates=tuple(_join_estimates(estimates, kept_places) for estimates in by_contrast),
        sphericity=_join_sphericity(parts),
        n_subjects=join_voxels(counts, kept_places),
    )


def _join_estimates(estimates: Sequence[Estimate], places: Sequence[Places]) -> Estimate:
    def join(name: str) -> NDArray[np.float64] | None:
        values = [getattr(one, name) for one in estimates]
        return None if any(value is None for value in values) else join_voxels(values, places)

    return Estimate(
        statistic=join_statistics([one.statistic for one in estimates], places),
        epsilon=join("epsilon"),
        spread=join("spread"),
        variance_ratio=join("variance_ratio"),
    )


def _join_sphericity(parts: Sequence[FittedVoxels]) -> SphericityEstimate | None:
    found = [part.sphericity for part in parts if part.sphericity is not None]
    return replace(found[0], epsilon=np.concatenate([one.epsilon for one in found])) if found else None
