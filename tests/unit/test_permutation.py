"""The permutation engine against the definition of the test, against enumeration, and the laws that it keeps."""

import re
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.column_space import decompose, partition_design
from bids_group.stats.glm import compute_f, compute_t, fit_glm
from bids_group.stats.partitioned import compute_partitioned, fit_partitioned
from bids_group.stats.permutation.batch import make_workspace, measure_workspace, prepare, run_batch
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.engine import (
    PermutationsStoppedError,
    find_pending,
    join_batch,
    run_permutations,
    start_state,
    summarise,
)
from bids_group.stats.permutation.exchangeability import exchange_freely, exchange_whole, exchange_within
from bids_group.stats.permutation.kernels import BATCH, TILE
from bids_group.stats.permutation.rearrange import plan_rearrangements
from bids_group.stats.permutation.sources import find_rotation
from tests import permutation_oracle as oracle
from tests.permutation_designs import (
    ALL_LEVELS,
    CASES,
    GROUPS,
    MASK,
    N_VOXELS,
    F,
    divide_all,
    flip_all,
    make_covariates,
    make_data,
    make_test,
)

SEEDS = st.integers(0, 2**32 - 1)


def assert_same(one, other):
    """Bit for bit."""
    for level in one.null:
        np.testing.assert_array_equal(one.null[level], other.null[level])
        np.testing.assert_array_equal(one.observed[level], other.observed[level])
        np.testing.assert_array_equal(one.p[level], other.p[level])
    np.testing.assert_array_equal(one.uncorrected_p, other.uncorrected_p)


def run(test, **options):
    return run_permutations(prepare(test), **options)


@pytest.mark.parametrize("case", CASES)
def test_null_and_p_are_those_of_refitting_every_rearrangement(case):
    matrix, weights, exchangeability, options = CASES[case]
    test = make_test(matrix, weights, exchangeability, n_asked=130, **options)
    null, observed, p, uncorrected_p = oracle.run(test)
    found = run(test)
    for level in ALL_LEVELS:
        np.testing.assert_allclose(found.null[level], null[level], rtol=1e-5, atol=1e-5, err_msg=level)
        np.testing.assert_allclose(found.observed[level], observed[level], rtol=1e-5, atol=1e-5, err_msg=level)
        np.testing.assert_array_equal(found.p[level], p[level], err_msg=level)
    np.testing.assert_array_equal(found.uncorrected_p, uncorrected_p)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(0, 2))
def test_identity_is_the_t_and_f_of_the_linear_model(seed, n_dependent):
    rng = np.random.default_rng(seed)
    free = np.column_stack([np.ones(14), rng.normal(size=(14, 3))])
    matrix = np.hstack([free, free @ rng.integers(-2, 3, size=(4, n_dependent))])
    rows = rng.normal(size=(3, 14)) @ matrix
    everyone = exchange_freely(14, "permutations")
    for weights, options in ((rows[:1], {}), (rows, F)):
        test = make_test(matrix, weights, everyone, seed=seed, n_asked=1, levels=("voxel",), **options)
        fit = fit_glm(test.data[0], matrix, [weights])
        expected = (compute_f if options else compute_t)(fit, 0).value
        assert test.dof == fit.dof
        difference = np.abs(prepare(test).heights - expected)
        assert np.all(difference <= 1e-5 * np.maximum(1.0, np.abs(expected)))


def test_identity_of_the_negative_tail_is_minus_t():
    matrix, weights, exchangeability, _ = CASES["covariate"]
    up, down = (make_test(matrix, weights, exchangeability, tail=tail) for tail in ("positive", "negative"))
    np.testing.assert_array_equal(prepare(up).heights, -prepare(down).heights)


def test_identity_of_several_within_directions_is_the_partitioned_f():
    rng = np.random.default_rng(4)
    n_subjects, n_cells = 9, 4
    rows = rng.permutation(n_subjects * n_cells).reshape(n_subjects, n_cells)
    maps = rng.normal(size=(rows.size, N_VOXELS))
    within = np.linalg.qr(np.column_stack([np.ones(n_cells), rng.normal(size=(n_cells, 3))]))[0][:, 1:]
    space = decompose(make_covariates(n_subjects, 1))
    interest, nuisance = partition_design(space.basis, np.array([[0.6], [0.8]]))
    expected = compute_partitioned(
        fit_partitioned(maps, rows, within, interest, space.basis, loadings=np.eye(3)), "F", sphericity="none"
    )
    test = PermutationTest(
        data=np.einsum("cw,scv->wsv", within, maps[rows]).astype(np.float32),
        interest=interest,
        nuisance=nuisance,
        rearrangements=plan_rearrangements(interest, exchange_freely(9, "permutations"), n_asked=1, seed=0),
        mask=MASK,
        levels=("voxel",),
        **F,
    )
    assert (test.dof_effect, test.dof) == (expected.dof_effect, expected.dof)
    np.testing.assert_allclose(prepare(test).heights, expected.value, rtol=1e-5, atol=1e-5)


def check_enumeration(test, statistics):
    """Hold the p of a test against the t of all its rearrangements, the observed one among them first."""
    statistics = np.abs(np.array(statistics))
    found = run(test)
    assert found.exact
    assert found.n == len(statistics)
    reached = statistics >= statistics[0] * (1 - 1e-9)
    np.testing.assert_array_equal(found.uncorrected_p, reached.mean(axis=0))
    reached = statistics.max(axis=1)[:, None] >= statistics[0] * (1 - 1e-9)
    np.testing.assert_array_equal(found.p["voxel"], reached.mean(axis=0))


def test_p_of_one_sample_is_that_of_all_flips():
    test = make_test(np.ones((5, 1)), [1], exchange_freely(5, "flips"), levels=("voxel",), shift=1.0)
    check_enumeration(test, flip_all(test.data[0].astype(float)))


def test_p_of_two_samples_is_that_of_all_ways_to_divide_them():
    test = make_test(GROUPS[3:9], [1, -1], exchange_freely(6, "permutations"), levels=("voxel",), shift=GROUPS[3:9, :1])
    check_enumeration(test, divide_all(test.data[0].astype(float), 3))


def test_p_within_blocks_is_that_of_all_orders_in_each_block():
    labels, condition = np.repeat([0, 1, 2], 2), np.tile([1.0, -1.0], 3)
    matrix = np.column_stack([condition, labels[:, None] == [0, 1, 2]]).astype(float)
    test = make_test(matrix, [1, 0, 0, 0], exchange_within(labels, "permutations"), levels=("voxel",))
    differences = test.data[0, ::2].astype(float) - test.data[0, 1::2]
    check_enumeration(test, flip_all(differences))


def test_p_of_whole_blocks_is_that_of_all_orders_of_the_blocks():
    labels, score = np.repeat([0, 1, 2], 2), np.repeat([0.0, 1.0, 5.0], 2)
    matrix = np.column_stack([np.ones(6), score])
    test = make_test(matrix, [0, 1], exchange_whole(labels, "permutations"), levels=("voxel",))
    values = test.data[0].astype(float)
    moved = []
    for order in permutations([0.0, 1.0, 5.0]):
        rho = np.array([np.corrcoef(np.repeat(order, 2), voxel)[0, 1] for voxel in values.T])
        moved.append(rho / np.sqrt(1 - rho**2))
    check_enumeration(test, moved)


N_LARGE = 3 * BATCH + 17


@pytest.fixture(scope="module")
def large():
    """More batches and tiles than one, neither of them full."""
    mask = np.ones((11, 10, 10), dtype=bool)
    assert np.count_nonzero(mask) > TILE
    matrix = make_covariates(11, 2)
    return make_test(matrix, [0, 0, 1], exchange_freely(11, "permutations"), n_asked=N_LARGE, mask=mask)


@pytest.fixture(scope="module")
def undisturbed(large):
    return run(large)


def test_number_of_threads_does_not_matter(large, undisturbed):
    assert_same(run(large, n_threads=2), undisturbed)


def test_borders_and_order_of_batches_do_not_matter(large, undisturbed):
    prepared = prepare(large)
    state = start_state(prepared)
    for start, stop in ((2 * BATCH + 8, N_LARGE), (0, 7), (7, 2 * BATCH + 8)):
        join_batch(state, run_batch(prepared, start, stop))
    assert_same(summarise(prepared, state), undisturbed)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(large, undisturbed):
    prepared = prepare(large)
    seen = []
    with pytest.raises(PermutationsStoppedError, match=f"of {N_LARGE} rearrangements") as stopped:
        run_permutations(prepared, on_batch=lambda state: seen.append(state.n_done), should_stop=lambda: bool(seen))
    state = stopped.value.state
    assert 0 < state.n_done < N_LARGE
    saved = replace(
        state,
        maxima={level: maxima.copy() for level, maxima in state.maxima.items()},
        exceeding=state.exceeding.copy(),
        is_done=state.is_done.copy(),
    )
    reported = []
    found = run_permutations(prepare(large), state=saved, report=lambda *counts: reported.append(counts))
    assert_same(found, undisturbed)
    assert reported[-1] == (N_LARGE, N_LARGE)


def test_a_batch_that_was_done_in_part_is_completed_and_nothing_is_counted_twice(large):
    prepared = prepare(large)
    state = start_state(prepared)
    result = run_batch(prepared, 10, 100)
    join_batch(state, result)
    assert find_pending(state) == [
        (0, 10),
        (100, BATCH),
        (BATCH, 2 * BATCH),
        (2 * BATCH, 3 * BATCH),
        (3 * BATCH, N_LARGE),
    ]
    with pytest.raises(ValueError, match="joined before"):
        join_batch(state, result)


def test_maps_that_are_stored_have_the_maxima_of_those_that_are_not(large, undisturbed):
    found = run(replace(large, levels=("voxel",)))
    np.testing.assert_array_equal(found.null["voxel"], undisturbed.null["voxel"])
    np.testing.assert_array_equal(found.uncorrected_p, undisturbed.uncorrected_p)


def test_data_may_be_prepared_into_a_file(tmp_path, large, undisturbed):
    prepared = prepare(large, lambda shape: np.memmap(tmp_path / "tiles", np.float32, "w+", shape=shape))
    assert isinstance(prepared.tiles, np.memmap)
    assert_same(run_permutations(prepared), undisturbed)


@pytest.mark.parametrize("options", [{"tail": "positive"}, {"tail": "negative"}, {}, F], ids=str)
@pytest.mark.parametrize("case", ["two groups, all", "one-sample, all flips"])
def test_opposite_rearrangements_may_be_left_out(case, options):
    matrix, weights, exchangeability, _ = CASES[case]
    test = make_test(matrix, weights, exchangeability, seed=1, **options)
    every = replace(test, rearrangements=replace(test.rearrangements, mirrors=None))
    assert len(prepare(test).numbers) == test.rearrangements.n / 2
    halved, whole = run(test), run(every)
    for level in ALL_LEVELS:
        np.testing.assert_allclose(halved.null[level], whole.null[level], rtol=1e-5)
        np.testing.assert_array_equal(halved.p[level], whole.p[level])
    np.testing.assert_array_equal(halved.uncorrected_p, whole.uncorrected_p)


@pytest.mark.parametrize("case", ["two groups, all", "one-sample, all flips"])
def test_order_of_rows_does_not_matter_when_all_rearrangements_are_made(case):
    matrix, weights, exchangeability, options = CASES[case]
    test = make_test(matrix, weights, exchangeability, **options)
    order = np.random.default_rng(5).permutation(len(matrix))
    moved = replace(
        test,
        data=test.data[:, order],
        interest=test.interest[order],
        nuisance=test.nuisance[order],
        rearrangements=plan_rearrangements(test.interest[order], exchangeability, n_asked=200, seed=0),
    )
    one, other = run(test), run(moved)
    for level in ALL_LEVELS:
        np.testing.assert_array_equal(one.p[level], other.p[level])


def test_f_of_one_direction_has_the_p_of_two_sided_t():
    matrix, weights, exchangeability, _ = CASES["covariate"]
    t = run(make_test(matrix, weights, exchangeability))
    squared = run(make_test(matrix, weights, exchangeability, cluster_threshold=1.2**2, **F))
    np.testing.assert_allclose(squared.observed["voxel"], t.observed["voxel"] ** 2, rtol=1e-5)
    np.testing.assert_array_equal(squared.p["voxel"], t.p["voxel"])
    np.testing.assert_array_equal(squared.uncorrected_p, t.uncorrected_p)
    # Where positive and negative voxels touch, F joins them.
    assert np.all(squared.observed["tfce"] >= t.observed["tfce"] * (1 - 1e-5))
    assert np.any(squared.observed["tfce"] > t.observed["tfce"] * 1.01)


def test_tfce_of_f_is_that_of_t_where_no_signs_touch():
    signs = np.where(MASK.nonzero()[0] < 2, 1.0, -1.0)
    mask = MASK.copy()
    mask[2] = False
    shift = 3.0 * signs[MASK.nonzero()[0] != 2]
    options = {"mask": mask, "shift": shift, "levels": ("tfce",), "n_asked": 1}
    t = run(make_test(np.ones((8, 1)), [1], exchange_freely(8, "flips"), **options))
    squared = run(make_test(np.ones((8, 1)), [1], exchange_freely(8, "flips"), **options, **F))
    np.testing.assert_allclose(squared.observed["tfce"], t.observed["tfce"], rtol=1e-5)


@pytest.mark.parametrize(("rank", "n_lost"), [(1, 1), (2, 6)])
def test_a_rearranged_interest_that_loses_rank_in_the_nuisance_has_a_statistic_of_zero(rank, n_lost):
    blocks = np.repeat(np.arange(4), 3)
    inside = np.linalg.qr(np.random.default_rng(8).normal(size=(3, 3)))[0]
    orthonormal = np.kron(np.eye(4), inside[:, :1])
    # A second direction in the nuisance's own block makes what is left of the interest rounding, not exactly 0.
    nuisance = np.column_stack([orthonormal[:, 3], np.kron(np.eye(4)[:, 3:], inside[:, 1:2])])
    interest = orthonormal[:, :rank]
    test = PermutationTest(
        data=make_data(6, 12),
        interest=interest,
        nuisance=nuisance @ [[0.6, 0.8], [-0.8, 0.6]],
        rearrangements=plan_rearrangements(interest, exchange_whole(blocks, "permutations"), n_asked=100, seed=0),
        mask=MASK,
        levels=ALL_LEVELS,
        cluster_threshold=0.5,
        **F,
    )
    found = run(test)
    null, _, p, uncorrected_p = oracle.run(test)
    for level in ALL_LEVELS:
        assert np.count_nonzero(found.null[level] == 0.0) == np.count_nonzero(null[level] == 0.0) == n_lost
        np.testing.assert_array_equal(found.p[level], p[level])
    np.testing.assert_array_equal(found.uncorrected_p, uncorrected_p)


def test_an_observed_statistic_of_zero_has_a_p_of_one():
    data = np.array([[[1.0, 3], [-1.0, 2], [2.0, 1], [-2.0, 1]]], dtype=np.float32)
    mask = np.ones((2, 1, 1), dtype=bool)
    test = replace(make_test(np.ones((4, 1)), [1], exchange_freely(4, "flips"), mask=mask), data=data)
    found = run(test)
    assert found.observed["voxel"][0] == 0.0
    assert found.uncorrected_p[0] == 1.0
    assert {found.p[level][0] for level in ALL_LEVELS} == {1.0}


def test_a_maximum_may_be_negative():
    mask = np.zeros((3, 1, 1), dtype=bool)
    mask[1] = True
    test = make_test(
        np.ones((5, 1)), [1], exchange_freely(5, "flips"), mask=mask, tail="positive", levels=("voxel",), shift=2.0
    )
    null = run(test).null["voxel"]
    np.testing.assert_allclose(null, -null[::-1], rtol=1e-6)


@pytest.mark.parametrize(("n_rows", "n_nuisance", "is_found"), [(20, 2, True), (21, 2, False), (2049, 300, False)])
def test_coordinates_of_the_data_are_fewer_by_the_nuisance_where_that_saves_a_tenth(n_rows, n_nuisance, is_found):
    nuisance = np.linalg.qr(np.random.default_rng(0).normal(size=(n_rows, n_nuisance)))[0]
    basis = find_rotation(nuisance)
    assert (basis is not None) == is_found
    if basis is not None:
        both = np.hstack([nuisance, basis])
        np.testing.assert_allclose(both.T @ both, np.eye(n_rows), atol=1e-14)


def test_ties_of_statistics_near_the_largest_possible_are_counted():
    data = np.array([[[10.0, 3], [10.001, 3], [9.999, 3.1]]], dtype=np.float32)
    mask = np.ones((2, 1, 1), dtype=bool)
    test = replace(
        make_test(np.ones((3, 1)), [1], exchange_freely(3, "flips"), mask=mask, levels=("voxel",)), data=data
    )
    np.testing.assert_array_equal(run(test).uncorrected_p, 2 / 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail": None}, "t has no tail None"),
        ({"tail": "upwards"}, "t has no tail 'upwards'"),
        ({"test": "F"}, "F has no tail 'two-sided'"),
        ({"levels": ("peak",)}, "levels are some of voxel"),
        ({"levels": ()}, "levels are some of voxel"),
        ({"levels": ("cluster-mass",), "cluster_threshold": np.inf}, "cluster levels need a cluster_threshold"),
        ({"n_within": 2}, "one degree of freedom of the effect, not 2; test it with F"),
        ({"mask": MASK[:2]}, "the mask has .* voxels, but the data have"),
        ({"nuisance": np.zeros((3, 0))}, "the nuisance has 3 rows, but the data have 6"),
        ({"nuisance": np.eye(6)[:, 1:]}, "no degree of freedom"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(options, message):
    test = make_test(np.ones((6, 1)), [1], exchange_freely(6, "flips"))
    if "n_within" in options:
        options = {"data": make_data(0, 6, options["n_within"])}
    with pytest.raises(ValueError, match=message):
        replace(test, **options)


@pytest.mark.parametrize("tail", ["positive", "negative", "two-sided"])
def test_equal_sums_of_whole_numbers_tie_at_zero_and_at_the_cluster_forming_threshold(tail):
    rng = np.random.default_rng(5)
    values = rng.integers(-3, 5, (9, 60))
    values[:, 0] = [1, -1, 1, -1, 2, -2, 1, 1, -2]  # a sum of 0
    values[values == 0] = 1
    signs = np.array(list(product((1, -1), repeat=9)))
    sums = signs @ values  # whole numbers: t is monotone in them, the sum of squares of a voxel being the same
    directed = {"two-sided": np.abs(sums), "negative": -sums}.get(tail, sums)
    squares = (values**2).sum(axis=0)
    # t = 1 where 8 sum^2 = 9 squares - sum^2: where sum^2 = squares
    above = (directed**2 > squares) & (directed > 0)
    test = replace(
        make_test(np.ones((9, 1)), [1], exchange_freely(9, "flips"), n_asked=600, mask=np.ones((60, 1, 1), bool)),
        data=values.astype(np.float32)[np.newaxis],
        tail=tail,
        levels=("voxel", "cluster-size"),
        cluster_threshold=1.0,
    )
    found = run(test)
    np.testing.assert_array_equal(found.uncorrected_p, (directed >= directed[0]).mean(axis=0))
    extents = [find_longest(row, sums[i]) for i, row in enumerate(above)]
    np.testing.assert_array_equal(np.sort(found.null["cluster-size"]), np.sort(extents))


def find_longest(row, sums):
    """The longest run of voxels above the threshold that have one sign."""
    text = "".join(
        " " if not is_above else "+" if value > 0 else "-" for is_above, value in zip(row, sums, strict=True)
    )
    return max((len(run) for run in re.findall(r"\++|-+", text)), default=0)


@pytest.mark.parametrize("levels", [("voxel",), ("voxel", "cluster-size"), ("voxel", "tfce")])
def test_a_workspace_takes_the_memory_that_threads_are_counted_by(large, levels):
    prepared = prepare(replace(large, levels=levels))
    workspace = make_workspace(prepared)
    arrays = [*workspace.scratch, *([] if workspace.maps is None else [workspace.maps])]
    assert measure_workspace(prepared) == sum(array.nbytes for array in arrays)
