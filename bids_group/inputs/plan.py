"""What is to be analysed, down to the last weight, before any map is read: one plan per model.

A node is one model, or under ``GroupBy: ["contrast"]`` one for each contrast of the maps.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import DataError, SpecError
from bids_group.inputs.blocks import find_blocks
from bids_group.inputs.cells import check_cells, find_missing_cells, find_named_entities, is_repeated, label_cells
from bids_group.inputs.conjunctions import Conjunction, find_notes_on_conjunctions, plan_conjunctions
from bids_group.inputs.contrasts import Contrast, build_contrasts, check_labels_differ
from bids_group.inputs.design import (
    DesignMatrix,
    build_design,
    check_pooled_error,
    drop_subject_columns,
    find_collinear,
    refuse_missing,
)
from bids_group.inputs.entries import check_inferences, find_notes_on_inference
from bids_group.inputs.error_terms import (
    SubjectContrast,
    SubjectDesign,
    build_subject_design,
    factor_contrast,
    factor_map_weights,
    lay_out,
    weigh_maps,
)
from bids_group.inputs.plan_checks import (
    FILE_ENTITIES,
    check_meta_analysis,
    check_mixed_entities,
    check_random_fields,
    check_same_hypotheses,
    find_unnamed_contrasts,
)
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.transformations import apply_instructions
from bids_group.inputs.variable_tables import ValueTable
from bids_group.inputs.variables import VariableTable
from bids_group.vocabulary import ErrorTerm

T = TypeVar("T")


@dataclass(frozen=True)
class Partition:
    """The contrasts of repeated measures, each with its part within and its part between subjects.

    Attributes
    ----------
    design : SubjectDesign
    contrasts : tuple of (SubjectContrast or None)
        In the order of the model's; None, under a pooled error term only, where one does not factor.
    """

    design: SubjectDesign
    contrasts: tuple[SubjectContrast | None, ...]


@dataclass(frozen=True)
class ModelPlan:
    """One model to fit.

    Attributes
    ----------
    input_contrast : str or None
        The contrast of the maps under ``GroupBy: ["contrast"]``.
    rows : DataFrame
        The maps, in the order of the design's rows.
    entities : dict of str to str
        What all maps share, by pybids' names.
    design : DesignMatrix
        Of partitioned error terms: without subject columns.
    contrasts : tuple of Contrast
    warnings : tuple of str
    error_term : str or None
        ``partitioned`` or ``pooled`` for repeated measures; None where every subject has one map.
    partition : Partition or None
        How the contrasts of repeated measures factor; None where every subject has one map, or where the contrasts of
        a pooled model do not factor.
    variance_groups : Series of str or None
        The variance group of each map, where they differ.
    blocks : DataFrame of int64 or None
        `ExchangeabilityBlocks` of each map, outer ones first, negative where the block moves as a whole; None where
        they follow from the design.
    conjunctions : tuple of Conjunction
        Of these contrasts.
    """

    input_contrast: str | None
    rows: pd.DataFrame
    entities: dict[str, str]
    design: DesignMatrix
    contrasts: tuple[Contrast, ...]
    warnings: tuple[str, ...]
    error_term: ErrorTerm | None = None
    partition: Partition | None = None
    variance_groups: pd.Series | None = None
    blocks: pd.DataFrame | None = None
    conjunctions: tuple[Conjunction, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of the contrasts, then of the conjunctions."""
        return (*(one.label for one in self.contrasts), *(one.label for one in self.conjunctions))

    @property
    def dof(self) -> int:
        """Return the degrees of freedom of the error: of subjects where it is partitioned, else of maps."""
        if self.error_term == "partitioned" and self.partition is not None:
            return self.partition.design.dof
        return self.design.dof


@dataclass(frozen=True)
class NodePlan:
    """One node to analyse.

    Attributes
    ----------
    node : NodeSpec
    models : tuple of ModelPlan
    excluded : DataFrame
        The maps that are in none of its models, with `reason`.
    """

    node: NodeSpec
    models: tuple[ModelPlan, ...]
    excluded: pd.DataFrame


def plan_node(
    node: NodeSpec, inputs: InputTable, participants: pd.DataFrame, tables: Sequence[ValueTable] = ()
) -> NodePlan:
    """Build and check the models of a node.

    Parameters
    ----------
    node : NodeSpec
    inputs : InputTable
    participants : DataFrame of str
        participants.tsv, indexed by the subject.
    tables : sequence of ValueTable
        Other tables that variables may come from.

    Raises
    ------
    SpecError, DataError
        If anything about the design or the contrasts is not right.
    """
    groups = _group(node, inputs.rows)
    levels = list_entity_levels(inputs.rows)
    variables = VariableTable(inputs.rows, participants, entity_levels=levels, tables=tuple(tables))
    filtered = [apply_instructions(node.instructions, replace(variables, rows=rows)) for _, rows in groups]
    named = find_named_entities(node, tables)
    dropped = _find_incomplete(node, [table.rows for table, _ in filtered], named)
    if dropped:
        # Again from the start: what is computed over several rows must not have seen the rows that are dropped.
        groups = [(name, rows[~rows["subject"].isin(dropped)]) for name, rows in groups]
        filtered = [apply_instructions(node.instructions, replace(variables, rows=rows)) for _, rows in groups]
    remaining = [table for table, _ in filtered]
    # After Filter, which may leave out what is incomplete, or make incomplete what was not.
    cells = pd.concat([table.rows for table in remaining])
    warnings = [
        *check_cells(node, cells, named),
        *check_mixed_entities(node, cells, named),
        *_tell_dropped(dropped, inputs.rows),
        *inputs.warnings,
    ]
    models = [_plan_model(node, name, table) for (name, _), table in zip(groups, remaining, strict=True)]
    check_labels_differ(node, [label for model in models for label in model.labels])
    contrasts = [contrast for model in models for contrast in model.contrasts]
    check_inferences(node, contrasts)
    warnings += [*find_notes_on_inference(node, contrasts), *find_notes_on_conjunctions(node)]
    reasons = {label: reason for _, excluded in filtered for label, reason in excluded.items()}
    reasons |= {label: dropped[s] for label, s in inputs.rows["subject"].items() if s in dropped}
    models = [_add_warnings(model, warnings) for model in models]
    return NodePlan(node, tuple(models), _join_excluded(inputs, reasons))


def _find_incomplete(node: NodeSpec, groups: Sequence[pd.DataFrame], named: Sequence[str]) -> dict[str, str]:
    """Return the subjects that `Missing` says are dropped, each with the reason.

    Raises
    ------
    SpecError
        If nobody would be left.
    """
    if node.settings.missing != "drop-subject":
        return {}
    dropped = {
        subject: f"Missing: no map of {', '.join(cells)}"
        for rows in groups
        if is_repeated(rows)
        for subject, cells in find_missing_cells(rows, named).items()
    }
    if dropped and all(rows["subject"].isin(dropped).all() for rows in groups):
        raise SpecError(f"{node.settings.path}.Missing", "every subject lacks a map of the repeated-measures design")
    return dropped


def _tell_dropped(dropped: Mapping[str, str], rows: pd.DataFrame) -> list[str]:
    if not dropped:
        return []
    most_common, count = Counter(dropped.values()).most_common(1)[0]
    listed = ", ".join(f"sub-{subject}" for subject in sorted(dropped))
    return [
        f"{len(dropped)} of {rows['subject'].nunique()} subjects are dropped because a map of theirs is missing "
        f"({count} times: {most_common.removeprefix('Missing: ')}): {listed}"
    ]


def _join_excluded(inputs: InputTable, reasons: dict[Any, str]) -> pd.DataFrame:
    if not reasons:
        return inputs.excluded
    filtered = inputs.rows.loc[list(reasons)].assign(reason=list(reasons.values()))
    return pd.concat([inputs.excluded, filtered], ignore_index=True)


def _group(node: NodeSpec, rows: pd.DataFrame) -> list[tuple[str | None, pd.DataFrame]]:
    if not node.group_by:
        return [(None, rows)]
    return [(str(name), part) for name, part in rows.groupby("contrast", sort=True)]


def _plan_model(node: NodeSpec, input_contrast: str | None, table: VariableTable) -> ModelPlan:
    rows = table.rows
    error_term = node.settings.error_term if is_repeated(rows) else None
    if node.model_type == "meta":
        check_meta_analysis(node, rows, error_term)
    design = build_design(node, table)
    if error_term == "pooled":
        check_pooled_error(node, rows, design)
    full_design = design
    if error_term == "partitioned":
        design = _locate(node.model_path, partial(drop_subject_columns, design))
    contrasts = tuple(build_contrasts(node, design, input_contrast))
    if error_term == "partitioned":
        check_same_hypotheses(full_design, design, contrasts)
    cells = label_cells(rows, find_named_entities(node, table.tables))
    partition = _partition(node, rows, cells, design, contrasts, error_term) if error_term else None
    warnings = (*find_collinear(design), *find_unnamed_contrasts(node, rows))
    plan = ModelPlan(
        input_contrast, rows, find_shared_entities(rows), design, contrasts, warnings, error_term, partition
    )
    plan = replace(
        plan,
        variance_groups=_find_variance_groups(node, table, error_term),
        blocks=find_blocks(node, table, error_term),
        conjunctions=plan_conjunctions(node, contrasts, input_contrast),
    )
    n_within = [1 if one is None or error_term == "pooled" else one.within.shape[1] for one in _list_factors(plan)]
    check_random_fields(node, contrasts, n_within, plan.dof)
    return plan


def _list_factors(model: ModelPlan) -> tuple[SubjectContrast | None, ...]:
    """Return how each contrast factors, None where it does not."""
    return model.partition.contrasts if model.partition else (None,) * len(model.contrasts)


def _find_variance_groups(node: NodeSpec, table: VariableTable, error_term: ErrorTerm | None) -> pd.Series | None:
    """Return the variance group of each map, or None where all have one variance."""
    name = node.settings.variance_groups
    if name is None:
        return None
    path = f"{node.settings.path}.VarianceGroups"
    if error_term is not None:
        raise SpecError(
            path, "subjects have several maps; variance groups are for one map per subject: group by contrast"
        )
    variable = _locate(path, partial(table.resolve, name, as_factor=True))
    _locate(path, partial(refuse_missing, name, variable, table.rows))
    if variable.labels.nunique() < 2:
        raise SpecError(
            path, f"{name!r} has one level only in the model, {variable.labels.iloc[0]!r}; take the key out"
        )
    return variable.labels


def _partition(
    node: NodeSpec,
    rows: pd.DataFrame,
    cells: pd.Series,
    design: DesignMatrix,
    contrasts: Sequence[Contrast],
    error_term: ErrorTerm,
) -> Partition | None:
    """Factor the contrasts; those of a pooled model only to judge its error term, as far as they can be factored."""
    layout = lay_out(rows["subject"], cells)
    if error_term == "pooled":
        try:
            subject_design = build_subject_design(drop_subject_columns(design).matrix, layout)
        except DataError:
            return None
        return Partition(subject_design, tuple(_factor_if_possible(subject_design, design, one) for one in contrasts))
    subject_design = _locate(node.model_path, partial(build_subject_design, design.matrix, layout))
    factored = [_locate(one.path, partial(factor_contrast, subject_design, one.weights)) for one in contrasts]
    return Partition(subject_design, tuple(factored))


def _factor_if_possible(
    subject_design: SubjectDesign, design: DesignMatrix, contrast: Contrast
) -> SubjectContrast | None:
    """Factor the weights that a contrast of the pooled design, columns of subjects and all, gives the maps."""
    on_maps = weigh_maps(design.space, contrast.weights)[:, subject_design.layout.rows.ravel()]
    try:
        return factor_map_weights(subject_design, on_maps)
    except DataError:
        return None


def _locate(path: str, build: Callable[[], T]) -> T:
    """Give the faults of a design their place in the spec."""
    try:
        return build()
    except SpecError:
        raise
    except DataError as error:
        raise SpecError(path, str(error)) from error


def _add_warnings(model: ModelPlan, warnings: Sequence[str]) -> ModelPlan:
    return replace(model, warnings=(*model.warnings, *warnings))


def find_shared_entities(rows: pd.DataFrame) -> dict[str, str]:
    """Return the entities that have one value in all rows, in the order of BIDS."""
    names = [name for name in ENTITY_SHORT_NAMES if name in rows and name not in FILE_ENTITIES]
    return {name: rows[name].iloc[0] for name in names if rows[name].notna().all() and rows[name].nunique() == 1}


def list_entity_levels(rows: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return every value of each entity."""
    names = [name for name in ENTITY_SHORT_NAMES if name in rows]
    return {name: tuple(sorted(rows[name].dropna().unique())) for name in names}
