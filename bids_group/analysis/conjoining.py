"""Conjunctions of a model's contrasts, from what was found of each."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bids_group.inputs.conjunctions import Conjunction
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.plan import ModelPlan
from bids_group.outputs.results import ContrastResult, ContrastTest, InferenceResult, Rearranging
from bids_group.stats.conjunction import conjoin_inferences, conjoin_p, conjoin_statistics
from bids_group.stats.glm import Statistic, compute_log_p
from bids_group.vocabulary import CLUSTER_LEVELS

Floats = NDArray[np.float64]


def conjoin_contrasts(
    model: ModelPlan, results: Sequence[ContrastResult], mask: NDArray[np.bool_]
) -> tuple[ContrastResult, ...]:
    """Find for each conjunction of a model where all of its contrasts are significant.

    Parameters
    ----------
    model : ModelPlan
    results : sequence of ContrastResult
        Of its contrasts.
    mask : ndarray of bool, shape (x, y, z)
        The analysed voxels.
    """
    return tuple(_conjoin(one, model, [results[member] for member in one.members], mask) for one in model.conjunctions)


def _conjoin(
    conjunction: Conjunction, model: ModelPlan, members: list[ContrastResult], mask: NDArray[np.bool_]
) -> ContrastResult:
    statistics = [member.statistic for member in members]
    statistic = conjoin_statistics(statistics)
    no_weights = np.zeros((0, len(model.design.columns)))
    return ContrastResult(
        Contrast(conjunction.name, conjunction.label, "z", no_weights, conjunction.path),
        ContrastTest(statistic, p=conjoin_p(statistics)),
        tuple(found for entry in conjunction.entries for found in _conjoin_entry(entry, statistic, members, mask)),
        tuple(members),
    )


def _conjoin_entry(
    entry: InferenceSpec, statistic: Statistic, members: list[ContrastResult], mask: NDArray[np.bool_]
) -> Iterator[InferenceResult]:
    """Yield what an entry of `Inference` gives of voxels; the p of clusters say nothing of one voxel."""
    of_entry = [[one for one in member.inferences if one.spec == entry] for member in members]
    uncorrected = [_find_log_p(member, found) for member, found in zip(members, of_entry, strict=True)]
    for conjoined in zip(*of_entry, strict=True):
        facts = conjoined[0].inference.permutation
        if facts is None or facts.level not in CLUSTER_LEVELS:
            found = conjoin_inferences(statistic, [one.inference for one in conjoined], mask, uncorrected=uncorrected)
            yield InferenceResult(entry, found, _join_rearranging(conjoined), conjoined)


def _find_log_p(member: ContrastResult, found: Sequence[InferenceResult]) -> Floats:
    """Return the logarithm of a contrast's uncorrected p in the tail of an entry: by permutation where that is it."""
    for one in (one.inference for one in found):
        if one.permutation is not None and one.permutation.level == "uncorrected":
            return -one.logp * np.log(10.0)
    return compute_log_p(member.statistic, found[0].inference.tail)


def _join_rearranging(conjoined: Sequence[InferenceResult]) -> Rearranging | None:
    """Say how the tests of all contrasts rearranged the design."""
    known = [one.rearranging for one in conjoined if one.rearranging is not None]
    if not known:
        return None
    words = " and ".join(dict.fromkeys(one.words for one in known))
    return Rearranging(words, all(one.leaves_nuisance for one in known))
