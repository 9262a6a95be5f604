"""Maps on disk to a matrix of rows by voxels and back.

Zeros and non-finite values are missing, never data; where voxels may lack maps they are NaN in the matrix. Each map is
read straight into its row, in parallel threads (decompression leaves the interpreter's lock).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import DataError
from bids_group.inputs.nifti import Grid, format_affine, open_map, read_values
from bids_group.inputs.smoothing import smooth_map

# A fraction of the maps such as 0.8 of 15 is a whole number but for its rounding.
WHOLE_TOLERANCE = 1e-9


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
        Voxels of the search volume left out because a map lacks them, or more maps than allowed; 0 without a given
        mask.
    n_voxels_constant : int
        Voxels left out because the model leaves no residual variance there.
    min_coverage : float
        The fraction of the maps that a voxel needs.
    complete : ndarray of bool, shape grid.shape, or None
        The voxels that every map has; None where every analysed voxel is one.
    untestable : Mapping of str to int
        Voxels left out because the maps that they have do not allow the tests, by the reason.
    """

    mask: NDArray[np.bool_]
    grid: Grid
    missing: NDArray[np.int64]
    n_voxels_missing: int
    n_voxels_constant: int = 0
    min_coverage: float = 1.0
    complete: NDArray[np.bool_] | None = None
    untestable: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_voxels_partly(self) -> int:
        """Return the number of analysed voxels that some map lacks."""
        return 0 if self.complete is None else int(np.count_nonzero(self.mask & ~self.complete))

    def leave_out_constant(self, kept: NDArray[np.bool_]) -> "AnalysedVoxels":
        """Return some of the voxels, the others being counted as constant.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_voxels,)
        """
        mask = self.mask.copy()
        mask[self.mask] = kept
        return replace(self, mask=mask, n_voxels_constant=self.n_voxels_constant + int((~kept).sum()))

    def leave_out_untestable(self, kept: NDArray[np.bool_], reasons: Mapping[str, int]) -> "AnalysedVoxels":
        """Return some of the voxels, the others having too few maps for the tests.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_voxels,)
        reasons : Mapping of str to int
            Why the others are left out, and how many of them.
        """
        return replace(self, mask=to_volume(kept, self.mask), untestable=dict(reasons))


@dataclass(frozen=True)
class GroupData:
    """The values of all maps of a model.

    Attributes
    ----------
    effects : ndarray of float32, shape (n_rows, n_voxels)
        Rows as in the design; voxels in C order of the mask. NaN where a map lacks a voxel that is analysed all the
        same.
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
    min_coverage: float = 1.0,
    smoothing_fwhm: float = 0.0,
    n_threads: int | None = None,
    allocate: Callable[[tuple[int, int]], NDArray[np.float32]] | None = None,
    report_progress: Callable[[], object] = lambda: None,
) -> GroupData:
    """Read all maps of a model into one matrix of the voxels that every map has, or enough of the maps.

    Parameters
    ----------
    paths : sequence of Path
        In the order of the design's rows.
    grid : Grid
        What `check_grids` returned.
    given_mask : ndarray of bool, shape grid.shape, or None
        The search volume; None for every voxel.
    min_coverage : float
        The fraction of the maps that must have a voxel, above 0 and at most 1.
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

    n_needed = count_needed(len(paths), min_coverage)
    first_values = read(paths[0])
    candidates = _find_candidates(paths[: len(paths) - n_needed + 1], first_values, given_mask, n_threads)
    matrix = (allocate or _allocate)((len(paths), int(candidates.sum())))
    n_present = np.zeros(matrix.shape[1], dtype=np.int32)
    counts = np.zeros(len(paths), dtype=np.int64)
    lock = Lock()

    def fill(row: int) -> None:
        values = first_values if row == 0 else read(paths[row])
        present = _is_present(values)
        _check_any_present(paths[row], present, given_mask)
        here = present[candidates]
        matrix[row] = values[candidates]
        matrix[row, ~here] = np.nan
        counts[row] = np.count_nonzero(present if given_mask is None else present[given_mask])
        with lock:
            np.add(n_present, here, out=n_present)
        report_progress()

    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass
    kept = n_present >= n_needed
    if not kept.any():
        raise DataError(_explain_empty_mask(paths, counts, n_needed))
    n_search = int(counts.max()) if given_mask is None else int(given_mask.sum())
    voxels = AnalysedVoxels(
        mask=to_volume(kept, candidates),
        grid=grid,
        missing=n_search - counts,
        n_voxels_missing=0 if given_mask is None else n_search - int(kept.sum()),
        min_coverage=min_coverage,
        complete=to_volume(n_present == len(paths), candidates) if n_needed < len(paths) else None,
    )
    return GroupData(compact_columns(matrix, kept), voxels)


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
    paths: Sequence[Path],
    first_values: NDArray[np.float32],
    given_mask: NDArray[np.bool_] | None,
    n_threads: int | None,
) -> NDArray[np.bool_]:
    """Return the voxels that any of the first maps has, one map more than a voxel may lack.

    A voxel that all of these lack is out whatever the others hold, so it needs no column.
    """

    def find_present(path: Path) -> NDArray[np.bool_]:
        present = _is_present(read_values(path))
        _check_any_present(path, present, given_mask)
        return present

    candidates = _is_present(first_values)
    _check_any_present(paths[0], candidates, given_mask)
    with ThreadPoolExecutor(n_threads) as pool:
        for present in pool.map(find_present, paths[1:]):
            candidates |= present
    return candidates if given_mask is None else given_mask & candidates


def _allocate(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.empty(shape, dtype=np.float32)


def _is_present(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values != 0)


def _check_any_present(path: Path, present: NDArray[np.bool_], given_mask: NDArray[np.bool_] | None) -> None:
    if not present.any():
        raise DataError(f"{path}: every voxel is zero or not finite; leave the subject out, or make the map again")
    if given_mask is not None and not (present & given_mask).any():
        raise DataError(f"{path}: every voxel within the mask is zero or not finite; check the mask and the map")


def _explain_empty_mask(paths: Sequence[Path], counts: NDArray[np.int64], n_needed: int) -> str:
    least = int(np.argmin(counts))
    which = f"all {len(paths)} maps" if n_needed == len(paths) else f"{n_needed} of the {len(paths)} maps"
    return (
        f"no voxel is finite and non-zero in {which}; the one with the fewest voxels is {paths[least]} "
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
