"""Plans: which models a node has, of which rows, and where their outputs would collide."""

import numpy as np
import pandas as pd
import pytest

from bids_group.errors import DataError, SpecError
from bids_group.inputs.plan import find_shared_entities, plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import read_spec
from bids_group.inputs.variable_tables import ValueTable
from tests.builders import make_participants, make_rows, make_spec, write_spec

SUBJECTS = ("01", "02", "03", "04", "05")
PARTICIPANTS = make_participants(SUBJECTS, age=[20, 31, 44, 27, 90], group=["p", "c", "p", "c", "x"])
ENTRY = {"Correction": "fdr", "Tail": "positive"}


@pytest.fixture
def plan(tmp_path):
    def build(document, rows, participants=PARTICIPANTS, tables=()):
        node = read_spec(write_spec(tmp_path / "smdl.json", document)).nodes[0]
        return plan_node(node, InputTable(rows, rows[:0].assign(reason="")), participants, tables)

    return build


def make_filter(query, name):
    instruction = {"Name": "Filter", "Input": name, "Query": query}
    return {"Transformations": {"Transformer": "pybids-transforms-v1", "Instructions": [instruction]}}


def test_grouped_by_contrast_there_is_a_model_for_each_and_its_mean_has_its_name(plan):
    models = plan(make_spec(model={"X": [1, "age"]}), make_rows(SUBJECTS, ("B", "A"))).models
    assert [model.input_contrast for model in models] == ["A", "B"]
    assert [[contrast.label for contrast in model.contrasts] for model in models] == [["A", "Aage"], ["B", "Bage"]]
    assert all(set(model.rows["contrast"]) == {model.input_contrast} for model in models)


def test_ungrouped_there_is_one_model_and_its_mean_is_called_intercept(plan):
    (model,) = plan(make_spec(node={"GroupBy": []}), make_rows(SUBJECTS)).models
    assert (model.input_contrast, model.contrasts[0].label) == (None, "intercept")


def test_rows_of_table_and_design_are_the_same(plan):
    rows = make_rows(SUBJECTS, ("A", "B")).set_index(np.arange(10)[::-1] * 3)
    for model in plan(make_spec(), rows).models:
        assert list(model.design.matrix.index) == list(model.rows.index)


def test_repeated_measures_are_one_model(plan):
    (model,) = plan(make_spec("anova"), make_rows(SUBJECTS, ("A", "B", "C"))).models
    assert (model.design.rank, model.design.dof) == (7, 8)
    assert [contrast.test for contrast in model.contrasts] == ["F", "t"]


def test_filtered_rows_are_listed_with_the_reason(plan):
    document = make_spec(node=make_filter("age < 60", "age"))
    planned = plan(document, make_rows(SUBJECTS, ("A", "B")))
    assert [len(model.rows) for model in planned.models] == [4, 4]
    assert list(planned.excluded["subject"]) == ["05", "05"]
    assert set(planned.excluded["reason"]) == {"Filter: age < 60"}


def test_a_filter_may_leave_out_an_incomplete_subject_and_not_make_one(plan):
    rows = make_rows(SUBJECTS, ("A", "B", "C"))
    incomplete = rows.drop(index=[14])
    with pytest.raises(DataError, match="sub-05 C"):
        plan(make_spec("anova"), incomplete)
    assert len(plan(make_spec("anova", node=make_filter("age < 60", "age")), incomplete).models[0].rows) == 12
    with pytest.raises(DataError, match="sub-05 C"):
        plan(make_spec("anova", node=make_filter("not (age == 90 and contrast == 'C')", "age")), rows)


def test_models_that_differ_in_their_subjects_say_so(plan):
    rows = make_rows(SUBJECTS, ("A", "B")).drop(index=[3])
    for model in plan(make_spec(), rows).models:
        assert any("sub-02 B" in warning for warning in model.warnings)


def test_maps_without_a_column_of_their_own_are_told(plan):
    document = make_spec("anova", conditions=("A", "B"))
    (model,) = plan(document, make_rows(SUBJECTS, ("A", "B", "C"))).models
    assert any("the maps of C are in the model" in warning for warning in model.warnings)


def test_contrasts_whose_labels_collide_are_refused(plan):
    contrast = {"Name": "a-b", "Test": "t", "ConditionList": ["A", "B"], "Weights": [1, -1]}
    document = make_spec("anova", node={"Contrasts": [contrast, {**contrast, "Name": "ab"}]})
    with pytest.raises(SpecError, match="contrast-ab; rename one"):
        plan(document, make_rows(SUBJECTS, ("A", "B", "C")))


@pytest.mark.parametrize(
    ("second", "path"),
    [
        ({**ENTRY, "Tail": "negative"}, "Inference[1]"),
        ({**ENTRY, "Name": "--"}, "Inference[1]"),
        ({**ENTRY, "Contrasts": ["A"]}, "Inference[1]"),
        ({**ENTRY, "Name": "n", "Contrasts": ["Z"]}, "Inference[1].Contrasts[0]"),
    ],
)
def test_entries_of_one_name_or_of_no_contrast_are_refused(plan, second, path):
    with pytest.raises(SpecError) as caught:
        plan(make_spec(settings={"Inference": [ENTRY, second]}), make_rows(SUBJECTS, ("A", "B")))
    assert caught.value.path.endswith(f"bids_group.{path}")


def test_a_name_that_reads_as_the_ending_of_a_fitted_tail_is_refused_beside_one(plan):
    """Both entries would write `voxelFWEGPD`, the second over the first."""
    fitted, named = (
        {"Correction": "permutation", "Levels": ["voxel"], **keys}
        for keys in ({"TailApproximation": True}, {"Name": "gpd"})
    )
    for entries in ([fitted, named], [named, fitted]):
        with pytest.raises(SpecError, match="would have the names of"):
            plan(make_spec(settings={"Inference": entries}), make_rows(SUBJECTS))
    both = [{**fitted, "Name": "x"}, {**named, "Name": "xGPD"}]
    assert plan(make_spec(settings={"Inference": both}), make_rows(SUBJECTS)).models


def test_entries_may_share_a_correction_by_name_or_by_contrast(plan):
    for entries in (
        [ENTRY, {**ENTRY, "Tail": "negative", "Name": "Negative"}],
        [{**ENTRY, "Contrasts": ["A"]}, {**ENTRY, "Contrasts": ["B"]}],
        [{**ENTRY, "Contrasts": ["intercept"]}],
    ):
        assert plan(make_spec(settings={"Inference": entries}), make_rows(SUBJECTS, ("A", "B"))).models


def test_shared_entities_are_those_of_all_maps_in_the_order_of_bids():
    rows = make_rows(SUBJECTS).assign(space="MNI", run=["1"] * 5, session=["a", "b", "a", "b", "a"], desc="A")
    rows = rows.assign(acquisition=["x", None, "x", "x", "x"])
    shared = find_shared_entities(rows[sorted(rows.columns, reverse=True)])
    assert list(shared.items()) == [("task", "x"), ("run", "1"), ("space", "MNI")]


def test_the_order_of_the_rows_changes_nothing_but_the_order(plan):
    rows = make_rows(SUBJECTS, ("A", "B", "C"))
    shuffled = rows.sample(frac=1, random_state=0)
    first, second = (plan(make_spec("anova"), table).models[0] for table in (rows, shuffled))
    pd.testing.assert_frame_equal(first.design.matrix, second.design.matrix.loc[first.design.matrix.index])


def test_only_the_dummy_contrast_of_the_intercept_takes_the_name_of_the_maps_contrast(plan):
    contrast = {"Name": "intercept", "Test": "t", "ConditionList": [1, "age"], "Weights": [1, 30]}
    document = make_spec(node={"Contrasts": [contrast]}, model={"X": [1, "age"]})
    (model,) = plan(document, make_rows(SUBJECTS)).models
    assert [contrast.label for contrast in model.contrasts] == ["Aintercept", "A", "Aage"]


def test_maps_of_different_spaces_are_refused_and_other_mixtures_told(plan):
    rows = make_rows(SUBJECTS)
    rows["task"] = ["x"] * 4 + ["y"]
    (model,) = plan(make_spec(), rows).models
    assert any("differ in task (x, y)" in warning for warning in model.warnings)
    rows["space"] = ["MNI152Lin"] * 4 + [None]
    with pytest.raises(DataError, match=r"differ in space \(MNI152Lin, none\)"):
        plan(make_spec(), rows)


def test_a_formula_never_loses_a_factor_without_a_word(plan):
    document = make_spec(node=make_filter("group == 'p'", "group"), model={"Formula": "1 + group"})
    del document["Nodes"][0]["Model"]["X"]
    with pytest.raises(SpecError, match="'group' has one level only, 'p'"):
        plan(document, make_rows(SUBJECTS))


@pytest.mark.parametrize("query", ["subject != 'sub-01'", "subject != 1"])
def test_a_subject_that_there_is_not_cannot_be_filtered(plan, query):
    with pytest.raises(SpecError, match="'subject' has no level"):
        plan(make_spec(node=make_filter(query, "subject")), make_rows(SUBJECTS))


def test_conditions_told_apart_by_a_table_of_sessions_are_cells_of_repeated_measures(plan):
    rows = pd.concat([make_rows(SUBJECTS, session=session) for session in ("pre", "post")], ignore_index=True)
    doses = {(subject, session): dose for subject in SUBJECTS for session, dose in (("pre", "none"), ("post", "full"))}
    values = pd.DataFrame({"dose": doses.values()}, index=pd.MultiIndex.from_tuples(doses), dtype=object)
    contrast = {"Name": "effect", "Test": "t", "ConditionList": ["dose[full]", "dose[none]"], "Weights": [1, -1]}
    document = make_spec(model={"X": ["dose", "subject"]}, node={"GroupBy": [], "Contrasts": [contrast]})
    document["Nodes"][0].pop("DummyContrasts")
    (model,) = plan(document, rows, tables=[ValueTable("sessions.tsv", values, ("dose",))]).models
    assert (model.error_term, model.dof) == ("partitioned", 4)
    np.testing.assert_allclose(np.abs(model.partition.contrasts[0].within), np.full((2, 1), np.sqrt(0.5)))


def test_random_fields_are_refused_of_an_f_of_several_directions_with_an_error_each(plan):
    rows = make_rows([f"{number:02}" for number in range(1, 13)], ("A", "B", "C"))

    def build(error_term, **entry):
        settings = {"ErrorTerm": error_term, "Inference": [{"Correction": "rft", **entry}]}
        return plan(make_spec("anova", settings=settings), rows)

    with pytest.raises(SpecError, match="'omnibus' has partitioned errors of several within-subject directions"):
        build("partitioned")
    for accepted in (build("partitioned", Contrasts=["AMinusB"]), build("pooled")):
        assert [contrast.label for contrast in accepted.models[0].contrasts] == ["omnibus", "AMinusB"]


def test_f_alone_has_no_two_one_sided_entries(plan):
    entries = [ENTRY, {**ENTRY, "Tail": "negative", "Name": "Negative"}]
    rows = make_rows(SUBJECTS, ("A", "B", "C"))
    document = make_spec("anova", settings={"Inference": entries})
    (model,) = plan(document, rows).models
    assert any("twice the alpha" in warning for warning in model.warnings)
    document["Nodes"][0]["Contrasts"] = [one for one in document["Nodes"][0]["Contrasts"] if one["Test"] == "F"]
    (model,) = plan(document, rows).models
    assert not any("twice the alpha" in warning for warning in model.warnings)


def test_incomplete_subjects_are_dropped_where_the_spec_says_so_and_scaling_does_not_see_them(plan):
    rows = make_rows(SUBJECTS, ("A", "B", "C"))
    rows = rows[~((rows["subject"] == "05") & (rows["contrast"] == "B"))].reset_index(drop=True)
    document = make_spec("anova", settings={"Missing": "drop-subject"})
    scale = {"Name": "Demean", "Input": "age"}
    document["Nodes"][0]["Transformations"] = {"Transformer": "pybids-transforms-v1", "Instructions": [scale]}
    document["Nodes"][0]["Model"]["X"] = ["A", "B", "C", "age"]
    document["Nodes"][0]["Model"]["Software"]["bids_group"]["ErrorTerm"] = "partitioned"
    found = plan(document, rows)
    assert set(found.models[0].rows["subject"]) == {"01", "02", "03", "04"}
    assert list(found.excluded["reason"]) == ["Missing: no map of B"] * 2
    np.testing.assert_allclose(found.models[0].design.matrix["age"].mean(), 0, atol=1e-12)
    del document["Nodes"][0]["Model"]["Software"]["bids_group"]["Missing"]
    with pytest.raises(DataError, match="drop-subject"):
        plan(document, rows)


@pytest.mark.parametrize(
    ("model", "condition"),
    [
        ({"X": ["subject", "B"]}, "B"),
        ({"X": [1, "A", "B", "subject", "B:group[p]"]}, "B:group[p]"),
        ({"Formula": "0 + subject + contrast"}, "contrast[T.B]"),
    ],
)
def test_partitioned_errors_never_test_another_hypothesis_than_the_design_states(plan, model, condition):
    contrast = {"Name": "x", "Test": "t", "ConditionList": [condition], "Weights": [1]}
    document = make_spec(
        "anova", conditions=("A", "B"), settings={"ErrorTerm": "partitioned"}, node={"Contrasts": [contrast]}
    )
    if "Formula" in model:
        del document["Nodes"][0]["Model"]["X"]
    document["Nodes"][0]["Model"].update(model)
    participants = make_participants(SUBJECTS, group=["p", "c", "p", "c", "p"])
    rows = make_rows(SUBJECTS, ("A", "B"))
    with pytest.raises(SpecError, match="would test something else"):
        plan(document, rows, participants)


def test_means_of_conditions_and_group_differences_have_their_meaning_without_subjects(plan):
    contrasts = [
        {"Name": "mean", "Test": "t", "ConditionList": ["A"], "Weights": [1]},
        {"Name": "difference", "Test": "t", "ConditionList": ["A", "B"], "Weights": [1, -1]},
        {"Name": "groups", "Test": "t", "ConditionList": ["group[p]", "group[c]"], "Weights": [1, -1]},
    ]
    document = make_spec(
        "anova",
        conditions=("A", "B"),
        settings={"ErrorTerm": "partitioned"},
        model={"X": ["A", "B", "group", "subject"]},
        node={"Contrasts": contrasts[1:]},
    )
    participants = make_participants(SUBJECTS, group=["p", "c", "p", "c", "p"])
    rows = make_rows(SUBJECTS, ("A", "B"))
    assert plan(document, rows, participants).models[0].dof == 3
    document["Nodes"][0]["Contrasts"] = contrasts[:2]
    document["Nodes"][0]["Model"]["X"] = ["A", "B", "subject"]
    assert plan(document, rows, participants).models[0].dof == 4


def test_the_pooled_error_is_judged_by_the_hypothesis_that_the_pooled_design_tests(plan):
    document = make_spec("anova", conditions=("A", "B"), settings={"ErrorTerm": "pooled"})
    document["Nodes"][0]["Model"]["X"] = ["subject", "B"]
    document["Nodes"][0]["Contrasts"] = [{"Name": "b", "Test": "t", "ConditionList": ["B"], "Weights": [1]}]
    (model,) = plan(document, make_rows(SUBJECTS, ("A", "B"))).models
    (factored,) = model.partition.contrasts
    np.testing.assert_allclose(np.abs(factored.within[:, 0]), np.sqrt([0.5, 0.5]), rtol=1e-12)
