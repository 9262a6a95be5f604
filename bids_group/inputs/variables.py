"""The variables of a design: contrast indicators, entities and the columns of participants.tsv, one value per map."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import DataError, ReadWriteError
from bids_group.inputs.strict import suggest

RESERVED_NAMES = ("intercept", "1")
MISSING_VALUES = ("n/a", "")  # BIDS writes n/a; an empty cell can mean nothing else


@dataclass(frozen=True)
class Variable:
    """One value for each row of the design.

    Attributes
    ----------
    labels : Series of str
        The values as text, missing ones as None; indexed like the rows.
    numbers : Series of float64 or None
        The values as numbers, missing ones as NaN; None for a factor.
    source : str
        Where the variable comes from, for messages.
    levels : tuple of str
        Every value in the table that the variable comes from, also of subjects that are not in the model; empty where
        that is not known.
    """

    labels: pd.Series
    numbers: pd.Series | None
    source: str
    levels: tuple[str, ...] = ()

    @property
    def is_factor(self) -> bool:
        """Return whether the variable is categorical."""
        return self.numbers is None

    @property
    def is_missing(self) -> pd.Series:
        """Return which rows have no value."""
        return self.labels.isna() if self.numbers is None else self.numbers.isna()

    def restrict(self, kept: pd.Index) -> "Variable":
        """Return the variable of some of the rows."""
        numbers = None if self.numbers is None else self.numbers.loc[kept]
        return replace(self, labels=self.labels.loc[kept], numbers=numbers)


def make_covariate(numbers: pd.Series, source: str) -> Variable:
    """Return a numeric variable; its labels write whole numbers without a decimal point."""
    labels = pd.Series([None if np.isnan(v) else f"{v:.12g}" for v in numbers], index=numbers.index, dtype=object)
    return Variable(labels, numbers.astype(np.float64), source)


@dataclass(frozen=True)
class VariableTable:
    """The rows of one model and every variable that a spec may name for them.

    Attributes
    ----------
    rows : DataFrame
        One row per map, with the entities and `contrast` as text columns.
    participants : DataFrame of str
        participants.tsv, indexed by subject label; without columns where there is none.
    computed : dict of str to Variable
        What transformations made; it hides variables of the same name.
    entity_levels : Mapping of str to tuple of str
        The values that entities have in all maps of the study, not only in these rows; empty where that is not known.
    """

    rows: pd.DataFrame
    participants: pd.DataFrame
    computed: dict[str, Variable] = field(default_factory=dict)
    entity_levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def find_names(self) -> list[str]:
        """Return every name that can be resolved."""
        return sorted({*self.computed, *self._contrasts(), *self._entities(), *self.participants.columns})

    def _contrasts(self) -> set[str]:
        return set(self.rows["contrast"])

    def _entities(self) -> list[str]:
        known = [name for name in ENTITY_SHORT_NAMES if name in self.rows.columns]
        return [name for name in known if self.rows[name].notna().any()]

    def refuse_reserved_names(self) -> None:
        """Refuse variables that cannot be told from the constant.

        Raises
        ------
        DataError
        """
        reserved = [name for name in self.find_names() if name.casefold() in RESERVED_NAMES]
        if reserved:
            raise DataError(f"a variable is called {reserved[0]!r}, which is the name of the constant; rename it")

    def resolve(self, name: str, *, as_factor: bool = False) -> Variable:
        """Return the variable of that name.

        Parameters
        ----------
        name : str
        as_factor : bool
            Whether its values are labels even if they are numbers.

        Raises
        ------
        DataError
            If nothing or more than one thing has that name, or some of its values are numbers and others are not.
        """
        if name in self.computed:
            return self.computed[name]
        sources = {
            "a contrast of the maps": name in self._contrasts(),
            "an entity of the maps": name in self._entities(),
            "a column of participants.tsv": name in self.participants.columns,
        }
        found = [source for source, is_there in sources.items() if is_there]
        if not found:
            raise DataError(f"there is no variable {name!r}; {suggest(name, self.find_names())}")
        if len(found) > 1:
            raise DataError(f"{name!r} is both {' and '.join(found)}; rename the column of participants.tsv")
        return self._make_variable(name, found[0], as_factor=as_factor)

    def _make_variable(self, name: str, source: str, *, as_factor: bool) -> Variable:
        if source == "a contrast of the maps":
            return make_covariate((self.rows["contrast"] == name).astype(np.float64), source)
        if source == "an entity of the maps":
            values = self.rows[name].astype(object)
            return Variable(values.where(values.notna(), None), None, source, self.entity_levels.get(name, ()))
        values = self.rows["subject"].map(self.participants[name]).astype(object)
        labels = values.where(values.notna() & ~values.isin(MISSING_VALUES), None)
        levels = tuple(sorted(set(self.participants[name].dropna()) - set(MISSING_VALUES)))
        numbers = None if as_factor else _read_numbers(name, self.participants[name], labels)
        return Variable(labels, numbers, source, levels)

    def with_variables(self, computed: dict[str, Variable]) -> "VariableTable":
        """Return a table in which some variables are new."""
        return replace(self, computed={**self.computed, **computed})

    def restrict(self, kept: pd.Index) -> "VariableTable":
        """Return the table of some of the rows, where what was computed keeps its values."""
        computed = {name: variable.restrict(kept) for name, variable in self.computed.items()}
        return replace(self, rows=self.rows.loc[kept], computed=computed)


def _read_numbers(name: str, column: pd.Series, labels: pd.Series) -> pd.Series | None:
    """Return labels as numbers, or None where no value of the whole column is one.

    The column decides, not the rows of one model, so that a factor stays one when subjects are left out.

    Raises
    ------
    DataError
        If some values are numbers and others are not.
    """
    present = column[column.notna() & ~column.isin(MISSING_VALUES)]
    numbers = pd.to_numeric(present, errors="coerce")
    is_number = np.isfinite(numbers)
    if not is_number.any():
        return None
    if not is_number.all():
        subject = is_number.index[~is_number][0]
        raise DataError(
            f"{name!r} holds numbers, but {present[subject]!r} for sub-{subject}; write n/a for a missing value, "
            "or make it a factor with the transformation Factor"
        )
    return pd.to_numeric(labels, errors="coerce").astype(np.float64)


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
    for folder in folders:
        path = folder / "participants.tsv"
        if path.is_file():
            return _read_table(path)
    return pd.DataFrame(index=pd.Index([], dtype=object))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        lines = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 text file; save it as UTF-8") from error
    except OSError as error:
        raise ReadWriteError(f"{path}: cannot be read: {error.strerror}") from error
    cells = [[cell.strip() for cell in line.split("\t")] for line in lines if line.strip()]
    if not cells or "participant_id" not in cells[0]:
        raise DataError(f"{path}: there is no column participant_id; the first line names the columns, split by tabs")
    header = cells[0]
    _refuse_repeats(path, "column", header)
    for number, line in enumerate(cells[1:], start=2):
        if len(line) != len(header):
            raise DataError(f"{path}: line {number} has {len(line)} cells and the header {len(header)}; split by tabs")
    table = pd.DataFrame(cells[1:], columns=header, dtype=object)
    subjects = [value.removeprefix("sub-") for value in table.pop("participant_id")]
    _refuse_repeats(path, "participant", subjects)
    return table.set_axis(pd.Index(subjects, dtype=object), axis="index")


def _refuse_repeats(path: Path, what: str, values: list[str]) -> None:
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise DataError(f"{path}: the {what} {repeated[0]!r} stands there more than once")
