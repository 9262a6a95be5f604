"""What figures show of a model's maps, taken from them while they are there: little enough to be passed on."""

from collections.abc import Iterable, Iterator

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_group.analysis.coverage import number_subjects
from bids_group.analysis.fitting import FittedModel
from bids_group.inputs.images import AnalysedVoxels, to_volume
from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import ModelPlan
from bids_group.outputs.results import ContrastResult, InputPictures, PeakValues, SubjectViews, choose_headline

MOST_SUBJECTS_SHOWN = 40
MOST_PEAKS_SHOWN = 5


def picture_inputs(
    model: ModelPlan, data: GroupData, fitted: FittedModel, contrasts: Iterable[ContrastResult]
) -> InputPictures:
    """Take from the maps of a model what figures show of them.

    Parameters
    ----------
    model : ModelPlan
    data : GroupData
    fitted : FittedModel
        Of these maps.
    contrasts : iterable of ContrastResult
        Whose largest clusters the maps are read at.
    """
    kept = fitted.voxels.mask[data.voxels.mask]
    sd, n_maps = measure_spread(data.effects, kept, fitted.mean_effect)
    return InputPictures(
        cells=_list_cells(model),
        sd=sd,
        n_maps=n_maps if data.voxels.min_coverage < 1 else None,
        subjects=_view_subjects(model, data, kept, fitted.voxels),
        peaks={one.contrast.label: values for one in contrasts for values in _read_peaks(one, data, kept)},
    )


def measure_spread(
    effects: NDArray[np.float32], kept: NDArray[np.bool_], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Measure the standard deviation over the rows that a voxel has, and count them.

    Parameters
    ----------
    effects : ndarray of float32, shape (n_rows, n_voxels)
        NaN where missing.
    kept : ndarray of bool, shape (n_voxels,)
        The voxels to measure.
    mean : ndarray of float64, shape (n_kept,)
        Over these rows.

    Returns
    -------
    sd : ndarray of float64, shape (n_kept,)
        With n - 1; 0 where a voxel has one row.
    n_rows : ndarray of int64, shape (n_kept,)
    """
    squares, count = np.zeros(len(mean)), np.zeros(len(mean), dtype=np.int64)
    for row in effects:  # not all at once, which would copy the data
        deviation = row[kept] - mean
        present = ~np.isnan(deviation)
        squares[present] += deviation[present] ** 2
        count += present
    return np.sqrt(squares / np.maximum(count - 1, 1)), count


def _list_cells(model: ModelPlan) -> tuple[str, ...]:
    """Name the condition of each map as the partition does: with the entities that tell it from others."""
    if model.partition is None:
        return tuple(model.rows["contrast"].astype(str))
    layout = model.partition.design.layout
    cells = np.empty(layout.rows.size, dtype=object)
    cells[layout.rows] = layout.cells
    return tuple(cells)


def _read_peaks(result: ContrastResult, data: GroupData, kept: NDArray[np.bool_]) -> Iterator[PeakValues]:
    headline = choose_headline(result)
    if headline is None:
        return
    clusters = headline.inference.clusters
    largest = np.sort(np.argsort(-clusters.n_voxels, kind="stable")[:MOST_PEAKS_SHOWN])
    voxels = clusters.peak[largest]
    yield PeakValues(headline.label, largest + 1, voxels, data.effects[:, np.flatnonzero(kept)[voxels]])


def _view_subjects(model: ModelPlan, data: GroupData, kept: NDArray[np.bool_], voxels: AnalysedVoxels) -> SubjectViews:
    """Project the mean of each subject's maps; of many subjects, the first."""
    numbers = number_subjects(model.rows)
    names = np.unique(model.rows["subject"].to_numpy(dtype=str))
    shown = range(min(len(names), MOST_SUBJECTS_SHOWN))
    orientation = nib.io_orientation(voxels.grid.affine)
    views = []
    for subject in shown:
        mean = np.nan_to_num(data.effects[numbers == subject].mean(axis=0)[kept])
        volume = nib.apply_orientation(to_volume(mean, voxels.mask), orientation)
        views.append((_project(volume, 0), _project(volume, 2)))
    from_left, from_above = (np.array(view) for view in zip(*views, strict=True))
    x, y, z = nib.affines.voxel_sizes(voxels.grid.affine)[np.argsort(orientation[:, 0])]
    return SubjectViews(tuple(names[list(shown)]), len(names), from_left, from_above, (float(x), float(y), float(z)))


def _project(volume: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the value furthest from 0 on each line along an axis."""
    furthest = np.argmax(np.abs(volume), axis=axis, keepdims=True)
    return np.take_along_axis(volume, furthest, axis=axis).squeeze(axis)
