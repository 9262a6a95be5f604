"""Random field theory against Worsley's program in BrainStat, simulated fields of known smoothness, and its laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage, stats

from bids_group.column_space import decompose
from bids_group.stats.clusters import label_clusters
from bids_group.stats.correct import find_cluster_threshold, infer
from bids_group.stats.distributions import log_sf_t
from bids_group.stats.euler_characteristics import Field, ec_densities_f, ec_densities_t, expected_ec
from bids_group.stats.glm import Statistic, compute_t, fit_glm
from bids_group.stats.random_fields import (
    find_critical_height,
    find_threshold,
    log_p_extents,
    log_p_fwe,
    log_p_fwe_clusters,
    log_p_heights,
)
from bids_group.stats.smoothness import Smoothness, count_resels, estimate_smoothness
from tests.oracles_data import load_reference, make_field, make_pinned_smoothness

PINNED = load_reference("random_fields")
T_PINS = [one for one in PINNED["fields"] if one["test"] == "t"]
F_PINS = [one for one in PINNED["fields"] if one["test"] == "F"]
SEEDS = st.integers(0, 2**32 - 1)
PER_FWHM = np.sqrt(8 * np.log(2))


def make_smoothness(fwhm=4.0, shape=(30, 30, 30)):
    mask = np.ones(shape, bool)
    return Smoothness(np.full(3, 2 * fwhm), np.full(3, fwhm), count_resels(mask, np.full(3, fwhm)), mask.sum(), fwhm**3)


def make_ellipsoid(shape):
    centre = (np.array(shape) - 1) / 2
    distance = (np.indices(shape) - centre[:, None, None, None]) / (0.47 * np.array(shape))[:, None, None, None]
    return (distance**2).sum(axis=0) < 1


def make_noise(rng, n_rows, mask, fwhm):
    """White noise smoothed by a Gaussian kernel on a torus: Gaussian, stationary, of exactly this FWHM."""
    frequencies = np.meshgrid(
        *(fft.fftfreq(size) for size in mask.shape[:2]), fft.rfftfreq(mask.shape[2]), indexing="ij"
    )
    exponents = [(2 * np.pi * one * width / PER_FWHM) ** 2 / 2 for one, width in zip(frequencies, fwhm, strict=True)]
    kernel = np.exp(-sum(exponents))
    white = rng.standard_normal((n_rows, *mask.shape), dtype=np.float32)
    return fft.irfftn(fft.rfftn(white, axes=(1, 2, 3)) * kernel, s=mask.shape, axes=(1, 2, 3))[:, mask]


# Smoothness


@pytest.mark.parametrize(("n_rows", "tolerance"), [(8, 0.05), (12, 0.04), (40, 0.03)])
@pytest.mark.parametrize("fwhm", [(3.0, 3.0, 3.0), (3.0, 4.0, 5.0)])
def test_smoothness_of_simulated_noise_is_recovered(n_rows, tolerance, fwhm):
    rng, mask = np.random.default_rng(n_rows), make_ellipsoid((40, 44, 38))
    design = np.column_stack([np.ones(n_rows), rng.normal(size=n_rows)])
    data = make_noise(rng, n_rows, mask, fwhm) * rng.uniform(1, 9, mask.sum()) + rng.normal(size=mask.sum())
    fit = fit_glm(data, design, [])
    found = estimate_smoothness(data, decompose(design).basis, fit.residual_ss, mask, (2.0, 2.0, 3.0))
    np.testing.assert_allclose(found.fwhm_voxels, fwhm, rtol=tolerance)
    np.testing.assert_allclose(found.fwhm_mm, found.fwhm_voxels * [2, 2, 3])
    assert found.resel_size == pytest.approx(np.prod(fwhm), rel=2 * tolerance)
    assert found.n_voxels == mask.sum()


def test_smoothness_is_that_of_a_loop_over_neighbours_whatever_the_block():
    rng, mask = np.random.default_rng(5), np.pad(make_ellipsoid((9, 8, 7)), 1)
    data = make_noise(rng, 10, mask, (3, 3, 3)).astype(np.float32)
    design = np.column_stack([np.ones(10), np.arange(10)])
    basis, fit = decompose(design).basis, fit_glm(data, design, [])
    volumes = np.zeros((10, *mask.shape))
    volumes[:, mask] = (data - basis @ (basis.T @ data.astype(float))) / np.sqrt(fit.residual_ss)
    one = estimate_smoothness(data, basis, fit.residual_ss, mask, (1, 1, 1))
    blocks = estimate_smoothness(data, basis, fit.residual_ss, mask, (1, 1, 1), block_voxels=13)
    np.testing.assert_allclose(one.fwhm_voxels, blocks.fwhm_voxels, rtol=1e-10)
    for axis in range(3):
        following = np.eye(3, dtype=int)[axis]
        pairs = [(i, i + following) for i in np.argwhere(mask) if mask[tuple(i + following)]]
        mean = np.mean([volumes[:, *i] @ volumes[:, *j] for i, j in pairs])
        # Of 8 dof: the mean correlation of many samples of a pair whose correlation is that of the kernel found.
        rho = 0.5 ** (2 / one.fwhm_voxels[axis] ** 2)
        first, noise = np.random.default_rng(axis).normal(size=(2, 8, 200_000))
        second = rho * first + np.sqrt(1 - rho**2) * noise
        samples = (first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0))
        assert mean == pytest.approx(samples.mean(), abs=4 * samples.std() / np.sqrt(samples.size))


def test_smoothness_knows_neither_scale_nor_sign_nor_effects():
    rng, mask = np.random.default_rng(6), make_ellipsoid((14, 13, 12))
    design = np.column_stack([np.ones(12), rng.normal(size=12)])
    data = make_noise(rng, 12, mask, (4, 4, 4))
    other = -7 * data * rng.uniform(1, 3, size=mask.sum()) + design @ rng.normal(size=(2, mask.sum()))
    found = [
        estimate_smoothness(one, decompose(design).basis, fit_glm(one, design, []).residual_ss, mask, (1, 1, 1))
        for one in (data, other)
    ]
    np.testing.assert_allclose(found[0].fwhm_voxels, found[1].fwhm_voxels, rtol=1e-9)


def test_unsmoothed_noise_and_a_single_slice_are_corrected_by_their_number_of_voxels():
    rng = np.random.default_rng(7)
    for shape, thin in [((9, 9, 9), False), ((30, 25, 1), True)]:
        mask, design = np.ones(shape, bool), np.ones((15, 1))
        data = rng.normal(size=(15, mask.sum()))
        found = estimate_smoothness(
            data, decompose(design).basis, fit_glm(data, design, []).residual_ss, mask, (2, 2, 2)
        )
        assert np.isinf(found.fwhm_voxels[2]) == thin
        assert (found.resels[3] == 0) == thin
        field = Field("t", 1.0, 14.0)
        assert find_threshold(0.05, field, found) == pytest.approx(stats.t.isf(0.05 / mask.sum(), 14))


def test_smoothness_refuses_another_mask_and_voxels_without_residuals():
    data, basis = np.ones((4, 8)), np.full((4, 1), 0.5)
    with pytest.raises(ValueError, match="27 voxels"):
        estimate_smoothness(data, basis, np.ones(8), np.ones((3, 3, 3), bool), (1, 1, 1))
    with pytest.raises(ValueError, match="without residuals"):
        estimate_smoothness(data, basis, np.zeros(8), np.ones((2, 2, 2), bool), (1, 1, 1))


# Resels


def test_resels_of_a_box_are_its_diameter_surface_and_volume():
    sides = np.array([9, 14, 19]) / [2.0, 3.0, 4.0]
    expected = [1, sides.sum(), sides[0] * sides[1] + sides[0] * sides[2] + sides[1] * sides[2], sides.prod()]
    np.testing.assert_allclose(count_resels(np.ones((10, 15, 20), bool), (2, 3, 4)), expected)


def test_resels_of_a_union_are_those_of_the_parts_less_the_intersection():
    # Two boxes one of which passes through the other: no box of voxels has corners in both but not in one alone.
    one, other = np.zeros((2, 12, 12, 12), bool)
    one[2:9, 2:9, 2:9], other[4:7, 4:7, 0:12] = True, True
    parts = [count_resels(mask, (2, 3, 4)) for mask in (one, other, one & other, one | other)]
    np.testing.assert_allclose(parts[0] + parts[1] - parts[2], parts[3])


def test_r0_is_components_less_handles_plus_hollows():
    ring = np.ones((7, 7, 3), bool)
    ring[2:5, 2:5] = False
    shell = np.ones((7, 7, 7), bool)
    shell[3, 3, 3] = False
    pair = np.zeros((7, 7, 7), bool)
    pair[0, 0, 0] = pair[4:6, 4:6, 4:6] = True
    assert [count_resels(mask, (1, 1, 1))[0] for mask in (ring, shell, pair)] == [0, 2, 2]


# EC densities


@pytest.mark.parametrize("pin", T_PINS, ids=lambda pin: f"t{pin['dof']}")
def test_ec_densities_of_t_are_those_of_worsleys_program(pin):
    np.testing.assert_allclose(ec_densities_t(pin["heights"], pin["dof"])[1:], pin["densities"][1:], rtol=1e-9)
    # Its tail is a sum by Simpson's rule.
    np.testing.assert_allclose(ec_densities_t(pin["heights"], pin["dof"])[0], pin["densities"][0], rtol=1e-3)


@pytest.mark.parametrize("pin", F_PINS, ids=lambda pin: f"F{pin['dof']}")
def test_ec_densities_of_f_are_those_of_worsleys_program(pin):
    np.testing.assert_allclose(ec_densities_f(pin["heights"], *pin["dof"])[1:], pin["densities"][1:], rtol=1e-9)
    np.testing.assert_allclose(ec_densities_f(pin["heights"], *pin["dof"])[0], pin["densities"][0], rtol=1e-3)


def test_ec_densities_of_many_dof_are_those_of_a_gaussian_field():
    z, a = np.array([-1.5, 0.5, 2.0, 4.5]), 4 * np.log(2)
    gaussian = np.array(
        [np.sqrt(a) / (2 * np.pi) * z**0, a / (2 * np.pi) ** 1.5 * z, a**1.5 / (2 * np.pi) ** 2 * (z**2 - 1)]
    )
    np.testing.assert_allclose(ec_densities_t(z, 1e8), [stats.norm.sf(z), *gaussian * np.exp(-(z**2) / 2)], rtol=1e-5)


@pytest.mark.parametrize("compute", [lambda x: ec_densities_t(x, 12.0), lambda x: ec_densities_f(x, 3.0, 40.0)])
def test_ec_densities_have_the_digits_of_doubles_whatever_holds_the_heights(compute):
    heights = np.array([0.7, 4.2, 31.0], dtype=np.float32)
    found = compute(heights)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, compute(heights.astype(np.float64)))


@pytest.mark.parametrize("dof", [5.0, 13.5, 200.0])
def test_f_of_one_dof_exceeds_where_t_does_on_either_side(dof):
    t = np.array([0.3, 1.0, 2.7, 5.0, 40.0])
    np.testing.assert_allclose(ec_densities_f(t**2, 1.0, dof), 2 * ec_densities_t(t, dof), rtol=1e-9, atol=1e-15)


def test_what_lies_below_a_height_has_the_ec_of_what_exceeds_its_negative():
    t = np.array([0.4, 1.0, 3.0])
    np.testing.assert_allclose(ec_densities_t(-t, 9.0)[1:], [[1], [-1], [1]] * ec_densities_t(t, 9.0)[1:], rtol=1e-12)


# Heights


@pytest.mark.parametrize("pin", PINNED["fields"], ids=lambda pin: f"{pin['test']}{pin['dof']}")
@pytest.mark.parametrize("name", PINNED["searches"])
def test_thresholds_are_those_of_worsleys_program(pin, name):
    found = [find_threshold(alpha, make_field(pin), make_pinned_smoothness(name)) for alpha in PINNED["alphas"]]
    np.testing.assert_allclose(found, pin["thresholds"][name], rtol=2e-3)  # it interpolates between heights


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(1.0, 12.0), st.floats(3.5, 300), st.sampled_from(["t", "F"]))
def test_p_falls_with_height_and_is_at_most_bonferronis_and_at_least_a_voxels_own(seed, fwhm, dof, test):
    mask = ndimage.binary_dilation(np.random.default_rng(seed).random((9, 10, 11)) < 0.02, iterations=2)
    mask[4, 5, 6] = True
    smoothness = replace(make_smoothness(), resels=count_resels(mask, np.full(3, fwhm)), n_voxels=int(mask.sum()))
    field = Field(test, 1.0 if test == "t" else 3.0, dof)
    own = stats.t(dof) if test == "t" else stats.f(3, dof)
    values = np.linspace(-8 if test == "t" else 0, 30, 400)
    p = np.exp(log_p_fwe(values, field, smoothness))
    assert np.all(np.diff(p) <= 1e-12)
    assert np.all(p <= np.minimum(1, own.sf(values) * smoothness.n_voxels) * (1 + 1e-9))
    assert np.all(p >= own.sf(values) * (1 - 1e-9))
    for alpha in (0.001, 0.05):
        threshold = find_threshold(alpha, field, smoothness)
        assert threshold <= own.isf(alpha / smoothness.n_voxels) * (1 + 1e-9)
        assert np.exp(log_p_fwe(threshold * (1 + 1e-9), field, smoothness)) <= alpha * (1 + 1e-9)
        assert np.exp(log_p_fwe(threshold * (1 - 1e-9), field, smoothness)) >= alpha * (1 - 1e-9)


def test_p_of_a_height_is_its_expected_ec_where_that_is_smaller_than_bonferronis():
    smoothness, field = make_smoothness(8.0), Field("t", 1.0, 60.0)
    t = np.array([4.5, 5.0, 6.0])
    by_hand = np.array([1, 3, 3, 1]) * (29 / 8) ** np.arange(4) @ ec_densities_t(t, 60.0)
    np.testing.assert_allclose(expected_ec(t, field, smoothness.resels), by_hand, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_p_fwe(t, field, smoothness)), by_hand, rtol=1e-10)
    assert np.all(by_hand < smoothness.n_voxels * stats.t.sf(t, 60))


def test_threshold_rises_with_volume_and_falls_with_smoothness():
    field = Field("t", 1.0, 40.0)
    by_size = [find_threshold(0.05, field, make_smoothness(8.0, (size,) * 3)) for size in (10, 20, 40, 80)]
    by_fwhm = [find_threshold(0.05, field, make_smoothness(fwhm)) for fwhm in (6, 8, 12, 20)]
    assert np.all(np.diff(by_size) > 0.05)
    assert np.all(np.diff(by_fwhm) < -0.05)


def test_p_of_a_huge_t_neither_vanishes_nor_ties():
    t = np.array([50.0, 1e3, 1e6, 1e100, 1e250])
    for dof in (8.0, 120.0, 1e5):
        log_p = log_p_fwe(t, Field("t", 1.0, dof), make_smoothness())
        np.testing.assert_allclose(log_p[1:], log_sf_t(t, dof)[1:] + np.log(27000), rtol=1e-6)
        assert np.all(np.diff(log_p) < 0)
        log_f = log_p_fwe(np.square(t[:4]), Field("F", 4.0, dof), make_smoothness())
        assert np.all(np.isfinite(log_f))
        assert np.all(np.diff(log_f) < 0)


def test_two_sided_t_is_f_of_one_dof():
    smoothness, value = make_smoothness(7.0), np.array([-7.0, -4.2, 3.5, 5.0, 11.0])
    t, F = Statistic("t", value, value, value, 1.0, 30.0), Statistic("F", value**2, None, None, 1.0, 30.0)
    two_sided = log_p_heights(t, smoothness, "two-sided")
    np.testing.assert_allclose(two_sided, log_p_heights(F, smoothness, None), rtol=1e-9, atol=1e-12)
    threshold = find_critical_height(t, smoothness, 0.05, "two-sided")
    assert threshold**2 == pytest.approx(find_critical_height(F, smoothness, 0.05, None))
    assert threshold == pytest.approx(find_critical_height(t, smoothness, 0.025, "positive"))
    assert find_critical_height(t, smoothness, 0.05, "negative") == -find_critical_height(
        t, smoothness, 0.05, "positive"
    )
    negative = log_p_heights(replace(t, value=-value), smoothness, "negative")
    np.testing.assert_array_equal(negative, log_p_heights(t, smoothness, "positive"))
    clusters = [
        log_p_extents([5, 90], stat, one, smoothness, tail)
        for stat, one, tail in [(4.2, t, "two-sided"), (4.2**2, F, None)]
    ]
    # Clusters of both signs at once: 1 - exp(-2 m) against the larger 2 (1 - exp(-m)).
    np.testing.assert_allclose(-2 * np.log1p(-np.exp(clusters[0]) / 2), -np.log1p(-np.exp(clusters[1])), rtol=1e-9)


# Clusters


@pytest.mark.parametrize("pin", PINNED["clusters"], ids=lambda pin: f"u{pin['threshold']}")
def test_cluster_p_of_a_gaussian_field_is_that_of_worsleys_program(pin):
    # Its number of clusters counts the volume alone.
    volume = np.array(PINNED["searches"]["medium"][0]) * [0, 0, 0, 1]
    smoothness = Smoothness(np.full(3, 10.0), np.full(3, 10.0), volume, 30_000, 1000.0)
    field = Field("t", 1.0, PINNED["gaussian_dof"])
    extents = 1000 * np.array(PINNED["extents"])
    found = np.exp(log_p_fwe_clusters(extents, pin["threshold"], field, smoothness))
    np.testing.assert_allclose(found, pin["p"], rtol=5e-3)  # it interpolates between heights


def test_cluster_p_falls_with_extent_and_with_the_cluster_forming_threshold():
    field, smoothness = Field("t", 1.0, 20.0), make_smoothness(4.0)
    log_p = np.array([log_p_fwe_clusters([1, 20, 300, 10**7], u, field, smoothness) for u in (3.6, 4.0, 5.0)])
    assert np.all(np.isfinite(log_p))
    assert np.all(np.diff(log_p, axis=0) < 0)
    assert np.all(np.diff(log_p, axis=1) < 0)


def test_cluster_p_of_no_extent_is_the_probability_of_any_cluster():
    field, smoothness = Field("F", 3.0, 40.0), make_smoothness(6.0)
    found = np.exp(log_p_fwe_clusters([0], 9.0, field, smoothness))
    np.testing.assert_allclose(found, -np.expm1(-expected_ec(9.0, field, smoothness.resels)), rtol=1e-12)


# Refusals


@pytest.mark.parametrize(("tail", "extents"), [("positive", [216]), ("negative", [27]), ("two-sided", [216, 27])])
def test_survivors_have_the_extent_of_the_cluster_of_their_own_sign_that_they_are_in(tail, extents):
    values = np.zeros((20, 20, 20))
    values[2:8, 2:8, 2:8], values[3:7, 3:7, 3:7], values[12:15, 12:15, 12:15] = 4.2, 8.0, -9.0
    t = Statistic("t", values.ravel(), None, None, 1.0, 40.0)
    smoothness = make_smoothness(shape=values.shape)
    found = infer(t, np.ones(values.shape, bool), correction="rft", alpha=0.05, tail=tail, smoothness=smoothness)
    np.testing.assert_array_equal(found.clusters.n_voxels, [{216: 64, 27: 27}[extent] for extent in extents])
    threshold = find_cluster_threshold(t, ("p", 0.001), tail)
    log_p = log_p_extents(np.array(extents), threshold, t, smoothness, tail)
    np.testing.assert_allclose(found.extent_p, np.exp(log_p), rtol=1e-12)


def test_cluster_forming_p_above_0_001_is_refused_in_the_tail_it_belongs_to():
    t = Statistic("t", np.zeros(3), np.zeros(3), np.ones(3), 1.0, 20.0)
    for p, tail in [(0.001, "positive"), (0.0005, "two-sided")]:
        assert np.isfinite(log_p_extents([9], stats.t.isf(p, 20), t, make_smoothness(), tail))
        with pytest.raises(ValueError, match=r"at most 0\.001, not 0\.0011"):
            log_p_extents([9], stats.t.isf(1.1 * p, 20), t, make_smoothness(), tail)


@pytest.mark.parametrize(
    ("dof", "message"), [(np.array([9.0, 8.0]), "same degrees of freedom"), (3.0, "more than 3 degrees")]
)
def test_own_or_too_few_dof_are_refused(dof, message):
    statistic = Statistic("t", np.zeros(2), np.zeros(2), np.ones(2), 1.0, dof)
    with pytest.raises(ValueError, match=message):
        log_p_heights(statistic, make_smoothness(), "positive")


def test_extents_of_a_mask_without_neighbours_and_impossible_alphas_are_refused():
    lonely = replace(make_smoothness(), resels=np.array([5.0, 0, 0, 0]), n_voxels=5)
    with pytest.raises(ValueError, match="no extent"):
        log_p_fwe_clusters([1], 5.0, Field("t", 1.0, 20.0), lonely)
    with pytest.raises(ValueError, match="between 0 and 1"):
        find_threshold(1.0, Field("t", 1.0, 20.0), lonely)


# Error rates


def test_false_positives_of_heights_and_extents_stay_below_alpha():
    rng, mask, n_rows, n_studies, alpha = np.random.default_rng(8), make_ellipsoid((24, 24, 24)), 16, 80, 0.05
    design = np.ones((n_rows, 1))
    basis, forming = decompose(design).basis, stats.t.isf(0.0005, n_rows - 1)
    heights = extents = lower = 0
    for _ in range(n_studies):
        data = make_noise(rng, n_rows, mask, (6.0, 6.0, 6.0))
        fit = fit_glm(data, design, [np.ones((1, 1))])
        t = compute_t(fit, 0)
        smoothness = estimate_smoothness(data, basis, fit.residual_ss, mask, (2, 2, 2))
        heights += np.any(log_p_heights(t, smoothness, "two-sided") <= np.log(alpha))
        clusters = label_clusters(t.value, np.abs(t.value) > forming, mask, connectivity=18)
        extents += np.any(log_p_extents(clusters.n_voxels, forming, t, smoothness, "two-sided") <= np.log(alpha))
        bonferroni = stats.t.isf(alpha / 2 / mask.sum(), n_rows - 1)
        lower += find_critical_height(t, smoothness, alpha, "two-sided") < bonferroni - 0.01
    most = stats.binom.isf(0.005, n_studies, alpha)
    assert 0 < heights <= most
    assert 0 < extents <= most
    assert lower > 0.9 * n_studies
