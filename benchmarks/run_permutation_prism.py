"""prism-neuro as a contestant, permuting within subject as the app does.

python -m benchmarks.run_permutation_prism RESULT LEVEL N       a level of benchmarks.permutation
"""

import sys
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from prism.permutation_inference import permutation_analysis_nifti  # type: ignore[import-not-found]

from benchmarks.contest import Stopwatch, compete
from benchmarks.permutation_study import CONTRAST, load_permutation_study, time_permutations


def run_prism(watch: Stopwatch) -> dict[str, NDArray[np.float64]]:
    """Permute residuals within subject (Freedman-Lane); as many threads as JAX takes.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_voxels,)
        t by contrast.
    """
    level, n_permutations = sys.argv[2], int(sys.argv[3])
    study = load_permutation_study()
    mask = nib.Nifti1Image.from_filename(study.mask_path)

    def permute(n: int) -> dict[str, Any]:
        return permutation_analysis_nifti(
            study.data,
            study.design_matrix,
            study.weights,
            exchangeability_matrix=study.subjects,
            within=True,
            n_permutations=n,
            mask_img=mask,
            tfce=level == "tfce6",
            quiet=True,
        )

    found = time_permutations(watch, permute, n_permutations)
    return {CONTRAST: np.asarray(found["vox_tstat"].dataobj, dtype=np.float64)[study.mask]}


if __name__ == "__main__":
    compete(run_prism)
