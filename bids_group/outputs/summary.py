"""The machine-readable summary of a model, from which the report is made, and the record of how it was run."""

from typing import Any

import numpy as np

from bids_group.inputs.contrasts import Contrast
from bids_group.outputs.atlases import describe_licences
from bids_group.outputs.permutation_sidecars import describe_permutation
from bids_group.outputs.quality import count_flagged
from bids_group.outputs.results import (
    ContrastResult,
    InferenceResult,
    ModelResult,
    list_statmaps,
    name_inference_files,
)
from bids_group.outputs.sidecars import describe_mask_rule, none_if_nan
from bids_group.outputs.tables import find_peak, label_voxels, to_millimetres

BRAIN_FIGURES = ("ortho", "glassbrain")


def summarise_model(model: ModelResult) -> dict[str, Any]:
    """Return everything that can be said of a model in numbers and names of files.

    Names of files are relative to the folder of the node.
    """
    node = model.node
    return {
        "Node": node.name,
        "InputContrast": model.names.input_contrast,
        "Entities": dict(model.names.entities),
        "Maps": len(model.rows),
        "Subjects": sorted(model.rows["subject"].unique()),
        "Excluded": model.n_excluded,
        "ErrorTerm": model.error_term,
        "Sphericity": node.settings.sphericity,
        "SmoothingFwhmMm": node.settings.smoothing_fwhm,
        "VarianceGroups": node.settings.variance_groups,
        "ModelType": node.model_type,
        "Heterogeneity": node.settings.heterogeneity if node.model_type == "meta" else None,
        "PooledEpsilon": model.epsilon,
        "X": list(node.terms) or None,
        "Formula": node.formula.text if node.formula else None,
        "Design": _summarise_design(model),
        "ContrastWeights": {"File": model.names.contrasts, "Figure": model.names.design_figure("contrasts")},
        "Mask": _summarise_mask(model),
        "Quality": {
            "File": model.names.quality,
            "Figure": model.names.design_figure("quality"),
            "Flagged": count_flagged(model.quality),
        },
        "Connectivity": node.settings.connectivity,
        "Atlases": describe_licences(node.settings.atlases) if model.is_in_mni_space else [],
        "Warnings": list(model.warnings),
        "Contrasts": [_summarise_contrast(model, result) for result in model.contrasts],
    }


def _summarise_design(model: ModelResult) -> dict[str, Any]:
    return {
        "File": model.names.design,
        "Figure": model.names.design_figure("design"),
        "Columns": model.design.columns,
        "Rows": len(model.rows),
        "Rank": model.design.rank,
        "ResidualDof": model.dof,
        "DependentColumns": list(model.design.dependent_columns),
    }


def _summarise_mask(model: ModelResult) -> dict[str, Any]:
    voxels = model.voxels
    n_voxels = int(voxels.mask.sum())
    return {
        "File": model.names.mask,
        "Figure": model.names.design_figure("mask"),
        "Voxels": n_voxels,
        "VoxelSizeMm": [round(size, 4) for size in voxels.grid.voxel_sizes],
        "VolumeMl": round(n_voxels * voxels.grid.voxel_volume / 1000, 3),
        "Source": describe_mask_rule(model),
        "MinCoverage": voxels.min_coverage,
        "VoxelsPartlyCovered": voxels.n_voxels_partly,
        "VoxelsMissing": voxels.n_voxels_missing,
        "VoxelsUntestable": dict(voxels.untestable),
        "VoxelsConstant": voxels.n_voxels_constant,
    }


def _summarise_contrast(model: ModelResult, result: ContrastResult) -> dict[str, Any]:
    contrast: Contrast = result.contrast
    return {
        "Label": contrast.label,
        "Name": contrast.name if model.names.input_contrast is None else contrast.label,
        "Test": contrast.test,
        "Dof": list(result.test.dof),
        "MedianEpsilon": result.test.median_epsilon,
        "VarianceRatio": result.test.variance_ratio,
        "Maps": {stat: model.names.statmap(contrast.label, stat) for stat in list_statmaps(result)},
        "Inferences": [_summarise_inference(model, result, entry) for entry in result.inferences],
    }


def _summarise_inference(model: ModelResult, result: ContrastResult, entry: InferenceResult) -> dict[str, Any]:
    found, names, label = entry.inference, model.names, result.contrast.label
    return {
        "Label": entry.label,
        "Correction": found.correction,
        "Alpha": found.alpha,
        "Tail": found.tail,
        "Threshold": none_if_nan(found.threshold),
        "ThresholdUnit": found.threshold_unit,
        "ThresholdZ": none_if_nan(found.threshold_z),
        "ClusterExtent": found.cluster_extent,
        "ClusterThreshold": found.cluster_threshold,
        "Permutation": describe_permutation(entry) or None,
        "SmoothnessFwhmMm": _list_fwhm(result) if found.correction == "rft" else None,
        "RemovedClusters": found.clusters.n_removed_clusters,
        "RemovedVoxels": found.clusters.n_removed_voxels,
        "Voxels": int(found.survives.sum()),
        "Clusters": len(found.clusters.peak),
        "Peak": _summarise_peak(model, result, entry),
        "Files": name_inference_files(names, result, entry),
        "Figures": {kind: names.figure(label, entry.label, kind) for kind in list_brain_figures(model)},
    }


def _list_fwhm(result: ContrastResult) -> list[float | None] | None:
    smoothness = result.test.smoothness
    return (
        None
        if smoothness is None
        else [round(float(value), 2) if np.isfinite(value) else None for value in smoothness.fwhm_mm]
    )


def list_brain_figures(model: ModelResult) -> tuple[str, ...]:
    """Return the kinds of brain figures of each result; a glass brain has the shape of MNI space."""
    return BRAIN_FIGURES if model.is_in_mni_space else BRAIN_FIGURES[:1]


def _summarise_peak(model: ModelResult, result: ContrastResult, entry: InferenceResult) -> dict[str, Any] | None:
    peak = find_peak(result, entry)
    if peak is None:
        return None
    return {
        "Value": float(result.statistic.value[peak]),
        "Xyz": to_millimetres(np.array([peak]), model)[0].tolist(),
        "Labels": {name: labels[0] for name, labels in label_voxels(model, np.array([peak])).items()},
    }
