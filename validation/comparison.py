"""A comparison with another program: how differences are measured, and the table they make."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from tests.oracles_data import load_reference

Pair = tuple[Any, Any]  # found and expected, numbers or arrays of them

RELATIVE, MIXED, UNEQUAL = "relative", "relative to max(1, abs)", "unequal"
HEADER = ("what", "oracle", "cases", "largest difference", "allowed")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what, oracle, cases : str
        The quantity, the program with its version, and how much was compared.
    kind : str
        How a difference is measured: RELATIVE, MIXED, or UNEQUAL, which counts.
    difference, tolerance : float
        The largest difference found, and the one allowed.
    """

    what: str
    oracle: str
    cases: str
    kind: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Tell whether the difference is one that is allowed; NaN is not."""
        return self.difference <= self.tolerance

    def write_cells(self) -> tuple[str, ...]:
        """Write the cells of the line."""
        named = (self.what, self.oracle, self.cases)
        if self.kind == UNEQUAL:
            return *named, f"{self.difference:.0f} differ" if self.difference else "none differs", "none"
        return *named, f"{write_number(self.difference, 1)} {self.kind}", write_number(self.tolerance, 0)


def write_number(value: float, digits: int) -> str:
    """Write a number with its power of ten.

    Examples
    --------
    >>> write_number(3.21e-4, 1)
    '3.2e-4'
    """
    return re.sub(r"e([+-])0", r"e\1", f"{value:.{digits}e}")


def measure_difference(found: Any, expected: Any, kind: str) -> float:
    """Measure the largest difference.

    ``max |a - b| / |b|`` or, MIXED, ``max |a - b| / max(1, |b|)``; UNEQUAL, how many differ.

    Parameters
    ----------
    found, expected : array_like
        Of shapes that broadcast.
    kind : str

    Returns
    -------
    float
        Infinite where 0 was expected and not found, NaN where a number is.
    """
    if kind == UNEQUAL:
        return float(np.count_nonzero(np.asarray(found) != np.asarray(expected)))
    one, other = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    gap = np.abs(one - other)
    size = np.abs(other) if kind == RELATIVE else np.maximum(1.0, np.abs(other))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.where(gap == 0, 0.0, gap / size)))


def compare(what: str, oracle: str, cases: str, pairs: Iterable[Pair], tolerance: float, kind: str = RELATIVE) -> Row:
    """Compare what was found with what another program says.

    Parameters
    ----------
    what, oracle, cases : str
        As in `Row`; the number of values is added to the cases.
    pairs : iterable of tuple of array_like
        Found and expected.
    tolerance : float
    kind : str

    Returns
    -------
    Row
    """
    both = [(np.asarray(found), np.asarray(expected)) for found, expected in pairs]
    differences = [measure_difference(found, expected, kind) for found, expected in both]
    difference = float(np.sum(differences) if kind == UNEQUAL else np.max(differences))
    n_values = sum(max(found.size, expected.size) for found, expected in both)
    return Row(what, oracle, f"{cases}, {n_values} values", kind, difference, tolerance)


def write_table(rows: Iterable[Row]) -> str:
    """Write the rows as a table in Markdown."""
    lines = [HEADER, ("---",) * len(HEADER), *(row.write_cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def name_live(title: str) -> str:
    """Name a program of this environment with its version."""
    return f"{title} {version(title.lower())}"


def name_pinned(reference: str, program: str) -> str:
    """Name a program that was asked earlier with the version that it had."""
    made_by = load_reference(reference)["made_by"]
    if isinstance(made_by, dict):
        return f"{program} {made_by.get(program, made_by.get(program.lower()))}"
    return re.findall(rf"\b{program} [\d.]*\d", made_by)[0]
