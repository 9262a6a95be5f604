"""The table of oracles holds, and the documentation shows it."""

import re
from pathlib import Path

import numpy as np
import pytest

from validation.comparison import HEADER, MIXED, RELATIVE, UNEQUAL, compare, measure_difference, write_table
from validation.oracles import collect_rows

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
# Rounding errors differ between processors and builds of BLAS; what is documented may be this much too small.
LEEWAY = 10


@pytest.fixture(scope="module")
def rows():
    return collect_rows()


def read_documented():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| " + " | ".join(HEADER) + " |") + 2
    cells = []
    for line in lines[start:]:
        if not line.startswith("|"):
            return cells
        cells.append(tuple(line.strip("| ").split(" | ")))
    return cells


def drop_versions(oracle):
    """Other versions of Python come with other versions of NumPy and SciPy."""
    return re.sub(r" \d+(\.\d+)+", "", oracle)


def read_difference(cell):
    number, _, kind = cell.partition(" ")
    return (0.0, kind) if number == "none" else (float(number), kind)


def test_no_difference_from_another_program_is_larger_than_allowed(rows):
    assert len(rows) > 20
    assert [row for row in rows if not row.holds] == []


def test_the_documentation_shows_the_rows_that_the_command_prints(rows):
    documented = read_documented()
    printed = [row.write_cells() for row in rows]
    for column in (0, 2, 4):
        assert [cells[column] for cells in documented] == [cells[column] for cells in printed]
    assert [drop_versions(cells[1]) for cells in documented] == [drop_versions(cells[1]) for cells in printed]


def test_the_documentation_does_not_claim_smaller_differences_than_there_are(rows):
    for row, cells in zip(rows, read_documented(), strict=True):
        claimed, kind = read_difference(cells[3])
        assert kind == read_difference(row.write_cells()[3])[1]
        assert claimed <= row.tolerance
        assert row.difference <= LEEWAY * max(claimed, np.finfo(float).eps * (row.kind != UNEQUAL)), row


@pytest.mark.parametrize(
    ("found", "expected", "kind", "difference"),
    [
        ([1.0, 2.2], [1.0, 2.0], RELATIVE, 0.1),
        ([0.02, 20.0], [0.01, 10.0], MIXED, 1.0),
        (1e-300, 0.0, RELATIVE, np.inf),
        ([0.0, -3.0], [0.0, -3.0], RELATIVE, 0.0),
        (["a", "b", ""], ["a", "c", "d"], UNEQUAL, 2.0),
        ([True, False], [True, True], UNEQUAL, 1.0),
    ],
)
def test_a_difference_is_relative_or_counted(found, expected, kind, difference):
    assert measure_difference(found, expected, kind) == pytest.approx(difference, rel=1e-12)


def test_one_wrong_value_among_many_and_one_that_is_missing_break_a_row():
    expected = np.linspace(1, 2, 100)
    for wrong in (expected[7] + 1e-6, np.nan, np.inf):
        found = expected.copy()
        found[7] = wrong
        assert not compare("x", "y", "z", [(expected, expected), (found, expected)], 1e-9).holds
        assert not compare("x", "y", "z", [(expected, expected), (found, expected)], 0, UNEQUAL).holds
    assert compare("x", "y", "z", [(expected, expected)], 0).holds


def test_the_table_is_one_line_a_row():
    row = compare("t", "another 1.2", "2 designs", [([1.0, 2.0], [1.0, 2.0 - 2.6e-9])], 1e-8)
    assert write_table([row]).splitlines()[-1] == ("| t | another 1.2 | 2 designs, 2 values | 1.3e-9 relative | 1e-8 |")
