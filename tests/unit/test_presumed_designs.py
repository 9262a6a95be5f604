"""What designs, regions and blocks must be before maps are tested, and what two routes to one test share."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from bids_group.analysis.fitting import fit_model
from bids_group.analysis.model import load_maps
from bids_group.analysis.rearranging import check_study
from bids_group.analysis.regions import check_regions
from bids_group.errors import SpecError
from bids_group.inputs.study import InputOptions, prepare_study
from tests import builders

SUBJECTS = tuple(f"{number:02}" for number in range(1, 9))
SHAPE = (9, 10, 8)
DIFFERENCE = {"Name": "difference", "Test": "t", "ConditionList": ["A", "B"], "Weights": [1, -1]}
GROUPS = {"Name": "groups", "Test": "t", "ConditionList": ["group[a]", "group[b]"], "Weights": [1, -1]}
PERMUTATION = {"Correction": "permutation", "Permutations": 100, "Levels": ["voxel"]}


def write_maps(root, contrasts, *, ending="effect"):
    smooth = {
        builders.name_map(subject, contrast).replace("_effect", f"_{ending}"): ndimage.gaussian_filter(
            np.random.default_rng((number, ord(contrast))).standard_normal(SHAPE), 1.5
        ).astype(np.float32)
        for number, subject in enumerate(SUBJECTS)
        for contrast in contrasts
    }
    if ending == "variance":
        smooth = {name: np.abs(values) + np.float32(0.1) for name, values in smooth.items()}
    builders.write_derivative(root, smooth)
    return smooth


def prepare(root, document):
    participants = pd.DataFrame({"participant_id": [f"sub-{s}" for s in SUBJECTS], "group": ["a", "b"] * 4, "site": [1, 1, 2, 2] * 2})  # fmt: skip
    builders.write_participants(root / "firstlevel", participants)
    spec = builders.write_spec(root / "spec.json", document)
    return prepare_study(InputOptions(root / "firstlevel", spec), root / "out")


def fit(root, document):
    (node,) = prepare(root, document).nodes
    (model,), (grid,) = node.plan.models, node.grids
    options = {"allocate": lambda shape: np.empty(shape, np.float32), "n_threads": 1, "report_progress": lambda: None}
    return fit_model(node.plan, model, load_maps(node.plan, model, grid, (), **options)).tests[0]


def test_a_paired_contrast_has_the_random_field_of_the_subjects_differences(tmp_path):
    maps = write_maps(tmp_path, "AB")
    differences = {
        builders.name_map(subject, "D"): maps[builders.name_map(subject, "A")] - maps[builders.name_map(subject, "B")]
        for subject in SUBJECTS
    }
    builders.write_derivative(tmp_path, differences)
    entry = {"Inference": [{"Correction": "rft"}]}
    paired = builders.make_spec(
        "anova",
        settings={"ErrorTerm": "partitioned", **entry},
        node={"Contrasts": [DIFFERENCE]},
        model={"X": ["A", "B"]},
        Input={"desc": ["A", "B"]},
    )
    of_pairs = fit(tmp_path, paired)
    of_differences = fit(tmp_path, builders.make_spec(settings=entry, Input={"desc": ["D"]}))
    np.testing.assert_allclose(of_pairs.statistic.value, of_differences.statistic.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_pairs.smoothness.fwhm_mm, of_differences.smoothness.fwhm_mm, rtol=1e-4)
    np.testing.assert_allclose(of_pairs.smoothness.resels, of_differences.smoothness.resels, rtol=1e-4)


def test_regions_that_no_map_reaches_are_refused(tmp_path):
    write_maps(tmp_path, "A")
    rois = [{"Spheres": [{"Name": "far", "Center": [900, 0, 0]}], "Radius": 5}]
    with pytest.raises(SpecError, match="ROIs: no region has a voxel on the grid of the maps"):
        check_regions(prepare(tmp_path, builders.make_spec(settings={"ROIs": rois})))


def test_maps_of_different_variances_are_not_exchanged(tmp_path):
    write_maps(tmp_path, "A")
    write_maps(tmp_path, "A", ending="variance")
    model = {"Type": "meta", "X": ["group"]}
    document = builders.make_spec(settings={"Inference": [PERMUTATION]}, model=model, node={"Contrasts": [GROUPS]})
    del document["Nodes"][0]["DummyContrasts"]
    with pytest.raises(SpecError, match=r"Inference\[0\]: 'groups' compares subjects or is a slope"):
        check_study(prepare(tmp_path, document))


def test_meta_analyses_need_one_map_of_each_subject_and_neither_smooth_nor_lack(tmp_path):
    write_maps(tmp_path, "A")
    write_maps(tmp_path, "A", ending="variance")
    for key, value in (("SmoothingFWHM", 5), ("MinCoverage", 0.5)):
        document = builders.make_spec(
            model={"Type": "meta"}, settings={key: value, "Inference": [{"Correction": "none"}]}
        )
        with pytest.raises(SpecError, match=f"{key}: not possible with the type 'meta'; take the key out"):
            prepare(tmp_path, document)
    document = builders.make_spec(model={"Type": "meta"}, settings={"Inference": [{"Correction": "rft"}]})
    with pytest.raises(SpecError, match="a meta-analysis has no residuals of equal variance"):
        prepare(tmp_path, document)
