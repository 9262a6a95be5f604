"""Reading maps: what is missing is never data, grids agree or are refused, damaged files are told as such."""

import contextlib
import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_group.errors import DataError, MissingInputError
from bids_group.inputs import loading
from bids_group.inputs.images import check_grids, read_mask, to_volume
from bids_group.inputs.loading import compact_columns, count_needed
from bids_group.inputs.map_sources import CombinedMap, MapFile
from bids_group.inputs.nifti import open_map, read_values
from bids_group.inputs.storage import open_storage
from tests.builders import AFFINE, write_map


def load_group(paths, grid, **options):
    return loading.load_group([MapFile(path, path.name) for path in paths], grid, **options)


SHAPE = (4, 3, 2)
SEEDS = st.integers(0, 2**32 - 1)


def make_values(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def write_maps(folder, maps):
    return [write_map(folder / f"{i:02d}.nii", values) for i, values in enumerate(maps)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


def make_gaps(seed, n_maps=5, shape=SHAPE):
    """Maps of which random voxels are zero, NaN or infinite; one voxel is left in all."""
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((n_maps, *shape)).astype(np.float32)
    holes = rng.random(maps.shape) < rng.choice([0.0, 0.02, 0.3])
    maps[holes] = rng.choice([0.0, -0.0, np.nan, np.inf, -np.inf], holes.sum())
    maps[(slice(None), *rng.integers(0, shape))] = 1
    return maps


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_a_group_is_the_stack_of_the_voxels_that_every_map_has(folder, seed, with_mask):
    maps = make_gaps(seed)
    present = np.isfinite(maps) & (maps != 0)
    given_mask = np.random.default_rng(seed + 1).random(SHAPE) < 0.7 if with_mask else None
    searched = np.ones(SHAPE, bool) if given_mask is None else given_mask | present.all(axis=0)
    paths = write_maps(folder, maps)
    data = load_group(paths, check_grids(paths), given_mask=None if given_mask is None else searched, n_threads=2)
    mask = searched & present.all(axis=0)
    np.testing.assert_array_equal(data.voxels.mask, mask)
    np.testing.assert_array_equal(data.effects, np.stack([values[mask] for values in maps]))
    np.testing.assert_array_equal(to_volume(data.effects[1], data.voxels.mask), np.where(mask, maps[1], 0))
    if with_mask:
        np.testing.assert_array_equal(data.voxels.missing, (searched & ~present).sum(axis=(1, 2, 3)))
        assert data.voxels.n_voxels_missing == searched.sum() - mask.sum()


def test_finite_and_zero_shares_are_those_of_the_grid_or_of_the_mask(tmp_path):
    maps = np.ones((2, *SHAPE), dtype=np.float32)
    maps[0, 0], maps[1, :, 0] = 0.0, np.nan
    paths = write_maps(tmp_path, maps)
    voxels = load_group(paths, check_grids(paths)).voxels
    assert (voxels.finite_share.tolist(), voxels.zero_share.tolist()) == ([1, 2 / 3], [1 / 4, 0])
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:2, 1:] = True
    voxels = load_group(paths, check_grids(paths), given_mask=mask).voxels
    assert (voxels.finite_share.tolist(), voxels.zero_share.tolist()) == ([1, 1], [1 / 2, 0])


def test_a_header_with_two_affines_is_told(tmp_path):
    image = nib.Nifti1Image(np.ones(SHAPE, dtype=np.float32), AFFINE)
    image.set_sform(AFFINE, 4)
    image.set_qform(AFFINE, 1)
    nib.save(image, tmp_path / "same.nii")
    assert check_grids([tmp_path / "same.nii"]).odd_file is None
    shifted = AFFINE.copy()
    shifted[0, 3] += 1
    image.set_qform(shifted, 1)
    nib.save(image, tmp_path / "shifted.nii")
    grid = check_grids([tmp_path / "same.nii", tmp_path / "shifted.nii"])
    assert grid.odd_file == tmp_path / "shifted.nii"
    np.testing.assert_array_equal(grid.affine, AFFINE)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans(), st.sampled_from([0.1, 0.4, 0.6, 0.8, 0.99, 1.0]))
def test_a_voxel_needs_a_share_of_the_maps_and_is_nan_where_a_map_lacks_it(folder, seed, with_mask, share):
    maps = make_gaps(seed)
    present = np.isfinite(maps) & (maps != 0)
    searched = present.all(axis=0) | (np.random.default_rng(seed + 1).random(SHAPE) < 0.7)
    paths = write_maps(folder, maps)
    given_mask = searched if with_mask else None
    data = load_group(paths, check_grids(paths), given_mask=given_mask, min_coverage=share, n_threads=2)
    mask = present.sum(axis=0) >= share * len(maps) - 1e-9
    if with_mask:
        mask &= searched
        assert data.voxels.n_voxels_missing == searched.sum() - mask.sum()
        np.testing.assert_array_equal(data.voxels.missing, (searched & ~present).sum(axis=(1, 2, 3)))
    np.testing.assert_array_equal(data.voxels.mask, mask)
    np.testing.assert_array_equal(
        data.effects, np.stack([np.where(p, v, np.nan)[mask] for p, v in zip(present, maps, strict=True)])
    )
    assert data.voxels.n_voxels_partly == (mask & ~present.all(axis=0)).sum()
    assert data.voxels.min_coverage == share


def test_a_coverage_just_below_one_of_few_maps_asks_for_all_of_them_and_rounding_asks_for_none_more():
    assert [count_needed(n, 0.99) for n in (5, 99, 100, 200)] == [5, 99, 99, 198]
    assert [count_needed(n, 0.8) for n in (5, 10, 15, 35)] == [4, 8, 12, 28]
    assert count_needed(3, 1e-6) == 1


def test_smoothed_maps_lack_what_they_lacked(tmp_path):
    maps = make_gaps(1, n_maps=6)
    paths = write_maps(tmp_path, maps)
    sharp, smooth = (
        load_group(paths, check_grids(paths), min_coverage=0.5, smoothing_fwhm=fwhm) for fwhm in (0.0, 6.0)
    )
    np.testing.assert_array_equal(np.isnan(smooth.effects), np.isnan(sharp.effects))
    np.testing.assert_array_equal(smooth.voxels.mask, sharp.voxels.mask)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_maps_in_a_file_are_the_maps_in_memory_and_no_file_is_left(folder, seed):
    paths = write_maps(folder, make_gaps(seed))
    grid = check_grids(paths)
    in_memory = load_group(paths, grid)
    with open_storage(folder / "work", memory_gb=1e-9) as allocate:
        in_file = load_group(paths, grid, allocate=allocate)
        assert isinstance(in_file.effects, np.memmap)
        np.testing.assert_array_equal(in_file.effects, in_memory.effects)
    assert not list((folder / "work").iterdir())


def test_combined_maps_and_their_variances_fill_rows(tmp_path):
    rng = np.random.default_rng(2)
    effects = rng.standard_normal((4, *SHAPE)).astype(np.float32)
    variances = rng.uniform(1, 2, (4, *SHAPE)).astype(np.float32)
    variances[2, 0, 0, 0] = 0.0  # no variance: missing
    files = [
        MapFile(write_map(tmp_path / f"e{i}.nii", e), "", variance=MapFile(write_map(tmp_path / f"v{i}.nii", v), ""))
        for i, (e, v) in enumerate(zip(effects, variances, strict=True))
    ]
    means = [CombinedMap(tuple(files[i : i + 2]), np.full((2, 1), 0.5), np.ones(1)) for i in (0, 2)]
    data = loading.load_group(means, check_grids([files[0].path]), with_variances=True)
    mask = np.ones(SHAPE, dtype=bool)
    mask[0, 0, 0] = False
    np.testing.assert_array_equal(data.voxels.mask, mask)
    np.testing.assert_allclose(data.effects, effects.reshape(2, 2, *SHAPE).mean(axis=1)[:, mask], rtol=1e-6)
    np.testing.assert_allclose(data.variances, variances.reshape(2, 2, *SHAPE).sum(axis=1)[:, mask] / 4, rtol=1e-6)


@given(SEEDS)
def test_compact_columns_is_indexing(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal(rng.integers(1, 8, 2)).astype(np.float32)
    kept = rng.random(matrix.shape[1]) < 0.5
    expected = matrix[:, kept]
    np.testing.assert_array_equal(compact_columns(matrix, kept), expected)


@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz"])
@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", "<i2", "u1", ">i4"])
def test_values_do_not_depend_on_container_type_or_byte_order(tmp_path, name, dtype):
    values = np.arange(1, 25).reshape(SHAPE)
    path = write_map(tmp_path / name, values.astype(dtype))
    np.testing.assert_array_equal(read_values(path), values)
    assert read_values(path).dtype == np.float32


def test_scaled_integers_are_read_as_their_header_says(tmp_path):
    raw = np.arange(-12, 12, dtype=np.int16).reshape(SHAPE)
    (tmp_path / "scaled.nii").write_bytes(_set_slope(tmp_path / "plain.nii", raw, slope=0.25, intercept=1))
    np.testing.assert_array_equal(read_values(tmp_path / "scaled.nii"), raw * np.float32(0.25) + 1)


def _set_slope(path, raw, *, slope, intercept):
    """The bytes of a NIfTI file whose header scales its integers (at bytes 112 and 116)."""
    content = bytearray(write_map(path, raw).read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    return bytes(content)


def test_a_number_beyond_float32_is_missing(tmp_path):
    values = np.ones(SHAPE)
    values[0, 0, 0] = 1e300
    data = load_group([write_map(tmp_path / "a.nii", values)] * 2, check_grids([tmp_path / "a.nii"]))
    assert data.voxels.mask.sum() == values.size - 1


def test_a_trailing_dimension_of_one_is_dropped_and_a_longer_one_refused(tmp_path):
    values = make_values()
    np.testing.assert_array_equal(read_values(write_map(tmp_path / "one.nii", values[..., None])), values)
    for shape in ((*SHAPE, 2), (*SHAPE, 1, 3), (4, 3)):
        with pytest.raises(DataError, match="3-D"):
            open_map(write_map(tmp_path / "two.nii", np.ones(shape, np.float32)))


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.97), st.booleans())
def test_a_truncated_map_is_a_data_error(folder, share, compressed):
    content = write_map(folder / "whole.nii", make_values(shape=(6, 7, 5))).read_bytes()
    content = gzip.compress(content) if compressed else content
    path = folder / ("truncated.nii.gz" if compressed else "truncated.nii")
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"truncated\.nii"):
        read_values(path)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_gives_values_or_a_data_error(folder, changes):
    content = bytearray(write_map(folder / "whole.nii", make_values()).read_bytes())
    for position, byte in changes:
        content[position] = byte
    path = folder / "damaged.nii"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert read_values(path).ndim == 3


def test_other_files_are_told_apart(tmp_path):
    (tmp_path / "text.nii.gz").write_text("no image")
    (tmp_path / "empty.nii").touch()
    nib.save(nib.MGHImage(make_values(), AFFINE), tmp_path / "map.mgz")
    write_map(tmp_path / "complex.nii", make_values().astype(np.complex64))
    for name in ("text.nii.gz", "empty.nii", "map.mgz", "complex.nii"):
        with pytest.raises(DataError, match=name):
            read_values(tmp_path / name)
    with pytest.raises(MissingInputError, match=r"absent\.nii"):
        open_map(tmp_path / "absent.nii")


def move(axis, mm):
    affine = AFFINE.copy()
    affine[axis, 3] += mm
    return affine


@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (AFFINE @ np.diag([-1, 1, 1, 1]), SHAPE),
        (AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), SHAPE),
        (move(0, 1.0), SHAPE),
        (move(2, -0.1), SHAPE),
        (AFFINE @ np.diag([1.01, 1, 1, 1]), SHAPE),
        (AFFINE, (3, 4, 2)),
        (AFFINE, (4, 3, 3)),
    ],
)
def test_another_grid_is_refused_with_both_affines(tmp_path, affine, shape):
    first = write_map(tmp_path / "first.nii", make_values())
    other = write_map(tmp_path / "other.nii", make_values(shape=shape), affine=affine)
    with pytest.raises(DataError, match=r"other\.nii: not on the grid of .*first\.nii") as caught:
        check_grids([first, first, other])
    for number in (*affine[:3].ravel(), *AFFINE[:3].ravel()):
        assert f"{number:.4f}" in str(caught.value)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_rounding_of_an_affine_is_no_other_grid(folder, seed):
    noise = np.zeros((4, 4))
    noise[:3] = np.random.default_rng(seed).uniform(-1e-5, 1e-5, (3, 4))
    paths = [write_map(folder / "a.nii", make_values())]
    paths.append(write_map(folder / "b.nii", make_values(), affine=AFFINE + noise))
    assert check_grids(paths).shape == SHAPE


def test_voxel_sizes_and_volume_are_in_millimetres(tmp_path):
    affine = np.array([[0, -3.0, 0, 1], [2.0, 0, 0, 1], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    _, grid = open_map(write_map(tmp_path / "a.nii", make_values(), affine=affine))
    assert grid.voxel_sizes == (2, 3, 4)
    assert grid.voxel_volume == pytest.approx(24)


def test_masks_meet_and_must_be_binary_on_the_grid_and_not_empty(tmp_path):
    rng = np.random.default_rng(1)
    inside = rng.random((2, *SHAPE)) < 0.7
    reference = write_map(tmp_path / "map.nii", make_values())
    grid = check_grids([reference])
    paths = [write_map(tmp_path / "a.nii", inside[0].astype(np.uint8))]
    paths.append(write_map(tmp_path / "b.nii", np.where(inside[1], 7.5, np.nan)))
    np.testing.assert_array_equal(read_mask(paths, grid, reference), inside.all(axis=0))
    faults = {
        "threshold it first": (make_values(), AFFINE),
        "not on the grid": (inside[0].astype(np.uint8), move(1, 2)),
        "no voxel": (np.zeros(SHAPE, np.uint8), AFFINE),
    }
    for told, (values, affine) in faults.items():
        with pytest.raises(DataError, match=told):
            read_mask([write_map(tmp_path / "c.nii", values, affine=affine)], grid, reference)


def test_maps_that_leave_nothing_are_named(tmp_path):
    left, right = np.zeros((2, *SHAPE), np.float32)
    left[:2], right[2:] = 1, 1
    whole = make_values()
    for maps, mask, told in (
        ([whole, np.zeros(SHAPE, np.float32)], None, r"01\.nii: every voxel is zero"),
        ([whole, np.full(SHAPE, np.nan, np.float32)], None, r"01\.nii: every voxel is zero"),
        ([left, right], None, "no voxel is finite and non-zero in all 2 maps"),
        ([whole, left], left == 0, r"01\.nii: every voxel within the mask"),
    ):
        paths = write_maps(tmp_path, maps)
        with pytest.raises(DataError, match=told):
            load_group(paths, check_grids(paths), given_mask=mask)


def test_voxels_left_out_later_are_counted(tmp_path):
    paths = write_maps(tmp_path, [make_values(i) for i in range(3)])
    voxels = load_group(paths, check_grids(paths)).voxels
    kept = np.arange(voxels.mask.sum()) % 3 > 0
    left = voxels.leave_out_constant(kept)
    np.testing.assert_array_equal(left.mask[voxels.mask], kept)
    assert left.leave_out_constant(np.ones(left.mask.sum(), bool)).n_voxels_constant == (~kept).sum()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_byte_in_compressed_data_is_noticed(folder, data):
    path = write_map(folder / "sound.nii.gz", make_values(3, (12, 11, 10)))
    content = bytearray(path.read_bytes())
    # Ten bytes of gzip's own header hold a time stamp and flags that say nothing of the content.
    place = data.draw(st.integers(10, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    damaged = folder / "damaged.nii.gz"
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged\.nii\.gz"):
        read_values(damaged)


def test_a_file_in_several_gzip_members_is_read_whole(folder):
    values = make_values(4, (12, 11, 10))
    whole = gzip.decompress(write_map(folder / "one.nii.gz", values).read_bytes())
    path = folder / "several.nii.gz"
    path.write_bytes(b"".join(gzip.compress(whole[i : i + 1000]) for i in range(0, len(whole), 1000)) + bytes(512))
    np.testing.assert_array_equal(read_values(path), values)


def test_more_data_than_the_header_declares_are_refused_before_they_fill_the_memory(folder):
    whole = gzip.decompress(write_map(folder / "one.nii.gz", make_values(4)).read_bytes())
    path = folder / "bomb.nii.gz"
    path.write_bytes(gzip.compress(whole + bytes(2**28)))
    with pytest.raises(DataError, match="more than"):
        read_values(path)
