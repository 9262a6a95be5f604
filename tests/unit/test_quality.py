"""The quality of the inputs: measures against statsmodels, plain loops and refits; flags that are rarely false."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import ndimage, stats
from statsmodels.stats.outliers_influence import OLSInfluence

from bids_group.column_space import decompose
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.nifti import Grid
from bids_group.outputs.figures import draw_quality
from bids_group.outputs.quality import (
    COLUMNS,
    count_flagged,
    describe_quality,
    find_flags,
    find_quality_warnings,
    list_quality,
)
from bids_group.stats.glm import compute_t, fit_glm
from bids_group.stats.quality import (
    compute_cook,
    correlate_with_others,
    delete_rows,
    expect_cook_share,
    find_distances,
    find_mirror,
    measure_quality,
    score_robustly,
)

SHAPE = (17, 14, 10)
AFFINE = np.array([[-4.0, 0, 0, 32], [0, 4, 0, -20], [0, 0, 4, -8], [0, 0, 0, 1]])
MASK = np.ones(SHAPE, bool)
MIRROR = find_mirror(MASK, AFFINE)
N_MAPS = 20
ODD = 3


def make_model(seed, n_rows=14):
    rng = np.random.default_rng(seed)
    matrix = np.column_stack([np.ones(n_rows), rng.normal(size=(n_rows, 2))])
    return rng.normal(size=(n_rows, 9)) + matrix @ rng.normal(size=(3, 9)), matrix


def draw_smooth_maps(seed, n_maps=N_MAPS, signal=4.0):
    """Smooth noise and a signal on one side of the brain, the maps' scales differing by their subjects."""
    rng = np.random.default_rng(seed)
    blob = np.zeros(SHAPE)
    blob[3:7, 3:9, 3:7], blob[10:14, 2:5, 4:7] = 1.0, 0.7
    noise = ndimage.gaussian_filter(rng.standard_normal((n_maps, *SHAPE)), (0, 1, 1, 1))
    maps = noise / noise.std() + signal * ndimage.gaussian_filter(blob, 1)
    return (maps * rng.lognormal(0, 0.3, n_maps)[:, None, None, None]).reshape(n_maps, -1).astype(np.float32)


def corrupt(maps, kind):
    maps = maps.copy()
    maps[ODD] = {"sign": -maps[ODD], "copy": maps[ODD + 4], "scale": 100 * maps[ODD], "exchanged": maps[ODD][MIRROR]}[
        kind
    ]
    return maps


def measure(maps, *, groups=None, mirror=MIRROR, **options):
    groups = np.zeros(len(maps), int) if groups is None else groups
    design = np.eye(groups.max() + 1)[groups]
    return measure_quality(maps, decompose(design), groups, mirror, **options)


def flag(maps, **options):
    """Return the rows that are flagged, by flag."""
    flags = find_flags(measure(maps, **options), np.zeros(len(maps), int))
    return {name: np.flatnonzero(rows).tolist() for name, rows in flags.items() if rows.any()}


def tabulate(maps):
    measured, groups = measure(maps), np.zeros(len(maps), int)
    rows = pd.DataFrame({"subject": [f"{i:02d}" for i in range(len(maps))], "contrast": "faces", "run": None})
    voxels = AnalysedVoxels(
        mask=np.ones((1, 1, 1), bool),
        grid=Grid((1, 1, 1), np.eye(4)),
        missing=np.zeros(len(maps), np.int64),
        finite_share=np.full(len(maps), 0.75),
        zero_share=np.zeros(len(maps)),
        n_voxels_missing=0,
    )
    return list_quality(
        rows, measured, find_flags(measured, groups), voxels=voxels, peak_t_without=np.full(len(maps), np.nan)
    )


def test_a_constant_map_is_flagged_as_such_and_for_what_it_moves():
    maps = np.random.default_rng(1).standard_normal((20, 400)).astype(np.float32)
    maps[3] = 7.0
    assert flag(maps, mirror=None) == {"constant": [3], "influence": [3]}


# Measures


@pytest.mark.parametrize("seed", range(3))
def test_cook_distance_and_leverage_are_those_of_statsmodels(seed):
    data, matrix = make_model(seed)
    space = decompose(matrix)
    leverage = (space.basis**2).sum(axis=1)
    distances = compute_cook(data - space.basis @ (space.basis.T @ data), leverage, space.rank)
    oracles = [OLSInfluence(sm.OLS(column, matrix).fit()) for column in data.T]
    expected = np.column_stack([oracle.cooks_distance[0] for oracle in oracles])
    np.testing.assert_allclose(distances, expected, rtol=1e-9)
    np.testing.assert_allclose(leverage, oracles[0].hat_matrix_diag, rtol=1e-10)
    measured = measure_quality(data, space, np.zeros(len(data), int), block_voxels=2)
    np.testing.assert_allclose(measured.cook_share, (expected > 4 / len(data)).mean(axis=1), rtol=1e-12)


def test_expected_share_of_cook_distances_is_that_of_normal_errors():
    _, matrix = make_model(0)
    matrix[0] *= 3  # a row of high leverage
    data = np.random.default_rng(1).standard_normal((len(matrix), 20_000))
    measured = measure_quality(data, decompose(matrix), np.zeros(len(matrix), int))
    expected = measured.cook_expected
    assert expected.max() > 2 * np.median(expected)
    error = np.sqrt(expected * (1 - expected) / data.shape[1]) + 1e-9
    assert np.all(np.abs(measured.cook_share - expected) < 4.5 * error)


@pytest.mark.parametrize("seed", range(3))
def test_t_without_a_row_is_that_of_the_model_fitted_again(seed):
    data, matrix = make_model(seed)
    weights = np.array([[0.0, 1.0, -0.5]])
    found = delete_rows(data[:, 0], decompose(matrix), weights[0])
    for row in range(len(data)):
        kept = np.arange(len(data)) != row
        again = compute_t(fit_glm(data[kept], matrix[kept], [weights]), 0).value[0]
        assert found[row] == pytest.approx(again, rel=1e-9)


def test_row_of_leverage_one_has_neither_influence_nor_distance_nor_a_t_without_it():
    matrix = np.column_stack([np.ones(16), np.arange(16) == 5]).astype(float)
    data = np.random.default_rng(0).standard_normal((16, 50))
    measured = measure_quality(data, decompose(matrix), np.zeros(16, int))
    without = delete_rows(data[:, 0], decompose(matrix), np.array([1.0, 0]))
    for values in (measured.cook_share, measured.cook_expected, measured.distance, without):
        np.testing.assert_array_equal(np.isnan(values), np.arange(16) == 5)


def test_correlation_is_with_the_mean_of_the_others_of_the_same_contrast():
    maps, groups = draw_smooth_maps(0, 12), np.array([0, 1, 2] * 3 + [0, 1, 3])
    scaled = (maps - maps.mean(axis=1, keepdims=True)) / maps.std(axis=1, keepdims=True)
    found = measure(maps, groups=groups).correlation
    for row in range(11):
        others = (groups == groups[row]) & (np.arange(12) != row)
        assert found[row] == pytest.approx(np.corrcoef(maps[row], scaled[others].mean(axis=0))[0, 1], abs=1e-6)
    assert np.isnan(found[11])
    assert np.isnan(correlate_with_others(np.eye(2), np.array([0, 1]))).all()


def test_asymmetry_is_negative_exactly_where_the_mirrored_map_is_more_like_the_others():
    maps = draw_smooth_maps(1, signal=0.6).astype(np.float64)
    maps[::3] = maps[::3][:, MIRROR]
    scaled = (maps - maps.mean(axis=1, keepdims=True)) / maps.std(axis=1, keepdims=True)
    found = measure(maps).asymmetry
    for row in range(N_MAPS):
        others = np.delete(scaled, row, axis=0).mean(axis=0)
        own, mirrored = np.corrcoef([maps[row], maps[row][MIRROR], others])[2, :2]
        differences = np.corrcoef(maps[row] - maps[row][MIRROR], others - others[MIRROR])[0, 1]
        assert found[row] == pytest.approx(differences, abs=1e-9)
        assert (found[row] < 0) == (mirrored > own)
    assert (found < 0).any()
    assert (found > 0).any()


def test_blocks_and_the_scale_of_one_map_do_not_matter_to_what_is_measured_of_the_others():
    maps = draw_smooth_maps(2)
    one, blocked, scaled = measure(maps), measure(maps, block_voxels=100), measure(corrupt(maps, "scale"))
    for name in ("correlation", "asymmetry", "distance"):
        np.testing.assert_allclose(getattr(one, name), getattr(blocked, name), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(getattr(one, name), getattr(scaled, name), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one.sd, maps.astype(np.float64).std(axis=1), rtol=1e-9)


def test_distance_is_large_for_a_map_of_another_pattern_and_is_not_given_for_few_maps():
    maps = draw_smooth_maps(3, signal=8.0)
    maps[ODD] = draw_smooth_maps(4, signal=0.0)[0]
    assert flag(maps) == {"pattern": [ODD]}
    assert np.isnan(find_distances(np.eye(14), np.ones((14, 1)) / np.sqrt(14))).all()


def test_robust_score_is_that_of_a_normal_sample_and_does_not_see_one_far_value():
    values = np.append(stats.norm.ppf((np.arange(999) + 0.5) / 999), 1e9)
    np.testing.assert_allclose(score_robustly(values)[:999], values[:999], atol=0.02)
    assert score_robustly(np.array([0, 0, 0, 1.0]), least_spread=0.1)[3] == pytest.approx(10)
    assert np.isnan(score_robustly(np.array([1.0, 2.0, np.nan]))).all()


def test_maps_are_copies_only_where_every_value_is_the_same():
    maps = draw_smooth_maps(4)
    maps[7], maps[9] = maps[2], maps[2]
    maps[12] = maps[11]
    maps[12, -1] *= 1.0001
    expected = np.arange(N_MAPS)
    expected[[7, 9]] = 2
    np.testing.assert_array_equal(measure(maps).same_as, expected)


def test_columns_with_missing_values_may_be_left_out_of_what_is_measured():
    maps = draw_smooth_maps(8)
    maps[7] = maps[2]
    kept = MASK.copy()
    kept[4:6, 2:5] = kept[11:13, 2:5] = False
    columns = np.flatnonzero(kept.ravel())
    expected = measure(maps[:, columns], mirror=find_mirror(kept, AFFINE), block_voxels=500)
    maps[np.ix_([2, 7], ~kept.ravel())] = np.nan
    found = measure(maps, mirror=find_mirror(kept, AFFINE), columns=columns, block_voxels=500)
    for name in ("mean", "sd", "correlation", "asymmetry", "distance", "cook_share", "same_as"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12, err_msg=name)
    assert found.same_as[7] == 2


# Mirrors


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("offset", [0.0, 1.9])
def test_partner_of_a_voxel_is_at_the_same_place_on_the_other_side(order, offset):
    affine = AFFINE.copy()
    affine[0, 3] += offset
    affine = np.column_stack([affine[:, order], affine[:, 3]])
    mask = np.ones(np.array(SHAPE)[list(order)], bool)
    mask[:2, :2, :2] = False
    partners = find_mirror(mask, affine)
    places = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    known = np.flatnonzero(partners >= 0)
    np.testing.assert_array_equal(partners[partners[known]], known)
    distance = np.abs(places[partners[known]] * [-1, 1, 1] - places[known])
    assert distance[:, 0].max() <= 4.0
    assert distance[:, 1:].max() == 0


def test_there_is_no_mirror_on_an_oblique_grid_or_far_from_the_midline():
    oblique, shifted = AFFINE.copy(), AFFINE.copy()
    oblique[:2, :2] = 4 * np.array([[-0.98, 0.2], [0.2, 0.98]])
    shifted[0, 3] += 20
    assert find_mirror(MASK, oblique) is None
    assert find_mirror(~MASK, AFFINE) is None
    assert find_mirror(MASK, shifted) is None


# Flags


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["sign", "copy", "scale", "exchanged"])
def test_one_odd_map_is_flagged_for_what_is_odd_about_it_and_no_other_is(seed, kind):
    maps = draw_smooth_maps(seed)
    assert flag(maps) == {}
    found = flag(corrupt(maps, kind))
    odd = [ODD, ODD + 4] if kind == "copy" else [ODD]
    assert found.pop(kind) == odd
    assert all(set(rows) <= set(odd) for rows in found.values())


def test_clean_maps_are_rarely_flagged_whether_they_have_anything_in_common_or_not():
    n_studies = 60
    n_flagged = 0
    for seed in range(n_studies):
        maps = draw_smooth_maps(seed, (5, 8, 16, 30)[seed % 4], signal=(0.0, 1.0, 2.0)[seed % 3])
        n_flagged += bool(flag(maps))
    # No more than one study in twenty is spoken of.
    assert stats.binomtest(n_flagged, n_studies, 0.05, alternative="greater").pvalue > 0.05


def test_map_in_units_of_z_among_effects_is_named_as_such():
    maps = draw_smooth_maps(5) * 80
    maps[ODD] /= maps[ODD].std()
    warnings = find_quality_warnings(tabulate(maps))
    assert [warning for warning in warnings if "map of z or t among effects" in warning and "sub-03 (faces)" in warning]


def test_warnings_name_subject_and_contrast_and_are_cut_short():
    table = tabulate(corrupt(draw_smooth_maps(6), "copy"))
    (warning,) = find_quality_warnings(table)
    assert warning.startswith("sub-07 (faces) the values are those of sub-03 (faces)")
    assert count_flagged(table) == 2
    many = draw_smooth_maps(6)
    many[1:] = many[0]
    assert len([one for one in find_quality_warnings(tabulate(many)) if "those of sub-00" in one]) == 8
    assert "11 more maps are flagged copy; see quality.tsv" in find_quality_warnings(tabulate(many))


def test_every_column_is_described_and_every_measure_has_a_column():
    table = tabulate(draw_smooth_maps(7))
    assert set(describe_quality(table)) == {"Description", *table.columns}
    assert list(table.columns) == ["design_row", "subject", "contrast", *list(COLUMNS)[1:]]


def test_expected_share_is_unknown_without_degrees_of_freedom():
    assert np.isnan(expect_cook_share(np.array([0.5, 0.5, 1.0]), 2)).all()


# The figure


@pytest.mark.parametrize("n_maps", [2, 16, 1000])
def test_figure_is_small_and_is_drawn_of_few_and_many_maps(n_maps):
    rng = np.random.default_rng(0)
    distance = rng.random(n_maps) if n_maps > 2 else np.full(n_maps, np.nan)
    measures = pd.DataFrame({"correlation": rng.random(n_maps), "distance": distance})
    labels = [None if row % 10 else f"sub-{row:04d} ($x_{{)" for row in range(n_maps)]
    picture, plain = draw_quality(measures, labels), draw_quality(measures, [None] * n_maps)
    assert picture.png.startswith(b"\x89PNG")
    assert len(picture.png) < 250_000
    assert picture.png != plain.png
    assert picture == draw_quality(measures, labels)
