"""What the cortex shows of a map is what nilearn looks up at the same depths."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.surface import InMemoryMesh, vol_to_surf

from bids_group.cortex import DEPTHS, MNI305_TO_MNI152, find_packaged, load_cortex, look_up_depth, project_to_cortex
from bids_group.errors import MissingInputError

SHAPE = (61, 73, 61)
AFFINE = np.array([[-3.0, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
OBLIQUE = AFFINE @ nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, -0.05, 0.08), (1, -2, 0.5))


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


@pytest.fixture(params=["left", "right"])
def cortex(request):
    return load_cortex()[request.param]


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_depth_has_the_values_that_nilearn_finds_there(values, cortex, affine, depth):
    pial, white = (InMemoryMesh(one, cortex.triangles) for one in (cortex.pial, cortex.white))
    expected = vol_to_surf(
        nib.Nifti1Image(values, affine),
        pial,
        inner_mesh=white,
        kind="depth",
        depth=[1 - depth],  # which nilearn counts from the pial surface
        interpolation="nearest_most_frequent",
    )
    found = look_up_depth(values, affine, cortex, depth)
    assert (found != expected).mean() < 1e-3  # halfway between two voxels


def test_of_all_depths_the_value_furthest_from_zero_is_shown_with_its_sign(values, cortex):
    layers = np.array([look_up_depth(values, AFFINE, cortex, depth) for depth in DEPTHS])
    found = project_to_cortex(values, AFFINE, cortex)
    np.testing.assert_array_equal(np.abs(found), np.abs(layers).max(axis=0))
    assert (found[None] == layers).any(axis=0).all()


def test_what_lies_outside_the_grid_shows_nothing(values, cortex):
    moved = AFFINE.copy()
    moved[0, 3] += 1000
    assert not project_to_cortex(values, moved, cortex).any()


def test_places_move_from_mni305_to_mni152_as_in_freesurfers_example():
    moved = nib.affines.apply_affine(MNI305_TO_MNI152, (10, -20, 35))
    np.testing.assert_allclose(moved, (10.695, -18.409, 36.137), atol=0.005)


def test_hemispheres_lie_on_their_sides_and_triangles_face_outwards():
    for name, cortex in load_cortex().items():
        assert (cortex.pial[:, 0] < 3).all() if name == "left" else (cortex.pial[:, 0] > -3).all()
        corners = cortex.inflated[cortex.triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert ((normals * corners.mean(axis=1)).sum(axis=1) > 0).mean() > 0.98
        assert cortex.is_sulcus.mean() == pytest.approx(0.5, abs=0.05)


def test_both_hemispheres_have_the_same_triangles():
    left, right = load_cortex().values()
    np.testing.assert_array_equal(left.triangles, right.triangles)


def test_a_file_that_nilearn_does_not_ship_is_named():
    with pytest.raises(MissingInputError, match=r"no_such\.gii"):
        find_packaged("datasets/no_such.gii")
