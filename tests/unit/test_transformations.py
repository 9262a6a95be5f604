"""Transformations against pybids' own, and over the rows that remain."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bids.modeling.transformations.compute import Demean, Scale, Threshold
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import DataError, SpecError
from bids_group.inputs.strict import Place
from bids_group.inputs.transformations import apply_instructions, read_instructions
from bids_group.inputs.variables import VariableTable

LARGEST_DIFFERENCE = 1e-12
PAGE = (Path(__file__).parents[2] / "docs" / "model-spec.md").read_text(encoding="utf-8")
TABLE = PAGE.split("### Transformations")[1].split("### ")[0].split("| --- |")[-1]
DOCUMENTED = [
    name for cell in re.findall(r"^\| (.*?) \|", TABLE, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
]


def make_table(**columns):
    subjects = [f"{i:02d}" for i in range(1, 1 + len(next(iter(columns.values()))))]
    participants = pd.DataFrame({k: [str(v) for v in values] for k, values in columns.items()}, index=subjects)
    return VariableTable(pd.DataFrame({"subject": subjects, "contrast": "A"}), participants)


def transform(table, *instructions):
    document = {"Transformer": "pybids-transforms-v1", "Instructions": list(instructions)}
    return apply_instructions(read_instructions(Place(document, "Nodes[0].Transformations")), table)


def get_numbers(table, *instructions, name="age"):
    return transform(table, *instructions)[0].resolve(name).numbers


NUMBERS = st.lists(st.integers(-1000, 1000).map(lambda n: n / 8), min_size=3, max_size=12)
VARIED = NUMBERS.filter(lambda values: len(set(values)) > 1)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_transformation_that_is_documented_is_known_by_that_name(name):
    assert len(DOCUMENTED) > 15
    refused_at = ""
    try:
        transform(make_table(age=[1, 2]), {"Name": name, "Input": ["age"]})
    except SpecError as error:  # it lacks what it requires
        refused_at = error.path
    assert not refused_at.endswith(".Name")


@settings(max_examples=30, deadline=None)
@given(VARIED, st.booleans(), st.booleans())
def test_scale_and_demean_are_those_of_pybids(values, demean, rescale):
    ours = get_numbers(make_table(age=values), {"Name": "Scale", "Input": "age", "Demean": demean, "Rescale": rescale})
    theirs = Scale._transform(None, pd.Series(values), demean=demean, rescale=rescale)
    np.testing.assert_allclose(ours, theirs, rtol=LARGEST_DIFFERENCE, atol=LARGEST_DIFFERENCE)
    ours = get_numbers(make_table(age=values), {"Name": "Demean", "Input": ["age"]})
    np.testing.assert_allclose(ours, Demean._transform(None, pd.Series(values)), atol=LARGEST_DIFFERENCE)


@settings(max_examples=40, deadline=None)
@given(NUMBERS, st.integers(-500, 500).map(lambda n: n / 8), st.booleans(), st.booleans())
def test_a_signed_threshold_is_that_of_pybids(values, limit, binarize, above):
    options = {"Threshold": limit, "Binarize": binarize, "Above": above}
    ours = get_numbers(make_table(age=values), {"Name": "Threshold", "Input": "age", **options})
    theirs = Threshold._transform(None, pd.Series(values), threshold=limit, binarize=binarize, above=above)
    np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=20, deadline=None)
@given(NUMBERS, st.integers(0, 500).map(lambda n: n / 8))
def test_an_unsigned_threshold_keeps_what_is_far_from_zero_with_its_sign(values, limit):
    kept = get_numbers(
        make_table(age=values), {"Name": "Threshold", "Input": "age", "Threshold": limit, "Signed": False}
    )
    np.testing.assert_array_equal(kept, [v if abs(v) >= limit else 0 for v in values])


def test_scale_divides_by_the_n_minus_1_sd():
    # (2, 4, 4, 4, 5, 5, 7, 9): mean 5, sum of squares 32.
    scaled = get_numbers(make_table(age=[2, 4, 4, 4, 5, 5, 7, 9]), {"Name": "Scale", "Input": "age"})
    np.testing.assert_allclose(scaled, (np.array([2, 4, 4, 4, 5, 5, 7, 9]) - 5) / np.sqrt(32 / 7), rtol=1e-14)


@pytest.mark.parametrize("filter_first", [True, False])
def test_scale_describes_the_rows_that_remain_after_filter(filter_first):
    table = make_table(age=[20, 30, 40, 90], group=["a", "a", "a", "b"])
    steps = [{"Name": "Filter", "Input": "group", "Query": "group == 'a'"}, {"Name": "Scale", "Input": "age"}]
    remaining, excluded = transform(table, *(steps if filter_first else steps[::-1]))
    np.testing.assert_allclose(remaining.resolve("age").numbers, [-1, 0, 1], atol=1e-15)
    assert excluded == {3: "Filter: group == 'a'"}
    assert list(remaining.rows["subject"]) == ["01", "02", "03"]


def test_transformations_are_done_in_their_order():
    table = make_table(age=[1, 2, 3, 10])
    demean, cut = {"Name": "Demean", "Input": "age"}, {"Name": "Threshold", "Input": "age", "Threshold": 2}
    np.testing.assert_array_equal(get_numbers(table, demean, cut), [0, 0, 0, 6])
    np.testing.assert_array_equal(get_numbers(table, cut, demean), [-3.75, -1.75, -0.75, 6.25])


def test_a_filter_sees_what_was_computed_before_it():
    table = make_table(age=[1, 2, 3, 10])
    steps = [
        {"Name": "Demean", "Input": "age", "Output": "centred"},
        {"Name": "Filter", "Input": "centred", "Query": "centred < 0"},
    ]
    remaining, _ = transform(table, *steps)
    np.testing.assert_array_equal(remaining.resolve("age").numbers, [1, 2, 3])
    np.testing.assert_array_equal(remaining.resolve("centred").numbers, [-1, 0, 1])


def test_a_second_filter_applies_to_what_the_first_left_and_tells_its_own_reason():
    table = make_table(age=[1, 2, 3, 4])
    steps = [{"Name": "Filter", "Input": "age", "Query": query} for query in ("age > 1", "age < 4")]
    remaining, excluded = transform(table, *steps)
    assert list(remaining.rows.index) == [1, 2]
    assert excluded == {0: "Filter: age > 1", 3: "Filter: age < 4"}


def test_factor_makes_a_number_categorical():
    factor = transform(make_table(site=[1, 2, 10]), {"Name": "Factor", "Input": ["site"]})[0].resolve("site")
    assert factor.is_factor
    assert list(factor.labels) == ["1", "2", "10"]


def test_a_missing_value_stays_missing():
    table = make_table(age=[1, "n/a", 3])
    for step in ({"Name": "Scale"}, {"Name": "Demean"}, {"Name": "Threshold", "Binarize": True}):
        numbers = get_numbers(table, {**step, "Input": "age"})
        assert list(np.isnan(numbers)) == [False, True, False]
    np.testing.assert_array_equal(get_numbers(table, {"Name": "Demean", "Input": "age"}), [-1, np.nan, 1])


@pytest.mark.parametrize("value", [3, 0.1, 1e-3])
def test_a_constant_cannot_be_scaled(value):
    # The SD of three times 0.1 is 1.7e-17, not 0.
    with pytest.raises(SpecError, match="one value only"):
        get_numbers(make_table(age=[value] * 3), {"Name": "Scale", "Input": "age"})


@pytest.mark.parametrize(
    ("step", "path", "told"),
    [
        ({"Name": "Scael", "Input": "age"}, "Instructions[0].Name", "did you mean 'Scale'"),
        ({"Name": "Scale", "Input": "aeg"}, "Instructions[0].Input", "did you mean 'age'"),
        ({"Name": "Scale", "Input": "group"}, "Instructions[0].Input", "a factor, not a number"),
        ({"Name": "Scale"}, "Instructions[0]", "'Input' is missing"),
        ({"Name": "Scale", "Input": []}, "Instructions[0].Input", "empty"),
        ({"Name": "Scale", "Input": "age", "Demeen": True}, "Instructions[0].Demeen", "did you mean 'Demean'"),
        ({"Name": "Scale", "Input": "age", "Demean": 1}, "Instructions[0].Demean", "true or false"),
        ({"Name": "Scale", "Input": "age", "Output": ["a", "b"]}, "Instructions[0].Output", "2 names for 1"),
        ({"Name": "Filter", "Input": "age"}, "Instructions[0]", "'Query' is missing"),
        ({"Name": "Filter", "Input": "age", "Query": "age > 99"}, "Instructions[0].Query", "no row"),
        ({"Name": "Filter", "Input": "age", "Query": "aeg > 9"}, "Instructions[0].Query", "did you mean 'age'"),
        ({"Name": "Filter", "Input": "age", "Query": "open('x')"}, "Instructions[0].Query", "not a comparison"),
    ],
)
def test_faults_are_told_with_their_place(step, path, told):
    with pytest.raises(SpecError) as caught:
        transform(make_table(age=[1, 2, 3], group=["a", "b", "a"]), step)
    assert caught.value.path == f"Nodes[0].Transformations.{path}"
    assert told in str(caught.value)


def test_drop_na_excludes_rows_and_says_what_is_missing():
    table = make_table(age=[1, "n/a", 3, "n/a", 6], group=["a", "b", "n/a", "", "b"])
    steps = [{"Name": "Demean", "Input": "age"}, {"Name": "DropNA", "Input": ["age", "group"]}]
    remaining, excluded = transform(table, *steps)
    reasons = ("age", "group", "age, group")
    assert excluded == {row: f"DropNA: no value of {names}" for row, names in zip((1, 2, 3), reasons, strict=True)}
    np.testing.assert_allclose(remaining.resolve("age").numbers, [-2.5, 2.5])


def test_copy_keeps_the_first_and_rename_takes_it_away():
    table = make_table(age=[1, 2, 3])
    copied, _ = transform(
        table, {"Name": "Copy", "Input": "age", "Output": "years"}, {"Name": "Demean", "Input": "years"}
    )
    np.testing.assert_array_equal(copied.resolve("age").numbers, [1, 2, 3])
    np.testing.assert_array_equal(copied.resolve("years").numbers, [-1, 0, 1])
    renamed, _ = transform(table, {"Name": "Rename", "Input": "age", "Output": "years"})
    np.testing.assert_array_equal(renamed.resolve("years").numbers, [1, 2, 3])
    assert "age" not in renamed.find_names()
    with pytest.raises(DataError, match="renamed or removed"):
        renamed.resolve("age")


def test_rename_can_swap_names():
    swapped, _ = transform(
        make_table(a=[1, 2], b=[3, 4]), {"Name": "Rename", "Input": ["a", "b"], "Output": ["b", "a"]}
    )
    assert [list(swapped.resolve(name).numbers) for name in "ab"] == [[3, 4], [1, 2]]


def test_delete_and_select_take_columns_away_and_leave_the_maps_their_names():
    table = make_table(age=[1, 2], dose=[3, 4], site=["x", "y"])
    assert transform(table, {"Name": "Delete", "Input": ["age", "site"]})[0].find_names() == [
        "A",
        "contrast",
        "dose",
        "subject",
    ]
    steps = [{"Name": "Copy", "Input": "age", "Output": "years"}, {"Name": "Select", "Input": "years"}]
    assert transform(table, *steps)[0].find_names() == ["A", "contrast", "subject", "years"]


def test_what_was_deleted_can_be_made_anew():
    steps = [{"Name": "Delete", "Input": "age"}, {"Name": "Copy", "Input": "dose", "Output": "age"}]
    np.testing.assert_array_equal(get_numbers(make_table(age=[1, 2], dose=[3, 4]), *steps), [3, 4])


@pytest.mark.parametrize("name", ["Convolve", "Lag", "Resample", "ToDense", "Assign", "Split", "Group"])
def test_what_needs_the_time_of_a_run_is_refused_by_name(name):
    with pytest.raises(SpecError, match=f"{name}' is not possible for the variables of a group analysis: ") as caught:
        transform(make_table(age=[1, 2]), {"Name": name, "Input": "age", "Shift": 1})
    assert caught.value.path == "Nodes[0].Transformations.Instructions[0].Name"


@pytest.mark.parametrize(
    ("step", "path", "told"),
    [
        ({"Name": "Sum", "Input": ["age", "dose"]}, "", "'Output' is missing"),
        ({"Name": "Sum", "Input": ["age", "dose"], "Output": ["a", "b"]}, ".Output", "one variable is made"),
        ({"Name": "Sum", "Input": ["age"], "Output": "a", "Weights": [1, 2]}, ".Weights", "2 weights for 1"),
        ({"Name": "Copy", "Input": ["age", "dose"], "Output": ["a", "a"]}, ".Output", "more than once"),
        ({"Name": "Factor", "Input": "age", "Output": "a"}, ".Output", "unknown key"),
        ({"Name": "Power", "Input": "age"}, "", "'Value' is missing"),
        ({"Name": "Delete", "Input": "aeg"}, ".Input", "did you mean 'age'"),
        ({"Name": "DropNA", "Input": "aeg"}, ".Input", "did you mean 'age'"),
        ({"Name": "DropNA", "Input": "empty"}, ".Input", "every row"),
        ({"Name": "Replace", "Input": "age", "Replace": {}}, ".Replace", "nothing to replace"),
        ({"Name": "Replace", "Input": "age", "Replace": {"1": True}}, ".Replace.1", "a number"),
        ({"Name": "Replace", "Input": "age", "Replace": {"1": 2}, "Attribute": "onset"}, ".Attribute", "no onset"),
        ({"Name": "Ad", "Input": "age"}, ".Name", "did you mean 'And'"),
    ],
)
def test_faults_of_the_further_transformations_are_told_with_their_place(step, path, told):
    with pytest.raises(SpecError) as caught:
        transform(make_table(age=[1, 2], dose=[3, 4], empty=["n/a", "n/a"]), step)
    assert caught.value.path == f"Nodes[0].Transformations.Instructions[0]{path}"
    assert told in str(caught.value)
