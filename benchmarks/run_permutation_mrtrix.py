"""MRtrix3's mrclusterstats as a contestant, permuting within subject as the app does.

python -m benchmarks.run_permutation_mrtrix RESULT LEVEL N      a level of benchmarks.permutation
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.contest import Stopwatch, compete
from benchmarks.permutation_study import (
    CLUSTER_FORMING_P,
    CONTRAST,
    N_THREADS,
    PermutationStudy,
    load_permutation_study,
    time_permutations,
)

# It thresholds z. TFCE of t or z with E 0.5, H 2 in steps of 0.1 is its default.
SETTINGS = {
    "clusters": ["-threshold", f"{stats.norm.isf(CLUSTER_FORMING_P / 2):.6f}"],
    "tfce6": [],
    "tfce26": ["-connectivity"],
}


def run_mrtrix(watch: Stopwatch) -> dict[str, NDArray[np.float64]]:
    """Permute within subject; one-sided, which is all that it can do.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_voxels,)
        t by contrast.
    """
    level, n_permutations = sys.argv[2], int(sys.argv[3])
    study = load_permutation_study()
    with TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_inputs(study, folder)

        def permute(n: int) -> None:
            shuffles = ["-nshuffles", str(n), "-exchange_within", "subjects.txt"]
            threads = ["-nthreads", str(N_THREADS), "-force", "-quiet"]
            command = ["mrclusterstats", *inputs, "found_", *shuffles, *SETTINGS[level], *threads]
            subprocess.run(command, cwd=folder, check=True)

        time_permutations(watch, permute, n_permutations)
        return {CONTRAST: read_t(folder, study.mask)}


def write_inputs(study: PermutationStudy, folder: Path) -> list[str]:
    """Write the list of maps, the design, the contrast and the blocks; return the first four arguments."""
    for path in study.maps:  # it takes every path as relative to the list
        (folder / path.name).symlink_to(path)
    (folder / "maps.txt").write_text("".join(f"{path.name}\n" for path in study.maps), encoding="utf-8")
    np.savetxt(folder / "design.txt", study.design_matrix)
    np.savetxt(folder / "contrast.txt", study.weights[np.newaxis])
    np.savetxt(folder / "subjects.txt", study.subjects[:, np.newaxis], fmt="%d")
    return ["maps.txt", "design.txt", "contrast.txt", str(study.mask_path)]


def read_t(folder: Path, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Convert its map of t and read the voxels of the mask."""
    subprocess.run(["mrconvert", "-quiet", "found_tvalue.mif", "t.nii"], cwd=folder, check=True)
    return np.asarray(nib.Nifti1Image.from_filename(folder / "t.nii").dataobj, dtype=np.float64)[mask]


if __name__ == "__main__":
    compete(run_mrtrix)
