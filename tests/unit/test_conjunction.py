"""Conjunctions: the weakest of several contrasts, against SciPy and against what the conjunction null allows."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bids_group.stats.conjunction import conjoin_inferences, conjoin_p, conjoin_statistics
from bids_group.stats.correct import infer
from bids_group.stats.glm import Statistic, compute_log_p
from bids_group.stats.inference import PermutationFacts

SHAPE = (7, 6, 5)
MASK = np.ones(SHAPE, dtype=bool)
N_VOXELS = MASK.sum()
ALPHA = 0.05
DOFS = (12.0, 40.0)


def make_t(values, dof=20.0):
    values = np.asarray(values, dtype=np.float64)
    return Statistic("t", values, values, np.ones_like(values), 1.0, dof)


def draw_statistics(seed=0, shift=2.0):
    rng = np.random.default_rng(seed)
    return [make_t(rng.standard_t(dof, N_VOXELS) + shift, dof) for dof in DOFS]


def conjoin(statistics, *, correction="none", tail="two-sided", alpha=ALPHA, mask=MASK, **options):
    found = [infer(one, mask, correction=correction, alpha=alpha, tail=tail, **options) for one in statistics]
    tail = found[0].tail
    uncorrected = [compute_log_p(one, tail) for one in statistics]
    return found, conjoin_inferences(conjoin_statistics(statistics), found, mask, uncorrected=uncorrected)


def test_minimum_statistic_is_the_smallest_z_of_the_sign_that_all_share():
    statistics = [make_t([3.0, -3.0, 3.0, 0.0], 10.0), make_t([2.0, -4.0, -2.0, 5.0], 100.0)]
    weaker = [stats.norm.isf(stats.t.sf(2.0, 100)), -stats.norm.isf(stats.t.sf(3.0, 10))]
    np.testing.assert_allclose(conjoin_statistics(statistics).value, [*weaker, 0, 0], rtol=1e-10)


def test_p_is_the_largest_two_sided_p_and_1_where_signs_differ():
    statistics = draw_statistics(shift=0.0)
    first, second = (one.value for one in statistics)
    largest = np.maximum(2 * stats.t.sf(np.abs(first), DOFS[0]), 2 * stats.t.sf(np.abs(second), DOFS[1]))
    expected = np.where(np.sign(first) == np.sign(second), largest, 1.0)
    np.testing.assert_allclose(conjoin_p(statistics), expected, rtol=1e-10)


def test_the_z_has_the_p():
    statistics = draw_statistics()
    p = np.minimum(1.0, 2 * stats.norm.sf(np.abs(conjoin_statistics(statistics).value)))
    np.testing.assert_allclose(conjoin_p(statistics), p, rtol=1e-9)


def test_f_have_the_smallest_z_and_no_sign():
    rng = np.random.default_rng(1)
    values = [stats.f.rvs(3, 30, size=N_VOXELS, random_state=rng) for _ in range(2)]
    statistics = [Statistic("F", one, None, None, 3.0, 30.0) for one in values]
    weaker = stats.f.sf(np.minimum(*values), 3, 30)
    np.testing.assert_allclose(conjoin_p(statistics), weaker, rtol=1e-10)
    np.testing.assert_allclose(stats.norm.sf(conjoin_statistics(statistics).value), weaker, rtol=1e-9)


@pytest.mark.parametrize("tail", ["positive", "negative", "two-sided"])
@pytest.mark.parametrize("correction", ["none", "bonferroni"])
def test_a_voxel_survives_where_it_does_in_every_contrast_with_the_same_sign(correction, tail):
    first, second = draw_statistics()
    statistics = [Statistic("t", one.value * 2, one.value, one.variance, 1.0, one.dof) for one in (first, second)]
    found, joint = conjoin(statistics, correction=correction, tail=tail)
    same = np.sign(first.value) == np.sign(second.value)
    assert np.array_equal(joint.survives, found[0].survives & found[1].survives & same)
    assert np.array_equal(joint.survives, joint.logp >= -np.log10(ALPHA))
    np.testing.assert_array_equal(joint.logp[same], np.minimum(found[0].logp, found[1].logp)[same])
    assert (joint.clusters.sign == {"negative": -1}.get(tail, 1)).all() or tail == "two-sided"


def test_opposite_effects_are_no_conjunction_however_strong():
    strong = np.full(N_VOXELS, 30.0)
    for tail in ("positive", "negative", "two-sided"):
        assert not conjoin([make_t(strong), make_t(-strong)], tail=tail)[1].survives.any()
    assert conjoin([make_t(-strong), make_t(-strong)])[1].survives.all()


@pytest.mark.parametrize("extent", [2, 4, 9])
def test_cluster_extent_leaves_the_same_voxels_before_and_after(extent):
    statistics = draw_statistics(seed=3, shift=1.0)
    limited, joint = conjoin(statistics, alpha=0.3, tail="positive", cluster_extent=extent)
    unlimited = [infer(one, MASK, correction="none", alpha=0.3, tail="positive") for one in statistics]
    _, later = conjoin(statistics, alpha=0.3, tail="positive")
    sizes = np.bincount(later.clusters.labels)
    kept = later.survives & (sizes[later.clusters.labels] >= extent)
    assert 0 < kept.sum() < later.survives.sum()
    assert not np.array_equal(limited[0].survives, unlimited[0].survives)
    assert np.array_equal(joint.survives, kept)


def test_false_discovery_rate_adjusts_the_largest_p_and_is_stricter_than_the_overlap():
    statistics = draw_statistics(seed=2, shift=3.5)
    found, joint = conjoin(statistics, correction="fdr")
    expected = stats.false_discovery_control(conjoin_p(statistics))
    np.testing.assert_allclose(10**-joint.logp, expected, rtol=1e-10)
    assert np.array_equal(joint.survives, expected <= ALPHA)
    overlap = found[0].survives & found[1].survives
    assert 0 < joint.survives.sum() < overlap.sum()
    assert not (joint.survives & ~overlap).any()
    assert joint.threshold == np.abs(conjoin_statistics(statistics).value[joint.survives]).min()


def test_the_false_discovery_rate_of_permutation_is_that_of_the_largest_uncorrected_p():
    statistics = draw_statistics(seed=2, shift=3.5)
    facts = [PermutationFacts("fdr", n, n, False, 1 / n) for n in (500, 1000)]
    found, of_fdr = conjoin(statistics, correction="fdr")
    of_permutation = [
        replace(one, correction="permutation", permutation=own) for one, own in zip(found, facts, strict=True)
    ]
    uncorrected = [compute_log_p(one, "two-sided") for one in statistics]
    joint = conjoin_inferences(conjoin_statistics(statistics), of_permutation, MASK, uncorrected=uncorrected)
    np.testing.assert_array_equal(joint.logp, of_fdr.logp)
    np.testing.assert_array_equal(joint.survives, of_fdr.survives)
    assert (joint.permutation.n, joint.permutation.smallest_p) == (500, 1 / 500)


def test_overlapping_lists_would_not_control_the_false_discovery_rate_and_the_conjunction_does():
    """One contrast has an effect in one half, the other in the other half: every voxel of a conjunction is false."""
    rng, n_runs, half = np.random.default_rng(0), 200, N_VOXELS // 2
    effects = 6.0 * np.array([np.arange(N_VOXELS) < half, np.arange(N_VOXELS) >= half])
    n_overlapping, n_conjunctions = 0, 0
    for _ in range(n_runs):
        statistics = [make_t(rng.standard_normal(N_VOXELS) + effect, 1e6) for effect in effects]
        found, joint = conjoin(statistics, correction="fdr", tail="positive")
        n_overlapping += bool((found[0].survives & found[1].survives).any())
        n_conjunctions += bool(joint.survives.any())
    assert stats.binomtest(n_conjunctions, n_runs, ALPHA, alternative="greater").pvalue > 0.01
    assert stats.binomtest(n_overlapping, n_runs, 0.5, alternative="greater").pvalue < 0.01


def test_familywise_error_holds_where_one_contrast_is_null_and_the_other_strong_everywhere():
    rng, n_runs = np.random.default_rng(1), 400
    strong = make_t(np.full(N_VOXELS, 50.0))
    n_false = sum(
        bool(conjoin([strong, make_t(rng.standard_t(20, N_VOXELS))], correction="bonferroni")[1].survives.any())
        for _ in range(n_runs)
    )
    assert stats.binomtest(n_false, n_runs, ALPHA, alternative="greater").pvalue > 0.01
    assert n_false > 0


def test_threshold_is_the_common_z_or_none():
    _, joint = conjoin(draw_statistics(), correction="bonferroni")
    assert joint.threshold == pytest.approx(stats.norm.isf(ALPHA / 2 / N_VOXELS), rel=1e-9)
    assert (joint.threshold_unit, joint.threshold) == ("z", joint.threshold_z)
