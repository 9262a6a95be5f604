"""The cells of a design: one map for each subject, contrast and whatever else the model names."""

import re
from collections.abc import Sequence

import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import DataError
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.variable_tables import ValueTable

MOST_CELLS_LISTED = 12


def check_cells(node: NodeSpec, rows: pd.DataFrame, named: Sequence[str]) -> list[str]:
    """Check that every subject has exactly one map in each cell of the design.

    A cell is subject x contrast x the entities that the model names.

    Parameters
    ----------
    node : NodeSpec
    rows : DataFrame
        The maps of all models of the node.
    named : sequence of str
        What `find_named_entities` returned.

    Returns
    -------
    list of str
        Warnings: subjects that lack a map in a node that is not a repeated-measures design.

    Raises
    ------
    DataError
        If a cell has two maps, or lacks one in a repeated-measures design.
    """
    if not rows["subject"].duplicated().any():
        return []
    within = ["contrast", *named]
    doubled = rows[rows.duplicated(["subject", *within], keep=False)]
    if len(doubled):
        raise DataError(_describe_doubled(doubled, within))
    groups = [group for _, group in rows.groupby("contrast")] if node.group_by else [rows]
    missing = [cell for group in groups if is_repeated(group) for cell in _list_missing(group, named)]
    if missing:
        raise DataError(
            f"{node.path}: the repeated-measures design has empty cells: {_list_some(missing)}; "
            'add the maps, or leave the subjects out with --participant-label or "Missing": "drop-subject"'
        )
    uneven = _list_missing(rows, named) if node.group_by else []
    if uneven:
        return [f"some subjects lack a map, so the models differ in their subjects: {_list_some(uneven)}"]
    return []


def is_repeated(rows: pd.DataFrame) -> bool:
    """Return whether a subject has several maps in a model."""
    return bool(rows["subject"].duplicated().any())


def label_cells(rows: pd.DataFrame, named: Sequence[str]) -> pd.Series:
    """Name the cell of each map: its contrast, and what else the model names that varies within subjects.

    Returns
    -------
    Series of str
        Indexed like `rows`.
    """
    varying = [name for name in named if rows.groupby("subject")[name].nunique().max() > 1]
    return rows[["contrast", *varying]].fillna("n/a").agg(" ".join, axis=1)


def find_named_entities(node: NodeSpec, tables: Sequence[ValueTable] = ()) -> list[str]:
    """Return the entities, besides subject and contrast, that X or Formula names.

    A variable of a table that has one value per session names the session.
    """
    # The parts of interactions such as group:session, without a level such as session[2].
    parts = {re.sub(r"\[.*\]$", "", part) for term in node.terms for part in re.split(r":(?![^\[]*\])", term)}
    named = {*parts, *(node.formula.names if node.formula else ())}
    for instruction in reversed(node.instructions):
        if named & set(instruction.outputs):
            named |= set(instruction.inputs)
    if any(named & set(table.columns) for table in tables if table.has_sessions):
        named.add("session")
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
    option = "--derivatives" if differing == ["dataset"] else "Input"
    return (
        f"{n_cells} cells have more than one map; sub-{first['subject']}, contrast {first['contrast']}:\n  {listed}\n"
        f"they differ in {', '.join(differing) or 'nothing but the path'}; choose one with {option}"
        + ("" if option == "--derivatives" else ", or average them in a Subject node")
    )


def find_missing_cells(rows: pd.DataFrame, named: Sequence[str]) -> dict[str, list[str]]:
    """Return the subjects that lack cells which other subjects of the model have, with these cells."""
    cells = label_cells(rows, named)
    everywhere = sorted(cells.unique())
    by_subject = cells.groupby(rows["subject"]).agg(set)
    lacking = {subject: [cell for cell in everywhere if cell not in own] for subject, own in by_subject.items()}
    return {str(subject): missing for subject, missing in lacking.items() if missing}


def _list_missing(rows: pd.DataFrame, named: Sequence[str]) -> list[str]:
    return [f"sub-{subject} {cell}" for subject, cells in find_missing_cells(rows, named).items() for cell in cells]


def _list_some(cells: list[str]) -> str:
    left = len(cells) - MOST_CELLS_LISTED
    return "; ".join(cells[:MOST_CELLS_LISTED]) + (f"; and {left} more" if left > 0 else "")
