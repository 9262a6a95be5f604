"""Rank, estimability and dependent columns of textbook designs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.column_space import decompose


def make_groups_and_constant():
    """Two group means and a constant: three columns of rank two."""
    group = np.repeat([0, 1], [5, 7])
    return np.column_stack([group == 0, group == 1, np.ones(12)]).astype(float)


def make_repeated_measures():
    """Nine conditions of sixteen subjects: a column per condition, a column per subject."""
    return np.hstack([np.kron(np.ones((16, 1)), np.eye(9)), np.kron(np.eye(16), np.ones((9, 1)))])


def test_repeated_measures_design_loses_one_rank():
    space = decompose(make_repeated_measures())
    assert space.rank == 24
    assert space.find_dependent_columns().all()


@pytest.mark.parametrize(
    ("weights", "estimable"),
    [
        ([1, -1, 0], True),
        ([1, 0, 1], True),
        ([0.5, 0.5, 1], True),
        ([1, 0, 0], False),
        ([0, 0, 1], False),
        ([1, 1, 0], False),
    ],
)
def test_only_sums_of_group_and_constant_are_estimable(weights, estimable):
    outside = decompose(make_groups_and_constant()).find_inestimable(np.array([weights], float))
    assert outside.any() != estimable


def test_inestimable_contrast_names_its_columns_and_not_those_apart():
    matrix = np.column_stack([make_groups_and_constant(), np.linspace(-1, 1, 12) ** 3])
    space = decompose(matrix)
    outside = space.find_inestimable(np.array([[1.0, 0, 0, 2], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(outside, [[True, True, True, False], [False, False, False, False]])
    np.testing.assert_array_equal(space.find_dependent_columns(), [True, True, True, False])


def test_column_of_zeros_has_no_rank_and_is_named():
    space = decompose(np.column_stack([np.ones(6), np.zeros(6)]))
    assert space.rank == 1
    np.testing.assert_array_equal(space.find_dependent_columns(), [False, True])
    np.testing.assert_array_equal(space.find_inestimable(np.array([[0.0, 1.0]])), [[False, True]])


def test_weights_rounded_to_four_digits_are_refused():
    space = decompose(make_repeated_measures())
    weights = np.zeros((2, 25))
    weights[0, :9] = [1 / 6] * 6 + [-1 / 3] * 3
    weights[1, :9] = [0.1667] * 6 + [-0.3333] * 3
    np.testing.assert_array_equal(space.find_inestimable(weights).any(axis=1), [False, True])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 3))
def test_rank_and_estimability_do_not_depend_on_column_scale(seed, n_free, n_dependent):
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(12, n_free))
    matrix = np.hstack([free, free @ rng.normal(size=(n_free, n_dependent))])
    scale = 10.0 ** rng.integers(-6, 7, size=matrix.shape[1])
    contrasts = np.vstack([rng.normal(size=(2, 12)) @ matrix, rng.normal(size=(1, matrix.shape[1]))])
    space, scaled = decompose(matrix), decompose(matrix * scale)
    assert space.rank == scaled.rank == n_free
    expected = [False, False, n_dependent > 0]
    assert space.find_inestimable(contrasts).any(axis=1).tolist() == expected
    assert scaled.find_inestimable(contrasts * scale).any(axis=1).tolist() == expected


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_score_weights_reproduce_the_pseudoinverse(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(10, 3)) @ rng.normal(size=(3, 5))
    data, contrasts = rng.normal(size=(10, 4)), rng.normal(size=(2, 10)) @ matrix
    space = decompose(matrix)
    weights = space.score_weights(contrasts)
    np.testing.assert_allclose(
        weights @ (space.basis.T @ data), contrasts @ np.linalg.pinv(matrix, rcond=1e-10) @ data, atol=1e-9
    )
    inverse = np.linalg.pinv(matrix.T @ matrix, rcond=1e-12, hermitian=True)
    np.testing.assert_allclose(weights @ weights.T, contrasts @ inverse @ contrasts.T, atol=1e-9)
