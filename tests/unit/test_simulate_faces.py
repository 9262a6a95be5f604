"""The demo holds what its table of effects says, and the same bytes each time."""

import json
from fractions import Fraction
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.random import SeedSequence

from bids_group.errors import OutputError, UsageError
from examples.simulate_faces import (
    CONDITIONS,
    DESCRIPTION,
    EFFECTS,
    Simulation,
    build_grid,
    draw_blob,
    holds,
    locate_firstlevel,
    locate_map,
    main,
    simulate_faces,
    simulate_noise,
    simulate_participant,
)

N_SUBJECTS = 8
RESOLUTION_MM = 9.0
FACES_SCRAMBLED = np.array([1 / 6] * 6 + [-1 / 3] * 3)
INITIAL_IMMEDIATE = np.array([1 / 3, -1 / 3, 0] * 3)
MODEL = Path(__file__).parents[2] / "examples" / "faces_smdl.json"


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "faces"
    simulate_faces(root, n_subjects=N_SUBJECTS, resolution_mm=RESOLUTION_MM, seed=0)
    return root


def read_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_maps(root: Path, n_subjects: int = N_SUBJECTS) -> np.ndarray:
    """Return the maps, of shape (n_subjects, n_conditions, x, y, z)."""
    firstlevel = locate_firstlevel(root)
    labels = [f"{number:02d}" for number in range(1, n_subjects + 1)]
    return np.array([[nib.load(locate_map(firstlevel, k, c)).get_fdata() for c in CONDITIONS] for k in labels])


def read_at(volume: np.ndarray, centre: tuple[float, float, float]) -> float:
    voxel = np.linalg.inv(build_grid(RESOLUTION_MM).affine) @ [*centre, 1]
    return volume[tuple(np.round(voxel[:3]).astype(int))]


def test_same_parameters_give_the_same_bytes(demo, tmp_path):
    simulate_faces(tmp_path, n_subjects=N_SUBJECTS, resolution_mm=RESOLUTION_MM, seed=0)
    assert read_bytes(tmp_path) == read_bytes(demo)


def test_another_seed_gives_other_maps(demo, tmp_path):
    simulate_faces(tmp_path, n_subjects=1, resolution_mm=RESOLUTION_MM, seed=1)
    assert not np.allclose(read_maps(tmp_path, 1), read_maps(demo)[:1], equal_nan=True)


def test_a_subject_does_not_depend_on_how_many_there_are(demo, tmp_path):
    simulate_faces(tmp_path, n_subjects=2, resolution_mm=RESOLUTION_MM, seed=0)
    few, many = read_bytes(tmp_path), read_bytes(demo)
    subject = [name for name in many if "sub-02" in name]
    assert len(subject) == 2 * len(CONDITIONS) + 1
    assert all(few[name] == many[name] for name in subject)
    assert many["participants.tsv"].startswith(few["participants.tsv"])


def test_subjects_differ(demo):
    maps = read_maps(demo)
    assert len(np.unique(np.nanmean(maps, axis=(2, 3, 4)))) == N_SUBJECTS * len(CONDITIONS)


@pytest.mark.parametrize(
    ("weights", "centre", "least"),
    [
        (FACES_SCRAMBLED, (42, -48, -20), 1.0),
        (FACES_SCRAMBLED, (-40, -50, -20), 1.0),
        (FACES_SCRAMBLED, (40, -78, -10), 1.0),
        (-FACES_SCRAMBLED, (6, -86, 20), 0.5),
        (INITIAL_IMMEDIATE, (-46, 26, 16), 0.5),
    ],
)
def test_effects_are_where_they_were_put(demo, weights, centre, least):
    difference = np.tensordot(weights, read_maps(demo).mean(axis=0), axes=1)
    far_away = read_at(difference, (0, -20, 60))
    assert read_at(difference, centre) - far_away > least


def test_a_blob_has_its_height_and_its_width():
    grid = build_grid(2.0)
    fusiform = next(effect for effect in EFFECTS if effect.centre == (42, -48, -20))
    blob = draw_blob(fusiform, grid)
    to_voxel = np.linalg.inv(grid.affine)
    at_centre = tuple((to_voxel @ [42, -48, -20, 1])[:3].astype(int))
    half_width_away = tuple((to_voxel @ [42 - fusiform.fwhm_mm / 2, -48, -20, 1])[:3].astype(int))
    assert blob[at_centre] == pytest.approx(1.0)
    assert blob[half_width_away] == pytest.approx(0.5)


def test_noise_has_unit_variance_and_the_smoothness_asked_for():
    noise = simulate_noise((64, 64, 64), 8 / 3, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1.0, abs=0.02)
    # A Gaussian kernel of width s gives noise a correlation of exp(-d^2 / 4 s^2) at distance d.
    sigma = 8 / 3 / np.sqrt(8 * np.log(2))
    neighbours = np.mean(noise[1:] * noise[:-1]) / np.mean(noise**2)
    assert neighbours == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.02)


def test_maps_are_float32_on_a_grid_that_runs_to_the_left_and_nan_outside_the_brain(demo):
    image = nib.load(locate_map(locate_firstlevel(demo), "01", "IniFF"))
    brain = build_grid(RESOLUTION_MM).brain
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.diag(image.affine), [-RESOLUTION_MM, RESOLUTION_MM, RESOLUTION_MM, 1])
    np.testing.assert_array_equal(np.isfinite(read_maps(demo)), np.broadcast_to(brain, (N_SUBJECTS, 9, *brain.shape)))


def test_the_grid_is_spms_box_and_its_rim_is_outside_the_brain():
    grid = build_grid(3.0)
    assert grid.brain.shape == (53, 63, 52)
    np.testing.assert_array_equal(grid.affine[:3, 3], [78, -112, -70])
    assert 50_000 < grid.brain.sum() < 60_000
    # Below, the brain stem runs on out of every template.
    sides = [grid.brain[0], grid.brain[-1], grid.brain[:, 0], grid.brain[:, -1], grid.brain[:, :, -1]]
    assert not any(side.any() for side in sides)


def test_every_effect_is_centred_in_the_brain():
    grid = build_grid(3.0)
    centres = np.array([[*effect.centre, 1] for effect in EFFECTS])
    voxels = np.round(centres @ np.linalg.inv(grid.affine).T)[:, :3].astype(int)
    assert grid.brain[tuple(voxels.T)].all()


def test_stronger_responses_are_faster():
    people = [simulate_participant(k, seeds) for k, seeds in enumerate(SeedSequence(0).spawn(400), start=1)]
    young = [person for person in people if person.group == "young"]
    assert len(young) == 200
    assert np.corrcoef([p.rt for p in young], [p.scales.mean() for p in young])[0, 1] < -0.5
    assert all(20 <= person.age <= 35 for person in young)


def test_a_finished_demo_is_left_alone_and_so_is_the_apps_output_in_it(tmp_path, capsys):
    command = [str(tmp_path / "demo"), "--subjects", "1", "--resolution", "18"]
    assert main(command) == 0
    output = tmp_path / "demo" / "derivatives" / "bids_group" / "results.tsv"
    output.parent.mkdir()
    output.write_text("the app's")
    readme = tmp_path / "demo" / "README"
    readme.write_text("edited")
    assert main(command) == 0
    assert "left alone" in capsys.readouterr().out.splitlines()[-1]
    assert (readme.read_text(), output.read_text()) == ("edited", "the app's")


def test_an_interrupted_simulation_is_completed(tmp_path):
    simulate_faces(tmp_path, n_subjects=1, resolution_mm=18.0)
    whole = read_bytes(tmp_path)
    firstlevel = locate_firstlevel(tmp_path)
    (firstlevel / DESCRIPTION).unlink()
    locate_map(firstlevel, "01", "DelSF").unlink()
    simulation = Simulation(n_subjects=1, resolution_mm=18.0, seed=0)
    assert not holds(tmp_path, simulation)
    simulate_faces(tmp_path, n_subjects=1, resolution_mm=18.0)
    assert read_bytes(tmp_path) == whole


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not a demo"):
        simulate_faces(tmp_path, n_subjects=1, resolution_mm=18.0)
    assert read_bytes(tmp_path) == {"thesis.txt": b"mine"}


def test_a_demo_with_other_parameters_is_refused(tmp_path):
    simulate_faces(tmp_path, n_subjects=1, resolution_mm=18.0)
    before = read_bytes(tmp_path)
    with pytest.raises(OutputError, match="another simulation"):
        simulate_faces(tmp_path, n_subjects=1, resolution_mm=18.0, seed=5)
    assert read_bytes(tmp_path) == before


@pytest.mark.parametrize("wrong", [{"n_subjects": 0}, {"resolution_mm": 0.0}, {"seed": -1}])
def test_senseless_parameters_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(UsageError):
        simulate_faces(tmp_path / "demo", **wrong)
    assert not (tmp_path / "demo").exists()


def test_the_models_interaction_is_orthogonal_to_both_main_effects():
    node = json.loads(MODEL.read_text())["Nodes"][0]
    faces, famous, interaction = (
        np.array([[float(Fraction(w)) for w in row] for row in np.atleast_2d(np.array(contrast["Weights"]))])
        for contrast in node["Contrasts"]
    )
    differences = np.array([[1, -1, 0], [0, 1, -1]])
    main_effects = np.vstack([np.kron(differences, np.ones(3)), np.kron(np.ones(3), differences)])
    np.testing.assert_array_equal(interaction @ main_effects.T, 0)
    assert np.linalg.matrix_rank(interaction) == 4
    assert node["Contrasts"][2]["ConditionList"] == list(CONDITIONS) == node["Model"]["X"][:-1]
    np.testing.assert_allclose(faces[0], FACES_SCRAMBLED)
    assert famous.sum() == pytest.approx(0)
