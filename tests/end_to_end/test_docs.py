"""Every spec of the documentation, run on maps simulated for it, gives the contrasts that it names."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bids_group
from bids_group.cli import main
from bids_group.entities import to_label
from tests import builders
from tests.bids_validator import find_bids_errors

ROOT = Path(bids_group.__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SUBJECTS = tuple(f"{i:02d}" for i in range(1, 13))
SHAPE = (4, 4, 3)
MONTHS = (0, 5, 12)
CONTRASTS = ("Faces",)  # where a spec takes whatever maps there are
GROUPS = ("patient", "control")
LEVELS = ("voxel", "cluster-size", "cluster-mass", "tfce")
LABELS = {
    "none": "uncorrected",
    **dict(zip(LEVELS, ("voxelFWE", "clusterSizeFWE", "clusterMassFWE", "tfceFWE"), strict=True)),
}
DEFAULT_ENTRIES = tuple({"Correction": name} for name in ("none", "fdr", "bonferroni", "permutation"))
TABLE = {
    "age": (31, 20, 44, 27, 52, 36, 23, 61, 38, 47, 29, 55),
    "score": (12, 18, 9, 14, 20, 7, 16, 11, 13, 8, 17, 10),
    "dose": (5, 15, 12, 8, 20, 5, 11, 9, 14, 4, 18, 7),
    "rt": (0.61, 0.74, 0.58, 0.66, 0.81, 0.55, 0.69, 0.72, 0.63, 0.77, 0.59, 0.7),
    "site": (1, 2, 3) * 4,
    "kind": (1,) * 6 + (2,) * 6,
    "family": tuple(-(i // 2) - 1 for i in range(12)),
}


@dataclass(frozen=True)
class Needs:
    """What a spec needs of a study.

    Attributes
    ----------
    contrasts, sessions, runs, groups : tuple of str
        Sessions and runs are empty where the maps have none.
    space : str
        A space that is not MNI, so that few figures are drawn, unless the spec asks for one.
    task : str
    has_variances, has_holes : bool
    """

    contrasts: tuple[str, ...]
    sessions: tuple[str, ...]
    runs: tuple[str, ...]
    groups: tuple[str, ...]
    space: str
    task: str
    has_variances: bool
    has_holes: bool


def find_documents():
    """Return all whole specs of the documentation, each with its page and its number there."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        specs = [json.loads(block) for block in blocks if '"Nodes"' in block]
        found += [pytest.param(spec, id=f"{page.name}-{i}-{spec['Name']}") for i, spec in enumerate(specs)]
    return found


def find_needs(document):
    text, chosen = json.dumps(document), document.get("Input", {})
    is_averaged = any(node["Level"] == "Subject" and "contrast" in node["GroupBy"] for node in document["Nodes"])
    has_sessions = "session" in text or "months" in text
    groups = tuple(dict.fromkeys(re.findall(r"group\[(\w+)\]", text)))
    return Needs(
        contrasts=tuple(chosen.get("contrast") or chosen.get("desc") or CONTRASTS),
        sessions=tuple(chosen.get("session") or ("first", "second", "third")) if has_sessions else (),
        runs=("1", "2") if is_averaged and not has_sessions else (),
        groups=groups if len(groups) == 2 else GROUPS,
        space=chosen.get("space", ["T1w"])[0],
        task=chosen.get("task", ["x"])[0],
        has_variances='"meta"' in text,
        has_holes="MinCoverage" in text,
    )


def list_stems(needs):
    """Yield the beginning of the name of each map, its subject and its contrast."""
    for subject in SUBJECTS:
        for session in needs.sessions or (None,):
            for run in needs.runs or (None,):
                within = (f"_ses-{session}" if session else "") + f"_task-{needs.task}" + (f"_run-{run}" if run else "")
                folder = f"sub-{subject}/ses-{session}" if session else f"sub-{subject}"
                for contrast in needs.contrasts:
                    yield f"{folder}/sub-{subject}{within}_space-{needs.space}_desc-{contrast}", subject, contrast


def draw_maps(needs):
    rng = np.random.default_rng(5)
    maps = {}
    for number, (stem, subject, contrast) in enumerate(list_stems(needs)):
        values = rng.normal(0.4 + 0.1 * needs.contrasts.index(contrast), 1, SHAPE).astype(np.float32)
        if needs.has_holes:
            values.flat[number % 20] = 0.0
        maps[f"{stem}_effect.nii.gz"] = values
        if needs.has_variances:
            maps[f"{stem}_variance.nii.gz"] = rng.uniform(0.3, 2, SHAPE).astype(np.float32)
        maps[f"sub-{subject}/sub-{subject}_space-{needs.space}_desc-brain_mask.nii.gz"] = np.ones(SHAPE, np.uint8)
    return maps


def write_study(root, needs):
    """Write a dataset as a spec needs it, and return its path."""
    bids = root / "bids"
    builders.write_derivative(bids / "derivatives", draw_maps(needs))
    description = {"Name": "raw", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (bids / "dataset_description.json").write_text(json.dumps(description))
    ids = [f"sub-{subject}" for subject in SUBJECTS]
    builders.write_participants(bids, pd.DataFrame({"participant_id": ids, "group": needs.groups * 6, **TABLE}))
    for number, name in enumerate(ids if needs.sessions else ()):
        table = pd.DataFrame({"session_id": [f"ses-{session}" for session in needs.sessions]})
        table["months"] = [month + number % 2 for month in MONTHS[: len(table)]]
        (bids / name).mkdir()
        table.to_csv(bids / name / f"{name}_sessions.tsv", sep="\t", index=False)
    return bids


@pytest.fixture(scope="module")
def find_study(tmp_path_factory):
    """A function from what is needed to a dataset, written once for all specs that need the same."""
    written = {}

    def find(needs):
        if needs not in written:
            written[needs] = write_study(tmp_path_factory.mktemp("docs"), needs)
        return written[needs]

    return find


def name_contrasts(document, node, given):
    """Return the labels that a node's contrasts have in results.tsv, as the page on the spec says."""
    inputs = name_inputs(document, node, given) if node.get("GroupBy") else [""]
    dummies = node.get("DummyContrasts")
    columns = (dummies.get("Contrasts") or node["Model"]["X"]) if dummies else []
    names = [one["Name"] for one in node.get("Contrasts", ())]
    names += ["" if column == 1 and node.get("GroupBy") else column for column in columns]
    names += [one["Name"] for one in list_conjunctions(node)]
    return {to_label(f"{contrast}{name}") for contrast in inputs for name in names}


def list_conjunctions(node):
    return node["Model"].get("Software", {}).get("bids_group", {}).get("Conjunctions", [])


def name_inputs(document, node, given):
    """Return the contrasts of the maps that a node takes."""
    nodes = {one["Name"]: one for one in document["Nodes"]}
    for edge in document.get("Edges", ()):
        if edge["Destination"] == node["Name"]:
            chosen = edge.get("Filter", {}).get("contrast", given)
            return chosen if "DummyContrasts" in nodes[edge["Source"]] else []
    before = [one for one in document["Nodes"] if one["Level"] == "Subject"]
    made = [contrast["Name"] for contrast in before[-1].get("Contrasts", ())] if before else []
    if made and "contrast" in before[-1]["GroupBy"]:
        return [contrast + name for contrast in given for name in made]
    return made or given


def list_corrections(node, contrast):
    """Return the corrections that results.tsv has of a contrast, as the page on outputs names them."""
    entries = node["Model"].get("Software", {}).get("bids_group", {}).get("Inference", DEFAULT_ENTRIES)
    conjunction = next((one for one in list_conjunctions(node) if contrast.endswith(one["Name"])), None)
    found = set()
    for entry in (one for one in entries if any(contrast.endswith(name) for name in one.get("Contrasts", [contrast]))):
        if conjunction and not {entry["Correction"], entry.get("Name")} & set(
            conjunction.get("Inference", [entry["Correction"]])
        ):
            continue
        labels = [LABELS.get(entry["Correction"], entry["Correction"])]
        if entry["Correction"] == "permutation":
            ending = "GPD" if entry.get("TailApproximation") else ""
            levels = entry.get("Levels", LEVELS)
            levels = [LABELS[level] + ending for level in levels if not (conjunction and level.startswith("cluster"))]
            labels = [*levels, "permUncorrected", "permFDR"]
        found |= {label + entry.get("Name", "") for label in labels}
    return found


def test_every_spec_of_the_documentation_is_found():
    assert len(find_documents()) == sum(page.read_text(encoding="utf-8").count('"Nodes": [') for page in PAGES)


@pytest.mark.parametrize("document", find_documents())
def test_every_spec_of_the_documentation_gives_the_contrasts_and_corrections_that_it_names(
    document, find_study, tmp_path
):
    needs = find_needs(document)
    spec = builders.write_spec(tmp_path / "smdl.json", document)
    output = tmp_path / "out"
    arguments = [str(find_study(needs)), str(output), "group", "--model", str(spec)]
    assert main([*arguments, "--n-permutations", "50", "--nprocs", "1"]) == 0
    for node in (node for node in document["Nodes"] if node["Level"] == "Dataset"):
        results = pd.read_csv(output / f"node-{to_label(node['Name'])}" / "results.tsv", sep="\t")
        assert set(results["contrast"]) == name_contrasts(document, node, needs.contrasts)
        for contrast, rows in results.groupby("contrast"):
            assert sorted(rows["correction"]) == sorted(list_corrections(node, contrast))
        assert (results["n_voxels_tested"] > 10).all()
    assert find_bids_errors(output) == []
