"""The tables that variables come from, read as text: participants.tsv, sessions.tsv and phenotype/*.tsv."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bids_group.errors import DataError, ReadWriteError
from bids_group.inputs.text_files import read_text

PARTICIPANTS = "participants.tsv"
SESSIONS = "sessions.tsv"
_PREFIXES = {"participant_id": "sub-", "session_id": "ses-"}
_KEY_NAMES = {"participant_id": "participant", "session_id": "session"}
_LEVELS = ["subject", "session"]


@dataclass(frozen=True)
class ValueTable:
    """One table, or the sessions.tsv of all subjects as one.

    Attributes
    ----------
    name : str
        As users call it, such as ``phenotype/memory.tsv``.
    values : DataFrame of str
        Indexed by the subject's label, or by the labels of subject and session; empty where the table is broken.
    columns : tuple of str
        The names of its variables, as far as a broken table shows them.
    fault : str or None
        Why it cannot be used; None where it can.
    """

    name: str
    values: pd.DataFrame
    columns: tuple[str, ...]
    fault: str | None = None

    @property
    def has_sessions(self) -> bool:
        """Return whether there is one value per subject and session, not one per subject."""
        return isinstance(self.values.index, pd.MultiIndex)


def read_participants(folders: list[Path]) -> pd.DataFrame:
    """Read participants.tsv of the first folder that has one.

    Parameters
    ----------
    folders : list of Path
        Datasets, the raw one first.

    Returns
    -------
    DataFrame of str
        Indexed by the subject label without ``sub-``; empty where no folder has the file.

    Raises
    ------
    DataError
        If the file is no table, lacks participant_id, or has a participant or column twice.
    ReadWriteError
        If it cannot be read.
    """
    path = _find_participants(folders)
    return _make_empty() if path is None else _index_cells(path, read_cells(path), ("participant_id",))


def list_tables(folders: list[Path]) -> list[Path]:
    """Return every file that `read_participants` and `read_further_tables` read.

    Parameters
    ----------
    folders : list of Path
        Datasets, the raw one first.
    """
    participants = _find_participants(folders)
    first = [] if participants is None else [participants]
    return [*first, *_find_sessions(folders).values(), *_find_phenotype(folders)]


def _find_participants(folders: list[Path]) -> Path | None:
    return next((path for folder in folders if _is_table(path := folder / PARTICIPANTS)), None)


def _find_sessions(folders: list[Path]) -> dict[str, Path]:
    """Return each subject's sessions.tsv by the subject's label."""
    for folder in folders:
        subjects = {path.name.removeprefix("sub-"): path for path in sorted(folder.glob("sub-*"))}
        files = {label: path / f"{path.name}_{SESSIONS}" for label, path in subjects.items()}
        found = {label: path for label, path in files.items() if _is_table(path)}
        if found:
            return found
    return {}


def _find_phenotype(folders: list[Path]) -> list[Path]:
    for folder in folders:
        paths = sorted(path for path in folder.glob("phenotype/*.tsv") if _is_table(path))
        if paths:
            return paths
    return []


def _is_table(path: Path) -> bool:
    """Tell whether a table is there; what stands in its place and is none must not count as absent.

    Raises
    ------
    DataError
        If it is a folder, a pipe, or a link to nowhere.
    """
    if path.is_file():
        return True
    if path.exists() or path.is_symlink():
        what = "a link to nothing (DataLad: get its content)" if path.is_symlink() else "a folder or a device"
        raise DataError(f"{path}: {what} stands in the place of a table; mend it or take it away")
    return False


def read_further_tables(folders: list[Path]) -> tuple[ValueTable, ...]:
    """Read every subject's sessions.tsv, and every phenotype/*.tsv, each kind from the first folder that has any.

    A table that is broken is returned with its fault: it is an error only where one of its columns is needed.

    Parameters
    ----------
    folders : list of Path
        Datasets, the raw one first.
    """
    return (*_read_sessions(folders), *_read_phenotype(folders))


def _read_sessions(folders: list[Path]) -> tuple[ValueTable, ...]:
    found = {label: _try_table(path, path.name) for label, path in _find_sessions(folders).items()}
    return (_join_sessions(found),) if found else ()


def _join_sessions(tables: dict[str, ValueTable]) -> ValueTable:
    """Make one table of the subjects' own; a column that a subject's table lacks has no value for that subject."""
    columns = tuple(dict.fromkeys(name for table in tables.values() for name in table.columns))
    faults = [table.fault for table in tables.values() if table.fault]
    if faults:
        return ValueTable(SESSIONS, _make_empty(), columns, faults[0])
    values = pd.concat({label: table.values for label, table in tables.items()}, names=_LEVELS)
    return ValueTable(SESSIONS, values, columns)


def _read_phenotype(folders: list[Path]) -> tuple[ValueTable, ...]:
    return tuple(_try_table(path, f"phenotype/{path.name}") for path in _find_phenotype(folders))


def _try_table(path: Path, name: str) -> ValueTable:
    """Read a table whose faults matter only where it is needed."""
    columns: tuple[str, ...] = ()
    try:
        cells = read_cells(path)
        header = cells[0] if cells else []
        columns = tuple(column for column in dict.fromkeys(header) if column not in _PREFIXES)
        keys = _choose_keys(path, header)
        return ValueTable(name, _index_cells(path, cells, keys), columns)
    except (DataError, ReadWriteError) as error:
        return ValueTable(name, _make_empty(), columns, str(error))


def _choose_keys(path: Path, header: list[str]) -> tuple[str, ...]:
    if path.name.endswith(f"_{SESSIONS}") and path.name.startswith("sub-"):
        return ("session_id",)  # the file's name has the participant
    return ("participant_id", "session_id") if "session_id" in header else ("participant_id",)


def _make_empty() -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index([], dtype=object))


def read_cells(path: Path) -> list[list[str]]:
    """Return the cells of the lines of a table that are not blank, the header first."""
    lines = read_text(path, "text").replace("\r\n", "\n").split("\n")
    return [[cell.strip() for cell in line.split("\t")] for line in lines if line.strip()]


def _index_cells(path: Path, cells: list[list[str]], keys: tuple[str, ...]) -> pd.DataFrame:
    """Return the cells as a table indexed by the labels in the columns `keys`."""
    header = cells[0] if cells else []
    for key in keys:
        if key not in header:
            raise DataError(f"{path}: there is no column {key}; the first line names the columns, split by tabs")
    _refuse_repeats(path, "column", header)
    for number, line in enumerate(cells[1:], start=2):
        if len(line) != len(header):
            raise DataError(f"{path}: line {number} has {len(line)} cells and the header {len(header)}; split by tabs")
    at = [header.index(key) for key in keys]
    labels = [[line[i].removeprefix(_PREFIXES[key]) for line in cells[1:]] for i, key in zip(at, keys, strict=True)]
    _refuse_repeats(
        path, " and ".join(_KEY_NAMES[key] for key in keys), [" ".join(row) for row in zip(*labels, strict=True)]
    )
    kept = [i for i in range(len(header)) if i not in at]
    values = np.empty((len(cells) - 1, len(kept)), dtype=object)  # in one piece: pandas takes columns one by one
    for row, line in zip(values, cells[1:], strict=True):
        row[:] = [line[i] for i in kept]
    index = pd.Index(labels[0], dtype=object) if len(keys) == 1 else pd.MultiIndex.from_arrays(labels, names=_LEVELS)
    return pd.DataFrame(values, index, [header[i] for i in kept], dtype=object)


def _refuse_repeats(path: Path, what: str, values: list[str]) -> None:
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise DataError(f"{path}: the {what} {repeated[0]!r} stands there more than once")
