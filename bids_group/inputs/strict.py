"""Strict reading of JSON: every value is asked for by type, and every fault is told with its JSON path."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bids_group.errors import DataError, SpecError
from bids_group.inputs.text_files import read_text

DEEPEST_NESTING = 100  # a model spec has about ten levels; the interpreter's own limit depends on who calls
MOST_COMPARED = 10_000  # names; beyond, looking for a similar one takes longer than anybody waits
_FRACTION = re.compile(r"\s*([+-]?\d{1,15}(?:\.\d{1,15})?)\s*(?:/\s*(\d{1,15}(?:\.\d{1,15})?)\s*)?")


def read_json(path: Path) -> Any:
    """Read a JSON file, refusing what JSON does not allow.

    Parameters
    ----------
    path : Path

    Returns
    -------
    object

    Raises
    ------
    MissingInputError
        If there is no such file.
    DataError
        If it is no file, not UTF-8, not JSON, repeats a key, or holds NaN, Infinity or a number beyond float64.
    ReadWriteError
        If it cannot be read.
    """
    text = read_text(path, "JSON")
    try:
        document = json.loads(text, object_pairs_hook=_refuse_repeated_keys, parse_constant=_refuse_constant)
        _refuse_unwritable(document)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{path}: not a usable JSON file: it is nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from error
    return document


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = sorted(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    if repeated:
        raise ValueError(f"the key {repeated[0]!r} stands more than once in one object")
    return dict(pairs)


def _refuse_unwritable(document: Any) -> None:
    """Refuse what could be read but not be shown or written again."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError("a number is too large") from error  # 1e999 is read as infinity, which JSON cannot write
    text.encode()  # half of a surrogate pair has no UTF-8
    level, members = 0, [document] if isinstance(document, dict | list) else []
    while members:
        level += 1
        if level > DEEPEST_NESTING:
            raise RecursionError
        nested = [value.values() if isinstance(value, dict) else value for value in members]
        members = [item for group in nested for item in group if isinstance(item, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def suggest(name: str, known: Iterable[str], *, most: int = 12) -> str:
    """Say which known name was probably meant, or which there are.

    Examples
    --------
    >>> suggest("Weigths", ["Weights", "Name"])
    "did you mean 'Weights'?"
    """
    names = sorted({str(item) for item in known})
    folded = {item.casefold(): item for item in names}
    compared = folded if len(folded) <= MOST_COMPARED else ()
    close = difflib.get_close_matches(name.casefold(), compared, n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    if not names:
        return "there is none to choose from"
    listed = ", ".join(repr(item) for item in names[:most])
    return f"known: {listed}" + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True)
class Place:
    """A value in a JSON document and where it stands.

    Attributes
    ----------
    value : object
    path : str
        JSON path such as ``Nodes[0].Contrasts[1].Weights``; empty for the document.
    """

    value: Any
    path: str = ""

    def fail(self, problem: str) -> NoReturn:
        """Raise a `SpecError` that names this place."""
        raise SpecError(self.path or "the document", problem)

    def _expect(self, kind: type | tuple[type, ...], wanted: str) -> Any:
        if not isinstance(self.value, kind) or (isinstance(self.value, bool) and kind is not bool):
            self.fail(f"expected {wanted}, found {shorten(self.value)}")
        return self.value

    def fields(self, known: Iterable[str], *, required: Iterable[str] = ()) -> dict[str, "Place"]:
        """Return the members of an object, all of whose keys are known and required ones there."""
        members = self._expect(dict, "an object")
        known = tuple(known)
        for key in members:
            if key not in known:
                self._member(key).fail(f"unknown key {key!r}; {suggest(key, known)}")
        for key in required:
            if key not in members:
                self.fail(f"the key {key!r} is missing")
        return {key: self._member(key) for key in members}

    def _member(self, key: str) -> "Place":
        return Place(self.value[key], f"{self.path}.{key}" if self.path else key)

    def items(self) -> list["Place"]:
        """Return the members of a list."""
        return [Place(item, f"{self.path}[{i}]") for i, item in enumerate(self._expect(list, "a list"))]

    def text(self) -> str:
        """Return a string that is not blank."""
        value: str = self._expect(str, "a string")
        if not value.strip():
            self.fail("the string is empty")
        return value

    def boolean(self) -> bool:
        """Return true or false."""
        value: bool = self._expect(bool, "true or false")
        return value

    def whole_number(self, *, least: int = 0) -> int:
        """Return a whole number not below `least`."""
        value: int = self._expect(int, f"a whole number of at least {least}")
        if value < least:
            self.fail(f"expected a whole number of at least {least}, found {value}")
        return value

    def number(self) -> float:
        """Return a finite number; ``"1/3"`` is one."""
        if isinstance(self.value, str):
            return self._fraction(self.value)
        try:
            value = float(self._expect((int, float), "a number"))
        except OverflowError:
            value = float("inf")
        if abs(value) == float("inf"):
            self.fail("the number is too large")
        return value

    def _fraction(self, text: str) -> float:
        match = _FRACTION.fullmatch(text)
        denominator = float(match[2] or 1) if match else 0.0
        if match is None or denominator == 0:
            self.fail(f'expected a number or a fraction such as "1/3", found {text!r}')
        return float(match[1]) / denominator

    def choice(self, known: Iterable[Any]) -> Any:
        """Return one of the known strings or numbers."""
        known = tuple(known)
        if isinstance(self.value, str) and self.value in [str(item) for item in known if not isinstance(item, str)]:
            self.fail(f"{shorten(self.value)} is text; write the number, without quotes")
        if isinstance(self.value, bool | list | dict) or self.value not in known:
            self.fail(f"{shorten(self.value)} is not possible here; {suggest(str(self.value), map(str, known))}")
        return known[known.index(self.value)]  # 6.0 in JSON is the whole number 6

    def one_or_more(self) -> list["Place"]:
        """Return the members of a list that is not empty, or a single value as such a list."""
        if not isinstance(self.value, list):
            return [self]
        if not self.value:
            self.fail("the list is empty")
        return self.items()


def shorten(value: object) -> str:
    """Show a JSON value in at most 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
