"""What every contestant hands in: seconds of its steps, and its statistics for comparison."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray


@dataclass
class Stopwatch:
    """Seconds by step.

    Attributes
    ----------
    seconds : dict of str to float
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add the seconds of a block to a step."""
        start = perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - start


Contestant = Callable[[Stopwatch], Mapping[str, NDArray[np.float64]]]


def compete(run: Contestant) -> None:
    """Run a contestant, save its statistics to the file named on the command line, and print its seconds as JSON."""
    watch = Stopwatch()
    statistics = run(watch)
    np.savez(Path(sys.argv[1]), allow_pickle=False, **statistics)
    print(json.dumps(watch.seconds))
