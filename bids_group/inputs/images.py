"""Which voxels of a grid are analysed, and values of them back on the grid.

Zeros and non-finite values are missing, never data.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import DataError
from bids_group.inputs.nifti import Grid, format_affine, open_map, read_values
from bids_group.inputs.origins import find_origin


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
    finite_share, zero_share : ndarray of float64, shape (n_rows,)
        Of the voxels of the grid, or of the given mask, how many are finite, and how many 0, in each map.
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
    finite_share: NDArray[np.float64]
    zero_share: NDArray[np.float64]
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
    return replace(grids[0], odd_file=next((grid.odd_file for grid in grids if grid.odd_file), None))


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
        Each with the values 0 (or NaN) and one other; or a map of what survived a correction of this app, or of its
        clusters, of which all voxels other than 0 are taken.
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
        if len(levels) > 1 and not _shows_survivors(path):
            raise DataError(f"{path}: not a mask: it has {len(levels)} values besides 0; threshold it first")
        mask &= values != 0
    if not mask.any():
        raise DataError(f"{', '.join(map(str, paths))}: no voxel is in the mask")
    return mask


def _shows_survivors(path: Path) -> bool:
    origin = find_origin(path)
    return origin is not None and origin.shows_survivors


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
