"""Outputs appear whole or not at all.

Everything is written into a hidden folder inside OUTPUT_DIR and moved into place when the run has succeeded. A run that
fails leaves what stood in OUTPUT_DIR as it was. So does one that is killed, if not at once: what is being moved is
listed beforehand, and the next run moves it back and clears the hidden folder away. While a run holds the folder's lock
no other run writes into the same OUTPUT_DIR.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from bids_group.errors import DataError, OutputError, ReadWriteError
from bids_group.inputs.input_files import Checksum, hash_bytes
from bids_group.inputs.strict import read_json
from bids_group.outputs.naming import DATASET_DESCRIPTION

STAGING_FOLDER = ".staging"
_RETIRED = ".retired"  # in the staging folder: what is replaced
_JOURNAL = ".publishing.json"  # there while results are moved into place: what is new, what is replaced
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
        units = [path.relative_to(self.root).as_posix() for path in self._list_units()]
        replaced = [name for name in [*stale, *units] if (self.output_dir / name).exists()]
        added = [name for name in units if name not in replaced]
        with translate_errors(self.output_dir), ExitStack() as undo:
            undo.callback(_take_back, self.output_dir)
            _write_journal(self.root, added, replaced)
            for name in [*stale, *units]:
                if name in replaced:
                    _move(self.output_dir / name, self.root / _RETIRED / name)
                if name in units:
                    _move(self.root / name, self.output_dir / name)
            (self.root / _JOURNAL).unlink()  # from here on the new results are those that stand
            undo.pop_all()

    def _list_units(self) -> list[Path]:
        """Return what is moved as one: the folder of each node, every other file; what claims the folder goes first."""
        nodes = sorted(self.root.glob("node-*"))
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        units = nodes + [path for path in files if not any(node in path.parents for node in nodes)]
        return sorted(units, key=lambda path: path.name != DATASET_DESCRIPTION)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _write_journal(folder: Path, added: list[str], replaced: list[str]) -> None:
    unfinished = folder / f"{_JOURNAL}.part"
    unfinished.write_text(json.dumps({"Added": added, "Replaced": replaced}), encoding="utf-8")
    unfinished.replace(folder / _JOURNAL)


def _take_back(output_dir: Path) -> None:
    """Put back what was being replaced and remove what was new; nothing if no results were on their way."""
    root = output_dir / STAGING_FOLDER
    journal = root / _JOURNAL
    if not journal.is_file():
        return
    added, replaced = _read_journal(journal)
    for name in reversed(added):  # what claims the folder goes last
        _remove(output_dir / name)
        for folder in (output_dir / name).parents:
            if folder == output_dir or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
    for name in replaced:
        if (root / _RETIRED / name).exists():
            _remove(output_dir / name)
            _move(root / _RETIRED / name, output_dir / name)
    journal.unlink()


def _read_journal(path: Path) -> tuple[list[str], list[str]]:
    """Return what was new and what was being replaced: names in the output folder, never of what lies beside it.

    Raises
    ------
    OutputError
        If the list is damaged.
    """
    try:
        moved = read_json(path)
    except DataError as error:
        moved, reason = None, str(error)
    else:
        reason = f"{path}: not a list of files"
    lists = (moved.get("Added"), moved.get("Replaced")) if isinstance(moved, dict) else (None, None)
    added, replaced = (
        [name for name in one if _is_name_inside(name)] if isinstance(one, list) else [] for one in lists
    )
    if [added, replaced] != list(lists):
        raise OutputError(
            f"{reason}; so what a killed run was moving cannot be put back: earlier results may stand in "
            f"{path.parent / _RETIRED}; take from there what you need, then remove {path.parent}, and run again"
        )
    return added, replaced


def _is_name_inside(name: object) -> bool:
    if not isinstance(name, str) or "\0" in name:
        return False
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


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
                if not (staging.root / _JOURNAL).exists():  # else it holds what could not be put back
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
    if not _is_same_folder(folder, output_dir / STAGING_FOLDER):  # the other run has just ended and taken it away
        raise OutputError(f"{output_dir}: another run was writing there until now; run again")


def _is_same_folder(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def _clear_after_killed_run(staging: Staging) -> None:
    """Put back what a run was replacing when it was killed, and drop what it had made."""
    _take_back(staging.output_dir)
    for path in staging.root.iterdir():
        _remove(path)


def restore_after_killed_run(output_dir: Path) -> None:
    """Put back what a run was replacing when it was killed, before anybody looks at what stands there.

    Raises
    ------
    OutputError, ReadWriteError
        If it cannot be put back, or another run is writing there.
    """
    if (output_dir / STAGING_FOLDER / _JOURNAL).is_file():
        with open_staging(output_dir):
            pass


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
