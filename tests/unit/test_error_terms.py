"""Contrasts of repeated measures as a part within times a part between subjects."""

import re

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from bids_group.errors import DataError
from bids_group.inputs.error_terms import build_subject_design, factor_contrast, lay_out
from bids_group.stats.glm import compute_p
from bids_group.stats.partitioned import compute_partitioned, fit_partitioned

N_PATIENTS, N_CONTROLS = 5, 7
SUBJECTS = [f"{i:02}" for i in range(1, N_PATIENTS + N_CONTROLS + 1)]
GROUP = dict(zip(SUBJECTS, ["patient"] * N_PATIENTS + ["control"] * N_CONTROLS, strict=True))
AGE = dict(zip(SUBJECTS, np.random.default_rng(1).normal(40, 10, len(SUBJECTS)).round(1), strict=True))


def make_maps(cells="ABC", seed=0):
    """A table of maps in a scrambled order."""
    maps = pd.DataFrame([(subject, cell) for subject in SUBJECTS for cell in cells], columns=["subject", "cell"])
    maps = maps.sample(frac=1.0, random_state=seed).reset_index(drop=True)
    maps["group"], maps["age"] = maps["subject"].map(GROUP), maps["subject"].map(AGE)
    maps["centred"] = maps["age"] - maps["age"].mean()
    return maps


def make_design(maps, formula):
    return pd.DataFrame(model_matrix(formula, maps)).astype(float)


def make_cell_means(maps):
    """One column per group and cell."""
    names = [f"{group}:{cell}" for group in ("patient", "control") for cell in sorted(maps["cell"].unique())]
    keys = maps["group"] + ":" + maps["cell"]
    return pd.DataFrame({name: (keys == name).astype(float) for name in names})


def weigh(design, **weights):
    return np.array([[weights.get(re.sub(r"\W", "_", name), 0.0) for name in design.columns]])


def factor(maps, design, weights):
    layout = lay_out(maps["subject"], maps["cell"])
    return layout, factor_contrast(build_subject_design(design, layout), weights)


def make_data(maps, seed=5, n_voxels=4):
    rng = np.random.default_rng(seed)
    own = dict(zip(SUBJECTS, rng.normal(size=(len(SUBJECTS), n_voxels)), strict=True))
    return np.array([own[subject] for subject in maps["subject"]]) + rng.normal(size=(len(maps), n_voxels))


def compute(maps, design, weights, test, data):
    layout, parts = factor(maps, design, weights)
    fit = fit_partitioned(data, layout.rows, parts.within, parts.between, parts.basis, loadings=parts.loadings)
    return compute_partitioned(fit, test, sphericity="none")


def pick(maps, data, cell):
    """The data of one cell, in the order of the subjects."""
    return data[maps[maps["cell"] == cell].sort_values("subject").index]


def assert_spans(found, expected):
    expected = linalg.orth(np.atleast_2d(np.asarray(expected, float).T).T)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-10)


MAPS = make_maps()
PATIENT = np.array([GROUP[subject] == "patient" for subject in SUBJECTS], dtype=float)
ONES = np.ones(len(SUBJECTS))
CENTRED = np.array([AGE[subject] for subject in SUBJECTS]) - np.mean(list(AGE.values()))
GROUP_DIFFERENCE = PATIENT / N_PATIENTS - (1 - PATIENT) / N_CONTROLS
AB, MEAN = [1.0, -1, 0], np.ones(3) / 3
CONDITIONS = "C(cell) - 1"
# Formula, weights of the columns (by name, punctuation as _), and the parts: within, between, q.
CASES = {
    "paired difference": (CONDITIONS, {"C_cell__A_": 1, "C_cell__B_": -1}, AB, ONES, 1),
    "mean of one condition": (CONDITIONS, {"C_cell__B_": 1}, [0, 1, 0], ONES, 1),
    "mean over conditions": (CONDITIONS, {f"C_cell__{c}_": 1 / 3 for c in "ABC"}, MEAN, ONES, 1),
    "difference with a centred covariate": (
        "C(cell) - 1 + centred",
        {"C_cell__A_": 1, "C_cell__B_": -1},
        AB,
        ONES,
        2,
    ),
    "mean of one condition with a centred covariate": ("C(cell) - 1 + centred", {"C_cell__A_": 1}, [1, 0, 0], ONES, 2),
    "slope of a covariate on the average": ("C(cell) - 1 + age", {"age": 1}, MEAN, CENTRED, 2),
    "covariate by condition": (
        "C(cell) - 1 + C(cell):age",
        {"C_cell__A__age": 1, "C_cell__B__age": -1},
        AB,
        CENTRED,
        2,
    ),
    "groups on the average": (
        "C(cell) + C(group)",
        {"C_group__T_patient_": 1},
        MEAN,
        GROUP_DIFFERENCE,
        2,
    ),
    "difference of conditions beside groups": ("C(cell) + C(group)", {"C_cell__T_B_": -1}, AB, ONES, 2),
    "group by condition, treatment coding": (
        "C(cell) * C(group)",
        {"C_cell__T_B__C_group__T_patient_": -1},
        AB,
        GROUP_DIFFERENCE,
        2,
    ),
    "condition within the reference group, treatment coding": (
        "C(cell) * C(group)",
        {"C_cell__T_B_": -1},
        AB,
        1 - PATIENT,
        2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_contrasts_of_one_row_factor_into_their_parts_and_keep_their_effect(case):
    formula, weights, within, between, q = CASES[case]
    design = make_design(MAPS, formula)
    weights = weigh(design, **weights)
    _, parts = factor(MAPS, design, weights)
    assert_spans(parts.within, within)
    assert_spans(parts.between, between)
    assert (parts.rank, parts.basis.shape[1], parts.dof) == (1, q, len(SUBJECTS) - q)
    assert parts.loadings.item() > 0
    data = make_data(MAPS)
    t = compute(MAPS, design, weights, "t", data)
    np.testing.assert_allclose(t.effect, (weights @ np.linalg.lstsq(design.to_numpy(), data)[0])[0], rtol=1e-9)
    np.testing.assert_allclose(np.sign(t.value), np.sign(t.effect))


def test_group_by_condition_is_the_same_in_cell_means_and_treatment_coding():
    data = make_data(MAPS)
    means, treatment = make_cell_means(MAPS), make_design(MAPS, "C(cell) * C(group)")
    in_means = weigh(means, patient_A=1, patient_B=-1, control_A=-1, control_B=1)
    in_treatment = weigh(treatment, C_cell__T_B__C_group__T_patient_=-1)
    one, other = compute(MAPS, means, in_means, "t", data), compute(MAPS, treatment, in_treatment, "t", data)
    differences = pick(MAPS, data, "A") - pick(MAPS, data, "B")
    oracle = stats.ttest_ind(differences[:N_PATIENTS], differences[N_PATIENTS:])
    for t in (one, other):
        np.testing.assert_allclose(t.value, oracle.statistic, rtol=1e-9)
        np.testing.assert_allclose(compute_p(t), oracle.pvalue, rtol=1e-9)


def test_groups_on_subject_averages_are_the_two_sample_t_with_unequal_sizes():
    data, design = make_data(MAPS), make_cell_means(MAPS)
    weights = weigh(design, **{f"{g}_{c}": s / 3 for g, s in (("patient", 1), ("control", -1)) for c in "ABC"})
    t = compute(MAPS, design, weights, "t", data)
    averages = np.mean([pick(MAPS, data, cell) for cell in "ABC"], axis=0)
    np.testing.assert_allclose(
        t.value, stats.ttest_ind(averages[:N_PATIENTS], averages[N_PATIENTS:]).statistic, rtol=1e-9
    )
    np.testing.assert_allclose(t.effect, averages[:N_PATIENTS].mean(0) - averages[N_PATIENTS:].mean(0), rtol=1e-9)


def test_slope_on_the_average_is_the_regression_of_the_averages():
    data, design = make_data(MAPS), make_design(MAPS, "C(cell) - 1 + age")
    t = compute(MAPS, design, weigh(design, age=1), "t", data)
    averages = np.mean([pick(MAPS, data, cell) for cell in "ABC"], axis=0)
    for voxel in range(averages.shape[1]):
        oracle = stats.linregress([AGE[subject] for subject in SUBJECTS], averages[:, voxel])
        np.testing.assert_allclose(t.effect[voxel], oracle.slope, rtol=1e-9)
        np.testing.assert_allclose(np.sqrt(t.variance[voxel]), oracle.stderr, rtol=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "rank"), [("D", "M", 2), ("M", "D", 2), ("D", "D", 4)], ids=["main effect of A", "of B", "interaction"]
)
def test_effects_of_a_3_by_3_design_factor(a, b, rank):
    maps = make_maps([f"{i}{j}" for i in "abc" for j in "xyz"])
    design = pd.get_dummies(maps["cell"]).astype(float)
    parts_of = {"D": np.array([[1.0, -1, 0], [0, 1, -1]]), "M": np.ones((1, 3)) / 3}
    weights = np.kron(parts_of[a], parts_of[b])
    layout, parts = factor(maps, design, weights)
    assert layout.cells == tuple(design.columns)
    assert (parts.within.shape[1], parts.between.shape[1], parts.rank) == (rank, 1, rank)
    assert_spans(parts.within, weights.T)
    assert_spans(parts.between, ONES)
    F = compute(maps, design, np.vstack([weights, 0 * weights[:1], weights.sum(axis=0)]), "F", make_data(maps))
    assert (F.dof_effect, F.dof) == (rank, rank * 11)


def test_group_by_condition_of_three_conditions_has_one_row_between_and_two_within():
    design = make_design(MAPS, "C(cell) * C(group)")
    weights = np.vstack([weigh(design, **{f"C_cell__T_{c}__C_group__T_patient_": 1}) for c in "BC"])
    _, parts = factor(MAPS, design, weights)
    assert (parts.within.shape[1], parts.between.shape[1]) == (2, 1)
    assert_spans(parts.between, GROUP_DIFFERENCE)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_effects_are_those_of_the_coefficients_and_directions_lie_in_the_between_subject_design(seed):
    rng = np.random.default_rng(seed)
    maps = make_maps("ABCD", seed=seed)
    z, a = rng.normal(size=(12, 3)), rng.normal(size=(4, 3))
    columns = np.einsum("sq,cp->scqp", z, a).reshape(12, 4, 9)
    layout = lay_out(maps["subject"], maps["cell"])
    design = pd.DataFrame(np.empty((48, 9)), columns=[f"x{i}" for i in range(9)])
    design.iloc[layout.rows.ravel()] = columns.reshape(48, 9)
    weights = np.kron(rng.normal(size=(2, 3)), rng.normal(size=(2, 3))) * 10.0 ** rng.integers(-4, 5, size=(4, 1))
    parts = factor_contrast(build_subject_design(design, layout), weights)
    assert (parts.between.shape, parts.within.shape, parts.basis.shape) == ((12, 2), (4, 2), (12, 3))
    data = rng.normal(size=(48, 3))
    scores = np.einsum("ng,ncv,cw->gwv", parts.between, data[layout.rows], parts.within).reshape(4, 3)
    expected = weights @ np.linalg.lstsq(design.to_numpy(), data)[0]
    scale = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose((parts.loadings @ scores) / scale, expected / scale, atol=1e-8)
    outside = parts.between - parts.basis @ (parts.basis.T @ parts.between)
    assert np.abs(outside).max() < 1e-8
    for directions in (parts.between, parts.within, parts.basis):
        np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-12)


def test_order_of_the_maps_does_not_matter():
    weights = {"C_cell__T_B__C_group__T_patient_": 1}
    found = []
    for seed in (0, 1):
        maps = make_maps(seed=seed)
        design = make_design(maps, "C(cell) * C(group)")
        found.append(factor(maps, design, weigh(design, **weights))[1])
    for name in ("within", "between", "loadings"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_sign_of_the_weights_is_the_sign_of_t():
    design, data = make_design(MAPS, CONDITIONS), make_data(MAPS)
    weights = weigh(design, C_cell__A_=1, C_cell__B_=-1)
    one, other = (compute(MAPS, design, rows, "t", data) for rows in (weights, -3 * weights))
    np.testing.assert_allclose(other.value, -one.value, rtol=1e-12)
    np.testing.assert_allclose(other.effect, -3 * one.effect, rtol=1e-12)
    np.testing.assert_allclose(other.variance, 9 * one.variance, rtol=1e-12)


def test_one_map_per_subject_is_the_ordinary_model():
    maps = make_maps("A")
    design = make_design(maps, "C(group) + age")
    data = make_data(maps)
    _, parts = factor(maps, design, weigh(design, C_group__T_patient_=1))
    t = compute(maps, design, weigh(design, C_group__T_patient_=1), "t", data)
    assert (parts.within.item(), parts.dof, t.dof) == (1.0, 9, 9)
    np.testing.assert_allclose(t.effect, np.linalg.lstsq(design.to_numpy(), data)[0][1], rtol=1e-9)


REFUSED = {
    "patients' A minus controls' B": (
        "C(group):C(cell) - 1",
        {"C_group__patient__C_cell__A_": 1, "C_group__control__C_cell__B_": -1},
    ),
    "a condition at age 0": ("C(cell) - 1 + age", {"C_cell__A_": 1}),
    "groups within a condition, one slope for all": (
        "C(group):C(cell) - 1 + centred",
        {"C_group__patient__C_cell__A_": 1, "C_group__control__C_cell__A_": -1},
    ),
    "the reference cell of an additive model": ("C(cell) + C(group)", {"Intercept": 1}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_mixes_subjects_and_conditions_has_no_error_term(case):
    formula, weights = REFUSED[case]
    design = make_design(MAPS, formula)
    weights = weigh(design, **weights)
    assert np.count_nonzero(weights)
    with pytest.raises(DataError, match=r"no error term of its own: its rank is 1, but it mixes 2 .* Demean"):
        factor(MAPS, design, weights)


def test_groups_within_a_condition_factor_when_every_condition_has_its_own_slope():
    design = make_design(MAPS, "C(group):C(cell) - 1 + C(cell):centred")
    weights = weigh(design, C_group__patient__C_cell__A_=1, C_group__control__C_cell__A_=-1)
    _, parts = factor(MAPS, design, weights)
    assert_spans(parts.within, [1, 0, 0])
    assert parts.basis.shape[1] == 3


def test_separate_contrasts_of_groups_and_of_conditions_in_one_f_are_refused():
    design = make_cell_means(MAPS)
    groups = weigh(design, **{f"{g}_{c}": s for g, s in (("patient", 1), ("control", -1)) for c in "ABC"})
    conditions = weigh(design, patient_A=1, control_A=1, patient_B=-1, control_B=-1)
    with pytest.raises(DataError, match="its rank is 2, but it mixes 2 comparisons of subjects with 2 of conditions"):
        factor(MAPS, design, np.vstack([groups, conditions]))


def test_covariate_that_varies_within_subjects_is_named():
    design = make_design(MAPS, CONDITIONS)
    design["reaction_time"] = np.random.default_rng(3).normal(size=len(design))
    with pytest.raises(DataError, match=r"the column 'reaction_time' differs both within and between.*pooled"):
        build_subject_design(design, lay_out(MAPS["subject"], MAPS["cell"]))


def test_covariate_of_the_conditions_is_the_same_in_all_subjects_and_allowed():
    maps = MAPS.assign(load=MAPS["cell"].map({"A": 1.0, "B": 2.0, "C": 4.0}))
    design = make_design(maps, "load")
    _, parts = factor(maps, design, weigh(design, load=1))
    assert_spans(parts.within, np.array([1.0, 2, 4]) - 7 / 3)
    assert parts.basis.shape[1] == 1


def test_without_subjects_left_for_the_error_there_is_no_design():
    design = make_design(MAPS, "C(cell) + C(subject)")
    with pytest.raises(DataError, match="12 subjects and a between-subject design of rank 12 leave no degree"):
        build_subject_design(design, lay_out(MAPS["subject"], MAPS["cell"]))


def test_columns_that_the_maps_cannot_tell_apart_are_named():
    design = make_design(MAPS, CONDITIONS)
    design["all"] = 1.0
    with pytest.raises(DataError, match=re.escape("row 0 of the contrast is not estimable: the columns C(cell)[A]")):
        factor(MAPS, design, weigh(design, C_cell__A_=1))
    assert factor(MAPS, design, weigh(design, C_cell__A_=1, C_cell__B_=-1))[1].rank == 1


def test_contrast_of_zeros_is_refused():
    with pytest.raises(DataError, match="all weights of the contrast are 0"):
        factor(MAPS, make_design(MAPS, CONDITIONS), np.zeros((1, 3)))


def test_layout_is_sorted_and_finds_every_map():
    layout = lay_out(MAPS["subject"], MAPS["cell"])
    assert layout.subjects == tuple(SUBJECTS)
    assert layout.cells == ("A", "B", "C")
    for i, subject in enumerate(SUBJECTS):
        for j, cell in enumerate("ABC"):
            assert tuple(MAPS.loc[layout.rows[i, j], ["subject", "cell"]]) == (subject, cell)


@pytest.mark.parametrize(
    ("change", "count"), [(lambda maps: maps.drop(0), 0), (lambda maps: pd.concat([maps, maps[:1]]), 2)]
)
def test_missing_and_doubled_maps_are_named(change, count):
    maps = change(MAPS)
    subject, cell = MAPS.loc[0, ["subject", "cell"]]
    with pytest.raises(DataError, match=f"sub-{subject} has {count} maps in the cell '{cell}'"):
        lay_out(maps["subject"], maps["cell"])
