"""Filters: what is selected, what is left out and why, and what is asked for in vain."""

import contextlib
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import DataError, NothingSelectedError
from bids_group.inputs.filters import Criterion, Selection, list_criteria, read_bids_filter, split_by_criteria

MAPS = pd.DataFrame(
    {
        "subject": ["01", "01", "02", "02"],
        "task": ["x", "y", "x", "y"],
        "run": ["1", "01", None, "2"],
        "space": [None, "MNI", "MNI", "MNI"],
    },
    dtype=object,
)


def select(*criteria):
    selected, excluded = split_by_criteria(MAPS, [Criterion(*criterion) for criterion in criteria])
    return list(selected.index), dict(excluded["reason"])


def write_filter(folder, document):
    path = folder / "filter.json"
    path.write_text(json.dumps(document))
    return path


def test_criteria_are_joined_by_and_and_the_first_unfulfilled_is_the_reason():
    selected, reasons = select(("task", ("x",), "Input"), ("subject", ("02",), "--participant-label"))
    assert selected == [2]
    assert reasons == {
        0: "--participant-label: subject is 01",
        1: "Input: task is y",
        3: "Input: task is y",
    }


@given(st.sets(st.sampled_from(["01", "02"]), min_size=1), st.sets(st.sampled_from(["x", "y"]), min_size=1))
def test_selected_and_excluded_are_a_partition(subjects, tasks):
    selected, reasons = select(("subject", tuple(subjects), "a"), ("task", tuple(tasks), "b"))
    assert sorted([*selected, *reasons]) == [0, 1, 2, 3]
    assert selected == [i for i in MAPS.index if MAPS.subject[i] in subjects and MAPS.task[i] in tasks]


def test_absence_and_presence_can_be_asked_for():
    assert select(("space", (None,), "Input"))[0] == [0]
    assert select(("space", ("*",), "Input"))[0] == [1, 2, 3]
    assert select(("run", (None, "2"), "Input"))[0] == [2, 3]


def test_runs_are_numbers_and_subjects_labels():
    assert select(("run", ("001",), "Input"))[0] == [0, 1]
    with pytest.raises(NothingSelectedError):
        select(("subject", ("1",), "Input"))


def test_nothing_at_all_is_18_and_one_value_among_others_65():
    with pytest.raises(NothingSelectedError, match="there is: x, y") as nothing:
        select(("task", ("z",), "Input"))
    with pytest.raises(DataError, match="'z': no effect map has it") as one:
        select(("task", ("x", "z"), "Input"))
    assert (nothing.value.exit_code, one.value.exit_code) == (18, 65)


def test_a_value_whose_maps_another_filter_takes_is_told_as_such():
    with pytest.raises(DataError, match="none of its maps fulfils the other filters"):
        select(("run", ("1", "2"), "Input"), ("subject", ("01",), "--participant-label"))


def test_the_spec_comes_before_the_filter_file_and_the_participants():
    selection = Selection({"task": ("x",)}, ("01",), {"space": (None,)})
    assert [criterion.source for criterion in list_criteria(selection)] == [
        "Input",
        "--bids-filter-file",
        "--participant-label",
    ]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"task": "x", "run": 1}, {"task": ("x",), "run": ("1",)}),
        ({"task": ["x", "y"], "space": None}, {"task": ("x", "y"), "space": (None,)}),
        ({"effect": {"space": "*"}}, {"space": ("*",)}),
        ({"effect": {"task": "x"}, "statmap": {"stat": ["effect"]}}, {"task": ("x",), "stat": ("effect",)}),
        ({}, {}),
    ],
)
def test_filter_files_have_fmripreps_forms(tmp_path, document, expected):
    assert read_bids_filter(write_filter(tmp_path, document)) == expected


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"tsk": "x"}, "did you mean 'task'"),
        ({"bold": {"task": "x"}}, "unknown key 'bold'"),
        ({"effect": {"tsk": "x"}}, "effect.tsk"),
        ({"run": 1.5}, "1.5"),
        ({"run": True}, "true"),
        ({"task": []}, "empty"),
        (["x"], "an object"),
    ],
)
def test_other_filter_files_are_refused(tmp_path, document, told):
    with pytest.raises(DataError) as caught:
        read_bids_filter(write_filter(tmp_path, document))
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'filter.json'}: ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("filters")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["task", "effect", "statmap", "run", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["task", "run"]), inner),
            max_leaves=4,
        ),
    )
)
def test_any_filter_file_is_read_or_refused_as_bad_data(folder, document):
    with contextlib.suppress(DataError):
        found = read_bids_filter(write_filter(folder, document))
        assert all(value is None or isinstance(value, str) for values in found.values() for value in values)


def test_two_queries_that_disagree_are_refused(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"effect": {"desc": "A"}, "statmap": {"desc": "A"}}))
    assert read_bids_filter(path) == {"desc": ("A",)}
    path.write_text(json.dumps({"effect": {"desc": "A"}, "statmap": {"desc": "B"}}))
    with pytest.raises(DataError, match=r"statmap\.desc"):
        read_bids_filter(path)
