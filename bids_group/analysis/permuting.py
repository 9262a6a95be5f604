"""Permutation tests of a model's contrasts: the data that are rearranged, the run with its checkpoints, the results."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group import __version__
from bids_group.analysis.coverage import number_subjects
from bids_group.analysis.rearranging import Scheme, choose_scheme, find_forming_threshold, list_rearrangements
from bids_group.checkpoints import Checkpoints, Shard, digest
from bids_group.errors import InterruptedRunError
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.inference_spec import InferenceSpec, PermutationSpec
from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import ModelPlan, NodePlan
from bids_group.inputs.storage import SHARE_OF_MEMORY, Allocate
from bids_group.outputs.results import ContrastTest, InferenceResult, Rearranging
from bids_group.stats.partitioned import compute_subject_scores
from bids_group.stats.permutation.batch import PreparedTest, measure_workspace, prepare
from bids_group.stats.permutation.design import KnownVariances, PermutationTest
from bids_group.stats.permutation.engine import (
    ALL,
    ComputeBatches,
    PermutationResult,
    PermutationsStoppedError,
    PermutationState,
    find_pending,
    join_state,
    run_permutations,
    start_state,
)
from bids_group.stats.permutation.inference import infer_by_permutation
from bids_group.stats.permutation.patterns import find_missing_rows


@dataclass(frozen=True)
class Resources:
    """What a permutation test may use.

    Attributes
    ----------
    n_threads : int
    allocate : callable
        From a shape to a float32 array, in memory or in a file.
    checkpoints : Checkpoints
    compute_batches : callable or None
        Where batches are computed; None for the threads of this process.
    shard : Shard or None
        Which share of the batches is computed, and kept; None for all, and their results.
    show_progress : callable
        From a title and a total to a context, in which a function is called with how many steps were done.
    memory_bytes : float
        The bound of memory.
    """

    n_threads: int
    allocate: Allocate
    checkpoints: Checkpoints
    show_progress: Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
    compute_batches: ComputeBatches | None = None
    shard: Shard | None = None
    memory_bytes: float = math.inf

    @property
    def share(self) -> tuple[int, int]:
        """Return the share of the batches, as of `find_pending`."""
        return ALL if self.shard is None else (self.shard.number - 1, self.shard.total)


@dataclass(frozen=True)
class TestedContrast:
    """A contrast of a fitted model with what its permutation test needs.

    Attributes
    ----------
    plan : NodePlan
    model : ModelPlan
    index : int
        Which of the model's contrasts.
    test : ContrastTest
    data : GroupData
    voxels : AnalysedVoxels
        Those of the data that the statistic has values for.
    """

    plan: NodePlan
    model: ModelPlan
    index: int
    test: ContrastTest
    data: GroupData
    voxels: AnalysedVoxels


def permute_contrast(contrast: TestedContrast, entry: InferenceSpec, resources: Resources) -> list[InferenceResult]:
    """Test a contrast as an entry of `Inference` says.

    Parameters
    ----------
    contrast : TestedContrast
    entry : InferenceSpec
        Of the correction ``permutation``.
    resources : Resources

    Returns
    -------
    list of InferenceResult
        One for each level, then the uncorrected p and the false discovery rate; none of a shard.

    Raises
    ------
    SpecError
        If the cluster-forming threshold does not fit the statistic, or nothing can be rearranged.
    """
    assert entry.permutation is not None  # of the correction permutation
    scheme = choose_scheme(contrast.plan, contrast.model, contrast.index)
    test = _state_test(contrast, entry, scheme)
    result = _run(test, contrast, resources, _name_test(test, scheme, entry.permutation))
    if result is None:
        return []
    found = infer_by_permutation(
        contrast.test.statistic,
        test,
        result,
        alpha=entry.alpha,
        cluster_extent=entry.cluster_extent,
        approximates_tail=entry.permutation.approximates_tail,
    )
    rearranging = Rearranging(scheme.words, scheme.leaves_nuisance)
    return [InferenceResult(entry, inference, rearranging) for inference in found]


def _state_test(contrast: TestedContrast, entry: InferenceSpec, scheme: Scheme) -> PermutationTest:
    """Put data, design, rearrangements and threshold together."""
    assert entry.permutation is not None
    statistic = contrast.test.statistic
    return PermutationTest(
        data=_find_data(contrast),
        interest=scheme.interest,
        nuisance=scheme.nuisance,
        test=statistic.test,
        rearrangements=list_rearrangements(scheme, entry),
        mask=contrast.voxels.mask,
        tail=None if statistic.test == "F" else entry.tail,
        levels=entry.permutation.levels,
        connectivity=contrast.plan.node.settings.connectivity,
        cluster_threshold=find_forming_threshold(contrast.plan, contrast.model, contrast.index, entry),
        extent_power=entry.permutation.extent_power,
        height_power=entry.permutation.height_power,
        **_find_differences(contrast),
    )


def _find_differences(contrast: TestedContrast) -> dict[str, Any]:
    """Return what differs between voxels or maps: missing maps, groups of unequal variance, known variances."""
    plan, model, data = contrast.plan, contrast.model, contrast.data
    kept = contrast.voxels.mask[data.voxels.mask]
    found: dict[str, Any] = {}
    if plan.node.settings.min_coverage < 1:
        rows = data.effects[:, kept]
        found["missing"] = find_missing_rows(rows, number_subjects(model.rows))
        if model.error_term == "partitioned" and model.partition is not None:
            first = model.partition.design.layout.rows[:, 0]  # where a map is missing all of the subject's are
            found["missing"] = replace(found["missing"], present=found["missing"].present[:, first])
    if model.variance_groups is not None:
        found["variance_groups"] = pd.factorize(model.variance_groups, sort=True)[0].astype(np.int64)
    if data.variances is not None:
        found["known"] = KnownVariances(data.variances[:, kept], plan.node.settings.heterogeneity)
    return found


def _find_data(contrast: TestedContrast) -> NDArray[np.float32]:
    """Return the maps, or the subjects' scores of each within direction, of shape (n_within, n_rows, n_voxels)."""
    model, effects = contrast.model, contrast.data.effects
    kept = contrast.voxels.mask[contrast.data.voxels.mask]
    if model.error_term != "partitioned" or model.partition is None:
        return (effects if kept.all() else effects[:, kept])[np.newaxis]
    factored = model.partition.contrasts[contrast.index]
    assert factored is not None  # of partitioned errors every contrast factors
    rows = model.partition.design.layout.rows
    scores = np.empty((factored.within.shape[1], len(rows), int(kept.sum())), dtype=np.float32)
    for direction, weights in enumerate(factored.within.T):
        scores[direction] = compute_subject_scores(effects, rows, weights)[:, kept]
    return scores


def _bound_threads(prepared: PreparedTest, resources: Resources) -> int:
    """Return how many threads may work: what each of them needs for its batch counts as one large array does."""
    most = SHARE_OF_MEMORY * resources.memory_bytes / measure_workspace(prepared)
    return int(max(1, min(resources.n_threads, most)))


def _run(test: PermutationTest, contrast: TestedContrast, resources: Resources, name: str) -> PermutationResult | None:
    """Run a test from where earlier runs of this name, or its shards, came to; return None for a shard."""
    label = contrast.model.contrasts[contrast.index].label
    checkpoints = resources.checkpoints
    prepared = prepare(test, resources.allocate)
    state = _load_state(prepared, checkpoints.find(name))
    n_left = sum(stop - start for start, stop in find_pending(state, share=resources.share))
    with resources.show_progress(f"{contrast.plan.node.name}, {label}: rearrangements", n_left) as advance:
        try:
            result = run_permutations(
                prepared,
                n_threads=_bound_threads(prepared, resources),
                compute_batches=resources.compute_batches,
                share=resources.share,
                state=state,
                report=_report_steps(state.n_done, advance),
                on_batch=lambda state: checkpoints.keep(name, _store_state(state)),
            )
        except PermutationsStoppedError:  # a share is done
            checkpoints.store(name, _store_state(state))
            return None
        except InterruptedRunError:  # between two batches: the state is whole
            checkpoints.keep(name, _store_state(state), at_once=True)
            raise
    if resources.shard is not None:  # which is the whole
        checkpoints.store(name, _store_state(state))
        return None
    checkpoints.keep(name, _store_state(state))  # the run may still be stopped in what follows
    return result


def _report_steps(n_before: int, advance: Callable[[int], object]) -> Callable[[int, int], None]:
    """Return a function of how many have been done that passes on how many more these are than the last time."""

    def report(n_done: int, _total: int) -> None:
        nonlocal n_before
        advance(n_done - n_before)
        n_before = n_done

    return report


def _name_test(test: PermutationTest, scheme: Scheme, asked: PermutationSpec) -> str:
    """Return a name for everything that the result of a test depends on."""
    return digest(
        __version__,
        np.__version__,
        *(test.data, test.interest, test.nuisance, test.mask),
        *(test.test, test.tail, test.levels, test.connectivity, test.cluster_threshold),
        *(test.extent_power, test.height_power, asked.n, asked.seed),
        *(scheme.exchangeability.kind, scheme.exchangeability.blocks),
        *((None,) if test.missing is None else (test.missing.present, test.missing.members)),
        *((None,) if test.variance_groups is None else (test.variance_groups,)),
        *((None,) if test.known is None else (test.known.variances, test.known.method)),
    )


def _store_state(state: PermutationState) -> dict[str, NDArray[Any]]:
    maxima = {f"maxima {level}": values for level, values in state.maxima.items()}
    return {"exceeding": state.exceeding, "is_done": state.is_done, **maxima}


def _load_state(prepared: PreparedTest, kept: list[dict[str, NDArray[Any]]]) -> PermutationState:
    """Return what earlier runs of a test came to, put together; what does not fit, or was counted, is left."""
    state = start_state(prepared)
    empty = _store_state(state)
    for stored in kept:
        fits = set(stored) == set(empty) and all(
            stored[name].shape == values.shape and stored[name].dtype == values.dtype for name, values in empty.items()
        )
        if fits and not (stored["is_done"] & state.is_done).any():
            maxima = {level: stored[f"maxima {level}"] for level in state.maxima}
            join_state(state, PermutationState(maxima, stored["exceeding"], stored["is_done"]))
    return state
