"""How results overlap, from comparisons.tsv: as matrices within a node, as lists between nodes."""

from collections.abc import Sequence
from dataclasses import dataclass

from bids_group.report.folder import StoredFigure, Table
from bids_group.report.records import MISSING, ContrastRecord, ModelRecord, NodeRecord, RunRecord
from bids_group.report.wording import format_number

MOST_CONTRASTS = 12  # in a matrix; with more it cannot be read
NODE_COLUMNS = ("correction", "n_voxels", "n_other_voxels", "n_both", "n_only", "n_only_other", "n_opposite", "dice")


@dataclass(frozen=True)
class OverlapMatrix:
    """How many voxels survive in each two of several results.

    Attributes
    ----------
    title : str
        What they share: a correction, or a contrast.
    labels : tuple of str
    cells : tuple of tuple of (str, str)
        By row and column the voxels in both and their Dice coefficient; on the diagonal the result's own voxels, and
        nothing.
    """

    title: str
    labels: tuple[str, ...]
    cells: tuple[tuple[tuple[str, str], ...], ...]


@dataclass(frozen=True)
class NodePair:
    """One contrast in two nodes: the counts of each correction as in the table, and what is not the same."""

    contrast: str
    nodes: tuple[str, str]
    correlation: str | None
    n_compared: str | None
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    figure: StoredFigure | None


_Rows = Sequence[dict[str, str]]


def find_correction_overlaps(contrast: ContrastRecord, node: NodeRecord) -> OverlapMatrix | None:
    """Return how the corrections of a contrast overlap; None where there is one only, or nothing survives."""
    rows = [row for row in _list_rows(node.comparisons, "corrections") if row["contrast"] == contrast.label]
    own = {found.label: found.n_voxels for found in contrast.inferences}
    if not rows or not any(own.values()):
        return None
    return _make_matrix(contrast.name, own, {(row["correction"], row["other_correction"]): row for row in rows})


def find_contrast_overlaps(node: NodeRecord) -> list[OverlapMatrix]:
    """Return how the contrasts of a node overlap by each correction in which two of them have survivors."""
    rows = _list_rows(node.comparisons, "contrasts")
    contrasts = [contrast for model in node.models for contrast in model.contrasts]
    if not rows or len(contrasts) > MOST_CONTRASTS:
        return []
    matrices = []
    for label in dict.fromkeys(found.label for contrast in contrasts for found in contrast.inferences):
        own = {one.label: found.n_voxels for one in contrasts for found in one.inferences if found.label == label}
        pairs = {(row["contrast"], row["other_contrast"]): row for row in rows if row["correction"] == label}
        if sum(count > 0 for count in own.values()) > 1:
            matrices.append(_make_matrix(label, own, pairs))
    return matrices


def find_node_pairs(run: RunRecord) -> list[NodePair]:
    """Return every contrast that two nodes have, each once."""
    order = {node.name: place for place, node in enumerate(run.nodes)}
    pairs: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for node in run.nodes:
        for row in _list_rows(node.comparisons, "nodes"):
            if order.get(row["other_node"], -1) > order[node.name]:
                pairs.setdefault((node.name, row["other_node"], row["contrast"]), []).append(row)
    figures = {node.name: node.comparison_figures for node in run.nodes}
    return [
        NodePair(
            contrast=contrast,
            nodes=(first, second),
            correlation=_none_if_missing(rows[0]["correlation"]),
            n_compared=_none_if_missing(rows[0]["n_voxels_compared"]),
            rows=tuple(_format_row(row) for row in rows if row["correction"] != MISSING),
            notes=tuple(_list_notes(rows)),
            figure=figures[first].get(rows[0]["figure"]),
        )
        for (first, second, contrast), rows in pairs.items()
    ]


def has_comparisons(run: RunRecord) -> bool:
    """Tell whether contrasts or nodes are compared."""
    return bool(find_node_pairs(run)) or any(find_contrast_overlaps(node) for node in run.nodes)


def find_node(model: ModelRecord, run: RunRecord) -> NodeRecord:
    """Return the node that a model is of."""
    return next(node for node in run.nodes if node.name == model.node)


def _list_rows(table: Table | None, kind: str) -> _Rows:
    rows = [] if table is None else [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return [row for row in rows if row["comparison"] == kind]


def _make_matrix(title: str, own: dict[str, int], pairs: dict[tuple[str, str], dict[str, str]]) -> OverlapMatrix:
    def fill(one: str, other: str) -> tuple[str, str]:
        if one == other:
            return f"{own[one]:,}", ""
        row = pairs.get((one, other)) or pairs.get((other, one))
        return (MISSING, "") if row is None else (_format_count(row["n_both"]), _format_dice(row["dice"]))

    return OverlapMatrix(title, tuple(own), tuple(tuple(fill(one, other) for other in own) for one in own))


def _format_row(row: dict[str, str]) -> tuple[str, ...]:
    counts = tuple(_format_count(row[name]) for name in NODE_COLUMNS[1:-1])
    return (row[NODE_COLUMNS[0]], *counts, _format_dice(row["dice"]))


def _list_notes(rows: _Rows) -> list[str]:
    """Return the notes, each with the correction that it is about."""
    return [
        row["note"] if row["correction"] == MISSING else f"{row['correction']}: {row['note']}"
        for row in rows
        if row["note"] != MISSING
    ]


def _format_count(text: str) -> str:
    return text if text == MISSING else f"{int(text):,}"


def _format_dice(text: str) -> str:
    return text if text == MISSING else format_number(float(text))


def _none_if_missing(text: str) -> str | None:
    return None if text == MISSING else text
