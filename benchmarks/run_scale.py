"""One study of simulated maps through the stages that grow with it.

python -m benchmarks.run_scale MAPS SIDE_X SIDE_Y SIDE_Z N MEM_GB       MEM_GB 0: no bound
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import nibabel as nib
import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from benchmarks.contest import Stopwatch
from benchmarks.permutation_study import CLUSTER_FORMING_P, N_THREADS
from bids_group.inputs.images import check_grids
from bids_group.inputs.loading import load_group
from bids_group.inputs.map_sources import MapFile
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
N_FILES = 32
LEVELS = ("voxel", "cluster-size", "cluster-mass")


def main() -> None:
    """Run one study and print, as JSON, the seconds of its stages and the memory that each took."""
    n_maps, *box, n_asked = (int(text) for text in sys.argv[1:6])
    memory_gb = float(sys.argv[6]) or None
    with (
        threadpool_limits(1),
        tempfile.TemporaryDirectory() as folder,
        open_storage(Path(folder), memory_gb) as allocate,
        watch_memory() as memory,
    ):
        run_study(Stages(memory), allocate, write_maps(Path(folder), FEW), N_THREADS, n_asked=N_THREADS)  # compiles
        stages = Stages(memory)
        run_study(stages, allocate, write_maps(Path(folder), tuple(box)), n_maps, n_asked=n_asked)
    print(json.dumps({"seconds": stages.watch.seconds, "mib": stages.mib}))


def run_study(stages: "Stages", allocate: Allocate, files: Sequence[MapFile], n_maps: int, *, n_asked: int) -> None:
    """Read maps, fit their mean and permute it."""
    with stages.pass_through("read"):
        sources = [files[number % len(files)] for number in range(n_maps)]
        grid = check_grids([file.path for file in files])
        loaded = load_group(sources, grid, n_threads=N_THREADS, allocate=allocate)
    data, design = loaded.effects, np.ones((n_maps, 1))
    with stages.pass_through("fit"):
        compute_statistic(fit_glm(data, design, [np.ones((1, 1))]), 0, "t")
    interest = design / np.sqrt(n_maps)
    with stages.pass_through("prepare"):
        flips = exchange_freely(n_maps, "flips")
        test = PermutationTest(
            data=data[np.newaxis],
            interest=interest,
            nuisance=np.empty((n_maps, 0)),
            test="t",
            tail="two-sided",
            rearrangements=plan_rearrangements(interest, flips, n_asked=n_asked, seed=SEED),
            mask=loaded.voxels.mask,
            levels=LEVELS,
            cluster_threshold=float(stats.t.isf(CLUSTER_FORMING_P / 2, n_maps - 1)),
        )
        prepared = prepare(test, allocate)
    with stages.pass_through("permute"):
        run_permutations(prepared, n_threads=N_THREADS)


def write_maps(folder: Path, box: tuple[int, ...]) -> list[MapFile]:
    """Write maps of noise, which studies of any size read in turn."""
    rng = np.random.default_rng(SEED)
    paths = [folder / f"{number}.nii.gz" for number in range(N_FILES)]
    for path in paths:
        nib.Nifti1Image(rng.standard_normal(box, dtype=np.float32), np.eye(4)).to_filename(path)
    return [MapFile(path, path.as_uri()) for path in paths]


class Stages:
    """Seconds and memory of each stage."""

    def __init__(self, memory: "Memory") -> None:
        self.watch = Stopwatch()
        self.mib: dict[str, float] = {}
        self._memory = memory

    @contextmanager
    def pass_through(self, stage: str) -> Iterator[None]:
        """Measure a stage."""
        self._memory.peak_mib = 0.0
        with self.watch.time(stage):
            yield
        self._memory.look()
        self.mib[stage] = self._memory.peak_mib


class Memory:
    """The largest memory that is this process's own: pages of mapped files can be dropped, and do not count."""

    peak_mib = 0.0

    def look(self) -> None:
        """Keep what is taken now if it is more than before."""
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (size,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        self.peak_mib = max(self.peak_mib, size / 2**10)


@contextmanager
def watch_memory() -> Iterator[Memory]:
    """Look at the memory all the time."""
    memory, ended = Memory(), Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            memory.look()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
