"""The report: one HTML file that needs no other, made from what stands in the output folder."""

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bids_group.errors import DataError
from bids_group.outputs import naming
from bids_group.report import wording
from bids_group.report.collect import INCLUDED, INCLUDED_COLUMN, PEAK_COLUMN, collect_run
from bids_group.report.folder import Table
from bids_group.report.methods import write_methods
from bids_group.report.overlaps import (
    find_contrast_overlaps,
    find_correction_overlaps,
    find_node,
    find_node_pairs,
    has_comparisons,
)
from bids_group.report.records import MISSING, ContrastRecord, InferenceRecord, ModelRecord, NodeRecord, RunRecord
from bids_group.report.region_wording import describe_regions_found, excerpt_regions
from bids_group.report.viewer import pack_viewers

MOST_CLUSTERS = 20  # of each sign
WORDING_VERBS = ("format_", "describe_", "name_", "is_")
MOST_DEPENDENT_COLUMNS = 12
SIGNED_TESTS = ("t", "z")
FLAGS_COLUMN = "flags"  # of quality.tsv
# The columns of quality.tsv that the report shows of flagged maps, besides the measures.
FLAGGED_COLUMNS = ("subject", "session", "run", "contrast", FLAGS_COLUMN)


@dataclass(frozen=True)
class _Excerpt:
    """The first rows of a table, and how many follow."""

    rows: tuple[tuple[str, ...], ...]
    n_left: int


def build_report(output_dir: Path, model: str) -> str:
    """Render the report of one model from what stands in the output folder.

    Parameters
    ----------
    output_dir : Path
        The folder that the analysis was written to; only read.
    model : str
        The model's name in its spec.

    Returns
    -------
    str
        A whole HTML document without any reference to the network. Its links are relative to `output_dir`.

    Raises
    ------
    MissingInputError
        A file that the records name is not there.
    DataError
        A record does not parse or lacks a key, or a map cannot be read.
    """
    return render_report(output_dir, collect_run(output_dir, model))


def render_report(output_dir: Path, run: RunRecord) -> str:
    """Render the report of a run whose record has been read.

    Parameters
    ----------
    output_dir : Path
        The folder that the record was read from.
    run : RunRecord

    Returns
    -------
    str
        As `build_report` does.
    """
    template = _load_templates().get_template("report.html.j2")
    return template.render(run=run, viewers=pack_viewers(output_dir, run), methods=write_methods(run))


@cache
def _load_templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("bids_group.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    functions = (
        *(getattr(wording, name) for name in dir(wording) if name.startswith(WORDING_VERBS)),
        *(_anchor_node, _anchor_model, _anchor_contrast, _anchor_inference),
        *(_excerpt_clusters, _excerpt_excluded, _excerpt_flagged, _locate_peak),
        *(find_contrast_overlaps, find_correction_overlaps, find_node, find_node_pairs, has_comparisons),
        *(describe_regions_found, excerpt_regions),
        *(_describe_size, _title_model, _list_models, _list_warnings, _shorten_list),
    )
    environment.filters |= {function.__name__.lstrip("_"): function for function in functions}
    environment.filters["shell_join"] = shlex.join
    return environment


# Anchors: labels are alphanumeric, so the double hyphen between them keeps every id unique.


def _anchor_node(node: NodeRecord) -> str:
    return f"node--{naming.to_label(node.name)}"


def _anchor_model(model: ModelRecord) -> str:
    parts = ["model", naming.to_label(model.node)]
    return "--".join(parts if model.input_contrast is None else [*parts, naming.to_label(model.input_contrast)])


def _anchor_contrast(contrast: ContrastRecord, model: ModelRecord) -> str:
    return f"{_anchor_model(model)}--contrast--{naming.to_label(contrast.label)}"


def _anchor_inference(inference: InferenceRecord, contrast: ContrastRecord, model: ModelRecord) -> str:
    return f"{_anchor_contrast(contrast, model)}--{naming.to_label(inference.label)}"


def _title_model(model: ModelRecord) -> str:
    return model.node if model.input_contrast is None else f"{model.node}, input {model.input_contrast}"


def _list_models(run: RunRecord) -> list[ModelRecord]:
    return [model for node in run.nodes for model in node.models]


def _list_warnings(run: RunRecord) -> list[tuple[str, str]]:
    """Pair every warning with the model it is about (empty: the run), each said once."""
    of_models = [(_title_model(model), warning) for model in _list_models(run) for warning in model.warnings]
    said = {warning for _, warning in of_models}
    return [("", warning) for warning in run.warnings if warning not in said] + list(dict.fromkeys(of_models))


def _excerpt_clusters(table: Table) -> _Excerpt:
    """Return the largest clusters of each sign: positive ones stand first, and must not crowd out the others."""
    values = table.columns.index(PEAK_COLUMN)
    signs = ([row for row in table.rows if row[values].startswith("-") == negative] for negative in (False, True))
    shown = [row for rows in signs for row in rows[:MOST_CLUSTERS]]
    return _Excerpt(tuple(shown), len(table.rows) - len(shown))


def _locate_peak(row: tuple[str, ...], table: Table) -> str:
    """Return the coordinates of a row's peak in mm, with spaces between; empty where the table has none."""
    places = [table.columns.index(name) for name in wording.COORDINATE_COLUMNS if name in table.columns]
    cells = [row[place] for place in places]
    return "" if not cells or MISSING in cells else " ".join(cells)


def _describe_size(contrast: ContrastRecord) -> str:
    """Write what the viewer's slider cuts: the statistic without its sign."""
    return f"|{contrast.test}|" if contrast.test in SIGNED_TESTS else contrast.test


def _shorten_list(names: tuple[str, ...]) -> str:
    left = len(names) - MOST_DEPENDENT_COLUMNS
    shown = ", ".join(names[:MOST_DEPENDENT_COLUMNS])
    return f"{shown} and {left} more" if left > 0 else shown


def _excerpt_flagged(table: Table) -> Table:
    """Return the rows of quality.tsv that have a flag, without the columns that few need."""
    if FLAGS_COLUMN not in table.columns:
        raise DataError(f"{table.file.href}: no column {FLAGS_COLUMN}; run the analysis again to rewrite it")
    columns = tuple(name for name in (*FLAGGED_COLUMNS, *wording.MEASURE_COLUMNS) if name in table.columns)
    places = [table.columns.index(name) for name in columns]
    flagged = [row for row in table.rows if row[table.columns.index(FLAGS_COLUMN)] != MISSING]
    cells = [tuple(wording.format_measure(row[place], table.columns[place]) for place in places) for row in flagged]
    return Table(table.file, tuple(name.replace("_", " ") for name in columns), tuple(cells))


def _excerpt_excluded(table: Table) -> Table:
    """Return the rows of inputs.tsv that were not analysed, without the columns that say nothing of them."""
    if INCLUDED_COLUMN not in table.columns:
        raise DataError(f"{table.file.href}: no column {INCLUDED_COLUMN}; run the analysis again to rewrite it")
    included = table.columns.index(INCLUDED_COLUMN)
    rows = [row for row in table.rows if row[included] != INCLUDED]
    kept = [
        position
        for position in range(len(table.columns))
        if position != included and any(row[position] not in ("", MISSING) for row in rows)
    ]
    columns = tuple(table.columns[position] for position in kept)
    return Table(table.file, columns, tuple(tuple(row[position] for position in kept) for row in rows))
