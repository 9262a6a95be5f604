"""Batches computed elsewhere: what is sent, how the work is shared, and that the bits are those of this process."""

import pickle
from contextlib import suppress
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from bids_group.engines import packing
from bids_group.engines.packing import pack_test, unpack_test
from bids_group.engines.worker import VERSIONS, check_versions, close_test, compute_batch
from bids_group.errors import UsageError
from bids_group.stats.permutation.batch import prepare
from bids_group.stats.permutation.engine import (
    PermutationsStoppedError,
    join_state,
    merge_batches,
    run_permutations,
    start_state,
    summarise,
)
from tests.permutation_designs import CASES, make_test


def assert_equal(one, other, name="test"):
    """Compare all that two objects consist of, to the bit."""
    assert type(one) is type(other), name
    if is_dataclass(one):
        for part in fields(one):
            assert_equal(getattr(one, part.name), getattr(other, part.name), f"{name}.{part.name}")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, name
        assert one.flags.writeable == other.flags.writeable, name
        np.testing.assert_array_equal(one, other, name)
    elif isinstance(one, tuple):
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{name}[{number}]")
    else:
        assert one == other, name


@pytest.fixture(params=CASES)
def prepared(request):
    matrix, weights, exchangeability, options = CASES[request.param]
    return prepare(make_test(matrix, weights, exchangeability, **options))


def test_a_test_is_the_same_after_packing(prepared, tmp_path):
    pack_test(prepared, tmp_path)
    assert_equal(unpack_test(tmp_path), prepared)


def test_a_worker_gives_the_bits_of_this_process(prepared, tmp_path):
    pack_test(prepared, tmp_path)

    def compute(prepared, batches):
        for start, stop in reversed(batches):
            yield pickle.loads(pickle.dumps(compute_batch(str(tmp_path), VERSIONS, start, stop)))

    found, known = run_permutations(prepared, compute_batches=compute), run_permutations(prepared)
    close_test(str(tmp_path))
    assert_same_results(found, known)


def assert_same_results(found, known):
    for level, null in known.null.items():
        np.testing.assert_array_equal(found.null[level], null)
        np.testing.assert_array_equal(found.p[level], known.p[level])
    np.testing.assert_array_equal(found.uncorrected_p, known.uncorrected_p)


def test_shares_together_are_the_whole(prepared):
    state = start_state(prepared)
    for number in (2, 0, 1):
        share = start_state(prepared)
        with suppress(PermutationsStoppedError):  # of few rearrangements one share may be the whole
            run_permutations(prepared, share=(number, 3), state=share)
        join_state(state, share)
    assert_same_results(summarise(prepared, state), run_permutations(prepared))


def test_what_was_computed_twice_is_not_counted_twice():
    prepared = prepare(make_test(*CASES["covariate"][:3]))
    first, second = start_state(prepared), start_state(prepared)
    for state, shares in ((first, (0, 2)), (second, (0, 3))):
        with pytest.raises(PermutationsStoppedError):
            run_permutations(prepared, share=shares, state=state)
    with pytest.raises(ValueError, match="computed in both"):
        join_state(first, second)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
def test_merged_batches_hold_the_same_rearrangements(most):
    batches = [(0, 96), (96, 192), (288, 384), (384, 480), (480, 500)]
    merged = merge_batches(batches, most)
    before, after = (np.concatenate([np.arange(*batch) for batch in some]) for some in (batches, merged))
    np.testing.assert_array_equal(after, before)
    assert len(merged) <= max(most, 1) + 1  # one gap


def test_a_folder_that_is_not_shared_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(UsageError, match="all workers share"):
        unpack_test(tmp_path)


@pytest.mark.parametrize(("found", "words"), [("9.9.9", "has numpy 9.9.9"), (None, "has numpy not at all")])
def test_other_versions_are_refused_with_their_names(found, words):
    with pytest.raises(UsageError, match=f"the worker tcp://a:1 {words}, but this run"):
        check_versions({"tcp://a:1": {**VERSIONS, "numpy": found}}, VERSIONS)
    check_versions({"tcp://a:1": VERSIONS}, VERSIONS)
