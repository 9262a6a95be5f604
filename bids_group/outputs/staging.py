"""Outputs appear whole or not at all.

Everything is written into a hidden folder inside OUTPUT_DIR and moved into place when the run has succeeded. A run that
fails, or is killed, leaves what stood in OUTPUT_DIR as it was; the next run clears the hidden folder away.
"""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bids_group.errors import OutputError, ReadWriteError

STAGING_FOLDER = ".staging"
_RETIRED = ".retired"  # in the staging folder: what is replaced
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


class Staging:
    """A folder that becomes the output.

    Parameters
    ----------
    output_dir : Path
    """

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self.root = output_dir / STAGING_FOLDER

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

    def write_json(self, name: str, content: Any) -> None:
        """Write one JSON file, indented by two blanks."""
        self.write_bytes(name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

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
        """Return what is moved as one: the folder of each node, every other file."""
        nodes = sorted(self.root.glob("node-*"))
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        return nodes + [path for path in files if not any(node in path.parents for node in nodes)]


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
    made = _missing_parents(output_dir)
    staging = Staging(output_dir)
    try:
        with translate_errors(output_dir):
            shutil.rmtree(staging.root, ignore_errors=True)
            staging.root.mkdir(parents=True)
        yield staging
    finally:
        shutil.rmtree(staging.root, ignore_errors=True)
        for folder in made:
            _remove_if_empty(folder)


def _missing_parents(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
