"""Batches on Dask workers that are Slurm jobs: as many as there is work for, cancelled when it is done."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import dask
from dask_jobqueue import SLURMCluster
from distributed import Client

import bids_group
from bids_group.engines.cluster import close_quietly, compute_on_cluster, quieten_dask
from bids_group.engines.options import SlurmOptions
from bids_group.errors import UsageError
from bids_group.stats.permutation.engine import ComputeBatches

# Where neither the command line nor Dask's configuration says it.
CPUS, MEMORY_GB = 4, 8.0
# A job that reaches its time limit takes its batch with it, which is no fault of the batch.
ALLOWED_FAILURES = 10
# Seconds between two looks at how much work is left, and looks before an idle job is given back: a minute.
LOOK_SECONDS, LOOKS_BEFORE_DOWN = 1, 60


@contextmanager
def start_slurm(options: SlurmOptions, folder: Path, log_folder: Path) -> Iterator[ComputeBatches]:
    """Start a scheduler in this process, whose workers are Slurm jobs.

    Parameters
    ----------
    options : SlurmOptions
    folder : Path
        Of this run, which the jobs see as well.
    log_folder : Path
        Of the jobs; taken away after success.

    Yields
    ------
    callable
        What computes batches.

    Raises
    ------
    UsageError
        If there is no Slurm here, or it would not take the jobs.
    """
    if shutil.which("sbatch") is None:
        raise UsageError("--slurm: there is no sbatch on the PATH; run it where jobs can be submitted from")
    quieten_dask()
    with (
        _keep_logs_of_failures(log_folder),
        dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES}),
    ):
        cluster = SLURMCluster(**_choose_settings(options, folder, log_folder))
        with close_quietly(cluster):
            _try_job(cluster.job_script())
            cluster.adapt(
                minimum_jobs=0,
                maximum_jobs=options.n_jobs,
                interval=f"{LOOK_SECONDS}s",
                wait_count=LOOKS_BEFORE_DOWN,
            )
            client = Client(cluster, set_as_default=False)
            with close_quietly(client):
                yield partial(compute_on_cluster, client, folder)


@contextmanager
def _keep_logs_of_failures(folder: Path) -> Iterator[None]:
    """Take the logs of jobs away if all went well, or if there are none."""
    try:
        yield
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        for path in (folder, folder.parent):
            with suppress(OSError):
                path.rmdir()


def _choose_settings(options: SlurmOptions, folder: Path, log_folder: Path) -> dict[str, Any]:
    """Return the settings of SLURMCluster; what is not here is Dask's own to configure."""
    configured = dask.config.get("jobqueue.slurm")
    memory = f"{options.memory_gb or MEMORY_GB:g}GB"
    return {
        "cores": options.n_cpus or configured["cores"] or CPUS,
        "memory": memory if options.memory_gb else configured["memory"] or memory,
        "processes": 1,  # with a thread for each processor, which share the data
        "job_extra_directives": [*configured["job-extra-directives"], *options.arguments],
        "job_script_prologue": [*configured["job-script-prologue"], *_name_packages()],
        # Slurm bounds the memory of the job. Dask would count the data, which are mapped and can be dropped.
        "worker_extra_args": [*configured["worker-extra-args"], "--memory-limit", "0"],
        "scheduler_options": {"dashboard": False, "dashboard_address": ":0", **configured["scheduler-options"]},
        "local_directory": configured["local-directory"] or shlex.quote(str(folder)),
        "log_directory": str(log_folder),
        "python": configured["python"] or shlex.quote(sys.executable),
    }


def _name_packages() -> list[str]:
    """Let the jobs import this package where it is run from its source."""
    parent = Path(bids_group.__file__).parent.parent
    return [f'export PYTHONPATH={shlex.quote(str(parent))}"${{PYTHONPATH:+:$PYTHONPATH}}"']


def _try_job(script: str) -> None:
    """Ask Slurm whether it would take a job: a refusal later would be seen by nobody.

    Raises
    ------
    UsageError
        With what Slurm says.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        tried = subprocess.run(["sbatch", "--test-only", file.name], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise UsageError(f"--slurm: Slurm takes no such job: {tried.stderr.strip()}; see --slurm-args")
