"""What every contestant of the permutation benchmark is given: one t contrast of the demo, split as the test splits it.

The module needs numpy, scipy and nibabel only, so that it also runs in an environment without the app's requirements.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import Stopwatch
from benchmarks.study import MASK, N_SUBJECTS, drop_last_column, load_study
from bids_group.column_space import decompose, find_contrast_axes, partition_design

CONTRAST = "FamousUnfamiliar"
CLUSTER_FORMING_P = 0.001  # two-sided; Woo et al. 2014
N_THREADS = 2
N_FEWEST = N_THREADS  # permutations of the run that is subtracted: one for each worker

Result = TypeVar("Result")


@dataclass(frozen=True)
class PermutationStudy:
    """A contrast of repeated measures with pooled errors; rows are permuted within subject.

    Attributes
    ----------
    maps : tuple of Path
        In the order of the rows.
    data : ndarray of float32, shape (n_rows, n_voxels)
        Voxels in C order of the mask.
    mask : ndarray of bool, shape (x, y, z)
    mask_path : Path
    design_matrix : ndarray of float64, shape (n_rows, 24)
        Without the redundant column.
    weights : ndarray of float64, shape (24,)
    interest : ndarray of float64, shape (n_rows, 1)
        What the contrast tests, of unit norm and orthogonal to the nuisance.
    nuisance : ndarray of float64, shape (n_rows, 23)
        Orthonormal.
    subjects : ndarray of int64, shape (n_rows,)
        Number of the subject from 1.
    """

    maps: tuple[Path, ...]
    data: NDArray[np.float32]
    mask: NDArray[np.bool_]
    mask_path: Path
    design_matrix: NDArray[np.float64]
    weights: NDArray[np.float64]
    interest: NDArray[np.float64]
    nuisance: NDArray[np.float64]
    subjects: NDArray[np.int64]

    @property
    def dof(self) -> int:
        """Return the degrees of freedom of the error."""
        return self.design_matrix.shape[0] - self.design_matrix.shape[1]


def load_permutation_study() -> PermutationStudy:
    """Read the demo's maps and split its design.

    Returns
    -------
    PermutationStudy
    """
    study = drop_last_column(load_study())
    (weights,) = (contrast.weights for contrast in study.contrasts if contrast.name == CONTRAST)
    space = decompose(study.design_matrix)
    interest, nuisance = partition_design(space.basis, find_contrast_axes(space, weights)[0])
    mask = np.asarray(nib.Nifti1Image.from_filename(MASK).dataobj) > 0
    n_rows = len(study.maps)
    return PermutationStudy(
        maps=study.maps,
        data=read_maps(study.maps, mask),
        mask=mask,
        mask_path=MASK,
        design_matrix=study.design_matrix,
        weights=weights[0],
        interest=interest,
        nuisance=nuisance,
        subjects=np.repeat(np.arange(1, N_SUBJECTS + 1), n_rows // N_SUBJECTS),
    )


def read_maps(maps: tuple[Path, ...], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Read the voxels of the mask, float32, shape (n_maps, n_voxels)."""
    data = np.empty((len(maps), np.count_nonzero(mask)), dtype=np.float32)
    for row, path in zip(data, maps, strict=True):
        row[:] = np.asarray(nib.Nifti1Image.from_filename(path).dataobj, dtype=np.float32)[mask]
    return data


def time_permutations(watch: Stopwatch, permute: Callable[[int], Result], n_permutations: int) -> Result:
    """Time a run of few permutations and one of many, after a run that compiles and starts what is started once.

    Parameters
    ----------
    watch : Stopwatch
        Receives ``fewest`` and ``all``; what a permutation takes is their difference over that of their numbers.
    permute : callable
        From a number of permutations to a result.
    n_permutations : int

    Returns
    -------
    object
        Of the run of many.
    """
    permute(N_FEWEST)
    with watch.time("fewest"):
        permute(N_FEWEST)
    with watch.time("all"):
        return permute(n_permutations)
