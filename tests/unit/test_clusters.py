"""Clusters against a naive flood fill and nilearn's table; local maxima against a naive search."""

from itertools import product

import nibabel as nib
import numpy as np
import pytest
from nilearn.reporting import get_clusters_table
from scipy import ndimage

from bids_group.stats.clusters import find_local_maxima, label_clusters

CONNECTIVITIES = [6, 18, 26]


def make_field(seed, shape=(9, 8, 7), fwhm=0.0):
    """A random field, in a mask with holes and edges."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.9
    field = rng.normal(size=shape)
    if fwhm:
        field = ndimage.gaussian_filter(field, fwhm / 2.355)
        field /= field.std()
    return field[mask], mask


def flood(values, survives, mask, connectivity):
    """Every cluster as a frozen set of voxel indices, by flood fill."""
    allowed = {6: 1, 18: 2, 26: 3}[connectivity]
    offsets = [np.array(o) for o in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, o)) <= allowed]
    places = [tuple(place) for place in np.argwhere(mask)]
    sign = {p: np.sign(v) for p, v, s in zip(places, values, survives, strict=True) if s and v != 0}
    number, found = {place: i for i, place in enumerate(places)}, set()
    while sign:
        start = next(iter(sign))
        own, queue, members = sign.pop(start), [start], []
        while queue:
            here = queue.pop()
            members.append(number[here])
            for there in (tuple(here + offset) for offset in offsets):
                if sign.get(there) == own:
                    del sign[there]
                    queue.append(there)
        found.add(frozenset(members))
    return found


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_those_of_a_flood_fill(connectivity, seed):
    values, mask = make_field(seed)
    survives = np.abs(values) > 0.8
    values[::50] = 0.0
    clusters = label_clusters(values, survives, mask, connectivity=connectivity)
    got = {frozenset(np.flatnonzero(clusters.labels == i + 1).tolist()) for i in range(clusters.n_clusters)}
    assert got == flood(values, survives, mask, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_every_cluster_is_described_by_its_own_voxels(connectivity):
    values, mask = make_field(11)
    clusters = label_clusters(values, np.abs(values) > 1, mask, connectivity=connectivity)
    assert clusters.n_clusters >= 10
    for i in range(clusters.n_clusters):
        voxels = np.flatnonzero(clusters.labels == i + 1)
        assert clusters.n_voxels[i] == len(voxels)
        assert clusters.peak[i] == voxels[np.argmax(np.abs(values[voxels]))]
        assert np.all(np.sign(values[voxels]) == clusters.sign[i])
        assert clusters.mean[i] == pytest.approx(values[voxels].mean(), rel=1e-12)
    order = list(zip(-clusters.sign, -clusters.n_voxels, -np.abs(values[clusters.peak]), strict=True))
    assert order == sorted(order)


def test_ties_are_broken_by_volume_then_height_then_first_voxel():
    values = np.array([2.0, 0, 2, 0, 3, 0, 1, 1, 0, -5])
    clusters = label_clusters(values, values != 0, np.ones((10, 1, 1), bool))
    assert clusters.labels.tolist() == [3, 0, 4, 0, 2, 0, 1, 1, 0, 5]
    assert clusters.peak.tolist() == [6, 4, 0, 2, 9]
    assert clusters.sign.tolist() == [1, 1, 1, 1, -1]


def test_touching_voxels_of_opposite_sign_are_two_clusters_and_zero_is_in_none():
    values = np.array([1.0, -1.0, 0.0, 1.0])
    clusters = label_clusters(values, np.ones(4, bool), np.ones((1, 4, 1), bool))
    assert clusters.labels.tolist() == [1, 3, 0, 2]


def test_small_clusters_are_removed_and_counted():
    values, mask = make_field(5)
    survives = values > 0.9
    whole = label_clusters(values, survives, mask)
    large = label_clusters(values, survives, mask, min_voxels=3)
    small = whole.n_voxels < 3
    assert small.any()
    np.testing.assert_array_equal(large.n_voxels, whole.n_voxels[~small])
    np.testing.assert_array_equal(large.labels, np.where(whole.labels <= large.n_clusters, whole.labels, 0))
    assert (large.n_removed_clusters, large.n_removed_voxels) == (small.sum(), whole.n_voxels[small].sum())


def test_no_survivor_is_no_cluster():
    values, mask = make_field(6)
    clusters = label_clusters(values, np.zeros(len(values), bool), mask)
    assert clusters.n_clusters == 0
    assert not clusters.labels.any()
    ids, voxels = find_local_maxima(values, clusters, mask, np.eye(4))
    assert len(ids) == len(voxels) == 0


def test_large_clusters_are_those_of_nilearn():
    values, mask = make_field(8, shape=(20, 22, 18), fwhm=4.0)
    volume = np.zeros(mask.shape)
    volume[mask] = values
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    table = get_clusters_table(nib.Nifti1Image(volume, affine), 1.5, cluster_threshold=3, two_sided=True)
    table = table[table["Cluster Size (mm3)"] != ""]
    clusters = label_clusters(values, np.abs(values) > 1.5, mask, min_voxels=3)
    assert clusters.n_clusters > 3
    np.testing.assert_array_equal(np.sort(clusters.n_voxels * 8), np.sort(table["Cluster Size (mm3)"].astype(int)))
    np.testing.assert_allclose(np.sort(values[clusters.peak]), np.sort(table["Peak Stat"].astype(float)), rtol=1e-6)


def search_maxima(values, clusters, mask, affine, distance):
    """Local maxima by comparing every voxel with every other one of its cluster."""
    places, found = np.argwhere(mask), []
    for cluster in range(1, clusters.n_clusters + 1):
        voxels, kept = np.flatnonzero(clusters.labels == cluster), []
        for voxel in sorted(voxels, key=lambda v: (-abs(values[v]), v)):
            near = voxels[np.abs(places[voxels] - places[voxel]).max(axis=1) <= 1]
            gaps = [np.linalg.norm(affine[:3, :3] @ (places[voxel] - places[other])) for other in kept]
            if np.all(np.abs(values[near]) <= abs(values[voxel])) and all(gap >= distance - 1e-5 for gap in gaps):
                kept.append(voxel)
        found += [(cluster, voxel) for voxel in kept]
    return found


@pytest.mark.parametrize("distance", [0.0, 3.0, 6.0, 8.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_local_maxima_are_those_of_a_naive_search(distance, rounded):
    values, mask = make_field(9, fwhm=2.0)
    values = np.round(values, 1) if rounded else values
    affine = np.array([[-1.5, 0.2, 0, 10], [0, 2, 0.3, -4], [0, 0, 2.5, 7], [0, 0, 0, 1]])
    clusters = label_clusters(values, np.abs(values) > 0.3, mask)
    ids, voxels = find_local_maxima(values, clusters, mask, affine, min_distance_mm=distance)
    got = list(zip(ids.tolist(), voxels.tolist(), strict=True))
    assert got == search_maxima(values, clusters, mask, affine, distance)
    first = np.unique(ids, return_index=True)[1]
    np.testing.assert_array_equal(voxels[first], clusters.peak)


def test_peaks_exactly_the_distance_apart_are_both_kept():
    values = np.array([9.0, 1, 1, 1, 8, 1, 1, 7])
    mask = np.ones((8, 1, 1), bool)
    clusters = label_clusters(values, values > 0, mask)
    affine = np.diag(np.float64(np.float32([1.9999999, 2, 2, 1])))
    assert find_local_maxima(values, clusters, mask, affine)[1].tolist() == [0, 4]


def test_a_plateau_of_a_large_cluster_is_thinned_to_the_distance():
    mask = np.ones((40, 40, 40), bool)
    values = np.full(mask.sum(), 3.0)
    clusters = label_clusters(values, values > 0, mask)
    _, voxels = find_local_maxima(values, clusters, mask, np.diag([2.0, 2, 2, 1]))
    places = 2.0 * np.argwhere(mask)[voxels]
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)[np.triu_indices(len(voxels), 1)]
    assert voxels[0] == 0
    assert gaps.min() >= 8.0


def test_mask_and_values_of_different_size_are_refused():
    with pytest.raises(ValueError, match="the mask has 8 voxels, but there are 7 values"):
        label_clusters(np.ones(7), np.ones(7, bool), np.ones((2, 2, 2), bool))


def test_unknown_connectivity_is_refused():
    with pytest.raises(ValueError, match="6, 18 or 26, not 8"):
        label_clusters(np.ones(8), np.ones(8, bool), np.ones((2, 2, 2), bool), connectivity=8)
