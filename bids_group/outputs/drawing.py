"""Which figures a model gets: each drawn by `figures`, written beside the maps it shows."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bids_group.outputs import figures
from bids_group.outputs.derivatives import ModelWriter
from bids_group.outputs.quality import name_maps
from bids_group.outputs.results import ContrastResult, ModelResult
from bids_group.outputs.staging import Staging
from bids_group.outputs.summary import list_brain_figures

MODEL_FIGURES = ("design", "contrasts", "mask", "quality")
# The columns of quality.tsv that are drawn.
QUALITY_MEASURES = {"correlation": "correlation", "distance": "robust distance", "cook_share": "share moved"}


def draw_model(staging: Staging, model: ModelResult, *, report_progress: Callable[[], object] = lambda: None) -> None:
    """Draw every figure of a model.

    Parameters
    ----------
    staging : Staging
    model : ModelResult
    report_progress : callable
        Called after each of the figures that `count_figures` counts.
    """
    writer = ModelWriter(staging, model)
    names = model.names
    writer.write_file(names.design_figure("design"), figures.draw_design_matrix(model.design.matrix))
    report_progress()
    writer.write_file(names.design_figure("contrasts"), figures.draw_contrast_weights(_label_weights(model)))
    report_progress()
    writer.write_file(names.design_figure("mask"), _draw_mask(writer))
    report_progress()
    writer.write_file(names.design_figure("quality"), _draw_quality(model.quality))
    report_progress()
    for result in model.contrasts:
        _draw_contrast(writer, result, report_progress)


def count_figures(model: ModelResult) -> int:
    """Return how many figures `draw_model` draws."""
    n_results = sum(len(result.inferences) for result in model.contrasts)
    return len(MODEL_FIGURES) + n_results * len(list_brain_figures(model))


def _draw_mask(writer: ModelWriter) -> bytes:
    model = writer.model
    mask = writer.make_image(np.ones(int(model.voxels.mask.sum()), dtype=np.int32))
    return figures.draw_mask(mask, writer.make_image(model.mean_effect))


def _draw_quality(table: pd.DataFrame) -> bytes:
    names = name_maps(table, with_contrast=table["contrast"].nunique() > 1)
    labels = [name if pd.notna(flags) else None for name, flags in zip(names, table["flags"], strict=True)]
    return figures.draw_quality(table[list(QUALITY_MEASURES)].rename(columns=QUALITY_MEASURES), labels)


def _label_weights(model: ModelResult) -> pd.DataFrame:
    weights = [result.contrast.weights for result in model.contrasts]
    labels = [result.contrast.name for result in model.contrasts for _ in result.contrast.weights]
    return pd.DataFrame(np.vstack(weights), index=labels, columns=model.design.columns)


def _draw_contrast(writer: ModelWriter, result: ContrastResult, report_progress: Callable[[], object]) -> None:
    # One place to cut and one scale of colours for all corrections of a contrast, so that they can be compared.
    statistic = writer.make_image(result.statistic.value)
    cut_coords = figures.choose_cut_coords(statistic)
    colour_limit = figures.choose_colour_limit(statistic)
    for entry in result.inferences:
        surviving = writer.make_image(np.where(entry.inference.survives, result.statistic.value, 0.0))
        for kind in list_brain_figures(writer.model):
            name = writer.model.names.figure(result.contrast.label, entry.label, kind)
            if kind == "ortho":
                content = figures.draw_ortho(
                    surviving,
                    statistic,
                    cut_coords=cut_coords,
                    colour_limit=colour_limit,
                    unit=result.contrast.test,
                    template=writer.model.is_in_mni_space,
                )
            else:
                content = figures.draw_glass_brain(
                    surviving, colour_limit=colour_limit, unit=result.contrast.test, signed=result.contrast.test == "t"
                )
            writer.write_file(name, content)
            report_progress()
