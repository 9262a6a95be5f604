"""The model spec is read strictly: what is not known, of the wrong type or length is refused with its JSON path."""

import contextlib
import copy
import json

import pytest
from bsmschema.models import BIDSStatsModel
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import DataError, SpecError
from bids_group.inputs.spec import read_spec
from tests.builders import make_spec, write_spec

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "1", "1/3", "glm", "t", "F", "Dataset", "contrast", "intercept", "subject", "a*b", "x\x00"]),
    st.text(max_size=4),
    st.builds(list),
    st.builds(dict),
    st.builds(lambda: [[]]),
    st.builds(lambda: [1, -1]),
    st.dictionaries(st.sampled_from(["Name", "Test", "Weights", "bids_group", "p"]), st.integers(), max_size=2),
)
FULL = make_spec(
    "anova",
    Input={"task": ["x"], "run": [1, 2]},
    Description="all keys",
    Edges=[],
    settings={
        "ErrorTerm": "pooled",
        "Mask": {"suffix": "mask", "desc": ["brain"]},
        "Connectivity": 18,
        "Inference": [
            {"Correction": "none", "Alpha": 0.001, "Tail": "two-sided", "ClusterExtent": 20},
            {"Correction": "fdr", "Alpha": "1/20", "Contrasts": ["omnibus"], "Name": "x"},
        ],
    },
    node={
        "Transformations": {
            "Transformer": "pybids-transforms-v1",
            "Instructions": [
                {"Name": "Scale", "Input": ["age"]},
                {"Name": "Filter", "Input": "age", "Query": "age > 1"},
            ],
        },
        "DummyContrasts": {"Test": "t", "Contrasts": ["A"]},
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("specs")


def read(folder, document):
    return read_spec(write_spec(folder / "smdl.json", document))


def find_places(value, path=()):
    """Every place in a document: the keys and indices that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, item in inner for place in find_places(item, (*path, key))]


@st.composite
def draw_mutated(draw, document):
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([place for place in find_places(document) if place]))
        parent = document
        for key in path:
            parent = parent[key]
        change = draw(st.sampled_from(["delete", "replace", "insert"]))
        if change == "delete":
            del parent[last]
        elif change == "replace":
            parent[last] = draw(VALUES)
        elif isinstance(parent, list):
            parent.insert(last, draw(VALUES))
        else:
            parent[draw(st.text(max_size=3))] = draw(VALUES)
        if not document:
            break
    return document


@settings(max_examples=250, deadline=None)
@given(draw_mutated(FULL))
def test_any_mutated_spec_is_read_or_refused_as_bad_data(folder, document):
    with contextlib.suppress(DataError):
        assert read(folder, document).document == json.loads(json.dumps(document))


def test_a_spec_is_what_it_says(folder):
    spec = read(folder, FULL)
    (node,) = spec.nodes
    omnibus, difference = node.contrasts
    assert spec.selection == {"task": ("x",), "run": ("1", "2")}
    assert node.terms == ("A", "B", "C", "subject")
    assert (omnibus.test, omnibus.weights) == ("F", ((1.0, -1.0, 0.0), (1.0, 0.0, -1.0)))
    assert (difference.conditions, difference.weights) == (("A", "B"), ((1.0, -1.0),))
    assert difference.path == "Nodes[0].Contrasts[1]"
    assert node.settings.mask == {"suffix": ("mask",), "desc": ("brain",)}
    assert [entry.alpha for entry in node.settings.inference] == [0.001, 0.05]
    assert node.dummy_contrasts.columns == ("A",)
    assert [step.name for step in node.instructions] == ["Scale", "Filter"]


@pytest.mark.parametrize("design", ["one-sample", "anova"])
def test_the_builders_specs_are_bids_stats_models_to_bsmschema_too(folder, design):
    document = make_spec(design, Input={"task": ["x"]})
    assert read(folder, document).nodes
    assert BIDSStatsModel.model_validate(document)


def test_one_is_the_intercept_however_it_is_written(folder):
    for one in (1, 1.0, "1", "intercept", "Intercept"):
        contrast = {"Name": "mean", "Test": "t", "ConditionList": [one], "Weights": ["1/1"]}
        (node,) = read(folder, make_spec(model={"X": [one, "age"]}, node={"Contrasts": [contrast]})).nodes
        assert node.terms == ("intercept", "age")
        assert node.contrasts[0].conditions == ("intercept",)


def test_other_programs_software_keys_are_none_of_our_business(folder):
    software = {"FSL": {"anything": [1, {"deep": True}]}}
    assert read(folder, make_spec(model={"Software": software})).nodes
    with pytest.raises(SpecError, match="did you mean 'bids_group'"):
        read(folder, make_spec(model={"Software": {"bids-group": {}}}))


CONTRAST = {"Name": "a", "Test": "t", "ConditionList": ["A", "B"], "Weights": [1, -1]}


@pytest.mark.parametrize(
    ("change", "path", "told"),
    [
        ({"Weights": [1]}, "Weights", "1 weights for 2 members of ConditionList"),
        ({"Weights": [[1, -1], [1]], "Test": "F"}, "Weights[1]", "1 weights for 2"),
        ({"Weights": [1, "1/0"]}, "Weights[1]", "1/0"),
        ({"Weights": [1, True]}, "Weights[1]", "a number"),
        ({"Weights": [[1, -1]]}, "Weights", "one list of weights"),
        ({"Weights": [0, 0]}, "Weights", "all weights are 0"),
        ({"Test": "f"}, "Test", "did you mean 'F'"),
        ({"Test": "skip"}, "Test", "tests nothing"),
        ({"Name": "--"}, "Name", "no letter or digit"),
        ({"ConditionList": ["A", "A"]}, "ConditionList[0]", "more than once"),
        ({"Wieghts": [1]}, "Wieghts", "did you mean 'Weights'"),
    ],
)
def test_faults_of_a_contrast_are_told_with_their_place(folder, change, path, told):
    with pytest.raises(SpecError) as caught:
        read(folder, make_spec("anova", node={"Contrasts": [CONTRAST, {**CONTRAST, **change}]}))
    assert caught.value.path == f"Nodes[0].Contrasts[1].{path}"
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("document", "path", "told"),
    [
        (make_spec(Nmae="x"), "Nmae", "did you mean 'Name'"),
        (make_spec(BIDSModelVersion="2.0"), "BIDSModelVersion", "1.0.0"),
        (make_spec(Nodes=[]), "Nodes", "no node"),
        (make_spec(Edges=[{"Source": "mean", "Destination": "mean"}]), "Edges[0].Source", "of the group"),
        (make_spec(Input={"tsk": "x"}), "Input.tsk", "did you mean 'task'"),
        (make_spec(Input={"task": ["x", "x"]}), "Input.task", "more than once"),
        (make_spec(Input={"task": []}), "Input.task", "empty"),
        (make_spec(node={"Level": "Subject"}), "Nodes[0].GroupBy", 'grouped by "subject"'),
        (make_spec(node={"Level": "Run"}), "Nodes[0].Level", "first-level"),
        (make_spec(node={"Level": "Session"}), "Nodes[0].Level", "Session-level nodes are first-level"),
        (make_spec(node={"GroupBy": ["subject"]}), "Nodes[0].GroupBy", '["contrast"]'),
        (make_spec(model={"Type": "mete"}), "Nodes[0].Model.Type", "'meta'"),
        (make_spec(model={"Formula": "1"}), "Nodes[0].Model", "either as X or as Formula"),
        (make_spec(model={"X": [1, "1"]}), "Nodes[0].Model.X[0]", "more than once"),
        (make_spec(model={"X": [2]}), "Nodes[0].Model.X[0]", "1 for the intercept"),
        (make_spec(model={"X": []}), "Nodes[0].Model.X", "[1]"),
        (make_spec(node={"DummyContrasts": {"Test": "F"}}), "Nodes[0].DummyContrasts.Test", "t tests"),
        (
            make_spec(node={"DummyContrasts": {"Test": "t", "Contrasts": []}}),
            "Nodes[0].DummyContrasts.Contrasts",
            "empty",
        ),
    ],
)
def test_faults_of_a_spec_are_told_with_their_place(folder, document, path, told):
    with pytest.raises(SpecError) as caught:
        read(folder, document)
    assert caught.value.path == path
    assert told in str(caught.value)


def test_a_formula_that_would_run_code_is_refused_before_anything_evaluates_it(folder, tmp_path):
    sentinel = tmp_path / "sentinel"
    document = make_spec(model={"Formula": f"{{open({str(sentinel)!r}, 'w')}}"})
    del document["Nodes"][0]["Model"]["X"]
    with pytest.raises(SpecError, match=r"Nodes\[0\]\.Model\.Formula"):
        read(folder, document)
    assert not sentinel.exists()


def test_a_node_that_tests_nothing_is_refused(folder):
    document = make_spec()
    del document["Nodes"][0]["DummyContrasts"]
    with pytest.raises(SpecError, match="has no contrast"):
        read(folder, document)


def test_two_nodes_of_one_folder_are_refused(folder):
    node = make_spec()["Nodes"][0]
    with pytest.raises(SpecError, match="same folder") as caught:
        read(folder, make_spec(Nodes=[{**node, "Name": "two groups"}, {**node, "Name": "TwoGroups"}]))
    assert caught.value.path == "Nodes[1].Name"


AVERAGE = {
    "Level": "Subject",
    "Name": "average",
    "GroupBy": ["subject", "contrast"],
    "Model": {"Type": "glm", "X": [1]},
    "DummyContrasts": {"Test": "t"},
}


def make_chain(*, average=None, edges=None):
    document = make_spec()
    document["Nodes"].insert(0, {**AVERAGE, **(average or {})})
    return document if edges is None else {**document, "Edges": edges}


def test_without_edges_a_node_takes_the_maps_of_the_last_subject_node_before_it(folder):
    document = make_chain()
    document["Nodes"].append({**document["Nodes"][1], "Name": "again"})
    spec = read(folder, document)
    assert [(edge.source, edge.destination) for edge in spec.edges] == [("average", "mean"), ("average", "again")]
    assert [node.level for node in spec.nodes] == ["Subject", "Dataset", "Dataset"]


@pytest.mark.parametrize(
    ("document", "path", "told"),
    [
        (make_chain(edges=[]), "Nodes[0]", "no node takes the maps"),
        (make_chain(edges=[{"Source": "averag", "Destination": "mean"}]), "Edges[0].Source", "did you mean 'average'"),
        (make_chain(edges=[{"Source": "average", "Destination": "average"}]), "Edges", "circle"),
        (make_chain(edges=[{"Source": "average", "Destination": "mean"}] * 2), "Edges[1]", "join the same nodes"),
        (make_chain(average={"GroupBy": ["contrast"]}), "Nodes[0].GroupBy", 'grouped by "subject"'),
        (make_chain(average={"GroupBy": ["subject", "subject"]}), "Nodes[0].GroupBy", "more than once"),
        (make_chain(average={"GroupBy": ["subject", "runs"]}), "Nodes[0].GroupBy[1]", "did you mean 'run'"),
        (make_chain(average={"DummyContrasts": {"Test": "F"}}), "Nodes[0].DummyContrasts.Test", "cannot be passed on"),
        ({**make_chain(), "Nodes": [AVERAGE]}, "Nodes", "no node is of the Dataset level"),
        (
            make_chain(average={"Model": {**AVERAGE["Model"], "Software": {"bids_group": {"Connectivity": 6}}}}),
            "Nodes[0].Model.Software.bids_group.Connectivity",
            "no meaning at the Subject level",
        ),
    ],
)
def test_faults_of_chains_are_told_with_their_place(folder, document, path, told):
    with pytest.raises(SpecError) as caught:
        read(folder, document)
    assert caught.value.path == path
    assert told in str(caught.value)


def test_a_subject_level_contrast_may_be_passed_without_a_test(folder):
    for test in ("t", "pass"):
        assert read(folder, make_chain(average={"DummyContrasts": {"Test": test}})).nodes[0].dummy_contrasts.test == "t"
