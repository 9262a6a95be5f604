"""What the user sees while the app works: stages with their times, bars on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

SECONDS_BETWEEN_LINES = 30.0
logger = logging.getLogger("bids_group")


class StageClock:
    """Measures how long the stages of a run take.

    Attributes
    ----------
    seconds : dict of str to float
        Wall time per stage; a stage that is entered again adds to its own.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Advance(Protocol):
    """What is called after each step, or after several, from any thread."""

    def __call__(self, n_steps: int = 1) -> object:
        """Count steps."""


@contextmanager
def show_progress(title: str, total: int) -> Iterator[Advance]:
    """Show how far a loop has come and when it will end: a bar on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    title : str
    total : int

    Yields
    ------
    Advance
    """
    if not sys.stderr.isatty():
        logger.info("%s: %d", title, total)
        yield _LineProgress(title, total)
        return
    from tqdm import tqdm  # only a terminal needs it

    with tqdm(total=total, desc=title, file=sys.stderr, leave=False) as bar:

        def advance(n_steps: int = 1) -> None:
            bar.update(n_steps)

        yield advance


class _LineProgress:
    """Writes a line with the time that is left, at most every half minute."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._start = self._last = time.monotonic()
        self._lock = Lock()

    def __call__(self, n_steps: int = 1) -> None:
        with self._lock:
            self._done += n_steps
            now = time.monotonic()
            if now - self._last < SECONDS_BETWEEN_LINES or self._done >= self._total:
                return
            self._last = now
            left = (now - self._start) * (self._total - self._done) / self._done
        text = "%s: %d of %d, about %.0f s left"
        logger.info(text, self._title, self._done, self._total, left, extra={"is_passing": True})
