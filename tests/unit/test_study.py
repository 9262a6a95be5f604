"""A study as a whole: what is wrong with it is told before any map is read."""

import numpy as np
import pandas as pd
import pytest

from bids_group.errors import DataError, MissingInputError, NothingSelectedError, SpecError
from bids_group.inputs.study import InputOptions, list_map_paths, prepare_study
from tests.builders import AFFINE, make_maps, make_spec, write_derivative, write_map, write_participants, write_spec

SUBJECTS = ("01", "02", "03", "04")
SHAPE = (3, 3, 2)


@pytest.fixture
def study_of(tmp_path):
    """Prepare the study of a derivative in the test's folder."""

    def prepare(document=None, **options):
        spec = write_spec(tmp_path / "smdl.json", document or make_spec())
        return prepare_study(InputOptions(tmp_path / "firstlevel", spec, **options), tmp_path / "out")

    return prepare


@pytest.fixture
def dataset(tmp_path):
    return write_derivative(tmp_path, make_maps(SUBJECTS, ("A", "B"), shape=SHAPE))


def test_paths_are_in_the_order_of_the_design(dataset, study_of):
    (node,) = study_of().nodes
    names = [[path.name for path in list_map_paths(model)] for model in node.plan.models]
    assert names == [[f"sub-{s}_task-x_desc-{c}_effect.nii.gz" for s in SUBJECTS] for c in "AB"]
    assert [grid.shape for grid in node.grids] == [SHAPE, SHAPE]


def test_participants_reach_the_design(dataset, study_of):
    table = pd.DataFrame({"participant_id": [f"sub-{s}" for s in SUBJECTS[::-1]], "age": [40, 30, 20, 10.5]})
    write_participants(dataset, table)
    (node,) = study_of(make_spec(model={"X": [1, "age"]})).nodes
    np.testing.assert_array_equal(node.plan.models[0].design.matrix["age"], [10.5, 20, 30, 40])


def test_filters_of_command_line_spec_and_file_meet(dataset, study_of, tmp_path):
    (tmp_path / "filter.json").write_text('{"desc": "A"}')
    study = study_of(
        make_spec(Input={"task": ["x"]}), participants=("01", "03"), bids_filter_file=tmp_path / "filter.json"
    )
    (model,) = study.nodes[0].plan.models
    assert list(model.rows["subject"]) == ["01", "03"]
    assert len(study.nodes[0].plan.excluded) == 6


def test_every_file_that_results_depend_on_is_known_with_a_stamp(dataset, study_of, tmp_path):
    for name in ("mask.nii", "regions.nii"):
        write_map(tmp_path / name, np.ones(SHAPE, np.uint8))
    (tmp_path / "filter.json").write_text('{"desc": "A"}')
    write_participants(dataset, pd.DataFrame({"participant_id": [f"sub-{s}" for s in SUBJECTS]}))
    document = make_spec(settings={"Mask": "mask.nii", "ROIs": [{"Image": "regions.nii"}]})
    study = study_of(document, bids_filter_file=tmp_path / "filter.json")
    assert {file.kind for file in study.files} == {"map", "mask", "regions", "table", "spec", "filter"}
    assert {file.path for file in study.files} == set(study.stamps)


def test_the_mask_of_the_command_line_comes_before_that_of_the_spec(dataset, study_of, tmp_path):
    for name in ("spec.nii", "line.nii", "firstlevel/desc-group_mask.nii.gz"):
        write_map(tmp_path / name, np.ones(SHAPE, np.uint8))
    document = make_spec(settings={"Mask": "spec.nii"})
    assert study_of(document).nodes[0].masks == (tmp_path / "spec.nii",)
    assert study_of(document, mask=tmp_path / "line.nii").nodes[0].masks == (tmp_path / "line.nii",)
    (found,) = study_of(make_spec(settings={"Mask": {"desc": "group"}})).nodes[0].masks
    assert found.name == "desc-group_mask.nii.gz"
    assert study_of().nodes[0].masks == ()


def test_masks_of_single_subjects_must_be_there_for_all_of_them(dataset, study_of, tmp_path):
    subjects = sorted(path.name for path in dataset.glob("sub-*"))
    document = make_spec(settings={"Mask": {"desc": "brain"}})
    paths = [tmp_path / f"firstlevel/{subject}/{subject}_desc-brain_mask.nii.gz" for subject in subjects]
    for path in paths[:-1]:
        write_map(path, np.ones(SHAPE, np.uint8))
    with pytest.raises(SpecError, match=f"none of {subjects[-1]}"):
        study_of(document)
    write_map(paths[-1], np.ones(SHAPE, np.uint8))
    assert study_of(document).nodes[0].masks == tuple(paths)


def test_a_mask_that_does_not_fit_is_refused_before_anything_is_computed(dataset, study_of, tmp_path):
    shifted = AFFINE.copy()
    shifted[0, 3] += 1
    write_map(tmp_path / "shifted.nii", np.ones(SHAPE, np.uint8), affine=shifted)
    with pytest.raises(DataError, match="not on the grid"):
        study_of(mask=tmp_path / "shifted.nii")


def test_missing_masks_are_told_with_their_source(dataset, study_of, tmp_path):
    with pytest.raises(MissingInputError, match="--mask"):
        study_of(mask=tmp_path / "absent.nii")
    with pytest.raises(MissingInputError, match=r"bids_group\.Mask: .*absent\.nii"):
        study_of(make_spec(settings={"Mask": "absent.nii"}))
    with pytest.raises(SpecError, match=r"bids_group\.Mask"):
        study_of(make_spec(settings={"Mask": {"desc": "absent"}}))


def test_faults_have_the_exit_codes_of_the_contract(dataset, study_of, tmp_path):
    write_map(dataset / "sub-02/sub-02_task-x_desc-B_effect.nii.gz", np.ones(SHAPE, np.float32), affine=AFFINE + 1e-1)
    for error, code, arguments in (
        (DataError, 65, ()),
        (DataError, 65, (make_spec(Input={"desc": ["A", "Z"]}),)),
        (SpecError, 65, (make_spec(node={"Name": ""}),)),
        (NothingSelectedError, 18, (make_spec(Input={"desc": ["Z"]}),)),
    ):
        with pytest.raises(error) as caught:
            study_of(*arguments)
        assert caught.value.exit_code == code
    with pytest.raises(MissingInputError, match="filter"):
        study_of(bids_filter_file=tmp_path / "filter.json")


def test_a_database_that_lists_a_deleted_map_is_told(dataset, study_of, tmp_path):
    study_of(database_dir=tmp_path / "db")
    (dataset / "sub-02/sub-02_task-x_desc-B_effect.nii.gz").unlink()
    with pytest.raises(MissingInputError, match="sub-02_task-x_desc-B"):
        study_of(database_dir=tmp_path / "db")
    with pytest.raises(MissingInputError, match="no such file"):
        prepare_study(InputOptions(dataset, tmp_path / "absent.json"), tmp_path / "out")
