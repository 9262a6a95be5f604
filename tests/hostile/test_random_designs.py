"""Designs of any variables: columns, rank and estimability are those of exact arithmetic, or a refusal says why."""

from fractions import Fraction
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_group.errors import DataError, SpecError
from bids_group.inputs.contrasts import build_contrasts
from bids_group.inputs.design import build_design
from bids_group.inputs.spec import parse_spec
from bids_group.inputs.variables import VariableTable
from tests import builders
from tests.hostile.amounts import examples

LEVELS = ("ctrl", "pat", "Größe 2", "x:y")
TERMS = (1, "group", "site", "age", "dose", "group:age", "group:site", "age:dose")


@st.composite
def draw_table(draw):
    """Subjects with two factors and two covariates of whole numbers, some of them without a value."""
    n = draw(st.integers(3, 9))
    subjects = [f"{number:02d}" for number in range(1, n + 1)]

    def draw_column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    columns = {
        "group": draw_column(st.sampled_from(LEVELS)),
        "site": draw_column(st.sampled_from(["s1", "s2", "s3"])),
        "age": draw_column(st.integers(-3, 60)),
        "dose": draw_column(st.integers(0, 2)),
    }
    if draw(st.integers(0, 9)) == 0:
        columns[draw(st.sampled_from(sorted(columns)))][draw(st.integers(0, n - 1))] = "n/a"
    return subjects, columns


def expand(term, columns):
    """Return the columns of a term by their names, in exact numbers."""
    n = len(columns["group"])
    if term == 1:
        return {"intercept": [Fraction(1)] * n}
    parts = [expand_variable(part, columns[part]) for part in term.split(":")]
    return {
        ":".join(names): [
            Fraction(np.prod(values))
            for values in zip(*(part[name] for part, name in zip(parts, names, strict=True)), strict=True)
        ]
        for names in product(*parts)
    }


def expand_variable(name, values):
    if all(isinstance(value, int) for value in values):
        return {name: values}
    return {f"{name}[{level}]": [int(value == level) for value in values] for level in sorted(set(values))}


def find_rank(rows):
    """Return the rank of a matrix of fractions, by elimination."""
    rows, rank = [list(row) for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((row for row in range(rank, len(rows)) if rows[row][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for row in range(rank + 1, len(rows)):
            factor = rows[row][column] / rows[rank][column]
            rows[row] = [a - factor * b for a, b in zip(rows[row], rows[rank], strict=True)]
        rank += 1
    return rank


def make_node(terms, contrasts):
    document = builders.make_spec(node={"GroupBy": [], "Contrasts": contrasts}, model={"X": list(terms)})
    del document["Nodes"][0]["DummyContrasts"]
    return parse_spec(document, "spec.json").nodes[0]


@examples(150)
@given(draw_table(), st.lists(st.sampled_from(TERMS), min_size=1, max_size=4, unique=True), st.data())
def test_columns_rank_and_estimability_are_those_of_exact_arithmetic(drawn, terms, data):
    subjects, columns = drawn
    used = {part for term in terms if term != 1 for part in term.split(":")}
    lacking = [name for name in used if "n/a" in columns[name]]
    exact = {} if lacking else {name: values for term in terms for name, values in expand(term, columns).items()}
    node = make_node(terms, [{"Name": "any", "Test": "t", "ConditionList": ["intercept"], "Weights": [1]}])
    table = VariableTable(builders.make_rows(subjects), builders.make_participants(subjects, **columns))
    matrix = [list(row) for row in zip(*exact.values(), strict=True)]
    if lacking or not all(any(values) for values in exact.values()) or find_rank(matrix) == len(subjects):
        with pytest.raises(DataError):  # no value; a column of zeros; no residual degree of freedom
            build_design(node, table)
        return
    design = build_design(node, table)
    pd.testing.assert_frame_equal(
        design.matrix,
        pd.DataFrame({name: [float(one) for one in values] for name, values in exact.items()}, design.matrix.index),
    )
    assert design.rank == find_rank(matrix)
    assert design.dof == len(subjects) - find_rank(matrix)
    _check_estimability(design, matrix, terms, data)


def _check_estimability(design, matrix, terms, data):
    conditions = data.draw(st.lists(st.sampled_from(design.columns), min_size=1, max_size=3, unique=True))
    weights = data.draw(st.lists(st.sampled_from([-2, -1, 1, 3]), min_size=len(conditions), max_size=len(conditions)))
    contrast = {"Name": "any", "Test": "t", "ConditionList": conditions, "Weights": weights}
    node = make_node(terms, [contrast])
    row = [Fraction(dict(zip(conditions, weights, strict=True)).get(name, 0)) for name in design.columns]
    if find_rank([*matrix, row]) == find_rank(matrix):
        (found,) = build_contrasts(node, design, None)
        np.testing.assert_array_equal(found.weights, [[float(one) for one in row]])
    else:
        with pytest.raises(SpecError, match=r"Contrasts\[0\]"):
            build_contrasts(node, design, None)
