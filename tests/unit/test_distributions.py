"""Tails of t and F against 60-digit arithmetic, and the laws of z.

The pinned logarithms (T_TAILS, F_TAILS) were computed with mpmath 1.3 at 60 digits from
``I_x(a, b) = x^a (1 - x)^b 2F1(a + b, 1; a + 1; x) / (a B(a, b))``, or its complement where x lies above the mean of the
beta.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from bids_group.stats import distributions
from tests.oracles_data import F_TAILS, T_TAILS

DOF = st.floats(1, 1e5)
# Beyond z = 90 scipy's ndtri_exp is good to 1.4e-12 of log p, measured against mpmath; to 1e-15 before.
LOG_TAIL_OF_Z = 2e-12


@pytest.mark.parametrize(("t", "dof", "expected"), T_TAILS)
def test_log_tail_of_t_has_thirteen_digits(t, dof, expected):
    assert distributions.log_sf_t(t, dof) == pytest.approx(expected, rel=2e-13, abs=0)
    assert distributions.log_cdf_t(-t, dof) == pytest.approx(expected, rel=2e-13, abs=0)


@pytest.mark.parametrize(("F", "dof1", "dof2", "upper", "lower"), F_TAILS)
def test_log_tails_of_f_have_thirteen_digits(F, dof1, dof2, upper, lower):
    assert distributions.log_sf_f(F, dof1, dof2) == pytest.approx(upper, rel=2e-13, abs=0)
    assert distributions.log_cdf_f(F, dof1, dof2) == pytest.approx(lower, rel=2e-13, abs=0)


@pytest.mark.parametrize("dof", [1.0, 16.0, 120.0, 1e5])
def test_tail_is_smooth_where_the_continued_fraction_takes_over(dof):
    # log sf of t around the switch: second differences on a fine grid stay at rounding level.
    log_t = np.log(stats.t.isf(1e-280, dof)) + np.linspace(-1e-3, 1e-3, 2001)
    steps = np.diff(distributions.log_sf_t(np.exp(log_t), dof))
    assert np.all(steps < 0)
    np.testing.assert_allclose(steps[1:], steps[:-1], rtol=1e-5)


@settings(deadline=None)
@given(st.floats(-1e300, 1e300), DOF)
def test_tails_and_z_of_t_are_finite_everywhere(t, dof):
    assert np.isfinite(distributions.log_sf_t(t, dof))
    assert np.isfinite(distributions.t_to_z(t, dof))


@settings(deadline=None)
@given(st.floats(0, 1e300), DOF, DOF)
def test_tail_and_z_of_f_are_finite_everywhere(F, dof1, dof2):
    assert np.isfinite(distributions.log_sf_f(F, dof1, dof2))
    assert np.isfinite(distributions.f_to_z(F, dof1, dof2))


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), DOF)
def test_z_has_the_tail_of_t_and_is_odd(t, dof):
    z = distributions.t_to_z(abs(t), dof)
    assert special.log_ndtr(-z) == pytest.approx(distributions.log_sf_t(abs(t), dof), rel=LOG_TAIL_OF_Z)
    assert distributions.t_to_z(-abs(t), dof) == -z


@settings(deadline=None)
@given(st.floats(0, 1e6), DOF, DOF)
@example(5e-324, 1.0, 1.0)
def test_z_has_the_tail_of_f(F, dof1, dof2):
    z = distributions.f_to_z(F, dof1, dof2)
    if z > 0:
        assert special.log_ndtr(-z) == pytest.approx(distributions.log_sf_f(F, dof1, dof2), rel=LOG_TAIL_OF_Z)
    elif F > 0:
        assert special.log_ndtr(z) == pytest.approx(distributions.log_cdf_f(F, dof1, dof2), rel=LOG_TAIL_OF_Z)


@pytest.mark.parametrize("dof", [1.0, 3.7, 120.0, 1e5])
def test_z_rises_with_the_statistic(dof):
    grid = np.r_[np.linspace(0, 60, 3001), np.geomspace(61, 1e12, 500)]
    assert np.all(np.diff(distributions.t_to_z(np.r_[-grid[:0:-1], grid], dof)) > 0)
    for dof1 in (1.0, 2.5, 40.0):
        z = distributions.f_to_z(grid, dof1, dof)
        assert np.all(np.diff(z) >= 0)
        assert z[0] < z[1]


def test_f_of_one_numerator_dof_has_the_two_sided_tail_of_t():
    t, dof = np.array([0.1, 1.0, 4.0, 50.0, 1e5]), np.array([1.0, 7.5, 120.0, 1e4, 33.0])
    two_sided = distributions.log_sf_t(t, dof) + np.log(2)
    np.testing.assert_allclose(distributions.log_sf_f(t**2, 1.0, dof), two_sided, rtol=1e-12)
    np.testing.assert_allclose(distributions.p_two_sided(-t, dof), np.exp(two_sided), rtol=1e-10)


def test_two_sided_p_of_zero_is_one():
    assert distributions.p_two_sided(0.0, 5.0) == 1.0


def test_dof_per_voxel_gives_what_each_dof_gives_alone():
    t, dof = np.array([1.0, -2.0, 300.0]), np.array([4.0, 9.5, 200.0])
    alone = [float(distributions.t_to_z(one, d)) for one, d in zip(t, dof, strict=True)]
    assert distributions.t_to_z(t, dof).tolist() == alone
