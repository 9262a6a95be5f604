"""Every name the app writes, in one place.

Names are POSIX paths relative to OUTPUT_DIR (a dataset's files) or to a node's folder (a model's files).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bids_group.entities import ENTITY_SHORT_NAMES, to_label

LOGS = "logs"
DATASET_DESCRIPTION = "dataset_description.json"
BIDSIGNORE = ".bidsignore"
INPUTS = "inputs.tsv"
RESULTS = "results.tsv"
COMPARISONS = "comparisons.tsv"
OWN_URI = "bids::"  # BIDS URIs without a name are of the dataset itself
ALL_RECORDS = f"{LOGS}/model-*_provenance.json"  # what `provenance_name` names, of all models

# The label of each correction in file names and in results.tsv.
CORRECTION_LABELS = {"none": "uncorrected", "bonferroni": "bonferroni", "fdr": "fdr", "rft": "rft"}
# The labels of what a permutation test gives; where small p were read off a fitted tail, with TAIL_ENDING.
PERMUTATION_LABELS = {
    "voxel": "voxelFWE",
    "cluster-size": "clusterSizeFWE",
    "cluster-mass": "clusterMassFWE",
    "tfce": "tfceFWE",
    "uncorrected": "permUncorrected",
    "fdr": "permFDR",
}
NODE_FIGURES = ("subjectmaps",)  # the same for all models of a node


def report_name(model: str) -> str:
    """Return the name of a model's report."""
    return f"model-{to_label(model)}_report.html"


def spec_name(model: str) -> str:
    """Return the name of the copy of a model's spec."""
    return f"model-{to_label(model)}_smdl.json"


def provenance_name(model: str) -> str:
    """Return the name of the record of how a model was run."""
    return f"{LOGS}/model-{to_label(model)}_provenance.json"


def log_name(model: str) -> str:
    """Return the name of the log of a model's run."""
    return f"{LOGS}/model-{to_label(model)}_log.txt"


def methods_name(model: str, extension: str) -> str:
    """Return the name of a model's methods section: ``md``, ``tex``, or ``bib`` for what it cites."""
    return f"{LOGS}/model-{to_label(model)}_methods.{extension}"


def output_uri(name: str) -> str:
    """Return the BIDS URI of a file of this dataset."""
    return f"{OWN_URI}{name}"


def node_folder(node: str) -> str:
    """Return the folder of a node."""
    return f"node-{to_label(node)}"


@dataclass(frozen=True)
class ModelNames:
    """The names of one model's files in its node's folder.

    Attributes
    ----------
    entities : Mapping of str to str
        What all inputs of the model share, by pybids' long names.
    input_contrast : str or None
        The input contrast under ``GroupBy: ["contrast"]``.
    """

    entities: Mapping[str, str]
    input_contrast: str | None = None

    @property
    def is_in_mni_space(self) -> bool:
        """Return whether the maps say that they are in an MNI space, or say nothing."""
        space = self.entities.get("space")
        return space is None or space.startswith("MNI")

    def _prefix(self) -> str:
        return "" if self.input_contrast is None else f"contrast-{to_label(self.input_contrast)}_"

    def _shared(self) -> str:
        return "".join(
            f"{short}-{self.entities[long]}_"
            for long, short in ENTITY_SHORT_NAMES.items()
            if long in self.entities and long not in ("subject", "contrast", "desc", "stat")
        )

    def _contrast(self, contrast: str) -> str:
        return f"{self._shared()}contrast-{to_label(contrast)}_"

    @property
    def design(self) -> str:
        """Return the name of the design matrix."""
        return f"{self._prefix()}design.tsv"

    @property
    def contrasts(self) -> str:
        """Return the name of the table of contrast weights."""
        return f"{self._prefix()}contrasts.tsv"

    @property
    def quality(self) -> str:
        """Return the name of the table of the quality of the inputs."""
        return f"{self._prefix()}quality.tsv"

    @property
    def regions(self) -> str:
        """Return the name of the table of the tests in regions of interest."""
        return f"{self._shared()}{self._prefix()}roi.tsv"

    @property
    def region_means(self) -> str:
        """Return the name of the table of the mean of each map in regions of interest."""
        return f"{self._shared()}{self._prefix()}roimeans.tsv"

    @property
    def summary(self) -> str:
        """Return the name of the machine-readable summary that the report is made from."""
        return f"{self._prefix()}model.json"

    @property
    def mask(self) -> str:
        """Return the name of the analysis mask."""
        return f"{self._shared()}{self._prefix()}desc-analysis_mask.nii.gz"

    def statmap(self, contrast: str, stat: str, desc: str | None = None) -> str:
        """Return the name of a map of a contrast's statistic, whole or where it survives `desc`."""
        kind = f"stat-{stat}_" if desc is None else f"stat-{stat}_desc-{desc}_"
        return f"{self._contrast(contrast)}{kind}statmap.nii.gz"

    def dseg(self, contrast: str, desc: str) -> str:
        """Return the name of the map of cluster ids."""
        return f"{self._contrast(contrast)}desc-{desc}_dseg.nii.gz"

    def table(self, contrast: str, desc: str, kind: str) -> str:
        """Return the name of the table `kind` (``clusters``, ``peaks``)."""
        return f"{self._contrast(contrast)}desc-{desc}_{kind}.tsv"

    def design_figure(self, kind: str) -> str:
        """Return the name of a figure of the model (``design``, ``contrasts``, ``mask``, ``spread``) or its node."""
        return f"figures/{'' if kind in NODE_FIGURES else self._prefix()}{kind}.png"

    def contrast_figure(self, contrast: str, kind: str) -> str:
        """Return the name of a figure of a contrast (``mosaic``, ``surface``, ``effects``, ``null``, ``qq``)."""
        return f"figures/{self._contrast(contrast)}{kind}.png"

    def comparison_figure(self, contrast: str, other_node: str) -> str:
        """Return the name of the figure of a contrast in two nodes, this one and another."""
        return f"figures/{self._contrast(contrast)}desc-{to_label(other_node)}_comparison.png"

    def figure(self, contrast: str, desc: str, kind: str) -> str:
        """Return the name of a figure of one result (``ortho``, ``glassbrain``, ``surface``, ``clusters``)."""
        return f"figures/{self._contrast(contrast)}desc-{desc}_{kind}.png"


def sidecar_name(name: str) -> str:
    """Return the name of the JSON file beside a map or table."""
    return re.sub(r"\.(nii\.gz|tsv)$", "", name) + ".json"


def vector_name(name: str) -> str:
    """Return the name of the SVG file beside a figure's PNG file."""
    return name.removesuffix(".png") + ".svg"
