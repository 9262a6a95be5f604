"""Reading text that people hand in: only from files, and no more than a document of theirs can be."""

import errno
import stat
from pathlib import Path

from bids_group.errors import DataError, MissingInputError, ReadWriteError

LARGEST_TEXT = 2**28  # bytes; a table of 100,000 participants with 200 columns has about half of that
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_file(path: Path) -> int:
    """Return the size of a file in bytes, refusing what is no file: a pipe would be waited for, a device has no end.

    Parameters
    ----------
    path : Path
        Links are followed.

    Raises
    ------
    FileNotFoundError, OSError
        As the operating system has it; also of a name that no file can have.
    DataError
        If it is a folder, a named pipe, a socket or a device.
    """
    try:
        found = path.stat()
    except ValueError as error:  # a NUL in the name
        raise FileNotFoundError(errno.ENOENT, str(error), str(path)) from error
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise DataError(f"{path}: not a file but {kind}; save what it holds as a file")
    return found.st_size


def read_text(path: Path, kind: str) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Parameters
    ----------
    path : Path
    kind : str
        What the text should be, for messages, such as ``JSON``.

    Raises
    ------
    MissingInputError
        If there is no such file.
    DataError
        If it is no file, not UTF-8, or larger than `LARGEST_TEXT`.
    ReadWriteError
        If it cannot be read.
    """
    try:
        n_bytes = check_file(path)
        if n_bytes > LARGEST_TEXT:
            raise DataError(f"{path}: {n_bytes} bytes are too many for {kind}; at most {LARGEST_TEXT} are read")
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingInputError(f"{path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 text file; save it as UTF-8 {kind}") from error
    except OSError as error:
        raise ReadWriteError(f"{path}: cannot be read: {error.strerror}") from error
