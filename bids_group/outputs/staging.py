"""Outputs appear whole or not at all.

Everything is written into a hidden folder inside OUTPUT_DIR and moved into place when the run has succeeded. A run that
fails, or is killed, leaves what stood in OUTPUT_DIR as it was; the next run clears the hidden folder away. While a run
holds the folder's lock no other run writes into the same OUTPUT_DIR.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bids_group.errors import OutputError, ReadWriteError
from bids_group.inputs.input_files import Checksum, hash_bytes
from bids_group.outputs.naming import DATASET_DESCRIPTION

STAGING_FOLDER = ".staging"
_RETIRED = ".retired"  # in the staging folder: what is replaced
# File systems without locks (some network ones) are used without.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


class Staging:
    """A folder that becomes the output.

    Parameters
    ----------
    output_dir : Path

    Attributes
    ----------
    written : dict of str to Checksum
        Every file by its name, of the content that was meant to be written.
    """

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self.root = output_dir / STAGING_FOLDER
        self.written: dict[str, Checksum] = {}

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write one file.

        Parameters
        ----------
        name : str
            POSIX path relative to the output folder.
        content : bytes

        Raises
        ------
        ReadWriteError
            If the file cannot be written.
        """
        path = self.root / name
        with translate_errors(self.output_dir / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.written[name] = hash_bytes(content)

    def write_json(self, name: str, content: Any) -> None:
        """Write one JSON file, indented by two blanks."""
        self.write_bytes(name, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def publish(self, *, stale: list[str]) -> None:
        """Move everything into place, or, if that fails or is interrupted, everything back.

        Folders of nodes replace those of the same name as a whole; other files are replaced one by one.

        Parameters
        ----------
        stale : list of str
            Names in the output folder that an earlier run of the same model left and this one does not write.

        Raises
        ------
        OutputError, ReadWriteError
            If something cannot be moved.
        """
        moves = [(self.output_dir / name, self._retire(name)) for name in stale if (self.output_dir / name).exists()]
        for path in self._list_units():
            name = path.relative_to(self.root).as_posix()
            target = self.output_dir / name
            moves += [(target, self._retire(name))] if target.exists() else []
            moves.append((path, target))
        with translate_errors(self.output_dir):
            _move_all(moves)

    def _retire(self, name: str) -> Path:
        return self.root / _RETIRED / name

    def _list_units(self) -> list[Path]:
        """Return what is moved as one: the folder of each node, every other file; what claims the folder goes first."""
        nodes = sorted(self.root.glob("node-*"))
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        units = nodes + [path for path in files if not any(node in path.parents for node in nodes)]
        return sorted(units, key=lambda path: path.name != DATASET_DESCRIPTION)


def _move_all(moves: list[tuple[Path, Path]]) -> None:
    with ExitStack() as undo:
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            undo.callback(target.replace, source)
        undo.pop_all()


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into this app's.

    Raises
    ------
    OutputError
        If a path cannot be created there.
    ReadWriteError
        If the device failed or is full.
    """
    try:
        yield
    except OSError as error:
        kind = ReadWriteError if error.errno in _NO_ROOM else OutputError
        raise kind(f"{error.filename or path}: cannot be written: {error.strerror}") from error


@contextmanager
def open_staging(output_dir: Path) -> Iterator[Staging]:
    """Make the hidden folder, and take it away again however the run ends.

    Folders above it that did not exist before are taken away as well if the run left them empty.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """
    staging = Staging(output_dir)
    with leave_no_empty_folders(output_dir):
        with translate_errors(output_dir):
            staging.root.mkdir(parents=True, exist_ok=True)
            lock = os.open(staging.root, os.O_RDONLY)
        try:
            _lock(lock, output_dir)
            with translate_errors(output_dir):
                _clear_after_killed_run(staging)
            try:
                yield staging
            finally:
                shutil.rmtree(staging.root, ignore_errors=True)
        finally:
            os.close(lock)


def _lock(folder: int, output_dir: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OutputError(
                f"{output_dir}: another run is writing there; wait for it, or name another folder"
            ) from error


def _clear_after_killed_run(staging: Staging) -> None:
    """Put back what a run was replacing when it was killed, and drop what it had made."""
    retired = staging.root / _RETIRED
    for path in sorted(retired.iterdir()) if retired.is_dir() else []:
        if not (staging.output_dir / path.name).exists():
            path.replace(staging.output_dir / path.name)
    for path in staging.root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def leave_no_empty_folders(folder: Path) -> Iterator[None]:
    """Remove a folder and those above it afterwards, as far as they were not there before and are empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
