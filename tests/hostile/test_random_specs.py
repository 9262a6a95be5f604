"""Whatever a spec says, reading and planning it ends with a plan, or with a refusal that names a place in it."""

import json
import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bids_group.errors import DataError, SpecError
from bids_group.inputs.plan import plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import read_spec
from tests import builders
from tests.hostile.amounts import examples
from tests.hostile.mutations import mutate_document, mutate_text

SUBJECTS = tuple(f"{number:02d}" for number in range(1, 9))
PARTICIPANTS = builders.make_participants(
    SUBJECTS, group=["a", "b"] * 4, age=[20, 31, 44, 27, 52, 36, 23, 61], site=["x", "x", "y", "y"] * 2
)
ROWS = builders.make_rows(SUBJECTS, ("A", "B"))
INPUTS = InputTable(ROWS.assign(uri=ROWS["path"], session=None), ROWS.iloc[:0].assign(reason=None))
INFERENCE = st.fixed_dictionaries(
    {"Correction": st.sampled_from(["none", "fdr", "bonferroni"])},
    optional={"Alpha": st.sampled_from([0.05, "1/20"]), "Tail": st.sampled_from(["positive", "two-sided"])},
)
SETTINGS = st.fixed_dictionaries(
    {"Inference": st.lists(INFERENCE, min_size=1, max_size=3)},
    optional={
        "MinCoverage": st.sampled_from([1, 0.8, "9/10"]),
        "SmoothingFWHM": st.sampled_from([0, 6]),
        "Connectivity": st.sampled_from([6, 18, 26]),
        "ErrorTerm": st.sampled_from(["pooled", "partitioned"]),
        "Missing": st.sampled_from(["error", "drop-subject"]),
        "VarianceGroups": st.just("group"),
        "ExchangeabilityBlocks": st.just(["site"]),
        "Atlases": st.lists(st.sampled_from(["aal", "harvard_oxford"]), unique=True),
    },
)
DESIGNS = st.sampled_from(
    [{"X": [1]}, {"X": ["group", "age"]}, {"X": [1, "age", "site"]}, {"Formula": "group*age + C(site)"}]
)
INSTRUCTIONS = st.sampled_from(
    [
        {"Name": "Scale", "Input": ["age"]},
        {"Name": "Demean", "Input": ["age"], "Output": ["older"]},
        {"Name": "Factor", "Input": ["age"]},
        {"Name": "Filter", "Input": "age", "Query": "age > 25"},
        {"Name": "Product", "Input": ["age", "age"], "Output": "square"},
    ]
)


@st.composite
def grow_spec(draw):
    """A spec of known keys, most of them sensible together."""
    node = {"Level": "Dataset", "Name": "n", "GroupBy": ["contrast"], "DummyContrasts": {"Test": "t"}}
    model = {"Type": "glm", **draw(DESIGNS), "Software": {"bids_group": draw(SETTINGS)}}
    if steps := draw(st.lists(INSTRUCTIONS, max_size=3)):
        node["Transformations"] = {"Transformer": "pybids-transforms-v1", "Instructions": steps}
    if draw(st.booleans()):
        node["Contrasts"] = [{"Name": "c", "Test": "t", "ConditionList": ["age"], "Weights": ["1/2"]}]
    return {"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [{**node, "Model": model}]}


def plan(path):
    spec = read_spec(path)
    return [plan_node(node, INPUTS, PARTICIPANTS) for node in spec.nodes if node.level == "Dataset"]


def read_or_refuse(path, content):
    """Return the plans, or None after a refusal that names a place in the spec or what in the data it is about."""
    path.write_bytes(content)
    try:
        return plan(path)
    except SpecError as error:
        is_named = bool(error.path) and str(error).startswith(f"{error.path}: ")
        told = str(error)
    except DataError as error:
        told = str(error)
        is_named = re.search(r"smdl\.json|sub-|'.+'|no map", told) is not None
    assert is_named, told
    return None


@examples(40)
@given(grow_spec())
def test_a_spec_of_known_keys_is_planned_or_refused(tmp_path_factory, document):
    plans = read_or_refuse(tmp_path_factory.mktemp("spec") / "smdl.json", json.dumps(document).encode())
    for node in plans or ():
        assert {model.input_contrast for model in node.models} <= {"A", "B"}
        assert all(model.dof >= 1 for model in node.models)


@examples(100)
@given(grow_spec(), st.sampled_from([mutate_document, mutate_document, mutate_text]), st.integers(0, 2**32))
def test_a_broken_spec_is_planned_or_refused(tmp_path_factory, document, mutation, seed):
    content = mutation(json.dumps(document).encode(), Random(seed))
    read_or_refuse(tmp_path_factory.mktemp("spec") / "smdl.json", content)
