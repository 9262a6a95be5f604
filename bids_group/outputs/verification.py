"""What stands on disk, held against the records of the runs that read and wrote it. Nothing is written here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from bids_group.errors import DataError, MissingInputError, ReadWriteError
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.input_files import Checksum, hash_files
from bids_group.inputs.strict import read_json
from bids_group.outputs.naming import (
    ALL_RECORDS,
    BIDSIGNORE,
    DATASET_DESCRIPTION,
    OWN_URI,
    node_folder,
    output_uri,
    provenance_name,
)

# Every model's run writes these anew, so that only the last one's record has their hashes.
SHARED = (DATASET_DESCRIPTION, BIDSIGNORE)
_KEYS = {"Model": str, "BidsDir": str, "Nodes": list, "Inputs": list, "Outputs": list}
_LINE_KEYS = {"Inputs": ("URI", "Kind", "SHA256"), "Outputs": ("URI", "SHA256"), "Nodes": ("Name",)}
State = Literal["agrees", "changed", "missing", "unknown"]
STATES: Mapping[State, str] = {"agrees": "agree", "changed": "changed", "missing": "missing", "unknown": "unknown"}


@dataclass(frozen=True)
class FileState:
    """A file of a record, and what became of it.

    Attributes
    ----------
    uri : str
    kind : str
        ``map``, ``mask``, ``table``, ``spec``, ``filter`` or ``output``.
    state : str
        ``agrees``, ``changed``, ``missing``, or ``unknown`` for a file in a node's folder that no record has.
    """

    uri: str
    kind: str
    state: State


@dataclass(frozen=True)
class Whereabouts:
    """Where the inputs are now, which may be elsewhere than at the run.

    Attributes
    ----------
    bids_dir : Path
    datasets : tuple of Dataset
    given : Mapping of str to Path
        The files of the command line by their kind: ``spec``, ``mask``, ``filter``.
    """

    bids_dir: Path
    datasets: tuple[Dataset, ...]
    given: Mapping[str, Path]

    def locate(self, file: Mapping[str, str], old_bids_dir: str) -> Path | None:
        """Return where the file of a record's line would be; None if no dataset has its name."""
        uri = file["URI"]
        if uri.startswith("bids:"):
            _, name, relative = uri.split(":", 2)
            return next((dataset.path / relative for dataset in self.datasets if dataset.name == name), None)
        if (given := self.given.get(file["Kind"])) is not None:
            return given
        path = _to_path(uri)
        root = _to_path(old_bids_dir)
        return self.bids_dir / path.relative_to(root) if path.is_relative_to(root) else path


def _to_path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def read_records(output_dir: Path, model: str | None = None) -> list[dict[str, Any]]:
    """Read the records of the models whose results stand in an output folder.

    Parameters
    ----------
    output_dir : Path
    model : str or None
        One model's name; None for all.

    Returns
    -------
    list of dict
        Sorted by the names of their files; at least one.

    Raises
    ------
    MissingInputError
        If there is none.
    DataError
        If one is damaged, or an earlier version's without hashes.
    """
    found = sorted(output_dir.glob(ALL_RECORDS if model is None else provenance_name(model)))
    if not found:
        of = "" if model is None else f" of the model {model!r}"
        raise MissingInputError(
            f"{output_dir}: no results of this app{of} are there (no {ALL_RECORDS}); "
            "run the analysis first, or name the folder that it was written to"
        )
    return [_read_record(path) for path in found]


def _read_record(path: Path) -> dict[str, Any]:
    record = read_json(path)
    for key, kind in _KEYS.items():
        if not isinstance(record, dict) or not isinstance(record.get(key), kind):
            raise DataError(f"{path}: the record has no {key}; run the analysis again to rewrite it")
    for part, keys in _LINE_KEYS.items():
        for line in record[part]:
            if not isinstance(line, dict) or not all(isinstance(line.get(key), str) for key in keys):
                raise DataError(
                    f"{path}: a line of {part} has no {' or '.join(keys)}; run the analysis again to rewrite it"
                )
    for uri in (record["BidsDir"], *(line["URI"] for line in record["Inputs"])):
        if not _is_address(uri):
            raise DataError(f"{path}: {uri!r} is no address; run the analysis again to rewrite it")
    return record


def _is_address(uri: str) -> bool:
    if uri.startswith("bids:"):
        return uri.count(":") > 1
    try:
        urlsplit(uri)
    except ValueError:
        return False
    return True


def verify_inputs(record: Mapping[str, Any], places: Whereabouts, *, n_threads: int | None = None) -> list[FileState]:
    """Compare the inputs of a run with what stands there now.

    Raises
    ------
    ReadWriteError
        If a file cannot be read.
    """
    located = [(line, places.locate(line, record["BidsDir"])) for line in record["Inputs"]]
    found = hash_files([path for _, path in located if path is not None], n_threads=n_threads)
    return [
        FileState(line["URI"], line["Kind"], _compare(None if path is None else found[path], {line["SHA256"]}))
        for line, path in located
    ]


def verify_outputs(
    records: Sequence[Mapping[str, Any]], output_dir: Path, *, n_threads: int | None = None
) -> list[FileState]:
    """Compare the outputs of runs with what stands there now, and list what else is in the folders of their nodes.

    Parameters
    ----------
    records : sequence of Mapping
        Of every model in the folder, or of one.
    output_dir : Path
    n_threads : int or None

    Raises
    ------
    ReadWriteError
        If a file cannot be read.
    """
    expected: dict[str, set[str]] = {}
    for record in records:
        for line in record["Outputs"]:
            expected.setdefault(line["URI"].removeprefix(OWN_URI), set()).add(line["SHA256"])
    for line in (line for record in read_records(output_dir) for line in record["Outputs"]):
        if (name := line["URI"].removeprefix(OWN_URI)) in SHARED:
            expected.setdefault(name, set()).add(line["SHA256"])
    found = hash_files([output_dir / name for name in expected], n_threads=n_threads)
    states = [
        FileState(output_uri(name), "output", _compare(found[output_dir / name], hashes))
        for name, hashes in sorted(expected.items())
    ]
    return [*states, *_list_strangers(records, expected, output_dir)]


def _compare(checksum: Checksum | None, expected: Iterable[str]) -> State:
    if checksum is None:
        return "missing"
    return "agrees" if checksum.sha256 in expected else "changed"


def _list_strangers(
    records: Sequence[Mapping[str, Any]], expected: Mapping[str, object], output_dir: Path
) -> list[FileState]:
    folders = {node_folder(node["Name"]) for record in records for node in record["Nodes"]}
    paths = [path for folder in sorted(folders) for path in sorted((output_dir / folder).rglob("*")) if path.is_file()]
    names = [path.relative_to(output_dir).as_posix() for path in paths]
    return [FileState(output_uri(name), "output", "unknown") for name in names if name not in expected]


def find_difference(output_dir: Path, identity: Mapping[str, Any], *, n_threads: int | None = None) -> str | None:
    """Say why results do not stand in the output folder as a run would write them; None if they do.

    Whatever is in doubt counts as a difference.

    Parameters
    ----------
    output_dir : Path
    identity : Mapping
        What `identify_run` returned for the run.
    n_threads : int or None
    """
    try:
        record = read_records(output_dir, identity["Model"])[0]
        for key, value in identity.items():
            if record.get(key) != value:
                return f"{key} differ from the record" + (_name_input(record[key], value) if key == "Inputs" else "")
        states = verify_outputs([record], output_dir, n_threads=n_threads)
    except (DataError, MissingInputError, ReadWriteError) as error:
        return str(error)
    return next((f"{state.uri} is {state.state}" for state in states if state.state != "agrees"), None)


def _name_input(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    """Name the first input that differs."""
    old, new = ({line["URI"]: line["SHA256"] for line in lines} for lines in (before, now))
    differing = sorted(uri for uri in old.keys() | new.keys() if old.get(uri) != new.get(uri))
    return f": {differing[0]}" if differing else ""


def format_states(title: str, states: Sequence[FileState]) -> str:
    """Write a line per file, those that agree first, and the sum."""
    ordered = sorted(states, key=lambda one: one.state != "agrees")
    lines = [f"{one.state:8} {one.kind:7} {one.uri}" for one in ordered]
    found = [one.state for one in states]
    counts = [f"{found.count(state)} {words}" for state, words in STATES.items()]
    return "\n".join([*lines, f"{title}: {', '.join(counts)}"]) + "\n"
