"""What the command line says of where permutations run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SlurmOptions:
    """What is asked of Slurm.

    Attributes
    ----------
    n_jobs : int
        At a time, at most.
    n_cpus : int or None
        Of each job; None for what Dask's configuration says.
    memory_gb : float or None
        Of each job, in units of 1e9 bytes; None for what Dask's configuration says.
    arguments : tuple of str
        Further options of `sbatch`, one each.
    """

    n_jobs: int
    n_cpus: int | None = None
    memory_gb: float | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineOptions:
    """Where batches are computed; with neither, in this process.

    Attributes
    ----------
    dask_scheduler : str or None
        The address of a scheduler that runs.
    slurm : SlurmOptions or None
    """

    dask_scheduler: str | None = None
    slurm: SlurmOptions | None = None
