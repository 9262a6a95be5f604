"""One study of simulated maps through the stages that grow with it.

python -m benchmarks.run_scale MAPS SIDE_X SIDE_Y SIDE_Z N MEM_GB       MEM_GB 0: no bound
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from benchmarks.contest import Stopwatch
from benchmarks.permutation_study import CLUSTER_FORMING_P, N_THREADS
from bids_group.inputs.storage import Allocate, open_storage
from bids_group.stats.glm import compute_statistic, fit_glm
from bids_group.stats.permutation.batch import prepare
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.engine import run_permutations
from bids_group.stats.permutation.exchangeability import exchange_freely
from bids_group.stats.permutation.rearrange import plan_rearrangements

SEED = 0
SECONDS_BETWEEN_LOOKS = 0.05
FEW = (4, 4, 4)
LEVELS = ("voxel", "cluster-size", "cluster-mass")


def main() -> None:
    """Run one study and print, as JSON, the seconds of its stages and the memory that it took."""
    n_maps, *box, n_asked = (int(text) for text in sys.argv[1:6])
    memory_gb = float(sys.argv[6]) or None
    watch = Stopwatch()
    with (
        threadpool_limits(1),
        tempfile.TemporaryDirectory() as folder,
        open_storage(Path(folder), memory_gb) as allocate,
        watch_memory() as peak,
    ):
        run_study(watch, allocate, n_maps, FEW, n_asked=N_THREADS)  # compiles
        watch.seconds.clear()
        run_study(watch, allocate, n_maps, tuple(box), n_asked=n_asked)
    print(json.dumps({"seconds": watch.seconds, "anonymous_mib": peak[0]}))


def run_study(watch: Stopwatch, allocate: Allocate, n_maps: int, box: tuple[int, ...], *, n_asked: int) -> None:
    """Simulate maps, fit their mean and permute it."""
    with watch.time("simulate"):
        data = simulate_maps(allocate, n_maps, int(np.prod(box)))
    design = np.ones((n_maps, 1))
    with watch.time("fit"):
        compute_statistic(fit_glm(data, design, [np.ones((1, 1))]), 0, "t")
    interest = design / np.sqrt(n_maps)
    with watch.time("prepare"):
        flips = exchange_freely(n_maps, "flips")
        test = PermutationTest(
            data=data[np.newaxis],
            interest=interest,
            nuisance=np.empty((n_maps, 0)),
            test="t",
            tail="two-sided",
            rearrangements=plan_rearrangements(interest, flips, n_asked=n_asked, seed=SEED),
            mask=np.ones(box, dtype=bool),
            levels=LEVELS,
            cluster_threshold=float(stats.t.isf(CLUSTER_FORMING_P / 2, n_maps - 1)),
        )
        prepared = prepare(test, allocate)
    with watch.time("permute"):
        run_permutations(prepared, n_threads=N_THREADS)


def simulate_maps(allocate: Allocate, n_maps: int, n_voxels: int) -> NDArray[np.float32]:
    """Draw maps of noise, one at a time."""
    rng = np.random.default_rng(SEED)
    data = allocate((n_maps, n_voxels))
    for row in data:
        row[:] = rng.standard_normal(n_voxels, dtype=np.float32)
    return data


@contextmanager
def watch_memory() -> Iterator[list[float]]:
    """Measure the largest memory that is this process's own: pages of mapped files can be dropped, and do not count.

    Yields
    ------
    list of one float
        MiB, so far.
    """
    peak, ended = [0.0], Event()

    def look() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            (size,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            peak[0] = max(peak[0], size / 2**10)

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
