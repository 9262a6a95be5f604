"""sessions.tsv and phenotype tables: joined by labels, as strict as participants.tsv, and a fault only where needed."""

import numpy as np
import pandas as pd
import pytest

from bids_group.errors import DataError, SpecError
from bids_group.inputs.study import InputOptions, prepare_study
from bids_group.inputs.variable_tables import list_tables, read_further_tables, read_participants
from bids_group.inputs.variables import VariableTable
from tests.builders import make_maps, make_spec, write_derivative, write_participants, write_spec

SUBJECTS = ("01", "02", "03")
ROWS = pd.DataFrame({"subject": [s for s in SUBJECTS for _ in "ab"], "session": ["pre", "post"] * 3, "contrast": "A"})
NO_SESSIONS = ROWS.iloc[::2].drop(columns="session")
DAYS = {"01": (0, 14), "02": (1, 10), "03": (2, 30)}


def write_table(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))


def write_sessions(root):
    """Write the sessions of each subject, last session first."""
    for subject, (pre, post) in DAYS.items():
        lines = ["session_id\tdays\tcaffeine", f"ses-post\t{post}\tyes", f"ses-pre\t{pre}\tno"]
        write_table(root, f"sub-{subject}/sub-{subject}_sessions.tsv", "\n".join(lines))


def make_table(*folders, rows=ROWS):
    return VariableTable(rows, read_participants(list(folders)), tables=read_further_tables(list(folders)))


def test_sessions_are_joined_by_the_labels_of_subject_and_session(tmp_path):
    write_sessions(tmp_path)
    table = make_table(tmp_path, rows=ROWS.iloc[::-1])
    np.testing.assert_array_equal(table.resolve("days").numbers, [30, 2, 10, 1, 14, 0])
    assert list(table.resolve("caffeine").labels) == ["yes", "no"] * 3
    assert table.resolve("caffeine").levels == ("no", "yes")


def test_a_session_without_a_row_has_no_value(tmp_path):
    write_sessions(tmp_path)
    write_table(tmp_path, "sub-02/sub-02_sessions.tsv", "session_id\tdays\nses-pre\t1\n")
    table = make_table(tmp_path)
    assert list(table.resolve("days").is_missing) == [False] * 3 + [True] + [False] * 2
    assert list(table.resolve("caffeine").is_missing) == [False] * 2 + [True] * 2 + [False] * 2


def test_a_column_of_sessions_needs_maps_of_sessions(tmp_path):
    write_sessions(tmp_path)
    for rows in (NO_SESSIONS, ROWS.assign(session=["pre", None] * 3)):
        with pytest.raises(
            DataError, match=r"'days' is a column of sessions\.tsv.*sub-01 has maps without the session"
        ):
            make_table(tmp_path, rows=rows).resolve("days")


def test_phenotype_has_a_value_per_participant_or_per_session(tmp_path):
    write_table(tmp_path, "phenotype/bdi.tsv", "\ufeffparticipant_id\tbdi\r\nsub-03\t7\r\n02\t n/a\r\nsub-01\t5\r\n")
    lines = [f"sub-{s}\tses-{ses}\t{10 * int(s) + k}" for k, ses in enumerate(("pre", "post")) for s in SUBJECTS]
    write_table(tmp_path, "phenotype/panas.tsv", "\n".join(["participant_id\tsession_id\tpanas", *lines]))
    table = make_table(tmp_path)
    np.testing.assert_array_equal(table.resolve("bdi").numbers, [5, 5, np.nan, np.nan, 7, 7])
    np.testing.assert_array_equal(table.resolve("panas").numbers, [10, 11, 20, 21, 30, 31])
    assert make_table(tmp_path, rows=NO_SESSIONS).resolve("bdi").numbers.notna().sum() == 2
    with pytest.raises(DataError, match=r"phenotype/panas\.tsv"):
        make_table(tmp_path, rows=NO_SESSIONS).resolve("panas")


def test_a_name_in_two_tables_is_ambiguous_and_both_are_named(tmp_path):
    for name in ("bdi", "intake"):
        write_table(tmp_path, f"phenotype/{name}.tsv", "participant_id\tage\tscore\nsub-01\t5\t1\n")
    write_participants(tmp_path, pd.DataFrame({"participant_id": ["sub-01"], "age": [30]}))
    table = make_table(tmp_path)
    with pytest.raises(
        DataError, match=r"participants\.tsv and .*phenotype/bdi\.tsv and .*phenotype/intake\.tsv; rename"
    ):
        table.resolve("age")
    with pytest.raises(DataError, match=r"both a column of phenotype/bdi\.tsv and a column of phenotype/intake\.tsv"):
        table.resolve("score")


def test_the_raw_dataset_comes_before_the_derivative(tmp_path):
    for folder, score in (("raw", 1), ("derivative", 2)):
        write_table(tmp_path, f"{folder}/phenotype/bdi.tsv", f"participant_id\tbdi\nsub-01\t{score}\n")
    write_sessions(tmp_path / "derivative")
    table = make_table(tmp_path / "raw", tmp_path / "derivative")
    assert table.resolve("bdi").numbers[0] == 1
    assert table.resolve("days").numbers[0] == 0


def test_every_table_that_is_read_is_listed_and_no_other(tmp_path):
    raw, derived = tmp_path / "raw", tmp_path / "derived"
    write_sessions(raw)
    for folder in (raw, derived):
        write_table(folder, "phenotype/memory.tsv", "participant_id\tspan\nsub-01\t5")
        write_participants(folder, pd.DataFrame({"participant_id": ["sub-01"], "age": [30]}))
    write_table(raw, "phenotype/memory.json", "{}")
    names = [path.relative_to(raw).as_posix() for path in list_tables([raw, derived])]
    sessions = [f"sub-{subject}/sub-{subject}_sessions.tsv" for subject in SUBJECTS]
    assert names == ["participants.tsv", *sessions, "phenotype/memory.tsv"]
    assert list_tables([tmp_path]) == []


def test_a_word_among_numbers_is_told_with_subject_and_session(tmp_path):
    write_sessions(tmp_path)
    write_table(tmp_path, "sub-02/sub-02_sessions.tsv", "session_id\tdays\nses-pre\tlate\n")
    with pytest.raises(DataError, match="'late' for sub-02 ses-pre; write n/a"):
        make_table(tmp_path).resolve("days")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("participant_id\tbdi\nsub-01\n", "line 2 has 1 cells and the header 2"),
        ("participant_id\tbdi\nsub-01\t3\n01\t4\n", "the participant '01' stands there more than once"),
        ("participant_id\tbdi\tbdi\nsub-01\t3\t3\n", "the column 'bdi' stands there more than once"),
        ("participant\tbdi\nsub-01\t3\n", "there is no column participant_id"),
        (
            "participant_id\tsession_id\tbdi\nsub-01\tpre\t3\nsub-01\tses-pre\t4\n",
            "the participant and session '01 pre' stands there more than once",
        ),
    ],
)
def test_a_broken_table_is_an_error_only_where_its_column_is_needed(tmp_path, text, told):
    write_table(tmp_path, "phenotype/bdi.tsv", text)
    write_participants(tmp_path, pd.DataFrame({"participant_id": ["sub-01"], "age": [30]}))
    table = make_table(tmp_path)
    assert table.resolve("age").numbers[0] == 30
    with pytest.raises(DataError, match=r"'bdi' is a column of phenotype/bdi\.tsv, which cannot be used") as caught:
        table.resolve("bdi")
    assert told in str(caught.value)


def test_a_table_whose_columns_cannot_be_known_is_told_where_a_name_is_unknown(tmp_path):
    write_table(tmp_path, "phenotype/bdi.tsv", "participant_id\tm\u00fcde\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"no variable 'bdi'.*bdi\.tsv: not a UTF-8"):
        make_table(tmp_path).resolve("bdi")


def test_a_column_with_the_name_of_the_constant_is_no_variable(tmp_path):
    write_table(tmp_path, "phenotype/fit.tsv", "participant_id\tIntercept\tslope\nsub-01\t1\t2\n")
    table = make_table(tmp_path)
    table.refuse_reserved_names()
    assert table.resolve("slope").numbers[0] == 2
    with pytest.raises(DataError, match="the name of the constant"):
        table.resolve("Intercept")


def write_study(root):
    """Write a derivative of maps of two sessions, with tables, and return its folder."""
    maps = make_maps(SUBJECTS, ("A",), shape=(3, 3, 2))
    named = {
        f"sub-{s}/ses-{ses}/func/sub-{s}_ses-{ses}_task-x_desc-A_effect.nii.gz": next(iter(maps.values()))
        + k
        + 2 * int(s)
        for s in SUBJECTS
        for k, ses in enumerate(("pre", "post"))
    }
    folder = write_derivative(root, named)
    write_sessions(folder)
    return folder


def prepare(root):
    """Prepare the paired design of the study with days as a covariate."""
    model = {"X": ["subject", "session", "days"], "Software": {"bids_group": {"ErrorTerm": "pooled"}}}
    node = {"GroupBy": [], "DummyContrasts": {"Test": "t", "Contrasts": ["days"]}}
    spec = write_spec(root / "smdl.json", make_spec(model=model, node=node))
    return prepare_study(InputOptions(root / "firstlevel", spec), root / "out")


def test_tables_reach_the_design_and_broken_ones_are_warned_of(tmp_path):
    folder = write_study(tmp_path)
    write_table(folder, "phenotype/bdi.tsv", "participant_id\tbdi\nsub-01\n")
    study = prepare(tmp_path)
    (model,) = study.nodes[0].plan.models
    expected = [DAYS[s][ses == "post"] for s, ses in zip(model.rows["subject"], model.rows["session"], strict=True)]
    np.testing.assert_array_equal(model.design.matrix["days"], expected)
    assert any("phenotype/bdi.tsv" in warning and "line 2" in warning for warning in study.warnings)


def test_missing_values_of_sessions_name_the_sessions(tmp_path):
    folder = write_study(tmp_path)
    write_table(folder, "sub-02/sub-02_sessions.tsv", "session_id\tdays\nses-pre\tn/a\nses-post\t3\n")
    write_table(folder, "sub-03/sub-03_sessions.tsv", "session_id\tdays\n")
    with pytest.raises(SpecError, match=r"no row in sessions\.tsv\) for sub-02 ses-pre, sub-03;"):
        prepare(tmp_path)


@pytest.mark.parametrize("name", ["participants.tsv", "sub-01/sub-01_sessions.tsv", "phenotype/age.tsv"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_no_table_in_the_place_of_one_is_refused(name, kind, tmp_path):
    """Else a table of another dataset would be taken without a word."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere.tsv")
    with pytest.raises(DataError, match=f"{path.name}: a {'folder' if kind == 'folder' else 'link to nothing'}"):
        list_tables([tmp_path])
