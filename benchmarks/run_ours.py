"""The app's own functions as a contestant: maps on disk to statistic, z, p, effect and variance of each contrast."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import Stopwatch, compete
from benchmarks.study import load_study
from bids_group.inputs.images import check_grids, read_mask, to_volume
from bids_group.inputs.loading import load_group
from bids_group.inputs.map_sources import MapFile
from bids_group.stats.glm import Statistic, compute_p, compute_statistic, compute_z, fit_glm


def run_ours(watch: Stopwatch) -> dict[str, NDArray[np.float64]]:
    """Fit the demo's model as it stands, of rank 24 with 25 columns.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_voxels,)
        t or F by contrast, voxels in C order of the mask.
    """
    study = load_study()
    with watch.time("read"):
        grid = check_grids(study.maps)
        mask = read_mask([study.mask], grid, study.maps[0])
        data = load_group([MapFile(path, path.name) for path in study.maps], grid, given_mask=mask)
    with watch.time("fit"):
        fit = fit_glm(data.effects, study.design_matrix, [contrast.weights for contrast in study.contrasts])
    statistics = {}
    for index, contrast in enumerate(study.contrasts):
        with watch.time("contrasts"):
            statistic = compute_statistic(fit, index, contrast.test)
            make_volumes(statistic, data.voxels.mask)
        statistics[contrast.name] = statistic.value
    return statistics


def make_volumes(statistic: Statistic, mask: NDArray[np.bool_]) -> list[NDArray]:
    """Make the volumes that nilearn makes of a contrast: statistic, z, p, and for t its effect and variance."""
    values = [statistic.value, compute_z(statistic), compute_p(statistic), statistic.effect, statistic.variance]
    return [to_volume(value, mask) for value in values if value is not None]


if __name__ == "__main__":
    compete(run_ours)
