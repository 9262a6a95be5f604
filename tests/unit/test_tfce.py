"""TFCE against another program's, a sum over the levels of a map, fine steps, closed forms and laws."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from bids_group.stats.neighbours import build_lattice
from bids_group.stats.tfce import compute_tfce, find_largest_tfce
from tests.oracles_data import load_reference

REFERENCE = load_reference("tfce")
CONNECTIVITIES = [6, 18, 26]
SHARED_BY = {6: 1, 18: 2, 26: 3}


def make_map(seed, shape=(9, 8, 7), sigma=0.6, decimals=7):
    """Noise in a mask with holes that reaches the edges of the grid; few decimals make equal heights."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.85
    heights = ndimage.gaussian_filter(rng.normal(size=shape), sigma)[mask]
    return (2 * heights / heights.std()).round(decimals).astype(np.float32), mask


def measure_extents(heights, mask, level, connectivity):
    """Extent of the component of the heights >= level that each voxel is in."""
    volume = np.zeros(mask.shape, dtype=bool)
    volume[mask] = heights >= level
    labels, _ = ndimage.label(volume, ndimage.generate_binary_structure(3, SHARED_BY[connectivity]))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return sizes[labels[mask]]


def enhance_level_by_level(heights, mask, connectivity, E=0.5, H=2.0):
    """TFCE of the positive heights: between two levels of the map the components stay what they are."""
    heights = heights.astype(np.float64)
    levels = np.unique(heights[heights > 0])
    total = np.zeros(len(heights))
    for low, high in zip(np.append(0.0, levels[:-1]), levels, strict=True):
        piece = (high ** (H + 1) - low ** (H + 1)) / (H + 1)
        total += np.where(heights >= high, measure_extents(heights, mask, high, connectivity) ** E * piece, 0.0)
    return total


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("case", REFERENCE["cases"])
def test_tfce_is_that_of_another_exact_program(case, connectivity):
    powers = {"extent_power": case["extent_power"], "height_power": case["height_power"]}
    lattice = build_lattice(np.ones(REFERENCE["shape"], dtype=bool), connectivity)
    enhanced = compute_tfce(np.array(case["heights"]), lattice, two_sided=True, **powers)
    # The other program computes in float32.
    np.testing.assert_allclose(enhanced, case["enhanced"][str(connectivity)], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("E", "H"), [(0.5, 2.0), (1.0, 2.0), (0.7, 1.3), (0.0, 0.0)])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("decimals", [7, 0])
def test_tfce_is_the_sum_over_the_levels_of_the_map(connectivity, decimals, E, H):
    heights, mask = make_map(connectivity, decimals=decimals)
    lattice = build_lattice(mask, connectivity)
    enhanced = compute_tfce(heights, lattice, extent_power=E, height_power=H, two_sided=True)
    up, down = (enhance_level_by_level(signed, mask, connectivity, E, H) for signed in (heights, -heights))
    np.testing.assert_allclose(enhanced, up - down, rtol=1e-12)


def test_fine_steps_approach_the_integral():
    heights, mask = make_map(3, shape=(6, 5, 4))
    step = 0.002
    total = np.zeros(len(heights))
    for level in np.arange(step / 2, heights.max(), step):
        total += measure_extents(heights, mask, level, 6) ** 0.5 * level**2 * step
    exact = compute_tfce(heights, build_lattice(mask, 6), two_sided=False)
    np.testing.assert_allclose(exact, total, atol=2 * step * total.max())
    assert np.abs(exact - total).max() > 1e-9  # the steps are not the integral


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_the_largest_of_each_map_is_that_of_the_whole_map(connectivity, two_sided):
    maps, mask = zip(*(make_map(0, decimals=decimals) for decimals in (7, 1, 0)), strict=True)
    lattice = build_lattice(mask[0], connectivity)
    heights = np.array([signed for one in maps for signed in (one, -one, one[::-1])])
    largest = find_largest_tfce(heights, lattice, two_sided=two_sided)
    whole = [compute_tfce(one, lattice, two_sided=two_sided) for one in heights]
    np.testing.assert_array_equal(largest, [[one.max() for one in whole], [-one.min() for one in whole]])


def test_a_map_is_enhanced_alike_alone_and_among_others():
    heights, mask = make_map(8)
    lattice = build_lattice(mask, 6)
    among = np.array([-heights, heights, 0 * heights, heights])
    largest = find_largest_tfce(among, lattice, two_sided=True)
    alone = find_largest_tfce(heights[None], lattice, two_sided=True)[:, 0]
    np.testing.assert_array_equal(largest.T, [alone[::-1], alone, [0, 0], alone])


def test_threads_get_what_one_thread_gets():
    maps = np.array([make_map(0)[0] * factor for factor in np.linspace(-2, 2, 41)], dtype=np.float32)
    lattice = build_lattice(make_map(0)[1], 26)
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda part: find_largest_tfce(part, lattice, two_sided=True), np.array_split(maps, 8))
    np.testing.assert_array_equal(np.hstack(list(parts)), find_largest_tfce(maps, lattice, two_sided=True))


def test_a_ramp_has_its_closed_form():
    heights = np.arange(1.0, 101.0)
    lattice = build_lattice(np.ones((1, 100, 1), dtype=bool), 6)
    pieces = np.sqrt(101 - heights) * (heights**3 - (heights - 1) ** 3) / 3
    for signed in (heights, -heights[::-1]):
        enhanced = compute_tfce(signed, lattice, two_sided=True)
        np.testing.assert_allclose(np.sort(np.abs(enhanced)), np.cumsum(pieces), rtol=1e-13)


def test_a_plateau_is_joined_at_once_and_peaks_on_it_add_their_own():
    """Peaks of height 2 on a plateau of height 1 of 63 voxels, no two of them touching."""
    heights = np.ones((3, 7, 3))
    heights[1, 1::2, 1] = 2.0
    lattice = build_lattice(np.ones(heights.shape, dtype=bool), 6)
    enhanced = compute_tfce(heights.ravel(), lattice, two_sided=True).reshape(heights.shape)
    np.testing.assert_allclose(enhanced, np.where(heights == 2, np.sqrt(63) / 3 + 7 / 3, np.sqrt(63) / 3), rtol=1e-14)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_equal_heights_do_not_depend_on_the_order_of_voxels(axes):
    heights = np.random.default_rng(2).integers(-3, 4, size=(7, 6, 5)).astype(np.float64)
    one, turned = (
        compute_tfce(volume.ravel(), build_lattice(np.ones(volume.shape, dtype=bool), 18), two_sided=True).reshape(
            volume.shape
        )
        for volume in (heights, heights.transpose(axes)[::-1])
    )
    np.testing.assert_allclose(turned, one.transpose(axes)[::-1], rtol=1e-13)


@pytest.mark.parametrize("scale", [2.0**-40, 2.0, 3.7])
@pytest.mark.parametrize("H", [2.0, 1.3])
def test_scaling_the_heights_scales_tfce_by_the_power_of_the_integral(scale, H):
    heights, mask = make_map(5)
    lattice = build_lattice(mask, 6)
    one, scaled = (
        compute_tfce(factor * heights.astype(np.float64), lattice, height_power=H, two_sided=True)
        for factor in (1.0, scale)
    )
    np.testing.assert_allclose(scaled, one * scale ** (H + 1), rtol=1e-6 if scale == 3.7 else 1e-12)


def test_both_sides_are_the_one_less_the_other():
    heights, mask = make_map(6)
    lattice = build_lattice(mask, 26)
    up, down = (compute_tfce(signed, lattice, two_sided=False) for signed in (heights, -heights))
    np.testing.assert_array_equal(compute_tfce(heights, lattice, two_sided=True), up - down)
    assert not np.any(up[heights <= 0])


def test_raising_heights_lowers_no_tfce():
    heights, mask = make_map(9)
    lattice = build_lattice(mask, 6)
    raised = heights + np.random.default_rng(1).exponential(0.3, len(heights)).astype(np.float32)
    low, high = (compute_tfce(one, lattice, two_sided=False) for one in (heights, raised))
    assert np.all(high[raised > 0] > low[raised > 0])


def test_heights_of_all_magnitudes_are_put_in_order():
    """Every power of two of float32, denormals among them, shuffled along a line."""
    rng = np.random.default_rng(4)
    heights = rng.permutation(2.0 ** np.arange(-149, 100)).astype(np.float32)
    mask = np.ones((1, 1, len(heights)), dtype=bool)
    enhanced = compute_tfce(heights, build_lattice(mask, 6), two_sided=True)
    np.testing.assert_allclose(enhanced, enhance_level_by_level(heights, mask, 6), rtol=1e-12)


@pytest.mark.parametrize("heights", [[], [0.0], [-2.0], [-1.0, -2.0, -0.0]])
def test_without_a_height_that_counts_tfce_is_zero(heights):
    lattice = build_lattice(np.ones((len(heights), 1, 1), dtype=bool), 6)
    np.testing.assert_array_equal(compute_tfce(np.array(heights), lattice, two_sided=False), np.zeros(len(heights)))
    assert not find_largest_tfce(np.array([heights], np.float32), lattice, two_sided=False).any()


def test_a_single_voxel_has_its_own_integral():
    lattice = build_lattice(np.ones((1, 1, 1), dtype=bool), 26)
    assert compute_tfce(np.array([-3.0]), lattice, two_sided=True) == pytest.approx(-9.0, rel=1e-15)


def test_maps_of_another_mask_and_powers_below_zero_are_refused():
    heights, mask = make_map(1)
    with pytest.raises(ValueError, match="the mask"):
        find_largest_tfce(heights[None, 1:], build_lattice(mask, 6), two_sided=True)
    with pytest.raises(ValueError, match="at least 0"):
        compute_tfce(heights, build_lattice(mask, 6), extent_power=-0.5, two_sided=True)


def test_a_mask_of_any_size_gives_the_same():
    """Beyond 65,535 voxels components are numbered with more bits."""
    heights, mask = make_map(4)
    large = np.zeros((42, 41, 40), dtype=np.float32)
    large[3:12, 4:12, 5:12][mask] = heights
    enhanced = compute_tfce(large.ravel(), build_lattice(np.ones(large.shape, dtype=bool), 18), two_sided=True)
    alone = compute_tfce(heights, build_lattice(mask, 18), two_sided=True)
    np.testing.assert_array_equal(enhanced.reshape(large.shape)[3:12, 4:12, 5:12][mask], alone)
