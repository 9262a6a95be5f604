"""Names on disk are those that other people's scripts rely on."""

import pytest

from bids_group.outputs.naming import ModelNames, node_folder, report_name, sidecar_name, spec_name

ENTITIES = {"space": "MNI152NLin2009cAsym", "run": "2", "task": "faces", "session": "pre", "desc": "x", "contrast": "y", "subject": "01", "res": "2"}  # fmt: skip


def test_shared_entities_stand_in_the_order_of_bids_without_those_of_single_maps():
    names = ModelNames(ENTITIES)
    shared = "ses-pre_task-faces_run-2_space-MNI152NLin2009cAsym_res-2_"
    assert names.mask == f"{shared}desc-analysis_mask.nii.gz"
    assert names.statmap("A", "t") == f"{shared}contrast-A_stat-t_statmap.nii.gz"
    assert names.statmap("A", "logp", "fdr") == f"{shared}contrast-A_stat-logp_desc-fdr_statmap.nii.gz"
    assert names.dseg("A", "bonferroni") == f"{shared}contrast-A_desc-bonferroni_dseg.nii.gz"
    assert names.table("A", "fdr", "peaks") == f"{shared}contrast-A_desc-fdr_peaks.tsv"


def test_input_contrast_stands_before_a_models_own_files_and_not_in_those_of_a_contrast():
    names = ModelNames({"task": "x"}, "Faces+1")
    assert names.design == "contrast-Faces1_design.tsv"
    assert names.contrasts == "contrast-Faces1_contrasts.tsv"
    assert names.mask == "task-x_contrast-Faces1_desc-analysis_mask.nii.gz"
    assert names.statmap("Faces1Age", "t") == "task-x_contrast-Faces1Age_stat-t_statmap.nii.gz"


def test_without_group_by_and_entities_names_have_no_prefix():
    names = ModelNames({})
    assert (names.design, names.contrasts, names.mask) == ("design.tsv", "contrasts.tsv", "desc-analysis_mask.nii.gz")


def test_labels_drop_every_character_that_is_not_alphanumeric():
    assert node_folder("3x3 ANOVA (pooled)") == "node-3x3ANOVApooled"
    assert report_name("my_model-1") == "model-mymodel1_report.html"
    assert spec_name("../evil") == "model-evil_smdl.json"
    assert "contrast-grouppatient_" in ModelNames({}).statmap("group[patient]", "t")


@pytest.mark.parametrize("name", ["a_statmap.nii.gz", "a_statmap.tsv"])
def test_sidecar_has_the_name_of_its_file(name):
    assert sidecar_name(name) == "a_statmap.json"
