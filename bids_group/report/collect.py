"""Read what stands on disk of a finished analysis into records. Names are taken from the records, never parsed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_group.outputs import naming
from bids_group.report.folder import Folder, StoredFigure, Table, name_missing_key
from bids_group.report.records import (
    MISSING,
    ContrastRecord,
    DesignRecord,
    InferenceRecord,
    MaskRecord,
    ModelRecord,
    NodeRecord,
    Peak,
    QualityRecord,
    RegionRecord,
    RunRecord,
)
from bids_group.report.sources import read_sources

HEAVY_FIGURE = "clusters"  # stands in the page once for a contrast; the files hold those of the other corrections
FIGURE_COLUMN = "figure"  # of comparisons.tsv
COMPARISON_COLUMNS = ("comparison", "contrast", "correction", "other_correction")
PEAK_COLUMN = "peak_value"  # of tables of clusters
INCLUDED_COLUMN = "included"  # of inputs.tsv
INCLUDED = "yes"  # what stands there for a map that was analysed


def collect_run(output_dir: Path, model: str) -> RunRecord:
    """Read everything that the report of a model is made from.

    Parameters
    ----------
    output_dir : Path
        The folder that the analysis was written to.
    model : str
        The model's name in its spec.

    Returns
    -------
    RunRecord

    Raises
    ------
    MissingInputError
        A file that the records name is not there.
    DataError
        A record does not parse, or lacks a key.
    """
    folder = Folder(output_dir, "")
    name = naming.provenance_name(model)
    record = folder.read_json(name)
    with name_missing_key(output_dir / name):
        return RunRecord(
            model=record["Model"],
            description=record.get("Description"),
            version=record["Version"],
            command=tuple(record["Command"]),
            python=record["Python"],
            packages=record["Packages"],
            datasets=record["Datasets"],
            sources=read_sources(record),
            warnings=tuple(record["Warnings"]),
            nodes=tuple(_collect_node(output_dir, node) for node in record["Nodes"]),
            files=(
                *folder.refer_existing(naming.spec_name(model), name, naming.log_name(model)),
                # Written from this record, so they cannot be there yet.
                *(folder.refer(naming.methods_name(model, extension)) for extension in ("md", "tex", "bib")),
            ),
            record_file=folder.refer(name),
        )


def _collect_node(output_dir: Path, node: Mapping[str, Any]) -> NodeRecord:
    folder = Folder(output_dir, node["Folder"])
    models = []
    for name in node["Models"]:
        record = folder.read_json(name)
        with name_missing_key(folder.path(name)):
            models.append(_collect_model(folder, name, record))
    compared = folder.refer_existing(naming.COMPARISONS)
    comparisons = folder.read_table(naming.COMPARISONS, *COMPARISON_COLUMNS) if compared else None
    return NodeRecord(
        name=node["Name"],
        folder=node["Folder"],
        inputs=folder.read_table(naming.INPUTS),
        results=folder.read_table(naming.RESULTS),
        models=tuple(models),
        comparisons=comparisons,
        comparison_figures={name: folder.read_figure(name) for name in _list_figures(comparisons)},
    )


def _list_figures(comparisons: Table | None) -> list[str]:
    """Return the names of the figures that a table of comparisons names."""
    if comparisons is None or FIGURE_COLUMN not in comparisons.columns:
        return []
    place = comparisons.columns.index(FIGURE_COLUMN)
    return [name for name in dict.fromkeys(row[place] for row in comparisons.rows) if name != MISSING]


def _collect_model(folder: Folder, name: str, record: Mapping[str, Any]) -> ModelRecord:
    weights = record["ContrastWeights"]
    return ModelRecord(
        node=record["Node"],
        input_contrast=record["InputContrast"],
        entities=record["Entities"],
        n_maps=record["Maps"],
        subjects=tuple(record["Subjects"]),
        n_excluded=record["Excluded"],
        error_term=record["ErrorTerm"],
        terms=tuple(str(term) for term in record["X"] or ()),
        formula=record["Formula"],
        blocks=tuple(record["ExchangeabilityBlocks"]),
        transformations=tuple(record["Transformations"]),
        combinations=tuple(record["Combinations"]),
        design=_collect_design(folder, record["Design"]),
        weights_file=folder.refer(weights["File"]),
        weights_figure=_read_optional(folder, weights.get("Figure")),
        mask=_collect_mask(folder, record["Mask"]),
        quality=_collect_quality(folder, record.get("Quality")),
        figures=folder.read_figures(record.get("Figures", {})),
        subject_maps=record.get("SubjectMaps"),
        connectivity=record["Connectivity"],
        atlases=tuple(record["Atlases"]),
        atlas_names=tuple(record["AtlasNames"]),
        atlas_package=record["AtlasPackage"],
        sphericity=record["Sphericity"],
        smoothing_fwhm=record["SmoothingFwhmMm"],
        variance_groups=record["VarianceGroups"],
        heterogeneity=record["Heterogeneity"],
        pooled_epsilon=record["PooledEpsilon"],
        warnings=tuple(record["Warnings"]),
        contrasts=tuple(_collect_contrast(folder, contrast) for contrast in record["Contrasts"]),
        regions=_collect_regions(folder, record.get("ROIs")),
        file=folder.refer(name),
        conjunctions=tuple(_collect_contrast(folder, one) for one in record.get("Conjunctions", ())),
    )


def _read_optional(folder: Folder, name: str | None) -> StoredFigure | None:
    return None if name is None else folder.read_figure(name)


def _collect_design(folder: Folder, record: Mapping[str, Any]) -> DesignRecord:
    return DesignRecord(
        file=folder.refer(record["File"]),
        figure=_read_optional(folder, record.get("Figure")),
        columns=tuple(record["Columns"]),
        n_rows=record["Rows"],
        rank=record["Rank"],
        residual_dof=record["ResidualDof"],
        dependent_columns=tuple(record["DependentColumns"]),
        indicators=record["Indicators"],
    )


def _collect_mask(folder: Folder, record: Mapping[str, Any]) -> MaskRecord:
    return MaskRecord(
        file=folder.refer(record["File"]),
        figure=_read_optional(folder, record.get("Figure")),
        n_voxels=record["Voxels"],
        voxel_size=tuple(record["VoxelSizeMm"]),
        volume=record["VolumeMl"],
        source=record["Source"],
        n_missing=record["VoxelsMissing"],
        n_constant=record["VoxelsConstant"],
        min_coverage=record["MinCoverage"],
        n_partly=record["VoxelsPartlyCovered"],
        untestable=record["VoxelsUntestable"],
    )


def _collect_quality(folder: Folder, record: Mapping[str, Any] | None) -> QualityRecord | None:
    if record is None:
        return None
    return QualityRecord(folder.read_table(record["File"]), folder.read_figure(record["Figure"]), record["Flagged"])


def _collect_regions(folder: Folder, record: Mapping[str, Any] | None) -> RegionRecord | None:
    if record is None:
        return None
    return RegionRecord(
        table=folder.read_table(record["File"]),
        means=folder.refer(record["MeansFile"]),
        n_regions=record["Regions"],
        n_tested=record["Tested"],
        n_shown=record["Shown"],
        alpha=record["Alpha"],
        tail=record["Tail"],
        sources=tuple(record["Sources"]),
        permutation=record["Permutation"],
    )


def _collect_contrast(folder: Folder, record: Mapping[str, Any]) -> ContrastRecord:
    return ContrastRecord(
        label=record["Label"],
        name=record["Name"],
        test=record["Test"],
        dof=tuple(record["Dof"]),
        median_epsilon=record["MedianEpsilon"],
        variance_ratio=record["VarianceRatio"],
        weights=tuple(record["Weights"]),
        maps=folder.refer_all(record["Maps"]),
        headline=record.get("Headline"),
        figures=folder.read_figures(record.get("Figures", {})),
        inferences=tuple(
            _collect_inference(folder, inference, is_headline=inference["Label"] == record.get("Headline"))
            for inference in record["Inferences"]
        ),
        conjoined=tuple(record.get("Conjoined", ())),
    )


def _collect_inference(folder: Folder, record: Mapping[str, Any], *, is_headline: bool) -> InferenceRecord:
    files, peak, figures = record["Files"], record["Peak"], dict(record["Figures"])
    if not is_headline and HEAVY_FIGURE in figures:
        files = {**files, "panels": figures.pop(HEAVY_FIGURE)}
    return InferenceRecord(
        label=record["Label"],
        correction=record["Correction"],
        alpha=record["Alpha"],
        tail=record["Tail"],
        threshold=record["Threshold"],
        threshold_unit=record["ThresholdUnit"],
        threshold_z=record["ThresholdZ"],
        cluster_extent=record["ClusterExtent"],
        cluster_threshold=record["ClusterThreshold"],
        cluster_forming=record["ClusterForming"],
        permutation=record.get("Permutation"),
        smoothness_fwhm=None if record["SmoothnessFwhmMm"] is None else tuple(record["SmoothnessFwhmMm"]),
        resels=record["Resels"],
        removed_clusters=record["RemovedClusters"],
        removed_voxels=record["RemovedVoxels"],
        n_voxels=record["Voxels"],
        n_clusters=record["Clusters"],
        peak=None if peak is None else Peak(peak["Value"], tuple(peak["Xyz"]), peak["Labels"]),
        files=folder.refer_all(files),
        figures=folder.read_figures(figures),
        clusters=folder.read_table(files["clusters"], PEAK_COLUMN) if files.get("clusters") else None,
        conjoined=tuple(record.get("ConjoinedThresholds", ())),
    )
