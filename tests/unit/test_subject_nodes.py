"""Subject-level nodes: which maps are combined, with which weights, and where they go."""

import json

import numpy as np
import pandas as pd
import pytest

from bids_group.errors import SpecError
from bids_group.inputs.map_sources import MapFile, list_weights
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import parse_spec
from bids_group.inputs.subject_nodes import Variables, pass_along
from bids_group.inputs.variable_tables import read_further_tables
from tests.builders import make_participants, make_rows, make_spec

SUBJECTS = ("01", "02", "03")


def make_node(name="combine", *, group_by=("subject",), X=(1,), contrasts=None, model_type="glm", **keys):
    tested = {"Contrasts": contrasts} if contrasts else {"DummyContrasts": {"Test": "t"}}
    node = {"Level": "Subject", "Name": name, "GroupBy": list(group_by), "Model": {"Type": model_type, "X": list(X)}}
    return {**node, **tested, **keys}


def contrast_of(name, **weights):
    return {"Name": name, "Test": "t", "ConditionList": list(weights), "Weights": list(weights.values())}


def make_inputs(rows):
    rows = rows.reset_index(drop=True)
    parts = [name for name in ("subject", "session", "run", "contrast") if name in rows]
    uris = ["_".join(str(value) for value in values) for values in rows[parts].itertuples(index=False)]
    sources = [
        MapFile(path, uri, dict(own))
        for path, uri, own in zip(rows["path"], uris, rows.to_dict("records"), strict=True)
    ]
    rows = rows.assign(uri=uris, source=pd.Series(sources, rows.index, dtype=object))
    return InputTable(rows, rows.iloc[:0].assign(reason=None))


def take(nodes, rows, *, edges=None, tables=(), to="mean"):
    """Return the maps that a Dataset-level node takes: (subject, contrast) -> {file: weight}, and the excluded ones."""
    document = make_spec(node={"GroupBy": []})
    document["Nodes"][:0] = json.loads(json.dumps(nodes))
    if edges is not None:
        document["Edges"] = edges
    taken = pass_along(parse_spec(document, "x"), make_inputs(rows), Variables(make_participants(()), tables))[to]
    made = {
        (row["subject"], row["contrast"]): {file.uri: round(weight, 12) for file, weight in list_weights(row["source"])}
        for row in taken.rows.to_dict("records")
    }
    return made, dict(zip(taken.excluded["uri"], taken.excluded["reason"], strict=True))


def make_runs(*runs, subjects=SUBJECTS, contrasts=("A", "B")):
    return pd.concat([make_rows(subjects, contrasts, run=run) for run in runs], ignore_index=True)


def test_a_mean_over_runs_is_one_map_per_subject_and_contrast():
    made, excluded = take([make_node(group_by=("subject", "contrast"))], make_runs("1", "2"))
    assert len(made) == 6
    assert made["01", "A"] == {"01_1_A": 0.5, "01_2_A": 0.5}
    assert excluded == {}


def test_runs_may_be_of_different_number():
    rows = make_runs("1", "2", "3", contrasts=("A",)).drop(index=8)  # sub-03 has two
    made, _ = take([make_node(group_by=("subject", "contrast"))], rows)
    assert made["01", "A"] == pytest.approx({"01_1_A": 1 / 3, "01_2_A": 1 / 3, "01_3_A": 1 / 3})
    assert made["03", "A"] == {"03_1_A": 0.5, "03_2_A": 0.5}


def test_a_difference_takes_the_maps_that_it_weighs():
    node = make_node(X=("A", "B", "C"), contrasts=[contrast_of("AMinusB", A=1, B=-1)])
    made, excluded = take([node], make_rows(SUBJECTS, ("A", "B", "C")))
    assert made == {(s, "AMinusB"): {f"{s}_A": 1.0, f"{s}_B": -1.0} for s in SUBJECTS}
    assert set(excluded) == {"01_C", "02_C", "03_C"}
    assert set(excluded.values()) == {"not used by the Subject-level node"}


def test_a_difference_of_several_runs_is_that_of_the_means():
    node = make_node(X=("A", "B"), contrasts=[contrast_of("Diff", A=1, B=-1)])
    made, _ = take([node], make_runs("1", "2"))
    assert made["02", "Diff"] == {"02_1_A": 0.5, "02_1_B": -0.5, "02_2_A": 0.5, "02_2_B": -0.5}


def test_chains_multiply_weights():
    average = make_node("average", group_by=("subject", "contrast"))
    difference = make_node("difference", X=("A", "B"), contrasts=[contrast_of("Diff", A=1, B=-1)])
    made, _ = take([average, difference], make_runs("1", "2"))
    assert made["02", "Diff"] == {"02_1_A": 0.5, "02_2_A": 0.5, "02_1_B": -0.5, "02_2_B": -0.5}


def test_sessions_stay_apart_where_they_are_grouped_by():
    rows = pd.concat([make_runs("1", "2", contrasts=("A",)).assign(session=session) for session in ("pre", "post")])
    document = make_spec(node={"GroupBy": []})
    document["Nodes"].insert(0, make_node(group_by=("subject", "session", "contrast")))
    taken = pass_along(parse_spec(document, "x"), make_inputs(rows), Variables(make_participants(())))["mean"]
    assert len(taken.rows) == 6
    assert set(taken.rows["session"]) == {"pre", "post"}
    assert taken.rows["run"].isna().all()  # averaged over, so no longer an entity of the map


def test_the_slope_over_sessions_is_that_of_least_squares(tmp_path):
    days = {"01": (0.0, 30.0, 90.0), "02": (0.0, 20.0, 100.0)}
    for subject, values in days.items():
        (tmp_path / f"sub-{subject}").mkdir()
        lines = "".join(f"ses-{i}\t{value}\n" for i, value in enumerate(values))
        (tmp_path / f"sub-{subject}" / f"sub-{subject}_sessions.tsv").write_text(f"session_id\tdays\n{lines}")
    rows = pd.concat([make_rows(("01", "02")).assign(session=str(i)) for i in range(3)])
    node = make_node(X=(1, "days"), contrasts=[contrast_of("slope", days=1)])
    made, _ = take([node], rows, tables=read_further_tables([tmp_path]))
    for subject, values in days.items():
        centred = np.array(values) - np.mean(values)
        weights = centred / (centred @ centred)
        assert [made[subject, "slope"].get(f"{subject}_{i}_A", 0.0) for i in range(3)] == pytest.approx(list(weights))


def test_a_subject_that_lacks_a_map_is_refused_or_dropped():
    rows = make_rows(SUBJECTS, ("A", "B")).drop(index=3)  # sub-02 has no B
    node = make_node(X=("A", "B"), contrasts=[contrast_of("Diff", A=1, B=-1)])
    with pytest.raises(SpecError, match=r"sub-02: its 1 map\(s\) do not determine 'Diff' \(columns B\)"):
        take([node], rows)
    node["Model"]["Software"] = {"bids_group": {"Missing": "drop-subject"}}
    made, excluded = take([node], rows)
    assert set(made) == {("01", "Diff"), ("03", "Diff")}
    assert excluded["02_A"].startswith("Missing: its 1 map(s) do not determine 'Diff'")


def test_edges_choose_the_maps_that_they_pass_on():
    average = make_node("average", group_by=("subject", "contrast"))
    edges = [{"Source": "average", "Destination": "mean", "Filter": {"contrast": ["A"]}}]
    made, excluded = take([average], make_runs("1", "2"), edges=edges)
    assert set(made) == {(s, "A") for s in SUBJECTS}
    assert excluded["01_1_B"] == "Edges[0].Filter: contrast is B"
    edges[0]["Filter"] = {"contrast": ["a"]}
    with pytest.raises(SpecError, match="there is: A, B"):
        take([average], make_runs("1", "2"), edges=edges)


def test_two_nodes_may_lead_to_one():
    nodes = [
        make_node(name, X=("A", "B"), contrasts=[contrast_of(name, A=1, B=sign)])
        for name, sign in (("sum", 1), ("diff", -1))
    ]
    edges = [{"Source": name, "Destination": "mean"} for name in ("sum", "diff")]
    made, _ = take(nodes, make_rows(SUBJECTS, ("A", "B")), edges=edges)
    assert {contrast for _, contrast in made} == {"sum", "diff"}


def test_transformations_over_subjects_are_refused_where_the_model_is_of_one():
    node = make_node(
        X=(1, "age"),
        Transformations={"Transformer": "pybids-transforms-v1", "Instructions": [{"Name": "Demean", "Input": ["age"]}]},
    )
    with pytest.raises(SpecError, match="this one is of one subject"):
        take([node], make_rows(SUBJECTS))


def test_grouping_by_an_entity_that_no_map_has_is_refused():
    with pytest.raises(SpecError, match="no map has the entity 'run'") as caught:
        take([make_node(group_by=("subject", "run", "contrast"))], make_rows(SUBJECTS).assign(run=None))
    assert caught.value.path == "Nodes[0].GroupBy[1]"


AVERAGE = make_node("average", group_by=("subject", "contrast"))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (pd.concat([make_rows(SUBJECTS, space=space) for space in ("T1w", "MNI")]), "differ in space"),
        (pd.concat([make_rows(SUBJECTS), make_rows(SUBJECTS).assign(desc="smooth")]), "differ in desc"),
        (pd.concat([make_rows(SUBJECTS).assign(dataset=name) for name in ("one", "two")]), "differ in dataset"),
        (
            pd.concat(
                [
                    make_runs("1", contrasts=("A",)).assign(space="T1w"),
                    make_runs("2", contrasts=("A",)).assign(space="MNI"),
                ]
            ),
            "it would combine maps that differ in space (MNI, T1w)",
        ),
    ],
)
def test_what_is_no_repetition_of_one_measurement_is_not_averaged(rows, told):
    with pytest.raises(SpecError) as caught:
        take([AVERAGE], rows)
    assert caught.value.path == "Nodes[0]"
    assert told in str(caught.value)


def test_different_contrasts_are_not_averaged_without_being_named():
    node = make_node(contrasts=[contrast_of("mean", **{"1": 1})])
    with pytest.raises(SpecError, match="it would average maps of different contrasts \\(A, B\\)"):
        take([node], make_rows(SUBJECTS, ("A", "B")))
    with pytest.raises(SpecError, match="the mean over several contrasts needs a name"):
        take([make_node()], make_rows(SUBJECTS, ("A", "B")))


@pytest.mark.parametrize("function", ["center", "scale"])
def test_a_formula_over_all_subjects_is_refused_where_the_model_is_of_one(function):
    node = make_node(contrasts=[contrast_of("mean", **{"1": 1})])
    node["Model"] = {"Type": "glm", "Formula": f"1 + {function}(age)"}
    with pytest.raises(SpecError, match=f"{function}\\(\\) is computed over the rows"):
        take([node], make_rows(SUBJECTS))


def test_sums_of_sums_are_sums_of_files():
    sums = make_node("sums", X=("A", "B"), contrasts=[contrast_of("P", A=0.5, B=0.5), contrast_of("Q", A=0.5, B=-0.5)])
    total = make_node("total", X=("P", "Q"), contrasts=[contrast_of("R", P=1, Q=1)])
    made, excluded = take([sums, total], make_rows(SUBJECTS, ("A", "B")))
    assert made["01", "R"] == {"01_A": 1.0}
    assert set(excluded) == {f"{s}_B" for s in SUBJECTS}


def test_reasons_are_kept_along_a_chain_and_what_is_odd_is_told():
    first = {
        **AVERAGE,
        "Transformations": {
            "Transformer": "pybids-transforms-v1",
            "Instructions": [{"Name": "Filter", "Input": ["run"], "Query": "run != '3'"}],
        },
    }
    second = make_node("difference", X=("A", "B"), contrasts=[contrast_of("Diff", A=1, B=-1)])
    _, excluded = take([first, second], make_runs("1", "2", "3"))
    assert set(excluded.values()) == {"Filter: run != '3'"}
    document = make_spec(node={"GroupBy": []})
    document["Nodes"].insert(0, AVERAGE)
    uneven = make_inputs(make_runs("1", "2", contrasts=("A",)).drop(index=5))
    (warning,) = pass_along(parse_spec(document, "x"), uneven, Variables(make_participants(())))["mean"].warnings
    assert warning.startswith("average: 1 to 2 maps are combined")


def test_two_nodes_that_pass_on_one_contrast_are_told_apart():
    nodes = [make_node(name, group_by=("subject", "contrast")) for name in ("first", "second")]
    edges = [{"Source": name, "Destination": "mean"} for name in ("first", "second")]
    with pytest.raises(SpecError, match="'second' and 'first' both pass on maps of the contrast 'A'"):
        take(nodes, make_rows(SUBJECTS), edges=edges)
