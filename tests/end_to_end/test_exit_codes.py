"""Everything a user can cause ends with its exit code, a message that names it, and nothing left behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_group.cli import main
from tests import builders
from tests.end_to_end import studies

PROJECT = Path(__file__).parents[2]
N_FIGURES_SLOW = 40  # results to draw, so that a signal comes while the run is under way


@pytest.fixture
def study(tmp_path):
    return studies.write_study(tmp_path, studies.draw_maps({"A": 1.0, "B": 0.0}, subjects=studies.SUBJECTS[:4]))


@pytest.fixture
def fail(study, capsys):
    """Run what must fail; return what it says on stderr."""

    def run(code, document=None, *options, output=None, arguments=None):
        spec = study.write_spec(builders.make_spec() if document is None else document)
        target = output or study.root / "new" / "out"
        stood = set(studies.list_files(study.root))
        given = arguments or [str(study.bids), str(target), "group", "--model", str(spec), *options]
        assert main(given) == code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert said.out == ""
        assert not (study.root / "new").exists()
        assert studies.list_files(study.root) == stood
        return said.err

    return run


def change_spec(*path, value):
    """Return a one-sample spec in which one place is another value."""
    document = builders.make_spec(settings={"Inference": [{"Correction": "none"}]})
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


SOFTWARE = ("Nodes", 0, "Model", "Software", "bids_group")
CONTRAST = {"Name": "c", "Test": "t", "ConditionList": [1], "Weights": [1]}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("Nodse",), [], ["Nodse", "did you mean 'Nodes'"]),
        (("Nodes", 0, "Contrast"), [], ["Nodes[0].Contrast", "did you mean 'Contrasts'"]),
        ((*SOFTWARE, "Inferense"), [], ["Nodes[0].Model.Software.bids_group.Inferense", "did you mean 'Inference'"]),
        ((*SOFTWARE, "Inference", 0, "Alpha"), 1.5, ["bids_group.Inference[0].Alpha", "between 0 and 1", "1.5"]),
        ((*SOFTWARE, "Inference", 0, "Tail"), "left", ["bids_group.Inference[0].Tail", "left"]),
        ((*SOFTWARE, "Inference", 0, "Contrasts"), ["Z"], ["Inference[0].Contrasts[0]", "'Z'"]),
        (("Nodes", 0, "Contrasts"), [{**CONTRAST, "Weights": [1, 2]}], ["Nodes[0].Contrasts[0].Weights", "2 weights"]),
        (("Nodes", 0, "Contrasts"), [{**CONTRAST, "Weights": ["1/0"]}], ["Nodes[0].Contrasts[0].Weights[0]", "1/0"]),
        (("Nodes", 0, "Contrasts"), [{**CONTRAST, "ConditionList": ["x"]}], ["Nodes[0].Contrasts[0].ConditionList[0]"]),
        (("Nodes", 0, "Model", "X"), [1, "agee"], ["Nodes[0].Model.X[1]", "agee", "did you mean 'age'"]),
        (("Nodes", 0, "Level"), "Run", ["Nodes[0].Level", "Run"]),
        (("Nodes", 0, "GroupBy"), ["subject"], ["Nodes[0].GroupBy"]),
        (("Input",), {"desc": ["A", "Q"]}, ["Input", "desc", "'Q'"]),
        ((*SOFTWARE, "Inference"), [{"Correction": "none"}] * 2, ["Inference[1]", "Inference[0]", "Name"]),
    ],
)
def test_wrong_spec_ends_with_65_and_says_where(fail, path, value, words):
    said = fail(65, change_spec(*path, value=value))
    assert all(word in said for word in words), said


def test_contrast_that_is_not_estimable_ends_with_65_and_names_the_columns(fail):
    two = {"Name": "c", "Test": "t", "ConditionList": ["group[patient]"], "Weights": [1]}
    node = {"Contrasts": [two], "DummyContrasts": {"Test": "t", "Contrasts": [1]}}
    said = fail(65, builders.make_spec(node=node, model={"X": [1, "group"]}))
    assert "not estimable" in said
    assert "group[patient]" in said


def test_a_contrast_that_mixes_groups_and_conditions_ends_with_65(fail):
    document = builders.make_spec(
        "anova", conditions=("A", "B"), model={"Formula": "0 + contrast:group"}, settings={"ErrorTerm": "partitioned"}
    )
    del document["Nodes"][0]["Model"]["X"]
    conditions = ["contrast[A]:group[patient]", "contrast[B]:group[control]"]
    document["Nodes"][0]["Contrasts"] = [{"Name": "x", "Test": "t", "ConditionList": conditions, "Weights": [1, -1]}]
    said = fail(65, document)
    assert "Nodes[0].Contrasts[0]" in said
    assert "no error term of its own" in said


def test_pooled_repeated_measures_without_subject_columns_end_with_65(fail):
    document = builders.make_spec("anova", conditions=("A", "B"), model={"X": ["A", "B"]})
    assert "subject" in fail(65, document)


def test_json_that_does_not_parse_ends_with_65_and_names_the_line(fail, study):
    spec = study.root / "broken.json"
    spec.write_text('{\n "Name": "x",\n}')
    said = fail(65, arguments=[str(study.bids), str(study.root / "new"), "group", "-m", str(spec)])
    assert "broken.json" in said
    assert "line 3" in said


def test_nothing_selected_ends_with_18(fail):
    said = fail(18, builders.make_spec(Input={"task": ["rest"]}))
    assert "rest" in said
    assert "Input" in said


def test_no_map_at_all_ends_with_18(fail, study):
    for path in study.firstlevel.rglob("*.nii.gz"):
        path.unlink()
    assert str(study.firstlevel) in fail(18)


def test_unknown_participant_ends_with_65_beside_a_known_one_and_with_18_alone(fail):
    assert "'99'" in fail(65, None, "--participant-label", "01", "sub-99")
    assert "99" in fail(18, None, "--participant-label", "99")


@pytest.mark.parametrize("option", [["--mask"], ["--bids-filter-file"], ["--derivatives"], ["--model"]])
def test_missing_input_ends_with_66_and_names_it(fail, option):
    assert "/there/is/no/such" in fail(66, None, *option, "/there/is/no/such")


def test_missing_bids_dir_ends_with_66(fail, study):
    spec = study.write_spec(builders.make_spec())
    missing = str(study.root / "nowhere")
    assert missing in fail(66, arguments=[missing, str(study.root / "new"), "group", "-m", str(spec)])


def test_missing_mask_of_the_spec_ends_with_66(fail):
    assert "brain.nii.gz" in fail(66, builders.make_spec(settings={"Mask": "brain.nii.gz"}))


@pytest.mark.parametrize("folder", ["bids", "bids/derivatives/firstlevel"])
def test_missing_description_ends_with_16_unless_it_is_not_checked(fail, study, folder, capsys):
    (study.root / folder / "dataset_description.json").unlink()
    named = () if folder == "bids" else ("--derivatives", str(study.firstlevel))
    assert "dataset_description.json" in fail(16, None, *named)
    spec = study.root / "spec.json"
    given = [str(study.bids), str(study.root / "new"), "group", "-m", str(spec), *named]
    assert main([*given, "--skip-bids-validation", "--dry-run"]) == 0
    assert "Node mean" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", '{"Name": "x"}', '{"BIDSVersion": "1.10.0"}'])
def test_description_without_name_or_version_ends_with_16(fail, study, content):
    (study.bids / "dataset_description.json").write_text(content)
    assert str(study.bids / "dataset_description.json") in fail(16)


def test_other_analysis_level_ends_with_17(fail, study):
    spec = study.write_spec(builders.make_spec())
    said = fail(17, arguments=[str(study.bids), str(study.root / "new"), "participant", "-m", str(spec)])
    assert "participant" in said


@pytest.mark.parametrize(
    "options",
    [
        ["--n-permutations", "1"],
        ["--random-seed", "-1"],
        ["--dask-scheduler", "nonsense"],
        ["--slurm"],
        ["--reports-only", "--verify"],
        ["--slurm", "--shard", "1/2"],
        ["--slurm-jobs", "3"],
        ["--shard", "3/2"],
        ["--shard", "1/2"],
        ["--no-such-option"],
        ["--nprocs", "0"],
        ["--mem-gb", "lots"],
    ],
)
def test_wrong_or_unavailable_option_ends_with_64_and_is_named(fail, options):
    assert options[0] in fail(64, None, *options)


@pytest.mark.parametrize("arguments", [[], ["bids"], ["bids", "out", "group"]])
def test_incomplete_command_line_ends_with_64(arguments, capsys):
    assert main(arguments) == 64
    assert "bids_group: error" in capsys.readouterr().err


def test_bids_dir_as_output_ends_with_64(fail, study):
    assert "OUTPUT_DIR is BIDS_DIR" in fail(64, output=study.bids)


def test_dataset_of_the_maps_as_output_ends_with_64(fail, study):
    said = fail(64, None, "--derivatives", str(study.firstlevel), output=study.firstlevel)
    assert "firstlevel" in said


def test_another_programs_dataset_as_output_ends_with_73(fail, study):
    foreign = study.root / "fmriprep"
    foreign.mkdir()
    (foreign / "dataset_description.json").write_text(json.dumps({"Name": "x", "GeneratedBy": [{"Name": "fMRIPrep"}]}))
    assert str(foreign) in fail(73, output=foreign)


@pytest.mark.parametrize("below", ["", "sub/folder"])
def test_output_at_or_below_a_file_ends_with_73(fail, study, below):
    (study.root / "file").write_text("")
    assert str(study.root / "file") in fail(73, output=study.root / "file" / below)


def test_output_that_cannot_be_made_ends_with_73(fail):
    assert "/proc/" in fail(73, output=Path("/proc/bids_group/out"))


# Maps


def damage_truncated(study):
    path = study.path("02", "A")
    path.write_bytes(path.read_bytes()[:-60])


def damage_header(study):
    path = study.path("02", "A")
    path.write_bytes(path.read_bytes()[:40])


def damage_text(study):
    study.path("02", "A").write_text("not an image")


def damage_nan(study):
    builders.write_map(study.path("02", "A"), np.full(studies.SHAPE, np.nan, dtype=np.float32))


def damage_zero(study):
    builders.write_map(study.path("02", "A"), np.zeros(studies.SHAPE, dtype=np.float32))


def damage_flip(study):
    flipped = builders.AFFINE @ np.diag([-1.0, 1, 1, 1])
    builders.write_map(study.path("02", "A"), study.maps["02", "A"], affine=flipped)


def damage_offset(study):
    moved = builders.AFFINE.copy()
    moved[1, 3] += 1.0
    builders.write_map(study.path("02", "A"), study.maps["02", "A"], affine=moved)


def damage_4d(study):
    builders.write_map(study.path("02", "A"), np.stack([study.maps["02", "A"]] * 2, axis=-1))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_truncated, ["truncated"]),
        (damage_header, ["not a readable"]),
        (damage_text, ["not a readable"]),
        (damage_nan, ["zero or not finite"]),
        (damage_zero, ["zero or not finite"]),
        (damage_flip, ["not on the grid", "-4.0000", "4.0000"]),
        (damage_offset, ["not on the grid", "-20.0000", "-19.0000"]),
        (damage_4d, ["3-D"]),
    ],
)
def test_map_that_cannot_be_used_ends_with_65_and_is_named(fail, study, damage, words):
    damage(study)
    said = fail(65)
    assert all(word in said for word in ["sub-02", "desc-A", *words]), said


def test_two_maps_in_one_cell_end_with_65_and_are_both_named(fail, study):
    other = study.path("02", "A").with_name("sub-02_task-x_space-T1w_run-2_desc-A_effect.nii.gz")
    builders.write_map(other, study.maps["02", "A"])
    said = fail(65)
    assert other.name in said
    assert study.path("02", "A").name in said
    assert "run" in said


def test_identical_maps_end_with_65(fail, study):
    for subject in studies.SUBJECTS[:4]:
        builders.write_map(study.path(subject, "A"), study.maps["01", "A"])
    assert "no voxel has residual variance" in fail(65)


def test_covariate_without_a_value_ends_with_65_and_names_the_participant(fail, study):
    table = pd.DataFrame({"participant_id": ["sub-01", "sub-02", "sub-03", "sub-04"], "age": [20, None, 30, 41]})
    builders.write_participants(study.bids, table)
    said = fail(65, builders.make_spec(model={"X": [1, "age"]}))
    assert "'age'" in said
    assert "sub-02" in said


def test_mask_on_another_grid_ends_with_65_and_shows_both(fail, study):
    mask = builders.write_map(study.root / "mask.nii.gz", np.ones((3, 3, 3), dtype=np.uint8))
    said = fail(65, None, "--mask", str(mask))
    assert "(3, 3, 3)" in said
    assert str(studies.SHAPE) in said


# Signals


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signal_during_a_run_ends_with_its_code_and_leaves_nothing_behind(study, sent, code):
    # Corrections that left the same voxels would share their figures.
    alphas = [(i + 1) / (N_FIGURES_SLOW + 1) for i in range(N_FIGURES_SLOW)]
    entries = [{"Correction": "none", "Name": f"n{i}", "Alpha": alpha} for i, alpha in enumerate(alphas)]
    spec = study.write_spec(builders.make_spec(settings={"Inference": entries}))
    before = studies.list_files(study.root)
    start = "import sys; from bids_group.cli import main; sys.exit(main(sys.argv[1:]))"
    given = [sys.executable, "-c", start, str(study.bids), str(study.root / "new/out"), "group", "-m", str(spec)]
    with subprocess.Popen(given, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        said = ""
        for line in process.stderr:
            said += line
            if "drawing figures" in line:
                process.send_signal(sent)
        assert process.wait() == code, said
    assert "Traceback" not in said
    assert "run the same command again" in said
    assert studies.list_files(study.root) == before
    assert not (study.root / "new").exists()


def test_a_variance_group_without_degrees_of_freedom_ends_with_65_and_is_named(fail, study):
    groups = ["alone", *["others"] * (len(studies.SUBJECTS) - 1)]
    table = pd.DataFrame({"participant_id": [f"sub-{s}" for s in studies.SUBJECTS], "site": groups})
    builders.write_participants(study.bids, table)
    document = builders.make_spec(model={"X": ["site"]}, settings={"VarianceGroups": "site"})
    said = fail(65, document)
    assert "VarianceGroups" in said
    assert "alone" in said


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_values_that_float32_cannot_hold_end_with_65_and_the_remedy(tmp_path, capsys, scale):
    maps = {key: values * np.float32(scale) for key, values in studies.draw_maps({"A": 1.0}).items()}
    study = studies.write_study(tmp_path, maps)
    spec = study.write_spec(builders.make_spec())
    assert studies.run(study, tmp_path / "out", spec) == 65
    said = capsys.readouterr().err
    assert "float32" in said
    assert "rescale" in said
    assert not (tmp_path / "out").exists()
