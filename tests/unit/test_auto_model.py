"""The model of ``--model auto`` and its templates: each can be run with the maps that it was made from."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_group.errors import DataError
from bids_group.inputs.auto_model import SMALLEST_GROUP, make_auto_spec, make_templates
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import parse_spec
from bids_group.inputs.study import InputOptions, prepare_study
from tests import builders

SUBJECTS = tuple(f"{i:02d}" for i in range(1, 11))
GROUPS = ("patient", "control") * 5
AGES = (31.5, 20.0, 44.0, 27.0, 52.5, 36.0, 23.0, 61.0, 33.0, 48.0)
SHAPE = (2, 2, 2)
ALL_KINDS = ["two-sample", "regression", "paired", "repeated-measures"]


@pytest.fixture
def make(tmp_path):
    """Write the maps of a table of rows, and make the templates of them."""

    def run(rows, participants=None, *, affines=None):
        paths = [tmp_path / Path(path).name for path in rows["path"]]
        for path, contrast in zip(paths, rows["contrast"], strict=True):
            builders.write_map(path, np.ones(SHAPE, np.uint8), affine=(affines or {}).get(contrast, builders.AFFINE))
        found = rows.assign(path=[str(path) for path in paths])
        return make_templates(
            InputTable(found, found.iloc[:0].assign(reason="")),
            builders.make_participants([]) if participants is None else participants,
        )

    return run


def make_rows(contrasts=("A", "B", "C")):
    return builders.make_rows(SUBJECTS, contrasts)


def make_participants(**columns):
    return builders.make_participants(SUBJECTS, **columns)


def get_node(document):
    (node,) = document["Nodes"]
    return node


def test_auto_is_one_mean_for_each_contrast_with_the_default_inference():
    spec = make_auto_spec()
    (node,) = spec.nodes
    assert (spec.name, node.name, node.group_by, node.terms) == ("auto", "onesample", ("contrast",), ("intercept",))
    assert node.settings.inference_is_default
    assert node.dummy_contrasts.test == "t"
    assert "one-sample" in spec.description


def test_every_kind_that_fits_is_made_and_says_what_it_is(make):
    templates = make(make_rows(), make_participants(group=GROUPS, age=AGES))
    assert list(templates) == ALL_KINDS
    for kind, document in templates.items():
        assert document["Name"] == kind
        assert document["Description"].count(". ") >= 2
        assert "Copy this file before you edit it" in document["Description"]
        assert json.loads(json.dumps(document)) == document


def test_maps_of_one_contrast_without_participants_have_no_template(make):
    assert make(make_rows(("A",))) == {}


# Two groups


def test_groups_are_compared_in_alphabetical_order(make):
    node = get_node(make(make_rows(("A",)), make_participants(group=GROUPS))["two-sample"])
    assert node["Contrasts"] == [
        {
            "Name": "controlMinuspatient",
            "Test": "t",
            "ConditionList": ["group[control]", "group[patient]"],
            "Weights": [1, -1],
        }
    ]
    assert "Transformations" not in node


@pytest.mark.parametrize(
    "groups",
    [
        ("a",) * 10,
        ("a",) * (11 - SMALLEST_GROUP) + ("b",) * (SMALLEST_GROUP - 1),
        ("a", "b", "c", "a", "b") * 2,
        ("n/a",) * 10,
        ("1", "b") * 5,
        ("1", "1.0") * 5,
    ],
)
def test_columns_without_two_groups_of_enough_subjects_give_no_groups(make, groups):
    assert "two-sample" not in make(make_rows(), make_participants(group=groups))


def test_two_groups_must_be_there_in_every_contrast(make):
    rows = make_rows(("A", "B"))
    is_lacking = (rows["contrast"] == "B") & rows["subject"].isin(SUBJECTS[2::2])
    templates = make(rows[~is_lacking].reset_index(drop=True), make_participants(group=GROUPS))
    assert "two-sample" not in templates


def test_the_studys_own_column_comes_before_those_that_every_study_has(make):
    participants = make_participants(sex=("F", "M") * 5, diagnosis=GROUPS)
    document = make(make_rows(("A",)), participants)["two-sample"]
    assert get_node(document)["Model"]["X"] == ["diagnosis"]
    assert "Other columns with two groups: sex." in document["Description"]


def test_groups_written_as_numbers_become_levels(make):
    document = make(make_rows(("A",)), make_participants(group=(1, 2) * 5))["two-sample"]
    assert get_node(document)["Transformations"]["Instructions"] == [{"Name": "Factor", "Input": ["group"]}]
    assert get_node(document)["Contrasts"][0]["ConditionList"] == ["group[1]", "group[2]"]


@pytest.mark.parametrize("levels", [("1", "2"), ("isn't", 'is "it"')])
def test_subjects_of_no_group_are_left_out_by_a_filter_that_is_written_down(make, levels):
    groups = ("n/a", *levels, *levels, *levels, *levels, "n/a")
    instructions = get_node(make(make_rows(), make_participants(group=groups))["two-sample"])["Transformations"][
        "Instructions"
    ]
    assert instructions[-1]["Name"] == "Filter"
    assert all(repr(level) in instructions[-1]["Query"] for level in levels)


# Regression


def find_covariates(templates):
    return get_node(templates["regression"])["DummyContrasts"]["Contrasts"]


def test_all_numbers_are_demeaned_in_one_regression(make):
    templates = make(make_rows(), make_participants(age=AGES, group=GROUPS, score=range(10)))
    node = get_node(templates["regression"])
    assert node["Model"]["X"] == [1, "age", "score"]
    assert node["Transformations"]["Instructions"] == [{"Name": "Demean", "Input": ["age", "score"]}]


def test_columns_that_the_model_cannot_tell_apart_are_left_out_and_named(make):
    twice = [2 * age + 1 for age in AGES]
    document = make(make_rows(), make_participants(age=AGES, twice=twice, one=[1] * 10))
    assert find_covariates(document) == ["age"]
    assert (
        "Left out, as constant, incomplete or a combination of others: twice, one."
        in (document["regression"]["Description"])
    )


def test_covariates_leave_a_degree_of_freedom(make):
    rng = np.random.default_rng(0)
    many = {f"v{i}": rng.standard_normal(10) for i in range(12)}
    assert find_covariates(make(make_rows(), make_participants(**many))) == [f"v{i}" for i in range(8)]


def test_a_few_missing_values_cost_their_subjects_and_many_the_column(make):
    few, many = ["n/a", "n/a", *AGES[2:]], [*AGES[:7], "n/a", "n/a", "n/a"]
    node = get_node(make(make_rows(), make_participants(few=few, many=many))["regression"])
    assert node["Model"]["X"] == [1, "few"]
    assert node["Transformations"]["Instructions"][0] == {
        "Name": "Filter",
        "Input": ["few"],
        "Query": "few < 0 or few >= 0",
    }


def test_a_missing_value_in_a_column_that_no_query_can_name_costs_the_column(make):
    columns = {"reaction time": ["n/a", *AGES[1:]], "age in years": AGES}
    templates = make(make_rows(), make_participants(**columns))
    assert find_covariates(templates) == ["age in years"]
    assert "combination of others: reaction time." in templates["regression"]["Description"]


def test_a_column_called_like_a_contrast_is_left_out(make):
    assert find_covariates(make(make_rows(), make_participants(A=AGES[::-1], age=AGES))) == ["age"]


# Within subjects


def test_two_contrasts_are_paired_and_more_are_repeated_measures(make):
    two, three = make(make_rows(("A", "B"))), make(make_rows(("C", "B", "A")))
    assert list(two) == ["paired"]
    assert list(three) == ["paired", "repeated-measures"]
    assert three["paired"]["Input"] == {"contrast": ["A", "B"]}
    assert get_node(three["paired"])["Contrasts"][0]["Weights"] == [1, -1]


@pytest.mark.parametrize(("n_contrasts", "n_pairs"), [(3, 3), (4, 6), (5, 0)])
def test_omnibus_has_the_rank_of_all_differences_and_pairs_stand_for_few_contrasts(make, n_contrasts, n_pairs):
    node = get_node(make(make_rows("ABCDE"[:n_contrasts]))["repeated-measures"])
    omnibus, *pairs = node["Contrasts"]
    weights = np.array(omnibus["Weights"])
    assert (omnibus["Test"], np.linalg.matrix_rank(weights), weights.shape[1]) == ("F", n_contrasts - 1, n_contrasts)
    assert not weights.sum(axis=1).any()
    assert len({pair["Name"] for pair in pairs}) == n_pairs
    assert node["Model"]["Software"]["bids_group"]["ErrorTerm"] == "partitioned"


def test_contrasts_that_some_subject_lacks_are_not_compared_within_subjects(make):
    rows = make_rows("ABCD")
    is_lacking = (rows["contrast"] == "A") & (rows["subject"] == "03")
    templates = make(rows[~is_lacking].reset_index(drop=True))
    assert templates["paired"]["Input"] == {"contrast": ["B", "C"]}
    assert templates["repeated-measures"]["Input"] == {"contrast": ["B", "C", "D"]}


def test_contrasts_on_different_grids_are_not_compared_within_subjects(make):
    shifted = builders.AFFINE.copy()
    shifted[0, 3] += 1
    templates = make(make_rows(("A", "B")), make_participants(age=AGES), affines={"B": shifted})
    assert list(templates) == ["regression"]


# As a whole


def test_a_template_that_cannot_be_planned_is_dropped_with_its_reason(make, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bids_group"), "propagate", True)
    participants = make_participants(age=AGES, Age=AGES[::-1])
    with caplog.at_level("WARNING", logger="bids_group"):
        assert "regression" not in make(make_rows(), participants)
    assert "no template regression" in caplog.text
    assert "rename one" in caplog.text


def test_templates_do_not_depend_on_the_order_of_rows(make):
    rows, participants = make_rows(), make_participants(group=GROUPS, age=AGES)
    shuffled = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    assert make(shuffled, participants[::-1]) == make(rows, participants)


def test_made_spec_is_read_as_strictly_as_any(make):
    document = make(make_rows())["paired"]
    with pytest.raises(DataError, match="unknown key 'Descripton'"):
        parse_spec({**document, "Descripton": ""}, Path("auto"))


def test_study_has_templates_only_where_its_spec_was_made(tmp_path):
    maps = builders.make_maps(SUBJECTS[:4], ("A", "B"), shape=SHAPE)
    dataset = builders.write_derivative(tmp_path, maps)
    made = prepare_study(InputOptions(dataset, None), tmp_path / "out")
    spec = builders.write_spec(tmp_path / "spec.json", builders.make_spec())
    given = prepare_study(InputOptions(dataset, spec), tmp_path / "out")
    assert (list(made.templates), list(given.templates)) == (["paired"], [])
    for ours, theirs in zip(made.nodes[0].plan.models, given.nodes[0].plan.models, strict=True):
        pd.testing.assert_frame_equal(ours.design.matrix, theirs.design.matrix)


def test_faults_of_the_maps_point_to_the_filter_file_only_where_there_is_no_input(tmp_path):
    maps = builders.make_maps(SUBJECTS[:4], ("A",), shape=SHAPE)
    doubled = {name.replace("task-x", "task-x_run-2"): values for name, values in maps.items()}
    dataset = builders.write_derivative(tmp_path, maps | doubled)
    with pytest.raises(DataError, match="more than one map") as made:
        prepare_study(InputOptions(dataset, None), tmp_path / "out")
    spec = builders.write_spec(tmp_path / "spec.json", builders.make_spec())
    with pytest.raises(DataError, match="more than one map") as given:
        prepare_study(InputOptions(dataset, spec), tmp_path / "out")
    assert "--bids-filter-file" in str(made.value)
    assert "--bids-filter-file" not in str(given.value)
