"""The permutation test from its first batch to its p: threads over batches, a state that can be kept, the result.

A batch is a pure function of the prepared test and its place, maxima are put where they belong and counts are whole
numbers: the result depends neither on the number of threads, nor on the order in which batches end, nor on how often
the run was interrupted.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.cluster_maxima import measure_masses
from bids_group.stats.clusters import label_clusters
from bids_group.stats.permutation.batch import (
    BatchResult,
    PreparedTest,
    make_workspace,
    run_batch,
)
from bids_group.stats.permutation.design import TIE_TOLERANCE
from bids_group.stats.permutation.kernels import BATCH
from bids_group.stats.tfce import compute_tfce
from bids_group.vocabulary import CLUSTER_LEVELS, PermutationLevel

Floats = NDArray[np.float64]
# From a prepared test and the start and stop of its batches to their results, in any order.
ComputeBatches = Callable[[PreparedTest, Sequence[tuple[int, int]]], Iterator[BatchResult]]
ALL = (0, 1)  # the share that is the whole


@dataclass(frozen=True)
class PermutationState:
    """How far a test has come; its arrays are filled in place, and are all that a checkpoint needs.

    Attributes
    ----------
    maxima : dict of PermutationLevel to ndarray of float64, shape (n,)
        Of each rearrangement the largest value in its map; nan where it is still to be computed.
    exceeding : ndarray of int64, shape (n_voxels,)
        How many rearrangements so far reach the observed statistic.
    is_done : ndarray of bool, shape (n_computed,)
        Which of the prepared test's `numbers` are in the maxima and counts.
    """

    maxima: dict[PermutationLevel, Floats]
    exceeding: NDArray[np.int64]
    is_done: NDArray[np.bool_]

    @property
    def n_done(self) -> int:
        """Return how many have been computed."""
        return int(np.count_nonzero(self.is_done))


class PermutationsStoppedError(Exception):
    """A test was asked to stop before all rearrangements were computed; `state` is how far it came."""

    def __init__(self, state: PermutationState) -> None:
        super().__init__(f"stopped after {state.n_done} of {len(state.is_done)} rearrangements")
        self.state = state


@dataclass(frozen=True)
class PermutationResult:
    """What a permutation test found. All values point in the direction of the tail.

    Attributes
    ----------
    n : int
        Rearrangements, the identity counted.
    exact : bool
        Whether these are all distinct ones.
    null : dict of PermutationLevel to ndarray of float64, shape (n,)
        The largest value in the map of each rearrangement, the identity first. At the voxel level in units of the
        statistic: of t, of -t for the negative tail, of |t| when two-sided, of F. Where the test is in z, of the z of
        equal tail instead.
    observed : dict of PermutationLevel to ndarray of float64, shape (n_voxels,)
        The statistic as the engine computes it; the extent or the mass of the cluster that a voxel is in, 0 outside;
        TFCE.
    p : dict of PermutationLevel to ndarray of float64, shape (n_voxels,)
        Familywise, ``#{null >= observed} / n``, ties counted; 1 outside of clusters and where TFCE is 0.
    uncorrected_p : ndarray of float64, shape (n_voxels,)
        ``#{statistic at the voxel >= observed} / n``, ties counted.
    """

    n: int
    exact: bool
    null: dict[PermutationLevel, Floats]
    observed: dict[PermutationLevel, Floats]
    p: dict[PermutationLevel, Floats]
    uncorrected_p: Floats


def run_permutations(
    prepared: PreparedTest,
    *,
    n_threads: int = 1,
    compute_batches: ComputeBatches | None = None,
    share: tuple[int, int] = ALL,
    state: PermutationState | None = None,
    report: Callable[[int, int], None] | None = None,
    on_batch: Callable[[PermutationState], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PermutationResult:
    """Compute all rearrangements of a test, and its p.

    Parameters
    ----------
    prepared : PreparedTest
    n_threads : int
        Batches at a time. BLAS shall be held to one thread of its own.
    compute_batches : callable or None
        Where batches are computed; None for the threads of this process.
    share : (int, int)
        Which of the batches, as of `find_pending`.
    state : PermutationState or None
        From where to go on; it is filled further.
    report : callable or None
        Called with how many rearrangements have been computed, and of how many.
    on_batch : callable or None
        Called with the state after each batch, for checkpoints; never while the state changes.
    should_stop : callable or None
        Asked before each batch of this process; batches that have begun are completed.

    Returns
    -------
    PermutationResult

    Raises
    ------
    PermutationsStoppedError
        If `should_stop` said so before the end, or only a share was asked for and the rest has not been computed.
    """
    state = start_state(prepared) if state is None else state
    pending = find_pending(state, share=share)
    if compute_batches is None:
        results = _compute_on_threads(prepared, pending, n_threads, should_stop or _never)
    else:
        results = compute_batches(prepared, pending)
    for result in results:
        join_batch(state, result)
        if report is not None:
            report(state.n_done, len(state.is_done))
        if on_batch is not None:
            on_batch(state)
    if not state.is_done.all():
        raise PermutationsStoppedError(state)
    return summarise(prepared, state)


def start_state(prepared: PreparedTest) -> PermutationState:
    """Return the state of a test of which nothing has been computed.

    Parameters
    ----------
    prepared : PreparedTest

    Returns
    -------
    PermutationState
    """
    test = prepared.test
    return PermutationState(
        maxima={level: np.full(test.rearrangements.n, np.nan) for level in test.levels},
        exceeding=np.zeros(prepared.n_voxels, dtype=np.int64),
        is_done=np.zeros(len(prepared.numbers), dtype=bool),
    )


def find_pending(state: PermutationState, *, share: tuple[int, int] = ALL) -> list[tuple[int, int]]:
    """List the batches that are still to be computed.

    Parameters
    ----------
    state : PermutationState
    share : (int, int)
        A remainder and a divisor: of the groups of BATCH those whose number leaves it.

    Returns
    -------
    list of (int, int)
        Start and stop of each, for `run_batch`; none crosses a multiple of BATCH.
    """
    n = len(state.is_done)
    changes = np.flatnonzero(np.diff(state.is_done)) + 1
    borders = np.unique(np.concatenate([np.arange(0, n, BATCH), changes, [n]]))
    remainder, divisor = share
    return [
        (int(start), int(stop))
        for start, stop in pairwise(borders)
        if not state.is_done[start] and start // BATCH % divisor == remainder
    ]


def merge_batches(batches: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Make fewer batches, of those that follow one another.

    Parameters
    ----------
    batches : sequence of (int, int)
        Start and stop, ascending.
    most : int
        How many there shall be, if none of them were apart.

    Returns
    -------
    list of (int, int)

    Examples
    --------
    >>> merge_batches([(0, 96), (96, 192), (288, 384), (384, 480), (480, 500)], 3)
    [(0, 192), (288, 480), (480, 500)]
    """
    n_together = -(-len(batches) // most)
    merged: list[tuple[int, int]] = []
    count = 0
    for start, stop in batches:
        if merged and merged[-1][1] == start and count < n_together:
            merged[-1] = merged[-1][0], stop
            count += 1
        else:
            merged.append((start, stop))
            count = 1
    return merged


def join_batch(state: PermutationState, result: BatchResult) -> None:
    """Add what a batch gave to the state.

    Parameters
    ----------
    state : PermutationState
        Filled in place.
    result : BatchResult

    Raises
    ------
    ValueError
        If some of it is there already: it would be counted twice.
    """
    batch = slice(result.start, result.stop)
    if state.is_done[batch].any():
        raise ValueError(f"rearrangements {result.start} to {result.stop} have been joined before")
    for level, maxima in result.maxima.items():
        state.maxima[level][result.numbers] = maxima
    np.add(state.exceeding, result.exceeding, out=state.exceeding)
    state.is_done[batch] = True


def join_state(state: PermutationState, other: PermutationState) -> None:
    """Add to a state what another run of the same test has computed.

    Parameters
    ----------
    state : PermutationState
        Filled in place.
    other : PermutationState

    Raises
    ------
    ValueError
        If some of it is there already: it would be counted twice.
    """
    if (state.is_done & other.is_done).any():
        raise ValueError("some rearrangements have been computed in both")
    for level, maxima in other.maxima.items():
        np.copyto(state.maxima[level], maxima, where=~np.isnan(maxima))
    np.add(state.exceeding, other.exceeding, out=state.exceeding)
    np.logical_or(state.is_done, other.is_done, out=state.is_done)


def summarise(prepared: PreparedTest, state: PermutationState) -> PermutationResult:
    """Compute the p of a test of which all rearrangements have been computed.

    Parameters
    ----------
    prepared : PreparedTest
    state : PermutationState
        Complete.

    Returns
    -------
    PermutationResult

    References
    ----------
    Phipson & Smyth 2010 (the identity counts); Westfall & Young 1993 (the maximum).
    """
    rearrangements = prepared.test.rearrangements
    observed = {level: _observe(prepared, level) for level in prepared.test.levels}
    return PermutationResult(
        n=rearrangements.n,
        exact=rearrangements.is_exhaustive,
        null=state.maxima,
        observed=observed,
        p={level: _compute_fwe_p(prepared, level, observed[level], null) for level, null in state.maxima.items()},
        uncorrected_p=state.exceeding / rearrangements.n,
    )


def _compute_on_threads(
    prepared: PreparedTest, batches: list[tuple[int, int]], n_threads: int, should_stop: Callable[[], bool]
) -> Iterator[BatchResult]:
    """Yield the results of batches as they end, with one more in the queue than there are threads."""
    workspaces = deque(make_workspace(prepared) for _ in range(min(n_threads, len(batches))))

    def compute(start: int, stop: int) -> BatchResult:
        workspace = workspaces.pop()
        result = run_batch(prepared, start, stop, workspace=workspace)
        workspaces.append(workspace)
        return result

    waiting = deque(batches)
    running: set[Future[BatchResult]] = set()
    with ThreadPoolExecutor(n_threads) as executor:
        while waiting or running:
            while waiting and len(running) <= n_threads:
                if should_stop():
                    waiting.clear()
                else:
                    running.add(executor.submit(compute, *waiting.popleft()))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)


def _never() -> bool:
    """Never stop."""
    return False


def _observe(prepared: PreparedTest, level: PermutationLevel) -> Floats:
    """Return the observed value of each voxel at a level."""
    test = prepared.test
    heights = prepared.heights.astype(np.float64)
    if level == "voxel":
        return np.abs(heights) if test.is_two_sided else heights
    if level in CLUSTER_LEVELS:
        return _observe_clusters(prepared, heights, level)
    enhanced = compute_tfce(
        np.sqrt(prepared.heights) if test.takes_root else prepared.heights,
        prepared.lattice,
        extent_power=test.extent_power,
        height_power=test.height_power,
        two_sided=test.is_two_sided,
    )
    return np.abs(enhanced)


def _observe_clusters(prepared: PreparedTest, heights: Floats, level: PermutationLevel) -> Floats:
    """Return the extent or the mass of the cluster that each voxel is in, 0 outside."""
    test = prepared.test
    survives = (np.abs(heights) if test.is_two_sided else heights) > test.least_height
    clusters = label_clusters(heights, survives, test.mask, connectivity=test.connectivity)
    if level == "cluster-size":
        sizes = clusters.n_voxels.astype(np.float64)
    else:
        sizes = measure_masses(heights, test.least_height, clusters)
    return np.concatenate([[0.0], sizes])[clusters.labels]


def _compute_fwe_p(prepared: PreparedTest, level: PermutationLevel, observed: Floats, null: Floats) -> Floats:
    """Return the part of the null distribution that reaches the observed values, but for rounding.

    Every maximum of clusters and of TFCE reaches 0.
    """
    if level == "voxel":
        reached = prepared.source.convert_scores(prepared.tied[np.newaxis])[0].astype(np.float64)
    else:
        reached = observed * (1.0 - TIE_TOLERANCE)
    return (len(null) - np.searchsorted(np.sort(null), reached, side="left")) / len(null)
