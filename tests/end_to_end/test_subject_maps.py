"""Maps of each subject that are shown and not analysed, through the command line: a figure, a record, no other number."""

import json

import numpy as np
import pytest

from bids_group.cli import main
from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, SUBJECTS

FIGURE = "node-mean/figures/subjectmaps.png"
LACKING = "05"
SPEC = builders.make_spec(settings={"Atlases": [], "Inference": [{"Correction": "none", "Alpha": 0.05}]})
RECORDS = r"^logs/|_report\.html$|model\.json$"


def write_shown(study, subjects):
    for seed, subject in enumerate(subjects):
        values = np.random.default_rng(seed).standard_normal((5, 6, 7)).astype(np.float32)
        name = f"sub-{subject}/sub-{subject}_{PREFIX}desc-EffectsOfInterest_z.nii.gz"
        builders.write_map(study.firstlevel / name, values, affine=np.diag([3.0, 3, 4, 1]))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return studies.write_study(tmp_path_factory.mktemp("shown"), studies.draw_maps({"A": 1.0, "B": 0.0}))


@pytest.fixture(scope="module")
def outputs(study, tmp_path_factory):
    """What a run writes before such maps are there, and after."""
    folder = tmp_path_factory.mktemp("outputs")
    without = studies.run_well(study, folder / "without", SPEC)
    write_shown(study, [subject for subject in SUBJECTS if subject != LACKING])
    return without, studies.run_well(study, folder / "with", SPEC)


def read_models(output):
    return [json.loads(path.read_text()) for path in sorted((output / "node-mean").glob("*model.json"))]


def test_the_figure_is_all_that_such_maps_change(outputs):
    without, with_maps = (studies.hash_tree(output, but=RECORDS) for output in outputs)
    assert set(with_maps) - set(without) == {FIGURE}
    assert {name: with_maps[name] for name in without} == without


def test_models_of_a_node_share_one_figure_and_its_gap_is_said(outputs):
    without, with_maps = map(read_models, outputs)
    assert [one["SubjectMaps"] for one in without] == [None, None]
    told = {"Title": "contrast EffectsOfInterest", "Unit": "z", "Subjects": 8, "WithoutMap": [LACKING]}
    assert [one["SubjectMaps"] for one in with_maps] == [told, None]
    assert with_maps[0]["Figures"]["subjectmaps"] == FIGURE.removeprefix("node-mean/")
    assert with_maps[0]["Warnings"][-1].endswith(f"EffectsOfInterest to show: sub-{LACKING}")
    page = (outputs[1] / "model-study_report.html").read_text()
    assert page.count('alt="A map of each subject of mean (contrast EffectsOfInterest)') == 1
    assert f"Without a map: {LACKING}." in page


def test_the_record_has_their_hashes_and_a_new_map_is_noticed(study, outputs, tmp_path, capsys):
    (record,) = (outputs[1] / "logs").glob("*_provenance.json")
    inputs = json.loads(record.read_text())["Inputs"]
    assert sum(one["Kind"] == "shown" for one in inputs) == len(SUBJECTS) - 1
    write_shown(study, SUBJECTS)
    spec = study.write_spec(SPEC, "again.json")
    assert studies.run(study, outputs[1], spec, "--dry-run") == 0
    assert "to show" not in capsys.readouterr().out
    (study.firstlevel / f"sub-{LACKING}" / f"sub-{LACKING}_{PREFIX}desc-EffectsOfInterest_z.nii.gz").unlink()
    assert studies.run(study, outputs[1], spec, "--dry-run") == 0
    assert f"Warning: 1 of 8 subjects have no map of contrast EffectsOfInterest to show: sub-{LACKING}" in (
        capsys.readouterr().out
    )


def test_a_report_made_anew_shows_them_without_the_maps(outputs):
    page = outputs[1] / "model-study_report.html"
    before = page.read_text()
    page.unlink()
    assert main(["/nowhere", str(outputs[1]), "group", "--reports-only"]) == 0
    assert page.read_text() == before
