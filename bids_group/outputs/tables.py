"""The tables: inputs, design, contrasts, results, clusters and peaks."""

import csv
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.map_sources import MapFile, list_weights
from bids_group.outputs.atlas_labels import label_clusters, label_peaks
from bids_group.outputs.atlases import load_atlas
from bids_group.outputs.results import ContrastResult, InferenceResult, ModelResult
from bids_group.stats.clusters import ClusterSet, find_local_maxima

SUB_PEAK_DISTANCE_MM = 8.0  # as SPM lists local maxima
FLOAT_FORMAT = "%.10g"
MISSING = "n/a"
UNUSED_CHARACTER = "\x1f"  # white space to Python, so no cell holds it
RESULT_COLUMNS = (
    *("contrast", "test", "correction", "tail", "alpha", "threshold", "n_voxels", "n_clusters"),
    *("peak_value", "peak_x", "peak_y", "peak_z", "n_permutations", "exact", "threshold_z", "threshold_unit"),
    *("cluster_threshold", "cluster_extent", "dof_effect", "dof", "epsilon", "n_voxels_tested"),
)
WEIGHTED = ("contrast", "name", "test", "row")  # what contrasts.tsv says of weights besides themselves


def write_tsv(table: pd.DataFrame) -> bytes:
    """Return a table as BIDS writes it: tabs, a header, n/a, ten significant digits."""
    # What is no plain column of numbers: texts, and where pandas would write floats as they come.
    mixed = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    table = table.copy()
    for name in mixed:
        table[name] = pd.Series([_format_value(value) for value in table[name]], table.index, dtype=object)
    table.columns = pd.Index([_format_value(name) for name in table], dtype=object)
    text: str = table.to_csv(
        sep="\t",
        index=False,
        na_rep=MISSING,
        float_format=FLOAT_FORMAT,
        lineterminator="\n",
        quoting=csv.QUOTE_NONE,  # BIDS has no quotes around cells ...
        quotechar=UNUSED_CHARACTER,  # ... and csv would else want to escape those within
    )
    return text.encode()


def _format_value(value: object) -> object:
    if isinstance(value, str):
        return " ".join(value.split())  # a tab or line end would break the table
    return FLOAT_FORMAT % value if isinstance(value, float) and not np.isnan(value) else value


def list_inputs(rows: pd.DataFrame, excluded: pd.DataFrame) -> pd.DataFrame:
    """List every map that was found, in the design or not; of a combined map, each file that it is made of.

    Parameters
    ----------
    rows : DataFrame
        The maps of all models of a node, with `design_row` (from 0; of its own model under GroupBy) and
        `n_voxels_missing`.
    excluded : DataFrame
        The maps that are not analysed, with `reason`.

    Returns
    -------
    DataFrame
        Columns: design_row, the entities in use, file (BIDS URI), weight (of the file in the map of its row, only where
        maps are combined), included (yes or no), reason, n_voxels_missing.
    """
    included = _list_files(rows).assign(included="yes", reason=None)
    left_out = excluded.assign(included="no", design_row=None, n_voxels_missing=None)
    left_out = _list_files(left_out) if "source" in left_out else left_out
    table = pd.concat([included, left_out], ignore_index=True) if len(left_out) else included
    entities = [name for name in ENTITY_SHORT_NAMES if name in table and table[name].notna().any()]
    table = table.rename(columns={"uri": "file"})
    table["design_row"] = table["design_row"].astype("Int64")
    table["n_voxels_missing"] = table["n_voxels_missing"].astype("Int64")
    weight = ["weight"] if "weight" in table else []
    return table[["design_row", *entities, "file", *weight, "included", "reason", "n_voxels_missing"]]


def _list_files(rows: pd.DataFrame) -> pd.DataFrame:
    """Give each file of a combined map a line of its own, with the file's entities and its weight."""
    if all(isinstance(source, MapFile) for source in rows["source"]):
        return rows
    lines: list[dict[Any, Any]] = []
    for row in rows.to_dict("records"):
        for file, weight in list_weights(row["source"]):
            own = {name: file.entities.get(name) for name in ENTITY_SHORT_NAMES if name in row}
            contrast = own.get("contrast") or own.get("desc")
            lines.append({**row, **own, "contrast": contrast, "uri": file.uri, "weight": weight})
    return pd.DataFrame(lines)


def list_contrast_weights(contrasts: list[Contrast], columns: list[str]) -> pd.DataFrame:
    """List the weights of contrasts, one line per row of a contrast.

    Returns
    -------
    DataFrame
        Columns: contrast (label), name, test, row (from 0), then the design's columns; "weight of test" where a column
        of the design is called as one of the others.
    """
    lines = [
        (one.label, one.name, one.test, i, *row.tolist()) for one in contrasts for i, row in enumerate(one.weights)
    ]
    named = [f"weight of {name}" if name in WEIGHTED else name for name in columns]
    return pd.DataFrame(lines, columns=[*WEIGHTED, *named])


def to_millimetres(voxels: NDArray[np.integer], model: ModelResult) -> NDArray[np.float64]:
    """Turn indices of mask voxels into world coordinates.

    Parameters
    ----------
    voxels : ndarray of int, shape (n,)
        Positions among the voxels of the mask.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        In mm, rounded to a hundredth.
    """
    return np.round(_find_centres(model, np.argwhere(model.voxels.mask)[voxels]), 2) + 0.0  # no -0.0


def list_clusters(model: ModelResult, result: ContrastResult, inference: InferenceResult) -> pd.DataFrame:
    """List the surviving clusters, in the order of their ids.

    Returns
    -------
    DataFrame
        Columns: cluster_id, peak_x, peak_y, peak_z (mm), cluster_mean (of the statistic), volume_mm (cubic mm),
        peak_value, n_voxels, p_corrected (at the peak, as in the logp map); under random field theory also p_rft, the
        familywise p of the extent of the cluster above the cluster-forming threshold that each is in; then one per
        atlas, the regions that the cluster is in with their shares.
    """
    clusters, extent_p = inference.inference.clusters, inference.inference.extent_p
    return pd.DataFrame(
        {
            "cluster_id": np.arange(1, len(clusters.peak) + 1),
            **_coordinate_columns(clusters.peak, model),
            "cluster_mean": clusters.mean,
            "volume_mm": clusters.n_voxels * model.voxels.grid.voxel_volume,
            "peak_value": result.statistic.value[clusters.peak],
            "n_voxels": clusters.n_voxels,
            "p_corrected": 10.0 ** -inference.inference.logp[clusters.peak],
            **({} if extent_p is None else {"p_rft": extent_p}),
            **_label_clusters(model, clusters),
        }
    )


def list_peaks(model: ModelResult, result: ContrastResult, inference: InferenceResult) -> pd.DataFrame:
    """List the local maxima of the surviving clusters, at least 8 mm apart within one.

    Returns
    -------
    DataFrame
        Columns: cluster_id, peak_x, peak_y, peak_z (mm), peak_value, volume_mm (of the cluster, cubic mm), p_corrected,
        and one per atlas, the region that the peak is in.
    """
    clusters: ClusterSet = inference.inference.clusters
    ids, voxels = find_local_maxima(
        result.statistic.value,
        clusters,
        model.voxels.mask,
        model.voxels.grid.affine,
        min_distance_mm=SUB_PEAK_DISTANCE_MM,
    )
    return pd.DataFrame(
        {
            "cluster_id": ids,
            **_coordinate_columns(voxels, model),
            "peak_value": result.statistic.value[voxels],
            "volume_mm": clusters.n_voxels[ids - 1] * model.voxels.grid.voxel_volume,
            "p_corrected": 10.0 ** -inference.inference.logp[voxels],
            **label_voxels(model, voxels),
        }
    )


def label_voxels(model: ModelResult, voxels: NDArray[np.integer]) -> dict[str, list[str] | list[None]]:
    """Name the regions that voxels of the mask are in, by atlas; None where the maps are in no MNI space.

    Parameters
    ----------
    voxels : ndarray of int, shape (n,)
        Positions among the voxels of the mask.
    """
    if not len(voxels) or not model.is_in_mni_space:
        return {name: [None] * len(voxels) for name in model.node.settings.atlases}
    coordinates = _find_centres(model, np.argwhere(model.voxels.mask)[voxels])
    return {name: label_peaks(load_atlas(name), coordinates) for name in model.node.settings.atlases}


def _label_clusters(model: ModelResult, clusters: ClusterSet) -> dict[str, list[str] | list[None]]:
    """Name the regions of each cluster with their shares, by atlas; None where the maps are in no MNI space."""
    if not clusters.n_clusters or not model.is_in_mni_space:
        return {name: [None] * clusters.n_clusters for name in model.node.settings.atlases}
    marked = np.flatnonzero(clusters.labels)
    order = marked[np.argsort(clusters.labels[marked], kind="stable")]
    centres = _find_centres(model, np.argwhere(model.voxels.mask)[order])
    parts = np.split(centres, np.cumsum(clusters.n_voxels)[:-1])
    return {name: label_clusters(load_atlas(name), parts) for name in model.node.settings.atlases}


def _find_centres(model: ModelResult, indices: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the centres of voxels in mm, not rounded: a hundredth may lie on the other side of a border."""
    affine = model.voxels.grid.affine
    centres: NDArray[np.float64] = indices @ affine[:3, :3].T + affine[:3, 3]
    return centres


def list_null(inference: InferenceResult) -> pd.DataFrame:
    """List the maximum of the map of each rearrangement, the identity first.

    Returns
    -------
    DataFrame
        Columns: rearrangement (from 0), maximum.
    """
    facts = inference.inference.permutation
    assert facts is not None
    assert facts.null is not None  # of the levels that have a maximum
    return pd.DataFrame({"rearrangement": np.arange(facts.n), "maximum": facts.null})


def _coordinate_columns(voxels: NDArray[np.integer], model: ModelResult) -> dict[str, NDArray[np.float64]]:
    return dict(zip(("peak_x", "peak_y", "peak_z"), to_millimetres(voxels, model).T, strict=True))


def find_peak(result: ContrastResult, inference: InferenceResult) -> int | None:
    """Return the surviving voxel with the largest absolute statistic, or None where nothing survived."""
    peaks = inference.inference.clusters.peak
    return int(peaks[np.argmax(np.abs(result.statistic.value[peaks]))]) if len(peaks) else None


def list_results(model: ModelResult) -> pd.DataFrame:
    """List every contrast, conjunction and correction of a model.

    Returns
    -------
    DataFrame
        One row per contrast x correction; the columns of the interface, then cluster_extent (voxels), dof_effect, dof,
        epsilon (the median of what the dof are multiplied by) and n_voxels_tested. Missing values are None, so that
        the type of a column does not depend on the results.
    """
    rows = [_describe_result(model, result, inference) for result in model.results for inference in result.inferences]
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS), dtype=object)


def _describe_result(model: ModelResult, result: ContrastResult, inference: InferenceResult) -> dict[str, object]:
    found = inference.inference
    facts = found.permutation
    peak = find_peak(result, inference)
    xyz = [None] * 3 if peak is None else to_millimetres(np.array([peak]), model)[0]
    return {
        "contrast": result.contrast.label,
        "test": result.contrast.test,
        "correction": inference.label,
        "tail": found.tail,
        "alpha": found.alpha,
        "threshold": found.threshold,
        "n_voxels": int(found.survives.sum()),
        "n_clusters": len(found.clusters.peak),
        "peak_value": None if peak is None else result.statistic.value[peak],
        **dict(zip(("peak_x", "peak_y", "peak_z"), xyz, strict=True)),
        "n_permutations": None if facts is None else facts.n,
        "exact": None if facts is None else facts.exact,
        "threshold_z": found.threshold_z,
        "threshold_unit": found.threshold_unit,
        "cluster_threshold": found.cluster_threshold,
        "cluster_extent": found.cluster_extent,
        "dof_effect": {"t": 1.0, "F": next(iter(result.test.dof), None), "z": None}[result.contrast.test],
        "dof": next(reversed(result.test.dof), None),
        "epsilon": result.test.median_epsilon,
        "n_voxels_tested": len(result.statistic.value),
    }
