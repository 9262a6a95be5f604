"""What the viewer unpacks is what stands in the maps, in the right place, each array once."""

import base64
import json
import re
import shutil
import zlib

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_mni152_template

from bids_group.cli import main
from bids_group.errors import DataError, MissingInputError
from bids_group.report.build import _locate_peak, build_report
from bids_group.report.collect import collect_run
from bids_group.report.folder import StoredFile, Table
from bids_group.report.viewer import GREY_LEVELS, NO_VALUE, VALUE_STEP, _encode_values, pack_viewers
from tests import builders

SHAPE = (9, 11, 8)
VOXEL_MM = 15.0
# x from right to left: the viewer must turn it.
AFFINE = np.array([[-VOXEL_MM, 0, 0, 60], [0, VOXEL_MM, 0, -95], [0, 0, VOXEL_MM, -45], [0, 0, 0, 1]])
INFERENCE = [{"Correction": "none", "Alpha": 0.05}]
CONDITIONS = ("A", "B", "C")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Two models of the same maps: an ANOVA, and a t test of condition A with a strong effect."""
    root = tmp_path_factory.mktemp("viewer")
    maps = builders.make_maps(contrasts=CONDITIONS, shape=SHAPE, effects={"A": 4.0})
    for values in maps.values():
        values[0], values[:, 0] = 0, 0  # not in the mask
        values[:, :, -1] /= 1e3
    builders.write_derivative(root / "derivatives", maps, affine=AFFINE)
    description = {"Name": "raw", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    builders.write_participants(root, pd.DataFrame({"participant_id": [f"sub-{name}" for name in builders.SUBJECTS]}))
    spec = builders.write_spec(root / "spec.json", builders.make_spec("anova", settings={"Inference": INFERENCE}))
    assert main([str(root), str(root / "out"), "group", "--model", str(spec)]) == 0
    return root / "out"


@pytest.fixture(scope="module")
def run(output):
    return collect_run(output, "study")


@pytest.fixture(scope="module")
def viewers(output, run):
    return pack_viewers(output, run)


@pytest.fixture
def copy(output, tmp_path):
    return shutil.copytree(output, tmp_path / "out")


def find_model(run):
    return run.nodes[0].folder, run.nodes[0].models[0]


def find_contrasts(run):
    return {contrast.label: contrast for contrast in find_model(run)[1].contrasts}


def find_scene(viewers, contrast):
    return viewers.scenes[contrast.maps[contrast.test].href]


def unpack(viewers, name, dtype=np.uint8):
    return np.frombuffer(zlib.decompress(base64.b64decode(viewers.blobs[name])), dtype)


def unpack_bits(viewers, name, count):
    return np.unpackbits(unpack(viewers, name), bitorder="little", count=count).astype(bool)


def unpack_map(viewers, scene):
    """Return a statistic as the viewer reads it, shape (x, y, z), NaN outside the mask, and its affine."""
    lower, higher = unpack(viewers, scene["values"]).reshape(2, -1).astype(np.int32)
    codes = (lower | higher << 8).astype(np.uint16).view(np.int16)
    mask = unpack_bits(viewers, scene["mask"], np.prod(scene["shape"]))
    values = np.full(mask.size, np.nan)
    values[mask] = np.where(codes == NO_VALUE, np.nan, codes * scene["step"])
    return values.reshape(scene["shape"], order="F")


def look_up(image, places):
    """Return the values of an image at places in mm, shape (n, 3)."""
    voxels = np.round(nib.affines.apply_affine(np.linalg.inv(image.affine), places)).astype(int)
    return np.asarray(image.dataobj)[tuple(voxels.T)]


def locate_voxels(scene):
    """Return the places of all voxels of a scene in mm, shape (n, 3), x fastest."""
    voxels = np.stack([axis.ravel(order="F") for axis in np.indices(scene["shape"])], axis=-1)
    return nib.affines.apply_affine(np.array(scene["affine"]), voxels)


@pytest.mark.parametrize("label", ["omnibus", "AMinusB"])
def test_every_voxel_has_the_value_of_the_map_at_its_place_to_half_a_step(output, run, viewers, label):
    contrast = find_contrasts(run)[label]
    scene = find_scene(viewers, contrast)
    folder, model = find_model(run)
    places = locate_voxels(scene)
    mask = look_up(nib.load(output / folder / model.mask.file.name), places) > 0
    expected = look_up(nib.load(output / folder / contrast.maps[contrast.test].name), places)
    found = unpack_map(viewers, scene).ravel(order="F")
    np.testing.assert_array_equal(np.isfinite(found), mask)
    np.testing.assert_allclose(found[mask], expected[mask], rtol=0, atol=scene["step"] / 2 + 1e-5)
    assert scene["largest"] == pytest.approx(np.abs(expected).max())
    assert scene["step"] == VALUE_STEP


def test_axes_run_to_the_right_forwards_and_upwards(run, viewers):
    scene = find_scene(viewers, find_contrasts(run)["omnibus"])
    np.testing.assert_array_equal(np.array(scene["affine"])[:3, :3], np.eye(3) * VOXEL_MM)
    np.testing.assert_allclose(np.array(scene["affine"]) @ np.array(scene["inverse"]), np.eye(4), atol=1e-12)


def test_survivors_are_the_voxels_of_the_surviving_map(output, run, viewers):
    contrast = find_contrasts(run)["AMinusB"]
    scene = find_scene(viewers, contrast)
    places = locate_voxels(scene)
    mask = unpack_bits(viewers, scene["mask"], len(places))
    assert set(scene["survivors"]) == {one.label for one in contrast.inferences if one.n_voxels} != set()
    for inference in contrast.inferences:
        if inference.n_voxels:
            image = nib.load(output / find_model(run)[0] / inference.files["map"].name)
            found = unpack_bits(viewers, scene["survivors"][inference.label], mask.sum())
            np.testing.assert_array_equal(found, look_up(image, places[mask]) != 0)
            assert found.sum() == inference.n_voxels


def test_the_template_lies_where_nilearn_has_it(run, viewers):
    scene = find_scene(viewers, find_contrasts(run)["omnibus"])
    factor = scene["factor"]
    assert VOXEL_MM / factor <= 2 < VOXEL_MM / (factor - 1)
    greys = unpack(viewers, scene["background"]).reshape(np.array(scene["shape"]) * factor, order="F") / 255
    rng = np.random.default_rng(0)
    small = np.stack([rng.integers(0, edge, 4000) for edge in greys.shape], axis=-1)
    places = nib.affines.apply_affine(np.array(scene["affine"]), (small + 0.5) / factor - 0.5)
    template = load_mni152_template(resolution=1)
    inside = (np.abs(places - (0, -20, 10)) < 60).all(axis=1)
    expected = look_up(template, places[inside])
    found = greys[tuple(small[inside].T)]
    assert np.corrcoef(found, expected)[0, 1] > 0.98  # between voxels of 1 mm it is interpolated
    assert len(np.unique(greys)) <= GREY_LEVELS


def test_each_array_stands_in_the_page_once(output, viewers):
    scenes = list(viewers.scenes.values())
    assert len({scene["background"] for scene in scenes}) == len({scene["mask"] for scene in scenes}) == 1
    assert len(set(viewers.blobs.values())) == len(viewers.blobs)
    html = build_report(output, "study")
    for name, text in viewers.blobs.items():
        assert html.count(f'<script type="text/plain" id="{name}">{text}</script>') == 1
    assert len(re.findall(r'<details class="viewer"', html)) == len(scenes) == 2


def test_what_is_not_a_number_or_beyond_the_largest_code_keeps_its_meaning():
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.014, 327.67], np.float32)
    lower, higher = np.frombuffer(_encode_values(values, VALUE_STEP), np.uint8).reshape(2, -1).astype(np.int32)
    codes = (lower | higher << 8).astype(np.uint16).view(np.int16)
    assert codes.tolist() == [NO_VALUE, 32767, -32767, 0, -1, 32767]


def test_a_contrast_that_makes_the_page_too_large_has_no_viewer(output, run, viewers):
    sizes = {name: len(text) for name, text in viewers.blobs.items()}
    first = next(iter(viewers.scenes.values()))
    own = {first[key] for key in ("background", "mask", "values")} | set(first["survivors"].values())
    limit = sum(sizes[name] for name in own)
    fewer = pack_viewers(output, run, most_characters=limit)
    assert list(fewer.scenes) == list(viewers.scenes)[:1]
    assert set(fewer.blobs) == own
    assert not pack_viewers(output, run, most_characters=limit - 1).scenes.keys() & {next(iter(viewers.scenes))}


def test_a_space_that_is_not_mni_shows_the_mask(copy):
    path = copy / "node-anova/model.json"
    record = json.loads(path.read_text())
    record["Entities"]["space"] = "T1w"
    path.write_text(json.dumps(record))
    viewers = pack_viewers(copy, collect_run(copy, "study"))
    scene = next(iter(viewers.scenes.values()))
    assert (scene["isTemplate"], scene["factor"]) == (False, 1)
    mask = unpack_bits(viewers, scene["mask"], np.prod(SHAPE))
    np.testing.assert_array_equal(unpack(viewers, scene["background"]) > 0, mask)
    assert "Behind the map is the analysis mask" in build_report(copy, "study")


def test_a_lost_or_damaged_map_is_named(copy):
    (path,) = copy.glob("node-anova/*AMinusB*stat-t_statmap.nii.gz")
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"no image"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"stat-t_statmap.*damaged"):
            build_report(copy, "study")
    path.unlink()
    with pytest.raises(MissingInputError, match="stat-t_statmap"):
        build_report(copy, "study")


def test_a_map_on_another_grid_is_refused(copy):
    (path,) = copy.glob("node-anova/*AMinusB*stat-t_statmap.nii.gz")
    image = nib.load(path)
    moved = image.affine.copy()
    moved[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), path)
    with pytest.raises(DataError, match="grid"):
        build_report(copy, "study")


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        (("cluster_id", "peak_x", "peak_y", "peak_z"), ("1", "-4.5", "8", "0"), "-4.5 8 0"),
        (("cluster_id", "peak_x", "peak_y", "peak_z"), ("1", "n/a", "8", "0"), ""),
        (("cluster_id",), ("1",), ""),
    ],
)
def test_a_row_knows_its_peak_or_says_nothing(columns, row, expected):
    assert _locate_peak(row, Table(StoredFile("x.tsv", "x.tsv"), columns, (row,))) == expected
