"""What a worker does: opens a prepared test once, and computes batches of it."""

import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numba
import numpy as np
import scipy
from threadpoolctl import threadpool_info, threadpool_limits

from bids_group import __version__
from bids_group.engines.packing import unpack_test
from bids_group.errors import UsageError
from bids_group.stats.permutation.batch import BatchResult, PreparedTest, make_workspace, run_batch
from bids_group.stats.permutation.sources import Workspace

# What the last bit of a number may depend on.
VERSIONS = {
    "bids_group": __version__,
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "numba": numba.__version__,
}


@dataclass(frozen=True)
class OpenTest:
    """A test that this process has mapped.

    Attributes
    ----------
    prepared : PreparedTest
    workspaces : deque of Workspace
        Those that no thread uses at the moment.
    limits : threadpool_limits
        One thread of BLAS: the rounding of its sums must be that of the run itself.
    """

    prepared: PreparedTest
    limits: threadpool_limits
    workspaces: deque[Workspace] = field(default_factory=deque)


_open: dict[str, OpenTest] = {}
_lock = Lock()


def compute_batch(folder: str, versions: Mapping[str, str], start: int, stop: int) -> BatchResult:
    """Compute some of the rearrangements of a test.

    Parameters
    ----------
    folder : str
        Where the test was packed.
    versions : Mapping of str to str
        Those of the run, as VERSIONS.
    start, stop : int
        As of `run_batch`.

    Returns
    -------
    BatchResult

    Raises
    ------
    UsageError
        If the versions here are others, or the folder is not there.
    """
    check_versions({socket.gethostname(): VERSIONS}, versions)
    test = open_test(folder)
    try:
        workspace = test.workspaces.pop()
    except IndexError:
        workspace = make_workspace(test.prepared)
    try:
        return run_batch(test.prepared, start, stop, workspace=workspace)
    finally:
        test.workspaces.append(workspace)


def open_test(folder: str) -> OpenTest:
    """Map a test, or find it among the open ones.

    Parameters
    ----------
    folder : str

    Returns
    -------
    OpenTest
    """
    with _lock:
        if folder not in _open:
            _open[folder] = OpenTest(unpack_test(Path(folder)), threadpool_limits(1))
        return _open[folder]


def close_test(folder: str) -> None:
    """Let go of a test's memory, and give BLAS its threads back.

    Parameters
    ----------
    folder : str
        Of no effect if it is not open.
    """
    with _lock:
        test = _open.pop(folder, None)
        if test is not None:
            test.limits.restore_original_limits()


def name_blas() -> str:
    """Name the kind of processor that BLAS computes for here: sums are rounded alike where it is the same.

    Returns
    -------
    str
    """
    return " and ".join(
        sorted({str(library.get("architecture")) for library in threadpool_info() if library["user_api"] == "blas"})
    )


def check_versions(found: Mapping[str, Mapping[str, str | None]], wanted: Mapping[str, str]) -> None:
    """Make sure that workers have the versions of the run.

    Parameters
    ----------
    found : Mapping of str to Mapping of str to str or None
        By the name of a worker; None for a package that it lacks.
    wanted : Mapping of str to str

    Raises
    ------
    UsageError
        If one has not.
    """
    for worker, versions in found.items():
        for name, version in wanted.items():
            if versions.get(name) != version:
                raise UsageError(
                    f"the worker {worker} has {name} {versions.get(name) or 'not at all'}, but this run {version}; "
                    "install the same requirements-cluster.lock there"
                )
