"""Laws of the parts of the reading of inputs that other tests reach only through the whole."""

import re

import pandas as pd
import pytest

from bids_group.errors import DataError, SpecError
from bids_group.inputs.folders import check_folders
from bids_group.inputs.label_images import list_label_files
from bids_group.inputs.map_sources import MapFile, add_up, find_repeated, has_variance, list_weights
from bids_group.inputs.plan_checks import check_variances
from bids_group.inputs.query import read_entities
from bids_group.inputs.roi_spec import read_rois
from bids_group.inputs.spec import parse_spec
from bids_group.inputs.strict import Place
from bids_group.inputs.subject_checks import check_groups, check_subject_node
from bids_group.inputs.variables import VariableTable
from tests.builders import make_participants, make_rows, make_spec


def make_file(name, *, variance=True):
    return MapFile(f"{name}.nii", name, variance=MapFile(f"{name}_variance.nii", f"{name}_v") if variance else None)


A, B, C = (make_file(name) for name in "ABC")


def test_sums_of_sums_are_one_sum_in_which_what_cancels_is_not_read():
    inner = add_up([A, B], [1.0, 1.0])
    total = add_up([inner, B, C], [0.5, -0.5, 0.1 + 0.2])
    assert {file.uri: weight for file, weight in list_weights(total)} == {"A": 0.5, "C": pytest.approx(0.3)}
    assert find_repeated(total) is None


def test_variances_must_be_known_and_of_independent_parts():
    bare = make_file("D", variance=False)
    assert has_variance(add_up([A, B], [1, 1]))
    assert not has_variance(add_up([A, bare], [1, 1]))
    check_variances("Nodes[0]", pd.DataFrame({"source": [A, add_up([B, C], [1, -1])]}))
    with pytest.raises(SpecError, match=r"^Nodes\[0\]: 1 of 2 maps have no map of their variance.*such as D.nii"):
        check_variances("Nodes[0]", pd.DataFrame({"source": [A, bare]}))


def test_entities_are_those_of_the_name_and_the_first_of_two_counts():
    name = "sub-01_ses-2_task-faces_run-01_contrast-A_stat-effect_statmap.nii.gz"
    expected = {"subject": "01", "session": "2", "task": "faces", "run": "01", "contrast": "A", "stat": "effect"}
    assert read_entities(name) == expected
    assert read_entities("sub-01_run-1_run-2_nokey-x_z.nii") == {"subject": "01", "run": "1"}


def test_folders_that_never_end_or_cannot_be_named_are_refused_where_they_are_looked_into(tmp_path):
    (tmp_path / "sub-01" / "func").mkdir(parents=True)
    skipped = [re.compile("^/code")]
    check_folders(tmp_path, skipped)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "again").symlink_to(tmp_path)
    check_folders(tmp_path, skipped)
    (tmp_path / "sub-01" / "again").symlink_to(tmp_path)
    with pytest.raises(DataError, match=f"{tmp_path}/sub-01/again") as caught:
        check_folders(tmp_path, skipped)
    assert caught.value.exit_code == 65


def test_files_of_regions_are_the_images_and_the_tables_that_stand_beside_them(tmp_path):
    document = [{"Image": "parts.nii.gz"}, {"Image": "other.nii", "Name": "one"}, {"Atlas": "aal"}]
    rois = read_rois(Place(document, "ROIs"))
    images = [tmp_path / "parts.nii.gz", tmp_path / "other.nii"]
    assert list_label_files(rois, tmp_path) == images
    (tmp_path / "parts.tsv").write_text("index\tname\n1\tFFA\n")
    assert list_label_files(rois, tmp_path) == [*images, tmp_path / "parts.tsv"]


def make_subject_node(*, X=(1,), **changed):
    node = {"Level": "Subject", "Name": "combine", "GroupBy": ["subject", "contrast"], "DummyContrasts": {"Test": "t"}}
    document = make_spec()
    document["Nodes"].insert(0, {**node, "Model": {"Type": "glm", "X": list(X)}, **changed})
    return parse_spec(document, "x").nodes[0]


ROWS = make_rows(("01", "02"), ("A", "B"), session=None, run=["1", "2"] * 2)
SCALE = {"Transformer": "pybids-transforms-v1", "Instructions": [{"Name": "Scale", "Input": ["age"]}]}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"GroupBy": ["subject", "session"]}, r"Nodes\[0\].GroupBy\[1\]: no map has the entity 'session'"),
        ({"Transformations": SCALE, "X": ["age"]}, r"Instructions\[0\].*: Scale is computed over the rows of a model"),
        ({"GroupBy": ["subject"]}, r"Nodes\[0\].DummyContrasts: the mean over several contrasts needs a name"),
    ],
)
def test_a_subject_node_computes_nothing_over_other_subjects_and_names_its_means(changed, problem):
    with pytest.raises(SpecError, match=problem):
        check_subject_node(make_subject_node(**changed), ROWS)


def test_a_subject_node_that_groups_by_what_there_is_is_taken():
    check_subject_node(make_subject_node(), ROWS)


def test_maps_that_differ_in_what_a_subject_node_does_not_name_are_not_averaged_but_runs_are():
    participants = make_participants(("01", "02"))
    node = make_subject_node()
    check_groups(node, VariableTable(ROWS, participants, entity_levels={}))
    of_spaces = pd.concat([ROWS.assign(space=space) for space in ("MNI", "T1w")])
    with pytest.raises(SpecError, match="space"):
        check_groups(node, VariableTable(of_spaces, participants, entity_levels={}))
    with pytest.raises(SpecError, match=r"average maps of different contrasts \(A, B\)"):
        check_groups(make_subject_node(GroupBy=["subject"]), VariableTable(ROWS, participants, entity_levels={}))
