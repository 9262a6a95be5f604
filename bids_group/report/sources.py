"""What a run was made from, as its record has it: files by their hashes, the program, the seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bids_group.report.record_types import Checked

MOST_SHOWN = 500  # files by their hashes in the page; the record has them all


@dataclass(frozen=True)
class HashedFile(Checked):
    """A file that a run read: its address, its kind, its length in bytes and its SHA-256."""

    uri: str
    kind: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Sources(Checked):
    """What a run was made from; hashes are SHA-256."""

    container: Mapping[str, str] | None
    program_hash: str
    spec_hash: str
    seeds: tuple[int, ...]
    inputs: tuple[HashedFile, ...]

    @property
    def shown(self) -> tuple[HashedFile, ...]:
        """Return the inputs that the report shows."""
        return self.inputs[:MOST_SHOWN]


def read_sources(record: Mapping[str, Any]) -> Sources:
    """Read what a run was made from.

    Parameters
    ----------
    record : Mapping
        The record of the run.

    Raises
    ------
    KeyError
        If it lacks a key.
    """
    return Sources(
        container=record["Container"],
        program_hash=record["SourceSHA256"],
        spec_hash=record["SpecSHA256"],
        seeds=tuple(record["Seeds"]),
        inputs=tuple(HashedFile(line["URI"], line["Kind"], line["Bytes"], line["SHA256"]) for line in record["Inputs"]),
    )
