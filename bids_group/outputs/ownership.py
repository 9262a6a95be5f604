"""What stands in OUTPUT_DIR already, and whose it is: nothing of another program, model or run is lost."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bids_group.errors import DataError, MissingInputError, OutputError, ReadWriteError, SpecError, UsageError
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.spec import ModelSpec
from bids_group.inputs.strict import read_json
from bids_group.outputs.naming import (
    BIDSIGNORE,
    DATASET_DESCRIPTION,
    LOGS,
    node_folder,
    report_name,
    spec_name,
)
from bids_group.vocabulary import APP_NAME


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
    _check_ownership(output_dir, spec)
    for name, folders in _read_owners(output_dir, except_model=spec.name).items():
        for node in spec.nodes:
            if node_folder(node.name) in folders:
                raise SpecError(
                    f"{node.path}.Name",
                    f"{output_dir}/{node_folder(node.name)} is the result of the model in {name}; "
                    "rename the node, or name another output folder",
                )
    link_datasets(output_dir, spec, datasets)


def _check_ownership(output_dir: Path, spec: ModelSpec) -> None:
    """Refuse another program's dataset, files of ours in a folder that is not, and another model of the same label."""
    description = _read_json_if_any(output_dir / DATASET_DESCRIPTION)
    if description is not None and not _is_ours(description):
        raise OutputError(f"{output_dir}: holds a dataset that this app did not write; name another folder")
    names = (BIDSIGNORE, LOGS, report_name(spec.name), spec_name(spec.name), *(node_folder(n.name) for n in spec.nodes))
    taken = [name for name in names if description is None and (output_dir / name).exists()]
    if taken:
        raise OutputError(f"{output_dir}/{taken[0]}: is there and not known to be this app's; name another folder")
    other = _read_json_if_any(output_dir / spec_name(spec.name))
    if isinstance(other, dict) and other.get("Name", spec.name) != spec.name:
        raise SpecError(
            "Name", f"{output_dir} holds the model {other['Name']!r}, whose files have the same names; rename"
        )


def _is_ours(description: Any) -> bool:
    generated_by = description.get("GeneratedBy") if isinstance(description, dict) else None
    first = generated_by[0] if isinstance(generated_by, list) and generated_by else {}
    return isinstance(first, dict) and first.get("Name") == APP_NAME


def _read_json_if_any(path: Path) -> Any:
    try:
        return read_json(path)
    except MissingInputError:
        return None
    except (DataError, ReadWriteError):
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


def link_datasets(output_dir: Path, spec: ModelSpec, datasets: Iterable[Dataset]) -> dict[str, str]:
    """Return the addresses of datasets by name, keeping those that the sidecars of other models use.

    Raises
    ------
    UsageError
        If a dataset's name stands for another folder in the results of another model.
    """
    description = _read_json_if_any(output_dir / DATASET_DESCRIPTION)
    earlier = description.get("DatasetLinks") if isinstance(description, dict) else None
    has_other_models = bool(_read_owners(output_dir, except_model=spec.name))
    links = dict(earlier) if has_other_models and isinstance(earlier, dict) else {}
    for dataset in datasets:
        uri = dataset.path.absolute().as_uri()
        if links.get(dataset.name, uri) != uri:
            raise UsageError(
                f"{output_dir}: the results there call {links[dataset.name]} {dataset.name!r}; "
                f"give this dataset another name: --derivatives NAME={dataset.path}"
            )
        links[dataset.name] = uri
    return links
