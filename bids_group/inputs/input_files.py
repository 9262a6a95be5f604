"""The files that a run depends on: stamps to notice that one changes meanwhile, hashes to recognise it later."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bids_group.errors import DataError, MissingInputError, ReadWriteError
from bids_group.inputs.text_files import check_file


@dataclass(frozen=True)
class InputFile:
    """A file that a run reads.

    Attributes
    ----------
    path : Path
    uri : str
        BIDS URI where a dataset has it, else its address.
    kind : str
        ``map``, ``mask``, ``regions``, ``table``, ``spec`` or ``filter``.
    """

    path: Path
    uri: str
    kind: str


@dataclass(frozen=True)
class Stamp:
    """What a file system says of a file's content without reading it; times in nanoseconds."""

    inode: int
    n_bytes: int
    modified: int
    changed: int


@dataclass(frozen=True)
class Checksum:
    """What a file's content is recognised by: its length and its SHA-256, in hexadecimal digits."""

    n_bytes: int
    sha256: str


def stamp_files(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamps of files; of links, those of what they lead to. Files that are not there are left out."""
    stamps = {}
    for path in paths:
        try:
            facts = path.stat()
        except OSError:  # whoever reads the file says what is wrong with it
            continue
        stamps[path] = Stamp(facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return stamps


def hash_bytes(content: bytes) -> Checksum:
    """Return the checksum of a content in memory.

    Examples
    --------
    >>> hash_bytes(b"abc").sha256[:16]
    'ba7816bf8f01cfea'
    """
    return Checksum(len(content), hashlib.sha256(content).hexdigest())


def hash_file(path: Path) -> Checksum | None:
    """Return the checksum of a file; None if there is none.

    Raises
    ------
    DataError
        If it is a folder, a pipe or a device.
    ReadWriteError
        If it cannot be read.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return Checksum(file.tell(), digest.hexdigest())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ReadWriteError(f"{path}: cannot be read: {error.strerror}") from error


def hash_files(paths: Sequence[Path], *, n_threads: int | None = None) -> dict[Path, Checksum | None]:
    """Return the checksums of files, read in parallel threads; None of those that are not there.

    Raises
    ------
    ReadWriteError
        If a file cannot be read.
    """
    with ThreadPoolExecutor(n_threads) as pool:
        return dict(zip(paths, pool.map(hash_file, paths), strict=True))


def hash_inputs(files: Sequence[InputFile], *, n_threads: int | None = None) -> dict[InputFile, Checksum]:
    """Return the checksums of all inputs.

    Raises
    ------
    MissingInputError
        If one is not there any more.
    ReadWriteError
        If one cannot be read.
    """
    found = hash_files([file.path for file in files], n_threads=n_threads)
    checksums = {}
    for file in files:
        checksum = found[file.path]
        if checksum is None:
            raise MissingInputError(f"{file.path}: it was there when the run began and is not any more")
        checksums[file] = checksum
    return checksums


@dataclass(frozen=True)
class InputWatch:
    """The inputs of a run as they were when it began.

    Attributes
    ----------
    stamps : Mapping of Path to Stamp
        Taken before the files were read or hashed.
    checksums : Mapping of InputFile to Checksum
    """

    stamps: Mapping[Path, Stamp]
    checksums: Mapping[InputFile, Checksum]

    def check(self, paths: Iterable[Path]) -> None:
        """Check that files that have been read are still as they were, so that what was read is what was hashed.

        A file whose stamp alone is another (it was touched, or moved and put back) is read again.

        Parameters
        ----------
        paths : iterable of Path
            Some of the inputs.

        Raises
        ------
        DataError
            If a file has another content, or has gone.
        """
        expected = {file.path: checksum for file, checksum in self.checksums.items()}
        chosen = list(paths)
        now = stamp_files(chosen)
        for path in chosen:
            if now.get(path) != self.stamps.get(path) and hash_file(path) != expected[path]:
                raise DataError(_tell_change(path))


def watch_inputs(
    files: Sequence[InputFile], stamps: Mapping[Path, Stamp], *, n_threads: int | None = None
) -> InputWatch:
    """Hash all inputs, and check that none has changed since it was stamped.

    What was read of them before, the headers of maps and the whole of documents, is then of the content that was
    hashed. Here a new stamp is enough to refuse a file: what its content was before cannot be known.

    Parameters
    ----------
    files : sequence of InputFile
    stamps : Mapping of Path to Stamp
        Taken before the files were first read.
    n_threads : int or None

    Raises
    ------
    DataError
        If a file has another stamp.
    MissingInputError, ReadWriteError
        If an input has gone or cannot be read.
    """
    watch = InputWatch(stamps, hash_inputs(files, n_threads=n_threads))
    now = stamp_files(file.path for file in files)
    for file in files:
        if now.get(file.path) != stamps.get(file.path):
            raise DataError(_tell_change(file.path))
    return watch


def _tell_change(path: Path) -> str:
    return (
        f"{path}: it changed while the run was reading its inputs; nothing was written. "
        "Wait until whatever writes it has finished, then run again"
    )
