"""What happens to OUTPUT_DIR over several runs, and how options narrow what is analysed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bids_group import __version__
from bids_group.cli import main
from bids_group.outputs.dataset import BIDSIGNORE_LINES
from tests import builders
from tests.bids_validator import find_bids_errors
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, read_table, read_values

PROJECT = Path(__file__).parents[2]
SETTINGS = {"Inference": [{"Correction": "none"}]}
T_MAP = f"node-mean/{PREFIX}contrast-A_stat-t_statmap.nii.gz"
MASK = f"node-mean/{PREFIX}contrast-A_desc-analysis_mask.nii.gz"


def make_spec(**settings):
    return builders.make_spec(settings={**SETTINGS, **settings}, Input={"desc": ["A"]})


@pytest.fixture
def study(tmp_path):
    maps = studies.draw_maps({"A": 3.0, "B": 0.0}, subjects=studies.SUBJECTS[:6])
    return studies.write_study(tmp_path, maps)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was analysed once; tests copy the output before they change it."""
    root = tmp_path_factory.mktemp("finished")
    maps = studies.draw_maps({"A": 3.0, "B": 0.0}, subjects=studies.SUBJECTS[:6])
    study = studies.write_study(root, maps)
    return study, studies.run_well(study, root / "out", make_spec())


@pytest.fixture
def copied(finished, tmp_path):
    study, output = finished
    return study, Path(shutil.copytree(output, tmp_path / "out"))


def test_second_run_gives_the_same_bytes_of_everything_but_logs_and_report(copied):
    study, output = copied
    but = r"^logs/|_report\.html$"  # they say when, how long and with what command
    before = studies.hash_tree(output, but=but)
    assert len(before) > 20
    studies.run_well(study, output, make_spec(), "--nprocs", "1", "--mem-gb", "1e-6", "--force")
    assert studies.hash_tree(output, but=but) == before
    assert not (output / ".staging").exists()
    assert not (output / ".work").exists()


def test_results_do_not_depend_on_how_the_maps_are_named(finished, tmp_path):
    study, output = finished
    other = studies.Study(tmp_path, study.maps)
    maps = {
        f"sub-{s}/sub-{s}_task-x_space-T1w_contrast-{c}_stat-effect_statmap.nii.gz": values
        for (s, c), values in study.maps.items()
    }
    builders.write_derivative(other.bids / "derivatives", maps)
    shutil.copy(study.bids / "dataset_description.json", other.bids)
    document = builders.make_spec(settings=SETTINGS, Input={"contrast": ["A"]})
    renamed = studies.run_well(other, tmp_path / "renamed", document)
    assert (renamed / T_MAP).read_bytes() == (output / T_MAP).read_bytes()


def test_failed_run_leaves_an_earlier_result_as_it_was(copied, capsys):
    study, output = copied
    before = studies.hash_tree(output)
    spec = study.write_spec(make_spec(Mask="missing.nii.gz"), "failing.json")
    assert studies.run(study, output, spec) == 66
    assert studies.hash_tree(output) == before


def test_node_that_was_renamed_loses_its_old_folder(copied):
    study, output = copied
    document = make_spec()
    document["Nodes"][0]["Name"] = "average"
    (output / "node-mean" / "figures" / "extra.txt").write_text("of an earlier run")
    (output / "notes.txt").write_text("the user's")
    studies.run_well(study, output, document)
    assert [path.name for path in output.glob("node-*")] == ["node-average"]
    assert (output / "notes.txt").read_text() == "the user's"


def test_another_models_node_is_protected_and_another_node_goes_beside_it(copied, capsys):
    study, output = copied
    before = studies.hash_tree(output)
    document = {**make_spec(), "Name": "second"}
    spec = study.write_spec(document, "second.json")
    assert studies.run(study, output, spec) == 65
    said = capsys.readouterr().err
    assert "Nodes[0].Name" in said
    assert "model-study_smdl.json" in said
    assert studies.hash_tree(output) == before
    document["Nodes"][0]["Name"] = "other"
    studies.run_well(study, output, document)
    after = studies.hash_tree(output)
    assert {name: digest for name, digest in after.items() if name in before} == before
    assert (output / "node-other").is_dir()
    assert (output / "model-second_report.html").is_file()


def test_name_of_a_dataset_stands_for_one_folder_in_the_results_of_all_models(copied, tmp_path, capsys):
    study, output = copied
    moved = Path(shutil.copytree(study.firstlevel, tmp_path / "moved" / "firstlevel"))
    document = {**make_spec(), "Name": "second"}
    document["Nodes"][0]["Name"] = "other"
    spec = study.write_spec(document, "moved.json")
    assert studies.run(study, output, spec, "--derivatives", str(moved)) == 64
    assert "--derivatives NAME=" in capsys.readouterr().err
    assert studies.run(study, output, spec, "--derivatives", f"moved={moved}", "--dry-run") == 0


def test_dry_run_prints_the_plan_and_writes_nothing(study, capsys):
    spec = study.write_spec(make_spec())
    before = studies.hash_tree(study.root)
    assert studies.run(study, study.root / "out", spec, "--dry-run") == 0
    plan = capsys.readouterr().out
    for words in ("Node mean", "6 maps of 6 subjects", "5 residual degrees of freedom", "+1 intercept", "uncorrected"):
        assert words in plan
    assert "Input: desc is B" in plan
    assert all(f"bids:firstlevel:{studies.name_map(s, 'A')}" in plan for s in studies.SUBJECTS[:6])
    assert studies.hash_tree(study.root) == before
    assert not (study.root / "out").exists()


def test_work_directory_is_used_and_only_what_was_made_there_goes(study, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine").write_text("")
    output = studies.run_well(study, tmp_path / "out", make_spec(), "-w", str(work), "--mem-gb", "1e-6")
    assert studies.list_files(work) == {"mine"}
    assert (output / T_MAP).is_file()


# Masks and subjects


@pytest.mark.parametrize("by", ["option", "path", "entities"])
def test_given_mask_bounds_the_analysed_voxels_and_is_named_as_a_source(study, by):
    given = np.zeros(studies.SHAPE, dtype=np.uint8)
    given[2:5, 2:4, :] = 1
    inside = study.firstlevel / "task-x_space-T1w_desc-brain_mask.nii.gz"
    path = builders.write_map(inside if by == "entities" else study.root / "brain.nii.gz", given)
    settings = {"path": {"Mask": "brain.nii.gz"}, "entities": {"Mask": {"desc": "brain"}}}.get(by, {})
    options = ("--mask", str(path)) if by == "option" else ()
    output = studies.run_well(study, study.root / "out", make_spec(**settings), *options)
    maps = {key: values for key, values in study.maps.items() if key[1] == "A"}
    expected = studies.find_analysed(maps) & (given > 0)
    np.testing.assert_array_equal(read_values(output / MASK) > 0, expected)
    sidecar = json.loads((output / MASK.replace(".nii.gz", ".json")).read_text())
    uri = "bids:firstlevel:task-x_space-T1w_desc-brain_mask.nii.gz" if by == "entities" else path.as_uri()
    assert sidecar["Sources"][-1] == uri
    assert sidecar["VoxelsMissing"] == given.sum() - expected.sum()


def test_participant_label_takes_subjects_with_or_without_prefix_and_the_others_keep_their_reason(study):
    chosen = ["02", "sub-03", "04", "05"]
    output = studies.run_well(study, study.root / "out", make_spec(), "--participant-label", *chosen)
    inputs = read_table(output / "node-mean" / "inputs.tsv")
    included = inputs[inputs["included"] == "yes"]
    assert list(included["subject"]) == ["02", "03", "04", "05"]
    assert list(included["design_row"]) == ["0", "1", "2", "3"]
    left = inputs[inputs["included"] == "no"]
    assert set(left["design_row"]) == {"n/a"}
    reasons = dict(zip(left["file"].str.rpartition("/")[2], left["reason"], strict=True))
    assert "--participant-label" in reasons[f"sub-01_{PREFIX}desc-A_effect.nii.gz"]
    assert "desc is B" in reasons[f"sub-02_{PREFIX}desc-B_effect.nii.gz"]
    data = study.stack("A")[1:5, 3, 3, 1]
    t = data.mean() / (data.std(ddof=1) / 2)
    assert read_values(output / T_MAP)[3, 3, 1] == pytest.approx(t, rel=1e-5)


def test_glass_brain_and_cortex_are_drawn_of_maps_in_mni_space_only(finished, tmp_path):
    root = tmp_path / "mni"
    maps = builders.make_maps(contrasts=("A",), effects={"A": 2.0})
    builders.write_derivative(root, maps)
    spec = builders.write_spec(tmp_path / "spec.json", builders.make_spec(settings=SETTINGS))
    assert main([str(root / "firstlevel"), str(tmp_path / "out"), "group", "-m", str(spec)]) == 0
    drawn = {path.name.rpartition("_")[2] for path in (tmp_path / "out").rglob("*desc-uncorrected*.png")}
    assert drawn == {"ortho.png", "glassbrain.png", "surface.png", "clusters.png"}
    assert not [*finished[1].rglob("*glassbrain*"), *finished[1].rglob("*surface*")]


# The dataset


def test_output_passes_the_bids_validator_without_errors(finished):
    _, output = finished
    assert find_bids_errors(output) == []


def test_dataset_description_says_what_bids_requires_of_a_derivative(finished):
    study, output = finished
    description = json.loads((output / "dataset_description.json").read_text())
    assert description["Name"]
    assert description["BIDSVersion"].startswith("1.")
    assert description["DatasetType"] == "derivative"
    (generated_by,) = description["GeneratedBy"]
    assert (generated_by["Name"], generated_by["Version"]) == ("bids_group", __version__)
    assert description["DatasetLinks"] == {"firstlevel": study.firstlevel.as_uri()}
    assert {"URL": study.bids.as_uri()} in description["SourceDatasets"]


def test_bidsignore_has_no_pattern_that_could_hide_a_subject(finished):
    _, output = finished
    lines = (output / ".bidsignore").read_text().split()
    assert sorted(lines) == ["/model-*_report.html", "/model-*_smdl.json", "/node-*"]


@pytest.mark.parametrize("dropped", BIDSIGNORE_LINES)
def test_every_line_of_bidsignore_is_needed(dropped, finished, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(finished[1], output)
    (output / ".bidsignore").write_text("".join(f"{line}\n" for line in BIDSIGNORE_LINES if line != dropped))
    assert find_bids_errors(output) != []


# Before anything slow


def test_report_is_announced_on_stdout_alone(copied, capsys):
    study, output = copied
    studies.run_well(study, output, make_spec())
    assert capsys.readouterr().out == f"{output / 'model-study_report.html'}\n"


@pytest.mark.parametrize(("option", "words"), [("--help", "OUTPUT_DIR"), ("--version", f"bids_group {__version__}")])
def test_help_and_version_import_nothing_slow(option, words):
    code = (
        "import sys\nfrom bids_group.cli import main\n"
        f"try:\n    main(['{option}'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "slow = {'numpy', 'scipy', 'pandas', 'nibabel', 'nilearn', 'bids', 'matplotlib'}\n"
        "print('loaded:', sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert words in done.stdout
    assert done.stdout.endswith("loaded: []\n")


def test_run_py_is_the_same_command():
    done = subprocess.run([sys.executable, PROJECT / "run.py", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"bids_group {__version__}\n"


def test_every_option_of_the_interface_is_known(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for option in (
        *("--model", "-m", "--derivatives", "-d", "--participant-label", "--participant_label", "--bids-filter-file"),
        *("--bids-database-dir", "--skip-bids-validation", "--mask", "--n-permutations", "--random-seed", "--work-dir"),
        *("-w", "--nprocs", "--n_cpus", "--n-cpus", "--mem-gb", "--dask-scheduler", "--slurm", "--dry-run"),
        *("--reports-only", "--verify", "--force", "--version", "--verbose", "-v", "-h"),
    ):
        assert option in said
