"""One model from its maps to its results: where the rooms `inputs` and `stats` meet."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.analysis.conjoining import conjoin_contrasts
from bids_group.analysis.fitting import FittedModel
from bids_group.analysis.permuting import Resources, TestedContrast, permute_contrast
from bids_group.analysis.picturing import picture_inputs
from bids_group.analysis.presumptions import (
    find_error_warnings,
    find_presumption_warnings,
    find_smoothness_warnings,
)
from bids_group.errors import SpecError
from bids_group.inputs.datasets import Dataset, name_source
from bids_group.inputs.entries import selects
from bids_group.inputs.images import AnalysedVoxels, read_mask
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.loading import GroupData, load_group
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan, NodePlan
from bids_group.inputs.storage import Allocate
from bids_group.inputs.study import list_map_paths
from bids_group.outputs.naming import ModelNames
from bids_group.outputs.quality import find_quality_warnings
from bids_group.outputs.region_results import RegionResult
from bids_group.outputs.results import ContrastResult, ContrastTest, InferenceResult, ModelResult, SubjectViews
from bids_group.stats.correct import infer
from bids_group.vocabulary import Connectivity

MOST_NAMED = 6  # regions in a warning
# A map that lacks more than this share of the analysed voxels deserves a look.
LARGE_LOSS = 0.1


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
    given = read_mask(masks, grid, list_map_paths(model)[0]) if masks else None
    return load_group(
        list(model.rows["source"]),
        grid,
        given_mask=given,
        min_coverage=plan.node.settings.min_coverage,
        smoothing_fwhm=plan.node.settings.smoothing_fwhm,
        with_variances=plan.node.model_type == "meta",
        n_threads=n_threads,
        allocate=allocate,
        report_progress=report_progress,
    )


def infer_contrasts(
    plan: NodePlan, model: ModelPlan, fitted: FittedModel, data: GroupData, resources: Resources
) -> tuple[ContrastResult, ...]:
    """Correct each contrast's statistic in every way that is asked for."""
    settings = plan.node.settings
    results = []
    for index, (contrast, test) in enumerate(zip(model.contrasts, fitted.tests, strict=True)):
        tested = TestedContrast(plan, model, index, test, data, fitted.voxels)
        inferences: list[InferenceResult] = []
        for entry in (entry for entry in settings.inference if selects(entry, contrast)):
            if entry.permutation is not None:
                inferences += permute_contrast(tested, entry, resources)
            else:
                inferences.append(_correct(entry, test, fitted.voxels.mask, settings.connectivity))
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
    data: GroupData,
    contrasts: tuple[ContrastResult, ...],
    *,
    masks: tuple[Path, ...],
    datasets: tuple[Dataset, ...],
    regions: RegionResult | None = None,
    subject_maps: SubjectViews | None = None,
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
        mask_sources={name_source(path, datasets): path for path in masks},
        contrasts=contrasts,
        error_term=model.error_term,
        dof=model.dof,
        epsilon=fitted.epsilon,
        warnings=(
            *model.warnings,
            *_find_data_warnings(model, fitted.voxels),
            *find_quality_warnings(fitted.quality),
            *find_error_warnings(contrasts, fitted.epsilon),
            *find_smoothness_warnings(contrasts),
            *find_presumption_warnings(plan, model, data, fitted.voxels.mask[data.voxels.mask]),
            *_find_meta_warnings(contrasts),
            *_find_space_warnings(plan, model),
            *_find_region_warnings(regions),
        ),
        pictures=picture_inputs(model, data, fitted, contrasts, subject_maps=subject_maps),
        conjunctions=conjoin_contrasts(model, contrasts, fitted.voxels.mask),
        regions=regions,
    )


def _find_meta_warnings(contrasts: tuple[ContrastResult, ...]) -> list[str]:
    """Say where the variance between subjects could not be found."""
    counts = [one.test.heterogeneous.n_voxels_not_converged for one in contrasts if one.test.heterogeneous is not None]
    if not counts or counts[0] == 0:
        return []
    return [f"in {counts[0]} voxels the search for the variance between subjects did not end; the last value is taken"]


def _find_space_warnings(plan: NodePlan, model: ModelPlan) -> list[str]:
    """Say that peaks have no labels where the maps are in another space than the atlases."""
    names = ModelNames(model.entities, model.input_contrast)
    if not plan.node.settings.atlases or names.is_in_mni_space:
        return []
    return [
        f"the maps are in the space {model.entities['space']} and the atlases in that of MNI, so that peaks and "
        'clusters have no labels; leave them out with "Atlases": []'
    ]


def _find_region_warnings(regions: RegionResult | None) -> list[str]:
    """Say which regions of interest are not tested."""
    if regions is None or not regions.reasons:
        return []
    names = [regions.located.regions[i].name for i in regions.reasons]
    listed = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    total = len(regions.located.regions)
    return [f"{len(names)} of {total} regions of interest are not tested (the table says why): {listed}"]


def _find_data_warnings(model: ModelPlan, voxels: AnalysedVoxels) -> list[str]:
    """Say which voxels were left out, and which map cost the most."""
    warnings = []
    worst = int(np.argmax(voxels.missing))
    subject = f"sub-{model.rows['subject'].iloc[worst]} ({model.rows['contrast'].iloc[worst]})"
    n_analysed = int(voxels.mask.sum()) + voxels.n_voxels_constant + sum(voxels.untestable.values())
    is_partial = voxels.min_coverage < 1
    if voxels.n_voxels_missing:
        who = "too many maps lack" if is_partial else "a map lacks"
        warnings.append(
            f"{voxels.n_voxels_missing} of the {n_analysed + voxels.n_voxels_missing} voxels of the mask are left out "
            f"because {who} them; {subject} lacks the most, {voxels.missing[worst]}"
        )
    elif voxels.missing[worst] > LARGE_LOSS * n_analysed:
        effect = "it has no part in what is tested there" if is_partial else "it narrows the analysis mask"
        warnings.append(f"{subject} lacks {voxels.missing[worst]} voxels that the fullest map has; {effect}")
    for reason, count in voxels.untestable.items():
        warnings.append(f"{count} of the {n_analysed} voxels with enough maps are left out: {reason}")
    if voxels.n_voxels_constant:
        warnings.append(f"{voxels.n_voxels_constant} voxels without residual variance are left out")
    return warnings
