"""Where the batches of permutation tests are computed: in this process, by a Dask cluster, or by Slurm jobs."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_group.engines.options import EngineOptions
from bids_group.errors import UsageError
from bids_group.stats.permutation.engine import ComputeBatches


def check_engine(options: EngineOptions) -> None:
    """Make sure that what an engine needs is installed.

    Parameters
    ----------
    options : EngineOptions

    Raises
    ------
    UsageError
        If it is not.
    """
    asked = {"--dask-scheduler": options.dask_scheduler, "--slurm": options.slurm}
    needed = {"--dask-scheduler": ("distributed",), "--slurm": ("distributed", "dask_jobqueue")}
    for option in (option for option, value in asked.items() if value is not None):
        missing = [name for name in needed[option] if importlib.util.find_spec(name) is None]
        if missing:
            raise UsageError(
                f"{option} needs {' and '.join(missing)}, which is not installed here: pip install "
                "'bids-group[cluster]', or install requirements-cluster.lock; or share the work with --shard, which "
                "needs nothing more"
            )


@contextmanager
def open_engine(options: EngineOptions, run_folder: Path, log_folder: Path) -> Iterator[ComputeBatches | None]:
    """Connect to what computes batches, and let go of it afterwards.

    Parameters
    ----------
    options : EngineOptions
    run_folder : Path
        A folder of this run that the workers see as well.
    log_folder : Path
        Where the logs of jobs go; they stay if the run fails.

    Yields
    ------
    callable or None
        What computes batches; None for the threads of this process.

    Raises
    ------
    UsageError
        If there is no such engine here, or its workers cannot do the work.
    InterruptedRunError
        If it cannot be reached.
    """
    check_engine(options)
    if options.dask_scheduler is not None:
        from bids_group.engines.cluster import connect_to_scheduler  # Dask need not be installed

        with connect_to_scheduler(options.dask_scheduler, run_folder) as compute_batches:
            yield compute_batches
    elif options.slurm is not None:
        from bids_group.engines.slurm import start_slurm

        with start_slurm(options.slurm, run_folder, log_folder) as compute_batches:
            yield compute_batches
    else:
        yield None
