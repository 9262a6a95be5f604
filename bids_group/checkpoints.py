"""How far long computations have come, kept in the work directory, so that a run that was stopped can go on."""

import contextlib
import hashlib
import logging
import struct
import time
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import ReadWriteError

SECONDS_BETWEEN = 10.0
FOLDER = "checkpoints"
SHARD = ".shard-"
REMEDY = "shards need the same inputs, spec, options, versions and kind of processor"
# What numpy and zipfile raise of damaged archives: of their lists, members, and the arrays' headers, which are written
# as Python's literals and may declare more than there is memory.
DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, SyntaxError, MemoryError, OverflowError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
logger = logging.getLogger("bids_group")


@dataclass(frozen=True)
class Shard:
    """One of several runs that share the batches of every permutation test.

    Attributes
    ----------
    number, total : int
        The first is 1.
    """

    number: int
    total: int

    def __str__(self) -> str:
        return f"share {self.number} of {self.total}"


class Checkpoints:
    """The checkpoints of one work directory, each under the digest of all that its computation depends on.

    Parameters
    ----------
    folder : Path
        The work directory; nothing is made there before the first checkpoint.
    shard : Shard or None
        Of which share of the computations they are; None for all, where those of shards are found too.
    """

    def __init__(self, folder: Path, *, shard: Shard | None = None) -> None:
        self._folder = folder / FOLDER
        self._ending = "" if shard is None else f"{SHARD}{shard.number}-of-{shard.total}"
        self._last = time.monotonic()
        self._used: dict[str, None] = {}

    def find(self, digest: str) -> list[dict[str, NDArray]]:
        """Return the arrays of each checkpoint, those of shards last; damaged ones are passed over."""
        self._used[digest] = None
        paths = [self._name(digest)]
        if not self._ending:
            shards = sorted(self._folder.glob(f"*{SHARD}*.npz"))
            paths += [path for path in shards if path.name.startswith(digest)]
            if shards and len(paths) == 1:
                logger.warning("no shard in %s is of this test, which is computed here: %s", self._folder, REMEDY)
        return [arrays for arrays in map(_read, paths) if arrays is not None]

    def keep(self, digest: str, arrays: Mapping[str, NDArray], *, at_once: bool = False) -> None:
        """Write a checkpoint, whole or not at all, unless one was written a moment ago.

        A disk that is full or not writable must not end a computation that needs neither.

        Parameters
        ----------
        digest : str
        arrays : Mapping of str to ndarray
        at_once : bool
            Write it even if one was written a moment ago.
        """
        if at_once or time.monotonic() - self._last >= SECONDS_BETWEEN:
            with contextlib.suppress(ReadWriteError):
                self.store(digest, arrays)

    def store(self, digest: str, arrays: Mapping[str, NDArray]) -> None:
        """Write a checkpoint that is needed.

        Raises
        ------
        ReadWriteError
            If it cannot be written.
        """
        path = self._name(digest)
        unfinished = path.with_name(f"{path.name}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            unfinished.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise ReadWriteError(f"{path}: cannot be written: {error.strerror}") from error
        finally:
            self._last = time.monotonic()

    def discard_used(self) -> None:
        """Remove the checkpoints that were asked for: the results that they led to stand on disk."""
        for digest in self._used:
            for path in (self._name(digest), *self._folder.glob(f"{digest}{SHARD}*.npz")):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other runs may have theirs there
            self._folder.rmdir()

    def _name(self, digest: str) -> Path:
        return self._folder / f"{digest}{self._ending}.npz"


def _read(path: Path) -> dict[str, NDArray] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            members = {name: stored[name] for name in stored.files}
    except DAMAGE:
        return None
    # What does not begin as an array does comes as bytes.
    return members if all(isinstance(values, np.ndarray) for values in members.values()) else None


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
