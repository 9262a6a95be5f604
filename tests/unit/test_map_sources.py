"""Maps made of other maps: sums, fixed effects, and what is missing."""

import numpy as np
import pytest

from bids_group.inputs.map_sources import (
    CombinedMap,
    MapFile,
    describe_source,
    list_uris,
    list_weights,
    read_effect,
    read_effect_and_variance,
)
from tests.builders import write_map

SHAPE = (4, 3, 2)


@pytest.fixture
def files(tmp_path):
    """Three effects with their variances."""
    rng = np.random.default_rng(3)
    made = []
    for i in range(3):
        effect = write_map(tmp_path / f"{i}_effect.nii.gz", rng.standard_normal(SHAPE, dtype=np.float32))
        variance = write_map(tmp_path / f"{i}_variance.nii.gz", rng.uniform(0.5, 2.0, SHAPE).astype(np.float32))
        made.append(MapFile(effect, f"e{i}", variance=MapFile(variance, f"v{i}")))
    return made


def combine(parts, weights):
    return CombinedMap(tuple(parts), np.array(weights, dtype=float)[:, np.newaxis], np.ones(1))


def fix_effects(parts, contrast, design):
    basis, upper = np.linalg.qr(np.array(design, dtype=float))
    return CombinedMap(tuple(parts), basis, np.linalg.solve(upper.T, np.array(contrast, dtype=float)), by_variance=True)


def read_all(files):
    pairs = [read_effect_and_variance(file) for file in files]
    return (np.stack(maps).astype(np.float64) for maps in zip(*pairs, strict=True))


def test_a_plain_combination_is_the_weighted_sum(files):
    effects, variances = read_all(files)
    weights = np.array([0.5, 0.5, -1.0])
    source = combine(files, weights)
    np.testing.assert_allclose(read_effect(source), np.tensordot(weights, effects, 1), rtol=1e-6)
    effect, variance = read_effect_and_variance(source)
    np.testing.assert_allclose(effect, read_effect(source), rtol=1e-6)
    np.testing.assert_allclose(variance, np.tensordot(weights**2, variances, 1), rtol=1e-6)


def test_fixed_effects_are_weighted_least_squares_in_each_voxel(files):
    effects, variances = read_all(files)
    design, contrast = np.array([[1.0, 0], [1, 1], [1, 2]]), np.array([0.0, 1])
    effect, variance = read_effect_and_variance(fix_effects(files, contrast, design))
    for voxel in np.ndindex(SHAPE):
        precision = np.diag(1 / variances[(slice(None), *voxel)])
        covariance = np.linalg.inv(design.T @ precision @ design)
        expected = contrast @ covariance @ design.T @ precision @ effects[(slice(None), *voxel)]
        assert effect[voxel] == pytest.approx(expected, rel=1e-5)
        assert variance[voxel] == pytest.approx(contrast @ covariance @ contrast, rel=1e-5)


def test_the_inverse_variance_mean_is_that_of_the_textbook(files):
    effects, variances = read_all(files)
    effect, variance = read_effect_and_variance(fix_effects(files, [1.0], np.ones((3, 1))))
    np.testing.assert_allclose(effect, (effects / variances).sum(axis=0) / (1 / variances).sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, 1 / (1 / variances).sum(axis=0), rtol=1e-6)


def test_combinations_of_combinations_multiply_their_weights(files):
    outer = combine([combine(files[:2], [0.5, 0.5]), files[2]], [1.0, -1.0])
    assert [(file.uri, weight) for file, weight in list_weights(outer)] == [("e0", 0.5), ("e1", 0.5), ("e2", -1.0)]
    assert list_uris(outer) == ["e0", "v0", "e1", "v1", "e2", "v2"]
    assert describe_source(outer) == "+1 (+0.5 e0 +0.5 e1) -1 e2"
    np.testing.assert_allclose(read_effect(outer), read_effect(combine(files, [0.5, 0.5, -1.0])), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("absent", [0.0, np.nan, np.inf])
def test_a_voxel_that_one_part_lacks_has_no_sum(tmp_path, absent):
    whole = np.full(SHAPE, 2.0, dtype=np.float32)
    holed = whole.copy()
    holed[1, 1, 1] = absent
    parts = [MapFile(write_map(tmp_path / f"{i}.nii", values), "") for i, values in enumerate((whole, holed))]
    total = read_effect(combine(parts, [1.0, 1.0]))
    assert np.isnan(total[1, 1, 1])
    assert np.count_nonzero(total == 4.0) == total.size - 1


def test_a_difference_of_zero_is_a_value(tmp_path):
    same = [MapFile(write_map(tmp_path / f"{i}.nii", np.ones(SHAPE, dtype=np.float32)), "") for i in range(2)]
    difference = read_effect(combine(same, [1.0, -1.0]))
    assert (difference != 0).all()
    assert np.abs(difference).max() < 1e-37


def test_the_variance_of_a_file_without_one_is_not_known(files):
    bare = MapFile(files[0].path, "e0")
    with pytest.raises(ValueError, match="variance of the map is not known"):
        read_effect_and_variance(combine([files[1], bare], [0.5, 0.5]))
