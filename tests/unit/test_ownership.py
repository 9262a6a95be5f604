"""No output folder is taken that holds what this model did not write."""

import json

import pytest

from bids_group.errors import OutputError, SpecError, UsageError
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.spec import read_spec
from bids_group.outputs.dataset import describe_dataset
from bids_group.outputs.ownership import check_output_dir, list_stale_folders
from tests import builders

OURS = {"Name": "x", "GeneratedBy": [{"Name": "bids_group"}]}


def read(folder, name="study", nodes=("mean",)):
    document = builders.make_spec()
    document |= {"Name": name, "Nodes": [{**document["Nodes"][0], "Name": node} for node in nodes]}
    return read_spec(builders.write_spec(folder / "spec.json", document))


def leave_result(output, name="study", nodes=("mean",), links=None):
    """Leave what a run of another model leaves."""
    output.mkdir(exist_ok=True)
    (output / "dataset_description.json").write_text(json.dumps({**OURS, "DatasetLinks": links or {}}))
    (output / f"model-{name}_smdl.json").write_text(json.dumps({"Name": name, "Nodes": [{"Name": n} for n in nodes]}))


@pytest.mark.parametrize(
    "description", ["{", "[]", "{}", '{"GeneratedBy": "bids_group"}', '{"GeneratedBy": [{"Name": "fMRIPrep"}]}']
)
def test_folder_with_a_description_that_is_not_ours_is_refused(tmp_path, description):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_description.json").write_text(description)
    with pytest.raises(OutputError, match="did not write"):
        check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path), [])


def test_inputs_are_refused_as_output_also_through_a_link(tmp_path):
    (tmp_path / "bids").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "bids")
    for bids_dir, datasets in ((tmp_path / "bids", []), (tmp_path / "x", [Dataset("first", tmp_path / "bids")])):
        with pytest.raises(UsageError, match="OUTPUT_DIR is"):
            check_output_dir(tmp_path / "link", bids_dir, read(tmp_path), datasets)


def test_node_of_another_model_is_refused_and_own_nodes_are_not(tmp_path):
    leave_result(tmp_path / "out", "first", ["mean", "anova"])
    with pytest.raises(SpecError, match=r"Nodes\[1\]\.Name.*node-anova.*model-first_smdl"):
        check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path, "second", ["new", "an ova"]), [])
    check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path, "first", ["anova"]), [])


@pytest.mark.parametrize("document", ["{", "[]", '{"Nodes": 1}', '{"Nodes": [1, {}, {"Name": 2}]}'])
def test_spec_that_was_edited_in_the_output_owns_nothing(tmp_path, document):
    leave_result(tmp_path / "out")
    (tmp_path / "out" / "model-study_smdl.json").write_text(document)
    assert list_stale_folders(tmp_path / "out", read(tmp_path)) == []
    check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path, "second"), [])


def test_only_folders_of_nodes_that_the_model_no_longer_has_are_stale(tmp_path):
    leave_result(tmp_path / "out", "study", ["mean", "old one"])
    leave_result(tmp_path / "out", "other", ["another"])
    assert list_stale_folders(tmp_path / "out", read(tmp_path)) == ["node-oldone"]


def test_links_that_other_models_use_are_kept_and_never_redirected(tmp_path):
    first, second = Dataset("first", tmp_path / "a"), Dataset("first", tmp_path / "b")
    leave_result(tmp_path / "out", "other", ["another"], {"first": first.path.as_uri(), "old": "file:///old"})
    spec = read(tmp_path)
    with pytest.raises(UsageError, match="NAME="):
        check_output_dir(tmp_path / "out", tmp_path / "bids", spec, [second])
    described = describe_dataset(tmp_path / "out", tmp_path / "bids", spec, [first, Dataset("new", tmp_path / "b")])
    assert set(described["DatasetLinks"]) == {"first", "old", "new"}


def test_model_that_is_alone_in_its_folder_may_move_its_inputs(tmp_path):
    leave_result(tmp_path / "out", links={"first": "file:///elsewhere"})
    moved = Dataset("first", tmp_path / "b")
    described = describe_dataset(tmp_path / "out", tmp_path / "bids", read(tmp_path), [moved])
    assert described["DatasetLinks"] == {"first": moved.path.as_uri()}


@pytest.mark.parametrize("name", ["node-mean/precious.txt", ".bidsignore", "logs/own.txt", "model-study_report.html"])
def test_files_of_somebody_else_are_not_taken_for_ours(tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(OutputError, match="not known to be this app's"):
        check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path), [])


def test_other_files_in_the_output_folder_are_left_in_peace(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path), [])


def test_another_model_whose_name_gives_the_same_label_is_refused(tmp_path):
    leave_result(tmp_path / "out", name="study", nodes=("other",))
    with pytest.raises(SpecError, match="'study'"):
        check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path, name="stu dy"), [])


@pytest.mark.parametrize("links", [["a"], "a", 1])
def test_links_that_are_no_object_are_not_kept(tmp_path, links):
    leave_result(tmp_path / "out", name="other", nodes=("other",), links=links)
    check_output_dir(tmp_path / "out", tmp_path / "bids", read(tmp_path), [Dataset("a", tmp_path / "a")])
