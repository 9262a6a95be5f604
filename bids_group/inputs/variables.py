"""The variables of a design: contrast indicators, entities and the columns of tables, one value per map."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import DataError
from bids_group.inputs.strict import suggest
from bids_group.inputs.variable_tables import PARTICIPANTS, ValueTable

RESERVED_NAMES = ("intercept", "1")
MISSING_VALUES = ("n/a", "")  # BIDS writes n/a; an empty cell can mean nothing else
A_CONTRAST = "a contrast of the maps"
AN_ENTITY = "an entity of the maps"
A_COLUMN = "a column of "


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

    @property
    def tables(self) -> str:
        """Return the names of the tables that the values come from; empty where they come from the maps."""
        return self.source.replace(A_COLUMN, "") if A_COLUMN in self.source else ""

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
    tables : tuple of ValueTable
        Tables besides participants.tsv.
    removed : frozenset of str
        The names that transformations took away.
    """

    rows: pd.DataFrame
    participants: pd.DataFrame
    computed: dict[str, Variable] = field(default_factory=dict)
    entity_levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tables: tuple[ValueTable, ...] = ()
    removed: frozenset[str] = frozenset()

    def find_names(self) -> list[str]:
        """Return every name that can be resolved."""
        return sorted({*self.computed, *({*self._contrasts(), *self._entities(), *self.find_columns()} - self.removed)})

    def find_columns(self) -> list[str]:
        """Return the names of the columns of all tables."""
        return sorted({name for table in self._all_tables() for name in table.columns})

    def _all_tables(self) -> tuple[ValueTable, ...]:
        return (ValueTable(PARTICIPANTS, self.participants, tuple(self.participants.columns)), *self.tables)

    def _contrasts(self) -> set[str]:
        return set(self.rows["contrast"])

    def _entities(self) -> list[str]:
        known = [name for name in ENTITY_SHORT_NAMES if name in self.rows.columns]
        return [name for name in known if self.rows[name].notna().any()]

    def refuse_reserved_names(self) -> None:
        """Refuse variables that cannot be told from the constant.

        Columns of tables besides participants.tsv are refused where they are asked for.

        Raises
        ------
        DataError
        """
        for name in sorted({*self.computed, *self._contrasts(), *self._entities(), *self.participants.columns}):
            _refuse_reserved(name)

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
        if name in self.removed:
            raise DataError(f"there is no variable {name!r} any more: a transformation has renamed or removed it")
        tables = {f"{A_COLUMN}{table.name}": table for table in self._all_tables() if name in table.columns}
        from_maps = {A_CONTRAST: name in self._contrasts(), AN_ENTITY: name in self._entities()}
        found = [*(source for source, is_there in from_maps.items() if is_there), *tables]
        if not found:
            raise DataError(f"there is no variable {name!r}; {suggest(name, self.find_names())}{self._tell_faults()}")
        if len(found) > 1:
            raise DataError(
                f"{name!r} is both {' and '.join(found)}; rename {found[-1].replace('a column', 'the column')}"
            )
        if found[0] in tables:
            return self._look_up(name, tables[found[0]], as_factor=as_factor)
        return self._describe_maps(name, found[0])

    def _tell_faults(self) -> str:
        """Say which tables could not be read far enough to know their columns."""
        unknown = [table.fault for table in self.tables if table.fault and not table.columns]
        return "".join(f"; a table could not be read: {fault}" for fault in unknown)

    def _describe_maps(self, name: str, source: str) -> Variable:
        if source == A_CONTRAST:
            return make_covariate((self.rows["contrast"] == name).astype(np.float64), source)
        values = self.rows[name].astype(object)
        return Variable(values.where(values.notna(), None), None, source, self.entity_levels.get(name, ()))

    def _look_up(self, name: str, table: ValueTable, *, as_factor: bool) -> Variable:
        _refuse_reserved(name)
        if table.fault:
            raise DataError(f"{name!r} is a column of {table.name}, which cannot be used: {table.fault}")
        column = table.values[name]
        values = self._join_by_session(name, table) if table.has_sessions else self.rows["subject"].map(column)
        labels = values.astype(object).where(values.notna() & ~values.isin(MISSING_VALUES), None)
        levels = tuple(sorted(set(column.dropna()) - set(MISSING_VALUES)))
        numbers = None if as_factor else _read_numbers(name, column, labels)
        return Variable(labels, numbers, f"{A_COLUMN}{table.name}", levels)

    def _join_by_session(self, name: str, table: ValueTable) -> pd.Series:
        sessions = self.rows["session"] if "session" in self.rows else pd.Series(None, self.rows.index, dtype=object)
        if sessions.isna().any():
            subject = self.rows.loc[sessions.isna(), "subject"].min()
            raise DataError(
                f"{name!r} is a column of {table.name}, which has a value for each session, and sub-{subject} has maps "
                f"without the session entity; choose maps of sessions, or give one value each in {PARTICIPANTS}"
            )
        keys = pd.MultiIndex.from_arrays([self.rows["subject"], sessions])
        return pd.Series(table.values[name].reindex(keys).to_numpy(), self.rows.index, dtype=object)

    def with_variables(self, computed: dict[str, Variable]) -> "VariableTable":
        """Return a table in which some variables are new."""
        return replace(self, computed={**self.computed, **computed})

    def without_variables(self, names: Iterable[str]) -> "VariableTable":
        """Return a table in which some names stand for nothing."""
        gone = frozenset(names)
        kept = {name: variable for name, variable in self.computed.items() if name not in gone}
        return replace(self, computed=kept, removed=self.removed | gone)

    def restrict(self, kept: pd.Index) -> "VariableTable":
        """Return the table of some of the rows, where what was computed keeps its values."""
        computed = {name: variable.restrict(kept) for name, variable in self.computed.items()}
        return replace(self, rows=self.rows.loc[kept], computed=computed)


def _refuse_reserved(name: str) -> None:
    if name.casefold() in RESERVED_NAMES:
        raise DataError(f"a variable is called {name!r}, which is the name of the constant; rename it")


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
        key = is_number.index[~is_number][0]
        raise DataError(
            f"{name!r} holds numbers, but {present[key]!r} for {_name_key(key)}; write n/a for a missing value, "
            "or make it a factor with the transformation Factor"
        )
    return pd.to_numeric(labels, errors="coerce").astype(np.float64)


def _name_key(key: Hashable) -> str:
    parts: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
    return " ".join(f"{prefix}{label}" for prefix, label in zip(("sub-", "ses-"), parts, strict=False))
