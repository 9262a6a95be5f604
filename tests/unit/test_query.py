"""Finding maps: every effect map by its own name, nothing else, in an order that is the entities'."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import DataError, InvalidBidsError, NothingSelectedError
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.filters import Selection
from bids_group.inputs.query import find_maps, find_mask_files
from tests.builders import make_maps, name_map, write_derivative, write_map

VALUES = np.ones((2, 2, 2), np.float32)
SHAPE = (2, 2, 2)


def write(root, *names, name="firstlevel"):
    return write_derivative(root, dict.fromkeys(names, VALUES), name=name)


def find(*folders, entities=None, participants=(), bids_filter=None, **options):
    datasets = [Dataset(folder.name, folder) for folder in folders]
    return find_maps(datasets, Selection(entities or {}, participants, bids_filter or {}), **options)


def list_cells(table):
    return list(zip(table.rows["subject"], table.rows["contrast"], strict=True))


@pytest.mark.parametrize("naming", ["desc", "contrast"])
def test_both_namings_give_subjects_and_contrasts(tmp_path, naming):
    folder = write_derivative(tmp_path, make_maps(("01", "02"), ("A", "B"), shape=SHAPE, naming=naming))
    for entities in ({}, {"contrast": ("A", "B")}):
        table = find(folder, entities=entities)
        assert list_cells(table) == [("01", "A"), ("01", "B"), ("02", "A"), ("02", "B")]
        assert set(table.rows["task"]) == {"x"}
        assert table.rows["uri"][0] == f"bids:firstlevel:{name_map('01', 'A', naming=naming)}"


def test_a_desc_beside_a_contrast_is_not_the_contrast(tmp_path):
    folder = write(tmp_path, "sub-01/sub-01_contrast-A_stat-effect_desc-smooth_statmap.nii.gz")
    assert list_cells(find(folder)) == [("01", "A")]
    assert list_cells(find(folder, entities={"desc": ("smooth",)})) == [("01", "A")]


def test_variances_and_z_maps_are_never_taken_for_effects(tmp_path):
    folder = write(
        tmp_path,
        "sub-01/sub-01_contrast-A_stat-effect_statmap.nii.gz",
        "sub-01/sub-01_contrast-A_stat-variance_statmap.nii.gz",
        "sub-01/sub-01_contrast-A_stat-z_statmap.nii.gz",
        "sub-01/sub-01_contrast-A_statmap.nii.gz",
        "sub-01/sub-01_desc-A_variance.nii.gz",
        "sub-01/sub-01_desc-A_z.nii.gz",
        "sub-01/sub-01_desc-B_effect.nii",
    )
    (folder / "sub-01" / "sub-01_desc-C_effect.json").write_text("{}")
    assert list_cells(find(folder)) == [("01", "A"), ("01", "B")]
    assert list_cells(find(folder, entities={"suffix": ("statmap",), "contrast": ("A",)}))[0] == ("01", "A")
    (only,) = find(folder, entities={"stat": ("variance",)}).rows["path"]
    assert "stat-variance" in only


def test_an_effect_has_the_variance_beside_it_and_what_is_no_effect_has_none(tmp_path):
    names = {stat: f"sub-01/sub-01_contrast-A_stat-{stat}_statmap.nii.gz" for stat in ("effect", "variance", "z")}
    folder = write(tmp_path, *names.values())
    (source,) = find(folder, with_variances=True).rows["source"]
    assert (source.path, source.variance.path) == (folder / names["effect"], folder / names["variance"])
    (source,) = find(folder, entities={"stat": ("z",)}, with_variances=True).rows["source"]
    assert (source.path, source.variance) == (folder / names["z"], None)


@settings(max_examples=5, deadline=None)
@given(st.permutations([(s, c) for s in ("10", "2", "01") for c in ("B", "A")]))
def test_rows_are_ordered_by_entities_whatever_the_order_of_creation(tmp_path_factory, order):
    folder = write(tmp_path_factory.mktemp("order"), *(name_map(s, c) for s, c in order))
    assert list_cells(find(folder)) == [(s, c) for s in ("01", "10", "2") for c in ("A", "B")]


def test_two_datasets_are_read_as_one_and_keep_their_names(tmp_path):
    first = write(tmp_path, name_map("02", "A"), name="first")
    second = write(tmp_path, name_map("01", "A"), name="second")
    rows = find(first, second).rows
    assert list(rows["subject"]) == ["01", "02"]
    assert list(rows["dataset"]) == ["second", "first"]
    assert [uri.split(":")[1] for uri in rows["uri"]] == ["second", "first"]


def test_participants_and_filters_leave_a_reason_for_what_they_leave_out(tmp_path):
    folder = write_derivative(tmp_path, make_maps(("01", "02", "03"), ("A", "B"), shape=SHAPE))
    table = find(folder, participants=("01", "03"), bids_filter={"contrast": ("A",)})
    assert list_cells(table) == [("01", "A"), ("03", "A")]
    assert list(table.excluded["reason"]) == [
        "--bids-filter-file: contrast is B",
        "--participant-label: subject is 02",
        "--bids-filter-file: contrast is B",
        "--bids-filter-file: contrast is B",
    ]


def test_nothing_is_18_and_one_value_unmatched_is_65(tmp_path):
    folder = write_derivative(tmp_path, make_maps(("01",), ("A",), shape=SHAPE))
    empty = write(tmp_path, name="empty")
    for call in (
        lambda: find(empty),
        lambda: find(folder, entities={"task": ("z",)}),
        lambda: find(folder, participants=("99",)),
        lambda: find(folder, entities={"suffix": ("bold",)}),
    ):
        with pytest.raises(NothingSelectedError):
            call()
    for call in (
        lambda: find(folder, entities={"desc": ("A", "Z")}),
        lambda: find(folder, participants=("01", "99")),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert caught.value.exit_code == 65


@pytest.mark.parametrize(
    "name",
    [
        "sub-02/sub-01_desc-A_effect.nii.gz",
        "sub-01/ses-pre/sub-01_ses-post_desc-A_effect.nii.gz",
        "sub-01/ses-pre/sub-01_desc-A_effect.nii.gz",
        "sub-01/desc-A_effect.nii.gz",
    ],
)
def test_a_map_in_another_subjects_or_sessions_folder_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="disagree"):
        find(write(tmp_path, name))


def test_a_map_without_contrast_or_desc_is_refused(tmp_path):
    with pytest.raises(DataError, match="neither a contrast nor a desc"):
        find(write(tmp_path, "sub-01/sub-01_task-x_effect.nii.gz"))


def test_group_level_maps_are_nobodys(tmp_path):
    folder = write(tmp_path, name_map("01", "A"), "node-mean/task-x_contrast-A_stat-effect_statmap.nii.gz")
    assert list_cells(find(folder)) == [("01", "A")]


def test_entities_are_those_of_the_files_own_name(tmp_path):
    root = tmp_path / "task-other" / "sub-99" / "ses-9" / "desc-Q" / "contrast-Z"
    folder = write(root, "contrast-Y/task-z/sub-01_task-x_contrast-A_run-02_stat-effect_statmap.nii.gz")
    row = find(folder).rows.iloc[0]
    assert (row["subject"], row["task"], row["contrast"], row["run"]) == ("01", "x", "A", "02")
    assert row[["session", "desc"]].isna().all()


def test_hidden_folders_are_not_looked_into_but_a_dataset_may_stand_in_one(tmp_path):
    folder = write(tmp_path / ".hidden", name_map("01", "A"), ".trash/" + name_map("02", "A"))
    assert list_cells(find(folder)) == [("01", "A")]


def test_a_dataset_needs_no_description_to_be_searched_but_a_readable_one_if_any(tmp_path):
    folder = write(tmp_path, name_map("01", "A"))
    description = folder / "dataset_description.json"
    description.unlink()
    assert list_cells(find(folder)) == [("01", "A")]
    description.write_text("{")
    with pytest.raises(InvalidBidsError, match=r"dataset_description\.json"):
        find(folder)


def test_a_database_is_made_once_trusted_and_serves_other_selections(tmp_path):
    folder, database = write(tmp_path, name_map("01", "A"), "sub-01/sub-01_desc-A_variance.nii.gz"), tmp_path / "db"
    assert list_cells(find(folder, database_dir=database)) == [("01", "A")]
    write_map(folder / name_map("02", "A"), VALUES)
    assert list_cells(find(folder, database_dir=database)) == [("01", "A")]
    assert len(find(folder, entities={"suffix": ("variance",)}, database_dir=database).rows) == 1
    assert len(find(folder).rows) == 2


def test_the_database_of_another_dataset_or_no_database_is_refused(tmp_path):
    first, second = (write(tmp_path / place, name_map("01", "A")) for place in ("a", "b"))
    find(first, database_dir=tmp_path / "db")
    with pytest.raises(DataError, match="of another dataset"):
        find(second, database_dir=tmp_path / "db")
    (tmp_path / "junk" / "firstlevel").mkdir(parents=True)
    (tmp_path / "junk" / "firstlevel" / "layout_index.sqlite").write_text("junk")
    with pytest.raises(DataError, match="not a pybids database"):
        find(first, database_dir=tmp_path / "junk")


def test_masks_are_those_of_the_subjects_given_or_of_nobody(tmp_path):
    names = [f"sub-{s}/sub-{s}_desc-{d}_mask.nii.gz" for s in ("02", "01", "03") for d in ("brain", "lesion")]
    folder = write(tmp_path, *names, "group_desc-brain_mask.nii.gz")
    datasets = [Dataset("firstlevel", folder)]
    found = find_mask_files(datasets, {"desc": ("brain",)}, subjects=("01", "02"))
    assert found == [folder / "group_desc-brain_mask.nii.gz", folder / names[2], folder / names[0]]
    with pytest.raises(DataError, match="desc gm"):
        find_mask_files(datasets, {"desc": ("gm",)}, subjects=("01", "02"))


def test_what_bids_keeps_beside_the_data_is_not_data(tmp_path):
    name = "sub-09/sub-09_desc-A_effect.nii"
    folder = write(
        tmp_path, "sub-01/sub-01_desc-A_effect.nii", *(f"{top}/{name}" for top in ("code", "sourcedata", "models"))
    )
    assert list_cells(find(folder)) == [("01", "A")]


@pytest.mark.parametrize("inner", ["level.1", "first.feat", "v1.0/stats"])
def test_a_dot_in_the_name_of_a_folder_hides_nothing(tmp_path, inner):
    folder = write(tmp_path, "sub-01/sub-01_desc-A_effect.nii", f"{inner}/sub-02_desc-A_effect.nii.gz")
    assert list_cells(find(folder)) == [("01", "A"), ("02", "A")]
