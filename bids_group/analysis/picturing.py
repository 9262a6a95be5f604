"""What figures show of a model's maps, taken from them while they are there: little enough to be passed on."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_group.analysis.coverage import number_subjects
from bids_group.analysis.fitting import FittedModel
from bids_group.inputs.images import AnalysedVoxels, to_volume
from bids_group.inputs.loading import GroupData
from bids_group.inputs.nifti import Grid, open_map, read_values
from bids_group.inputs.plan import ModelPlan
from bids_group.inputs.subject_maps import SubjectMaps
from bids_group.outputs.results import (
    ContrastResult,
    InputPictures,
    PeakValues,
    SubjectView,
    SubjectViews,
    choose_headline,
)

MOST_SUBJECTS_SHOWN = 40
MOST_PEAKS_SHOWN = 5


def picture_inputs(
    model: ModelPlan,
    data: GroupData,
    fitted: FittedModel,
    contrasts: Iterable[ContrastResult],
    *,
    subject_maps: SubjectViews | None = None,
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
    subject_maps : SubjectViews or None
        Of maps that are not analysed.
    """
    kept = fitted.voxels.mask[data.voxels.mask]
    sd, n_maps = measure_spread(data.effects, kept, fitted.mean_effect)
    return InputPictures(
        cells=_list_cells(model),
        sd=sd,
        n_maps=n_maps if data.voxels.min_coverage < 1 else None,
        subjects=_view_subjects(model, data, kept, fitted.voxels),
        peaks={one.contrast.label: values for one in contrasts for values in _read_peaks(one, data, kept)},
        subject_maps=subject_maps,
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
    means = (np.nan_to_num(data.effects[numbers == subject].mean(axis=0)[kept]) for subject in shown)
    views = tuple(_view(to_volume(mean, voxels.mask), voxels.grid) for mean in means)
    return SubjectViews(tuple(names[list(shown)]), len(names), views)


def view_subject_maps(maps: SubjectMaps) -> SubjectViews | None:
    """Read maps that are shown and not analysed, each on its own grid; of many subjects, those of the first.

    Parameters
    ----------
    maps : SubjectMaps

    Returns
    -------
    SubjectViews or None
        None where there are no maps.

    Raises
    ------
    DataError, MissingInputError, ReadWriteError
        If one cannot be read.
    """
    if not maps.files:
        return None
    names = tuple(maps.files)[:MOST_SUBJECTS_SHOWN]
    files = [maps.files[name] for name in names]
    views = tuple(None if file is None else _view(_read_finite(file.path), open_map(file.path)[1]) for file in files)
    return SubjectViews(names, len(maps.files), views, title=maps.title, unit=maps.unit)


def _read_finite(path: Path) -> NDArray[np.float32]:
    values = read_values(path)
    return np.where(np.isfinite(values), values, np.float32(0))


def _view(values: NDArray[np.float32], grid: Grid) -> SubjectView:
    orientation = nib.io_orientation(grid.affine)
    volume = nib.apply_orientation(values, orientation)
    x, y, z = nib.affines.voxel_sizes(grid.affine)[np.argsort(orientation[:, 0])]
    return SubjectView(_project(volume, 0), _project(volume, 2), (float(x), float(y), float(z)))


def _project(volume: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the value furthest from 0 on each line along an axis."""
    furthest = np.argmax(np.abs(volume), axis=axis, keepdims=True)
    return np.take_along_axis(volume, furthest, axis=axis).squeeze(axis)
