"""How far long computations have come, kept in the work directory, so that a run that was stopped can go on."""

import contextlib
import hashlib
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SECONDS_BETWEEN = 10.0
FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one work directory, each under the digest of all that its computation depends on.

    Parameters
    ----------
    folder : Path
        The work directory; nothing is made there before the first checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._last = time.monotonic()

    def find(self, digest: str) -> dict[str, NDArray] | None:
        """Return the arrays of a checkpoint; None where there is none, or it is damaged."""
        path = self._name(digest)
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def keep(self, digest: str, arrays: Mapping[str, NDArray]) -> None:
        """Write a checkpoint, whole or not at all, unless one was written a moment ago.

        A disk that is full or not writable must not end a computation that needs neither.
        """
        if time.monotonic() - self._last < SECONDS_BETWEEN:
            return
        path = self._name(digest)
        unfinished = path.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            unfinished.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
        self._last = time.monotonic()

    def discard(self, digest: str) -> None:
        """Remove a checkpoint that is no longer needed."""
        self._name(digest).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other runs may have theirs there
            self._folder.rmdir()

    def _name(self, digest: str) -> Path:
        return self._folder / f"{digest}.npz"


def digest(*parts: object) -> str:
    """Return a name for everything that a computation depends on.

    Parameters
    ----------
    *parts
        Arrays, by shape, type and bytes; anything else by how it is written.
    """
    total = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.shape}{part.dtype}".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            total.update(repr(part).encode())
        total.update(b"\x1f")
    return total.hexdigest()
