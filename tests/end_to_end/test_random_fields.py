"""Random field theory through the command line: consistent with itself, and never looser than Bonferroni's bound."""

import json

import numpy as np
import pytest
from scipy import ndimage, stats

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, find_result, read_model, read_table, read_values

SHAPE = (16, 18, 14)
N = 12
ENTRIES = [
    {"Correction": "rft"},
    {"Correction": "rft", "Tail": "positive", "Name": "Positive", "ClusterThreshold": {"z": 3.5}},
    {"Correction": "bonferroni"},
]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Smooth noise with an effect in the middle."""
    root = tmp_path_factory.mktemp("random_fields")
    rng = np.random.default_rng(11)
    noise = ndimage.gaussian_filter(rng.standard_normal((N, *SHAPE)), (0, 2, 2, 2))
    return analyse(root, noise / noise.std()), noise


def analyse(root, noise):
    subjects = [f"{i:02d}" for i in range(1, N + 1)]
    effect = np.zeros(SHAPE)
    effect[6:10, 7:11, 5:9] = 4.0
    maps = {(subject, "A"): (one + effect).astype(np.float32) for subject, one in zip(subjects, noise, strict=True)}
    study = studies.write_study(root, maps)
    return studies.run_well(study, root / "out", builders.make_spec(settings={"Inference": ENTRIES}))


def test_survivors_are_those_above_the_threshold_and_at_least_those_of_bonferroni(result):
    output, _ = result
    node = output / "node-mean"
    t = read_values(node / f"{PREFIX}contrast-A_stat-t_statmap.nii.gz")
    rft = find_result(node, "A", "rft")
    surviving = read_values(node / f"{PREFIX}contrast-A_stat-t_desc-rft_statmap.nii.gz") != 0
    np.testing.assert_array_equal(surviving, np.abs(t) >= np.float32(float(rft["threshold"])))
    bonferroni = find_result(node, "A", "bonferroni")
    assert float(rft["threshold"]) < float(bonferroni["threshold"])
    logp = read_values(node / f"{PREFIX}contrast-A_stat-logp_desc-rft_statmap.nii.gz")
    np.testing.assert_array_equal(surviving, logp >= np.float32(-np.log10(0.05)))
    assert np.all(logp >= read_values(node / f"{PREFIX}contrast-A_stat-logp_desc-bonferroni_statmap.nii.gz") - 1e-6)


def test_cluster_forming_thresholds_are_those_of_the_tail(result):
    node = result[0] / "node-mean"
    expected = {"rft": stats.t.isf(0.0005, N - 1), "rftPositive": stats.t.isf(stats.norm.sf(3.5), N - 1)}
    for correction, threshold in expected.items():
        np.testing.assert_allclose(float(find_result(node, "A", correction)["cluster_threshold"]), threshold, rtol=1e-8)


def test_the_smoothness_is_that_of_the_simulation_and_extents_have_a_p(result):
    node = result[0] / "node-mean"
    sidecar = json.loads((node / f"{PREFIX}contrast-A_desc-rft_dseg.json").read_text())
    voxel = np.linalg.norm(builders.AFFINE[:3, :3], axis=0)
    np.testing.assert_allclose(np.array(sidecar["SmoothnessFwhmMm"]) / voxel, 2 * np.sqrt(8 * np.log(2)), rtol=0.12)
    clusters = read_table(node / f"{PREFIX}contrast-A_desc-rft_clusters.tsv")
    assert clusters["p_rft"].astype(float).min() < 0.01
    report = (result[0] / "model-study_report.html").read_text()
    assert "mm FWHM, taken to be the same everywhere" in report


def test_noise_too_rough_for_random_fields_is_warned_of_once(result, tmp_path):
    rough = np.random.default_rng(12).standard_normal((N, *SHAPE))
    told = [read_model(out / "node-mean", "contrast-A_")["Warnings"] for out in (result[0], analyse(tmp_path, rough))]
    assert [sum("finely sampled" in warning for warning in one) for one in told] == [0, 1]
