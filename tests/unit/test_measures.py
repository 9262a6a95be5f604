"""What an effect is measured by: the standard deviation of the subjects' scores."""

import numpy as np
import pandas as pd
from scipy import stats

from bids_group.analysis.measures import find_residual_sd, find_score_sd
from bids_group.column_space import decompose
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.design import DesignMatrix
from bids_group.inputs.error_terms import build_subject_design, factor_contrast, lay_out
from bids_group.stats.glm import compute_t, fit_glm
from bids_group.stats.partitioned import compute_partitioned, fit_partitioned

GROUPS = np.array(["p", "c", "c", "p", "c", "c", "p"])
N = len(GROUPS)
ROWS = pd.DataFrame([(f"{s:02d}", c, GROUPS[s]) for s in range(N) for c in "AB"], columns=["subject", "cell", "group"])
COLUMNS = {f"{c}{g}": ((ROWS["cell"] == c) & (ROWS["group"] == g)).astype(float) for c in "AB" for g in "pc"}
DATA = np.random.default_rng(4).standard_normal((2 * N, 30)) + 1.0


def measure(weights, columns=COLUMNS):
    matrix = pd.DataFrame(columns)
    subject_design = build_subject_design(matrix, lay_out(ROWS["subject"], ROWS["cell"]))
    contrast = Contrast("x", "x", "t", np.atleast_2d(np.asarray(weights, dtype=float)))
    factored = factor_contrast(subject_design, contrast.weights)
    layout = subject_design.layout.rows
    fit = fit_partitioned(DATA, layout, factored.within, factored.between, factored.basis, loadings=factored.loadings)
    sd = find_score_sd(subject_design, factored, fit)
    return None if sd is None else compute_partitioned(fit, "t").effect / sd


def pool(scores):
    """Return the residual SD of scores about their groups' means."""
    within = sum(((scores[g == GROUPS] - scores[g == GROUPS].mean(axis=0)) ** 2).sum(axis=0) for g in "pc")
    return np.sqrt(within / (N - 2))


def differ(scores):
    return scores[GROUPS == "p"].mean(axis=0) - scores[GROUPS == "c"].mean(axis=0)


def test_a_group_difference_of_subject_averages_is_in_units_of_their_residual_sd():
    scores = (DATA[0::2] + DATA[1::2]) / 2
    np.testing.assert_allclose(measure([0.5, -0.5, 0.5, -0.5]), differ(scores) / pool(scores), rtol=1e-10)


def test_a_group_by_condition_interaction_is_in_units_of_the_differences_residual_sd():
    scores = DATA[0::2] - DATA[1::2]
    np.testing.assert_allclose(measure([1, -1, -1, 1]), differ(scores) / pool(scores), rtol=1e-10)


def test_a_mean_difference_in_a_design_without_groups_is_cohens_d_z():
    columns = {c: (ROWS["cell"] == c).astype(float) for c in "AB"}
    expected = stats.ttest_rel(DATA[0::2], DATA[1::2]).statistic / np.sqrt(N)
    np.testing.assert_allclose(measure([1, -1], columns), expected, rtol=1e-10)


def test_a_slope_has_no_d():
    age = ROWS["subject"].map(dict(zip(ROWS["subject"].unique(), np.arange(N) - 3.0, strict=True)))
    columns = {"A": COLUMNS["Ap"] + COLUMNS["Ac"], "B": COLUMNS["Bp"] + COLUMNS["Bc"], "age": age}
    assert measure([0, 0, 1], columns) is None


def test_d_of_adjusted_differences_is_that_of_the_same_model_of_difference_maps():
    ages = np.array([31.0, 20, 44, 27, 52, 36, 23])
    age = ROWS["subject"].map(dict(zip(ROWS["subject"].unique(), ages, strict=True)))
    cells = {c: (ROWS["cell"] == c).astype(float) for c in "AB"}
    columns = {**cells, **{f"{c}age": cells[c] * age for c in "AB"}}
    np.testing.assert_allclose(
        measure([1, -1, 0, 0], columns),
        measure_one_map_each(DATA[0::2] - DATA[1::2], {"one": np.ones(N), "age": ages}, [1, 0]),
        rtol=1e-9,
    )


def test_d_of_an_adjusted_group_difference_is_that_of_the_subjects_averages():
    ages = np.array([31.0, 20, 44, 27, 52, 36, 23])
    age = ROWS["subject"].map(dict(zip(ROWS["subject"].unique(), ages, strict=True)))
    groups = {g: (g == GROUPS).astype(float) for g in "pc"}
    np.testing.assert_allclose(
        measure([0.5, -0.5, 0.5, -0.5, 0], {**COLUMNS, "age": age}),
        measure_one_map_each((DATA[0::2] + DATA[1::2]) / 2, {**groups, "age": ages}, [1, -1, 0]),
        rtol=1e-9,
    )


def measure_one_map_each(maps, columns, weights):
    matrix = pd.DataFrame(columns)
    contrast = Contrast("x", "x", "t", np.atleast_2d(np.asarray(weights, dtype=float)))
    fit = fit_glm(maps, matrix.to_numpy(), [contrast.weights])
    sd = find_residual_sd(contrast, DesignMatrix(matrix, decompose(matrix.to_numpy()), ()), fit)
    return None if sd is None else compute_t(fit, 0).effect / sd


def test_d_does_not_depend_on_the_scale_of_the_weights_and_a_slope_has_none():
    groups = {g: (g == GROUPS).astype(float) for g in "pc"}
    maps = DATA[0::2]
    expected = differ(maps) / pool(maps)
    for scale in (1, 2, -0.5):
        found = measure_one_map_each(maps, groups, [scale, -scale])
        np.testing.assert_allclose(found, np.sign(scale) * expected, rtol=1e-10)
    assert measure_one_map_each(maps, {"one": np.ones(N), "age": np.arange(N) - 3.0}, [0, 1]) is None
