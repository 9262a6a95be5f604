"""Rearrangements against enumeration by hand, and the laws of their numbering and of random draws."""

import math
import pickle
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bids_group.column_space import partition_design
from bids_group.stats.permutation.exchangeability import (
    Exchangeability,
    exchange_by_blocks,
    exchange_freely,
    exchange_whole,
    exchange_within,
)
from bids_group.stats.permutation.rearrange import plan_rearrangements
from bids_group.stats.permutation.schemes import count_orders, rank_order, unrank_orders

ALL = 10**6
UNLIKELY = 1e-4  # of a seeded test to fail by chance


def make_column(values):
    column = np.array(values, dtype=np.float64)[:, None]
    return column / np.linalg.norm(column)


def make_blocks(*columns):
    return np.array(columns, dtype=np.int64).T


def plan(values, exchangeability, n_asked=ALL, seed=0):
    return plan_rearrangements(make_column(values), exchangeability, n_asked=n_asked, seed=seed)


def list_designs(rearrangements, values):
    """What each rearrangement makes of the values, as tuples."""
    sources, signs = rearrangements.draw(0, rearrangements.n)
    return [tuple(row) for row in (signs * np.asarray(values)[sources]).tolist()]


def split_branches(rows, blocks, level):
    """The branches right below a block, in the order of their first rows."""
    if level + 1 == blocks.shape[1]:
        return [[row] for row in rows]
    labels = list(dict.fromkeys(abs(blocks[rows, level + 1])))
    return [[row for row in rows if abs(blocks[row, level + 1]) == label] for label in labels]


def is_allowed(permutation, blocks):
    """Blocks go to blocks of their sign and size; the branches of a negative one keep their order."""
    for level, column in enumerate(blocks.T):
        for label in np.unique(column):
            rows = [row for row in range(len(blocks)) if column[row] == label]
            image = [permutation[row] for row in rows]
            target = [row for row in range(len(blocks)) if column[row] == column[image[0]]]
            if sorted(image) != target or np.sign(label) != np.sign(column[image[0]]):
                return False
            below, above = split_branches(rows, blocks, level), split_branches(target, blocks, level)
            if label < 0 and any({permutation[row] for row in a} != set(b) for a, b in zip(below, above, strict=False)):
                return False
    return True


def enumerate_permutations(blocks):
    return [order for order in permutations(range(len(blocks))) if is_allowed(order, blocks)]


# Blocks in full, and how many permutations they allow, counted by hand.
TREES = {
    "free": (make_blocks([1] * 5), 120),
    "nothing": (make_blocks([-1] * 5), 1),
    "within two blocks of three": (make_blocks([-1] * 6, [1, 1, 1, 2, 2, 2]), 36),
    "within blocks of two and three, interleaved": (make_blocks([-1] * 5, [1, 2, 1, 2, 1]), 12),
    "three whole blocks of two": (make_blocks([1] * 6, [-1, -1, -2, -2, -3, -3]), 6),
    "whole blocks of two, two and three": (make_blocks([1] * 7, [-1, -1, -2, -2, -2, -3, -3]), 2),
    "blocks and the rows in them": (make_blocks([1] * 6, [1, 1, 2, 2, 3, 3]), 48),
    "a block that may be shuffled beside two that may not": (make_blocks([1] * 6, [-1, -1, 2, 2, -3, -3]), 4),
    "families in types": (make_blocks([-1] * 7, [1, 1, 1, 1, 2, 2, 2], [-1, -1, -2, -2, -3, -4, -5]), 12),
    "families of exchangeable pairs in types": (make_blocks([-1] * 6, [1] * 4 + [2] * 2, [1, 1, 2, 2, 3, 4]), 16),
    "types as wholes": (make_blocks([1] * 6, [1, 1, 1, 2, 2, 2], [-1, -1, -2, -3, -3, -4]), 2),
    "whole blocks of blocks": (make_blocks([1] * 6, [-1] * 3 + [-2] * 3, [1, 1, 2, 3, 3, 4]), 8),
}


@pytest.mark.parametrize("name", TREES)
def test_permutations_of_distinct_rows_are_those_counted_by_hand(name):
    blocks, n_expected = TREES[name]
    values = np.sqrt(np.arange(2.0, 2 + len(blocks)))
    rearrangements = plan(values, Exchangeability("permutations", blocks))
    designs = list_designs(rearrangements, values)
    assert rearrangements.n == rearrangements.n_distinct == len(set(designs)) == n_expected
    assert set(designs) == {tuple(values[list(order)]) for order in enumerate_permutations(blocks)}
    assert designs[0] == tuple(values)


@st.composite
def make_trees(draw):
    """Up to three levels over six rows in any order, with signs, and values of which some are equal or opposite."""
    n_rows = draw(st.integers(2, 6))
    columns = [np.full(n_rows, draw(st.sampled_from([1, -1])))]
    for _ in range(draw(st.integers(0, 2))):
        inner = np.array(draw(st.lists(st.integers(1, 3), min_size=n_rows, max_size=n_rows)))
        numbers = 10 * np.abs(columns[-1]) + inner
        negative = draw(st.sets(st.sampled_from(sorted(set(numbers.tolist())))))
        columns.append(np.where(np.isin(numbers, list(negative)), -numbers, numbers))
    values = draw(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), min_size=n_rows, max_size=n_rows).filter(any))
    return make_blocks(*columns), np.array(values)


@settings(max_examples=150, deadline=None)
@given(make_trees())
def test_every_distinct_design_is_listed_once_and_the_identity_first(tree):
    blocks, values = tree
    rearrangements = plan(values, Exchangeability("permutations", blocks))
    designs = list_designs(rearrangements, values)
    expected = {tuple(values[list(order)].tolist()) for order in enumerate_permutations(blocks)}
    assert rearrangements.is_exhaustive
    assert rearrangements.n_distinct == len(designs) == len(expected)
    assert set(designs) == expected
    np.testing.assert_array_equal(rearrangements.draw(0, 1)[0][0], np.arange(len(values)))


@settings(max_examples=100, deadline=None)
@given(make_trees(), st.sampled_from(["permutations", "flips"]))
def test_mirrors_are_the_negative_designs_if_these_are_in_the_list(tree, kind):
    blocks, values = tree
    rearrangements = plan(values, Exchangeability(kind, blocks))
    designs = list_designs(rearrangements, values)
    negative = [tuple(-value for value in design) for design in designs]
    if negative[0] in set(designs):
        mirrors = rearrangements.mirrors
        assert [designs[mirror] for mirror in mirrors] == negative
        np.testing.assert_array_equal(mirrors[mirrors], np.arange(rearrangements.n))
        assert rearrangements.n_equivalent == 2
    else:
        assert rearrangements.mirrors is None
        assert rearrangements.n_equivalent == 1


@settings(max_examples=60, deadline=None)
@given(make_trees(), st.integers(0, 2**32))
def test_random_permutations_are_allowed_ones(tree, seed):
    blocks, values = tree
    rearrangements = plan(values, Exchangeability("permutations", blocks), n_asked=2, seed=seed)
    for sources in rearrangements.draw(0, rearrangements.n)[0]:
        assert is_allowed(tuple(sources), blocks)


# Blocks in full, and the sets of rows that share one sign.
FLIPS = {
    "free": (make_blocks([1] * 4), [[0], [1], [2], [3]]),
    "nothing": (make_blocks([-1] * 4), []),
    "within blocks": (make_blocks([-1] * 4, [1, 1, 2, 2]), [[0], [1], [2], [3]]),
    "whole blocks": (make_blocks([1] * 5, [-1, -2, -1, -2, -2]), [[0, 2], [1, 3, 4]]),
    "families whose members are alike but dependent": (make_blocks([1] * 4, [1, 1, 2, 2]), [[0, 1], [2, 3]]),
    "one block flipped by row, one never": (make_blocks([-1] * 4, [1, 1, -2, -2]), [[0], [1]]),
    "families in types": (
        make_blocks([-1] * 6, [1, 1, 1, 1, 2, 2], [-1, -1, -2, -2, -3, -4]),
        [[0, 1], [2, 3], [4], [5]],
    ),
    "rows in families in types": (make_blocks([-1] * 4, [-1] * 4, [1, 1, -2, -2]), [[0], [1]]),
}


@pytest.mark.parametrize("name", FLIPS)
def test_flips_are_all_signs_of_the_sets_that_share_one(name):
    blocks, sets = FLIPS[name]
    expected = set()
    for choice in product([1, -1], repeat=len(sets)):
        signs = np.ones(len(blocks), dtype=int)
        for sign, rows in zip(choice, sets, strict=True):
            signs[rows] = sign
        expected.add(tuple(signs.tolist()))
    rearrangements = plan(np.ones(len(blocks)), Exchangeability("flips", blocks))
    sources, signs = rearrangements.draw(0, rearrangements.n)
    assert rearrangements.n_distinct == len(signs) == 2 ** len(sets)
    assert {tuple(row) for row in signs.tolist()} == expected
    assert np.all(signs[0] == 1)
    assert np.all(sources == np.arange(len(blocks)))


def test_five_subjects_have_32_flips_and_a_smallest_two_sided_p_of_2_in_32():
    rearrangements = plan(np.ones(5), exchange_freely(5, "flips"))
    assert rearrangements.n == 32
    assert rearrangements.compute_smallest_p(two_sided=True) == 2 / 32
    assert rearrangements.compute_smallest_p(two_sided=False) == 1 / 32


def test_rows_that_are_zero_in_the_design_are_not_flipped():
    rearrangements = plan([1.0, 0.0, 1.0, 0.0], exchange_freely(4, "flips"))
    assert rearrangements.n_distinct == 4
    drawn = plan([1.0, 0.0] * 20, exchange_freely(40, "flips"), n_asked=50)
    assert drawn.n_distinct == 2**20
    assert np.all(drawn.draw(0, 50)[1][:, 1::2] == 1)


def test_two_groups_have_as_many_permutations_as_there_are_ways_to_choose_one_of_them():
    equal, unequal = np.repeat([1.0, -1.0], 4), np.repeat([4.0, -3.0], [3, 4])
    with_mirrors, without = (plan(values, exchange_freely(len(values), "permutations")) for values in (equal, unequal))
    assert (with_mirrors.n, without.n) == (70, 35)
    assert (with_mirrors.compute_smallest_p(two_sided=True), without.compute_smallest_p(two_sided=True)) == (
        2 / 70,
        1 / 35,
    )


def test_three_groups_have_one_f_for_all_their_six_names():
    groups = np.kron(np.eye(3), np.ones((2, 1)))
    interest = np.linalg.svd(groups - groups.mean(axis=0))[0][:, :2]
    rearrangements = plan_rearrangements(interest, exchange_freely(6, "permutations"), n_asked=ALL, seed=0)
    assert rearrangements.n == 90
    assert rearrangements.compute_smallest_p(two_sided=True) == 6 / 90
    projections = [
        (signs[:, None] * interest[sources]) @ (signs[:, None] * interest[sources]).T
        for sources, signs in zip(*rearrangements.draw(0, 90), strict=True)
    ]
    assert len({tuple(projection.round(9).ravel() + 0.0) for projection in projections}) == 15


def test_counts_are_exact_however_large():
    rng = np.random.default_rng(0)
    subjects, conditions = np.repeat(np.arange(16), 9), np.tile(np.arange(9), 16)
    within = exchange_within(subjects, "permutations")
    assert plan(rng.normal(size=144), within, 10).n_distinct == math.factorial(9) ** 16
    assert plan(np.where(conditions < 6, 1.0, -2.0), within, 10).n_distinct == math.comb(9, 6) ** 16
    assert plan(rng.normal(size=144), exchange_freely(144, "permutations"), 10).n_distinct == math.factorial(144)
    assert plan(rng.normal(size=144), exchange_whole(subjects, "flips"), 10).n_distinct == 2**16


def test_rows_that_differ_by_rounding_are_one_and_the_same():
    values = np.repeat([1.0, -1.0], 5) + 1e-14 * np.random.default_rng(0).normal(size=10)
    rearrangements = plan(values, exchange_freely(10, "permutations"))
    assert rearrangements.n == 252
    assert rearrangements.mirrors is not None
    assert plan(values + 1e-6 * np.arange(10), exchange_freely(10, "permutations"), 10).n_distinct == math.factorial(10)


SCHEMES = {
    "free permutations": exchange_freely(12, "permutations"),
    "within blocks": exchange_within(np.repeat([5, 3, 9], 4), "permutations"),
    "whole blocks": exchange_whole(np.repeat(np.arange(6), 2), "permutations"),
    "flips": exchange_freely(12, "flips"),
}
VALUES = np.sqrt(np.arange(2.0, 14))


@pytest.mark.parametrize("name", SCHEMES)
def test_draws_do_not_depend_on_how_they_are_batched(name):
    rearrangements = plan(VALUES, SCHEMES[name], n_asked=40, seed=3)
    assert not rearrangements.is_exhaustive
    assert rearrangements.n == 40
    copy = pickle.loads(pickle.dumps(rearrangements))  # as a worker of another process gets it
    sources, signs = rearrangements.draw(0, 40)
    pieces = [copy.draw(*ends) for ends in ((0, 1), (1, 1), (1, 7), (7, 8), (8, 40))]
    np.testing.assert_array_equal(np.concatenate([piece[0] for piece in pieces]), sources)
    np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), signs)
    np.testing.assert_array_equal(sources[0], np.arange(12))
    assert np.all(signs[0] == 1)
    assert len(np.unique(np.hstack([sources, signs]), axis=0)) == 40


@pytest.mark.parametrize("name", SCHEMES)
def test_the_seed_changes_draws_but_not_the_list_of_all(name):
    one, other = (plan(VALUES, SCHEMES[name], n_asked=40, seed=seed).draw(1, 40) for seed in (0, 1))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    small = exchange_freely(4, SCHEMES[name].kind)
    one, other = (plan(VALUES[:4], small, seed=seed).draw(0, 16) for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_draws_of_a_seed_stay_what_they_are():
    """Pinned: results that were published with a seed must come out again."""
    sources, _ = plan(VALUES, SCHEMES["within blocks"], n_asked=40, seed=20).draw(1, 3)
    _, signs = plan(VALUES, SCHEMES["flips"], n_asked=40, seed=20).draw(1, 3)
    assert sources.tolist() == PINNED_SOURCES
    assert signs.tolist() == PINNED_SIGNS


PINNED_SOURCES = [[0, 1, 2, 3, 6, 5, 4, 7, 9, 11, 10, 8], [0, 3, 2, 1, 7, 5, 4, 6, 8, 9, 10, 11]]
PINNED_SIGNS = [[1, -1, -1, -1, 1, 1, 1, -1, -1, 1, -1, 1], [1, -1, 1, 1, -1, 1, -1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize("name", ["free", "within two blocks of three", "families of exchangeable pairs in types"])
def test_random_permutations_are_uniform(name):
    blocks, n_distinct = TREES[name]
    values = np.arange(1.0, 1 + len(blocks))
    draws = [
        plan(values, Exchangeability("permutations", blocks), n_asked=n_distinct - 1, seed=seed).draw(1, n_distinct - 1)
        for seed in range(20_000 // n_distinct)
    ]
    _, counts = np.unique(np.concatenate([sources for sources, _ in draws]), axis=0, return_counts=True)
    assert len(counts) == n_distinct
    assert stats.chisquare(counts).pvalue > UNLIKELY


def test_blocks_of_different_sizes_are_permuted_independently():
    blocks, n_distinct = make_blocks([-1] * 9, [1, 1, 2, 2, 2, 3, 3, 3, 3]), 2 * 6 * 24
    exchangeability = Exchangeability("permutations", blocks)
    draws = [
        plan(np.arange(1.0, 10.0), exchangeability, n_asked=n_distinct - 1, seed=seed).draw(1, n_distinct - 1)[0]
        for seed in range(70)
    ]
    _, counts = np.unique(np.concatenate(draws), axis=0, return_counts=True)
    assert len(counts) == n_distinct
    assert stats.chisquare(counts).pvalue > UNLIKELY


def test_random_flips_are_uniform():
    _, signs = plan(np.ones(16), exchange_freely(16, "flips"), n_asked=16_001, seed=4).draw(1, 16_001)
    _, counts = np.unique(signs[:, 5:9], axis=0, return_counts=True)
    assert len(counts) == 16
    assert stats.chisquare(counts).pvalue > UNLIKELY


def test_random_permutations_choose_rows_of_a_group_as_often_as_there_are_ways():
    values = np.repeat([1.0, -1.0], 8)
    sources, _ = plan(values, exchange_freely(16, "permutations"), n_asked=8001, seed=4).draw(1, 8001)
    n_in_group = np.sum(values[sources[:, :3]] > 0, axis=1)
    expected = 8000 * stats.hypergeom.pmf(np.arange(4), 16, 8, 3)
    assert stats.chisquare(np.bincount(n_in_group), expected).pvalue > UNLIKELY


def test_successive_draws_are_independent():
    _, signs = plan(np.ones(30), exchange_freely(30, "flips"), n_asked=4001, seed=4).draw(1, 4001)
    for one, other in ((signs[1:], signs[:-1]), (signs[:, 1:], signs[:, :-1])):
        products = one.astype(float) * other
        assert abs(products.mean()) < stats.norm.isf(UNLIKELY / 2) / math.sqrt(products.size)


@pytest.mark.parametrize("counts", [[3], [2, 1, 2], [1, 1, 1, 1], [1, 5], [4, 0, 2]])
def test_orders_are_numbered_lexicographically(counts):
    things = [kind for kind, count in enumerate(counts) for _ in range(count)]
    expected = sorted(set(permutations(things)))
    assert count_orders(np.array(counts)) == len(expected)
    orders = unrank_orders(np.array(counts), np.arange(len(expected)))
    assert [tuple(order) for order in orders.tolist()] == expected
    assert [rank_order(order) for order in orders] == list(range(len(expected)))


def test_a_root_is_added_above_blocks_of_one_sign():
    labels = np.array([1, 1, 2, 2, 2])
    within, whole = (exchange_by_blocks(sign * labels[:, None], "permutations").blocks for sign in (1, -1))
    np.testing.assert_array_equal(within, exchange_within(labels, "permutations").blocks)
    np.testing.assert_array_equal(whole, exchange_whole(labels, "permutations").blocks)
    families = make_blocks([1, 1, 2, 2, 2], [-1, -2, -3, -3, -4])
    np.testing.assert_array_equal(exchange_by_blocks(families, "flips").blocks[:, 1:], families)


def test_a_last_column_of_rows_changes_nothing():
    families = make_blocks([1] * 4, [-1, -1, -2, -2])
    for sign in (1, -1):
        with_rows = np.column_stack([families, sign * np.arange(1, 5)])
        np.testing.assert_array_equal(exchange_by_blocks(with_rows, "flips").blocks, families)


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ([[1, 1, -2, -2]], "put a constant column first"),
        ([[1, 1, 1, 1], [1, 0, 2, 2]], "row 2 has the block 0 at level 2"),
        ([[1, 1, 2, 2], [7, 8, 8, 9], [1, 2, 3, 3]], "block 8 of level 3 lies in several blocks"),
        ([[1, 1, 1, 1], [3, -3, 4, 4]], "block 3 of level 2 has both signs"),
        ([[1, 1, 1, -1], [3, 3, 4, 4]], "put a constant column first"),
        ([], "rows and levels"),
    ],
)
def test_blocks_that_are_no_tree_are_refused(columns, fault):
    with pytest.raises(ValueError, match=fault):
        exchange_by_blocks(make_blocks(*columns), "permutations")


def test_requests_that_cannot_be_met_are_refused():
    free = exchange_freely(4, "flips")
    with pytest.raises(ValueError, match="does not match 4 rows"):
        plan(np.ones(5), free)
    with pytest.raises(ValueError, match="at least 1"):
        plan(np.ones(4), free, n_asked=0)
    with pytest.raises(ValueError, match="seed"):
        plan(np.ones(4), free, seed=-1)
    with pytest.raises(ValueError, match="0 to 16"):
        plan(np.ones(4), free).draw(0, 17)


@pytest.mark.parametrize(("sizes", "n_equivalent"), [((2, 4), 4), ((2, 2, 2), 8), ((3, 4), 4), ((3, 3, 4), 8)])
def test_flips_of_whole_groups_give_the_same_statistic_where_the_groups_are_nuisance(sizes, n_equivalent):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    indicators = (groups[:, np.newaxis] == np.arange(len(sizes))).astype(float)
    basis = indicators / np.linalg.norm(indicators, axis=0)
    weights = np.linalg.norm(indicators, axis=0) ** -1.0  # the mean of the groups' means
    directions = (weights / np.linalg.norm(weights))[:, np.newaxis]
    interest, nuisance = partition_design(basis, directions)
    planned = plan_rearrangements(
        interest, exchange_freely(len(groups), "flips"), n_asked=2000, seed=0, nuisance=nuisance
    )
    data = np.random.default_rng(0).standard_normal(len(groups)) + 40 * indicators.sum(axis=1)
    sources, signs = planned.draw(0, planned.n)
    moved = signs * interest[sources, 0]
    left = moved - moved @ nuisance @ nuisance.T
    scores = left @ (data - nuisance @ (nuisance.T @ data)) / np.linalg.norm(left, axis=1)
    assert planned.n_equivalent == np.isclose(np.abs(scores), np.abs(scores[0]), rtol=1e-9).sum() == n_equivalent
    assert planned.n_same == np.isclose(scores, scores[0], rtol=1e-9).sum()
    assert planned.compute_smallest_p(two_sided=True) == n_equivalent / planned.n
