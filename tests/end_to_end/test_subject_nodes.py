"""Subject-level nodes through the command line: runs averaged, conditions subtracted, variances as weights."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import SUBJECTS, read_values

SHAPE = (5, 6, 4)
RUNS = ("1", "2", "3")
CONDITIONS = ("A", "B")
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}
ENTRIES = [{"Correction": "none"}]
AVERAGE = {
    "Level": "Subject",
    "Name": "average",
    "GroupBy": ["subject", "contrast"],
    "Model": {"Type": "glm", "X": [1]},
    "DummyContrasts": {"Test": "pass"},
}
DIFFERENCE = {
    "Level": "Subject",
    "Name": "difference",
    "GroupBy": ["subject"],
    "Model": {"Type": "glm", "X": ["A", "B"]},
    "Contrasts": [{"Name": "A-B", "Test": "pass", "ConditionList": ["A", "B"], "Weights": [1, -1]}],
}


def make_test(name="mean", model_type="glm"):
    document = builders.make_spec(settings={"Inference": ENTRIES}, node={"Name": name}, model={"Type": model_type})
    return document["Nodes"][0]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three runs of two conditions, each with the map of its variance."""
    root = tmp_path_factory.mktemp("subject_nodes")
    rng = np.random.default_rng(8)
    effects, variances, maps = {}, {}, {}
    for subject in SUBJECTS:
        for run in RUNS:
            for condition in CONDITIONS:
                key, stem = (
                    (subject, run, condition),
                    f"sub-{subject}/sub-{subject}_task-x_run-{run}_contrast-{condition}",
                )
                effects[key] = rng.normal(0.5 * (condition == "A"), 1, SHAPE).astype(np.float32)
                variances[key] = rng.uniform(0.2, 3.0, SHAPE).astype(np.float32)
                maps[f"{stem}_stat-effect_statmap.nii.gz"] = effects[key]
                maps[f"{stem}_stat-variance_statmap.nii.gz"] = variances[key]
    builders.write_derivative(root / "bids" / "derivatives", maps)
    (root / "bids" / "dataset_description.json").write_text(
        json.dumps({"Name": "raw", "BIDSVersion": "1.10.0", "DatasetType": "raw"})
    )
    return studies.Study(root, {}), effects, variances


def stack(maps, condition):
    return np.array([[maps[s, run, condition] for run in RUNS] for s in SUBJECTS], dtype=np.float64)


def run_nodes(study, name, *nodes, edges=None):
    document = {"Name": "chain", "BIDSModelVersion": "1.0.0", "Nodes": list(nodes)}
    if edges is not None:
        document["Edges"] = edges
    return studies.run_well(study, study.root / name, document)


def test_the_mean_over_runs_is_tested(study):
    output = run_nodes(study[0], "runs", AVERAGE, make_test())
    for condition in CONDITIONS:
        expected = stats.ttest_1samp(stack(study[1], condition).mean(axis=1), 0).statistic
        found = read_values(output / "node-mean" / f"task-x_contrast-{condition}_stat-t_statmap.nii.gz")
        np.testing.assert_allclose(found, expected, **FLOAT32)
    inputs = studies.read_table(output / "node-mean" / "inputs.tsv")
    assert len(inputs) == len(SUBJECTS) * len(RUNS) * len(CONDITIONS)
    assert set(inputs["weight"].astype(float).round(6)) == {0.333333}
    assert set(inputs["run"]) == set(RUNS)
    sidecar = json.loads((output / "node-mean" / "task-x_contrast-A_stat-t_statmap.json").read_text())
    assert len(sidecar["Sources"]) == len(SUBJECTS) * len(RUNS)
    image = studies.read_image(output / "node-mean" / "task-x_contrast-A_stat-t_statmap.nii.gz")
    np.testing.assert_array_equal(image.affine, builders.AFFINE)


def test_a_chain_ends_in_the_paired_test(study):
    output = run_nodes(study[0], "paired", AVERAGE, DIFFERENCE, make_test())
    means = [stack(study[1], condition).mean(axis=1) for condition in CONDITIONS]
    found = read_values(output / "node-mean" / "task-x_contrast-AB_stat-t_statmap.nii.gz")
    np.testing.assert_allclose(found, stats.ttest_rel(*means).statistic, **FLOAT32)


def test_an_edge_passes_on_what_its_filter_chooses(study):
    edges = [{"Source": "average", "Destination": "mean", "Filter": {"contrast": ["B"]}}]
    output = run_nodes(study[0], "filter", AVERAGE, make_test(), edges=edges)
    assert set(pd.read_csv(output / "node-mean" / "results.tsv", sep="\t")["contrast"]) == {"B"}
    inputs = studies.read_table(output / "node-mean" / "inputs.tsv")
    left_out = inputs[inputs["contrast"] == "A"]
    assert set(left_out["included"]) == {"no"}
    assert set(left_out["reason"]) == {"Edges[0].Filter: contrast is A"}


def test_runs_weighted_by_their_variances_are_fixed_effects(study):
    weighted = {**AVERAGE, "Model": {"Type": "meta", "X": [1]}}
    output = run_nodes(study[0], "fixed", weighted, make_test())
    effects, weights = stack(study[1], "A"), 1 / stack(study[2], "A")
    expected = stats.ttest_1samp((weights * effects).sum(axis=1) / weights.sum(axis=1), 0).statistic
    found = read_values(output / "node-mean" / "task-x_contrast-A_stat-t_statmap.nii.gz")
    np.testing.assert_allclose(found, expected, **FLOAT32)
    assert set(studies.read_table(output / "node-mean" / "inputs.tsv")["weight"]) == {"n/a"}


def estimate_moments(effects, variances):
    """DerSimonian and Laird's variance between subjects, voxel by voxel, and the mean with Knapp and Hartung's t."""
    weights = 1 / variances
    mean = (weights * effects).sum(axis=0) / weights.sum(axis=0)
    excess = (weights * (effects - mean) ** 2).sum(axis=0) - (len(effects) - 1)
    tau2 = np.maximum(excess / (weights.sum(axis=0) - (weights**2).sum(axis=0) / weights.sum(axis=0)), 0)
    weights = 1 / (variances + tau2)
    mean = (weights * effects).sum(axis=0) / weights.sum(axis=0)
    scale = (weights * (effects - mean) ** 2).sum(axis=0) / (len(effects) - 1)
    return tau2, mean, mean / np.sqrt(scale / weights.sum(axis=0))


def test_a_meta_analysis_of_the_runs_means_has_the_moments_of_the_textbook(study):
    test = make_test(model_type="meta")
    permutation = {"Correction": "permutation", "Permutations": 40, "Levels": ["voxel"]}
    test["Model"]["Software"]["bids_group"] = {
        "Heterogeneity": "dersimonian-laird",
        "Inference": [*ENTRIES, permutation],
    }
    output = run_nodes(study[0], "meta", {**AVERAGE, "Model": {"Type": "meta", "X": [1]}}, test)
    variances = 1 / (1 / stack(study[2], "A")).sum(axis=1)
    effects = (stack(study[1], "A") / stack(study[2], "A")).sum(axis=1) * variances
    tau2, mean, t = estimate_moments(effects, variances)
    folder = output / "node-mean"
    for stat, expected in (("tau2", tau2), ("effect", mean), ("t", t)):
        found = read_values(folder / f"task-x_contrast-A_stat-{stat}_statmap.nii.gz")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=stat)
    np.testing.assert_allclose(
        read_values(folder / "task-x_contrast-A_stat-p_statmap.nii.gz"), 2 * stats.t.sf(np.abs(t), 7), rtol=1e-3
    )
    null = pd.read_csv(folder / "task-x_contrast-A_desc-voxelFWE_null.tsv", sep="\t")["maximum"]
    assert len(null) == 40
    assert null[0] == pytest.approx(np.abs(t).max(), rel=1e-5)
    sidecar = json.loads((folder / "task-x_contrast-A_stat-t_statmap.json").read_text())
    assert sidecar["Model"] == "random-effects meta-analysis, variance between subjects by dersimonian-laird"


def test_a_meta_analysis_without_variances_names_the_map_that_lacks_one(study, tmp_path, capsys):
    maps = studies.draw_maps({"A": 0.5})
    other = studies.write_study(tmp_path, maps)
    spec = other.write_spec({"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [make_test(model_type="meta")]})
    assert studies.run(other, tmp_path / "out", spec) == 65
    told = capsys.readouterr().err
    assert "Nodes[0].Model.Type: 8 of 8 maps have no map of their variance beside them" in told
    assert not (tmp_path / "out").exists()
