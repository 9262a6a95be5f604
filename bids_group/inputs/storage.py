"""Where large arrays are kept: in memory, or in files where memory is bounded."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import OutputError

# Of each array: two are needed at a time (the maps, and what is rearranged), and the rest is for blocks and results.
SHARE_OF_MEMORY = 0.25

Allocate = Callable[[tuple[int, ...]], NDArray[np.float32]]


@contextmanager
def open_storage(work_dir: Path, memory_gb: float | None) -> Iterator[Allocate]:
    """Offer a function that makes large arrays.

    Parameters
    ----------
    work_dir : Path
        Where files are made when they are needed. Their names are gone at once, so that nothing is left behind, and the
        space is free when the array is no longer used.
    memory_gb : float or None
        The bound of memory, in units of 1e9 bytes; None for no bound.

    Yields
    ------
    callable
        From a shape to a float32 array of that shape.
    """

    def allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(np.float32).itemsize
        if memory_gb is None or n_bytes <= SHARE_OF_MEMORY * memory_gb * 1e9:
            return np.empty(shape, dtype=np.float32)
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
            return _map_file(work_dir / "array.part", shape, n_bytes)
        except OSError as error:
            raise OutputError(f"{work_dir}: no room for the maps: {error.strerror}; name another --work-dir") from error

    yield allocate


def _map_file(path: Path, shape: tuple[int, ...], n_bytes: int) -> NDArray[np.float32]:
    """Make an array in a file without a name."""
    with path.open("wb+") as file:
        path.unlink()
        os.posix_fallocate(file.fileno(), 0, n_bytes)  # a full disk must be an error now, not a crash later
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
