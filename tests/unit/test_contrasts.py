"""Contrasts: weights on the right columns, only what the maps can tell, and labels that do not collide."""

import numpy as np
import pytest

from bids_group.errors import SpecError
from bids_group.inputs.contrasts import build_contrasts, check_labels_differ
from bids_group.inputs.design import build_design
from bids_group.inputs.spec import read_spec
from bids_group.inputs.variables import VariableTable
from tests.builders import make_participants, make_rows, make_spec, write_spec

SUBJECTS = ("01", "02", "03", "04", "05", "06")
PARTICIPANTS = make_participants(SUBJECTS, group=["p", "c"] * 3, age=[20, 31, 44, 27, 52, 36])
CONDITIONS = ("A", "B", "C")


@pytest.fixture
def contrasts_of(tmp_path):
    """Build the contrasts of a node over maps of some conditions."""

    def build(terms, contrasts=(), *, dummies=None, conditions=("A",), input_contrast=None):
        node_keys = {"Contrasts": list(contrasts)} if contrasts else {}
        document = make_spec(model={"X": terms}, node=node_keys)
        node = document["Nodes"][0]
        del node["DummyContrasts"]
        if dummies is not None:
            node["DummyContrasts"] = {"Test": "t", **({"Contrasts": dummies} if dummies else {})}
        node = read_spec(write_spec(tmp_path / "smdl.json", document)).nodes[0]
        design = build_design(node, VariableTable(make_rows(SUBJECTS, conditions), PARTICIPANTS))
        return build_contrasts(node, design, input_contrast)

    return build


def weigh(weights, conditions=CONDITIONS, test="t", name="x"):
    return {"Name": name, "Test": test, "ConditionList": list(conditions), "Weights": weights}


def test_weights_stand_at_their_columns_whatever_the_order(contrasts_of):
    (contrast,) = contrasts_of([*CONDITIONS, "subject"], [weigh(["-1/3", "1/3"], ("C", "A"))], conditions=CONDITIONS)
    np.testing.assert_array_equal(contrast.weights, [[1 / 3, 0, -1 / 3] + [0] * 6])


def test_an_f_contrast_has_a_row_for_each_list(contrasts_of):
    (contrast,) = contrasts_of(
        [*CONDITIONS, "subject"], [weigh([[1, -1, 0], [0, 1, -1]], test="F")], conditions=CONDITIONS
    )
    assert contrast.test == "F"
    np.testing.assert_array_equal(contrast.weights[:, :3], [[1, -1, 0], [0, 1, -1]])


def test_one_is_the_intercept(contrasts_of):
    (contrast,) = contrasts_of([1, "age"], [weigh([1], (1,))])
    np.testing.assert_array_equal(contrast.weights, [[1, 0]])


@pytest.mark.parametrize(
    "weights", [[1, -1, 0], ["1/3", "1/3", "-2/3"], ["1/6", "1/6", "-1/3"], ["0.3333", "0.3333", "-0.6666"]]
)
def test_conditions_beside_subjects_can_be_compared(contrasts_of, weights):
    assert contrasts_of([*CONDITIONS, "subject"], [weigh(weights)], conditions=CONDITIONS)


@pytest.mark.parametrize("weights", [[1, 0, 0], [1, 1, -1], ["0.3333", "0.3333", "-0.6667"]])
def test_conditions_beside_subjects_have_no_mean_and_the_columns_are_named(contrasts_of, weights):
    with pytest.raises(SpecError, match="not estimable") as caught:
        contrasts_of([*CONDITIONS, "subject"], [weigh(weights)], conditions=CONDITIONS)
    assert caught.value.path == "Nodes[0].Contrasts[0]"
    for column in (*CONDITIONS, "subject[01]", "subject[06]"):
        assert column in str(caught.value)


def test_the_inestimable_row_of_an_f_contrast_is_named(contrasts_of):
    with pytest.raises(SpecError, match="row 1 of the contrast 'x' is not estimable"):
        contrasts_of([*CONDITIONS, "subject"], [weigh([[1, -1, 0], [0, 1, 0]], test="F")], conditions=CONDITIONS)


def test_group_means_beside_an_intercept_cannot_be_told_apart(contrasts_of):
    both = ("group[c]", "group[p]")
    assert contrasts_of([1, "group"], [weigh([1, -1], both)])
    with pytest.raises(SpecError, match=r"the columns intercept, group\[c\], group\[p\] are linearly dependent"):
        contrasts_of([1, "group"], [weigh([1], ("group[c]",))])


def test_an_unknown_column_is_told_with_its_place(contrasts_of):
    with pytest.raises(SpecError, match=r"did you mean 'group\[p\]'") as caught:
        contrasts_of(["group"], [weigh([1, -1], ("group[c]", "group[P1]"))])
    assert caught.value.path == "Nodes[0].Contrasts[0].ConditionList[1]"
    with pytest.raises(SpecError, match="no column 'sex'") as caught:
        contrasts_of(["group"], dummies=["sex"])
    assert caught.value.path.startswith("Nodes[0].DummyContrasts.Contrasts")


@pytest.mark.parametrize(
    ("input_contrast", "labels"),
    [(None, ["Old", "intercept", "age"]), ("A", ["AOld", "A", "Aage"])],
)
def test_dummies_are_labelled_after_the_input_contrast(contrasts_of, input_contrast, labels):
    found = contrasts_of([1, "age"], [weigh([1], ("age",), name="O.l-d")], dummies=[], input_contrast=input_contrast)
    assert [contrast.label for contrast in found] == labels
    assert [contrast.name for contrast in found] == ["O.l-d", "intercept", "age"]


def test_dummies_may_be_some_columns_in_their_order(contrasts_of):
    found = contrasts_of(["group", "age"], dummies=["age", "group[p]"])
    assert [contrast.label for contrast in found] == ["age", "groupp"]
    np.testing.assert_array_equal(np.vstack([contrast.weights for contrast in found]), [[0, 0, 1], [0, 1, 0]])


def test_labels_that_only_differ_in_case_collide(tmp_path):
    node = read_spec(write_spec(tmp_path / "smdl.json", make_spec())).nodes[0]
    check_labels_differ(node, ["Faces", "Houses"])
    with pytest.raises(SpecError, match="contrast-faces"):
        check_labels_differ(node, ["Faces", "faces"])
