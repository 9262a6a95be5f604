"""Where the matrix of all maps is kept: in memory, or in a file where memory is bounded."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import OutputError

# The rest is for what is computed from the maps, block by block.
SHARE_OF_MEMORY = 0.5

Allocate = Callable[[tuple[int, int]], NDArray[np.float32]]


@contextmanager
def open_storage(work_dir: Path, memory_gb: float | None) -> Iterator[Allocate]:
    """Offer a function that makes the matrix, and remove its file afterwards.

    Parameters
    ----------
    work_dir : Path
        Where the file is made when it is needed.
    memory_gb : float or None
        The bound of memory, in units of 1e9 bytes; None for no bound.

    Yields
    ------
    callable
        From a shape to a float32 array of that shape.
    """
    folder = work_dir / "maps"

    def allocate(shape: tuple[int, int]) -> NDArray[np.float32]:
        n_bytes = shape[0] * shape[1] * np.dtype(np.float32).itemsize
        if memory_gb is None or n_bytes <= SHARE_OF_MEMORY * memory_gb * 1e9:
            return np.empty(shape, dtype=np.float32)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "maps.npy"
            matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            with path.open("rb+") as file:  # a full disk must be an error now, not a crash while the maps are read
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            return matrix
        except OSError as error:
            raise OutputError(f"{work_dir}: no room for the maps: {error.strerror}; name another --work-dir") from error

    try:
        yield allocate
    finally:
        shutil.rmtree(folder, ignore_errors=True)
