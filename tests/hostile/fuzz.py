"""Thousands of unsound files for every reader, in processes whose memory and time are bounded: `make fuzz`.

    python -m tests.hostile.fuzz --seconds 60 [READER ...]

prints a table of what became of them, and of each fault where it arose and the number that makes the file again.
"""

import argparse
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from bids_group.errors import BidsGroupError
from tests.hostile.mutations import mutate
from tests.hostile.readers import READERS, Reader

MEMORY_BYTES = 2**30  # of address space, beyond what the process has
SECONDS_FOR_ONE = 60.0  # of the clock, on a machine that does other things too
PACKAGE = "bids_group"


class TooSlowError(BaseException):
    """A reader has not come to an end in time; no `Exception`, which a reader might catch."""


@dataclass
class Tally:
    """What became of the files: how many were read, refused, or ended in a fault, by where it arose."""

    n_read: int = 0
    n_refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return self.n_read + self.n_refused + self.faults.total()

    def add_fault(self, error: BaseException, number: int) -> None:
        place = locate(error)
        self.faults[place] += 1
        self.first.setdefault(place, (number, ascii(str(error))[:90]))


def try_numbers(reader: Reader, folder: Path, numbers: Iterator[int]) -> Tally:
    """Read unsound files, one for each number, made from the sound ones in ``folder / "sound"``."""
    tally = Tally()
    sound = folder / "sound"
    with bound_time():
        for number in numbers:
            place = folder / "unsound" if reader.consumes else sound
            if reader.consumes:
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(sound, place)
            with one_unsound(reader, place, number):
                _try(reader, place, number, tally)
    return tally


@contextmanager
def one_unsound(reader: Reader, folder: Path, number: int) -> Iterator[None]:
    """Make one file unsound, for a while."""
    rng = Random(f"{reader.name} {number}")
    path = rng.choice(reader.list_mutated(folder))
    content = path.read_bytes()
    path.write_bytes(mutate(path.name, content, rng))
    try:
        yield
    finally:
        if not reader.consumes:
            path.write_bytes(content)


def _try(reader: Reader, folder: Path, number: int, tally: Tally) -> None:
    signal.setitimer(signal.ITIMER_REAL, SECONDS_FOR_ONE)
    try:
        reader.read(folder)
    except BidsGroupError:
        tally.n_refused += 1
    except (Exception, TooSlowError) as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        tally.add_fault(error, number)
    else:
        tally.n_read += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def locate(error: BaseException) -> str:
    """Say what was raised, and in which line of the app."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if f"/{PACKAGE}/" in frame.filename]
    at = f"{frames[-1].filename.rpartition(f'/{PACKAGE}/')[2]}:{frames[-1].lineno}" if frames else "the test"
    return f"{type(error).__name__} in {at}"


@contextmanager
def bound_time() -> Iterator[None]:
    """Let the alarm end a reader."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def count_until(end: float, first: int) -> Iterator[int]:
    """Count until this process has worked for a time, whatever else the machine does."""
    while time.process_time() < end:
        yield first
        first += 1


def fuzz_in_child(reader: Reader, seconds: float, first: int) -> None:
    """Read unsound files in a process of its own, and print what became of them."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _fuzz(reader, seconds, first)
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        print(f"| {reader.name} | the process ended with {os.waitstatus_to_exitcode(status)} |", flush=True)  # noqa: T201


def _fuzz(reader: Reader, seconds: float, first: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sound").mkdir()
        reader.write(folder / "sound")
        reader.read(folder / "sound") if not reader.consumes else None
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES,) * 2)
        end = time.process_time() + seconds
        # Ends what no exception can, such as a loop in a library.
        resource.setrlimit(resource.RLIMIT_CPU, (int(end + SECONDS_FOR_ONE),) * 2)
        tally = try_numbers(reader, folder, count_until(end, first))
    print(f"| {reader.name} | {tally.n} | {tally.n_read} | {tally.n_refused} | {tally.faults.total()} |")  # noqa: T201
    for place, count in tally.faults.most_common():
        number, told = tally.first[place]
        print(f"    {count} times, first as number {number}: {place}: {told}")  # noqa: T201


def main() -> None:
    """Fuzz the readers that are named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0, help="of the processor, for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("readers", nargs="*", help="a part of their names")
    given = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    print("| reader | files | read | refused | faults |\n| --- | --- | --- | --- | --- |", flush=True)  # noqa: T201
    for reader in READERS:
        if not given.readers or any(part in reader.name for part in given.readers):
            fuzz_in_child(reader, given.seconds, given.first)


if __name__ == "__main__":
    main()
