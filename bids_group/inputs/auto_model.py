"""Specs for those who have none: the model that ``--model auto`` runs, and templates of others that fit the data.

JSON has no comments, so each document is explained in its `Description`. What is made here is read as strictly as what
users write, and a template is given only if it can be planned with the maps it was made from.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_group.column_space import decompose
from bids_group.errors import DataError
from bids_group.inputs.filters import Selection, list_criteria, split_by_criteria
from bids_group.inputs.images import check_grids
from bids_group.inputs.plan import plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import ModelSpec, parse_spec
from bids_group.inputs.transformations import TRANSFORMER
from bids_group.inputs.variable_tables import ValueTable
from bids_group.inputs.variables import Variable, VariableTable

AUTO = "auto"
SMALLEST_GROUP = 2  # subjects; fewer have no variance of their own
MOST_CONTRASTS_IN_PAIRS = 4  # six pairs; beyond them the tests that are meant should be chosen by hand
# A covariate that more of the maps lack is left out, rather than their subjects.
LARGEST_SHARE_MISSING = 0.2
# BIDS recommends these columns for every study, so a column beside them is more likely what the study is about.
RECOMMENDED_COLUMNS = ("age", "sex", "handedness", "species", "strain", "strain_rrid")
HOW_TO_USE = "Copy this file before you edit it, and run the copy with --model; --model auto writes this one anew."

Document = dict[str, Any]

logger = logging.getLogger("bids_group")


def make_auto_spec() -> ModelSpec:
    """Return the model of ``--model auto``: the mean of each contrast of the maps, tested against 0."""
    return parse_spec(_make_one_sample(), Path(AUTO))


def make_templates(
    inputs: InputTable, participants: pd.DataFrame, tables: Sequence[ValueTable] = ()
) -> dict[str, Document]:
    """Make a spec of each kind of model that fits the data.

    Parameters
    ----------
    inputs : InputTable
        The maps found, one for each subject and contrast.
    participants : DataFrame of str
        participants.tsv, indexed by subject label; without columns where there is none.
    tables : sequence of ValueTable
        Other tables that variables may come from; no template asks for a variable of theirs.

    Returns
    -------
    dict of str to dict
        Documents by their kind: ``two-sample``, ``regression``, ``paired``, ``repeated-measures``. Only those that the
        strict reader accepts and that can be planned with these maps; why another was dropped is logged.
    """
    fitting = {}
    variables = VariableTable(inputs.rows, participants, tables=tuple(tables))
    for kind, make in _KINDS.items():
        document = make(variables)
        if document is None:
            continue
        try:
            _check_template(document, inputs, participants, tables)
        except DataError as error:
            logger.warning("there is no template %s: %s", kind, error)
        else:
            fitting[kind] = document
    return fitting


def _check_template(
    document: Document, inputs: InputTable, participants: pd.DataFrame, tables: Sequence[ValueTable]
) -> None:
    """Plan the models of a template, and compare the grids of the contrasts that it brings together.

    Raises
    ------
    DataError
    """
    spec = parse_spec(document, Path(AUTO))
    selected, excluded = split_by_criteria(inputs.rows, list_criteria(Selection(spec.selection)))
    for node in spec.nodes:
        for model in plan_node(node, InputTable(selected, excluded), participants, tables).models:
            # One map for each contrast: the model of --model auto has compared the maps of each contrast.
            check_grids([Path(path) for path in model.rows.drop_duplicates("contrast")["path"]])


def _make_document(name: str, description: str, node: Document, **keys: Any) -> Document:
    document = {"Name": name, "BIDSModelVersion": "1.0.0", "Description": description, **keys}
    label = name.replace("-", "") if name != AUTO else "onesample"
    return {**document, "Nodes": [{"Level": "Dataset", "Name": label, **node}]}


def _make_template(name: str, description: str, contrasts: list[str], node: Document) -> Document:
    return _make_document(name, f"{description} {HOW_TO_USE}", node, Input={"contrast": contrasts})


def _make_one_sample() -> Document:
    description = (
        "Made by --model auto: one-sample t tests. For each contrast of the maps: does its mean over the subjects "
        "differ from 0? All maps found are taken, so give the same filters when you run this file; to choose among "
        'the contrasts, add "Input": {"contrast": [...]}.'
    )
    node = {"GroupBy": ["contrast"], "Model": {"Type": "glm", "X": [1]}, "DummyContrasts": {"Test": "t"}}
    return _make_document(AUTO, description, node)


def _make_two_sample(table: VariableTable) -> Document | None:
    found = {name: one for name, one in _find_columns(table) if _has_two_groups(name, one, table.rows)}
    if not found:
        return None
    name, *others = sorted(found, key=lambda column: column.casefold() in RECOMMENDED_COLUMNS)
    first, second = sorted(found[name].labels.dropna().unique())
    also = f" Other columns with two groups: {', '.join(others)}." if others else ""
    description = (
        f"Two-sample t tests of {name} in participants.tsv, with one variance for both groups. For each contrast of "
        f"the maps: do {first} and {second} differ? A positive t means more in {first}; for another column put its "
        f"name and its two values in place of these.{also}"
    )
    test = {
        "Name": f"{first}Minus{second}",
        "Test": "t",
        "ConditionList": [f"{name}[{first}]", f"{name}[{second}]"],
        "Weights": [1, -1],
    }
    node = {
        "GroupBy": ["contrast"],
        **_transform(_separate_groups(name, found[name])),
        "Model": {"Type": "glm", "X": [name]},
        "Contrasts": [test],
    }
    return _make_template("two-sample", description, _list_contrasts(table.rows), node)


def _separate_groups(name: str, variable: Variable) -> list[Document]:
    """Return the transformations that make levels of numbers and leave out who is in no group."""
    steps: list[Document] = [] if variable.is_factor else [{"Name": "Factor", "Input": [name]}]
    if variable.is_missing.any():
        levels = sorted(variable.labels.dropna().unique())
        steps.append({"Name": "Filter", "Input": [name], "Query": f"{name} in {levels}"})
    return steps


def _make_regression(table: VariableTable) -> Document | None:
    numeric = {name: one.numbers for name, one in _find_columns(table) if one.numbers is not None}
    covariates = _choose_covariates(numeric, table.rows["contrast"])
    if not len(covariates.columns):
        return None
    names = list(covariates.columns)
    left_out = [name for name in numeric if name not in names]
    also = f" Left out, as constant, incomplete or a combination of others: {', '.join(left_out)}." if left_out else ""
    description = (
        "Regression on the numbers in participants.tsv. For each contrast of the maps: does it rise or fall with "
        f"{', '.join(names)}, the others held constant? All are demeaned, so that the intercept is the mean response; "
        f"take out of Instructions, X and DummyContrasts what you do not want to adjust for.{also}"
    )
    incomplete = [name for name in names if covariates[name].isna().any()]
    # True of every number, and of a missing value neither true nor false.
    filters = [{"Name": "Filter", "Input": [name], "Query": f"{name} < 0 or {name} >= 0"} for name in incomplete]
    node = {
        "GroupBy": ["contrast"],
        **_transform([*filters, {"Name": "Demean", "Input": names}]),
        "Model": {"Type": "glm", "X": [1, *names]},
        "DummyContrasts": {"Test": "t", "Contrasts": names},
    }
    return _make_template("regression", description, _list_contrasts(table.rows), node)


def _make_paired(table: VariableTable) -> Document | None:
    contrasts = _find_complete_contrasts(table.rows)[:2]
    if len(contrasts) < 2:
        return None
    first, second = contrasts
    description = (
        f"Paired t test: do {first} and {second} differ within subjects? The error is that of the subjects' "
        f"differences. A positive t means more in {first}; for another pair put its names in Input, X and Contrasts."
    )
    node = _make_within_node(contrasts, [_subtract(first, second)])
    return _make_template("paired", description, contrasts, node)


def _make_repeated_measures(table: VariableTable) -> Document | None:
    contrasts = _find_complete_contrasts(table.rows)
    if len(contrasts) < 3:  # two are a paired test
        return None
    others = contrasts[1:]
    differences = [[1, *(-int(name == other) for name in others)] for other in others]
    tests = [{"Name": "omnibus", "Test": "F", "ConditionList": contrasts, "Weights": differences}]
    has_pairs = len(contrasts) <= MOST_CONTRASTS_IN_PAIRS
    if has_pairs:
        tests += [_subtract(*pair) for pair in combinations(contrasts, 2)]
    description = (
        f"Repeated measures: do the {len(contrasts)} contrasts of the maps differ at all (omnibus F, corrected for "
        f"non-sphericity){', and which pairs of them do' if has_pairs else ''}? Each test has its own error, from the "
        "subjects' scores. Take out of Input, X and Contrasts what you do not want to compare, and add the weights of "
        "the main effects and interactions that you mean."
    )
    return _make_template("repeated-measures", description, contrasts, _make_within_node(contrasts, tests))


def _make_within_node(contrasts: list[str], tests: list[Document]) -> Document:
    settings = {"bids_group": {"ErrorTerm": "partitioned"}}
    return {"GroupBy": [], "Model": {"Type": "glm", "X": contrasts, "Software": settings}, "Contrasts": tests}


def _subtract(first: str, second: str) -> Document:
    return {"Name": f"{first}Minus{second}", "Test": "t", "ConditionList": [first, second], "Weights": [1, -1]}


def _transform(instructions: list[Document]) -> Document:
    """Return the key `Transformations` of a node, or none where nothing is to be done."""
    return {"Transformations": {"Transformer": TRANSFORMER, "Instructions": instructions}} if instructions else {}


def _list_contrasts(rows: pd.DataFrame) -> list[str]:
    return sorted(rows["contrast"].unique())


def _find_complete_contrasts(rows: pd.DataFrame) -> list[str]:
    """Return the contrasts of which every subject has a map."""
    n_subjects = rows.groupby("contrast")["subject"].nunique()
    return sorted(n_subjects.index[n_subjects == rows["subject"].nunique()])


def _find_columns(table: VariableTable) -> Iterator[tuple[str, Variable]]:
    """Yield the columns of participants.tsv that can stand in a design, with a value for each map."""
    for name in table.participants.columns:
        try:
            variable = table.resolve(name)
        except DataError as error:
            logger.info("the templates leave out a column: %s", error)
        else:
            yield name, variable


def _can_be_completed(name: str, values: pd.Series) -> bool:
    """Return whether a query can leave out who has no value: only a name of its language can stand in it."""
    return name.isidentifier() or not values.isna().any()


def _has_two_groups(name: str, variable: Variable, rows: pd.DataFrame) -> bool:
    """Return whether there are two levels, each of enough subjects in every contrast."""
    is_one_number = variable.numbers is not None and variable.numbers.nunique() < 2  # written as 1 and as 1.0
    sizes = pd.crosstab(rows["contrast"], variable.labels)
    if sizes.shape[1] != 2 or is_one_number or not _can_be_completed(name, variable.labels):
        return False
    return bool((sizes >= SMALLEST_GROUP).all(axis=None))


def _choose_covariates(numeric: dict[str, pd.Series], contrasts: pd.Series) -> pd.DataFrame:
    """Take columns in their order as long as a model of each contrast can tell them apart and keeps an error.

    Parameters
    ----------
    numeric : dict of str to Series of float64, length n_maps
    contrasts : Series of str, length n_maps

    Returns
    -------
    DataFrame of float64, shape (n_maps, n_chosen)
        Missing values are NaN.
    """
    chosen = pd.DataFrame(index=contrasts.index)
    for name, numbers in numeric.items():
        wider = chosen.assign(**{name: numbers})
        if numbers.isna().mean() > LARGEST_SHARE_MISSING or not _can_be_completed(name, numbers):
            continue
        complete = wider.dropna()
        if all(_is_estimable(part) for _, part in complete.groupby(contrasts.loc[complete.index])):
            chosen = wider
    return chosen


def _is_estimable(covariates: pd.DataFrame) -> bool:
    """Return whether an intercept and demeaned covariates have full rank and leave a degree of freedom."""
    values = covariates.to_numpy(dtype=np.float64)
    n_rows, n_columns = values.shape
    design = np.column_stack([np.ones(n_rows), values - values.mean(axis=0)])
    return n_columns + 1 < n_rows and decompose(design).rank == n_columns + 1


_KINDS: dict[str, Callable[[VariableTable], Document | None]] = {
    "two-sample": _make_two_sample,
    "regression": _make_regression,
    "paired": _make_paired,
    "repeated-measures": _make_repeated_measures,
}
