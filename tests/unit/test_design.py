"""Designs of the textbooks: their columns, rank and degrees of freedom, and those that cannot be fitted."""

import formulaic
import numpy as np
import pytest
from statsmodels.stats.outliers_influence import variance_inflation_factor

from bids_group.errors import DataError, SpecError
from bids_group.inputs.design import build_design, check_pooled_error, drop_subject_columns, find_collinear
from bids_group.inputs.spec import read_spec
from bids_group.inputs.variables import VariableTable
from tests.builders import make_participants, make_rows, make_spec, write_spec

EIGHT = tuple(f"{i:02d}" for i in range(1, 9))
AGES = (31.5, 20, 44, 27, 52.5, 36, 23, 61)
GROUPS = ("patient", "control", "control") + ("patient", "control") * 2 + ("control",)
FACES = [f"{delay}{face}" for face in ("FF", "UF", "SF") for delay in ("Ini", "Imm", "Del")]
PARTICIPANTS = make_participants(EIGHT, age=AGES, group=GROUPS, dose=[0, 1, 2, 0, 1, 2, 0, 1])


@pytest.fixture
def design_of(tmp_path):
    """Build the design of `X` or of a formula over the rows of a table of maps."""

    def build(model, rows=None, participants=PARTICIPANTS):
        node = read_node(tmp_path, model)
        return build_design(node, VariableTable(make_rows(EIGHT) if rows is None else rows, participants))

    return build


def read_node(folder, model, **settings):
    key = "Formula" if isinstance(model, str) else "X"
    document = make_spec(settings=settings)
    del document["Nodes"][0]["Model"]["X"]
    document["Nodes"][0]["Model"][key] = model
    return read_spec(write_spec(folder / "smdl.json", document)).nodes[0]


def test_a_one_sample_design_is_a_column_of_ones(design_of):
    design = design_of([1])
    assert (design.columns, design.rank, design.dof) == (["intercept"], 1, 7)
    assert (design.matrix.to_numpy() == 1).all()


def test_two_groups_have_a_column_each_in_the_order_of_their_names(design_of):
    design = design_of(["group"])
    assert (design.columns, design.rank, design.dof) == (["group[control]", "group[patient]"], 2, 6)
    np.testing.assert_array_equal(design.matrix["group[patient]"], [g == "patient" for g in GROUPS])


def test_one_level_can_stand_alone(design_of):
    design = design_of([1, "group[patient]"])
    assert (design.columns, design.rank) == (["intercept", "group[patient]"], 2)
    with pytest.raises(SpecError, match=r"did you mean 'group\[patient\]'"):
        design_of([1, "group[patiant]"])
    with pytest.raises(SpecError, match="has no levels"):
        design_of([1, "age[31.5]"])


def test_a_covariate_is_taken_as_it_is(design_of):
    design = design_of([1, "age"])
    assert design.dof == 6
    np.testing.assert_array_equal(design.matrix["age"], AGES)


def test_values_are_joined_by_subject_not_by_position(design_of):
    shuffled = PARTICIPANTS.iloc[::-1]
    np.testing.assert_array_equal(design_of([1, "age"], participants=shuffled).matrix["age"], AGES)


def test_a_paired_design_has_as_many_dof_as_differences(design_of):
    design = design_of(["A", "B", "subject"], make_rows(EIGHT, ("A", "B")))
    assert (len(design.columns), design.rank, design.dof) == (10, 9, 7)
    assert set(design.dependent_columns) == set(design.columns)


def test_three_by_three_repeated_measures_have_rank_24_and_120_dof(design_of):
    subjects = [f"{i:02d}" for i in range(1, 17)]
    rows = make_rows(subjects, FACES)
    design = design_of([*FACES, "subject"], rows, make_participants(subjects))
    assert (design.matrix.shape, design.rank, design.dof) == ((144, 25), 24, 120)
    np.testing.assert_array_equal(design.matrix.to_numpy().sum(axis=0), [16] * 9 + [9] * 16)


@pytest.mark.parametrize(
    ("terms", "formula"),
    [
        ([1], "1"),
        (["group"], "group"),
        (["group", "age"], "0 + group + age"),
        ([1, "age", "dose"], "age + scale(dose)"),
        ([1, "age"], "center(age)"),
        (["A", "B", "subject"], "A + B + subject"),
        (["contrast", "subject"], "C(contrast) + C(subject) - 1"),
    ],
)
def test_x_and_formula_span_the_same_columns(design_of, terms, formula):
    rows = make_rows(EIGHT, ("A", "B"))
    first, second = design_of(terms, rows), design_of(formula, rows)
    assert first.rank == second.rank
    bases = [design.space.basis for design in (first, second)]
    np.testing.assert_allclose(*(basis @ basis.T for basis in bases), atol=1e-12)


def test_the_intercept_of_a_formula_is_called_as_that_of_x(design_of):
    assert design_of("group").columns == ["intercept", "group[T.patient]"]


def test_levels_of_whole_numbers_have_the_names_that_formulaic_gives_to_whole_numbers(design_of):
    site = (1, 10, 2, 1, 10, 2, 1, 2)
    participants = make_participants(EIGHT, site=site, age=AGES, dose=(1.5, 2, 1.5, 2, 1.5, 2, 1.5, 2))
    table = participants.astype({"site": int, "age": float, "dose": float})
    for formula in ("C(site) + site:age", "0 + C(site):age", "age:C(site)", "C(dose)"):
        expected = list(formulaic.model_matrix(formula, table).columns)
        columns = design_of(formula, participants=participants).columns
        assert [name.replace("intercept", "Intercept") for name in columns] == expected


def test_missing_values_name_the_participants(design_of):
    ages = ["n/a", *AGES[1:7], ""]
    for model in ([1, "age"], "age"):
        with pytest.raises(SpecError, match=r"n/a, or no row in participants\.tsv.* for sub-01, sub-08;"):
            design_of(model, participants=make_participants(EIGHT, age=ages))
    with pytest.raises(SpecError, match="for sub-08;") as caught:
        design_of([1, "age"], participants=PARTICIPANTS.iloc[:7])
    assert caught.value.path == "Nodes[0].Model.X[1]"


def test_a_design_needs_a_residual_degree_of_freedom(design_of):
    rows = make_rows(("01", "02"))
    assert design_of([1], rows).dof == 1
    with pytest.raises(SpecError, match="2 maps and a design of rank 2"):
        design_of([1, "age"], rows)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ([1, "aeg"], "did you mean 'age'"),
        ("aeg", "did you mean 'age'"),
        (["group", "group[patient]"], "two columns are called"),
        ("scale(group)", "cannot be evaluated"),
        ("0", "no usable columns"),
        ("age*0", "cannot be evaluated"),
    ],
)
def test_designs_that_cannot_be_built_are_refused_at_their_place(design_of, model, told):
    with pytest.raises(SpecError, match=r"^Nodes\[0\]\.Model\.(X|Formula)") as caught:
        design_of(model)
    assert told in str(caught.value)


def test_a_column_of_zeros_is_refused(design_of):
    with pytest.raises(SpecError, match="'dose' is zero in all rows"):
        design_of([1, "dose"], participants=make_participants(EIGHT, dose=[0] * 8))


def test_repeated_maps_need_subject_columns_and_an_explicit_pooled_error(design_of, tmp_path):
    rows = make_rows(EIGHT, ("A", "B"))
    full, without = design_of(["A", "B", "subject"], rows), design_of(["A", "B"], rows)
    pooled = read_node(tmp_path, ["A", "B", "subject"], ErrorTerm="pooled")
    check_pooled_error(pooled, rows, full)
    check_pooled_error(pooled, rows, design_of("A + subject", rows))
    with pytest.raises(SpecError, match='add "subject"') as caught:
        check_pooled_error(pooled, rows, without)
    assert caught.value.path == "Nodes[0].Model.X"


@pytest.mark.parametrize(
    "model", [["A", "B", "subject"], ["subject", "A", "B"], "0 + A + B + subject", "0 + A + B + C(subject)"]
)
def test_partitioned_errors_do_without_the_columns_of_subjects(design_of, model):
    rows = make_rows(EIGHT, ("A", "B"))
    reduced = drop_subject_columns(design_of(model, rows))
    assert reduced.columns == ["A", "B"]
    assert reduced.rank == 2


def test_effects_of_single_subjects_cannot_be_partitioned(design_of):
    rows = make_rows(EIGHT, ("A", "B", "C"))
    with pytest.raises(DataError, match="effect of a single subject"):
        drop_subject_columns(design_of("A + A:subject", rows))
    with pytest.raises(DataError, match="subjects only"):
        drop_subject_columns(design_of(["subject"], rows))


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0, 6.0, 30.0])
def test_collinearity_is_told_when_the_vif_of_statsmodels_exceeds_10(design_of, noise):
    step = np.array([1, -1, -1, 1, 1, 1, -1, -1])
    ages, years = np.array(AGES), np.round(np.array(AGES) * 0.9 + noise * step, 6)
    if noise == 0:
        years += 0.01 * step
    design = design_of(
        [1, "age", "years", "group[patient]"], participants=PARTICIPANTS.assign(years=[str(y) for y in years])
    )
    np.testing.assert_array_equal(design.matrix["age"], ages)
    factors = [variance_inflation_factor(design.matrix.to_numpy(), i) for i in range(4)]
    warned = [f"'{name}'" in "".join(find_collinear(design)) for name in design.columns]
    assert warned == [False, factors[1] > 10, factors[2] > 10, False]
    for line, factor in zip(find_collinear(design), [f for f in factors[1:3] if f > 10], strict=True):
        assert f"{100 / factor:.2g}% of its variance" in line


def test_an_uncentred_covariate_is_not_collinear_with_the_intercept(design_of):
    years = [str(2000 + age) for age in AGES]
    assert find_collinear(design_of([1, "years"], participants=make_participants(EIGHT, years=years))) == []


def test_an_interaction_is_the_product_of_its_parts_columns(design_of):
    matrix = design_of(["group", "group:age"]).matrix
    assert list(matrix.columns) == ["group[control]", "group[patient]", "group[control]:age", "group[patient]:age"]
    patients = np.array([g == "patient" for g in GROUPS])
    np.testing.assert_array_equal(matrix["group[patient]:age"], np.where(patients, AGES, 0))
    assert list(design_of([1, "group[patient]:age"]).columns) == ["intercept", "group[patient]:age"]


@pytest.mark.parametrize(
    ("terms", "formula"),
    [
        (["group", "group:age"], "0 + group + group:age"),
        (["group", "age", "group:age"], "group*age"),
        ([1, "age", "dose", "age:dose"], "age*dose"),
        (["A:group", "B:group"], "0 + C(contrast):group"),
        (["contrast:group:age", 1], "C(contrast):group:age"),
    ],
)
def test_interactions_of_x_and_formula_span_the_same_columns(design_of, terms, formula):
    rows = make_rows(EIGHT, ("A", "B"))
    first, second = design_of(terms, rows), design_of(formula, rows)
    assert first.rank == second.rank
    bases = [design.space.basis for design in (first, second)]
    np.testing.assert_allclose(*(basis @ basis.T for basis in bases), atol=1e-12)


def test_an_interaction_of_three_factors_has_a_column_for_each_cell(design_of):
    rows = make_rows(EIGHT, ("A", "B")).assign(session=["pre", "post"] * 8)
    arm = ["x", "x", "y", "y"] * 2
    matrix = design_of(["group:arm:contrast"], rows, PARTICIPANTS.assign(arm=arm)).matrix
    assert len(matrix.columns) == 8
    assert "group[patient]:arm[x]:contrast[A]" in matrix.columns
    np.testing.assert_array_equal(matrix.sum(axis=1), 1)


def test_a_colon_within_a_level_or_a_column_name_does_not_split(design_of):
    participants = PARTICIPANTS.assign(time=["09:30", "10:00"] * 4).assign(**{"a:b": ["1", "2", "3", "4"] * 2})
    matrix = design_of(["age:time[09:30]", "a:b"], participants=participants).matrix
    assert list(matrix.columns) == ["age:time[09:30]", "a:b"]
    np.testing.assert_array_equal(matrix["age:time[09:30]"], np.where(np.arange(8) % 2 == 0, AGES, 0))


@pytest.mark.parametrize(
    ("term", "told"),
    [
        ("group:aeg", "did you mean 'age'"),
        ("group[patiant]:age", "did you mean 'group[patient]'"),
        ("age:age", "stands twice in 'age:age'"),
        ("group:", "there is no variable ''"),
        ("1:age", "there is no variable '1'"),
        ("group:age[3]", "is a number and has no levels"),
    ],
)
def test_interactions_of_unknown_parts_are_refused_at_their_place(design_of, term, told):
    with pytest.raises(SpecError) as caught:
        design_of([1, term])
    assert caught.value.path == "Nodes[0].Model.X[1]"
    assert told in str(caught.value)


def test_effects_of_single_subjects_by_x_cannot_be_partitioned(design_of):
    rows = make_rows(EIGHT, ("A", "B", "C"))
    with pytest.raises(DataError, match="effect of a single subject"):
        drop_subject_columns(design_of(["A", "A:subject"], rows))
