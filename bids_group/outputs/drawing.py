"""Which figures a model gets: each drawn by `figures`, written beside the maps it shows."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process, resource_tracker
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Image

from bids_group.inputs.images import to_volume
from bids_group.outputs import figures
from bids_group.outputs.comparisons import KeptContrast, KeptInference, KeptModel, Pair, choose_shown
from bids_group.outputs.derivatives import ModelWriter
from bids_group.outputs.naming import node_folder, vector_name
from bids_group.outputs.peak_effects import list_covariates, list_peak_panels, list_region_panels
from bids_group.outputs.quality import name_maps
from bids_group.outputs.results import ContrastResult, InferenceResult, ModelResult, choose_headline
from bids_group.outputs.staging import Staging
from bids_group.outputs.summary import (
    list_contrast_figures,
    list_input_figures,
    list_null_distributions,
    list_result_figures,
    list_varying_columns,
)
from bids_group.outputs.tables import label_voxels, to_millimetres
from bids_group.stats.glm import compute_log_p
from bids_group.stats.inference import Inference

FEWEST_FOR_PROCESSES = 40  # to start a process takes as long as to draw some twenty figures
MOST_CLUSTERS_SHOWN = 6  # of a correction, cut through their peaks
MODEL_FIGURES = ("design", "contrasts", "mask", "quality")
# The function of `figures` that draws each kind of figure of a correction.
RESULT_FIGURES = {
    "ortho": "draw_ortho",
    "glassbrain": "draw_glass_brain",
    "surface": "draw_surface",
    "clusters": "draw_clusters",
}
# The columns of quality.tsv that are drawn.
QUALITY_MEASURES = {"correlation": "correlation", "distance": "robust distance", "cook_share": "share moved"}


@dataclass(frozen=True)
class Figure:
    """A figure that is to be drawn: its name in the node's folder, and the call that draws it.

    Attributes
    ----------
    name : str
    function : str
        Of `figures`.
    arguments : tuple
    options : dict
    also : tuple of str
        Other names of the same figure.
    """

    name: str
    function: str
    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def draw(self) -> figures.Picture:
        """Return its files."""
        picture: figures.Picture = getattr(figures, self.function)(*self.arguments, **self.options)
        return picture


class Painters:
    """Processes that draw figures, started when there is enough to draw.

    Drawing takes longer than everything else, and the library that does it holds the interpreter's lock.

    Parameters
    ----------
    n_processes : int
    """

    def __init__(self, n_processes: int) -> None:
        self._n_processes = n_processes
        self._pool: ProcessPoolExecutor | None = None

    def draw(self, wanted: Sequence[Figure]) -> Iterator[tuple[Figure, figures.Picture]]:
        """Yield figures, drawn, in their order."""
        n_drawn = 0
        if self._n_processes > 1 and (self._pool is not None or len(wanted) >= FEWEST_FOR_PROCESSES):
            # Where processes cannot be had, or are killed for their memory, this one draws the rest.
            with suppress(BrokenProcessPool, OSError):
                with _keep_interrupts_from_children():
                    pictures = self._open_pool().map(Figure.draw, wanted)
                for picture in pictures:
                    yield wanted[n_drawn], picture
                    n_drawn += 1
        yield from ((figure, figure.draw()) for figure in wanted[n_drawn:])

    def _open_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not fork: threads of the numerical libraries may hold locks.
            self._pool = ProcessPoolExecutor(
                self._n_processes, mp_context=get_context("spawn"), initializer=_end_with_parent
            )
        return self._pool

    def close(self) -> None:
        """End the processes, whatever they are at."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _keep_interrupts_from_children() -> Iterator[None]:
    """Let processes that are started inside never see Ctrl-C, which a terminal sends to all: their parent ends them."""
    resource_tracker.ensure_running()  # before: the start of that process lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this process when the one that started it is killed: its queue would else be waited on for ever."""
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)  # the end of a thread alone would not be that of the process

    Thread(target=wait, daemon=True).start()


@contextmanager
def open_painters(n_processes: int) -> Iterator[Painters]:
    """Offer processes that draw, and end them afterwards."""
    painters = Painters(n_processes)
    try:
        yield painters
    finally:
        painters.close()


def draw_model(
    staging: Staging, model: ModelResult, painters: Painters, *, report_progress: Callable[[], object] = lambda: None
) -> None:
    """Draw every figure of a model.

    Parameters
    ----------
    staging : Staging
    model : ModelResult
    painters : Painters
    report_progress : callable
        Called after each of the figures that `count_figures` counts.
    """
    writer = ModelWriter(staging, model)
    for figure, picture in painters.draw(list_figures(writer)):
        for name in (figure.name, *figure.also):
            writer.write_file(name, picture.png)
            if picture.svg is not None:
                writer.write_file(vector_name(name), picture.svg)
            report_progress()


def count_figures(model: ModelResult) -> int:
    """Return how many figures `draw_model` draws."""
    n_of_results = sum(
        len(list_result_figures(model, entry)) for result in model.results for entry in result.inferences
    )
    n_of_contrasts = sum(len(list_contrast_figures(model, result)) for result in model.results)
    n_of_model = len(MODEL_FIGURES) + len(list_input_figures(model))
    return n_of_model + n_of_contrasts + n_of_results


def list_figures(writer: ModelWriter) -> list[Figure]:
    """Return every figure of a model."""
    model, names = writer.model, writer.model.names
    mask = writer.make_image(np.ones(int(model.voxels.mask.sum()), dtype=np.int32))
    return [
        Figure(names.design_figure("design"), "draw_design_matrix", (model.design.matrix,)),
        Figure(names.design_figure("contrasts"), "draw_contrast_weights", (_label_weights(model),)),
        Figure(names.design_figure("mask"), "draw_mask", (mask, writer.make_image(model.mean_effect))),
        Figure(names.design_figure("quality"), "draw_quality", _list_odd_maps(model.quality)),
        *(_make_input_figure(writer, kind, mask) for kind in list_input_figures(model)),
        *(figure for result in model.results for figure in _list_contrast_figures(writer, result)),
    ]


def _make_input_figure(writer: ModelWriter, kind: str, mask: Nifti1Image) -> Figure:
    model, shown = writer.model, writer.model.pictures
    name = model.names.design_figure(kind)
    if kind == "rois":
        return Figure(name, "draw_cells", (list_region_panels(model),), {"is_adjusted": bool(list_covariates(model))})
    if kind == "spread":
        images = (writer.make_image(values) for values in (model.mean_effect, shown.sd))
        return Figure(name, "draw_spread", (mask, *images))
    if kind == "correlation":
        return Figure(name, "draw_correlation", (model.design.matrix[list_varying_columns(model)],))
    if kind == "coverage":
        assert shown.n_maps is not None  # what a model with this figure has
        return Figure(name, "draw_coverage", (writer.make_image(shown.n_maps),), {"most": len(model.rows)})
    subjects = shown.subject_maps if kind == "subjectmaps" else shown.subjects
    assert subjects is not None  # what a model with this figure has
    panels = [None if one is None else (one.from_left, one.from_above, one.voxel_sizes) for one in subjects.views]
    options = {"n_subjects": subjects.n_subjects, "unit": subjects.unit}
    return Figure(name, "draw_subjects", (subjects.names, panels), options)


def _list_odd_maps(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str | None]]:
    names = name_maps(table, with_contrast=table["contrast"].nunique() > 1)
    labels = [name if pd.notna(flags) else None for name, flags in zip(names, table["flags"], strict=True)]
    return table[list(QUALITY_MEASURES)].rename(columns=QUALITY_MEASURES), labels


def _label_weights(model: ModelResult) -> pd.DataFrame:
    weights = [result.contrast.weights for result in model.contrasts]
    labels = [result.contrast.name for result in model.contrasts for _ in result.contrast.weights]
    return pd.DataFrame(np.vstack(weights), index=labels, columns=model.design.columns)


def _list_contrast_figures(writer: ModelWriter, result: ContrastResult) -> Iterator[Figure]:
    # One place to cut and one scale of colours for all corrections of a contrast, so that they can be compared.
    model, test = writer.model, result.contrast.test
    statistic = writer.make_image(result.statistic.value)
    scale = {"colour_limit": figures.choose_colour_limit(statistic), "unit": test}
    slices = {"cut_coords": figures.choose_cut_coords(statistic), "template": model.is_in_mni_space}
    for kind in list_contrast_figures(model, result):
        name = model.names.contrast_figure(result.contrast.label, kind)
        if kind == "mosaic":
            maps = (_keep_survivors(writer, result, choose_headline(result)), statistic)
            yield Figure(name, "draw_mosaic", maps, {**scale, "template": model.is_in_mni_space})
        elif kind == "surface":
            yield Figure(name, "draw_surface", (_keep_survivors(writer, result, None), statistic), scale)
        else:
            yield _make_plot(name, kind, model, result)
    for alike in _group_alike(result):
        yield from _list_result_figures(writer, result, alike, statistic, scale, slices)


def _group_alike(result: ContrastResult) -> list[list[InferenceResult]]:
    """Put corrections together that left the same voxels, whose figures are the same."""
    groups: dict[bytes, list[InferenceResult]] = {}
    for entry in result.inferences:
        found = entry.inference
        groups.setdefault(found.survives.tobytes() + found.clusters.labels.tobytes(), []).append(entry)
    return list(groups.values())


def _list_result_figures(
    writer: ModelWriter,
    result: ContrastResult,
    alike: Sequence[InferenceResult],
    statistic: Nifti1Image,
    scale: dict[str, Any],
    slices: dict[str, Any],
) -> Iterator[Figure]:
    model, first = writer.model, alike[0]
    surviving = _keep_survivors(writer, result, first)
    for kind in list_result_figures(model, first):
        arguments: tuple[Any, ...]
        options: dict[str, Any]
        name, *also = (model.names.figure(result.contrast.label, entry.label, kind) for entry in alike)
        if kind == "ortho":
            arguments, options = (surviving, statistic), {**scale, **slices}
        elif kind == "glassbrain":
            arguments, options = (surviving,), {**scale, "signed": result.contrast.test != "F"}
        elif kind == "surface":
            arguments, options = (surviving, statistic), scale
        else:
            clusters = writer.make_image(first.inference.clusters.labels)
            arguments = (clusters, statistic, _title_clusters(writer, result, first))
            options = {**scale, "template": model.is_in_mni_space}
        yield Figure(name, RESULT_FIGURES[kind], arguments, options, tuple(also))


def _title_clusters(writer: ModelWriter, result: ContrastResult, entry: InferenceResult) -> list[figures.ClusterPanel]:
    """Describe the largest clusters of a correction, of either sign, in the order of their ids."""
    model, found = writer.model, entry.inference.clusters
    largest = np.sort(np.argsort(-found.n_voxels, kind="stable")[:MOST_CLUSTERS_SHOWN])
    peaks = found.peak[largest]
    places = to_millimetres(peaks, model)
    regions = next(iter(label_voxels(model, peaks).values()), [None] * len(peaks))
    panels = []
    for cluster, peak, place, region in zip(largest, peaks, places, regions, strict=True):
        n_voxels, value = int(found.n_voxels[cluster]), result.statistic.value[peak]
        volume = n_voxels * model.voxels.grid.voxel_volume
        where = f"{', '.join(f'{part:.0f}' for part in place)} mm"
        title = f"cluster {cluster + 1}: {n_voxels:,} voxels, {volume:,.0f} mm³"
        peak_line = f"{result.contrast.test} = {value:.2f} at {where}{f', {region}' if region else ''}"
        x, y, z = map(float, place)
        panels.append(figures.ClusterPanel(f"{title}\n{peak_line}", int(cluster) + 1, (x, y, z)))
    return panels


def _keep_survivors(writer: ModelWriter, result: ContrastResult, entry: InferenceResult | None) -> Nifti1Image:
    values = result.statistic.value
    return writer.make_image(np.where(entry.inference.survives, values, 0.0) if entry else np.zeros(len(values)))


def _make_plot(name: str, kind: str, model: ModelResult, result: ContrastResult) -> Figure:
    if kind == "qq":
        log_p = compute_log_p(result.statistic, "two-sided" if result.contrast.test == "t" else None)
        return Figure(name, "draw_qq", (-log_p / np.log(10.0),))
    if kind == "null":
        panels = [_describe_null(entry) for entry in list_null_distributions(result)]
        return Figure(name, "draw_null", (panels,))
    effects = list_peak_panels(model, result)
    if isinstance(effects[0], figures.SlopePanel):
        return Figure(name, "draw_slopes", (effects,), {"name": result.contrast.name})
    return Figure(name, "draw_cells", (effects,), {"is_adjusted": bool(list_covariates(model))})


def _describe_null(entry: InferenceResult) -> figures.NullPanel:
    found, facts = entry.inference, entry.inference.permutation
    assert facts is not None  # what `list_null_distributions` has
    assert facts.null is not None
    return figures.NullPanel(
        title=entry.label,
        maxima=facts.null,
        cutoff=abs(found.threshold),
        alpha=found.alpha,
        p=float(10.0 ** -found.logp.max()),
        unit=f"|{found.threshold_unit}|" if _is_of_absolute_values(found) else found.threshold_unit,
    )


def _is_of_absolute_values(found: Inference) -> bool:
    return found.tail == "two-sided" and found.threshold_unit in ("t", "z")


def draw_pairs(staging: Staging, pairs: Sequence[Pair], painters: Painters) -> None:
    """Draw every contrast that two nodes have, in the same slices of both.

    Parameters
    ----------
    staging : Staging
    pairs : sequence of Pair
    painters : Painters
    """
    wanted = [figure for pair in pairs for figure in _list_pair_figures(pair)]
    for figure, picture in painters.draw(wanted):
        staging.write_bytes(figure.name, picture.png)


def _list_pair_figures(pair: Pair) -> Iterator[Figure]:
    if pair.figure is None:
        return
    shown, test = choose_shown(pair), pair.first[1].test
    images = [
        _make_kept_images(model, contrast, None if shown is None else shown[place])
        for place, (model, contrast) in enumerate((pair.first, pair.second))
    ]
    options = {
        "colour_limit": max(figures.choose_colour_limit(whole) for _, whole in images),
        "signed": test != "F",
        "template": all(model.names.is_in_mni_space for model, _ in (pair.first, pair.second)),
    }
    names = [model.node for model, _ in (pair.first, pair.second)]
    yield Figure(f"{node_folder(names[0])}/{pair.figure}", "draw_pair", (images, names), options)


def _make_kept_images(
    model: KeptModel, contrast: KeptContrast, shown: KeptInference | None
) -> tuple[Nifti1Image, Nifti1Image]:
    """Return the z of a contrast where it survives, and the whole of it."""
    assert contrast.z is not None  # what every contrast of a pair has
    mask, affine = model.unpack_mask(), model.grid.affine
    whole = to_volume(contrast.z, mask)
    bits = np.zeros_like(model.mask) if shown is None else shown.survivors.any_sign
    survives = np.unpackbits(bits, count=mask.size).reshape(mask.shape) > 0
    return Nifti1Image(np.where(survives, whole, np.float32(0)), affine), Nifti1Image(whole, affine)
