"""What reads files that others hand in, or that an earlier run left, and sound files for each to begin with."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bids_group.analysis.permuting import _load_state, _store_state
from bids_group.checkpoints import Checkpoints
from bids_group.inputs.datasets import Dataset, find_datasets
from bids_group.inputs.design import build_design
from bids_group.inputs.filters import Selection, read_bids_filter
from bids_group.inputs.images import check_grids, read_mask
from bids_group.inputs.label_images import read_label_image
from bids_group.inputs.nifti import open_map, read_values
from bids_group.inputs.query import find_maps
from bids_group.inputs.roi_spec import ImageRegions
from bids_group.inputs.spec import parse_spec, read_spec
from bids_group.inputs.study import InputOptions
from bids_group.inputs.variable_tables import read_further_tables, read_participants
from bids_group.inputs.variables import VariableTable
from bids_group.outputs.ownership import check_output_dir
from bids_group.outputs.staging import STAGING_FOLDER, restore_after_killed_run
from bids_group.outputs.verification import find_difference, read_records
from bids_group.report.build import build_report
from bids_group.rerun import verify_runs
from bids_group.stats.permutation.batch import prepare
from bids_group.stats.permutation.engine import start_state
from tests import builders
from tests.end_to_end import studies
from tests.faults import runs
from tests.unit.test_permutation_own_dof import make_test
from tests.unit.test_spec import FULL

SHAPE = (3, 4, 2)
MODEL = "study"
SPEC = builders.make_spec(model={"X": ["age", "score", "mood"]})
PERMUTED = make_test(np.ones((6, 1)), [1.0], "flips", n_asked=20)


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes
    ----------
    name : str
        What it reads.
    write : callable
        Writes sound files into a new folder.
    read : callable
        Reads them there.
    mutated : tuple of str
        Patterns of the names of those of which one at a time is made unsound.
    consumes : bool
        Whether reading changes the folder.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    mutated: tuple[str, ...]
    consumes: bool = False

    def list_mutated(self, folder: Path) -> list[Path]:
        """Return the files that may be made unsound."""
        return sorted({path for pattern in self.mutated for path in folder.glob(pattern) if path.is_file()})


def draw_values() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def write_tables(folder: Path) -> None:
    subjects = list(builders.SUBJECTS)
    ids = [f"sub-{subject}" for subject in subjects]
    groups, ages = ["a", "b", "a", "b", "a"], [20, 31.5, 44, 27, 52]
    builders.write_participants(folder, pd.DataFrame({"participant_id": ids, "group": groups, "age": ages}))
    (folder / "phenotype").mkdir()
    scores = pd.DataFrame({"participant_id": ids, "score": [1, 2, 3, 4, 6]})
    scores.to_csv(folder / "phenotype" / "memory.tsv", sep="\t", index=False)
    for subject in subjects:
        (folder / f"sub-{subject}").mkdir()
        path = folder / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
        path.write_text(f"session_id\tmood\nses-1\t{int(subject) ** 2}\nses-2\t1\n")


def read_tables(folder: Path) -> object:
    (node,) = parse_spec(SPEC, folder).nodes
    rows = builders.make_rows(session="1")
    return build_design(node, VariableTable(rows, read_participants([folder]), tables=read_further_tables([folder])))


def write_dataset(folder: Path) -> None:
    builders.write_derivative(folder / "derivatives", builders.make_maps(("01", "02"), shape=SHAPE))
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "raw", "BIDSVersion": "1.10.0"}))


def read_dataset(folder: Path) -> object:
    return find_maps(find_datasets(folder, (), folder / "out").datasets, Selection({}))


def write_filter(folder: Path) -> None:
    content = {"effect": {"task": ["x", "*"], "session": None, "run": 1}, "statmap": {"desc": "A"}}
    (folder / "filter.json").write_text(json.dumps(content))


def write_mask(folder: Path) -> None:
    builders.write_map(folder / "map.nii", draw_values())
    builders.write_map(folder / "given_mask.nii", (draw_values() > 0).astype(np.uint8))
    sidecar = {
        "Correction": "fdr",
        "SearchVolumeVoxels": 24,
        "Units": "t",
        "Sources": ["bids:x:sub-01/sub-01_effect.nii"],
    }
    (folder / "given_mask.json").write_text(json.dumps(sidecar))


def read_given_mask(folder: Path) -> object:
    return read_mask([folder / "given_mask.nii"], check_grids([folder / "map.nii"]), folder / "map.nii")


def write_labels(folder: Path) -> None:
    builders.write_map(folder / "labels.nii.gz", np.arange(24).reshape(SHAPE).astype(np.int16) % 5)
    (folder / "labels.tsv").write_text("index\tname\n1\tone\n2\ttwo\n3\tthree\n4\tfour\n")


def read_labels(folder: Path) -> object:
    return read_label_image(ImageRegions("ROIs[0]", "labels.nii.gz", None, None), folder)


def write_checkpoint(folder: Path) -> None:
    state = start_state(prepare(PERMUTED))
    state.is_done[0] = True
    Checkpoints(folder).store("a", _store_state(state))


def read_checkpoint(folder: Path) -> object:
    return _load_state(prepare(PERMUTED), Checkpoints(folder).find("a"))


def write_results(folder: Path) -> None:
    """Write a finished run in `out`, with the study that it is of."""
    study = runs.write_study(folder / "study")
    spec = study.write_spec(runs.make_spec())
    with contextlib.redirect_stdout(io.StringIO()):
        assert studies.run(study, folder / "out", spec) == 0
    for path in folder.glob("out/node-*/figures/*.png"):  # to read those that a run draws takes half a second
        Image.new("RGB", (2, 3)).save(path)


def write_journal(folder: Path) -> None:
    staging = folder / "out" / STAGING_FOLDER
    (staging / ".retired" / "node-old").mkdir(parents=True)
    (folder / "out" / "node-new").mkdir()
    (folder / "beside").mkdir()
    (folder / "beside" / "kept.txt").write_text("not ours")
    moved = {"Added": ["node-new", "logs/model-new_log.txt"], "Replaced": ["node-old"]}
    (staging / ".publishing.json").write_text(json.dumps(moved))


def read_journal(folder: Path) -> None:
    try:
        restore_after_killed_run(folder / "out")
    finally:
        assert (folder / "beside" / "kept.txt").is_file(), "what is not in the output folder was taken away"


def read_record(folder: Path) -> object:
    output, study = folder / "out", folder / "study"
    (record,) = read_records(output, MODEL)
    find_difference(output, {**record, "Model": MODEL})
    options = InputOptions(study / "bids", study / "spec.json", validate=False)
    return verify_runs(options, output)


def read_output_dir(folder: Path) -> object:
    study = folder / "study"
    document = runs.make_spec()
    document["Nodes"][0]["Name"] = "further"
    spec = parse_spec({**document, "Name": "other"}, study / "other.json")
    return check_output_dir(folder / "out", study / "bids", spec, [Dataset("further", study / "bids")])


def read_results(folder: Path) -> object:
    return build_report(folder / "out", MODEL)


READERS = (
    Reader(
        "map, .nii",
        lambda folder: builders.write_map(folder / "map.nii", draw_values()),
        lambda folder: (open_map(folder / "map.nii"), read_values(folder / "map.nii")),
        ("map.nii",),
    ),
    Reader(
        "map, .nii.gz",
        lambda folder: builders.write_map(folder / "map.nii.gz", draw_values()),
        lambda folder: (open_map(folder / "map.nii.gz"), read_values(folder / "map.nii.gz")),
        ("map.nii.gz",),
    ),
    Reader("mask and its sidecar", write_mask, read_given_mask, ("given_mask.*",)),
    Reader("label image and its table", write_labels, read_labels, ("labels.*",)),
    Reader(
        "model spec",
        lambda folder: builders.write_spec(folder / "smdl.json", FULL),
        lambda folder: read_spec(folder / "smdl.json"),
        ("smdl.json",),
    ),
    Reader("filter file", write_filter, lambda folder: read_bids_filter(folder / "filter.json"), ("filter.json",)),
    Reader("tables of variables", write_tables, read_tables, ("**/*.tsv",)),
    Reader("dataset_description.json", write_dataset, read_dataset, ("**/dataset_description.json",)),
    Reader("checkpoint", write_checkpoint, read_checkpoint, ("checkpoints/a.npz",)),
    Reader("list of what was being moved", write_journal, read_journal, ("out/.staging/.publishing.json",), True),
    Reader("record of a run", write_results, read_record, ("out/logs/*.json",)),
    Reader("dataset of earlier results", write_results, read_output_dir, ("out/*.json",)),
    Reader(
        "results, for the report",
        write_results,
        read_results,
        ("out/logs/*.json", *(f"out/node-mean/{name}" for name in ("*.json", "*.tsv", "figures/*.png", "*.nii.gz"))),
    ),
)
