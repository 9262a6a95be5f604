"""What stands on disk of a finished analysis, read into frozen records: the report is made from these alone.

    RunRecord            logs/model-<Model>_provenance.json
    └── NodeRecord       node-<Node>/: inputs.tsv, results.tsv
        └── ModelRecord  [contrast-<In>_]model.json, one per input contrast under GroupBy ["contrast"]
            └── ContrastRecord
                └── InferenceRecord, with its figures and its table of clusters

Names are taken from the records, never parsed. Every link is relative to the output folder, where the report stands.
"""

import base64
import io
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from PIL import Image

from bids_group.errors import DataError, MissingInputError
from bids_group.outputs import naming
from bids_group.report.sources import Sources, read_sources

PICTURE_QUALITY, PICTURE_EFFORT = 80, 2  # of WebP: little to be seen of the loss, in a hundredth of a second
HEAVY_FIGURE = "clusters"  # stands in the page once for a contrast; the files hold those of the other corrections
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
FIGURE_COLUMN = "figure"  # of comparisons.tsv
INCLUDED_COLUMN = "included"  # of inputs.tsv
INCLUDED = "yes"  # what stands there for a map that was analysed
MISSING = "n/a"


@dataclass(frozen=True)
class StoredFile:
    """A file of the analysis: its name in its node's folder, and the link to it."""

    name: str
    href: str


@dataclass(frozen=True)
class StoredFigure:
    """A PNG file, and its picture ready to stand inside the report; width and height in pixels.

    The `vector` is the SVG file beside it; None where there is none.
    """

    file: StoredFile
    vector: StoredFile | None
    data_uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Table:
    """A tab-separated file, every cell as it is written there."""

    file: StoredFile
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Peak:
    """The largest absolute statistic among the survivors, where it is (mm), and in which region, by atlas."""

    value: float
    xyz: tuple[float, ...]
    labels: Mapping[str, str | None]


@dataclass(frozen=True)
class InferenceRecord:
    """One correction of one contrast. `tail` is None for F, `threshold` and what is not of this correction likewise.

    The thresholds of the contrasts of a conjunction are in `conjoined`.
    """

    label: str
    correction: str
    alpha: float
    tail: str | None
    threshold: float | None
    threshold_unit: str
    threshold_z: float | None
    cluster_extent: int
    cluster_threshold: float | None
    cluster_forming: Mapping[str, float] | None
    permutation: Mapping[str, Any] | None
    smoothness_fwhm: tuple[float | None, ...] | None
    resels: float | None
    removed_clusters: int
    removed_voxels: int
    n_voxels: int
    n_clusters: int
    peak: Peak | None
    files: Mapping[str, StoredFile]
    figures: Mapping[str, StoredFigure]
    clusters: Table | None
    conjoined: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class ContrastRecord:
    """One contrast, or a conjunction of those `conjoined` (labels): `test` is ``t`` or ``F`` (``z``: of a conjunction),
    `dof` has one value or two (none), before any epsilon; weights not 0 by row.

    The `headline` is the label of the correction that the figures of the whole contrast show survivors of; None where
    nothing survived any.
    """

    label: str
    name: str
    test: str
    dof: tuple[float, ...]
    median_epsilon: float | None
    variance_ratio: float | None
    weights: tuple[Mapping[str, float], ...]
    maps: Mapping[str, StoredFile]
    headline: str | None
    figures: Mapping[str, StoredFigure]
    inferences: tuple[InferenceRecord, ...]
    conjoined: tuple[str, ...] = ()


@dataclass(frozen=True)
class DesignRecord:
    """The design matrix in numbers, its file and its picture; of columns of zeros and ones their sums."""

    file: StoredFile
    figure: StoredFigure | None
    columns: tuple[str, ...]
    n_rows: int
    rank: int
    residual_dof: float
    dependent_columns: tuple[str, ...]
    indicators: Mapping[str, int]


@dataclass(frozen=True)
class MaskRecord:
    """The analysis mask; sizes in mm and mL."""

    file: StoredFile
    figure: StoredFigure | None
    n_voxels: int
    voxel_size: tuple[float, ...]
    volume: float
    source: str
    n_missing: int
    n_constant: int
    min_coverage: float
    n_partly: int
    untestable: Mapping[str, int]


@dataclass(frozen=True)
class QualityRecord:
    """What was measured of each map, in a table and a picture, and how many maps are flagged."""

    table: Table
    figure: StoredFigure
    n_flagged: int


@dataclass(frozen=True)
class RegionRecord:
    """The tests in regions of interest: tables, how many regions and drawn ones, how they were tested, by contrast."""

    table: Table
    means: StoredFile
    n_regions: int
    n_tested: int
    n_shown: int
    alpha: float
    tail: str
    sources: tuple[Mapping[str, Any], ...]
    permutation: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ModelRecord:
    """One fitted model."""

    node: str
    input_contrast: str | None
    entities: Mapping[str, str]
    n_maps: int
    subjects: tuple[str, ...]
    n_excluded: int
    error_term: str | None
    terms: tuple[str, ...]
    formula: str | None
    blocks: tuple[str, ...]
    transformations: tuple[Mapping[str, Any], ...]
    combinations: tuple[Mapping[str, Any], ...]
    design: DesignRecord
    weights_file: StoredFile
    weights_figure: StoredFigure | None
    mask: MaskRecord
    quality: QualityRecord | None
    figures: Mapping[str, StoredFigure]
    connectivity: int
    atlases: tuple[str, ...]
    atlas_names: tuple[str, ...]
    atlas_package: Mapping[str, str]
    sphericity: str
    smoothing_fwhm: float
    variance_groups: str | None
    heterogeneity: str | None
    pooled_epsilon: float | None
    warnings: tuple[str, ...]
    contrasts: tuple[ContrastRecord, ...]
    regions: RegionRecord | None
    file: StoredFile
    conjunctions: tuple[ContrastRecord, ...] = ()

    @property
    def results(self) -> tuple[ContrastRecord, ...]:
        """Return everything that was tested: the contrasts, then their conjunctions."""
        return (*self.contrasts, *self.conjunctions)


@dataclass(frozen=True)
class NodeRecord:
    """A node's folder: its models, the inputs they share, all their results, and how these overlap."""

    name: str
    folder: str
    inputs: Table
    results: Table
    models: tuple[ModelRecord, ...]
    comparisons: Table | None = None
    comparison_figures: Mapping[str, StoredFigure] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """How a model was run, and everything it made."""

    model: str
    description: str | None
    version: str
    command: tuple[str, ...]
    python: str
    packages: Mapping[str, str]
    datasets: Mapping[str, str]
    sources: Sources
    warnings: tuple[str, ...]
    nodes: tuple[NodeRecord, ...]
    files: tuple[StoredFile, ...]
    record_file: StoredFile


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
    folder = _Folder(output_dir, "")
    name = naming.provenance_name(model)
    record = folder.read_json(name)
    with _name_missing_key(output_dir / name):
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


@contextmanager
def _name_missing_key(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise DataError(f"{path}: the key {error} is missing; run the analysis again to rewrite it") from error


class _Folder:
    """A folder whose files are read and linked to."""

    def __init__(self, output_dir: Path, name: str) -> None:
        self._output_dir = output_dir
        self._name = name

    def path(self, name: str) -> Path:
        path = self._output_dir / self._name / name
        if not path.is_file():
            raise MissingInputError(
                f"{path} is not there, but the report needs it; run the analysis again to rewrite it"
            )
        return path

    def refer(self, name: str) -> StoredFile:
        return StoredFile(name, quote(f"{self._name}/{name}" if self._name else name))

    def refer_all(self, names: Mapping[str, str | None]) -> dict[str, StoredFile]:
        return {kind: self.refer(name) for kind, name in names.items() if name is not None}

    def refer_existing(self, *names: str) -> tuple[StoredFile, ...]:
        return tuple(self.refer(name) for name in names if (self._output_dir / self._name / name).is_file())

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.path(name)
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not JSON ({error}); run the analysis again to rewrite it") from error
        return record

    def read_table(self, name: str) -> Table:
        frame = pd.read_csv(self.path(name), sep="\t", dtype=str, keep_default_na=False)
        rows = tuple(tuple(row) for row in frame.itertuples(index=False, name=None))
        return Table(self.refer(name), tuple(frame.columns), rows)

    def read_figure(self, name: str) -> StoredFigure:
        path = self.path(name)
        data = path.read_bytes()
        if not data.startswith(PNG_SIGNATURE):
            raise DataError(f"{path} is not a PNG file; run the analysis again to rewrite it")
        width, height = struct.unpack(">II", data[16:24])  # of the IHDR chunk, which always comes first
        (vector,) = self.refer_existing(naming.vector_name(name)) or (None,)
        return StoredFigure(self.refer(name), vector, _embed(path, data), width, height)

    def read_figures(self, names: Mapping[str, str | None]) -> dict[str, StoredFigure]:
        return {kind: self.read_figure(name) for kind, name in names.items() if name is not None}


def _embed(path: Path, png: bytes) -> str:
    """Return a picture as text that can stand in the report: a fifth of the PNG file, which the report links to."""
    picture = io.BytesIO()
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.convert("RGB").save(picture, "WEBP", quality=PICTURE_QUALITY, method=PICTURE_EFFORT)
    except (OSError, SyntaxError) as error:  # what Pillow raises of damaged files
        raise DataError(f"{path} is damaged ({error}); run the analysis again to rewrite it") from error
    return "data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode("ascii")


def _collect_node(output_dir: Path, node: Mapping[str, Any]) -> NodeRecord:
    folder = _Folder(output_dir, node["Folder"])
    models = []
    for name in node["Models"]:
        record = folder.read_json(name)
        with _name_missing_key(folder.path(name)):
            models.append(_collect_model(folder, name, record))
    comparisons = folder.read_table(naming.COMPARISONS) if folder.refer_existing(naming.COMPARISONS) else None
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


def _collect_model(folder: _Folder, name: str, record: Mapping[str, Any]) -> ModelRecord:
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


def _read_optional(folder: _Folder, name: str | None) -> StoredFigure | None:
    return None if name is None else folder.read_figure(name)


def _collect_design(folder: _Folder, record: Mapping[str, Any]) -> DesignRecord:
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


def _collect_mask(folder: _Folder, record: Mapping[str, Any]) -> MaskRecord:
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


def _collect_quality(folder: _Folder, record: Mapping[str, Any] | None) -> QualityRecord | None:
    if record is None:
        return None
    return QualityRecord(folder.read_table(record["File"]), folder.read_figure(record["Figure"]), record["Flagged"])


def _collect_regions(folder: _Folder, record: Mapping[str, Any] | None) -> RegionRecord | None:
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


def _collect_contrast(folder: _Folder, record: Mapping[str, Any]) -> ContrastRecord:
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


def _collect_inference(folder: _Folder, record: Mapping[str, Any], *, is_headline: bool) -> InferenceRecord:
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
        clusters=folder.read_table(files["clusters"]) if files.get("clusters") else None,
        conjoined=tuple(record.get("ConjoinedThresholds", ())),
    )
