"""What `--dry-run` prints: the inputs, the design and the contrasts, without computing anything."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.inputs.conjunctions import Conjunction
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan, NodePlan
from bids_group.inputs.study import NodeStudy
from bids_group.outputs.naming import node_folder
from bids_group.outputs.results import label_inference

LARGEST_DENOMINATOR = 100
# Beyond these the middle of a table is left out: nobody reads 9,000 rows of 1,000 columns.
MOST_ROWS = 400
MOST_COLUMNS = 60


def format_plan(nodes: Sequence[NodeStudy], describe_schemes: Callable[[NodePlan, ModelPlan], list[str]]) -> str:
    """Describe the planned models in plain text.

    Parameters
    ----------
    nodes : sequence of NodeStudy
    describe_schemes : callable
        Says of each contrast what is rearranged.
    """
    parts = []
    for study in nodes:
        plan = study.plan
        parts.append(f"Node {plan.node.name} ({node_folder(plan.node.name)})")
        parts.extend(_format_model(model, grid) for model, grid in zip(plan.models, study.grids, strict=True))
        parts.append("Inference:\n" + "\n".join(f"  {state_entry(entry)}" for entry in plan.node.settings.inference))
        schemes = [line for model in plan.models for line in describe_schemes(plan, model)]
        if schemes:
            parts.append("Rearrangements:\n" + "\n".join(f"  {line}" for line in schemes))
        if len(plan.excluded):
            parts.append(_format_excluded(plan.excluded))
    return "\n\n".join(parts) + "\n"


def _format_model(model: ModelPlan, grid: Grid) -> str:
    title = f"Model of the maps of {model.input_contrast}" if model.input_contrast else "Model"
    sizes = " x ".join(f"{size:g}" for size in grid.voxel_sizes)
    shape = " x ".join(map(str, grid.shape))
    design = model.design
    lines = [
        f"{title}: {len(model.rows)} maps of {model.rows['subject'].nunique()} subjects, "
        f"grid {shape}, voxels {sizes} mm",
        _indent(_format_inputs(model.rows)),
        f"Design: {len(design.columns)} columns, rank {design.rank}, {model.dof} residual degrees of freedom"
        + (f", {model.error_term} error term" if model.error_term else ""),
        _indent(_format_table(design.matrix.set_axis(range(len(design.matrix)), axis="index"))),
        "Contrasts:",
        *(_format_contrast(model, i) for i in range(len(model.contrasts))),
        *(_format_conjunction(model, one) for one in model.conjunctions),
        *(f"Warning: {warning}" for warning in model.warnings),
    ]
    return "\n".join(lines)


def _format_inputs(rows: pd.DataFrame) -> str:
    entities = [name for name in ENTITY_SHORT_NAMES if name in rows and rows[name].notna().any()]
    varying = [name for name in entities if rows[name].nunique(dropna=False) > 1 or name in ("subject", "contrast")]
    if "desc" in varying and rows["desc"].equals(rows["contrast"]):
        varying.remove("desc")  # the contrast was read from it
    table = rows[[*varying, "uri"]].set_axis(range(len(rows)), axis="index")
    return _format_table(table)


def _format_table(table: pd.DataFrame) -> str:
    """Write a table, the middle of a very large one left out."""
    return table.to_string(na_rep="n/a", float_format="{:g}".format, max_rows=MOST_ROWS, max_cols=MOST_COLUMNS)


def _format_contrast(model: ModelPlan, index: int) -> str:
    contrast = model.contrasts[index]
    rows = []
    for weights in contrast.weights:
        terms = [
            f"{_format_weight(w)} {column}" for column, w in zip(model.design.columns, weights, strict=True) if w != 0
        ]
        rows.append("    " + " ".join(terms))
    return "\n".join([f"  {contrast.label} ({contrast.test})", *rows])


def _format_conjunction(model: ModelPlan, conjunction: Conjunction) -> str:
    names = " and ".join(model.contrasts[member].label for member in conjunction.members)
    return f"  {conjunction.label} (conjunction of {names})"


def _format_weight(weight: float) -> str:
    fraction = Fraction(weight).limit_denominator(LARGEST_DENOMINATOR)
    text = str(fraction) if abs(float(fraction) - weight) < 1e-12 else f"{weight:g}"
    return text if text.startswith("-") else f"+{text}"


def _format_excluded(excluded: pd.DataFrame) -> str:
    counts = excluded["reason"].value_counts(sort=False)
    lines = [f"  {count} maps: {reason}" for reason, count in counts.items()]
    return "\n".join([f"Not in the models ({len(excluded)} maps):", *lines])


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())


def state_entry(entry: InferenceSpec) -> str:
    """Say what an entry of `Inference` asks for."""
    extent = f", clusters of at least {entry.cluster_extent} voxels" if entry.cluster_extent > 1 else ""
    of = f", of {', '.join(entry.contrasts)}" if entry.contrasts else ""
    label = "permutation" if entry.permutation else label_inference(entry)
    levels = f" ({', '.join(entry.permutation.levels)})" if entry.permutation else ""
    return f"{label}{levels}: alpha {entry.alpha:g}, {entry.tail}{extent}{of}"
