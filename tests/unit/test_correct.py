"""Corrections against statsmodels, and the agreement of threshold, survivors and p."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bids_group.stats.correct import CORRECTIONS, find_critical_value, infer
from bids_group.stats.glm import Statistic, compute_z
from tests.oracles_data import CUBE, DOF, TAILS, compute_plain_p, make_f, make_t

CASES = [(make_t(), tail) for tail in TAILS] + [(make_f(), None)]


@pytest.mark.parametrize(("statistic", "tail"), CASES)
@pytest.mark.parametrize(("correction", "method"), [("bonferroni", "bonferroni"), ("fdr", "fdr_bh")])
def test_corrected_p_is_that_of_statsmodels(statistic, tail, correction, method):
    inference = infer(statistic, CUBE, correction=correction, alpha=0.05, tail=tail)
    reject, corrected, *_ = multipletests(compute_plain_p(statistic, tail), 0.05, method)
    assert 20 < reject.sum() < 500
    np.testing.assert_allclose(10**-inference.logp, corrected, rtol=1e-10)
    np.testing.assert_array_equal(inference.survives, reject)


@pytest.mark.parametrize(("statistic", "tail"), CASES)
def test_uncorrected_p_is_the_tail_of_the_statistic(statistic, tail):
    inference = infer(statistic, CUBE, correction="none", alpha=0.001, tail=tail)
    np.testing.assert_allclose(10**-inference.logp, compute_plain_p(statistic, tail), rtol=1e-10)


@pytest.mark.parametrize(("statistic", "tail"), CASES)
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_threshold_p_and_survivors_agree(statistic, tail, correction, alpha):
    inference = infer(statistic, CUBE, correction=correction, alpha=alpha, tail=tail)
    assert inference.survives.any()
    np.testing.assert_array_equal(inference.survives, inference.logp >= -np.log10(alpha))
    for values, threshold in (
        (statistic.value, inference.threshold),
        (compute_z(statistic), inference.threshold_z),
    ):
        oriented = {"negative": -values, "two-sided": np.abs(values)}.get(tail, values)
        magnitude = -threshold if tail == "negative" else threshold
        np.testing.assert_array_equal(oriented >= magnitude, inference.survives)
    assert (inference.threshold < 0) == (tail == "negative")
    assert inference.threshold_unit == statistic.test


def test_alpha_belongs_to_the_tail():
    thresholds = {
        (correction, tail): infer(make_t(), CUBE, correction=correction, alpha=0.05, tail=tail).threshold
        for correction in ("none", "bonferroni")
        for tail in TAILS
    }
    for correction, n_tests in (("none", 1), ("bonferroni", 1000)):
        assert thresholds[correction, "positive"] == pytest.approx(stats.t.isf(0.05 / n_tests, DOF), rel=1e-12)
        assert thresholds[correction, "negative"] == pytest.approx(-stats.t.isf(0.05 / n_tests, DOF), rel=1e-12)
        assert thresholds[correction, "two-sided"] == pytest.approx(stats.t.isf(0.025 / n_tests, DOF), rel=1e-12)


@pytest.mark.parametrize("tail", [None, *TAILS])
def test_alpha_of_f_is_never_halved(tail):
    inference = infer(make_f(), CUBE, correction="bonferroni", alpha=0.05, tail=tail)
    assert inference.tail is None
    assert inference.threshold == pytest.approx(stats.f.isf(0.05 / 1000, 3, DOF), rel=1e-12)
    assert inference.threshold_z == pytest.approx(stats.norm.isf(0.05 / 1000), rel=1e-12)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_sign_flip_swaps_the_tails(correction):
    t = make_t()
    flipped = Statistic("t", -t.value, None, None, 1.0, DOF)
    one = infer(t, CUBE, correction=correction, alpha=0.05, tail="positive")
    other = infer(flipped, CUBE, correction=correction, alpha=0.05, tail="negative")
    np.testing.assert_array_equal(one.logp, other.logp)
    np.testing.assert_array_equal(one.survives, other.survives)
    assert (one.threshold, one.threshold_z) == (-other.threshold, -other.threshold_z)
    np.testing.assert_array_equal(one.clusters.labels, other.clusters.labels)


def test_fdr_threshold_is_the_smallest_survivor_and_nan_without_one():
    t = make_t()
    inference = infer(t, CUBE, correction="fdr", alpha=0.05, tail="two-sided")
    assert inference.threshold == np.abs(t.value[inference.survives]).min()
    nothing = infer(make_t(n_signal=0), CUBE, correction="fdr", alpha=1e-6, tail="two-sided")
    assert np.isnan([nothing.threshold, nothing.threshold_z]).all()
    assert not nothing.survives.any()
    assert nothing.clusters.n_clusters == 0


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_cluster_extent_takes_from_the_survivors_and_never_from_p(correction):
    statistic = make_t()
    options = {"correction": correction, "alpha": 0.05, "tail": "two-sided"}
    whole = infer(statistic, CUBE, **options)
    large = infer(statistic, CUBE, **options, cluster_extent=4)
    np.testing.assert_array_equal(whole.logp, large.logp)
    assert whole.threshold == large.threshold
    small = np.r_[0, whole.clusters.n_voxels][whole.clusters.labels] < 4
    assert (whole.survives & small).any()
    np.testing.assert_array_equal(large.survives, whole.survives & ~small)
    np.testing.assert_array_equal(large.survives, large.clusters.labels > 0)
    assert large.clusters.n_removed_voxels == (whole.survives & small).sum()


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_logp_does_not_underflow(correction):
    value = np.full(1000, 0.1)
    value[:3] = [1e3, 1e6, 1e12]
    dof = 1000.0
    logp = infer(
        Statistic("t", value, None, None, 1.0, dof), CUBE, correction=correction, alpha=0.05, tail="positive"
    ).logp
    assert np.isfinite(logp).all()
    assert (logp >= 0).all()
    assert 1000 < logp[0] < logp[1] < logp[2]


def test_dof_that_differ_make_z_the_unit():
    dof = np.where(np.arange(1000) % 2, 8.0, 14.0)
    t = make_t(dof=dof)
    inference = infer(t, CUBE, correction="bonferroni", alpha=0.05, tail="two-sided")
    assert inference.threshold_unit == "z"
    assert inference.threshold == inference.threshold_z == pytest.approx(stats.norm.isf(0.025 / 1000), rel=1e-12)
    np.testing.assert_array_equal(inference.survives, np.abs(compute_z(t)) >= inference.threshold)
    fdr = infer(t, CUBE, correction="fdr", alpha=0.05, tail="two-sided")
    assert fdr.threshold == np.abs(compute_z(t))[fdr.survives].min()
    np.testing.assert_array_equal(fdr.survives, np.abs(compute_z(t)) >= fdr.threshold)


def test_one_dof_for_all_voxels_is_the_same_as_an_array_of_it():
    one = find_critical_value(make_t(), 0.01, "positive")
    other = find_critical_value(make_t(dof=np.full(1000, DOF)), 0.01, "positive")
    assert one == other


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, np.nan])
def test_alpha_outside_zero_and_one_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha lies between 0 and 1"):
        infer(make_t(), CUBE, correction="none", alpha=alpha, tail="positive")


def test_unknown_correction_is_refused():
    with pytest.raises(ValueError, match="unknown correction 'tukey'; there are none, bonferroni, fdr"):
        infer(make_t(), CUBE, correction="tukey", alpha=0.05, tail="positive")


def test_t_without_a_tail_is_refused():
    with pytest.raises(ValueError, match="t has no tail None"):
        infer(make_t(), CUBE, correction="none", alpha=0.05, tail=None)
