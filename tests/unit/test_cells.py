"""Cells: one map for each subject, contrast and entity that the model names."""

import pandas as pd
import pytest

from bids_group.errors import DataError
from bids_group.inputs import cells
from bids_group.inputs.cells import find_named_entities
from bids_group.inputs.spec import read_spec
from tests.builders import make_rows, make_spec, write_spec


def check_cells(node, rows):
    return cells.check_cells(node, rows, find_named_entities(node))


SUBJECTS = ("01", "02", "03")


@pytest.fixture
def node_of(tmp_path):
    def read(*terms, group_by=()):
        document = make_spec(model={"X": [*terms]}, node={"GroupBy": list(group_by)})
        return read_spec(write_spec(tmp_path / "smdl.json", document)).nodes[0]

    return read


def make_sessions(*sessions):
    return pd.concat([make_rows(SUBJECTS, ("A", "B"), session=session) for session in sessions], ignore_index=True)


def test_a_full_table_has_nothing_to_tell(node_of):
    rows = make_rows(SUBJECTS, ("A", "B"))
    assert check_cells(node_of("A", "B", "subject"), rows) == []
    assert check_cells(node_of(1, group_by=["contrast"]), rows) == []


def test_two_maps_in_a_cell_are_listed_with_what_they_differ_in(node_of):
    rows = make_sessions("pre", "post")
    with pytest.raises(DataError, match="6 cells have more than one map") as caught:
        check_cells(node_of("A", "B", "subject"), rows)
    assert "they differ in session; choose one with Input" in str(caught.value)
    assert check_cells(node_of("A", "B", "session", "subject"), rows) == []


def test_maps_of_two_datasets_are_told_apart_by_the_option_that_chooses_datasets(node_of):
    """`Input` has no key for the dataset."""
    rows = pd.concat([make_rows(SUBJECTS).assign(dataset=name) for name in ("spm", "fsl")], ignore_index=True)
    with pytest.raises(DataError, match=r"they differ in dataset; choose one with --derivatives$"):
        check_cells(node_of(1, group_by=["contrast"]), rows)


def test_one_doubled_subject_suffices(node_of):
    rows = pd.concat([make_rows(SUBJECTS), make_rows(("02",)).assign(run="2")], ignore_index=True)
    with pytest.raises(DataError, match="sub-02, contrast A"):
        check_cells(node_of(1, group_by=["contrast"]), rows)


def test_missing_cells_of_repeated_measures_are_listed(node_of):
    rows = make_rows(SUBJECTS, ("A", "B", "C")).drop(index=[1, 8])
    with pytest.raises(DataError, match="sub-01 B; sub-03 C;"):
        check_cells(node_of("A", "B", "C", "subject"), rows)


def test_a_missing_cell_may_be_one_of_a_session(node_of):
    rows = make_sessions("pre", "post").drop(index=[0])
    with pytest.raises(DataError, match="empty cells: sub-01 A pre;"):
        check_cells(node_of("A", "B", "session", "subject"), rows)


def test_long_lists_are_cut(node_of):
    subjects = [f"{i:02d}" for i in range(20)]
    rows = make_rows(subjects, ("A", "B")).drop(index=range(1, 39, 2))
    with pytest.raises(DataError, match="sub-11 B; and 7 more"):
        check_cells(node_of("A", "B", "subject"), rows)


def test_models_of_single_contrasts_may_differ_in_their_subjects_with_a_warning(node_of):
    rows = make_rows(SUBJECTS, ("A", "B")).drop(index=[3])
    (warning,) = check_cells(node_of(1, group_by=["contrast"]), rows)
    assert "sub-02 B" in warning


def test_an_entity_within_an_interaction_is_part_of_the_cell(node_of):
    assert find_named_entities(node_of("subject", "group:session", "A:session[2]")) == ["session"]
