"""The computations of transformations against pybids, statsmodels and exact tables of truth."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from bids.modeling.transformations.compute import And_, Not, Or_, Product, Sum
from bids.modeling.transformations.munge import Replace
from bids.variables import SimpleVariable
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import SpecError
from tests.unit.test_transformations import get_numbers, make_table, transform

LARGEST_DIFFERENCE = 1e-12
NUMBERS = st.integers(-400, 400).map(lambda n: n / 8)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=10)
BITS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=10)
BOTH = {"Input": ["a", "b"], "Output": "made"}


def make_pair(pairs):
    a, b = zip(*pairs, strict=True)
    return make_table(a=a, b=b), [pd.Series(a), pd.Series(b)]


@settings(max_examples=25, deadline=None)
@given(PAIRS, NUMBERS, NUMBERS)
def test_product_and_sum_are_those_of_pybids(pairs, first, second):
    table, series = make_pair(pairs)
    made = get_numbers(table, {"Name": "Product", **BOTH}, name="made")
    np.testing.assert_array_equal(made, Product._transform(None, series))
    made = get_numbers(table, {"Name": "Sum", **BOTH, "Weights": [first, second]}, name="made")
    theirs = Sum._transform(None, series, weights=[first, second])
    np.testing.assert_array_equal(made, theirs)
    np.testing.assert_array_equal(
        get_numbers(table, {"Name": "Sum", **BOTH}, name="made"), Sum._transform(None, series)
    )


@settings(max_examples=25, deadline=None)
@given(BITS)
def test_logic_is_that_of_pybids(pairs):
    table, series = make_pair(pairs)
    np.testing.assert_array_equal(
        get_numbers(table, {"Name": "And", **BOTH}, name="made"), And_._transform(None, series)
    )
    np.testing.assert_array_equal(get_numbers(table, {"Name": "Or", **BOTH}, name="made"), Or_._transform(None, series))
    np.testing.assert_array_equal(
        get_numbers(table, {"Name": "Not", "Input": "a"}, name="a"), Not._transform(None, series[0])
    )


def test_logic_with_missing_values_is_that_of_kleene():
    values = [(a, b) for a in (0, 1, "n/a") for b in (0, 1, "n/a")]
    table, _ = make_pair(values)
    gap = np.nan
    np.testing.assert_array_equal(
        get_numbers(table, {"Name": "And", **BOTH}, name="made"), [0, 0, 0, 0, 1, gap, 0, gap, gap]
    )
    np.testing.assert_array_equal(
        get_numbers(table, {"Name": "Or", **BOTH}, name="made"), [0, 1, gap, 1, 1, 1, gap, 1, gap]
    )
    np.testing.assert_array_equal(get_numbers(table, {"Name": "Not", "Input": "a"}, name="a")[::3], [1, 0, gap])


@pytest.mark.parametrize("name", ["Sum", "Product"])
def test_nothing_is_filled_in_where_a_value_is_missing(name):
    made = get_numbers(make_table(a=[1, 2, "n/a"], b=[3, "n/a", 5]), {"Name": name, **BOTH}, name="made")
    assert list(np.isnan(made)) == [False, True, True]


def test_a_product_may_have_a_factor_twice():
    table = make_table(age=[2, 3, -4])
    step = {"Name": "Product", "Input": ["age", "age"], "Output": "square"}
    np.testing.assert_array_equal(get_numbers(table, step, name="square"), [4, 9, 16])
    np.testing.assert_array_equal(get_numbers(table, {"Name": "Power", "Input": "age", "Value": 2}), [4, 9, 16])
    np.testing.assert_allclose(
        get_numbers(make_table(age=[8, 27, 64]), {"Name": "Power", "Input": "age", "Value": "1/3"}), [2, 3, 4]
    )


def test_orthogonalize_keeps_the_intercept_and_the_residuals_of_statsmodels():
    rng = np.random.default_rng(3)
    y, a, b = np.array([[40.0], [3.0], [-2.0]]) + rng.standard_normal((3, 15))
    y += 2 * a
    step = {"Name": "Orthogonalize", "Input": "y", "Other": ["a", "b"]}
    made = get_numbers(make_table(y=y, a=a, b=b), step, name="y")
    fit = sm.OLS(y, sm.add_constant(np.c_[a, b])).fit()
    np.testing.assert_allclose(made, fit.resid + fit.params[0], rtol=LARGEST_DIFFERENCE)


def test_orthogonalize_leaves_incomplete_rows_out_of_the_fit():
    table = make_table(y=[1, 3, 5, 100, 7], a=[1, 2, 3, "n/a", 4])
    made = get_numbers(table, {"Name": "Orthogonalize", "Input": "y", "Other": "a"}, name="y")
    np.testing.assert_allclose(made, [-1, -1, -1, np.nan, -1], atol=1e-12)


@pytest.mark.parametrize(
    ("values", "replaced", "for_pybids"),
    [
        ([1, 2, 1, 3], {"1": 10, "3": 30}, {1: 10, 3: 30}),
        (["a", "b", "a", "c"], {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}),
        (["a", "b", "a", "c"], {"a": "x", "c": "x"}, {"a": "x", "c": "x"}),
        ([1, 2, 1, 2], {"1": "left", "2": "right"}, {1: "left", 2: "right"}),
        ([1, 2, 1, 2], {"1": 2, "2": 1}, {1: 2, 2: 1}),
    ],
)
def test_replace_is_that_of_pybids(values, replaced, for_pybids):
    variable = transform(make_table(v=values), {"Name": "Replace", "Input": "v", "Replace": replaced})[0].resolve("v")
    data = pd.DataFrame({"amplitude": pd.Series(values, dtype=object), "subject": range(len(values))})
    theirs = Replace._transform(None, SimpleVariable("v", data, "participants"), for_pybids).values
    ours = variable.labels if variable.is_factor else variable.numbers
    assert list(ours) == list(theirs)


def test_replace_by_n_a_takes_codes_and_words_out_of_numbers():
    step = {"Name": "Replace", "Input": ["age", "iq"], "Replace": {"-999": "n/a", "unknown": "n/a", "90+": 90}}
    table, _ = transform(make_table(age=[20, "-999.0", "90+", 30], iq=[100, "unknown", 110, -999]), step)
    np.testing.assert_array_equal(table.resolve("age").numbers, [20, np.nan, 90, 30])
    np.testing.assert_array_equal(table.resolve("iq").numbers, [100, np.nan, 110, np.nan])


def test_a_factor_stays_one_when_levels_are_joined():
    steps = [{"Name": "Factor", "Input": "site"}, {"Name": "Replace", "Input": "site", "Replace": {"3": "2"}}]
    variable = transform(make_table(site=[1, 2, 3]), *steps)[0].resolve("site")
    assert variable.is_factor
    assert (list(variable.labels), variable.levels) == (["1", "2", "2"], ("1", "2"))


def test_values_that_replace_takes_away_may_then_be_dropped():
    steps = [
        {"Name": "Sum", **BOTH},
        {"Name": "Replace", "Input": "made", "Replace": {"0": "n/a"}},
        {"Name": "DropNA", "Input": "made"},
        {"Name": "Demean", "Input": "made"},
    ]
    table, excluded = transform(make_table(a=[0, 1, 2, 3], b=[0, 1, 0, 1]), *steps)
    assert excluded == {0: "DropNA: no value of made"}
    np.testing.assert_allclose(table.resolve("made").numbers, [-2 / 3, -2 / 3, 4 / 3])


@pytest.mark.parametrize(
    ("step", "path", "told"),
    [
        ({"Name": "Power", "Input": "low", "Value": 0.5}, "Input", "not a finite number in 1 of 3 rows"),
        ({"Name": "Power", "Input": "zero", "Value": -1}, "Input", "not a finite number"),
        ({"Name": "Power", "Input": "zero", "Value": 1e4}, "Input", "not a finite number in 1 of 3 rows"),
        ({"Name": "Product", "Input": ["low", "group"], "Output": "x"}, "Input", "'group': it is a factor"),
        ({"Name": "Orthogonalize", "Input": "low", "Other": "group"}, "Other", "'group': it is a factor"),
        ({"Name": "Replace", "Input": "group", "Replace": {"z": 1}}, "Replace", "there is no value 'z' to replace"),
        ({"Name": "Replace", "Input": "group", "Replace": {"a": 1}}, "Input", "but not 'b'; replace it too"),
        ({"Name": "Replace", "Input": "low", "Replace": {"1": "one"}}, "Input", "replace it too"),
    ],
)
def test_what_cannot_be_computed_is_told_with_its_place(step, path, told):
    with pytest.raises(SpecError) as caught:
        transform(make_table(low=[-1, 1, 4], zero=[0, 1, 2], group=["a", "b", "a"]), step)
    assert caught.value.path == f"Nodes[0].Transformations.Instructions[0].{path}"
    assert told in str(caught.value)
