"""The frozen records that the report is made from.

RunRecord            logs/model-<Model>_provenance.json
└── NodeRecord       node-<Node>/: inputs.tsv, results.tsv
    └── ModelRecord  [contrast-<In>_]model.json, one per input contrast under GroupBy ["contrast"]
        └── ContrastRecord
            └── InferenceRecord, with its figures and its table of clusters
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bids_group.report.folder import StoredFigure, StoredFile, Table
from bids_group.report.record_types import Checked
from bids_group.report.sources import Sources

MISSING = "n/a"


@dataclass(frozen=True)
class Peak(Checked):
    """The largest absolute statistic among the survivors, where it is (mm), and in which region, by atlas."""

    value: float
    xyz: tuple[float, ...]
    labels: Mapping[str, str | None]


@dataclass(frozen=True)
class InferenceRecord(Checked):
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
class ContrastRecord(Checked):
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
class DesignRecord(Checked):
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
class MaskRecord(Checked):
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
class QualityRecord(Checked):
    """What was measured of each map, in a table and a picture, and how many maps are flagged."""

    table: Table
    figure: StoredFigure
    n_flagged: int


@dataclass(frozen=True)
class RegionRecord(Checked):
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
class ModelRecord(Checked):
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
    subject_maps: Mapping[str, Any] | None
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
class NodeRecord(Checked):
    """A node's folder: its models, the inputs they share, all their results, and how these overlap."""

    name: str
    folder: str
    inputs: Table
    results: Table
    models: tuple[ModelRecord, ...]
    comparisons: Table | None = None
    comparison_figures: Mapping[str, StoredFigure] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord(Checked):
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
