"""What the user sees while the app works: stages with their times, bars on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def show_progress(title: str, total: int) -> Iterator[Callable[[], object]]:
    """Show how far a loop has come: a bar on a terminal, one line elsewhere.

    Parameters
    ----------
    title : str
    total : int

    Yields
    ------
    callable
        To be called after each step, from any thread.
    """
    if not sys.stderr.isatty():
        logger.info("%s: %d", title, total)
        yield lambda: None
        return
    from tqdm import tqdm  # only a terminal needs it

    with tqdm(total=total, desc=title, file=sys.stderr, leave=False) as bar:
        yield lambda: bar.update(1)
