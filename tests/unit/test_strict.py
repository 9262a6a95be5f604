"""Strict JSON: what JSON does not allow is refused, and every fault is told with its place."""

import contextlib
import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import DataError, MissingInputError, SpecError
from bids_group.inputs.strict import Place, read_json, shorten, suggest

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("json")


def write(folder, text, encoding="utf-8"):
    path = folder / "document.json"
    path.write_bytes(text.encode(encoding))
    return path


@settings(max_examples=50, deadline=None)
@given(JSON_VALUES)
def test_valid_json_is_read_as_the_standard_library_reads_it(folder, document):
    text = json.dumps(document)
    assert read_json(write(folder, text)) == json.loads(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_give_a_document_or_a_data_error(folder, content):
    path = folder / "bytes.json"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert json.loads(json.dumps(read_json(path))) == json.loads(content.decode("utf-8-sig"))


def test_a_byte_order_mark_is_not_part_of_the_document(folder):
    assert read_json(write(folder, '{"Name": "x"}', "utf-8-sig")) == {"Name": "x"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "'a' stands more than once"),
        ('{"b": {"a": 1, "a": 2}}', "'a' stands more than once"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1,}', "line 1, column"),
        ('{\n "a" 1}', "line 2, column 6"),
        ("", "line 1"),
        ("[" * 500 + "]" * 500, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a": "\\ud800"}', "surrogates"),
        ("9" * 5000, "digits"),
    ],
)
def test_what_json_does_not_allow_is_refused_with_its_place(folder, text, told):
    with pytest.raises(DataError, match=r"document\.json") as caught:
        read_json(write(folder, text))
    assert told in str(caught.value)
    assert caught.value.exit_code == 65


def test_other_encodings_and_missing_files_are_told_apart(folder):
    with pytest.raises(DataError, match="UTF-8"):
        read_json(write(folder, '{"Name": "\u00e9"}', "utf-16"))
    with pytest.raises(MissingInputError, match=r"absent\.json"):
        read_json(folder / "absent.json")


def test_faults_are_told_with_the_json_path():
    document = Place({"Nodes": [{}, {"Contrasts": [{"Weights": [1, "a"]}]}]})
    weights = document.fields(["Nodes"])["Nodes"].items()[1].fields(["Contrasts"])["Contrasts"].items()[0]
    with pytest.raises(SpecError) as caught:
        weights.fields(["Weights"])["Weights"].items()[1].number()
    assert caught.value.path == "Nodes[1].Contrasts[0].Weights[1]"
    assert str(caught.value).startswith("Nodes[1].Contrasts[0].Weights[1]: ")


def test_unknown_and_missing_keys_name_what_was_meant():
    with pytest.raises(SpecError, match="unknown key 'weigths'; did you mean 'Weights'"):
        Place({"weigths": 1}).fields(["Weights", "Name"])
    with pytest.raises(SpecError, match="the key 'Name' is missing"):
        Place({}, "Nodes[0]").fields(["Name"], required=["Name"])


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_are_numbers(numerator, denominator):
    exact = Fraction(numerator, denominator)
    assert Place(f"{numerator}/{denominator}").number() == numerator / denominator
    assert Place(f" {numerator} / {denominator} ").number() == pytest.approx(float(exact), rel=1e-15)


@pytest.mark.parametrize("value", ["1/0", "a", "1/2/3", "1/-3", "", "1e3", "__import__('os')", True, None, [1], {}])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(SpecError):
        Place(value).number()


def test_numbers_beyond_the_range_are_refused():
    for value in (float("inf"), 10**400):
        with pytest.raises(SpecError, match="too large"):
            Place(value).number()


def test_true_and_false_are_not_numbers_nor_numbers_booleans():
    for read in (Place(True).whole_number, Place(1).boolean, Place(False).text, Place(1.0).whole_number):
        with pytest.raises(SpecError):
            read()


def test_a_choice_is_returned_in_its_own_type():
    assert type(Place(6.0).choice((6, 18, 26))) is int
    for value in (True, "6", [6], None, 7):
        with pytest.raises(SpecError):
            Place(value).choice((6, 18, 26))


@given(JSON_VALUES)
def test_any_value_is_shown_in_at_most_sixty_characters(value):
    assert len(shorten(value)) <= 60


def test_suggestions_ignore_case_and_end_at_a_dozen():
    assert suggest("patiant", ["Patient", "control"]) == "did you mean 'Patient'?"
    assert suggest("x", []) == "there is none to choose from"
    assert suggest("x", [f"name{i:02d}" for i in range(15)]).endswith("'name11' and 3 more")
