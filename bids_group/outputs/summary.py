"""The machine-readable summary of a model, from which the report is made, and the record of how it was run."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.design import DesignMatrix
from bids_group.inputs.map_sources import MapFile, MapSource, list_weights
from bids_group.outputs.atlases import PACKAGE, describe_licences
from bids_group.outputs.peak_effects import has_peak_panels, list_shown_regions
from bids_group.outputs.permutation_sidecars import describe_permutation
from bids_group.outputs.quality import count_flagged
from bids_group.outputs.region_results import RegionResult
from bids_group.outputs.results import (
    ContrastResult,
    InferenceResult,
    ModelResult,
    SubjectViews,
    choose_headline,
    list_statmaps,
    name_inference_files,
)
from bids_group.outputs.sidecars import describe_conjoined, describe_mask_rule, none_if_nan
from bids_group.outputs.tables import MISSING, find_peak, label_voxels, to_millimetres

WEIGHT_DECIMALS = 9  # what rounding leaves of sums that are equal


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
        "ExchangeabilityBlocks": list(node.settings.exchangeability_blocks),
        "Transformations": [{"Name": one.name, "Input": list(one.inputs)} for one in node.instructions],
        "Combinations": _summarise_combinations(model),
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
        "Figures": {kind: model.names.design_figure(kind) for kind in list_input_figures(model)},
        "SubjectMaps": _summarise_subject_maps(model.pictures.subject_maps),
        "Connectivity": node.settings.connectivity,
        "Atlases": describe_licences(node.settings.atlases) if model.is_in_mni_space else [],
        "AtlasNames": list(node.settings.atlases) if model.is_in_mni_space else [],
        "AtlasPackage": {"Name": PACKAGE, "Version": metadata.version(PACKAGE)},
        "Warnings": list(model.warnings),
        "Contrasts": [_summarise_contrast(model, result) for result in model.contrasts],
        "Conjunctions": [_summarise_contrast(model, result) for result in model.conjunctions],
        "ROIs": None if model.regions is None else _summarise_regions(model, model.regions),
    }


def _summarise_subject_maps(shown: SubjectViews | None) -> dict[str, Any] | None:
    if shown is None:
        return None
    return {"Title": shown.title, "Unit": shown.unit, "Subjects": shown.n_subjects, "WithoutMap": shown.without_map}


def _summarise_regions(model: ModelResult, found: RegionResult) -> dict[str, Any]:
    return {
        "File": model.names.regions,
        "MeansFile": model.names.region_means,
        "Regions": len(found.located.regions),
        "Tested": len(found.tested),
        "Shown": len(list_shown_regions(model)),
        "Alpha": found.alpha,
        "Tail": found.tail,
        "Sources": [dict(source) for source in found.located.sources],
        "Permutation": {one.contrast.label: dict(one.permutation) for one in found.tests if one.permutation},
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
        "Indicators": _count_indicators(model.design),
    }


def _count_indicators(design: DesignMatrix) -> dict[str, int]:
    """Return how many maps each column of zeros and ones is about; constants are no indicators."""
    matrix = design.matrix
    return {str(name): int(matrix[name].sum()) for name in matrix if set(matrix[name].unique()) == {0.0, 1.0}}


def _summarise_combinations(model: ModelResult) -> list[dict[str, Any]]:
    """Return what the maps of each contrast were combined from before; nothing where all are files."""
    if all(isinstance(source, MapFile) for source in model.rows["source"]):
        return []
    return [
        {"Contrast": name, **_summarise_parts(list(rows["source"]))}
        for name, rows in model.rows.groupby("contrast", sort=True)
    ]


def _summarise_parts(sources: Sequence[MapSource]) -> dict[str, Any]:
    """Return how many files maps are made of, and the sum of their weights by contrast where all maps agree."""
    parts = [list(list_weights(source)) for source in sources]
    sums = []
    for part in parts:
        weights: dict[str, float] = {}
        for file, weight in part:
            name = file.entities.get("contrast") or file.entities.get("desc") or MISSING
            weights[name] = weights.get(name, 0.0) + weight
        sums.append({name: round(weight, WEIGHT_DECIMALS) for name, weight in sorted(weights.items())})
    is_weighted = any(np.isnan(weight) for one in sums for weight in one.values())
    return {
        "Maps": len(sources),
        "FewestFiles": min(len(part) for part in parts),
        "MostFiles": max(len(part) for part in parts),
        "ByVariance": is_weighted,
        "Weights": sums[0] if not is_weighted and all(one == sums[0] for one in sums) else None,
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
        "Weights": [
            {c: float(w) for c, w in zip(model.design.columns, row, strict=True) if w} for row in contrast.weights
        ],
        "Conjoined": [one.contrast.label for one in result.conjoined],
        "Maps": {stat: model.names.statmap(contrast.label, stat) for stat in list_statmaps(result)},
        "Headline": None if (headline := choose_headline(result)) is None else headline.label,
        "Figures": {
            kind: model.names.contrast_figure(contrast.label, kind) for kind in list_contrast_figures(model, result)
        },
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
        **describe_conjoined(result, entry),
        "ClusterExtent": found.cluster_extent,
        "ClusterThreshold": found.cluster_threshold,
        "ClusterForming": _name_cluster_forming(entry),
        "Permutation": describe_permutation(entry) or None,
        "SmoothnessFwhmMm": _list_fwhm(result) if found.correction == "rft" else None,
        "Resels": _count_resels(result) if found.correction == "rft" else None,
        "RemovedClusters": found.clusters.n_removed_clusters,
        "RemovedVoxels": found.clusters.n_removed_voxels,
        "Voxels": int(found.survives.sum()),
        "Clusters": len(found.clusters.peak),
        "Peak": _summarise_peak(model, result, entry),
        "Files": name_inference_files(names, result, entry),
        "Figures": {kind: names.figure(label, entry.label, kind) for kind in list_result_figures(model, entry)},
    }


def _name_cluster_forming(entry: InferenceResult) -> dict[str, float] | None:
    """Return the cluster-forming threshold as it was asked for, in its unit."""
    if entry.inference.cluster_threshold is None:
        return None
    unit, value = entry.spec.cluster_forming
    return {unit: value}


def _count_resels(result: ContrastResult) -> float | None:
    """Return the resels that the search volume has."""
    smoothness = result.test.smoothness
    return None if smoothness is None else round(float(smoothness.resels[-1]), 1)


def _list_fwhm(result: ContrastResult) -> list[float | None] | None:
    smoothness = result.test.smoothness
    return (
        None
        if smoothness is None
        else [round(float(value), 2) if np.isfinite(value) else None for value in smoothness.fwhm_mm]
    )


def list_result_figures(model: ModelResult, entry: InferenceResult) -> tuple[str, ...]:
    """Return the kinds of figures of one correction; the glass brain and the cortex have the shape of MNI space."""
    has_survivors = len(entry.inference.clusters.peak) > 0
    return (
        "ortho",
        *(("glassbrain",) if model.is_in_mni_space else ()),
        *(("surface",) if model.is_in_mni_space and has_survivors else ()),
        *(("clusters",) if has_survivors else ()),
    )


def list_input_figures(model: ModelResult) -> tuple[str, ...]:
    """Return the kinds of figures of the inputs and the design that not every model has, or that show the maps."""
    return (
        "spread",
        "subjects",
        *(("subjectmaps",) if model.pictures.subject_maps is not None else ()),
        *(("coverage",) if model.pictures.n_maps is not None else ()),
        *(("correlation",) if len(list_varying_columns(model)) > 1 else ()),
        *(("rois",) if list_shown_regions(model) else ()),
    )


def list_varying_columns(model: ModelResult) -> list[str]:
    """Return the columns of the design that are not constant, between which there are correlations."""
    spread = np.ptp(model.design.matrix.to_numpy(), axis=0)
    return [str(name) for name, range_ in zip(model.design.columns, spread, strict=True) if range_ > 0]


def list_contrast_figures(model: ModelResult, result: ContrastResult) -> tuple[str, ...]:
    """Return the kinds of figures of a contrast that are of no single correction."""
    return (
        "mosaic",
        *(("surface",) if model.is_in_mni_space else ()),
        *(("effects",) if has_peak_panels(model, result) else ()),
        *(("null",) if list_null_distributions(result) else ()),
        *(("qq",) if not result.conjoined else ()),
    )


def list_null_distributions(result: ContrastResult) -> list[InferenceResult]:
    """Return the corrections of a contrast that have a null distribution."""
    facts = [(entry, entry.inference.permutation) for entry in result.inferences]
    return [entry for entry, one in facts if one is not None and one.null is not None]


def _summarise_peak(model: ModelResult, result: ContrastResult, entry: InferenceResult) -> dict[str, Any] | None:
    peak = find_peak(result, entry)
    if peak is None:
        return None
    return {
        "Value": float(result.statistic.value[peak]),
        "Xyz": to_millimetres(np.array([peak]), model)[0].tolist(),
        "Labels": {name: labels[0] for name, labels in label_voxels(model, np.array([peak])).items()},
    }
