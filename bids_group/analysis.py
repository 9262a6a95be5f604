"""One model from its maps to its results: where the rooms `inputs` and `stats` meet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import DataError
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.images import AnalysedVoxels, GroupData, load_group, read_mask
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan, NodePlan, selects
from bids_group.inputs.settings import InferenceSpec
from bids_group.inputs.storage import Allocate
from bids_group.inputs.study import list_map_paths
from bids_group.outputs.naming import ModelNames
from bids_group.outputs.results import ContrastResult, InferenceResult, ModelResult
from bids_group.stats.correct import infer
from bids_group.stats.glm import Fit, Statistic, compute_statistic, fit_glm
from bids_group.vocabulary import Connectivity

# A map that lacks more than this share of the analysed voxels deserves a look.
LARGE_LOSS = 0.1


def load_maps(
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
        paths, grid, given_mask=given, n_threads=n_threads, allocate=allocate, report_progress=report_progress
    )


@dataclass(frozen=True)
class FittedModel:
    """A fit, and the voxels it is of.

    Attributes
    ----------
    voxels : AnalysedVoxels
    fit : Fit
    mean_effect : ndarray of float64, shape (n_voxels,)
        The mean over all maps.
    """

    voxels: AnalysedVoxels
    fit: Fit
    mean_effect: NDArray[np.float64]


def fit_model(model: ModelPlan, data: GroupData) -> FittedModel:
    """Fit the design, and leave out the voxels whose residual variance is rounding only.

    Raises
    ------
    DataError
        If no voxel is left.
    """
    weights = [contrast.weights for contrast in model.contrasts]
    fit = fit_glm(data.effects, model.design.matrix.to_numpy(), weights)
    mean_effect = data.effects.mean(axis=0, dtype=np.float64)
    fitted = ~fit.find_unfitted()
    if not fitted.any():
        raise DataError(
            f"{model.rows['path'].iloc[0]} and the others: no voxel has residual variance; are the maps copies?"
        )
    if fitted.all():
        return FittedModel(data.voxels, fit, mean_effect)
    return FittedModel(data.voxels.leave_out_constant(fitted), fit.restrict(fitted), mean_effect[fitted])


def infer_contrasts(plan: NodePlan, model: ModelPlan, fitted: FittedModel) -> tuple[ContrastResult, ...]:
    """Compute each contrast's statistic and every correction that is asked for."""
    return tuple(
        _infer_contrast(plan, contrast, fitted.voxels.mask, compute_statistic(fitted.fit, i, contrast.test))
        for i, contrast in enumerate(model.contrasts)
    )


def _infer_contrast(
    plan: NodePlan, contrast: Contrast, mask: NDArray[np.bool_], statistic: Statistic
) -> ContrastResult:
    settings = plan.node.settings
    entries = [entry for entry in settings.inference if selects(entry, contrast)]
    inferences = [_correct(entry, statistic, mask, settings.connectivity) for entry in entries]
    return ContrastResult(contrast, statistic, tuple(inferences))


def _correct(
    entry: InferenceSpec, statistic: Statistic, mask: NDArray[np.bool_], connectivity: Connectivity
) -> InferenceResult:
    found = infer(
        statistic,
        mask,
        correction=entry.correction,
        alpha=entry.alpha,
        tail=None if statistic.test == "F" else entry.tail,
        cluster_extent=entry.cluster_extent,
        connectivity=connectivity,
    )
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
        mask_sources={_name_source(path, datasets): path for path in masks},
        contrasts=contrasts,
        warnings=(*model.warnings, *_find_data_warnings(model, fitted.voxels)),
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


def _name_source(path: Path, datasets: tuple[Dataset, ...]) -> str:
    """Return a file's BIDS URI where a dataset has it, else its address."""
    for dataset in datasets:
        if dataset.path in path.absolute().parents:
            return dataset.uri(path.absolute())
    return path.absolute().as_uri()
