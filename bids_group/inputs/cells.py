"""The cells of a design: one map for each subject, contrast and whatever else the model names."""

import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import DataError
from bids_group.inputs.spec import NodeSpec

MOST_CELLS_LISTED = 12


def check_cells(node: NodeSpec, rows: pd.DataFrame) -> list[str]:
    """Check that every subject has exactly one map in each cell of the design.

    A cell is subject x contrast x the entities that the model names.

    Parameters
    ----------
    node : NodeSpec
    rows : DataFrame
        The maps of all models of the node.

    Returns
    -------
    list of str
        Warnings: subjects that lack a map in a node that is not a repeated-measures design.

    Raises
    ------
    DataError
        If a cell has two maps, or lacks one in a repeated-measures design.
    """
    within = ["contrast", *find_named_entities(node)]
    if not rows["subject"].duplicated().any():
        return []
    doubled = rows[rows.duplicated(["subject", *within], keep=False)]
    if len(doubled):
        raise DataError(_describe_doubled(doubled, within))
    missing = _list_missing_cells(rows, within)
    if not missing:
        return []
    listed = "; ".join(missing[:MOST_CELLS_LISTED]) + (
        f"; and {len(missing) - MOST_CELLS_LISTED} more" if len(missing) > MOST_CELLS_LISTED else ""
    )
    if node.group_by:
        return [f"some subjects lack a map, so the models differ in their subjects: {listed}"]
    raise DataError(
        f"{node.path}: the repeated-measures design has empty cells: {listed}; "
        "add the maps, or leave the subjects out with --participant-label"
    )


def find_named_entities(node: NodeSpec) -> list[str]:
    """Return the entities, besides subject and contrast, that X or Formula names."""
    named = {*node.terms, *(node.formula.names if node.formula else ())}
    return [name for name in ENTITY_SHORT_NAMES if name in named and name not in ("subject", "contrast")]


def _describe_doubled(doubled: pd.DataFrame, within: list[str]) -> str:
    first = doubled.iloc[0]
    same = doubled[(doubled[["subject", *within]].fillna("") == first[["subject", *within]].fillna("")).all(axis=1)]
    differing = [
        n
        for n in (*ENTITY_SHORT_NAMES, "suffix", "extension", "dataset")
        if n in same and same[n].nunique(dropna=False) > 1
    ]
    listed = "\n  ".join(str(path) for path in same["path"])
    n_cells = len(doubled.drop_duplicates(["subject", *within]))
    return (
        f"{n_cells} cells have more than one map; sub-{first['subject']}, contrast {first['contrast']}:\n  {listed}\n"
        f"they differ in {', '.join(differing) or 'nothing but the path'}; choose one with Input, "
        "or average them in a Subject node"
    )


def _list_missing_cells(rows: pd.DataFrame, within: list[str]) -> list[str]:
    keys = rows[within].fillna("n/a").agg(" ".join, axis=1)
    everywhere = sorted(keys.unique())
    by_subject = keys.groupby(rows["subject"]).agg(set)
    return [f"sub-{subject} {key}" for subject, own in by_subject.items() for key in everywhere if key not in own]
