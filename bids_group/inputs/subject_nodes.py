"""Subject-level nodes: from the maps of a subject to fewer maps of the same subject, and along the edges to the group.

A node's design is fitted to each subject's maps apart; each of its contrasts is one map per group of `GroupBy`, passed
on with the entities that the group shares.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.column_space import ColumnSpace, decompose
from bids_group.errors import DataError, NothingSelectedError, SpecError
from bids_group.inputs.contrasts import Contrast, build_contrasts, check_labels_differ
from bids_group.inputs.design import DesignMatrix, build_columns
from bids_group.inputs.edges import Edge, sort_nodes
from bids_group.inputs.filters import Criterion, split_by_criteria
from bids_group.inputs.map_sources import (
    SMALLEST_WEIGHT,
    CombinedMap,
    MapSource,
    add_up,
    describe_source,
    list_paths,
    list_uris,
)
from bids_group.inputs.plan_checks import check_variances
from bids_group.inputs.query import InputTable, sort_rows
from bids_group.inputs.spec import ModelSpec, NodeSpec
from bids_group.inputs.subject_checks import check_groups, check_subject_node
from bids_group.inputs.transformations import apply_instructions
from bids_group.inputs.variable_tables import ValueTable
from bids_group.inputs.variables import VariableTable

_OF_A_FILE = ("path", "uri", "source", "desc", "stat", "suffix", "extension")


@dataclass(frozen=True)
class Variables:
    """The tables that variables come from.

    Attributes
    ----------
    participants : DataFrame of str
        participants.tsv, indexed by the subject.
    tables : tuple of ValueTable
        The others.
    """

    participants: pd.DataFrame
    tables: tuple[ValueTable, ...] = ()


def pass_along(spec: ModelSpec, inputs: InputTable, variables: Variables) -> dict[str, InputTable]:
    """Return the maps that each node starts from.

    Parameters
    ----------
    spec : ModelSpec
    inputs : InputTable
        The maps on disk.
    variables : Variables

    Returns
    -------
    dict of str to InputTable
        By the names of the nodes. Of a node that takes combined maps, the maps on disk that are in none of them are
        excluded.

    Raises
    ------
    SpecError, DataError
        If a combination cannot be formed, or an edge passes nothing on.
    """
    nodes = {node.name: node for node in spec.nodes}
    taken: dict[str, InputTable] = {}
    made: dict[str, InputTable] = {}
    for name in sort_nodes(tuple(nodes), spec.edges):
        edges = [edge for edge in spec.edges if edge.destination == name]
        taken[name] = _join(edges, [_filter(edge, made[edge.source]) for edge in edges], inputs) if edges else inputs
        if nodes[name].level == "Subject":
            made[name] = combine_maps(nodes[name], taken[name], variables)
    return taken


def _filter(edge: Edge, maps: InputTable) -> InputTable:
    """Return the maps that an edge passes on."""
    criteria = [Criterion(key, values, f"{edge.path}.Filter") for key, values in edge.filter.items()]
    for criterion in criteria:
        if criterion.column not in maps.rows:
            raise SpecError(f"{edge.path}.Filter", f"the maps have no entity {criterion.column!r}")
    try:
        rows, dropped = split_by_criteria(maps.rows, criteria)
    except (DataError, NothingSelectedError) as error:
        raise SpecError(f"{edge.path}.Filter", str(error)) from error
    return InputTable(rows, pd.concat([maps.excluded, _list_files(dropped)], ignore_index=True), maps.warnings)


def _join(edges: Sequence[Edge], passed: Sequence[InputTable], inputs: InputTable) -> InputTable:
    """Put the maps of several nodes together; what none of them uses of the maps on disk is excluded."""
    rows = pd.concat([one.rows for one in passed], ignore_index=True)
    for i, one in enumerate(passed):
        for edge, other in zip(edges[:i], passed[:i], strict=True):
            both = sorted(set(one.rows["contrast"]) & set(other.rows["contrast"]))
            if both:
                raise SpecError(
                    edges[i].path,
                    f"{edges[i].source!r} and {edge.source!r} both pass on maps of the contrast {both[0]!r}; rename it "
                    "in one of them, or choose with Filter",
                )
    used = {uri for source in rows["source"] for uri in list_uris(source)}
    reasons = {
        uri: reason for one in passed for uri, reason in zip(one.excluded["uri"], one.excluded["reason"], strict=True)
    }
    left = inputs.rows[~inputs.rows["uri"].isin(used)]
    left = left.assign(reason=[reasons.get(uri, "not used by the Subject-level node") for uri in left["uri"]])
    warnings = dict.fromkeys(warning for one in passed for warning in one.warnings)
    return InputTable(sort_rows(rows), pd.concat([inputs.excluded, left], ignore_index=True), tuple(warnings))


def _list_files(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line per file of combined maps, with the reason that the maps have."""
    lines = [
        {"uri": uri, "reason": reason}
        for source, reason in zip(rows["source"], rows["reason"], strict=True)
        for uri in list_uris(source)
    ]
    return pd.DataFrame(lines, columns=["uri", "reason"])


def combine_maps(node: NodeSpec, inputs: InputTable, variables: Variables) -> InputTable:
    """Combine each subject's maps as a Subject-level node says.

    Parameters
    ----------
    node : NodeSpec
        Of the Subject level.
    inputs : InputTable
    variables : Variables

    Returns
    -------
    InputTable
        One row per group of `GroupBy` and contrast; the files that were left out, with the reason.

    Raises
    ------
    SpecError, DataError
        If the design or a contrast is not right, or a subject lacks a map that a contrast needs.
    """
    check_subject_node(node, inputs.rows)
    table = VariableTable(inputs.rows, variables.participants, tables=variables.tables)
    table, filtered = apply_instructions(node.instructions, table)
    check_groups(node, table)
    if node.model_type == "meta":
        check_variances(f"{node.path}.Model.Type", table.rows)
    groups = _Groups(node, table.rows, build_columns(node, table))
    dropped = groups.find_incomplete()
    rows = groups.combine(set(dropped))
    lost = table.rows[table.rows["subject"].isin(dropped)]
    reasons = [*filtered.values(), *(dropped[subject] for subject in lost["subject"])]
    excluded = pd.concat([inputs.rows.loc[list(filtered)], lost]).assign(reason=reasons)
    before = inputs.excluded[["uri", "reason"]] if len(inputs.excluded) else None
    listed = pd.concat([before, _list_files(excluded)], ignore_index=True)
    return InputTable(rows, listed, (*inputs.warnings, *_find_warnings(node, groups, dropped)))


def _find_warnings(node: NodeSpec, groups: "_Groups", dropped: Mapping[str, str]) -> list[str]:
    """Say who is left out, and that numbers of maps differ."""
    warnings = []
    if dropped:
        listed = ", ".join(f"sub-{subject}" for subject in sorted(dropped))
        warnings.append(
            f"{node.name}: {len(dropped)} subjects are dropped because maps of theirs are missing: {listed}"
        )
    counts = [len(rows) for rows, _, _ in groups.groups if rows["subject"].iloc[0] not in dropped]
    if len(set(counts)) > 1:
        warnings.append(
            f"{node.name}: {min(counts)} to {max(counts)} maps are combined, so that the combined maps are not equally "
            "precise"
        )
    return warnings


@dataclass(frozen=True)
class _Groups:
    """The maps of a Subject-level node in their groups, each of one subject.

    Attributes
    ----------
    node : NodeSpec
    rows : DataFrame
        Of all subjects.
    design : DesignMatrix
        The columns over all rows; each group has its own rows of it.
    """

    node: NodeSpec
    rows: pd.DataFrame
    design: DesignMatrix

    @cached_property
    def groups(self) -> list[tuple[pd.DataFrame, ColumnSpace, list[Contrast]]]:
        """The maps of each group, the space of their design, and the contrasts to form."""
        find_space = _remember_spaces()
        contrasts: dict[str | None, list[Contrast]] = {}
        found = []
        for _, rows in self.rows.groupby(list(self.node.group_by), sort=True, dropna=False):
            of = str(rows["contrast"].iloc[0]) if "contrast" in self.node.group_by else None
            if of not in contrasts:
                contrasts[of] = build_contrasts(self.node, self.design, of)
                check_labels_differ(self.node, [contrast.label for contrast in contrasts[of]])
            found.append((rows, find_space(self.design.matrix.loc[rows.index].to_numpy()), contrasts[of]))
        return found

    def find_incomplete(self) -> dict[str, str]:
        """Return the subjects that lack maps which a contrast needs, each with the reason.

        Raises
        ------
        SpecError
            If the node does not say that they are dropped, or all are.
        """
        lacking: dict[str, str] = {}
        for rows, space, contrasts in self.groups:
            for contrast in contrasts:
                outside = space.find_inestimable(contrast.weights).any(axis=0)
                if outside.any():
                    columns = ", ".join(np.array(self.design.columns)[outside])
                    lacking[str(rows["subject"].iloc[0])] = (
                        f"its {len(rows)} map(s) do not determine {contrast.name!r} (columns {columns})"
                    )
        n_subjects = self.rows["subject"].nunique()
        if lacking and (self.node.settings.missing != "drop-subject" or len(lacking) == n_subjects):
            subject, reason = next(iter(lacking.items()))
            remedy = (
                'give the maps that are missing, leave the subjects out with --participant-label or "Missing": '
                '"drop-subject", or change the contrast'
            )
            others = f" (and {len(lacking) - 1} more of {n_subjects})" if len(lacking) > 1 else ""
            raise SpecError(self.node.path, f"sub-{subject}{others}: {reason}; {remedy}")
        return {subject: f"Missing: {reason}" for subject, reason in lacking.items()}

    def combine(self, dropped: Collection[str]) -> pd.DataFrame:
        """Return one row per group and contrast, but of dropped subjects."""
        lines = [
            self._combine_group(rows, space, contrast)
            for rows, space, contrasts in self.groups
            if rows["subject"].iloc[0] not in dropped
            for contrast in contrasts
        ]
        return pd.DataFrame(lines).astype(object).reindex(columns=self.rows.columns)

    @cached_property
    def shared(self) -> list[str]:
        """The entities that combined maps have: those of the groups, and those that do not differ between any maps."""
        names = (str(name) for name in self.rows if name not in _OF_A_FILE)
        return [name for name in names if name in self.node.group_by or self.rows[name].nunique(dropna=False) == 1]

    def _combine_group(self, rows: pd.DataFrame, space: ColumnSpace, contrast: Contrast) -> dict[str, Any]:
        source = self._combine_maps(rows, space, contrast.weights)
        shared = {name: rows[name].iloc[0] for name in self.shared}
        is_named = "contrast" not in self.node.group_by
        return {
            **shared,
            "contrast": contrast.name if is_named else contrast.label,
            "path": str(list_paths(source)[0]),
            "uri": describe_source(source),
            "source": source,
        }

    def _combine_maps(self, rows: pd.DataFrame, space: ColumnSpace, weights: NDArray[np.float64]) -> CombinedMap:
        parts: list[MapSource] = list(rows["source"])
        if self.node.model_type != "meta":
            return add_up(parts, list(space.basis @ space.score_weights(weights)[0]))
        used = _find_used(space, weights)
        space = decompose(self.design.matrix.loc[rows.index[used]].to_numpy())
        kept = tuple(part for part, is_used in zip(parts, used, strict=True) if is_used)
        return CombinedMap(kept, space.basis, space.score_weights(weights)[0], by_variance=True)


def _find_used(space: ColumnSpace, weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the maps that have a weight whatever the variances: under equal ones, and under two sets of unequal ones."""
    n_maps = len(space.basis)
    coefficients, used = space.score_weights(weights)[0], np.zeros(n_maps, dtype=bool)
    for precision in (np.ones(n_maps), 1.0 + np.sqrt(np.arange(n_maps)), 1.0 / (1.0 + np.arange(n_maps) % 3)):
        information = space.basis.T @ (precision[:, np.newaxis] * space.basis)
        on_maps = precision * (space.basis @ np.linalg.solve(information, coefficients))
        used |= np.abs(on_maps) > SMALLEST_WEIGHT * np.abs(on_maps).max()
    return used


def _remember_spaces() -> Callable[[NDArray[np.float64]], ColumnSpace]:
    """Return a function that decomposes each design once, since most subjects have the same."""
    known: dict[tuple[int, bytes], ColumnSpace] = {}

    def find_space(matrix: NDArray[np.float64]) -> ColumnSpace:
        key = (len(matrix), matrix.tobytes())
        if key not in known:
            known[key] = decompose(matrix)
        return known[key]

    return find_space
