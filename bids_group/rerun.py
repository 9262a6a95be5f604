"""What is done with results that stand there already: the report is made anew, the files are verified."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_group.inputs.datasets import find_datasets
from bids_group.inputs.study import InputOptions
from bids_group.outputs.naming import OWN_URI, provenance_name, report_name
from bids_group.outputs.provenance import list_outputs
from bids_group.outputs.staging import Staging, open_staging, restore_after_killed_run
from bids_group.outputs.verification import Whereabouts, format_states, read_records, verify_inputs, verify_outputs
from bids_group.report.build import render_report
from bids_group.report.collect import collect_run
from bids_group.report.methods import list_methods_files

logger = logging.getLogger("bids_group")


def write_report(staging: Staging, folder: Path, model: str) -> None:
    """Write the report and the methods section of a model, from what stands in a folder."""
    run = collect_run(folder, model)
    for name, text in list_methods_files(run).items():
        staging.write_bytes(name, text.encode())
    staging.write_bytes(report_name(model), render_report(folder, run).encode())


def rebuild_reports(output_dir: Path, *, model: str | None = None, n_threads: int | None = None) -> list[Path]:
    """Make the reports of finished runs anew, reading nothing but their outputs.

    Parameters
    ----------
    output_dir : Path
    model : str or None
        One model's name; None for all in the folder.
    n_threads : int or None

    Returns
    -------
    list of Path
        The reports.

    Raises
    ------
    MissingInputError
        If there are no results, or a file that the report needs has gone.
    DataError
        If a record is damaged.
    OutputError, ReadWriteError
        If the report cannot be written.
    """
    restore_after_killed_run(output_dir)
    read_records(output_dir, model)  # refused before a folder is made where there is none
    with open_staging(output_dir) as staging:
        records = read_records(output_dir, model)  # again: another run may have held the lock until now
        for record in records:
            _rebuild(staging, record)
        for state in verify_outputs(records, output_dir, n_threads=n_threads):
            if state.state == "changed" and state.uri.removeprefix(OWN_URI) not in staging.written:
                logger.warning("%s has changed since the run; the report shows what is there", state.uri)
        staging.publish(stale=[])
    return [output_dir / report_name(record["Model"]) for record in records]


def _rebuild(staging: Staging, record: dict[str, Any]) -> None:
    """Write the report, and its hashes into the record if they are not what they were."""
    name = record["Model"]
    before = set(staging.written)
    write_report(staging, staging.output_dir, name)
    rebuilt = list_outputs((own, staging.written[own]) for own in staging.written if own not in before)
    lines = {line["URI"]: line for line in record["Outputs"]} | {line["URI"]: line for line in rebuilt}
    outputs = [lines[uri] for uri in sorted(lines, key=lambda uri: uri.removeprefix(OWN_URI))]
    if outputs != record["Outputs"]:
        staging.write_json(provenance_name(name), {**record, "Outputs": outputs})


@dataclass(frozen=True)
class Verification:
    """What became of the files of finished runs.

    Attributes
    ----------
    text : str
        A line per file, and the sums.
    n_changed, n_missing : int
    """

    text: str
    n_changed: int
    n_missing: int


def verify_runs(
    options: InputOptions, output_dir: Path, *, model: str | None = None, n_threads: int | None = None
) -> Verification:
    """Compare inputs and outputs of finished runs with their records; nothing is written.

    Parameters
    ----------
    options : InputOptions
        Where the inputs are now.
    output_dir : Path
    model : str or None
        One model's name; None for all in the folder.
    n_threads : int or None

    Returns
    -------
    Verification

    Raises
    ------
    MissingInputError
        If there are no results, or a dataset is not there.
    DataError
        If a record is damaged.
    """
    records = read_records(output_dir, model)
    search = find_datasets(options.bids_dir, options.derivatives, output_dir, validate=options.validate)
    given = {"spec": options.model, "mask": options.mask, "filter": options.bids_filter_file}
    places = Whereabouts(
        options.bids_dir, search.datasets, {kind: path for kind, path in given.items() if path is not None}
    )
    by_title = {f"inputs of {one['Model']}": verify_inputs(one, places, n_threads=n_threads) for one in records}
    by_title["outputs"] = verify_outputs(records, output_dir, n_threads=n_threads)
    found = [state.state for states in by_title.values() for state in states]
    text = "".join(format_states(title, states) for title, states in by_title.items())
    return Verification(text, found.count("changed"), found.count("missing"))
