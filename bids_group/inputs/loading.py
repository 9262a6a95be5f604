"""All maps of a model into one matrix of rows by voxels.

Each map is read once, straight into its row, in parallel threads (decompression leaves the interpreter's lock). Where
voxels may lack maps, what is missing is NaN in the matrix.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import DataError
from bids_group.inputs.images import AnalysedVoxels, to_volume
from bids_group.inputs.map_sources import MapSource, list_paths, read_effect, read_effect_and_variance
from bids_group.inputs.nifti import Grid
from bids_group.inputs.smoothing import smooth_map
from bids_group.inputs.storage import Allocate

# A fraction of the maps such as 0.8 of 15 is a whole number but for its rounding.
WHOLE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class GroupData:
    """The values of all maps of a model.

    Attributes
    ----------
    effects : ndarray of float32, shape (n_rows, n_voxels)
        Rows as in the design; voxels in C order of the mask. NaN where a map lacks a voxel that is analysed all the
        same.
    voxels : AnalysedVoxels
    variances : ndarray of float32, shape (n_rows, n_voxels), or None
        Of the effects, where they are asked for.
    """

    effects: NDArray[np.float32]
    voxels: AnalysedVoxels
    variances: NDArray[np.float32] | None = None


def load_group(
    sources: Sequence[MapSource],
    grid: Grid,
    *,
    given_mask: NDArray[np.bool_] | None = None,
    min_coverage: float = 1.0,
    smoothing_fwhm: float = 0.0,
    with_variances: bool = False,
    n_threads: int | None = None,
    allocate: Allocate | None = None,
    report_progress: Callable[[], object] = lambda: None,
) -> GroupData:
    """Read all maps of a model into one matrix of the voxels that every map has, or enough of the maps.

    Parameters
    ----------
    sources : sequence of MapSource
        In the order of the design's rows.
    grid : Grid
        What `check_grids` returned.
    given_mask : ndarray of bool, shape grid.shape, or None
        The search volume; None for every voxel.
    min_coverage : float
        The fraction of the maps that must have a voxel, above 0 and at most 1.
    smoothing_fwhm : float
        In mm; each row's map is smoothed over its own voxels before anything else.
    with_variances : bool
        Whether the variances of the effects are read as well; a voxel without one is missing.
    n_threads : int or None
    allocate : callable or None
        From a shape to the float32 array to fill, for data that do not fit into memory.
    report_progress : callable
        Called after each map.

    Returns
    -------
    GroupData

    Raises
    ------
    DataError
        If a map is damaged or all missing, or no voxel is left.
    """

    reader = _Reader(sources, smoothing_fwhm, grid.voxel_sizes, with_variances, given_mask)
    n_rows, n_needed = len(sources), count_needed(len(sources), min_coverage)
    first = reader.read(0)
    candidates = _find_candidates(reader, first[1][0], n_rows - n_needed + 1, given_mask, n_threads)
    allocate = allocate or _allocate
    matrices = [allocate((n_rows, int(candidates.sum()))) for _ in first[1]]
    n_present = np.zeros(matrices[0].shape[1], dtype=np.int32)
    counts = np.zeros(n_rows, dtype=np.int64)
    finite_share, zero_share = np.zeros((2, n_rows))
    lock = Lock()

    def fill(row: int) -> None:
        effect, maps = first if row == 0 else reader.read(row)
        present = _is_present(maps[0])
        here = present[candidates]
        for matrix, values in zip(matrices, maps, strict=True):
            matrix[row] = values[candidates]
            matrix[row, ~here] = np.nan
        searched = np.s_[:] if given_mask is None else given_mask
        finite_share[row], zero_share[row] = np.isfinite(effect[searched]).mean(), (effect[searched] == 0).mean()
        counts[row] = np.count_nonzero(present[searched])
        with lock:
            np.add(n_present, here, out=n_present)
        report_progress()

    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(fill, range(n_rows)):
            pass
    kept = n_present >= n_needed
    if not kept.any():
        raise DataError(_explain_empty_mask(sources, counts, n_needed))
    n_search = int(counts.max()) if given_mask is None else int(given_mask.sum())
    voxels = AnalysedVoxels(
        mask=to_volume(kept, candidates),
        grid=grid,
        missing=n_search - counts,
        finite_share=finite_share,
        zero_share=zero_share,
        n_voxels_missing=0 if given_mask is None else n_search - int(kept.sum()),
        min_coverage=min_coverage,
        complete=to_volume(n_present == n_rows, candidates) if n_needed < n_rows else None,
    )
    effects, *variances = (compact_columns(matrix, kept) for matrix in matrices)
    return GroupData(effects, voxels, variances[0] if variances else None)


@dataclass(frozen=True)
class _Reader:
    """Reads or computes the map of a row, and its variance where that is asked for."""

    sources: Sequence[MapSource]
    smoothing_fwhm: float
    voxel_sizes: tuple[float, float, float]
    with_variances: bool
    given_mask: NDArray[np.bool_] | None

    def read(self, row: int) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], ...]]:
        """Return the effect as it is, then what enters the matrices: itself, and its variance if asked for.

        In the matrices it is not finite where it has no variance.
        """
        source = self.sources[row]
        if not self.with_variances:
            effect = read_effect(source)
            if self.smoothing_fwhm:
                effect = smooth_map(effect, self.smoothing_fwhm, self.voxel_sizes)
            maps: tuple[NDArray[np.float32], ...] = (effect,)  # smoothed, if at all
        else:
            effect, variance = read_effect_and_variance(source)
            maps = (np.where(np.isfinite(variance) & (variance > 0), effect, np.float32(np.nan)), variance)
        _check_any_present(list_paths(source)[0], _is_present(maps[0]), self.given_mask)
        return effect, maps


def count_needed(n_maps: int, min_coverage: float) -> int:
    """Return how many maps a voxel needs: ``min_coverage * n_maps``, rounded up, at least one.

    Parameters
    ----------
    n_maps : int
    min_coverage : float
        Above 0 and at most 1.

    Returns
    -------
    int

    Examples
    --------
    >>> count_needed(15, 0.8), count_needed(16, 0.8)
    (12, 13)
    """
    return max(1, int(np.ceil(min_coverage * n_maps - WHOLE_TOLERANCE)))


def _find_candidates(
    reader: _Reader,
    first_values: NDArray[np.float32],
    n_maps: int,
    given_mask: NDArray[np.bool_] | None,
    n_threads: int | None,
) -> NDArray[np.bool_]:
    """Return the voxels that any of the first maps has, one map more than a voxel may lack.

    A voxel that all of these lack is out whatever the others hold, so it needs no column.
    """
    candidates = _is_present(first_values)
    with ThreadPoolExecutor(n_threads) as pool:
        for present in pool.map(lambda row: _is_present(reader.read(row)[1][0]), range(1, n_maps)):
            candidates |= present
    return candidates if given_mask is None else given_mask & candidates


def _allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.empty(shape, dtype=np.float32)


def _is_present(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values != 0)


def _check_any_present(path: Path, present: NDArray[np.bool_], given_mask: NDArray[np.bool_] | None) -> None:
    if not present.any():
        raise DataError(f"{path}: every voxel is zero or not finite; leave the subject out, or make the map again")
    if given_mask is not None and not (present & given_mask).any():
        raise DataError(f"{path}: every voxel within the mask is zero or not finite; check the mask and the map")


def _explain_empty_mask(sources: Sequence[MapSource], counts: NDArray[np.int64], n_needed: int) -> str:
    least = int(np.argmin(counts))
    n_maps = len(sources)
    which = f"all {n_maps} maps" if n_needed == n_maps else f"{n_needed} of the {n_maps} maps"
    return (
        f"no voxel is finite and non-zero in {which}; the one with the fewest voxels is "
        f"{list_paths(sources[least])[0]} ({counts[least]}, the median is {int(np.median(counts))}); leave it out, or "
        "check what its zeros mean"
    )


def compact_columns(matrix: NDArray[np.float32], kept: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Drop columns in place, so that the peak of memory is one matrix and not two.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n_rows, n_columns), C-contiguous
        Overwritten.
    kept : ndarray of bool, shape (n_columns,)

    Returns
    -------
    ndarray of float32, shape (n_rows, kept.sum())
        A view of the same memory.
    """
    if kept.all():
        return matrix
    n_rows, n_kept = len(matrix), int(kept.sum())
    flat = matrix.reshape(-1)
    for row in range(n_rows):  # a row never overtakes the one that it is read from
        flat[row * n_kept : (row + 1) * n_kept] = matrix[row, kept]
    return flat[: n_rows * n_kept].reshape(n_rows, n_kept)
