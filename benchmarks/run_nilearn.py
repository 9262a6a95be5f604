"""nilearn's SecondLevelModel as a contestant, with its defaults, on the same maps, mask and model."""

import warnings

import numpy as np
import pandas as pd
from nilearn.glm.second_level import SecondLevelModel
from nilearn.image import get_data
from numpy.typing import NDArray

from benchmarks.contest import Stopwatch, compete
from benchmarks.study import drop_last_column, load_study


def run_nilearn(watch: Stopwatch) -> dict[str, NDArray[np.float64]]:
    """Fit the demo's model without its redundant column.

    nilearn takes n - p for the degrees of freedom, p the number of columns: 119 with the model as it stands, 120
    without the redundant column, which is right and what the app takes for either.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_voxels,)
        t or F by contrast, voxels in C order of the mask.
    """
    study = drop_last_column(load_study())
    design_matrix = pd.DataFrame(study.design_matrix, columns=list(study.columns))
    maps = [str(path) for path in study.maps]
    # It says of every map that it holds NaN.
    warnings.simplefilter("ignore")
    with watch.time("fit"):
        model = SecondLevelModel(mask_img=str(study.mask)).fit(maps, design_matrix=design_matrix)
    mask = get_data(str(study.mask)) > 0
    statistics = {}
    for contrast in study.contrasts:
        with watch.time("contrasts"):
            images = model.compute_contrast(contrast.weights, second_level_stat_type=contrast.test, output_type="all")
        statistics[contrast.name] = np.asarray(get_data(images["stat"])[mask], dtype=np.float64)
    return statistics


if __name__ == "__main__":
    compete(run_nilearn)
