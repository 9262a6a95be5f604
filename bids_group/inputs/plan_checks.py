"""What is refused or warned of when a model is planned: what no map could make right."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bids_group.column_space import ESTIMABILITY_TOLERANCE
from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import DataError, SpecError
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.design import DesignMatrix
from bids_group.inputs.entries import selects
from bids_group.inputs.error_terms import weigh_maps
from bids_group.inputs.map_sources import find_repeated, has_variance, list_files
from bids_group.inputs.spec import NodeSpec
from bids_group.vocabulary import ErrorTerm

FEWEST_RANDOM_FIELD_DOF = 4  # with 3 or fewer, the densities of the t field do not exist
FILE_ENTITIES = ("subject", "contrast", "desc", "stat")  # never shared by what is named after all inputs


def check_random_fields(node: NodeSpec, contrasts: Sequence[Contrast], n_within: Sequence[int], dof: int) -> None:
    """Refuse random field theory where it does not hold.

    Parameters
    ----------
    node : NodeSpec
    contrasts : sequence of Contrast
    n_within : sequence of int
        Of each contrast the within-subject directions that have errors of their own; 1 where errors are not
        partitioned.
    dof : int
        Of the error.

    Raises
    ------
    SpecError
    """
    for entry in (entry for entry in node.settings.inference if entry.correction == "rft"):
        for contrast, n_directions in zip(contrasts, n_within, strict=True):
            if selects(entry, contrast):
                reason = _find_obstacle(node, contrast, n_directions, dof)
                if reason is not None:
                    raise SpecError(entry.path, reason)


def _find_obstacle(node: NodeSpec, contrast: Contrast, n_directions: int, dof: int) -> str | None:
    """Say why there is no random field theory for a contrast; None where there is."""
    settings = node.settings
    if settings.variance_groups is not None:
        return "with VarianceGroups degrees of freedom differ between voxels; take rft out"
    if settings.min_coverage < 1:
        return "with MinCoverage below 1 degrees of freedom differ between voxels; take rft out"
    if node.model_type == "meta":
        return "a meta-analysis has no residuals of equal variance to take the smoothness from; take rft out"
    if dof < FEWEST_RANDOM_FIELD_DOF:
        return f"random field theory needs {FEWEST_RANDOM_FIELD_DOF} degrees of freedom, not {dof}"
    if n_directions > 1:
        return (
            f"the F of {contrast.name!r} has partitioned errors of several within-subject directions, for which there "
            "is no random field theory; leave the contrast out with Contrasts"
        )
    return None


def check_meta_analysis(node: NodeSpec, rows: pd.DataFrame, error_term: ErrorTerm | None) -> None:
    """Refuse a meta-analysis of maps that are not independent, or of unknown variance.

    Raises
    ------
    SpecError
    """
    path = f"{node.path}.Model.Type"
    if error_term is not None:
        raise SpecError(
            path,
            "a meta-analysis is of one map per subject, and subjects have several; group by contrast, or combine "
            "them in a Subject node",
        )
    for key, is_asked in (
        ("VarianceGroups", node.settings.variance_groups is not None),
        ("MinCoverage", node.settings.min_coverage < 1),
        ("SmoothingFWHM", node.settings.smoothing_fwhm > 0),
    ):
        if is_asked:
            raise SpecError(f"{node.settings.path}.{key}", "not possible with the type 'meta'; take the key out")
    check_variances(path, rows)


def check_variances(path: str, rows: pd.DataFrame) -> None:
    """Refuse maps whose variances are not known, or not that of independent parts.

    Raises
    ------
    SpecError
    """
    lacking = [source for source in rows["source"] if not has_variance(source)]
    if lacking:
        file = next(file for file in list_files(lacking[0]) if file.variance is None)
        raise SpecError(
            path,
            f"{len(lacking)} of {len(rows)} maps have no map of their variance beside them, such as {file.path} "
            "(..._stat-variance_statmap.nii.gz for ..._stat-effect_statmap.nii.gz, ..._variance.nii.gz for "
            "..._effect.nii.gz); add them, or use the type 'glm'",
        )
    for source in rows["source"]:
        repeated = find_repeated(source)
        if repeated is not None:
            raise SpecError(
                path,
                f"{repeated.path} enters a combined map more than once, so that the variance of the sum is not known",
            )


def check_same_hypotheses(full: DesignMatrix, reduced: DesignMatrix, contrasts: Sequence[Contrast]) -> None:
    """Refuse contrasts that test something else when the columns of subjects are dropped.

    What the full design cannot estimate (means of conditions, differences between groups) has its meaning in the
    reduced one. What it can must weigh the maps in the same way in both.

    Raises
    ------
    SpecError
    """
    kept = [full.columns.index(name) for name in reduced.columns]
    if len(kept) == len(full.columns):
        return
    for contrast in contrasts:
        weights = np.zeros((len(contrast.weights), len(full.columns)))
        weights[:, kept] = contrast.weights
        if full.space.find_inestimable(weights).any():
            continue
        before, after = weigh_maps(full.space, weights), weigh_maps(reduced.space, contrast.weights)
        if np.linalg.norm(before - after) > ESTIMABILITY_TOLERANCE * np.linalg.norm(before):
            raise SpecError(
                contrast.path,
                f"{contrast.name!r} would test something else without the columns of subjects, which partitioned error "
                "terms drop; give every condition a column of its own, and every between-subject variable one as well",
            )


def check_mixed_entities(node: NodeSpec, rows: pd.DataFrame, named: Sequence[str]) -> list[str]:
    """Look for entities that differ between the maps though the model does not name them.

    Returns
    -------
    list of str
        A warning for each.

    Raises
    ------
    DataError
        If the maps are in different spaces.
    """
    ignored = {*FILE_ENTITIES, *named}
    warnings = []
    for name in (name for name in ENTITY_SHORT_NAMES if name in rows and name not in ignored):
        if rows[name].nunique(dropna=False) == 1:
            continue
        values = ", ".join(sorted(rows[name].fillna("none").unique()))
        problem = f"the maps differ in {name} ({values}), which the model does not name"
        if name == "space":
            raise DataError(f"{node.path}: {problem}; choose one with Input")
        warnings.append(f"{problem}; if that is not meant, choose with Input")
    return warnings


def find_unnamed_contrasts(node: NodeSpec, rows: pd.DataFrame) -> list[str]:
    """Warn of maps of a contrast that X leaves out while it names others: they would all be in the baseline."""
    named = set(node.terms) & set(rows["contrast"])
    unnamed = sorted(set(rows["contrast"]) - named)
    if not named or not unnamed:
        return []
    return [
        f"the maps of {', '.join(unnamed)} are in the model and have no column of their own; "
        "if that is not meant, leave them out with Input"
    ]
