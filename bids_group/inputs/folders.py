"""A dataset's folders before they are indexed: what pybids would walk through for ever, or break off at."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from bids_group.errors import DataError, ReadWriteError

# pybids takes what stands before it for the protocol of an address.
PROTOCOL_MARK = "::"


def check_folders(root: Path, not_indexed: Collection[re.Pattern[str]]) -> None:
    """Check that a dataset's folders come to an end, and that the names in them can be read.

    Parameters
    ----------
    root : Path
        The dataset's folder.
    not_indexed : collection of Pattern
        Of paths relative to `root`, with a slash before them, that are left out.

    Raises
    ------
    DataError
        If a link leads to a folder that holds the link, or a name is not UTF-8 or would be taken for an address.
    ReadWriteError
        If a folder cannot be read.
    """
    folders = [root]
    while folders:
        folder = folders.pop()
        for entry in _list_entries(folder):
            path = Path(entry.path)
            if any(pattern.search(f"/{path.relative_to(root).as_posix()}") for pattern in not_indexed):
                continue
            _check_name(path)
            if entry.is_dir():
                _check_link(path)
                folders.append(path)


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ReadWriteError(f"{folder}: cannot be read: {error.strerror}") from error


def _check_name(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise DataError(f"{shown}: its name is not UTF-8; rename it") from error
    if PROTOCOL_MARK in path.name:
        raise DataError(f"{path}: its name has {PROTOCOL_MARK!r}, as addresses have; rename it")


def _check_link(folder: Path) -> None:
    if folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder}: a link to a folder that holds it, {folder.resolve()}; remove the link")
