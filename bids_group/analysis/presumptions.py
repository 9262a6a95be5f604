"""What the data say against the tests of a model: errors that are skewed, not spherical, or differ between groups."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.analysis.rearranging import divide_design, spans_constant
from bids_group.inputs.entries import selects
from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import ModelPlan, NodePlan
from bids_group.outputs.results import ContrastResult
from bids_group.stats.partitioned import compute_subject_scores, estimate_sphericity
from bids_group.stats.presumptions import divide_variance, estimate_group_variances, measure_skewness

MOST_VOXELS_ASKED = 5000  # evenly spread: a median over voxels needs no more, and memory stays small
# Where one error variance for all conditions is no longer believed: simulated false positives leave the nominal level.
LOWEST_EPSILON = 0.75
HIGHEST_VARIANCE_RATIO = 1.2
# Epsilon mends an F on average; below these its p are too small far in the tail (validation.tails): of F of few
# directions, for which the same epsilon says that one direction outweighs the others, and of F of more.
FEW_DIRECTIONS, LOWEST_TAIL_EPSILON_OF_FEW, LOWEST_TAIL_EPSILON = 4, 0.85, 0.65
# Skewness over the root of the number of rows, by which the tails of a mean's t are off to first order (Hall 1992).
HIGHEST_SKEWNESS = 0.12
SMALLEST_GROUP = 3
LEAST_FWHM_VOXELS = 3.0  # Hayasaka & Nichols 2003
# Between the groups' error variances, where permutations are asked for: they exchange errors that differ.
HIGHEST_VARIANCE_SPREAD = 2.5
# Welch's degrees of freedom hang on the group that gives the effect most of its variance, and are then few or too many.
LARGEST_SHARE, FEWEST_WELCH_SUBJECTS = 2 / 3, 25

Floats = NDArray[np.float64]


def find_error_warnings(contrasts: tuple[ContrastResult, ...], epsilon: float | None) -> list[str]:
    """Say where the data speak against the pooled error term.

    Parameters
    ----------
    contrasts : tuple of ContrastResult
    epsilon : float or None
        Of the errors of a pooled model: the median of Huynh and Feldt's estimate.

    Returns
    -------
    list of str
    """
    warnings = []
    if epsilon is not None and epsilon < LOWEST_EPSILON:
        warnings.append(
            f"the pooled error term assumes sphericity, but epsilon (Huynh-Feldt, median over voxels) is "
            f"{epsilon:.2f}; use partitioned error terms"
        )
    for result in contrasts:
        ratio = result.test.variance_ratio
        if ratio is not None and ratio > HIGHEST_VARIANCE_RATIO:
            warnings.append(
                f"the error variance of {result.contrast.name} is {ratio:.2f} times the pooled one (median over "
                "voxels), so that its pooled test finds too much; use partitioned error terms"
            )
    return warnings


def find_smoothness_warnings(contrasts: tuple[ContrastResult, ...]) -> list[str]:
    """Say where noise is too rough on its grid for random field theory, once for contrasts of the same noise.

    Parameters
    ----------
    contrasts : tuple of ContrastResult

    Returns
    -------
    list of str
    """
    warnings = []
    for result in contrasts:
        noise = result.test.smoothness
        is_used = any(one.inference.correction == "rft" for one in result.inferences)
        if noise is not None and is_used and min(noise.fwhm_voxels) < LEAST_FWHM_VOXELS:
            fwhm = " x ".join(f"{one:.1f}" for one in noise.fwhm_voxels)
            warnings.append(
                f"random field theory takes noise to be finely sampled, {LEAST_FWHM_VOXELS:g} voxels or more, and its "
                f"FWHM is {fwhm} voxels: heights are conservative, extents cannot be trusted; smooth the maps "
                "(SmoothingFWHM), or use permutation"
            )
    return list(dict.fromkeys(warnings))


def find_presumption_warnings(plan: NodePlan, model: ModelPlan, data: GroupData, kept: NDArray[np.bool_]) -> list[str]:
    """Say which contrasts the data speak against, where that can be seen from the median over voxels.

    Contrasts of one direction are judged that have an error of their own: not pooled errors (see
    `find_error_warnings`), unequal variances or meta-analyses; of F of several directions their sphericity. With
    missing maps there is no common design.

    Parameters
    ----------
    plan : NodePlan
    model : ModelPlan
    data : GroupData
    kept : ndarray of bool, shape (n_voxels,)
        The voxels of the data with error variance.

    Returns
    -------
    list of str
    """
    if model.error_term == "pooled" or data.variances is not None or plan.node.settings.min_coverage < 1:
        return []
    columns = np.flatnonzero(kept)
    values = data.effects[:, columns[:: -(-len(columns) // MOST_VOXELS_ASKED)]].astype(np.float64)
    entries = [entry for entry in plan.node.settings.inference if entry.permutation is not None]
    found = [
        _judge_contrast(model, index, values, is_permuted=any(selects(entry, contrast) for entry in entries))
        for index, contrast in enumerate(model.contrasts)
    ]
    found += _judge_sphericity(plan, model, values)
    return [warning for warning in found if warning is not None]


def _judge_contrast(model: ModelPlan, index: int, effects: Floats, *, is_permuted: bool) -> str | None:
    interest, nuisance = divide_design(model, index)
    rows = _find_rows(model, index, effects)
    if interest.shape[1] != 1 or rows is None:
        return None
    basis = np.hstack([interest, nuisance])
    residuals = rows - basis @ (basis.T @ rows)
    name, n_rows = model.contrasts[index].label, len(rows)
    if not spans_constant(nuisance):
        skewness = float(np.median(measure_skewness(residuals)))
        return _warn_of_skewness(name, skewness, n_rows) if abs(skewness) > HIGHEST_SKEWNESS * np.sqrt(n_rows) else None
    groups = _find_groups(model)
    if groups is None:
        return None
    leverage = np.sum(basis**2, axis=1)
    variances = estimate_group_variances(residuals, leverage, groups)
    parts = divide_variance(variances, interest[:, 0], groups)
    if model.variance_groups is not None:
        return _judge_welch(name, parts, groups)
    presumed = np.sum(residuals**2, axis=0) / np.sum(1.0 - leverage)  # times u'u, which is 1
    ratio = float(np.median(parts.sum(axis=0) / presumed))
    if ratio > HIGHEST_VARIANCE_RATIO:
        return _warn_of_groups(model, name, ratio)
    spread = float(np.exp(np.ptp(np.median(np.log(variances), axis=1))))
    return _warn_of_exchange(name, spread) if is_permuted and spread > HIGHEST_VARIANCE_SPREAD else None


def _judge_welch(name: str, parts: Floats, groups: NDArray[np.int64]) -> str | None:
    """Say that Welch's degrees of freedom hang on few subjects."""
    shares = np.median(parts / parts.sum(axis=0), axis=1)
    most = int(np.argmax(shares))
    n_subjects = int(np.count_nonzero(groups == most))
    if shares[most] <= LARGEST_SHARE or n_subjects >= FEWEST_WELCH_SUBJECTS:
        return None
    return (
        f"{name}: {shares[most]:.0%} of the effect's variance (median over voxels) come from a variance group of "
        f"{n_subjects} subjects, too few for Welch's degrees of freedom far in the tail: tests corrected for many "
        "voxels find too much, by permutation too; use more subjects in that group, or trust uncorrected p only"
    )


def _judge_sphericity(plan: NodePlan, model: ModelPlan, effects: Floats) -> list[str]:
    """Say that F of several directions presume sphericity where there is none, or that epsilon does not mend it."""
    if model.partition is None:
        return []
    several = [
        (contrast, factored.within.shape[1])
        for contrast, factored in zip(model.contrasts, model.partition.contrasts, strict=True)
        if factored is not None and factored.within.shape[1] > 1
    ]
    if not several:
        return []
    design = model.partition.design
    epsilon = estimate_sphericity(effects, design.layout.rows, design.basis).median
    if plan.node.settings.sphericity == "none":
        return [_warn_of_sphericity(epsilon)] if epsilon < LOWEST_EPSILON else []
    entries = [entry for entry in plan.node.settings.inference if entry.permutation is None]
    return [
        _warn_of_tail(contrast.label, epsilon)
        for contrast, n_within in several
        if epsilon < (LOWEST_TAIL_EPSILON_OF_FEW if n_within <= FEW_DIRECTIONS else LOWEST_TAIL_EPSILON)
        and any(selects(entry, contrast) for entry in entries)
    ]


def _find_rows(model: ModelPlan, index: int, effects: Floats) -> Floats | None:
    """Return what a contrast's design explains: maps, or subjects' scores; None if of several directions."""
    if model.error_term != "partitioned" or model.partition is None:
        return effects
    factored = model.partition.contrasts[index]
    assert factored is not None  # of partitioned errors every contrast factors
    if factored.within.shape[1] != 1:
        return None
    rows = model.partition.design.layout.rows
    return compute_subject_scores(effects, rows, factored.within[:, 0]).astype(np.float64)


def _find_groups(model: ModelPlan) -> NDArray[np.int64] | None:
    """Return which rows have the same indicators in the design; None where that makes no groups of some size."""
    if model.variance_groups is not None:
        return pd.factorize(model.variance_groups, sort=True)[0].astype(np.int64)
    matrix = model.design.matrix.to_numpy(np.float64)
    if model.error_term == "partitioned" and model.partition is not None:
        matrix = matrix[model.partition.design.layout.rows[:, 0]]
    indicators = matrix[:, np.isin(matrix, (0.0, 1.0)).all(axis=0)]
    _, groups, counts = np.unique(indicators, axis=0, return_inverse=True, return_counts=True)
    return groups.ravel().astype(np.int64) if len(counts) > 1 and counts.min() >= SMALLEST_GROUP else None


def _warn_of_sphericity(epsilon: float) -> str:
    return (
        f'"Sphericity": "none" presumes sphericity, but epsilon (Huynh-Feldt, median over voxels) is {epsilon:.2f}, so '
        "that F of several conditions find too much; take the key out"
    )


def _warn_of_tail(name: str, epsilon: float) -> str:
    return (
        f"{name}: epsilon (Huynh-Feldt, median over voxels) is {epsilon:.2f}; with so little sphericity the p of F "
        "that epsilon corrects are too small far in the tail, so that corrections for many voxels by distribution find "
        "too much; use permutation, which needs no epsilon"
    )


def _warn_of_skewness(name: str, skewness: float, n_rows: int) -> str:
    return (
        f"{name}: the errors are skewed ({skewness:.2f}, median over voxels), and with {n_rows} subjects the test of a "
        "mean presumes symmetric ones, by permutation too: one tail finds too much and the other too little; look for "
        "outlying subjects, or transform the maps at the first level"
    )


def _warn_of_groups(model: ModelPlan, name: str, ratio: float) -> str:
    remedy = (
        "name the groups in VarianceGroups"
        if model.error_term is None
        else 'test it in a model of one map per subject (GroupBy ["contrast"], or a Subject node) with VarianceGroups'
    )
    return (
        f"{name}: the groups' error variances differ so that the effect varies {ratio:.2f} times as much as its test "
        f"presumes (median over voxels), and that it finds too much, by permutation too; {remedy}"
    )


def _warn_of_exchange(name: str, spread: float) -> str:
    return (
        f"{name}: the groups' error variances differ {spread:.1f}-fold (median over voxels), and permutations exchange "
        "subjects as if they did not, so that they find too much; Bonferroni or random field theory do better where "
        "the groups are of about the same size"
    )
