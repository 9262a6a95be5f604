"""The app's permutation engine as a contestant.

python -m benchmarks.run_permutation_ours RESULT LEVEL N        a level of benchmarks.permutation, or large
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from benchmarks.contest import Stopwatch, compete
from benchmarks.permutation_study import CLUSTER_FORMING_P, CONTRAST, N_THREADS, load_permutation_study
from bids_group.column_space import decompose, find_contrast_axes, partition_design
from bids_group.stats.permutation.batch import prepare
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.engine import run_permutations
from bids_group.stats.permutation.exchangeability import exchange_freely, exchange_within
from bids_group.stats.permutation.kernels import BATCH, TILE
from bids_group.stats.permutation.rearrange import plan_rearrangements

CLUSTERS = ("voxel", "cluster-size", "cluster-mass")
SETTINGS: dict[str, dict[str, Any]] = {
    "voxel": {"levels": ("voxel",)},
    "clusters": {"levels": CLUSTERS},
    "tfce6": {"levels": (*CLUSTERS, "tfce")},
    "tfce26": {"levels": (*CLUSTERS, "tfce"), "connectivity": 26},
}
SEED = 0
LARGE_ROWS, LARGE_BOX = 1000, (46, 50, 100)  # maps, and 230,000 voxels: a brain at 2 mm
FEW_VOXELS = (4, 4, 4)
FLOOR_BATCHES = 50


def run_ours(watch: Stopwatch) -> dict[str, NDArray[np.float64]]:
    """Run one test, from its data in memory to its p.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_voxels,)
        t by contrast.
    """
    level, n_asked = sys.argv[2], int(sys.argv[3])
    options = state_large_test() if level == "large" else state_test(level)
    exchangeability = options.pop("exchangeability")
    with threadpool_limits(1):  # as the app does: a thread for each batch, one of BLAS in each
        compile_kernels(watch, exchangeability, options)
        with watch.time("plan"):
            rearrangements = plan_rearrangements(options["interest"], exchangeability, n_asked=n_asked, seed=SEED)
            test = PermutationTest(rearrangements=rearrangements, test="t", tail="two-sided", **options)
        with watch.time("prepare"):
            prepared = prepare(test)
        with watch.time("permute"):
            run_permutations(prepared, n_threads=N_THREADS)
        if level in ("voxel", "large"):
            time_floor(watch, prepared.tiles)
    return {CONTRAST: prepared.heights.astype(np.float64)}


def state_test(level: str) -> dict[str, Any]:
    """Return what is tested in the demo, rows permuted within subject."""
    study = load_permutation_study()
    return {
        "data": study.data[np.newaxis],
        "interest": study.interest,
        "nuisance": study.nuisance,
        "mask": study.mask,
        "cluster_threshold": find_threshold(study.dof),
        "exchangeability": exchange_within(study.subjects, "permutations"),
        **SETTINGS[level],
    }


def state_large_test() -> dict[str, Any]:
    """Return the test of two groups of 500 maps of noise."""
    data = np.random.default_rng(SEED).standard_normal((1, LARGE_ROWS, int(np.prod(LARGE_BOX))), dtype=np.float32)
    space = decompose(np.repeat(np.eye(2), LARGE_ROWS // 2, axis=0))
    interest, nuisance = partition_design(space.basis, find_contrast_axes(space, np.array([[1.0, -1.0]]))[0])
    return {
        "data": data,
        "interest": interest,
        "nuisance": nuisance,
        "mask": np.ones(LARGE_BOX, dtype=bool),
        "cluster_threshold": find_threshold(LARGE_ROWS - 2),
        "exchangeability": exchange_freely(LARGE_ROWS, "permutations"),
        **SETTINGS["clusters"],
    }


def find_threshold(dof: int) -> float:
    """Return the cluster-forming t."""
    return float(stats.t.isf(CLUSTER_FORMING_P / 2, dof))


def compile_kernels(watch: Stopwatch, exchangeability: Any, options: dict[str, Any]) -> None:
    """Run the same test on a few voxels, and time it: next to nothing but the compilation."""
    mask = np.ones(FEW_VOXELS, dtype=bool)
    few = options | {"data": options["data"][:, :, : mask.size], "mask": mask}
    with watch.time("compile"):
        rearrangements = plan_rearrangements(options["interest"], exchangeability, n_asked=BATCH, seed=SEED)
        test = PermutationTest(rearrangements=rearrangements, test="t", tail="two-sided", **few)
        run_permutations(prepare(replace(test, cluster_threshold=0.0)))


def time_floor(watch: Stopwatch, tiles: NDArray[np.float32]) -> None:
    """Time the matrix products of FLOOR_BATCHES batches and nothing else, in as many threads."""
    designs = np.random.default_rng(SEED).standard_normal((BATCH, tiles.shape[2]), dtype=np.float32)

    def multiply(_: int) -> None:
        scores = np.empty((BATCH, TILE), dtype=np.float32)
        for tile in tiles:
            np.matmul(designs, tile[0], out=scores)

    with ThreadPoolExecutor(N_THREADS) as executor, watch.time("floor"):
        list(executor.map(multiply, range(FLOOR_BATCHES)))
    watch.seconds["floor"] /= FLOOR_BATCHES * BATCH


if __name__ == "__main__":
    compete(run_ours)
