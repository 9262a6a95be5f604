"""The record of a run: command, versions, datasets, warnings, times and the log."""

import logging
import platform
import resource
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from bids_group import __version__
from bids_group.inputs.study import Study
from bids_group.outputs.naming import log_name, node_folder, provenance_name
from bids_group.outputs.staging import Staging

PACKAGES = ("numpy", "scipy", "pandas", "nibabel", "nilearn", "pybids", "formulaic", "matplotlib", "numba")
_KIBI = 1024


class LogLines(logging.Handler):
    """Keeps the lines of the log until they can be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(f"{record.levelname}: {record.getMessage()}")


def record_run(
    study: Study, summaries: Sequence[Sequence[str]], command: Sequence[str], stages: Mapping[str, float]
) -> dict[str, Any]:
    """Return the record of a run.

    Parameters
    ----------
    study : Study
    summaries : sequence of sequence of str
        The names of the summaries of each node's models.
    command : sequence of str
    stages : Mapping of str to float
        Wall seconds of each stage so far.
    """
    return {
        "Model": study.spec.name,
        "Description": study.spec.description,
        "Version": __version__,
        "Command": list(command),
        "Python": platform.python_version(),
        "Platform": platform.platform(),
        "Packages": {name: metadata.version(name) for name in PACKAGES},
        "Nodes": [
            {
                "Name": node.plan.node.name,
                "Folder": node_folder(node.plan.node.name),
                "Models": list(names),
            }
            for node, names in zip(study.nodes, summaries, strict=True)
        ],
        "Warnings": list(study.warnings),
        "Datasets": {dataset.name: str(dataset.path) for dataset in study.datasets},
        "stages": {name: round(seconds, 3) for name, seconds in stages.items()},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIBI, 1),
    }


def write_record(staging: Staging, model: str, record: dict[str, Any], log: LogLines) -> None:
    """Write the record and the log."""
    staging.write_json(provenance_name(model), record)
    staging.write_bytes(log_name(model), "".join(f"{line}\n" for line in log.lines).encode())
