"""What may be exchanged under the null hypothesis of a contrast: sign flips or permutations, of what, in which blocks.

Decided from the design and the entities of the maps alone, before a map is read.
"""

from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.column_space import ESTIMABILITY_TOLERANCE, decompose, find_contrast_axes, partition_design
from bids_group.errors import SpecError
from bids_group.inputs.entries import list_entries, selects
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.plan import ModelPlan, NodePlan
from bids_group.inputs.study import Study
from bids_group.stats.correct import find_cluster_threshold
from bids_group.stats.glm import Statistic
from bids_group.stats.permutation.exchangeability import (
    Exchangeability,
    exchange_by_blocks,
    exchange_freely,
    exchange_within,
)
from bids_group.stats.permutation.rearrange import Rearrangements, plan_rearrangements
from bids_group.stats.permutation.welch import plan_welch
from bids_group.stats.random_fields import refuse_low_threshold
from bids_group.vocabulary import Rearranging

LARGEST_WRITTEN = 10**9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scheme:
    """How the rows of a contrast's design are rearranged.

    Attributes
    ----------
    interest : ndarray of float64, shape (n_rows, r)
        What the contrast tests; rows are maps, or subjects where errors are partitioned.
    nuisance : ndarray of float64, shape (n_rows, k)
        The rest of the design, orthogonal to it.
    exchangeability : Exchangeability
    words : str
        What is rearranged.
    leaves_nuisance : bool
        Whether every rearrangement leaves the nuisance as it is, so that listing them all makes the test exact.
    has_constant : bool
        Whether the design holds the mean of all rows.
    variance_groups : ndarray of int64, shape (n_rows,), or None
        Where errors of groups have variances of their own.
    """

    interest: Floats
    nuisance: Floats
    exchangeability: Exchangeability
    words: str
    leaves_nuisance: bool
    has_constant: bool
    variance_groups: NDArray[np.int64] | None = None


def choose_scheme(plan: NodePlan, model: ModelPlan, index: int) -> Scheme:
    """Choose how a contrast's design is rearranged.

    If the constant lies in the span of the nuisance, rows are permuted; else signs are flipped, because then the
    hypothesis is one about a mean. Rows are those of subjects where errors are partitioned. Under a pooled error term
    maps are exchanged within subjects.

    Parameters
    ----------
    plan : NodePlan
    model : ModelPlan
    index : int
        Which of the model's contrasts.

    Raises
    ------
    SpecError
        If the blocks of the spec are not valid.

    References
    ----------
    Winkler et al. 2014, NeuroImage 92; Winkler et al. 2015, NeuroImage 123.
    """
    interest, nuisance = divide_design(model, index)
    kind: Rearranging = "permutations" if spans_constant(nuisance) else "flips"
    groups = model.variance_groups
    numbers = None if groups is None else pd.factorize(groups, sort=True)[0].astype(np.int64)
    exchangeability = _exchange(plan, model, kind)
    return Scheme(
        interest=interest,
        nuisance=nuisance,
        exchangeability=exchangeability,
        words=_describe(plan, model, kind),
        # Unequal variances are no law that permutations leave as it is: such a test is valid asymptotically.
        leaves_nuisance=groups is None and _leaves_nuisance(exchangeability, nuisance),
        has_constant=spans_constant(np.hstack([interest, nuisance])),
        variance_groups=numbers,
    )


def check_study(study: Study) -> Study:
    """Refuse permutation tests that cannot be done, and return the study with warnings of what they cannot find.

    Raises
    ------
    SpecError
    """
    nodes = []
    for node in study.nodes:
        models = tuple(
            replace(model, warnings=(*model.warnings, *check_permutations(node.plan, model)))
            for model in node.plan.models
        )
        nodes.append(replace(node, plan=replace(node.plan, models=models)))
    return replace(study, nodes=tuple(nodes))


def describe_schemes(plan: NodePlan, model: ModelPlan) -> list[str]:
    """Say of each contrast what is rearranged, and how often."""
    lines = []
    for entry in list_entries(plan.node.settings):
        for index, contrast in enumerate(model.contrasts):
            if entry.permutation is not None and selects(entry, contrast):
                scheme = choose_scheme(plan, model, index)
                listed = list_rearrangements(scheme, entry)
                count = f"all {listed.n}" if listed.is_exhaustive else f"{listed.n} of {_count(listed.n_distinct)}"
                name = f" ({entry.name})" if entry.name else ""
                lines.append(f"{contrast.label}{name}: {count} {scheme.words}")
    return lines


def _count(number: int) -> str:
    """Write a number, a very large one by its power of ten."""
    return f"{number:,}" if number < LARGEST_WRITTEN else f"some 10^{Decimal(number).adjusted()}"


def check_permutations(plan: NodePlan, model: ModelPlan) -> list[str]:
    """Refuse permutation tests that cannot be done, and warn of those that cannot find anything.

    Parameters
    ----------
    plan : NodePlan
    model : ModelPlan

    Returns
    -------
    list of str
        Warnings.

    Raises
    ------
    SpecError
    """
    warnings = []
    for entry in list_entries(plan.node.settings):
        for index, contrast in enumerate(model.contrasts):
            if entry.correction in ("permutation", "rft") and selects(entry, contrast):
                find_forming_threshold(plan, model, index, entry)
            if entry.permutation is not None and selects(entry, contrast):
                scheme = choose_scheme(plan, model, index)
                if plan.node.model_type == "meta" and scheme.exchangeability.kind != "flips":
                    raise SpecError(entry.path, _refuse_meta(contrast.name))
                listed = list_rearrangements(scheme, entry)
                warnings += _find_warnings(model, index, entry, scheme, listed)
    return list(dict.fromkeys(warnings))


def list_rearrangements(scheme: Scheme, entry: InferenceSpec) -> Rearrangements:
    """Plan the rearrangements that an entry of `Inference` asks for.

    Raises
    ------
    SpecError
        If nothing can be exchanged.
    """
    assert entry.permutation is not None  # of the correction permutation
    n_asked, seed = entry.permutation.n, entry.permutation.seed
    if scheme.variance_groups is None:
        listed = plan_rearrangements(
            scheme.interest, scheme.exchangeability, n_asked=n_asked, seed=seed, nuisance=scheme.nuisance
        )
    else:
        listed = plan_welch(scheme.interest, scheme.variance_groups, scheme.exchangeability, n_asked=n_asked, seed=seed)
    if listed.n_distinct < 2:
        raise SpecError(
            entry.path,
            f"nothing can be rearranged ({scheme.words}): every rearrangement that the blocks allow gives the same "
            "design; use other blocks, or leave the contrast out with Contrasts",
        )
    return listed


def find_forming_threshold(plan: NodePlan, model: ModelPlan, index: int, entry: InferenceSpec) -> float:
    """Find the cluster-forming threshold of a contrast, in units of its statistic, or in z where dof differ.

    Raises
    ------
    SpecError
        If it does not fit the statistic, no statistic reaches it, or it is too low for random field theory.
    """
    contrast = model.contrasts[index]
    interest, nuisance = divide_design(model, index)
    factored = model.partition.contrasts[index] if model.partition else None
    is_partitioned = model.error_term == "partitioned" and factored is not None
    n_within = factored.within.shape[1] if is_partitioned and factored is not None else 1
    rank, dof = interest.shape[1], len(interest) - interest.shape[1] - nuisance.shape[1]
    nominal = Statistic(contrast.test, np.zeros(1), None, None, float(n_within * rank), float(n_within * dof))
    is_in_z = plan.node.settings.min_coverage < 1 or model.variance_groups is not None
    tail = None if contrast.test == "F" else entry.tail
    try:
        threshold = find_cluster_threshold(nominal, entry.cluster_forming, tail, is_in_z=is_in_z)
        if entry.correction == "rft":
            refuse_low_threshold(threshold, nominal, tail)
    except ValueError as error:
        raise SpecError(f"{entry.path}.ClusterThreshold", f"{contrast.label}: {error}") from error
    if not np.isfinite(threshold):
        raise SpecError(f"{entry.path}.ClusterThreshold", f"{contrast.label}: no statistic is as large as that")
    return threshold


def _refuse_meta(name: str) -> str:
    return (
        f"{name!r} compares subjects or is a slope: their maps would have to be exchanged, and maps of different "
        "variances are not exchangeable; in a meta-analysis only means can be tested by flipping signs: leave the "
        "contrast out with Contrasts"
    )


def _find_warnings(
    model: ModelPlan, index: int, entry: InferenceSpec, scheme: Scheme, listed: Rearrangements
) -> list[str]:
    contrast, warnings = model.contrasts[index], []
    two_sided = contrast.test == "F" or entry.tail == "two-sided"
    smallest = listed.compute_smallest_p(two_sided=two_sided)
    if smallest > entry.alpha:
        warnings.append(
            f"{contrast.label}: with {listed.n} rearrangements ({scheme.words}) no p can be below {smallest:.3g}, so "
            f"that nothing can be significant at {entry.alpha:g}; use more subjects, or a parametric correction"
        )
    if scheme.exchangeability.kind == "flips" and not scheme.has_constant:
        warnings.append(
            f"{contrast.label}: the design has no constant, so that the mean of the maps is taken for an effect of the "
            "tested columns; add 1 to X if that is not meant"
        )
    return warnings


def divide_design(model: ModelPlan, index: int) -> tuple[Floats, Floats]:
    """Return what a contrast tests and its nuisance, over maps or over subjects.

    Returns
    -------
    interest : ndarray of float64, shape (n_rows, r)
    nuisance : ndarray of float64, shape (n_rows, k)
        Orthonormal, like the interest, and orthogonal to it.
    """
    if model.error_term == "partitioned" and model.partition is not None:
        factored = model.partition.contrasts[index]
        assert factored is not None  # of partitioned errors every contrast factors
        on_scores = factored.basis.T @ factored.between
        return partition_design(factored.basis, on_scores)
    space = model.design.space
    directions, _ = find_contrast_axes(space, np.atleast_2d(model.contrasts[index].weights))
    return partition_design(space.basis, directions)


def spans_constant(columns: Floats) -> bool:
    """Tell whether columns, orthonormal, span the mean of all rows."""
    return _spans(columns, np.ones((len(columns), 1)))


def _spans(columns: Floats, values: Floats) -> bool:
    """Tell whether columns, orthonormal, span some values."""
    outside = values - columns @ (columns.T @ values)
    return bool(np.linalg.norm(outside) <= ESTIMABILITY_TOLERANCE * np.linalg.norm(values))


def _exchange(plan: NodePlan, model: ModelPlan, kind: Rearranging) -> Exchangeability:
    """Return which rows may be exchanged, by the spec or by the design."""
    blocks = _find_row_blocks(model)
    if blocks is not None:
        try:
            return exchange_by_blocks(blocks.to_numpy(dtype=np.int64), kind)
        except ValueError as error:
            raise SpecError(f"{plan.node.settings.path}.ExchangeabilityBlocks", str(error)) from error
    if model.error_term == "pooled":
        return exchange_within(pd.factorize(model.rows["subject"], sort=True)[0], kind)
    n_rows = model.rows["subject"].nunique() if model.error_term == "partitioned" else len(model.rows)
    return exchange_freely(n_rows, kind)


def _find_row_blocks(model: ModelPlan) -> pd.DataFrame | None:
    """Return the blocks of the spec for each row that is exchanged."""
    if model.blocks is None or model.error_term != "partitioned" or model.partition is None:
        return model.blocks
    return model.blocks.iloc[model.partition.design.layout.rows[:, 0]]


def _leaves_nuisance(exchangeability: Exchangeability, nuisance: Floats) -> bool:
    """Tell whether rearrangements leave the nuisance as it is: of flips, where there is none."""
    if nuisance.shape[1] == 0:
        return True
    if exchangeability.kind == "flips":
        return False
    innermost = np.unique(exchangeability.blocks[:, -1], return_inverse=True)[1].ravel()
    moves_as_wholes = exchangeability.blocks.shape[1] > 1 and bool(np.any(exchangeability.blocks[:, :-1] > 0))
    if moves_as_wholes or np.any(exchangeability.blocks[:, -1] < 0):
        return _spans(np.full((len(nuisance), 1), 1 / np.sqrt(len(nuisance))), nuisance)
    indicators = decompose((innermost[:, np.newaxis] == np.unique(innermost)).astype(np.float64)).basis
    return _spans(indicators, nuisance)


def _describe(plan: NodePlan, model: ModelPlan, kind: Rearranging) -> str:
    """Say what is rearranged."""
    columns = plan.node.settings.exchangeability_blocks
    unit = "maps" if model.error_term == "pooled" else "subjects"
    what = {"flips": f"sign flips of {unit}", "permutations": f"permutations of {unit}"}[kind]
    if model.error_term == "partitioned":
        what += ", all conditions of a subject together"
    if columns:
        return f"{what}, in blocks by {', '.join(columns)}"
    return f"{what} within each subject" if model.error_term == "pooled" else what
