"""What a Subject-level node may not do: average what are not repetitions of one measurement."""

import re

import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import SpecError
from bids_group.inputs.cells import find_named_entities
from bids_group.inputs.contrast_spec import INTERCEPT
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.variables import VariableTable

# What is computed over rows would be computed over those of all subjects, where the model is of one.
OVER_ROWS = ("Demean", "Scale", "Orthogonalize")
_OVER_ROWS_IN_FORMULA = re.compile(r"\b(center|scale|poly)\(")
# What may differ between maps that are averaged though the node does not name it.
REPETITIONS = ("session", "run", "direction")


def check_subject_node(node: NodeSpec, rows: pd.DataFrame) -> None:
    """Refuse groups by what no map has, computations over rows, and contrasts without a name.

    Raises
    ------
    SpecError
    """
    for i, name in enumerate(node.group_by):
        if rows[name].isna().all():
            raise SpecError(f"{node.path}.GroupBy[{i}]", f"no map has the entity {name!r}")
    over_rows = "is computed over the rows of a model, and this one is of one subject"
    for instruction in node.instructions:
        if instruction.name in OVER_ROWS:
            raise SpecError(instruction.path, f"{instruction.name} {over_rows}")
    found = _OVER_ROWS_IN_FORMULA.search(node.formula.text) if node.formula else None
    if found:
        raise SpecError(node.model_path, f"{found[1]}() {over_rows}")
    dummy = node.dummy_contrasts
    if dummy is not None and "contrast" not in node.group_by and INTERCEPT in (dummy.columns or node.terms):
        raise SpecError(
            dummy.path,
            'the mean over several contrasts needs a name: write it under Contrasts, or group by "contrast" as well',
        )


def check_groups(node: NodeSpec, table: VariableTable) -> None:
    """Refuse to combine maps that differ in what the node does not name, but for runs and sessions.

    Raises
    ------
    SpecError
    """
    rows = table.rows
    named = {"subject", *node.group_by, *find_named_entities(node, table.tables)}
    contrasts = sorted(rows["contrast"].unique())
    if "contrast" not in node.group_by and len(contrasts) > 1 and not _find_names(node) & {*contrasts, "contrast"}:
        raise SpecError(
            node.path,
            f"it would average maps of different contrasts ({', '.join(contrasts)}); name them in X, or group by "
            '"contrast" as well',
        )
    _refuse_doubled(node, rows, sorted({"subject", "contrast", *named, *REPETITIONS} & set(rows)))
    for name in (name for name in ENTITY_SHORT_NAMES if name in rows):
        if name not in (*named, *REPETITIONS, "contrast", "desc", "stat"):
            _refuse_mixed(node, rows, name)


def _find_names(node: NodeSpec) -> set[str]:
    """Return the parts of the terms of a design."""
    return {part for term in node.terms for part in term.split(":")} | set(node.formula.names if node.formula else ())


def _refuse_doubled(node: NodeSpec, rows: pd.DataFrame, cell: list[str]) -> None:
    """Refuse two maps of one measurement, such as one in two spaces, or from two pipelines."""
    doubled = rows[rows.duplicated(cell, keep=False)]
    if not len(doubled):
        return
    first = doubled.iloc[0]
    same = doubled[(doubled[cell].fillna("") == first[cell].fillna("")).all(axis=1)]
    names = (*ENTITY_SHORT_NAMES, "suffix", "extension", "dataset")
    differing = [name for name in names if name in same and same[name].nunique(dropna=False) > 1]
    listed = "\n  ".join(str(path) for path in same["path"])
    remedy = "--derivatives" if differing == ["dataset"] else "Input, or group by what they differ in"
    raise SpecError(
        node.path,
        f"it would average {len(same)} maps of one measurement, which differ in {', '.join(differing) or 'their path'}:"
        f"\n  {listed}\nchoose one with {remedy}",
    )


def _refuse_mixed(node: NodeSpec, rows: pd.DataFrame, name: str) -> None:
    """Refuse to combine maps that differ in an entity."""
    counts = rows.groupby(list(node.group_by), dropna=False)[name].nunique(dropna=False)
    if (counts > 1).any():
        values = ", ".join(sorted(rows[name].fillna("none").unique()))
        raise SpecError(
            node.path,
            f"it would combine maps that differ in {name} ({values}); choose with Input, group by it, or name it in X",
        )
