"""What figures are given of the maps: their spread, their projections, their values at peaks by group and condition."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bids_group.analysis.picturing import _project, measure_spread
from bids_group.column_space import decompose
from bids_group.inputs.design import DesignMatrix
from bids_group.outputs.peak_effects import _is_slope, _lay_out, _leave_out, list_covariates


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_spread_is_the_standard_deviation_over_the_maps_that_a_voxel_has():
    effects = draw(9, 50).astype(np.float32)
    effects[2, :10], effects[1:, 7] = np.nan, np.nan
    kept = np.arange(50) % 3 != 0
    sd, count = measure_spread(effects, kept, np.nanmean(effects.astype(float), axis=0)[kept])
    expected = pd.DataFrame(effects[:, kept].astype(float)).std(ddof=1).fillna(0)
    np.testing.assert_allclose(sd, expected, atol=1e-12)
    np.testing.assert_array_equal(count, (~np.isnan(effects[:, kept])).sum(axis=0))


def test_a_projection_keeps_the_value_furthest_from_zero_with_its_sign():
    volume = np.zeros((3, 4, 5))
    volume[0, 1, 2], volume[2, 1, 2], volume[1, 3, 3] = 2, -3, 1
    view = _project(volume, 0)
    assert view.shape == (4, 5)
    assert (view[1, 2], view[3, 3]) == (-3, 1)
    assert np.count_nonzero(view) == 2


def make_model(matrix, subjects, *, cells=None, error_term=None):
    values = matrix.to_numpy(dtype=float)
    return SimpleNamespace(
        design=DesignMatrix(matrix, decompose(values), ()),
        rows=pd.DataFrame({"subject": subjects}),
        error_term=error_term,
        pictures=SimpleNamespace(cells=tuple(cells or ["A"] * len(matrix))),
    )


def weigh(*weights):
    return SimpleNamespace(contrast=SimpleNamespace(weights=np.array([weights], dtype=float), test="t"))


@pytest.fixture(scope="module")
def groups():
    patient = np.array([1.0, 0, 1, 0, 1, 0, 0, 1])
    matrix = pd.DataFrame({"group[patient]": patient, "group[control]": 1 - patient, "age": draw(8)})
    return make_model(matrix, [f"{number:02}" for number in range(8)])


def test_groups_are_named_by_their_level_and_hold_their_subjects(groups):
    layout = _lay_out(groups)
    assert layout.groups == ("patient", "control")
    assert [rows[:, 0].tolist() for rows in layout.rows] == [[0, 2, 4, 7], [1, 3, 5, 6]]


def test_covariates_are_slopes_and_differences_of_groups_are_not(groups):
    layout = _lay_out(groups)
    assert _is_slope(groups, weigh(0, 0, 1), layout)
    assert not _is_slope(groups, weigh(1, -1, 0), layout)
    assert not _is_slope(groups, weigh(1, 0, 0), layout)


def test_the_means_of_adjusted_groups_are_the_coefficients_of_the_model(groups):
    values = draw(8, seed=1).astype(np.float32)
    adjusted = _leave_out(groups, list_covariates(groups), values)
    coefficients = np.linalg.pinv(groups.design.matrix.to_numpy()) @ values
    means = [adjusted[rows[:, 0]].mean() for rows in _lay_out(groups).rows]
    np.testing.assert_allclose(means, coefficients[:2], atol=1e-6)


def test_a_missing_map_stays_missing_when_values_are_adjusted(groups):
    values = draw(8, seed=1).astype(np.float32)
    values[3] = np.nan
    adjusted = _leave_out(groups, ["age"], values)
    assert np.flatnonzero(np.isnan(adjusted)).tolist() == [3]


def test_repeated_maps_are_laid_out_by_subject_and_by_the_conditions_of_the_design():
    subjects, cells = np.repeat(["01", "02", "03"], 2), ["A", "B", "B", "A", "A", "B"]
    columns = {name: [float(cell == name) for cell in cells] for name in "BA"}
    columns |= {f"subject[{name}]": (subjects == name).astype(float) for name in ("01", "02", "03")}
    model = make_model(pd.DataFrame(columns), subjects, cells=cells, error_term="pooled")
    layout = _lay_out(model)
    assert (layout.groups, layout.conditions) == (("all subjects",), ("B", "A"))
    np.testing.assert_array_equal(layout.rows[0], [[1, 0], [2, 3], [5, 4]])
    assert list_covariates(model) == []
