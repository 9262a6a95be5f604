"""Variance groups through the command line: Welch's tests, with degrees of freedom of each voxel."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import GROUPS, PREFIX, find_result, read_values

CONTRASTS = [
    {"Name": "Difference", "Test": "t", "ConditionList": ["group[patient]", "group[control]"], "Weights": [1, -1]},
    {"Name": "Any", "Test": "F", "ConditionList": ["group[patient]", "group[control]"], "Weights": [1, -1]},
]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Two groups of which the patients vary three times as much."""
    root = tmp_path_factory.mktemp("unequal")
    maps = studies.draw_maps({"A": 1.0}, seed=9)
    spread = dict(zip(studies.SUBJECTS, (3.0 if group == "patient" else 1.0 for group in GROUPS), strict=True))
    study = studies.write_study(root, {key: values * np.float32(spread[key[0]]) for key, values in maps.items()})
    settings = {"VarianceGroups": "group", "Inference": [{"Correction": "none", "Alpha": 0.05}, {"Correction": "fdr"}]}
    document = builders.make_spec(
        settings=settings,
        model={"X": ["group"]},
        node={"GroupBy": [], "Contrasts": CONTRASTS, "DummyContrasts": {"Test": "t"}},
    )
    del document["Nodes"][0]["DummyContrasts"]
    output = studies.run_well(study, root / "out", document)
    mask = read_values(output / "node-mean" / f"{PREFIX}desc-analysis_mask.nii.gz") > 0
    return study.stack("A")[:, mask], output / "node-mean", mask


def test_t_of_two_variance_groups_is_welchs(node):
    data, folder, mask = node
    patients = np.array(GROUPS) == "patient"
    expected = stats.ttest_ind(data[patients], data[~patients], equal_var=False)
    for stat, values in (("t", expected.statistic), ("dof", expected.df), ("p", expected.pvalue)):
        found = read_values(folder / f"{PREFIX}contrast-Difference_stat-{stat}_statmap.nii.gz")[mask]
        np.testing.assert_allclose(found, values, rtol=1e-5, err_msg=stat)
    result = find_result(folder, "Difference", "uncorrected")
    np.testing.assert_allclose(float(result["dof"]), np.median(expected.df), rtol=1e-6)
    assert result["threshold_unit"] == "z"
    np.testing.assert_allclose(float(result["threshold"]), stats.norm.isf(0.025), rtol=1e-9)
    surviving = read_values(folder / f"{PREFIX}contrast-Difference_stat-t_desc-uncorrected_statmap.nii.gz")[mask] != 0
    np.testing.assert_array_equal(surviving, expected.pvalue <= 0.05)


def test_f_of_variance_groups_is_welchs_analysis_of_variance(node):
    data, folder, mask = node
    f = read_values(folder / f"{PREFIX}contrast-Any_stat-F_statmap.nii.gz")[mask]
    p = read_values(folder / f"{PREFIX}contrast-Any_stat-p_statmap.nii.gz")[mask]
    for voxel in range(0, data.shape[1], 11):
        samples = [data[np.array(GROUPS) == group, voxel] for group in ("patient", "control")]
        expected = anova_oneway(samples, use_var="unequal", welch_correction=True)
        np.testing.assert_allclose([f[voxel], p[voxel]], [expected.statistic, expected.pvalue], rtol=1e-5)


def test_the_error_is_named_wherever_it_is_said(node):
    _, folder, _ = node
    sidecar = json.loads((folder / f"{PREFIX}contrast-Difference_stat-t_statmap.json").read_text())
    assert "each level of group" in sidecar["ErrorTerm"]
    assert "each level of group (Welch)" in (folder.parent / "model-study_report.html").read_text()


def test_permutation_of_v_is_that_of_all_divisions_into_two_groups(tmp_path):
    maps = studies.draw_maps({"A": 1.0}, seed=9)
    study = studies.write_study(tmp_path, maps)
    entry = {"Correction": "permutation", "Levels": ["voxel"]}
    document = builders.make_spec(
        settings={"VarianceGroups": "group", "Inference": [entry]},
        model={"X": ["group"]},
        node={"GroupBy": [], "Contrasts": CONTRASTS[:1]},
    )
    del document["Nodes"][0]["DummyContrasts"]
    folder = studies.run_well(study, tmp_path / "out", document) / "node-mean"
    mask = read_values(folder / f"{PREFIX}desc-analysis_mask.nii.gz") > 0
    data, z = study.stack("A")[:, mask], []
    observed = np.array(GROUPS) == "patient"
    divisions = [np.isin(np.arange(8), chosen) for chosen in itertools.combinations(range(8), 4)]
    for patients in [observed, *divisions]:
        welch = stats.ttest_ind(data[patients], data[~patients], equal_var=False)
        z.append(np.abs(stats.norm.isf(stats.t.sf(np.abs(welch.statistic), welch.df))))
    largest = np.max(z[1:], axis=1)
    p = (largest[:, np.newaxis] >= z[0] * (1 - 1e-5)).mean(axis=0)
    logp = read_values(folder / f"{PREFIX}contrast-Difference_stat-logp_desc-voxelFWE_statmap.nii.gz")[mask]
    np.testing.assert_allclose(logp, -np.log10(p), rtol=1e-5, atol=1e-6)
    result = find_result(folder, "Difference", "voxelFWE")
    assert (result["n_permutations"], result["exact"], result["threshold_unit"]) == (70, True, "z")
    np.testing.assert_allclose(float(result["threshold"]), np.sort(largest)[::-1][3], rtol=1e-5)  # 0.05 x 70 = 3.5
    name = f"{PREFIX}contrast-Difference_stat-logp_desc-voxelFWE_statmap.json"
    assert json.loads((folder / name).read_text())["ExactTest"] is False
