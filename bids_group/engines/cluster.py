"""Batches on the workers of a Dask cluster, whoever started it."""

import logging
import os
import pydoc
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker, as_completed
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.core import CommClosedError
from distributed.comm.registry import get_backend

from bids_group.engines.packing import pack_test
from bids_group.engines.worker import VERSIONS, check_versions, close_test, compute_batch, name_blas
from bids_group.errors import InterruptedRunError, UsageError
from bids_group.stats.permutation.batch import BatchResult, PreparedTest
from bids_group.stats.permutation.engine import ComputeBatches, merge_batches

CONNECT_SECONDS = 15
PATIENCE_SECONDS = 30  # for a worker, before the user is told that there is none
# A scheduler spends about a millisecond on each task; more of them would not share the work better.
MOST_TASKS = 2000
RETRIES = 2  # of a batch that failed, for a file system that stumbled; one that was lost is computed again anyway
# What is told of a connection that ended, by the call that was under way.
LOST = (CancelledError, CommClosedError, OSError)
NOISY_LOGGERS = ("distributed", "dask_jobqueue", "tornado")  # what they tell as tracebacks is said once, in words
logger = logging.getLogger("bids_group")


@contextmanager
def connect_to_scheduler(address: str, folder: Path) -> Iterator[ComputeBatches]:
    """Connect to a scheduler that runs already.

    Parameters
    ----------
    address : str
        Such as ``tcp://host:8786``; of ``tls://`` the certificates are those of Dask's configuration.
    folder : Path
        Of this run, which the workers see as well.

    Yields
    ------
    callable
        What computes batches.

    Raises
    ------
    UsageError
        If it is no address, or workers have other versions or do not see the folder.
    InterruptedRunError
        If it cannot be reached.
    """
    quieten_dask()
    try:  # an address that a client stumbles over would leave it half made
        scheme, place = parse_address(address)
        get_backend(scheme)
        parse_host_port(place)
    except ValueError as error:
        raise UsageError(f"--dask-scheduler {address}: no address such as tcp://host:8786: {error}") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise InterruptedRunError(
            f"--dask-scheduler {address}: no scheduler answers there; start it, then run the same command again"
        ) from error
    with close_quietly(client):
        check_workers(client, folder)
        yield partial(compute_on_cluster, client, folder)


def quieten_dask() -> None:
    """Keep Dask's own log, which repeats what is told here, from standard error unless much is to be said."""
    if not logger.isEnabledFor(logging.DEBUG):
        # Dask's own configuration gives some of the loggers below these a level of their own.
        for name in (
            *NOISY_LOGGERS,
            *(one for one in logging.root.manager.loggerDict if one.startswith(NOISY_LOGGERS)),
        ):
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def close_quietly(resource: Any) -> Iterator[None]:
    """Close a client or cluster afterwards; whether the other side still answers does not matter."""
    try:
        yield
    finally:
        with suppress(*LOST):
            resource.close()


def check_workers(client: Client, folder: Path) -> None:
    """Make sure that the workers there are can do the work.

    Parameters
    ----------
    client : Client
    folder : Path
        Of this run.

    Raises
    ------
    UsageError
        If one has other versions, or does not see the folder.
    """
    # Functions of the standard library: a worker that lacks this package can still answer.
    found = {name: client.run(pydoc.locate, f"{name}.__version__") for name in VERSIONS}
    check_versions({worker: {name: found[name][worker] for name in VERSIONS} for worker in found["numpy"]}, VERSIONS)
    for worker, sees in client.run(os.path.isdir, str(folder)).items():
        if not sees:
            raise UsageError(f"the worker {worker} does not see {folder}; name a --work-dir that all workers share")
    here = name_blas()
    for worker, there in client.run(name_blas).items():
        if there != here:
            logger.warning(
                "the worker %s computes with the BLAS of %s, this run with that of %s: last digits may differ; to have "
                "them the same, export OPENBLAS_CORETYPE=Haswell for all",
                *(worker, there, here),
            )


def compute_on_cluster(
    client: Client, folder: Path, prepared: PreparedTest, batches: Sequence[tuple[int, int]]
) -> Iterator[BatchResult]:
    """Yield the results of batches as the workers end them.

    The test is a file that each worker maps once; a task is little more than its name. What was on a worker that is
    lost is computed by another.

    Parameters
    ----------
    client : Client
    folder : Path
        Of this run, which the workers see as well.
    prepared : PreparedTest
    batches : sequence of (int, int)

    Yields
    ------
    BatchResult

    Raises
    ------
    InterruptedRunError
        If the scheduler is lost, or one batch after another ends its worker.
    UsageError
        If a worker that came later has other versions, or does not see the folder.
    """
    if not batches:
        return
    packed = Path(tempfile.mkdtemp(prefix="test-", dir=folder))
    packed.chmod(folder.stat().st_mode)
    pack_test(prepared, packed)
    try:
        futures = [
            client.submit(compute_batch, str(packed), VERSIONS, start, stop, pure=False, retries=RETRIES)
            for start, stop in merge_batches(batches, MOST_TASKS)
        ]
        _await_worker(client)
        for future in as_completed(futures, loop=client.loop):
            yield future.result()
    except KilledWorker as error:
        raise InterruptedRunError(
            "workers were lost one after another with the same batch; they may need more memory. What was done is "
            "kept; run the same command again"
        ) from error
    except LOST as error:
        raise InterruptedRunError(
            "the connection to the Dask scheduler was lost; what was done is kept; run the same command again"
        ) from error
    finally:
        _release(client, packed)


def _release(client: Client, packed: Path) -> None:
    """Let workers and disk go of a test."""
    with suppress(*LOST, RuntimeError, ValueError):  # of a client that is closed
        client.run(close_test, str(packed), on_error="ignore")
    shutil.rmtree(packed, ignore_errors=True)


def _await_worker(client: Client) -> None:
    """Wait for the first worker, and tell it."""
    waited = 0
    while client.status == "running" and not client.scheduler_info()["workers"]:
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=PATIENCE_SECONDS)
            return
        waited += PATIENCE_SECONDS
        logger.warning("no worker has come for %d s; the run waits on", waited)
