"""What a permutation test did, in the words and numbers of its sidecars."""

from decimal import Decimal
from typing import Any

from bids_group.outputs.results import InferenceResult
from bids_group.stats.inference import PermutationFacts
from bids_group.stats.permutation.tail_approximation import TAIL_P

LEVEL_WORDS = {
    "voxel": "familywise error over voxels (permutation, largest statistic)",
    "cluster-size": "familywise error over clusters (permutation, largest extent)",
    "cluster-mass": "familywise error over clusters (permutation, largest mass)",
    "tfce": "familywise error over voxels (permutation, largest TFCE)",
    "uncorrected": "uncorrected p of each voxel (permutation)",
    "fdr": "false discovery rate (Benjamini-Hochberg) of each voxel's permutation p",
}
TFCE_DEFINITION = "exact integral from 0, extents in voxels; of F the TFCE of its square root"
MASS_DEFINITION = "sum over the cluster of |statistic| minus the cluster-forming threshold"
LARGEST_INTEGER = 2**63 - 1
METHOD = "the tested part of the design, its residuals from the nuisance, is rearranged (Smith; Dekker)"


def state_permutation(entry: InferenceResult) -> str:
    """Say what a level of a permutation test controls; of other corrections nothing."""
    facts = entry.inference.permutation
    return "" if facts is None else LEVEL_WORDS[facts.level]


def describe_permutation(entry: InferenceResult) -> dict[str, Any]:
    """Describe a level of a permutation test; nothing of other corrections."""
    facts, asked, rearranging = entry.inference.permutation, entry.spec.permutation, entry.rearranging
    if facts is None or asked is None or rearranging is None:
        return {}
    return {
        "Level": facts.level,
        "Rearrangement": rearranging.words,
        "Method": METHOD,
        "Permutations": facts.n,
        "DistinctRearrangements": write_count(facts.n_distinct),
        "Exhaustive": facts.exact,
        "ExactTest": facts.exact and rearranging.leaves_nuisance,
        "SmallestPossibleP": facts.smallest_p,
        "Seed": asked.seed,
        **_describe_level(entry, facts),
        **({} if entry.conjoined else _describe_tail(facts)),  # each contrast has its own
    }


def write_count(number: int) -> int | str:
    """Return a number that JSON readers can hold, a larger one as a text: of 2000 subjects there are 2^2000 sign flips.

    Examples
    --------
    >>> write_count(120), write_count(2**2000)
    (120, '1.148e+602')
    """
    return number if number <= LARGEST_INTEGER else f"{Decimal(number):.3e}"  # floats end at 1.8e308


def _describe_level(entry: InferenceResult, facts: PermutationFacts) -> dict[str, Any]:
    asked = entry.spec.permutation
    if facts.level in ("cluster-size", "cluster-mass"):
        mass = {"MassDefinition": MASS_DEFINITION} if facts.level == "cluster-mass" else {}
        return {"ClusterThreshold": entry.inference.cluster_threshold, **mass}
    if facts.level == "tfce" and asked is not None:
        powers = {"TfceExtentPower": asked.extent_power, "TfceHeightPower": asked.height_power}
        return {
            **powers,
            "TfceDefinition": TFCE_DEFINITION,
        }
    return {}


def _describe_tail(facts: PermutationFacts) -> dict[str, Any]:
    """Say how small p were read off a fitted tail."""
    tail = facts.tail
    if tail is None:
        return {}
    described: dict[str, Any] = {
        "TailApproximation": "generalised Pareto distribution",
        "TailAccepted": tail.is_accepted,
    }
    if tail.is_accepted:
        described |= {
            "TailBelowP": TAIL_P,
            "TailShape": tail.shape,
            "TailScale": tail.scale,
            "TailThreshold": tail.threshold,
            "TailExceedances": tail.n_exceedances,
            "TailAndersonDarlingP": tail.fit_p,
        }
    return described


def describe_null_columns(entry: InferenceResult) -> dict[str, Any]:
    """Describe the columns of the table of the null distribution."""
    return {
        "rearrangement": {"Description": "Number of the rearrangement; 0 is the identity"},
        "maximum": {
            "Description": "The largest value in the map, in the direction of the tail",
            "Units": entry.inference.threshold_unit,
        },
    }
