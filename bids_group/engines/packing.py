"""A prepared test as a file, which any number of workers map into their memory instead of being sent it."""

import io
import pickle
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bids_group.errors import UsageError
from bids_group.stats.permutation.batch import PreparedTest

ARRAYS, OBJECTS = "arrays.bin", "test.pickle"
ALIGNMENT = 64  # bytes: a line of the cache, as NumPy aligns large arrays
PROTOCOL = 5  # the first of pickle that keeps arrays out of its stream
# A network file system may show a new file to other machines some seconds late.
PATIENCE_SECONDS, LOOK_SECONDS = 10.0, 0.2


class _Pickler(pickle.Pickler):
    """Keeps mapped files out of the stream too."""

    def reducer_override(self, obj: Any) -> Any:
        return obj.view(np.ndarray).__reduce_ex__(PROTOCOL) if isinstance(obj, np.memmap) else NotImplemented


def pack_test(prepared: PreparedTest, folder: Path) -> None:
    """Write a prepared test, its arrays one after another in a file of their own.

    Parameters
    ----------
    prepared : PreparedTest
    folder : Path
        Made for it.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=PROTOCOL, buffer_callback=buffers.append).dump(prepared)
    arrays = [buffer.raw() for buffer in buffers]
    spans = list(_lay_out(array.nbytes for array in arrays))
    with (folder / ARRAYS).open("wb") as file:
        for array, (start, _) in zip(arrays, spans, strict=True):
            file.seek(start)
            file.write(array)
        file.truncate(_round_up(file.tell()) + ALIGNMENT)  # a file of nothing cannot be mapped
    unfinished = folder / f"{OBJECTS}.part"
    unfinished.write_bytes(pickle.dumps((stream.getvalue(), spans), protocol=PROTOCOL))
    unfinished.replace(folder / OBJECTS)  # when it is there the arrays are


def unpack_test(folder: Path) -> PreparedTest:
    """Read a prepared test; its arrays are mapped, and what is written to them is this process's own.

    Parameters
    ----------
    folder : Path
        Where `pack_test` wrote it.

    Returns
    -------
    PreparedTest

    Raises
    ------
    UsageError
        If there is no such file here, because the folder is not shared.
    """
    _await_file(folder / OBJECTS)
    objects, spans = pickle.loads((folder / OBJECTS).read_bytes())
    # Not read-only: Numba would compile its loops for another type of array.
    mapped = memoryview(np.memmap(folder / ARRAYS, dtype=np.uint8, mode="c"))
    prepared: PreparedTest = pickle.loads(objects, buffers=[mapped[start:stop] for start, stop in spans])
    return prepared


def _lay_out(sizes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield where each array begins and ends."""
    start = 0
    for size in sizes:
        yield start, start + size
        start = _round_up(start + size)


def _round_up(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def _await_file(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise UsageError(f"{path} is not there; name a --work-dir that all workers share")
        time.sleep(LOOK_SECONDS)
