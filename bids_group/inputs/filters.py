"""Which of the maps found are analysed: `Input` of the spec, --participant-label and --bids-filter-file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bids_group.entities import QUERY_KEYS
from bids_group.errors import DataError, NothingSelectedError, SpecError
from bids_group.inputs.strict import Place, read_json, shorten, suggest

ABSENT = None  # the value of a filter that asks for maps without the entity
ANY = "*"  # the value of a filter that asks for maps with the entity, whatever its value
FILTER_QUERIES = ("effect", "statmap")  # fMRIPrep names its queries by suffix; these are the suffixes of effect maps


@dataclass(frozen=True)
class Selection:
    """What a map must fulfil to be analysed.

    Attributes
    ----------
    entities : Mapping of str to tuple of str
        `Input` of the spec.
    participants : tuple of str
        Subject labels without ``sub-``; empty for all.
    bids_filter : Mapping of str to tuple of (str or None)
        From --bids-filter-file; None stands for absence of the entity, ``*`` for presence.
    """

    entities: Mapping[str, tuple[str, ...]]
    participants: tuple[str, ...] = ()
    bids_filter: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Criterion:
    """The values that a column may have, and who asked for them."""

    column: str
    values: tuple[str | None, ...]
    source: str

    def matches(self, column: pd.Series) -> pd.Series:
        """Return which members of a column of text have one of the values."""
        return match_values(column, self.values)


def match_values(column: pd.Series, values: tuple[str | None, ...]) -> pd.Series:
    """Return which members of a column of text have one of some values; runs are compared as numbers."""
    if column.name == "run":  # a number in BIDS: 1 and 01 are the same run; subjects and sessions are labels
        column = column.map(_strip_zeros, na_action="ignore")
        values = tuple(_strip_zeros(value) if value else value for value in values)
    matched = column.isin([value for value in values if value is not ABSENT])
    if ABSENT in values:
        matched |= column.isna()
    if ANY in values:
        matched |= column.notna()
    return matched


def _strip_zeros(number: str) -> str:
    return number.lstrip("0") or "0"


def list_criteria(selection: Selection) -> list[Criterion]:
    """Return everything that a map must fulfil, in the order in which it is told to the user."""
    criteria = [Criterion(key, values, "Input") for key, values in selection.entities.items()]
    criteria += [Criterion(key, values, "--bids-filter-file") for key, values in selection.bids_filter.items()]
    if selection.participants:
        criteria.append(Criterion("subject", selection.participants, "--participant-label"))
    return criteria


def split_by_criteria(maps: pd.DataFrame, criteria: list[Criterion]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide maps into those that fulfil all criteria and those that do not.

    Parameters
    ----------
    maps : DataFrame
        A text column for every criterion.
    criteria : list of Criterion

    Returns
    -------
    selected, excluded : DataFrame
        `excluded` has a column `reason` that names the first criterion not fulfilled.

    Raises
    ------
    NothingSelectedError
        If no map is selected.
    DataError
        If one of the values listed matches no selected map.
    """
    reasons = pd.Series("", maps.index, dtype=object)
    for criterion in criteria:
        shown = maps[criterion.column].where(maps[criterion.column].notna(), "n/a").astype(str)
        is_first = ~criterion.matches(maps[criterion.column]) & (reasons == "")
        reasons = reasons.mask(is_first, f"{criterion.source}: {criterion.column} is " + shown)
    selected, excluded = maps[reasons == ""], maps[reasons != ""]
    if not len(selected):
        raise NothingSelectedError(_explain_nothing(maps, criteria))
    for criterion in criteria:
        _check_every_value(maps, selected, criterion)
    return selected, excluded.assign(reason=reasons[reasons != ""])


def _explain_nothing(maps: pd.DataFrame, criteria: list[Criterion]) -> str:
    lines = [f"no map is selected; of {len(maps)} effect maps"]
    for criterion in criteria:
        column = maps[criterion.column]
        there = ", ".join(sorted(column.dropna().unique())[:12]) or "no value at all"
        asked = ", ".join("none" if value is ABSENT else value for value in criterion.values)
        fits = criterion.matches(column).sum()
        lines.append(f"  {criterion.source}: {criterion.column} {asked}: fits {fits} (there is: {there})")
    return "\n".join(lines)


def _check_every_value(maps: pd.DataFrame, selected: pd.DataFrame, criterion: Criterion) -> None:
    for value in criterion.values:
        if match_values(selected[criterion.column], (value,)).any():
            continue
        there = maps[criterion.column]
        where = (
            f"{criterion.source}: {criterion.column} {value!r}"
            if value
            else f"{criterion.source}: no {criterion.column}"
        )
        if match_values(there, (value,)).any():
            raise DataError(f"{where}: none of its maps fulfils the other filters; take the value out, or widen them")
        raise DataError(f"{where}: no effect map has it; {suggest(str(value), there.dropna().unique())}")


def read_bids_filter(path: Path) -> dict[str, tuple[str | None, ...]]:
    """Read a filter file as fMRIPrep has it.

    Parameters
    ----------
    path : Path
        A JSON object of entities, or of queries (``effect``, ``statmap``) that hold one. A value is a text, a number,
        a list of those, null for maps without the entity, or ``*`` for maps with it.

    Raises
    ------
    MissingInputError, DataError
        If the file is not there, or is no such object.
    """
    place = Place(read_json(path))
    try:
        return _read_queries(place)
    except SpecError as error:  # it is no spec: its JSON paths say nothing without the file
        raise DataError(f"{path}: {error}") from error


def _read_queries(place: Place) -> dict[str, tuple[str | None, ...]]:
    if isinstance(place.value, dict) and any(isinstance(value, dict) for value in place.value.values()):
        entries = [item for query in place.fields(FILTER_QUERIES).values() for item in query.fields(QUERY_KEYS).items()]
    else:
        entries = list(place.fields(QUERY_KEYS).items())
    found: dict[str, tuple[str | None, ...]] = {}
    for key, values in entries:
        wanted = tuple(_read_filter_value(value) for value in values.one_or_more())
        if found.setdefault(key, wanted) != wanted:
            values.fail(f"{key!r} stands in another query with other values; the queries select the same maps")
    return found


def _read_filter_value(place: Place) -> str | None:
    if place.value is None:
        return ABSENT
    if isinstance(place.value, bool | list | dict | float):
        place.fail(f"expected a text, a whole number or null, found {shorten(place.value)}")
    return str(place.value)
