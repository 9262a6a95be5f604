"""Which folders are looked into: named ones, a derivative itself, or every dataset in derivatives but the output."""

import json

import pytest

from bids_group.errors import InvalidBidsError, MissingInputError, NothingSelectedError, UsageError
from bids_group.inputs.datasets import check_description, find_datasets
from tests.builders import make_maps, write_derivative


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "raw", "BIDSVersion": "1.10.0"}))
    return folder


def add(raw, name):
    return write_derivative(raw / "derivatives", make_maps(("01",)), name=name)


def find(raw, *named, output="out", **options):
    search = find_datasets(raw, named, raw / "derivatives" / output, **options)
    return {dataset.name: dataset.path for dataset in search.datasets}, search.warnings


def test_every_dataset_in_derivatives_is_looked_into_but_the_output_and_hidden_folders(raw):
    first, second = add(raw, "first"), add(raw, "second")
    add(raw, "out")
    add(raw, ".cache")
    assert find(raw) == ({"first": first, "second": second}, ())


def test_an_output_within_a_dataset_does_not_hide_the_dataset(raw):
    first = add(raw, "first")
    assert find(raw, output="first/group")[0] == {"first": first}


def test_a_folder_without_description_is_passed_over_with_a_warning(raw):
    first, second = add(raw, "first"), add(raw, "second")
    (second / "dataset_description.json").unlink()
    found, (warning,) = find(raw)
    assert found == {"first": first}
    assert str(second) in warning
    (first / "dataset_description.json").unlink()
    with pytest.raises(NothingSelectedError, match="not looked into") as caught:
        find(raw)
    assert caught.value.exit_code == 18


def test_a_derivative_is_its_own_input(tmp_path):
    folder = write_derivative(tmp_path, make_maps(("01",)), name="first level")
    (dataset,) = find_datasets(folder, (), tmp_path / "out").datasets
    assert (dataset.name, dataset.path) == ("firstlevel", folder)
    assert dataset.uri(folder / "sub-01" / "x.nii") == "bids:firstlevel:sub-01/x.nii"


def test_named_datasets_replace_the_search(raw, tmp_path):
    add(raw, "first")
    elsewhere = write_derivative(tmp_path, {}, name="b")
    found, _ = find(raw, f"mine={elsewhere}", str(raw / "derivatives" / "first"))
    assert found == {"mine": elsewhere, "first": raw / "derivatives" / "first"}


def test_two_datasets_of_one_name_need_names(raw, tmp_path):
    here, there = add(raw, "first"), write_derivative(tmp_path, {}, name="first")
    with pytest.raises(UsageError, match="NAME=PATH"):
        find(raw, str(here), str(there))
    assert len(find(raw, str(here), f"other={there}")[0]) == 2


def test_folders_that_are_not_there_are_66(raw, tmp_path):
    for call in (lambda: find(raw, "x=/does/not/exist"), lambda: find(tmp_path / "absent")):
        with pytest.raises(MissingInputError, match="no such folder") as caught:
            call()
        assert caught.value.exit_code == 66


@pytest.mark.parametrize(
    "description",
    [None, "", "{", "[]", '{"Name": "x"}', '{"BIDSVersion": "1"}', '{"Name": "", "BIDSVersion": "1"}', "{'a': 1}"],
)
def test_a_description_without_name_and_version_is_invalid_unless_validation_is_skipped(raw, description):
    add(raw, "first")
    path = raw / "dataset_description.json"
    path.unlink()
    if description is not None:
        path.write_text(description)
    with pytest.raises(InvalidBidsError, match=r"dataset_description\.json") as caught:
        find(raw)
    assert caught.value.exit_code == 16
    assert "first" in find(raw, validate=False)[0]


def test_each_derivative_is_checked(raw):
    folder = add(raw, "first")
    (folder / "dataset_description.json").write_text('{"Name": "x"}')
    with pytest.raises(InvalidBidsError, match="BIDSVersion"):
        find(raw)
    with pytest.raises(InvalidBidsError, match="BIDSVersion"):
        check_description(folder)
