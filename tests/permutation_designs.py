"""Permutation tests of random data: designs, what may be exchanged, and enumerations of small ones."""

from itertools import combinations, product

import numpy as np
from scipy import stats

from bids_group.column_space import decompose, find_contrast_axes, partition_design
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.exchangeability import exchange_freely, exchange_whole, exchange_within
from bids_group.stats.permutation.rearrange import plan_rearrangements

ALL_LEVELS = ("voxel", "cluster-size", "cluster-mass", "tfce")
MASK = np.random.default_rng(0).random((4, 5, 4)) < 0.8
N_VOXELS = np.count_nonzero(MASK)


def make_data(seed, n_rows, n_within=1, n_voxels=N_VOXELS, shift=0.0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n_within, n_rows, n_voxels)) + shift).astype(np.float32)


def make_test(matrix, weights, exchangeability, *, n_asked=200, seed=0, shift=0.0, n_within=1, **options):
    """A test of random data, its contrast given as weights on the design's columns."""
    space = decompose(matrix)
    directions, _ = find_contrast_axes(space, np.atleast_2d(weights))
    interest, nuisance = partition_design(space.basis, directions)
    settings = {"test": "t", "tail": "two-sided", "levels": ALL_LEVELS, "cluster_threshold": 1.2, "mask": MASK}
    return PermutationTest(
        data=make_data(seed, len(matrix), n_within, np.count_nonzero(options.get("mask", MASK)), shift),
        interest=interest,
        nuisance=nuisance,
        rearrangements=plan_rearrangements(interest, exchangeability, n_asked=n_asked, seed=seed),
        **settings | options,
    )


def make_covariates(n_rows, n_columns, seed=3):
    rng = np.random.default_rng(seed)
    return np.column_stack([np.ones(n_rows), rng.normal(size=(n_rows, n_columns))])


BLOCKS = np.repeat(np.arange(4), 3)
CONDITIONS = np.kron(np.ones((4, 1)), np.eye(3))
SUBJECTS = np.kron(np.eye(4), np.ones((3, 1)))
GROUPS = np.repeat([[1.0, 0.0], [0.0, 1.0]], 6, axis=0)
F = {"test": "F", "tail": None}
CASES = {
    "one-sample": (np.ones((9, 1)), [1], exchange_freely(9, "flips"), {}),
    "one-sample, all flips": (np.ones((6, 1)), [1], exchange_freely(6, "flips"), {"tail": "negative"}),
    "mean with a centred covariate": (
        np.column_stack([np.ones(9), np.arange(9) - 4]),
        [1, 0],
        exchange_freely(9, "flips"),
        {"tail": "positive"},
    ),
    "covariate": (make_covariates(10, 2), [0, 0, 1], exchange_freely(10, "permutations"), {"tail": "positive"}),
    "covariate, downwards": (
        make_covariates(10, 2),
        [0, 0, 1],
        exchange_freely(10, "permutations"),
        {"tail": "negative"},
    ),
    "two groups": (GROUPS, [1, -1], exchange_freely(12, "permutations"), {"connectivity": 18}),
    "two groups, all": (
        GROUPS[2:10],
        [1, -1],
        exchange_freely(8, "permutations"),
        {"connectivity": 26, "tail": "positive"},
    ),
    "conditions within subjects": (
        np.hstack([CONDITIONS, SUBJECTS]),
        [1, -1, 0, 0, 0, 0, 0],
        exchange_within(BLOCKS, "permutations"),
        {},
    ),
    "groups of subjects": (GROUPS, [1, -1], exchange_whole(BLOCKS, "permutations"), {"tail": "positive"}),
    "F of conditions": (
        np.hstack([CONDITIONS, SUBJECTS]),
        [[1, -1, 0, 0, 0, 0, 0], [0, 1, -1, 0, 0, 0, 0]],
        exchange_within(BLOCKS, "permutations"),
        F,
    ),
    "F of covariates": (make_covariates(14, 3), np.eye(4)[1:], exchange_freely(14, "permutations"), F),
    "F of one mean": (np.ones((6, 1)), [1], exchange_freely(6, "flips"), F),
    "F of several directions": (
        make_covariates(10, 1),
        [0, 1],
        exchange_freely(10, "permutations"),
        {**F, "n_within": 3},
    ),
}


def flip_all(values):
    """The one-sample t under each flip of signs, the observed one first."""
    signs = product([1, -1], repeat=len(values))
    return [stats.ttest_1samp(np.array(one)[:, None] * values, 0.0).statistic for one in signs]


def divide_all(values, n_first):
    """The two-sample t of each way to divide the maps, the observed one first."""
    first = combinations(range(len(values)), n_first)
    return [stats.ttest_ind(values[list(one)], np.delete(values, one, axis=0)).statistic for one in first]
