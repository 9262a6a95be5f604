"""Maps that are shown and not analysed: one of each subject, those that the spec or the default names, as they are."""

import numpy as np
import pytest

from bids_group.analysis.picturing import MOST_SUBJECTS_SHOWN, view_subject_maps
from bids_group.errors import DataError, MissingInputError, SpecError
from bids_group.inputs.study import InputOptions, prepare_study
from bids_group.outputs import figures
from tests.builders import AFFINE, make_maps, make_spec, write_derivative, write_map, write_spec

SUBJECTS = ("01", "02", "03")
SHAPE = (3, 4, 2)
Z = "EffectsOfInterest_z"


def name_shown(subject, ending=f"task-x_desc-{Z}", *, folder=""):
    return f"sub-{subject}/{folder}sub-{subject}_{ending}.nii.gz"


def draw(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def dataset(tmp_path):
    return write_derivative(tmp_path, make_maps(SUBJECTS, ("A", "B"), shape=SHAPE))


@pytest.fixture
def find(tmp_path, dataset):
    """Return what is found of maps that lie in the dataset under some names."""

    def find_shown(names=(), wanted=None, *, group_by=("contrast",), **options):
        for seed, name in enumerate(names):
            write_map(dataset / name, draw(seed))
        settings = {} if wanted is None else {"SubjectMaps": wanted}
        document = make_spec(settings=settings, node={"GroupBy": list(group_by)})
        spec = write_spec(tmp_path / "smdl.json", document)
        study = prepare_study(InputOptions(dataset, spec, **options), tmp_path / "out")
        return study, study.nodes[0].subject_maps

    return find_shown


def list_names(maps):
    return {subject: None if file is None else file.path.name for subject, file in maps.files.items()}


def test_without_such_maps_nothing_is_shown_and_nothing_said(find):
    study, maps = find(["sub-01/sub-01_task-x_desc-Other_z.nii.gz", "sub-01/sub-01_desc-EffectsOfInterest_F.nii.gz"])
    assert (dict(maps.files), maps.warnings) == ({}, ())
    assert view_subject_maps(maps) is None
    assert {file.kind for file in study.files} == {"map", "spec"}


@pytest.mark.parametrize(
    "ending", [f"task-x_desc-{Z}", f"desc-{Z}", "task-x_contrast-EffectsOfInterest_stat-z_statmap"]
)
def test_the_default_is_effects_of_interest_as_z_under_either_name(find, ending):
    study, maps = find([name_shown(subject, ending) for subject in SUBJECTS[::-1]])
    assert list_names(maps) == {subject: f"sub-{subject}_{ending}.nii.gz" for subject in SUBJECTS}
    assert list(maps.files) == list(SUBJECTS)
    assert (maps.unit, maps.title) == ("z", "contrast EffectsOfInterest")
    assert {file.uri for file in study.files if file.kind == "shown"} == {file.uri for file in maps.found}
    assert {file.path for file in maps.found} <= set(study.stamps)


def test_maps_may_stand_in_folders_above_those_of_the_effects(tmp_path):
    effects = {f"sub-{s}/ses-1/func/sub-{s}_ses-1_task-x_desc-A_effect.nii.gz": draw(1) for s in SUBJECTS}
    above = {name_shown("02"): draw(2), name_shown("03", folder="ses-1/"): draw(3)}
    root = write_derivative(tmp_path, {**effects, **above})
    write_map(tmp_path / "sub-01_desc-EffectsOfInterest_z.nii.gz", draw(4))  # outside the dataset
    spec = write_spec(tmp_path / "smdl.json", make_spec())
    maps = prepare_study(InputOptions(root, spec), tmp_path / "out").nodes[0].subject_maps
    assert [subject for subject, file in maps.files.items() if file] == ["02", "03"]


def test_maps_of_another_task_than_the_effects_are_not_theirs(find):
    _, maps = find([name_shown("01"), name_shown("02", f"task-other_desc-{Z}")])
    assert list_names(maps) == {"01": f"sub-01_task-x_desc-{Z}.nii.gz", "02": None, "03": None}
    assert maps.warnings == ("2 of 3 subjects have no map of contrast EffectsOfInterest to show: sub-02, sub-03",)


def test_a_subject_without_a_map_is_named_in_a_warning_of_the_model(find):
    study, _ = find([name_shown("01"), name_shown("03")])
    first, second = study.nodes[0].plan.models
    assert first.warnings[-1] == "1 of 3 subjects have no map of contrast EffectsOfInterest to show: sub-02"
    assert not any("to show" in warning for warning in second.warnings)


def test_several_maps_of_a_subject_are_refused_if_asked_for_and_else_not_shown(find):
    names = [name_shown(s, f"task-x_run-{r}_desc-{Z}") for s in SUBJECTS[:2] for r in (1, 2)]
    _, maps = find(names)
    assert not maps.files
    (warning,) = maps.warnings
    listed = (
        "2 subjects have more than one, sub-01 sub-01_task-x_run-1_desc-EffectsOfInterest_z.nii.gz, sub-01_task-x_run-2"
    )
    assert listed in warning
    with pytest.raises(SpecError, match=r"^Nodes\[0\].Model.Software.bids_group.SubjectMaps: 2 subjects") as caught:
        find((), {"desc": "EffectsOfInterest"})
    assert listed in str(caught.value)
    assert caught.value.exit_code == 65
    _, chosen = find([name_shown("03", f"task-x_run-02_desc-{Z}")], {"desc": "EffectsOfInterest", "run": 2})
    assert all("run-" in name for name in list_names(chosen).values())
    assert [name.split("_run-")[1][:2].strip("_0") for name in list_names(chosen).values()] == ["2", "2", "2"]


def test_maps_that_are_asked_for_are_there_and_of_one_kind(find):
    with pytest.raises(
        SpecError, match=r"no subject has a map of desc Else that agree with the model's maps \(task x\)"
    ):
        find((), {"desc": "Else"})
    names = [name_shown("01", "task-x_desc-All_F"), name_shown("02", "task-x_desc-All_z")]
    _, maps = find(names, {"desc": "All", "suffix": "F"})
    assert (maps.unit, list_names(maps)) == ("F", {"01": "sub-01_task-x_desc-All_F.nii.gz", "02": None, "03": None})
    with pytest.raises(SpecError, match=r"of several kinds \(F, z\)"):
        find((), {"desc": "All", "suffix": ["F", "z"]})
    with pytest.raises(SpecError, match="SubjectMaps: name at least one entity"):
        find((), {})


def test_what_is_no_map_is_refused_if_asked_for_and_else_told(find, dataset):
    find([name_shown(subject) for subject in SUBJECTS])
    broken = dataset / name_shown("02")
    broken.write_bytes(b"nothing")
    _, maps = find()
    assert not maps.files
    assert str(broken) in maps.warnings[0]
    with pytest.raises(SpecError, match=f"SubjectMaps: {broken}"):
        find((), {"desc": "EffectsOfInterest"})


def test_a_link_to_a_map_that_was_not_fetched_stops_only_a_run_that_asks_for_it(find, dataset):
    link = dataset / name_shown("01")
    link.symlink_to("../.git/annex/objects/nowhere.nii.gz")
    _, maps = find()
    assert not maps.files
    assert (
        f"are not shown: {link}: a link to ../.git/annex/objects/nowhere.nii.gz, which is not there" in maps.warnings[0]
    )
    with pytest.raises(MissingInputError, match="fetch it first") as caught:
        find((), {"desc": "EffectsOfInterest"})
    assert caught.value.exit_code == 66


def test_maps_that_are_analysed_as_well_are_hashed_once(find):
    names = [f"sub-{subject}/sub-{subject}_task-x_desc-A_effect.nii.gz" for subject in SUBJECTS]
    study, maps = find((), {"desc": "A", "suffix": "effect"})
    assert [file.path.name for file in maps.found] == [name.split("/")[1] for name in names]
    assert not [file for file in study.files if file.kind == "shown"]


def test_subjects_that_are_not_analysed_are_not_shown(find):
    _, maps = find([name_shown(subject) for subject in SUBJECTS], participants=("01", "03"))
    assert list(maps.files) == ["01", "03"]


def test_what_is_seen_is_the_value_furthest_from_zero_on_each_maps_own_grid(find, dataset):
    _, maps = find([name_shown("01"), name_shown("03")])
    other = draw(7, (5, 2, 3))
    other[0, 0] = np.nan, np.inf, -9
    affine = np.array([[0, 0, 2.0, 1], [0, -3, 0, 4], [1.5, 0, 0, 0], [0, 0, 0, 1]])  # axes z, y from the front, x
    write_map(dataset / name_shown("03"), other, affine=affine)
    shown = view_subject_maps(maps)
    assert (shown.names, shown.n_subjects, shown.without_map) == (SUBJECTS, 3, ["02"])
    first, second, third = shown.views
    assert second is None

    def furthest(values, axis):
        low, high = values.min(axis=axis), values.max(axis=axis)
        return np.where(-low > high, low, high)

    stored = draw(0)[::-1]  # x ran to the left
    assert first.voxel_sizes == (4.0, 4.0, 4.0) == tuple(np.abs(np.diag(AFFINE)[:3]))
    np.testing.assert_array_equal(first.from_left, furthest(stored, 0))
    np.testing.assert_array_equal(first.from_above, furthest(stored, 2))
    turned = np.where(np.isfinite(other), other, 0).transpose(2, 1, 0)[:, ::-1]
    assert third.voxel_sizes == (2.0, 3.0, 1.5)
    np.testing.assert_array_equal(third.from_left, furthest(turned, 0))
    np.testing.assert_array_equal(third.from_above, furthest(turned, 2))


def test_of_many_subjects_the_first_are_shown_and_all_counted(tmp_path):
    subjects = [f"{number:02}" for number in range(MOST_SUBJECTS_SHOWN + 2)]
    maps = {**make_maps(subjects, shape=SHAPE), **{name_shown(subject): draw(1) for subject in subjects[:3]}}
    root = write_derivative(tmp_path, maps)
    study = prepare_study(InputOptions(root, write_spec(tmp_path / "smdl.json", make_spec())), tmp_path / "out")
    shown = view_subject_maps(study.nodes[0].subject_maps)
    assert shown.names == tuple(subjects[:MOST_SUBJECTS_SHOWN])
    assert shown.n_subjects == len(subjects)
    assert study.nodes[0].subject_maps.warnings[0].endswith("sub-07, sub-08 and 33 more")


def test_a_damaged_map_is_told_when_it_is_read(find, dataset):
    _, maps = find([name_shown(subject) for subject in SUBJECTS])
    path = dataset / name_shown("02")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"{path}: .*truncated"):
        view_subject_maps(maps)


def test_a_panel_without_a_map_leaves_the_others_as_they_are():
    view = (draw(0, (4, 2)), draw(1, (3, 4)), (4.0, 4.0, 4.0))
    with_gap, whole = (figures.draw_subjects(("01", "02"), views, n_subjects=2) for views in ([view, None], [view] * 2))
    assert with_gap.png != whole.png
    assert figures.draw_subjects(("01", "02"), [view, None], n_subjects=2, unit="z").png != with_gap.png
    assert figures.draw_subjects(("01",), [None], n_subjects=50).png[:4] == b"\x89PNG"
