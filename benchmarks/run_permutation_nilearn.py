"""nilearn's permuted_ols as a contestant, on the partition that the app tests.

python -m benchmarks.run_permutation_nilearn RESULT LEVEL N     a level of benchmarks.permutation
"""

import sys
import warnings
from typing import Any

import numpy as np
from nilearn.maskers import NiftiMasker
from nilearn.mass_univariate import permuted_ols
from numpy.typing import NDArray

from benchmarks.contest import Stopwatch, compete
from benchmarks.permutation_study import (
    CLUSTER_FORMING_P,
    CONTRAST,
    N_THREADS,
    load_permutation_study,
    time_permutations,
)

SETTINGS: dict[str, dict[str, Any]] = {
    "voxel": {},
    "clusters": {"threshold": CLUSTER_FORMING_P},
    "tfce6": {"threshold": CLUSTER_FORMING_P, "tfce": True},
}


def run_nilearn(watch: Stopwatch) -> dict[str, NDArray[np.float64]]:
    """Permute the rows freely, which is all that it can do; a permutation within subject would take as long.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_voxels,)
        t by contrast.
    """
    level, n_permutations = sys.argv[2], int(sys.argv[3])
    study = load_permutation_study()
    masker = NiftiMasker(mask_img=str(study.mask_path)).fit()
    warnings.simplefilter("ignore")

    def permute(n: int) -> dict[str, NDArray[np.float64]]:
        return permuted_ols(
            study.interest,
            study.data,
            study.nuisance,
            model_intercept=False,  # the nuisance spans it
            n_perm=n,
            random_state=0,
            n_jobs=N_THREADS,
            masker=masker,
            **SETTINGS[level],
        )

    return {CONTRAST: time_permutations(watch, permute, n_permutations)["t"][0]}


if __name__ == "__main__":
    compete(run_nilearn)
