"""Wall time, processor time and peak memory of a command in a process of its own.

Only the standard library is imported here: on Linux a process that is forked inherits the peak memory of its parent,
which must therefore stay smaller than anything that is measured.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

MAXRSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # getrusage counts bytes there, KiB elsewhere


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes
    ----------
    wall, user, system : float
        Seconds; `user` and `system` over all processors, with those of its own children.
    peak_mib : float
        The largest resident set of any one of its processes.
    output : str
        What it printed.
    """

    wall: float
    user: float
    system: float
    peak_mib: float
    output: str


def measure(command: Sequence[str], *, directory: Path, log: Path) -> Usage:
    """Run a command and measure it.

    Parameters
    ----------
    command : sequence of str
    directory : Path
        Where it runs.
    log : Path
        Receives what it prints to standard error.

    Returns
    -------
    Usage

    Raises
    ------
    RuntimeError
        If it fails.
    """
    printed = log.with_suffix(".out")
    with printed.open("w") as out, log.open("w") as err:
        start = perf_counter()
        process = subprocess.Popen(command, cwd=directory, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        wall = perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}; see {log}")
    return Usage(wall, used.ru_utime, used.ru_stime, used.ru_maxrss / MAXRSS_PER_MIB, printed.read_text())
