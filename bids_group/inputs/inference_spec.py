"""The entries of `Inference`: which correction, at which level, of which tail, and how a permutation test is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from bids_group.inputs.strict import Place
from bids_group.vocabulary import LARGEST_SEED, MOST_PERMUTATIONS, ClusterForming, PermutationLevel, Tail

CORRECTIONS = ("none", "fdr", "bonferroni", "rft", "permutation")
TAILS: tuple[Tail, ...] = get_args(Tail)
PERMUTATION_KEYS = ("Permutations", "Levels", "Seed", "TFCE", "TailApproximation")
CLUSTER_FORMING_UNITS = ("p", "t", "z", "F")
LARGEST_CLUSTER_FORMING_P = 0.001  # random field theory: above it extents are not as the theory has them
DEFAULT_ALPHA = 0.05
DEFAULT_PERMUTATIONS = 10_000
LARGEST_TFCE_POWER = 10.0
SMALLEST_ALPHA = 1e-100
LARGEST_Z = 20  # a p of 1e-89
DEFAULT_UNCORRECTED_ALPHA = 0.001  # Woo et al. 2014, as the usual cluster-forming threshold


@dataclass(frozen=True)
class PermutationSpec:
    """How a permutation test is done.

    Attributes
    ----------
    n : int
        Rearrangements, the identity counted.
    levels : tuple of str
        What the maximum is taken of.
    seed : int
    extent_power, height_power : float
        E and H of TFCE (Smith & Nichols 2009).
    approximates_tail : bool
        Whether small p are read off a generalised Pareto distribution (Winkler et al. 2016).
    """

    n: int = DEFAULT_PERMUTATIONS
    levels: tuple[PermutationLevel, ...] = get_args(PermutationLevel)
    seed: int = 0
    extent_power: float = 0.5
    height_power: float = 2.0
    approximates_tail: bool = False


@dataclass(frozen=True)
class InferenceSpec:
    """One entry of `Inference`: which correction, at which level, of which tail.

    Attributes
    ----------
    correction : str
        ``none``, ``fdr``, ``bonferroni``, ``rft`` or ``permutation``.
    alpha : float
        The level of the entry's tail, 0 < alpha < 1.
    tail : str
        ``positive``, ``negative`` or ``two-sided``; no meaning for F.
    cluster_extent : int
        Clusters with fewer voxels are not shown.
    contrasts : tuple of str or None
        The contrasts it is for; None for all.
    name : str
        Appended to the label of its outputs.
    path : str
        Where it stands in the spec.
    cluster_forming : ClusterForming
        `ClusterThreshold`: of the clusters that random field theory or permutation tests.
    permutation : PermutationSpec or None
        Of the correction ``permutation``.
    """

    correction: str
    alpha: float
    tail: Tail
    cluster_extent: int = 0
    contrasts: tuple[str, ...] | None = None
    name: str = ""
    path: str = "Inference"
    cluster_forming: ClusterForming = ("p", LARGEST_CLUSTER_FORMING_P)
    permutation: PermutationSpec | None = None


DEFAULT_INFERENCE = (
    InferenceSpec("none", DEFAULT_UNCORRECTED_ALPHA, "two-sided"),
    InferenceSpec("fdr", DEFAULT_ALPHA, "two-sided"),
    InferenceSpec("bonferroni", DEFAULT_ALPHA, "two-sided"),
    InferenceSpec("permutation", DEFAULT_ALPHA, "two-sided", permutation=PermutationSpec()),
)


def read_inferences(place: Place) -> tuple[InferenceSpec, ...]:
    """Read the list `Inference`."""
    items = place.items()
    if not items:
        place.fail("the list is empty; leave the key out for the defaults")
    return tuple(_read_inference(item) for item in items)


def _read_inference(place: Place) -> InferenceSpec:
    known = ("Correction", "Alpha", "Tail", "ClusterExtent", "Contrasts", "Name", "ClusterThreshold", *PERMUTATION_KEYS)
    fields = place.fields(known, required=("Correction",))
    correction = fields["Correction"].choice(CORRECTIONS)
    meaningless = {"permutation": (), "rft": PERMUTATION_KEYS}.get(correction, (*PERMUTATION_KEYS, "ClusterThreshold"))
    for key in (key for key in meaningless if key in fields):
        fields[key].fail(f"{key} has no meaning for the correction {correction!r}; leave it out")
    return InferenceSpec(
        correction=correction,
        alpha=read_alpha(fields["Alpha"]) if "Alpha" in fields else _default_alpha(correction),
        tail=fields["Tail"].choice(TAILS) if "Tail" in fields else "two-sided",
        cluster_extent=fields["ClusterExtent"].whole_number() if "ClusterExtent" in fields else 0,
        contrasts=read_names(fields["Contrasts"]) if "Contrasts" in fields else None,
        name=fields["Name"].text() if "Name" in fields else "",
        path=place.path,
        cluster_forming=_read_cluster_forming(fields["ClusterThreshold"], correction)
        if "ClusterThreshold" in fields
        else ("p", LARGEST_CLUSTER_FORMING_P),
        permutation=_read_permutation(fields) if correction == "permutation" else None,
    )


def _read_permutation(fields: Mapping[str, Place]) -> PermutationSpec:
    """Read the keys of a permutation test."""
    powers = fields["TFCE"].fields(("E", "H")) if "TFCE" in fields else {}
    default = PermutationSpec()
    return PermutationSpec(
        n=read_permutations(fields["Permutations"]) if "Permutations" in fields else default.n,
        levels=_read_levels(fields["Levels"]) if "Levels" in fields else default.levels,
        seed=read_seed(fields["Seed"]) if "Seed" in fields else default.seed,
        extent_power=_read_power(powers["E"]) if "E" in powers else default.extent_power,
        height_power=_read_power(powers["H"]) if "H" in powers else default.height_power,
        approximates_tail=fields["TailApproximation"].boolean() if "TailApproximation" in fields else False,
    )


def read_permutations(place: Place) -> int:
    """Read how many rearrangements are asked for, the identity counted."""
    n = place.whole_number(least=2)
    if n > MOST_PERMUTATIONS:
        place.fail(f"{n} rearrangements would take days; use at most {MOST_PERMUTATIONS}")
    return n


def read_seed(place: Place) -> int:
    """Read the seed of random rearrangements."""
    seed = place.whole_number()
    if seed > LARGEST_SEED:
        place.fail(f"the seed is at most {LARGEST_SEED}, found {seed}")
    return seed


def _read_levels(place: Place) -> tuple[PermutationLevel, ...]:
    levels = tuple(item.choice(get_args(PermutationLevel)) for item in place.one_or_more())
    if len(set(levels)) < len(levels):
        place.fail("a level stands there more than once")
    return tuple(level for level in get_args(PermutationLevel) if level in levels)


def _read_power(place: Place) -> float:
    power = place.number()
    if not 0 <= power <= LARGEST_TFCE_POWER:
        place.fail(f"the power must be from 0 to {LARGEST_TFCE_POWER:g}, found {power:g}")
    return power


def _read_cluster_forming(place: Place, correction: str) -> ClusterForming:
    fields = place.fields(CLUSTER_FORMING_UNITS)
    if len(fields) != 1:
        place.fail('give one threshold, such as {"p": 0.001}')
    ((unit, item),) = fields.items()
    value = item.number()
    if value <= 0:
        item.fail(f"the threshold must be above 0, found {value:g}")
    if (unit == "p" and value < SMALLEST_ALPHA) or (unit == "z" and value > LARGEST_Z):
        item.fail(f"no statistic reaches a threshold of {unit} = {value:g}")
    if unit == "p" and value >= 1:
        item.fail(f"a p lies between 0 and 1, found {value:g}")
    if correction == "rft" and unit == "p" and value > LARGEST_CLUSTER_FORMING_P:
        item.fail(
            f"random field theory needs a cluster-forming p of at most {LARGEST_CLUSTER_FORMING_P}, found {value:g}"
        )
    forming: dict[str, ClusterForming] = {"p": ("p", value), "t": ("t", value), "z": ("z", value), "F": ("F", value)}
    return forming[unit]


def _default_alpha(correction: str) -> float:
    return DEFAULT_UNCORRECTED_ALPHA if correction == "none" else DEFAULT_ALPHA


def read_alpha(place: Place) -> float:
    """Read the level of a test, above 0 and below 1."""
    alpha = place.number()
    if not 0 < alpha < 1:
        place.fail(f"Alpha must lie between 0 and 1, found {alpha:g}")
    if alpha < SMALLEST_ALPHA:
        place.fail(f"Alpha {alpha:g} is below {SMALLEST_ALPHA:g}, where thresholds can no longer be computed")
    return alpha


def read_names(place: Place) -> tuple[str, ...]:
    """Read a list of contrasts that is not empty."""
    items = place.items()
    if not items:
        place.fail("the list is empty; leave the key out for all contrasts")
    return tuple(item.text() for item in items)
