"""The key Conjunctions: which contrasts and entries it finds, and what it refuses."""

import pytest

from bids_group.errors import SpecError
from bids_group.inputs.plan import plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import read_spec
from tests.builders import make_participants, make_rows, make_spec, write_spec

SUBJECTS = ("01", "02", "03", "04", "05")
PARTICIPANTS = make_participants(SUBJECTS, age=[20, 31, 44, 27, 90])
CONDITIONS = ("A", "B", "C")
TESTED = [
    {"Name": "A - B", "Test": "t", "ConditionList": ["A", "B"], "Weights": [1, -1]},
    {"Name": "A-C", "Test": "t", "ConditionList": ["A", "C"], "Weights": [1, -1]},
    {"Name": "any", "Test": "F", "ConditionList": ["A", "B", "C"], "Weights": [[1, -1, 0], [0, 1, -1]]},
]
NONE, FDR = {"Correction": "none"}, {"Correction": "fdr", "Name": "Mild", "Contrasts": ["A - B"]}
PERMUTATION = {"Correction": "permutation", "Levels": ["voxel", "cluster-mass"]}


@pytest.fixture
def plan(tmp_path):
    def build(*conjunctions, inference=(NONE,)):
        settings = {"Inference": list(inference), "Conjunctions": list(conjunctions)}
        document = make_spec("anova", conditions=CONDITIONS, settings=settings, node={"Contrasts": TESTED})
        node = read_spec(write_spec(tmp_path / "smdl.json", document)).nodes[0]
        rows = make_rows(SUBJECTS, CONDITIONS)
        return plan_node(node, InputTable(rows, rows[:0].assign(reason="")), PARTICIPANTS).models[0]

    return build


def test_contrasts_are_found_by_name_and_by_label(plan):
    (found,) = plan({"Name": "A most", "Contrasts": ["A-C", "AB"]}).conjunctions
    assert (found.name, found.label, found.members) == ("A most", "Amost", (1, 0))
    assert [entry.correction for entry in found.entries] == ["none"]


def test_only_entries_for_all_contrasts_count_and_of_these_those_asked_for(plan):
    entries = (NONE, FDR, {"Correction": "bonferroni", "Name": "Strict"}, PERMUTATION)
    both = {"Name": "both", "Contrasts": ["A - B", "A-C"]}
    (found,) = plan(both, inference=entries).conjunctions
    assert [entry.correction for entry in found.entries] == ["none", "bonferroni", "permutation"]
    (found,) = plan({**both, "Inference": ["Strict", "none"]}, inference=entries).conjunctions
    assert [entry.correction for entry in found.entries] == ["none", "bonferroni"]


def test_cluster_levels_are_told_to_have_no_conjunction(plan):
    both = {"Name": "both", "Contrasts": ["A - B", "A-C"]}
    told = [one for one in plan(both, inference=(PERMUTATION,)).warnings if "conjunctions are not made" in one]
    assert len(told) == 1
    assert "cluster-mass" in told[0]
    assert "cluster-size" not in told[0]
    assert not any("conjunctions" in one for one in plan(inference=(PERMUTATION,)).warnings)


@pytest.mark.parametrize(
    ("conjunction", "place", "said"),
    [
        ({"Contrasts": ["A - B", "A-C"]}, "Conjunctions[0]", "'Name' is missing"),
        ({"Name": "x", "Contrasts": ["A - B"]}, "Conjunctions[0].Contrasts", "two or more"),
        ({"Name": "x", "Contrasts": ["A - B", "A - B"]}, "Conjunctions[0].Contrasts", "more than once"),
        ({"Name": "x", "Contrasts": ["A - B", "AB"]}, "Conjunctions[0].Contrasts", "of one contrast"),
        ({"Name": "x", "Contrasts": ["A - B", "A-D"]}, "Conjunctions[0].Contrasts[1]", "did you mean 'A-C'"),
        ({"Name": "x", "Contrasts": ["A - B", "any"]}, "Conjunctions[0].Contrasts", "t and F"),
        ({"Name": "x", "Contrasts": ["A - B", "A-C"], "Inference": ["none", "Strct"]}, ".Inference[1]", "Strct"),
        ({"Name": "x", "Contrasts": ["A - B", "A-C"], "Inference": ["Mild"]}, "Conjunctions[0]", "for all of"),
        ({"Name": "x", "Contrasts": ["A - B", "A-C"], "Inference": []}, "Conjunctions[0].Inference", "empty"),
        ({"Name": "a b", "Contrasts": ["A - B", "A-C"]}, "Contrasts", "contrast-ab"),
        ({"Name": "x", "Contrast": ["A - B", "A-C"]}, "Conjunctions[0].Contrast", "did you mean 'Contrasts'"),
    ],
)
def test_faults_are_refused_with_their_place(plan, conjunction, place, said):
    with pytest.raises(SpecError) as caught:
        plan(conjunction, inference=(NONE, FDR, {"Correction": "bonferroni", "Name": "Strict"}))
    assert caught.value.path.endswith(place)
    assert said in str(caught.value)


def test_input_contrasts_of_different_models_are_refused_with_what_to_do(tmp_path):
    settings = {"Inference": [NONE], "Conjunctions": [{"Name": "x", "Contrasts": ["A", "B"]}]}
    document = make_spec(settings=settings)
    node = read_spec(write_spec(tmp_path / "smdl.json", document)).nodes[0]
    rows = make_rows(SUBJECTS, ("A", "B"))
    with pytest.raises(SpecError, match="partitioned error terms"):
        plan_node(node, InputTable(rows, rows[:0].assign(reason="")), PARTICIPANTS)
