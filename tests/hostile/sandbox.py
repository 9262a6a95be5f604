"""The app in a process of its own whose time and memory are bounded, and what it did there."""

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import bids.layout  # noqa: F401 - once here, not in every process
import formulaic  # noqa: F401

import bids_group.workflow  # noqa: F401
from bids_group.cli import main

SECONDS = 60  # of waiting; what hangs never ends, and what is slow on a loaded machine does
MEMORY_BYTES = 2**30  # of address space, beyond what the tests themselves take
DOCUMENTED_CODES = (0, 16, 17, 18, 64, 65, 66, 73, 74)  # of docs/errors.md, those that an input can cause


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    code : int or None
        The exit code; None where the run had to be killed.
    said : str
        What it wrote to stderr.
    printed : str
        What it wrote to stdout.
    """

    code: int | None
    said: str
    printed: str

    def is_documented(self) -> bool:
        """Return whether the run ended as docs/errors.md has it: a known code, and a message where it failed."""
        return self.code in DOCUMENTED_CODES and "Traceback" not in self.said and (self.code == 0 or bool(self.said))


def run(arguments: Sequence[str], *, seconds: float = SECONDS, memory: int = MEMORY_BYTES) -> Outcome:
    """Run the app.

    Parameters
    ----------
    arguments : sequence of str
        The command line.
    seconds : float
        After which the run is killed.
    memory : int
        Bytes of address space that it may add.
    """
    with ExitStack() as stack:
        streams = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        child = os.fork()
        if child == 0:
            _become_app(arguments, [stream.fileno() for stream in streams], memory)
        code = _wait(child, seconds)
        for stream in streams:
            stream.seek(0)
        printed, said = (stream.read().decode(errors="replace") for stream in streams)
    return Outcome(code, said, printed)


def _become_app(arguments: Sequence[str], streams: Sequence[int], memory: int) -> None:
    code = 255
    try:
        for number, stream in enumerate(streams, start=1):
            os.dup2(stream, number)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with open(1, "w", closefd=False) as out, open(2, "w", errors="backslashreplace", closefd=False) as err:
            sys.stdout, sys.stderr = out, err
            code = main(arguments)
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def study_arguments(bids: Path, output: Path, spec: Path, *options: str) -> list[str]:
    """Return the command line of a dry run."""
    return [str(bids), str(output), "group", "--model", str(spec), "--dry-run", *options]
