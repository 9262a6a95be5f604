"""OUTPUT_DIR as a BIDS derivative dataset: its description, and what of it earlier runs own."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bids_group import __version__
from bids_group.errors import OutputError, SpecError, UsageError
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.plan import NodePlan
from bids_group.inputs.spec import ModelSpec
from bids_group.inputs.study import Study
from bids_group.outputs.naming import BIDSIGNORE, DATASET_DESCRIPTION, INPUTS, RESULTS, node_folder, spec_name
from bids_group.outputs.results import ModelResult
from bids_group.outputs.staging import Staging
from bids_group.outputs.tables import list_inputs, list_results, write_tsv

APP_NAME = "bids_group"
BIDS_VERSION = "1.10.0"
# Statistical maps are not in BIDS yet (BEP041), nor are the names of a model's own files.
# A pattern that ends in a slash, or names what is in a folder, would not silence the folder itself.
BIDSIGNORE_LINES = ("/model-*_report.html", "/model-*_smdl.json", "/node-*")


def check_output_dir(output_dir: Path, bids_dir: Path, spec: ModelSpec, datasets: Iterable[Dataset]) -> None:
    """Refuse an output folder that would lose somebody's data.

    Raises
    ------
    UsageError
        If it is an input, or its results call another dataset by the name of one of `datasets`.
    OutputError
        If it is a file, or another program's dataset.
    SpecError
        If a node has the folder of another model's node.
    """
    datasets = tuple(datasets)
    for what, path in (("BIDS_DIR", bids_dir), *((f"the dataset {one.name!r}", one.path) for one in datasets)):
        if output_dir.resolve() == path.resolve():
            raise UsageError(
                f"{output_dir}: OUTPUT_DIR is {what}; name another folder, such as {bids_dir}/derivatives/bids_group"
            )
    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"{output_dir}: not a folder")
    description = _read_json_if_any(output_dir / DATASET_DESCRIPTION)
    if description is not None and not _is_ours(description):
        raise OutputError(f"{output_dir}: holds a dataset that this app did not write; name another folder")
    for name, folders in _read_owners(output_dir, except_model=spec.name).items():
        for node in spec.nodes:
            if node_folder(node.name) in folders:
                raise SpecError(
                    f"{node.path}.Name",
                    f"{output_dir}/{node_folder(node.name)} is the result of the model in {name}; "
                    "rename the node, or name another output folder",
                )
    _link_datasets(output_dir, spec, datasets)


def _is_ours(description: Any) -> bool:
    generated_by = description.get("GeneratedBy") if isinstance(description, dict) else None
    first = generated_by[0] if isinstance(generated_by, list) and generated_by else {}
    return isinstance(first, dict) and first.get("Name") == APP_NAME


def _read_json_if_any(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return {}


def _read_owners(output_dir: Path, *, except_model: str) -> dict[str, list[str]]:
    """Return the node folders of the other models in an output folder, by the name of their spec."""
    paths = sorted(output_dir.glob("model-*_smdl.json")) if output_dir.is_dir() else []
    return {path.name: _list_node_folders(path) for path in paths if path.name != spec_name(except_model)}


def _list_node_folders(spec_path: Path) -> list[str]:
    document = _read_json_if_any(spec_path)
    nodes = document.get("Nodes") if isinstance(document, dict) else None
    # The file is the user's to edit: what is no list of named nodes there owns no folder.
    named = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    return [node_folder(node["Name"]) for node in named if isinstance(node.get("Name"), str)]


def list_stale_folders(output_dir: Path, spec: ModelSpec) -> list[str]:
    """Return the node folders that an earlier version of this model wrote and this one will not."""
    current = {node_folder(node.name) for node in spec.nodes}
    return [name for name in _list_node_folders(output_dir / spec_name(spec.name)) if name not in current]


def _link_datasets(output_dir: Path, spec: ModelSpec, datasets: Iterable[Dataset]) -> dict[str, str]:
    """Return the addresses of datasets by name, keeping those that the sidecars of other models use.

    Raises
    ------
    UsageError
        If a dataset's name stands for another folder in the results of another model.
    """
    earlier = _read_json_if_any(output_dir / DATASET_DESCRIPTION) or {}
    links = dict(earlier.get("DatasetLinks", {})) if _read_owners(output_dir, except_model=spec.name) else {}
    for dataset in datasets:
        uri = dataset.path.absolute().as_uri()
        if links.get(dataset.name, uri) != uri:
            raise UsageError(
                f"{output_dir}: the results there call {links[dataset.name]} {dataset.name!r}; "
                f"give this dataset another name: --derivatives NAME={dataset.path}"
            )
        links[dataset.name] = uri
    return links


def describe_dataset(output_dir: Path, bids_dir: Path, spec: ModelSpec, datasets: Iterable[Dataset]) -> dict[str, Any]:
    """Return the content of dataset_description.json.

    Raises
    ------
    UsageError
        If a dataset's name stands for another folder in the results of another model.
    """
    links = _link_datasets(output_dir, spec, datasets)
    sources = sorted({bids_dir.absolute().as_uri(), *links.values()})
    return {
        "Name": "Group-level results of bids_group",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": APP_NAME, "Version": __version__}],
        "SourceDatasets": [{"URL": uri} for uri in sources],
        "DatasetLinks": links,
    }


def write_dataset_files(staging: Staging, study: Study, bids_dir: Path) -> None:
    """Write the files of the dataset and of the model that stand above the nodes."""
    staging.write_json(DATASET_DESCRIPTION, describe_dataset(staging.output_dir, bids_dir, study.spec, study.datasets))
    staging.write_bytes(BIDSIGNORE, "".join(f"{line}\n" for line in BIDSIGNORE_LINES).encode())
    staging.write_json(spec_name(study.spec.name), study.spec.document)


@dataclass(frozen=True)
class ModelTables:
    """What is kept of a model when its maps have been written.

    Attributes
    ----------
    summary : str
        The name of its summary in the folder of the node.
    inputs, results : DataFrame
        Its lines of inputs.tsv and results.tsv.
    """

    summary: str
    inputs: pd.DataFrame
    results: pd.DataFrame


def tabulate_model(model: ModelResult) -> ModelTables:
    """Return a model's lines of the tables that all models of a node share."""
    inputs = model.rows.assign(design_row=range(len(model.rows)), n_voxels_missing=model.voxels.missing)
    return ModelTables(model.names.summary, inputs, list_results(model))


def write_node_tables(staging: Staging, plan: NodePlan, models: Sequence[ModelTables]) -> None:
    """Write the tables that all models of a node share."""
    folder = node_folder(plan.node.name)
    rows = pd.concat([model.inputs for model in models], ignore_index=True)
    results = pd.concat([model.results for model in models], ignore_index=True)
    staging.write_bytes(f"{folder}/{INPUTS}", write_tsv(list_inputs(rows, plan.excluded)))
    staging.write_bytes(f"{folder}/{RESULTS}", write_tsv(results))
