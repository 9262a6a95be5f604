"""Maps on disk to a matrix of rows by voxels and back.

Zeros and non-finite values are missing, never data. Each map is read once, straight into its row, in parallel threads
(decompression leaves the interpreter's lock).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import DataError
from bids_group.inputs.nifti import Grid, format_affine, open_map, read_values
from bids_group.inputs.smoothing import smooth_map


@dataclass(frozen=True, kw_only=True)
class AnalysedVoxels:
    """Which voxels of a grid are analysed, and why not others.

    Attributes
    ----------
    mask : ndarray of bool, shape grid.shape
        The analysed voxels.
    grid : Grid
    missing : ndarray of int64, shape (n_rows,)
        Voxels of the search volume (of the fullest map where no mask is given) that each map lacks.
    n_voxels_missing : int
        Voxels of the search volume left out because a map lacks them; 0 without a given mask.
    n_voxels_constant : int
        Voxels left out because the model leaves no residual variance there.
    """

    mask: NDArray[np.bool_]
    grid: Grid
    missing: NDArray[np.int64]
    n_voxels_missing: int
    n_voxels_constant: int = 0

    def leave_out_constant(self, kept: NDArray[np.bool_]) -> "AnalysedVoxels":
        """Return some of the voxels, the others being counted as constant.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_voxels,)
        """
        mask = self.mask.copy()
        mask[self.mask] = kept
        return replace(self, mask=mask, n_voxels_constant=self.n_voxels_constant + int((~kept).sum()))


@dataclass(frozen=True)
class GroupData:
    """The values of all maps of a model.

    Attributes
    ----------
    effects : ndarray of float32, shape (n_rows, n_voxels)
        Rows as in the design; voxels in C order of the mask.
    voxels : AnalysedVoxels
    """

    effects: NDArray[np.float32]
    voxels: AnalysedVoxels


def check_grids(paths: Sequence[Path]) -> Grid:
    """Read all headers and return the grid that the maps share.

    Raises
    ------
    DataError
        If a map's grid differs from the first map's: both shapes and affines are shown.
    """
    with ThreadPoolExecutor() as pool:
        grids = list(pool.map(lambda path: open_map(path)[1], paths))
    for path, grid in zip(paths, grids, strict=True):
        if grid.differs_from(grids[0]):
            raise DataError(describe_grid_difference(path, grid, paths[0], grids[0]))
    return grids[0]


def describe_grid_difference(path: Path, grid: Grid, reference: Path, other: Grid) -> str:
    """Say how two grids differ."""
    return (
        f"{path}: not on the grid of {reference}; resample one to the other\n"
        f"  shape {grid.shape}, affine\n{format_affine(grid.affine)}\n"
        f"  against shape {other.shape}, affine\n{format_affine(other.affine)}"
    )


def read_mask(paths: Sequence[Path], grid: Grid, reference: Path) -> NDArray[np.bool_]:
    """Read masks and return the voxels that are in all of them.

    Parameters
    ----------
    paths : sequence of Path
        Each with the values 0 (or NaN) and one other.
    grid : Grid
        Of the maps.
    reference : Path
        A map on that grid, for messages.

    Raises
    ------
    DataError
        If a mask is on another grid, is not binary, or nothing is left.
    """
    mask = np.ones(grid.shape, dtype=bool)
    for path in paths:
        _, own = open_map(path)
        if own.differs_from(grid):
            raise DataError(describe_grid_difference(path, own, reference, grid))
        values = np.nan_to_num(read_values(path))
        levels = np.unique(values[values != 0])
        if len(levels) > 1:
            raise DataError(f"{path}: not a mask: it has {len(levels)} values besides 0; threshold it first")
        mask &= values != 0
    if not mask.any():
        raise DataError(f"{', '.join(map(str, paths))}: no voxel is in the mask")
    return mask


def load_group(
    paths: Sequence[Path],
    grid: Grid,
    *,
    given_mask: NDArray[np.bool_] | None = None,
    smoothing_fwhm: float = 0.0,
    n_threads: int | None = None,
    allocate: Callable[[tuple[int, int]], NDArray[np.float32]] | None = None,
    report_progress: Callable[[], object] = lambda: None,
) -> GroupData:
    """Read all maps of a model into one matrix of the voxels that every map has.

    Parameters
    ----------
    paths : sequence of Path
        In the order of the design's rows.
    grid : Grid
        What `check_grids` returned.
    given_mask : ndarray of bool, shape grid.shape, or None
        The search volume; None for every voxel.
    smoothing_fwhm : float
        In mm; each map is smoothed over its own voxels before anything else.
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

    def read(path: Path) -> NDArray[np.float32]:
        values = read_values(path)
        return smooth_map(values, smoothing_fwhm, grid.voxel_sizes) if smoothing_fwhm else values

    first_values = read(paths[0])
    first = _is_present(first_values)
    _check_any_present(paths[0], first, given_mask)
    # A voxel that the first map lacks is out whatever the others hold, so it needs no column.
    candidates = first if given_mask is None else given_mask & first
    n_search = int(given_mask.sum()) if given_mask is not None else None
    if not candidates.any():
        raise DataError(f"{paths[0]}: the map and the mask have no voxel in common")
    matrix = (allocate or _allocate)((len(paths), int(candidates.sum())))

    kept = np.ones(matrix.shape[1], dtype=bool)
    counts = np.zeros(len(paths), dtype=np.int64)
    lock = Lock()

    def fill(row: int) -> None:
        values = first_values if row == 0 else read(paths[row])
        present = _is_present(values)
        _check_any_present(paths[row], present, given_mask)
        matrix[row] = values[candidates]
        counts[row] = np.count_nonzero(present if given_mask is None else present[given_mask])
        with lock:
            np.logical_and(kept, present[candidates], out=kept)
        report_progress()

    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass
    if not kept.any():
        raise DataError(_explain_empty_mask(paths, counts))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[candidates] = kept
    union = n_search if n_search is not None else int(counts.max())
    voxels = AnalysedVoxels(
        mask=mask,
        grid=grid,
        missing=union - counts,
        n_voxels_missing=0 if n_search is None else n_search - int(kept.sum()),
    )
    return GroupData(compact_columns(matrix, kept), voxels)


def _allocate(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.empty(shape, dtype=np.float32)


def _is_present(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values != 0)


def _check_any_present(path: Path, present: NDArray[np.bool_], given_mask: NDArray[np.bool_] | None) -> None:
    if not present.any():
        raise DataError(f"{path}: every voxel is zero or not finite; leave the subject out, or make the map again")
    if given_mask is not None and not (present & given_mask).any():
        raise DataError(f"{path}: every voxel within the mask is zero or not finite; check the mask and the map")


def _explain_empty_mask(paths: Sequence[Path], counts: NDArray[np.int64]) -> str:
    least = int(np.argmin(counts))
    return (
        f"no voxel is finite and non-zero in all {len(paths)} maps; the one with the fewest voxels is {paths[least]} "
        f"({counts[least]}, the median is {int(np.median(counts))}); leave it out, or check what its zeros mean"
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


def to_volume(values: NDArray, mask: NDArray[np.bool_], *, fill: float = 0.0) -> NDArray:
    """Put values of the mask's voxels back on the grid.

    Parameters
    ----------
    values : ndarray, shape (n_voxels,)
    mask : ndarray of bool, shape (x, y, z)
    fill : float
        What stands outside the mask.

    Returns
    -------
    ndarray of the dtype of `values`, shape (x, y, z)
    """
    volume = np.full(mask.shape, fill, dtype=values.dtype)
    volume[mask] = values
    return volume
