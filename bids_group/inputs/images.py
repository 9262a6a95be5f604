"""Maps on disk to a matrix of rows by voxels and back: the only reader of input maps.

Zeros and non-finite values are missing, never data. Each map is read once, straight into its row, in parallel threads
(decompression leaves the interpreter's lock).
"""

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bids_group.errors import DataError, MissingInputError, ReadWriteError

GRID_TOLERANCE_MM = 0.01  # affines are stored as float32; a shift that matters is far larger
ALIGNED_SPACE = 2  # NIfTI: aligned to something; what an affine means when its header does not say
LARGEST_GRID = 2**31  # voxels; a header that declares more is damaged


@dataclass(frozen=True)
class Grid:
    """The grid that all maps of a model share.

    Attributes
    ----------
    shape : tuple of int, length 3
    affine : ndarray of float64, shape (4, 4)
        From voxel indices to millimetres.
    space_code : int
        NIfTI's code of the space that the affine leads to (4 for MNI).
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    space_code: int = ALIGNED_SPACE

    @property
    def voxel_sizes(self) -> tuple[float, float, float]:
        """Return the edge lengths of a voxel in mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)

    @property
    def voxel_volume(self) -> float:
        """Return the volume of a voxel in cubic mm."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def differs_from(self, other: "Grid") -> bool:
        """Return whether the grids differ in shape, or a corner lies elsewhere."""
        if self.shape != other.shape:
            return True
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], [1.0]), axis=-1).reshape(-1, 4)
        distances = np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1)
        return not bool(np.all(distances <= GRID_TOLERANCE_MM))


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


def open_map(path: Path) -> tuple[nib.Nifti1Image, Grid]:
    """Open a map and read its header.

    Raises
    ------
    MissingInputError, ReadWriteError
        If the file is not there or cannot be read.
    DataError
        If it is no NIfTI file, or not three-dimensional (trailing dimensions of length one are dropped).
    """
    try:
        image = nib.load(path)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: there is no such file") from error
    except (ImageFileError, HeaderDataError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not a readable NIfTI file: {error}") from error
    except OSError as error:
        raise _file_error(path, error) from error
    if not isinstance(image, nib.Nifti1Image):
        raise DataError(f"{path}: not a NIfTI file but {type(image).__name__}; convert it to .nii or .nii.gz")
    code = int(image.header["sform_code"]) or int(image.header["qform_code"]) or ALIGNED_SPACE
    return image, Grid(_check_shape(path, image.shape), _check_affine(path, image.affine), code)


def _file_error(path: Path, error: OSError) -> DataError | ReadWriteError:
    """Tell damaged content (gzip raises OSError too) from a failing file system."""
    if error.errno is None:
        return DataError(f"{path}: not a readable NIfTI file: {error}; it may be truncated, copy it again")
    return ReadWriteError(f"{path}: cannot be read: {error.strerror}")


def _check_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise DataError(f"{path}: its shape is {shape}; a map must be 3-D (one volume): split it, or average it")
    if any(n < 1 for n in shape) or np.prod(shape, dtype=float) > LARGEST_GRID:
        raise DataError(f"{path}: its header declares the shape {shape}; the file is damaged")
    return int(shape[0]), int(shape[1]), int(shape[2])


def _check_affine(path: Path, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{path}: its affine is not invertible; set its sform:\n{format_affine(affine)}")
    return np.asarray(affine, dtype=np.float64)


def format_affine(affine: NDArray[np.float64]) -> str:
    """Write an affine over four lines."""
    return "\n".join("    " + " ".join(f"{value:10.4f}" for value in row) for row in affine)


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


def read_values(path: Path) -> NDArray[np.float32]:
    """Read a map's values, scaled as its header says.

    Returns
    -------
    ndarray of float32, shape grid.shape
        A number too large for float32 is infinite, hence missing.

    Raises
    ------
    DataError
        If the values cannot be read or are no real numbers.
    """
    image, grid = open_map(path)
    if image.get_data_dtype().kind not in "iufb":
        raise DataError(f"{path}: its values are {image.get_data_dtype()}; a map must hold real numbers")
    try:
        values = np.asanyarray(image.dataobj)
    except (EOFError, zlib.error, ValueError, OverflowError, ImageFileError) as error:
        raise DataError(f"{path}: damaged: {error}; it may be truncated, copy it again") from error
    except OSError as error:
        raise _file_error(path, error) from error
    with np.errstate(over="ignore"):
        return values.reshape(grid.shape).astype(np.float32, copy=False)


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
    first = _is_present(read_values(paths[0]))
    _check_any_present(paths[0], first, given_mask)
    # A voxel that the first map lacks is out whatever the others hold, so it needs no column.
    candidates = first if given_mask is None else given_mask & first
    n_search = int(given_mask.sum()) if given_mask is not None else None
    if not candidates.any():
        raise DataError(f"{paths[0]}: the map and the mask have no voxel in common")
    matrix = (allocate or _allocate)((len(paths), int(candidates.sum())))

    def fill(row: int) -> tuple[NDArray[np.bool_], int]:
        values = read_values(paths[row])
        present = _is_present(values)
        _check_any_present(paths[row], present, given_mask)
        matrix[row] = values[candidates]
        report_progress()
        searched = present if given_mask is None else present[given_mask]
        return present[candidates], int(searched.sum())

    with ThreadPoolExecutor(n_threads) as pool:
        filled = list(pool.map(fill, range(len(paths))))
    kept = np.logical_and.reduce([present for present, _ in filled])
    counts = np.array([count for _, count in filled])
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
