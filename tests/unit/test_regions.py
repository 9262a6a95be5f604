"""Regions of interest: strict reading, the voxels of atlases, images and spheres, and where files come from."""

import json

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import resample_to_img

from bids_group.analysis.regions import locate_regions
from bids_group.errors import MissingInputError, SpecError
from bids_group.inputs.nifti import Grid
from bids_group.inputs.origins import Origin, find_origin, may_share_data
from bids_group.inputs.roi_spec import read_rois
from bids_group.inputs.strict import Place
from bids_group.outputs.atlases import find_atlas_folder, load_atlas
from tests import builders

# No centre is half way between two voxels of an atlas, where programs round differently.
STEP = 2 * np.pi
COARSE = Grid((27, 32, 25), np.array([[-STEP, 0, 0, 80.3], [0, STEP, 0, -110.7], [0, 0, STEP, -65.4], [0, 0, 0, 1]]))
SPHERE = {"Name": "s", "Center": [0, 0, 0]}


def read(value):
    return read_rois(Place(value, "ROIs"))


@pytest.mark.parametrize(
    ("value", "path", "told"),
    [
        ([], "ROIs", "the list is empty"),
        ({"Alpha": 0.05}, "ROIs", "'Sources' is missing"),
        ({"Source": []}, "ROIs.Source", "did you mean 'Sources'"),
        ([{"Atlas": "all"}], "ROIs[0].Atlas", "did you mean 'aal'"),
        ([{"Regions": ["x"]}], "ROIs[0]", "one of the keys Atlas, Image and Spheres"),
        ([{"Atlas": "aal", "Image": "x.nii"}], "ROIs[0]", "one of the keys Atlas, Image and Spheres"),
        ([{"Atlas": "aal", "Radius": 3}], "ROIs[0].Radius", "no meaning for a source of Atlas"),
        ([{"Atlas": "aal", "Regions": []}], "ROIs[0].Regions", "the list is empty"),
        ([{"Atlas": "aal", "Regions": ["a", "a"]}], "ROIs[0].Regions", "more than once"),
        ([{"Atlas": "juelich", "Threshold": 101}], "ROIs[0].Threshold", "0 to 100"),
        ([{"Image": "x.nii", "Labels": {"one": "a"}}], "ROIs[0].Labels.one", "whole number"),
        ([{"Image": "x.nii", "Labels": {"0": "a"}}], "ROIs[0].Labels.0", "whole number"),
        ([{"Image": "x.nii", "Labels": {"1": "a", "2": "a"}}], "ROIs[0].Labels", "more than once"),
        ([{"Image": "x.nii", "Labels": {"1": "a"}, "Name": "b"}], "ROIs[0]", "give Labels"),
        ([{"Spheres": [SPHERE]}], "ROIs[0]", "'Radius' is missing"),
        ([{"Spheres": [SPHERE], "Radius": 0}], "ROIs[0].Radius", "above 0"),
        ([{"Spheres": [], "Radius": 3}], "ROIs[0].Spheres", "the list is empty"),
        ([{"Spheres": [{"Name": "s"}], "Radius": 3}], "ROIs[0].Spheres[0]", "'Center' is missing"),
        ([{"Spheres": [{"Name": "s", "Center": [1, 2]}], "Radius": 3}], "ROIs[0].Spheres[0].Center", "three"),
        ({"Sources": [{"Atlas": "aal"}], "Alpha": 2}, "ROIs.Alpha", "between 0 and 1"),
        ({"Sources": [{"Atlas": "aal"}], "Tail": "left"}, "ROIs.Tail", "two-sided"),
        ({"Sources": [{"Atlas": "aal"}], "Permutations": 1}, "ROIs.Permutations", "at least 2"),
        ({"Sources": [{"Atlas": "aal"}], "Permutations": False}, "ROIs.Permutations", "whole number"),
    ],
)
def test_every_fault_of_the_key_is_told_with_its_place(value, path, told):
    with pytest.raises(SpecError) as caught:
        read(value)
    assert caught.value.path == path
    assert told in str(caught.value)


def test_what_is_left_out_has_the_documented_defaults():
    rois = read([{"Atlas": "aal"}])
    assert (rois.test.alpha, rois.test.tail, rois.test.contrasts) == (0.05, "two-sided", None)
    assert (rois.test.permutation.n, rois.test.permutation.seed, rois.test.permutation.levels) == (10000, 0, ("voxel",))


@pytest.mark.parametrize("percent", [0, 100])
def test_the_least_probability_of_a_region_may_be_the_end_of_its_range(percent):
    (source,) = read([{"Atlas": "harvard_oxford", "Threshold": percent}]).sources
    assert source.threshold == percent


def resample(image):
    """Return an image on the coarse grid as nilearn resamples it, by nearest neighbour."""
    target = nib.Nifti1Image(np.zeros(COARSE.shape, np.uint8), COARSE.affine)
    found = resample_to_img(image, target, interpolation="nearest", force_resample=True, copy_header=True)
    return np.asarray(found.dataobj)


def test_a_region_of_an_atlas_has_the_voxels_that_nilearn_resamples_it_to(tmp_path):
    image = nib.load(find_atlas_folder() / "atlas_aal.nii.gz")
    expected = resample(image)
    numbers = {name: number for number, name in load_atlas("aal").region_names.items()}
    for region in locate_regions(read([{"Atlas": "aal"}]), COARSE, tmp_path).regions:
        np.testing.assert_array_equal(region.voxels, np.flatnonzero(expected == numbers[region.name]), region.name)


def test_of_probabilities_a_voxel_is_of_its_most_probable_region_if_that_is_probable_enough(tmp_path):
    image = nib.load(find_atlas_folder() / "atlas_harvard_oxford.nii.gz")
    numbers = {name: number for number, name in load_atlas("harvard_oxford").region_names.items()}
    names = ["Left_Amygdala", "Right_Amygdala", "Left_Hippocampus"]
    voxels = {}
    for threshold in (0, 5, 50):
        source = {"Atlas": "harvard_oxford", "Regions": names, "Threshold": threshold}
        for region in locate_regions(read([source]), COARSE, tmp_path).regions:
            voxels[region.name, threshold] = region.voxels
    assert len(voxels["Left_Hippocampus", 0]) > len(voxels["Left_Hippocampus", 50]) > 0
    places = np.array(np.unravel_index(np.unique(np.concatenate(list(voxels.values()))), COARSE.shape))
    millimetres = COARSE.affine[:3, :3] @ places + COARSE.affine[:3, 3:]
    x, y, z = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), millimetres.T)).astype(int).T
    box = np.s_[x.min() : x.max() + 1, y.min() : y.max() + 1, z.min() : z.max() + 1]
    probability = np.asarray(image.dataobj[box])[x - x.min(), y - y.min(), z - z.min()]
    flat = np.ravel_multi_index(tuple(places), COARSE.shape)
    for (name, threshold), found in voxels.items():
        is_first = probability.argmax(axis=1) == numbers[name]
        largest = probability.max(axis=1)
        np.testing.assert_array_equal(
            found, flat[is_first & (largest >= threshold) & (largest > 0)], f"{name} {threshold}"
        )


def test_an_unknown_region_is_told_with_a_near_one(tmp_path):
    with pytest.raises(SpecError, match=r"ROIs\[0\].Regions\[1\].*did you mean 'Amygdala_R'"):
        locate_regions(read([{"Atlas": "aal", "Regions": ["Amygdala_L", "amygdala r"]}]), COARSE, tmp_path)


def test_a_threshold_is_refused_of_an_atlas_without_probabilities(tmp_path):
    with pytest.raises(SpecError, match="no probabilities"):
        locate_regions(read([{"Atlas": "aal", "Threshold": 25}]), COARSE, tmp_path)


def test_an_image_on_another_grid_is_resampled_as_nilearn_does_and_this_is_said(tmp_path):
    rng = np.random.default_rng(3)
    affine = np.array([[4.0, 0, 0, -79.0], [0, 4, 0, -100], [0, 0, 4, -60], [0, 0, 0, 1]])
    # 0 at the edge, of whose voxels nilearn leaves out the outer half.
    values = np.pad(rng.integers(0, 4, (38, 44, 36), dtype=np.uint8), 1)
    path = builders.write_map(tmp_path / "labels.nii.gz", values, affine=affine)
    located = locate_regions(read([{"Image": path.name}]), COARSE, tmp_path)
    expected = resample(nib.load(path))
    assert [region.name for region in located.regions] == ["label1", "label2", "label3"]
    for label, region in enumerate(located.regions, start=1):
        np.testing.assert_array_equal(region.voxels, np.flatnonzero(expected == label))
    assert "nearest neighbour" in located.sources[0]["Resampling"]


def test_an_image_with_a_name_is_one_region_of_all_voxels_other_than_0_and_without_a_value(tmp_path):
    values = np.zeros(COARSE.shape, dtype=np.float32)
    values.flat[[5, 70, 901]] = 0.25, -3.0, np.nan
    path = builders.write_map(tmp_path / "mask.nii.gz", values, affine=COARSE.affine)
    (region,) = locate_regions(read([{"Image": path.name, "Name": "mine"}]), COARSE, tmp_path).regions
    assert region.name == "mine"
    np.testing.assert_array_equal(region.voxels, [5, 70])


def test_regions_of_one_name_are_told_apart_by_their_sources_and_one_twice_is_refused(tmp_path):
    spheres = {"Spheres": [{"Name": "Amygdala_L", "Center": [-24, 0, -18]}], "Radius": 9}
    sources = [{"Atlas": "aal", "Regions": ["Amygdala_L"]}, spheres]
    names = [region.name for region in locate_regions(read(sources), COARSE, tmp_path).regions]
    assert names == ["aal: Amygdala_L", "sphere: Amygdala_L"]
    with pytest.raises(SpecError, match="more than once"):
        locate_regions(read([*sources, spheres]), COARSE, tmp_path)


def test_a_region_is_not_named_as_a_column_of_the_table_of_means(tmp_path):
    spheres = {"Spheres": [{"Name": "subject", "Center": [0, 0, 0]}], "Radius": 9}
    assert [one.name for one in locate_regions(read([spheres]), COARSE, tmp_path).regions] == ["sphere: subject"]


@pytest.mark.parametrize(
    ("values", "source", "told"),
    [
        ([0.0, 1.5], {}, "not an image of regions"),
        ([0.0, -1.0], {}, "not an image of regions"),
        ([0.0, 0.0], {}, "every voxel is 0"),
        ([0.0, 2.0], {"Labels": {"3": "x"}}, "no voxel has it"),
    ],
)
def test_an_image_without_the_regions_is_refused(tmp_path, values, source, told):
    volume = np.resize(np.array(values, dtype=np.float32), (4, 4, 4))
    builders.write_map(tmp_path / "labels.nii.gz", volume)
    with pytest.raises(SpecError, match=told):
        locate_regions(read([{"Image": "labels.nii.gz", **source}]), COARSE, tmp_path)


def test_an_image_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingInputError, match=r"ROIs\[0\].Image.*nothing.nii.gz"):
        locate_regions(read([{"Image": "nothing.nii.gz"}]), COARSE, tmp_path)


MAP = "bids:first:sub-01/sub-01_ses-a_task-x_run-1_desc-A_effect.nii.gz"


@pytest.mark.parametrize(
    ("source", "shares"),
    [
        (MAP, True),
        (MAP.replace("desc-A", "desc-B"), True),  # another contrast of the same data
        (MAP.replace("_run-1", ""), True),  # of all runs
        (MAP.replace("run-1", "run-2"), False),
        (MAP.replace("task-x", "task-localizer"), False),
        (MAP.replace("sub-01", "sub-02"), False),
        ("bids:first:mean_statmap.nii.gz", True),  # nobody knows of whom
    ],
)
def test_a_result_is_of_other_data_only_if_its_sources_say_so(source, shares):
    assert may_share_data(Origin((source,), True), [MAP]) is shares
    assert may_share_data(Origin((), True), [MAP])


def test_what_this_app_wrote_is_known_by_sidecar_or_dataset(tmp_path):
    path = tmp_path / "node-x" / "contrast-A_stat-t_desc-fdr_statmap.nii.gz"
    path.parent.mkdir()
    assert find_origin(path) is None
    sidecar = path.with_name("contrast-A_stat-t_desc-fdr_statmap.json")
    sidecar.write_text(json.dumps({"Correction": "fdr", "SearchVolumeVoxels": 9, "Units": "t", "Sources": [MAP]}))
    assert find_origin(path) == Origin((MAP,), shows_survivors=True)
    sidecar.write_text(json.dumps({"Description": "a t map"}))
    assert find_origin(path) is None
    (tmp_path / "dataset_description.json").write_text(json.dumps({"GeneratedBy": [{"Name": "bids_group"}]}))
    assert find_origin(path) == Origin((), shows_survivors=False)
    sidecar.write_text(json.dumps({"Type": "Brain"}))
    assert find_origin(path) is None
