"""Queries over rows: comparisons only, as pandas has them, and a missing value fulfils nothing."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import DataError
from bids_group.inputs.row_query import RowQueryError, select_rows
from bids_group.inputs.variables import VariableTable

AGES = ["18", "n/a", "35.5", "60", "18", ""]
GROUPS = ["patient", "control", "n/a", "control", "patient", "patient"]
SUBJECTS = [f"{i:02d}" for i in range(1, 7)]
ROWS = pd.DataFrame({"subject": SUBJECTS, "contrast": "A"})
PARTICIPANTS = pd.DataFrame({"age": AGES, "group": GROUPS, "id": ["1234567", *"abcde"]}, index=SUBJECTS)
TABLE = VariableTable(ROWS, PARTICIPANTS)
NUMBERS = np.array([18, np.nan, 35.5, 60, 18, np.nan])

COMPARISONS = st.one_of(
    st.builds("age {} {}".format, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.sampled_from([18, 35.5, -1])),
    st.builds("group {} '{}'".format, st.sampled_from(["==", "!="]), st.sampled_from(["patient", "control"])),
    st.builds("group {} ['patient']".format, st.sampled_from(["in", "not in"])),
)
QUERIES = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("(not {})".format, inner),
    ),
    max_leaves=4,
)


def select(query):
    return list(select_rows(query, TABLE.resolve))


@settings(max_examples=100, deadline=None)
@given(QUERIES)
def test_rows_without_missing_values_are_selected_as_python_evaluates_the_query(query):
    selected = select(query)
    for i in (0, 3, 4):
        assert selected[i] == bool(eval(query, {"__builtins__": {}}, {"age": NUMBERS[i], "group": GROUPS[i]}))


@settings(max_examples=60, deadline=None)
@given(COMPARISONS)
def test_a_missing_value_fulfils_neither_a_comparison_nor_its_negation(comparison):
    missing = [1, 5] if comparison.startswith("age") else [2]
    for query in (comparison, f"not {comparison}", f"not not {comparison}", f"~({comparison})"):
        assert not np.array(select(query))[missing].any()


def test_a_missing_value_does_not_hide_what_the_other_side_decides():
    assert select("age > 30 or group == 'control'")[1]
    assert select("not (age > 30 and group == 'patient')")[1]


@settings(max_examples=40, deadline=None)
@given(QUERIES, QUERIES)
def test_de_morgan_holds_with_missing_values(left, right):
    assert select(f"not ({left} and {right})") == select(f"(not {left}) or (not {right})")


def test_signs_and_symbols_of_pandas_are_understood():
    assert select("(age > 20) & (group == 'control')") == [False, False, False, True, False, False]
    assert select("age > -5") == [True, False, True, True, True, False]
    selected = select_rows("id == 1234567", lambda name: TABLE.resolve(name, as_factor=True))
    assert list(selected) == [True, False, False, False, False, False]


@pytest.mark.parametrize(
    "query",
    [
        "__import__('pathlib').Path('{sentinel}').touch()",
        "age == __import__('pathlib').Path('{sentinel}').touch()",
        "age in [open('{sentinel}', 'w')]",
        "age in [x for x in [open('{sentinel}', 'w')]]",
        "(lambda: open('{sentinel}', 'w'))()",
        "group == f\"{{open('{sentinel}', 'w')}}\"",
        "(x := open('{sentinel}', 'w')) == 1",
        "age.real == 1",
        "age[0] == 1",
        "age == age",
        "age + 1 == 2",
        "1 < age",
        "18 < age < 60",
        "age is 18",
        "age == None",
        "age == True",
        "age == b'x'",
        "age == 1j",
        "age == ...",
        "age in 'abc'",
        "age in {1, 2}",
        "age == [1]",
        "group > 'control'",
        "age == 'old'",
        "group if age else age",
        "not age",
        "age",
        "'a'",
        "True",
        "age = 1",
        "age == 1; age == 2",
        "import os",
        "",
        "age ==",
        "age == 1 \x00",
        "@age == 1",
    ],
)
def test_everything_but_comparisons_is_refused_unexecuted(query, tmp_path):
    sentinel = tmp_path / "sentinel"
    with pytest.raises(RowQueryError):
        select(query.format(sentinel=sentinel) if "sentinel" in query else query)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "query", ["~" * 1900 + "(age == 1)", "(" * 900 + "age == 1" + ")" * 900, "age < " + "9" * 400, "age == 1 or " * 300]
)
def test_excessive_queries_are_refused(query):
    with pytest.raises(RowQueryError):
        select(query)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=25) | st.text("age=<>!in() not'\"[]1.,|&~", max_size=25))
def test_any_text_selects_rows_or_is_refused(text):
    with contextlib.suppress(RowQueryError, DataError):
        assert len(select(text)) == len(ROWS)


def test_an_unknown_name_says_which_was_meant():
    with pytest.raises(DataError, match="did you mean 'group'"):
        select("grup == 'patient'")


def test_a_level_that_no_participant_has_is_refused_with_the_nearest_one():
    with pytest.raises(RowQueryError, match=r"no level 'contol'; did you mean 'control'"):
        select("group in ['patient', 'contol']")
