"""Formulas: nothing but the language is accepted, and what is accepted means what formulaic takes it for."""

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from formulaic.errors import FormulaicError
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.inputs.formula import HIGHEST_POWER, LONGEST_FORMULA, FormulaError, parse_formula

DATA = pd.DataFrame(
    {
        "age": [20.5, 31.0, 44.0, 27.0, 52.0, 36.0, 23.0, 61.0],
        "dose": [1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0, 0.0],
        "group": ["p", "c", "p", "c", "p", "c", "c", "p"],
    }
)
NAMES = st.sampled_from(sorted(DATA.columns))
NUMERIC = st.sampled_from(["age", "dose"])
SPACES = st.sampled_from(["", " ", "\t"])


def join(*parts):
    return st.builds("".join, st.tuples(*[st.just(part) if isinstance(part, str) else part for part in parts]))


ATOMS = st.one_of(
    NAMES,
    st.just("1"),
    join("C(", SPACES, NAMES, SPACES, ")"),
    join(st.sampled_from(["center", "scale"]), "(", NUMERIC, ")"),
    join("poly(", NUMERIC, SPACES, ",", SPACES, st.sampled_from("12"), ")"),
)
FORMULAS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        join(inner, SPACES, st.sampled_from("+-:*"), SPACES, inner),
        join("(", SPACES, inner, SPACES, ")"),
        join("(", inner, ")^", st.sampled_from("123")),
    ),
    max_leaves=5,
)


def evaluate(text):
    try:
        matrix = model_matrix(text, DATA, context={})
    except (FormulaicError, ValueError) as error:
        return type(error)
    return list(matrix.columns), np.asarray(matrix, float)


def touch(path):
    """Python code that creates a file."""
    return f"__import__('pathlib').Path({str(path)!r}).touch()"


def is_same(left, right):
    if isinstance(left, type) or isinstance(right, type):
        return left is right
    return left[0] == right[0] and np.array_equal(left[1], right[1], equal_nan=True)


@settings(max_examples=80, deadline=None)
@given(FORMULAS)
def test_an_accepted_formula_means_what_formulaic_takes_the_original_for(text):
    assert is_same(evaluate(parse_formula(text).text), evaluate(text))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.text("ab1+-:*^(),C ~{}.`'\"[]", max_size=30) | FORMULAS)
def test_any_text_is_refused_or_written_anew_in_the_language(text):
    try:
        formula = parse_formula(text)
    except FormulaError:
        return
    assert set(formula.text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-:*^(), ")
    assert parse_formula(formula.text) == formula


@pytest.mark.parametrize(
    "template",
    [
        "{CODE}",
        "age + {CODE}",
        "I(CODE)",
        "I(age)",
        "CODE",
        "C(CODE)",
        "poly(age, CODE)",
        "`CODE`",
        "age.__class__",
        "exec('CODE')",
        "np.log(age)",
        "C(age, contr.treatment)",
        "C(age, levels=[1])",
        "age['a']",
        "age ~ group",
        "~ age",
        "age | group",
        "age %in% group",
        "age / group",
        "age ** 2",
        "lambda x: 1",
        "C(lambda)",
        "log(age)",
        "'age'",
        "age; age",
        "@age",
    ],
)
def test_nothing_outside_the_language_is_executed(template, tmp_path):
    sentinel = tmp_path / "sentinel"
    with pytest.raises(FormulaError):
        parse_formula(template.replace("CODE", touch(sentinel)))
    assert not sentinel.exists()


def test_formulaic_itself_would_have_executed_it(tmp_path):
    sentinel = tmp_path / "sentinel"
    evaluate(f"{{{touch(sentinel)}}}")
    assert sentinel.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age +",
        "(age",
        "age)",
        "age age",
        "2",
        "age^0",
        f"age^{HIGHEST_POWER + 1}",
        "age^group",
        "age^\u0662",
        "poly(age, \u0662)",
        "poly(age)",
        "poly(age, 10)",
        "C(1)",
        "C()",
        "+" * 3,
        "(" * 30 + "age" + ")" * 30,
        "C(" * 30 + "age" + ")" * 30,
        "a+" * LONGEST_FORMULA + "a",
    ],
)
def test_malformed_formulas_are_refused(text):
    with pytest.raises(FormulaError):
        parse_formula(text)


def test_names_are_listed_once_in_order():
    formula = parse_formula("  group*scale( age ) -1+age:C(site) ")
    assert formula.text == "group*scale(age) - 1 + age:C(site)"
    assert formula.names == ("group", "age", "site")


def test_a_mistyped_function_is_recognised():
    with pytest.raises(FormulaError, match="'Center' is not allowed; did you mean 'center'"):
        parse_formula("Center(age)")


def test_a_formula_that_would_explode_is_refused():
    with pytest.raises(FormulaError, match="crosses more than"):
        parse_formula("*".join("abcdefghijk"))
