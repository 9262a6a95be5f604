"""OUTPUT_DIR as a BIDS derivative dataset: its description, and the tables that a node's models share."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bids_group import __version__
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.plan import NodePlan
from bids_group.inputs.spec import ModelSpec
from bids_group.inputs.study import Study
from bids_group.outputs.comparisons import COLUMN_TEXTS, KeptModel, Pair, keep_model, list_comparisons
from bids_group.outputs.naming import (
    BIDSIGNORE,
    COMPARISONS,
    DATASET_DESCRIPTION,
    INPUTS,
    RESULTS,
    node_folder,
    sidecar_name,
    spec_name,
)
from bids_group.outputs.ownership import link_datasets
from bids_group.outputs.results import ModelResult
from bids_group.outputs.staging import Staging
from bids_group.outputs.tables import list_inputs, list_results, write_tsv
from bids_group.vocabulary import APP_NAME

BIDS_VERSION = "1.10.0"
TEMPLATES = "templates"
# Statistical maps are not in BIDS yet (BEP041), nor are the names of a model's own files.
# A pattern that ends in a slash, or names what is in a folder, would not silence the folder itself.
BIDSIGNORE_LINES = ("/model-*_report.html", "/model-*_smdl.json", "/node-*")

# The image sets it to its own name; apptainer says by one of the others that it runs the image.
IMAGE_VARIABLE = "BIDS_GROUP_IMAGE"
APPTAINER_VARIABLES = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


def describe_generator(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the app's own entry in GeneratedBy, with the container that it runs in, if it runs in its image.

    Parameters
    ----------
    environment : Mapping of str to str
        The variables of the process.

    Returns
    -------
    dict
        Name and Version, and in a container its Type (``docker`` or ``apptainer``) and Tag.
    """
    generator: dict[str, Any] = {"Name": APP_NAME, "Version": __version__}
    image = environment.get(IMAGE_VARIABLE)
    if image:
        is_apptainer = any(variable in environment for variable in APPTAINER_VARIABLES)
        generator["Container"] = {"Type": "apptainer" if is_apptainer else "docker", "Tag": image}
    return generator


def describe_dataset(output_dir: Path, bids_dir: Path, spec: ModelSpec, datasets: Iterable[Dataset]) -> dict[str, Any]:
    """Return the content of dataset_description.json.

    Raises
    ------
    UsageError
        If a dataset's name stands for another folder in the results of another model.
    """
    links = link_datasets(output_dir, spec, datasets)
    sources = sorted({bids_dir.absolute().as_uri(), *links.values()})
    return {
        "Name": "Group-level results of bids_group",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [describe_generator(os.environ)],
        "SourceDatasets": [{"URL": uri} for uri in sources],
        "DatasetLinks": links,
    }


def template_name(kind: str) -> str:
    """Return the name of the spec of another model that fits the data."""
    return f"{TEMPLATES}/{kind}_smdl.json"


def write_dataset_files(staging: Staging, study: Study, bids_dir: Path) -> None:
    """Write the files of the dataset and of the model that stand above the nodes, and the templates."""
    staging.write_json(DATASET_DESCRIPTION, describe_dataset(staging.output_dir, bids_dir, study.spec, study.datasets))
    has_templates = bool(study.templates) or (staging.output_dir / TEMPLATES).exists()
    ignored = (*BIDSIGNORE_LINES, f"/{TEMPLATES}") if has_templates else BIDSIGNORE_LINES
    staging.write_bytes(BIDSIGNORE, "".join(f"{line}\n" for line in ignored).encode())
    staging.write_json(spec_name(study.spec.name), study.spec.document)
    for kind, document in study.templates.items():
        staging.write_json(template_name(kind), document)


@dataclass(frozen=True)
class ModelTables:
    """What is kept of a model when its maps have been written.

    Attributes
    ----------
    summary : str
        The name of its summary in the folder of the node.
    inputs, results : DataFrame
        Its lines of inputs.tsv and results.tsv.
    kept : KeptModel
        What it is compared by.
    """

    summary: str
    inputs: pd.DataFrame
    results: pd.DataFrame
    kept: KeptModel


def tabulate_model(model: ModelResult, shared: frozenset[str] = frozenset()) -> ModelTables:
    """Return a model's lines of the tables that all models of a node share, and what it is compared by.

    Parameters
    ----------
    model : ModelResult
    shared : frozenset of str
        Labels of contrasts that other nodes have as well.
    """
    inputs = model.rows.assign(design_row=range(len(model.rows)), n_voxels_missing=model.voxels.missing)
    return ModelTables(model.names.summary, inputs, list_results(model), keep_model(model, shared))


def write_node_tables(staging: Staging, plan: NodePlan, models: Sequence[ModelTables]) -> None:
    """Write the tables that all models of a node share."""
    folder = node_folder(plan.node.name)
    rows = pd.concat([model.inputs for model in models], ignore_index=True)
    results = pd.concat([model.results for model in models], ignore_index=True)
    staging.write_bytes(f"{folder}/{INPUTS}", write_tsv(list_inputs(rows, plan.excluded)))
    staging.write_bytes(f"{folder}/{RESULTS}", write_tsv(results))


def write_comparisons(staging: Staging, node: str, models: Sequence[KeptModel], pairs: Sequence[Pair]) -> None:
    """Write how the results of a node overlap with each other and with those of other nodes.

    Parameters
    ----------
    staging : Staging
    node : str
    models : sequence of KeptModel
        Of the node.
    pairs : sequence of Pair
        Of all nodes.
    """
    name = f"{node_folder(node)}/{COMPARISONS}"
    staging.write_bytes(name, write_tsv(list_comparisons(models, pairs)))
    staging.write_json(sidecar_name(name), {column: {"Description": text} for column, text in COLUMN_TEXTS.items()})
