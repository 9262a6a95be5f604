"""The largest clusters of maps against SciPy's labels and the clusters of the tables."""

import numpy as np
import pytest
from scipy import ndimage

from bids_group.stats.cluster_maxima import list_voxels, make_lists, measure_largest_clusters, measure_masses
from bids_group.stats.clusters import label_clusters
from bids_group.stats.neighbours import build_neighbours

CONNECTIVITIES = [6, 18, 26]
SHARED_BY = {6: 1, 18: 2, 26: 3}
THRESHOLD = 0.7


def make_maps(seed, n_maps=6, shape=(9, 8, 7), sigma=0.6):
    """Noise, in a mask with holes that reaches the edges of the grid."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.85
    noise = np.array([ndimage.gaussian_filter(rng.normal(size=shape), sigma)[mask] for _ in range(n_maps)])
    return (noise / noise.std()).astype(np.float32), mask


def measure_sides(heights, threshold, neighbours, *, two_sided):
    """Extents and masses of the positive and of the negative clusters of maps, listed in two pieces."""
    n_maps, n_voxels = heights.shape
    lists, half = make_lists(n_maps, n_voxels), n_voxels // 2
    for first, last in ((0, half), (half, n_voxels)):
        list_voxels(heights, first, (0, n_maps), (first, last), threshold, two_sided, lists)
    return measure_largest_clusters(lists, threshold, neighbours)


def measure_largest(heights, threshold, neighbours, *, two_sided):
    """The larger of both sides."""
    return np.max(measure_sides(heights, threshold, neighbours, two_sided=two_sided), axis=1)


def measure_by_scipy(heights, mask, connectivity):
    """Extent and mass of every cluster of positive heights."""
    volume = np.zeros(mask.shape)
    volume[mask] = heights
    structure = ndimage.generate_binary_structure(3, SHARED_BY[connectivity])
    labels, n_labels = ndimage.label(volume > THRESHOLD, structure)
    numbers = np.arange(1, n_labels + 1)
    extents = ndimage.sum_labels(volume > THRESHOLD, labels, numbers)
    return extents, ndimage.sum_labels(volume - THRESHOLD, labels, numbers)


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("seed", range(3))
def test_largest_clusters_are_those_of_scipy(seed, connectivity, two_sided):
    heights, mask = make_maps(seed)
    extents, masses = measure_largest(heights, THRESHOLD, build_neighbours(mask, connectivity), two_sided=two_sided)
    for i, map_ in enumerate(heights.astype(np.float64)):
        found = [measure_by_scipy(one, mask, connectivity) for one in ((map_, -map_) if two_sided else (map_,))]
        assert extents[i] == max(extent.max() for extent, _ in found) > 1
        np.testing.assert_allclose(masses[i], max(mass.max() for _, mass in found), rtol=1e-13)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_observed_clusters_of_the_tables_have_the_same_extents_and_masses(connectivity):
    heights, mask = make_maps(11)
    extents, masses = measure_largest(heights, THRESHOLD, build_neighbours(mask, connectivity), two_sided=True)
    for i, map_ in enumerate(heights.astype(np.float64)):
        clusters = label_clusters(map_, np.abs(map_) > THRESHOLD, mask, connectivity=connectivity)
        own = measure_masses(map_, THRESHOLD, clusters)
        assert len(own) == clusters.n_clusters
        assert clusters.n_voxels.max() == extents[i]
        np.testing.assert_allclose(own.max(), masses[i], rtol=1e-13)
        np.testing.assert_allclose(own, (np.abs(clusters.mean) - THRESHOLD) * clusters.n_voxels, rtol=1e-12)


def measure_line(heights, threshold, *, two_sided):
    """Extent and mass in a row of voxels."""
    line = build_neighbours(np.ones((1, len(heights), 1), dtype=bool), 6)
    extents, masses = measure_largest(np.array([heights], np.float32), threshold, line, two_sided=two_sided)
    return extents.item(), masses.item()


def test_clusters_lie_strictly_above_the_threshold():
    assert measure_line([2, 2, 3, 2], 2.0, two_sided=True) == (1, 1)
    assert measure_line([-2, -2, -3, -2], 2.0, two_sided=True) == (1, 1)


def test_clusters_of_opposite_sign_do_not_join():
    assert measure_line([3, 3, -4, -4, 3], 2.0, two_sided=True) == (2, 4)
    assert measure_line([3, 3, -4, -4, 3], 2.0, two_sided=False) == (2, 2)


def test_largest_extent_and_largest_mass_may_be_those_of_different_clusters():
    assert measure_line([3, 3, 3, 0, 9], 2.0, two_sided=False) == (3, 7)


@pytest.mark.parametrize("heights", [[-3, -4, -5], [0, 0, 0], [np.nan, 1, np.nan], []])
def test_without_a_cluster_extent_and_mass_are_zero(heights):
    assert measure_line(heights, 2.0, two_sided=False) == (0, 0)


def test_nan_parts_two_clusters():
    assert measure_line([3, np.nan, 3, 3], 2.0, two_sided=True) == (2, 2)


def test_a_single_voxel_is_a_cluster_of_one():
    assert measure_line([-5], 2.0, two_sided=True) == (1, 3)


def test_arms_that_meet_late_are_one_cluster():
    """A spiral and a comb: what looks apart in the order of the voxels joins again and again."""
    comb = np.zeros((8, 21, 3), dtype=bool)
    comb[:, ::2, 1] = True
    comb[-1, :, 1] = True
    heights = np.where(comb, np.float32(3), np.float32(0)).reshape(1, -1)
    for axes in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        turned = np.ascontiguousarray(heights.reshape(comb.shape).transpose(axes))
        table = build_neighbours(np.ones(turned.shape, dtype=bool), 6)
        for volume in (turned, turned[::-1, ::-1]):
            extents, _ = measure_largest(np.ascontiguousarray(volume).reshape(1, -1), 2.0, table, two_sided=True)
            assert extents.item() == comb.sum()


def test_a_map_is_measured_alike_alone_and_among_others():
    heights, mask = make_maps(5, n_maps=8)
    table = build_neighbours(mask, 18)
    together = measure_largest(heights, THRESHOLD, table, two_sided=True)
    alone = [measure_largest(heights[i : i + 1], THRESHOLD, table, two_sided=True) for i in range(8)]
    np.testing.assert_array_equal(np.array(together), np.hstack(alone))


def test_the_negative_side_is_the_positive_side_of_the_opposite():
    heights, mask = make_maps(6)
    table = build_neighbours(mask, 26)
    both, up, down = (
        np.array(measure_sides(maps, THRESHOLD, table, two_sided=two_sided))
        for maps, two_sided in ((heights, True), (heights, False), (-heights, False))
    )
    assert not up[:, 1].any()
    np.testing.assert_array_equal(both, np.stack([up[:, 0], down[:, 0]], axis=1))


def test_a_threshold_below_zero_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        measure_line([1, 2], -1.0, two_sided=True)
    with pytest.raises(ValueError, match="at least 0"):
        measure_line([1, 2], float("nan"), two_sided=True)
