"""Variables: what a name stands for, what is a number, what is missing, and tables that cannot be right."""

import numpy as np
import pandas as pd
import pytest

from bids_group.errors import DataError
from bids_group.inputs.variable_tables import read_participants
from bids_group.inputs.variables import VariableTable
from tests.builders import write_participants

ROWS = pd.DataFrame(
    {
        "subject": ["01", "01", "02", "02", "03", "03"],
        "session": ["pre", "post"] * 3,
        "run": [None] * 6,
        "contrast": ["A", "B"] * 3,
    }
)


def make_table(**columns):
    return VariableTable(ROWS, pd.DataFrame(columns, index=["03", "01", "02"]))


def test_a_contrast_is_its_indicator_and_an_entity_a_factor():
    table = make_table()
    np.testing.assert_array_equal(table.resolve("A").numbers, [1, 0, 1, 0, 1, 0])
    assert table.resolve("session").is_factor
    assert list(table.resolve("subject").labels) == list(ROWS["subject"])


def test_participants_are_joined_by_label_not_by_position():
    np.testing.assert_array_equal(make_table(age=["3", "1", "2"]).resolve("age").numbers, [1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize("values", [["1", "2.5", "n/a"], ["-1e3", "", "4"]])
def test_a_numeric_column_is_a_covariate_with_gaps(values):
    variable = make_table(age=values).resolve("age")
    assert not variable.is_factor
    assert variable.is_missing.sum() == 2


@pytest.mark.parametrize("values", [["a", "b", "n/a"], ["True", "False", "True"], ["NA", "NA", "NA"]])
def test_a_column_without_a_number_is_a_factor(values):
    assert make_table(age=values).resolve("age").is_factor


@pytest.mark.parametrize("word", ["x", "inf", "nan", "NA", "N/A", "1,5", "0x10", '"20"'])
def test_a_word_among_numbers_is_refused_unless_a_factor_is_asked_for(word):
    table = make_table(age=["1", "2", word])
    with pytest.raises(DataError, match="write n/a for a missing value"):
        table.resolve("age")
    assert table.resolve("age", as_factor=True).is_factor
    # The whole column decides, not the rows of one model.
    with pytest.raises(DataError, match="write n/a for a missing value"):
        table.restrict(ROWS.index[:2]).resolve("age")


@pytest.mark.parametrize("name", ["intercept", "Intercept"])
def test_a_variable_with_the_name_of_the_constant_is_refused(name):
    with pytest.raises(DataError, match="the name of the constant"):
        make_table(**{name: ["1", "2", "3"]}).refuse_reserved_names()


def test_a_line_separator_within_a_cell_is_part_of_it(tmp_path):
    (tmp_path / "participants.tsv").write_bytes("participant_id\tnote\r\nsub-01\ta\u2028b\r\n".encode())
    assert read_participants([tmp_path])["note"].to_dict() == {"01": "a\u2028b"}


def test_a_participant_without_a_row_has_no_value():
    table = VariableTable(ROWS, pd.DataFrame({"age": ["1", "2"]}, index=["01", "02"]))
    assert list(table.resolve("age").is_missing) == [False] * 4 + [True] * 2


def test_unknown_and_ambiguous_names_are_refused():
    with pytest.raises(DataError, match="did you mean 'session'"):
        make_table().resolve("sesion")
    with pytest.raises(DataError, match=r"both an entity of the maps and a column of participants\.tsv"):
        make_table(session=["a", "b", "c"]).resolve("session")
    with pytest.raises(DataError, match="no variable 'run'"):
        make_table().resolve("run")


def test_participants_are_read_from_the_first_folder_that_has_them(tmp_path):
    raw, derivative = tmp_path / "raw", tmp_path / "derivative"
    for folder, age in ((raw, 30), (derivative, 60)):
        folder.mkdir()
        write_participants(folder, pd.DataFrame({"participant_id": ["sub-01"], "age": [age]}))
    assert read_participants([tmp_path, raw, derivative])["age"].to_dict() == {"01": "30"}
    assert len(read_participants([tmp_path])) == 0


def test_labels_are_kept_as_written_and_gaps_as_n_a(tmp_path):
    table = pd.DataFrame({"participant_id": ["sub-01", "02"], "site": ["01", None], "age": [1.0, np.nan]})
    read = read_participants([write_participants(tmp_path, table).parent])
    assert read.to_dict("list") == {"site": ["01", "n/a"], "age": ["1.0", "n/a"]}
    assert list(read.index) == ["01", "02"]


def test_windows_line_ends_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    text = "\ufeffparticipant_id\tage \r\nsub-01\t 30\r\n\r\nsub-02\t31\r\n"
    (tmp_path / "participants.tsv").write_bytes(text.encode("utf-8"))
    assert read_participants([tmp_path])["age"].to_dict() == {"01": "30", "02": "31"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "participant_id"),
        (b"participant_id,age\nsub-01,3\n", "participant_id"),
        (b"participant_id\tage\nsub-01\n", "line 2 has 1 cells and the header 2"),
        (b"participant_id\tage\tage\nsub-01\t1\t2\n", "the column 'age' stands there more than once"),
        (b"participant_id\nsub-01\n01\n", "the participant '01' stands there more than once"),
        ("participant_id\tn\u00e4me\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_tables_that_cannot_be_right_are_refused(tmp_path, content, told):
    (tmp_path / "participants.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"participants\.tsv") as caught:
        read_participants([tmp_path])
    assert told in str(caught.value)
