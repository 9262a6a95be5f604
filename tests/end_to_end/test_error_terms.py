"""Repeated measures through the command line: each contrast against its own error, and the pooled one judged."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.anova import AnovaRM

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, SUBJECTS, find_result, read_values

CONDITIONS = ("A", "B", "C")
FLOAT32 = {"rtol": 2e-6, "atol": 2e-6}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Three conditions with both error terms; C is much noisier than A and B."""
    root = tmp_path_factory.mktemp("error_terms")
    maps = studies.draw_maps({"A": 1.0, "B": 0.5, "C": 0.0}, seed=5)
    maps = {key: values * np.float32(4.0 if key[1] == "C" else 1.0) for key, values in maps.items()}
    study = studies.write_study(root, maps)
    entries = [{"Correction": "none", "Alpha": 0.05}]
    documents = [
        builders.make_spec(
            "anova", conditions=CONDITIONS, settings={"ErrorTerm": term, "Inference": entries}, node={"Name": term}
        )
        for term in ("partitioned", "pooled")
    ]
    document = {**documents[0], "Nodes": [one["Nodes"][0] for one in documents]}
    output = studies.run_well(study, root / "out", document)
    return study, output


@pytest.fixture(scope="module")
def values(node):
    """The analysed values, subjects x conditions x voxels, and a function that reads a map of them."""
    study, output = node
    mask = read_values(output / "node-partitioned" / f"{PREFIX}desc-analysis_mask.nii.gz") > 0
    data = np.stack([study.stack(name)[:, mask] for name in CONDITIONS], axis=1)
    return data, lambda folder, name: read_values(output / folder / f"{PREFIX}{name}_statmap.nii.gz")[mask]


def compute_epsilon(data):
    """Greenhouse and Geisser's, from the covariance of orthonormal contrasts of one voxel at a time."""
    contrasts = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    covariances = [np.cov(contrasts @ data[:, :, i].T) for i in range(data.shape[2])]
    return np.array([np.trace(s) ** 2 / (2 * np.trace(s @ s)) for s in covariances])


def test_partitioned_t_is_the_paired_t_of_scipy(values):
    data, read = values
    expected = stats.ttest_rel(data[:, 0], data[:, 1])
    np.testing.assert_allclose(read("node-partitioned", "contrast-AMinusB_stat-t"), expected.statistic, **FLOAT32)
    np.testing.assert_allclose(read("node-partitioned", "contrast-AMinusB_stat-p"), expected.pvalue, rtol=1e-5)
    np.testing.assert_allclose(
        read("node-partitioned", "contrast-AMinusB_stat-effect"), (data[:, 0] - data[:, 1]).mean(axis=0), **FLOAT32
    )


def test_partitioned_f_is_that_of_anova_rm(values):
    data, read = values
    found = read("node-partitioned", "contrast-omnibus_stat-F")
    for voxel in range(0, data.shape[2], 9):
        table = pd.DataFrame(data[:, :, voxel], SUBJECTS, CONDITIONS).rename_axis("subject").reset_index()
        long = table.melt("subject", var_name="condition", value_name="y")
        anova = AnovaRM(long, "y", "subject", within=["condition"]).fit().anova_table
        np.testing.assert_allclose(found[voxel], anova["F Value"].iloc[0], rtol=1e-5)


def test_p_of_a_partitioned_f_is_corrected_by_each_voxels_epsilon(node, values):
    data, read = values
    epsilon = compute_epsilon(data)
    np.testing.assert_allclose(read("node-partitioned", "contrast-omnibus_stat-epsilon"), epsilon, rtol=1e-5)
    f = read("node-partitioned", "contrast-omnibus_stat-F").astype(float)
    expected = stats.f.sf(f, 2 * epsilon, 14 * epsilon)
    np.testing.assert_allclose(read("node-partitioned", "contrast-omnibus_stat-p"), expected, rtol=1e-4)
    surviving = read("node-partitioned", "contrast-omnibus_stat-F_desc-uncorrected") != 0
    np.testing.assert_array_equal(surviving, expected <= 0.05)
    result = find_result(node[1] / "node-partitioned", "omnibus", "uncorrected")
    assert float(result["dof_effect"]) == 2
    assert float(result["dof"]) == 14
    assert result["threshold_unit"] == "z"
    np.testing.assert_allclose(float(result["epsilon"]), np.median(epsilon), rtol=1e-6)


def test_the_pooled_error_term_is_judged_and_told_where_it_does_not_fit(node, values):
    data, _ = values
    summary = json.loads((node[1] / "node-pooled" / "model.json").read_text())
    centred = data - data.mean(axis=1, keepdims=True) - data.mean(axis=0) + data.mean(axis=(0, 1))
    pooled = (centred**2).sum(axis=(0, 1)) / 14
    own = (data[:, 0] - data[:, 1]).var(axis=0, ddof=1) / 2
    difference = next(one for one in summary["Contrasts"] if one["Label"] == "AMinusB")
    np.testing.assert_allclose(difference["VarianceRatio"], np.median(own / pooled), rtol=1e-5)
    gg = compute_epsilon(data)
    lecoutre = np.minimum(1, (8 * 2 * gg - 2) / (2 * (7 - 2 * gg)))
    np.testing.assert_allclose(summary["PooledEpsilon"], np.median(lecoutre), rtol=1e-5)
    assert summary["PooledEpsilon"] < 0.75
    assert any("assumes sphericity" in warning for warning in summary["Warnings"])
    report = (node[1] / "model-study_report.html").read_text()
    assert "use partitioned error terms" in report
    assert "Greenhouse-Geisser" in report


def test_subject_columns_are_not_in_the_design_of_partitioned_errors(node):
    header = (node[1] / "node-partitioned" / "design.tsv").read_text().splitlines()[0]
    assert header.split("\t") == list(CONDITIONS)


def test_d_of_a_within_subject_contrast_is_that_of_the_subjects_scores_whatever_the_error_term(values):
    data, read = values
    scores = data[:, 0] - data[:, 1]
    for folder in ("node-partitioned", "node-pooled"):
        np.testing.assert_allclose(
            read(folder, "contrast-AMinusB_stat-d"), scores.mean(axis=0) / scores.std(axis=0, ddof=1), **FLOAT32
        )


def test_with_two_conditions_both_error_terms_are_the_paired_test_however_the_design_is_coded(tmp_path):
    study = studies.write_study(tmp_path, studies.draw_maps({"A": 1.0, "B": 2.0}, seed=6))
    entries = [{"Correction": "none"}]
    codings = {"cells": (["A", "B", "subject"], ["A", "B"], [-1, 1]), "reference": ([1, "B", "subject"], ["B"], [1])}
    nodes = []
    for name, (terms, conditions, weights) in codings.items():
        contrast = {"Name": "x", "Test": "t", "ConditionList": conditions, "Weights": weights}
        for error_term in ("partitioned", "pooled"):
            settings = {"ErrorTerm": error_term, "Inference": entries}
            node = {"Name": f"{name}{error_term}", "Contrasts": [contrast]}
            document = builders.make_spec(
                "anova", conditions=("A", "B"), settings=settings, model={"X": terms}, node=node
            )
            nodes.append(document["Nodes"][0])
    output = studies.run_well(study, study.root / "out", {**document, "Nodes": nodes})
    mask = read_values(output / "node-cellspooled" / f"{PREFIX}desc-analysis_mask.nii.gz") > 0
    a, b = study.stack("A")[:, mask], study.stack("B")[:, mask]
    expected = {"t": stats.ttest_rel(b, a).statistic, "d": (b - a).mean(axis=0) / (b - a).std(axis=0, ddof=1)}
    for node in nodes:
        for stat, values in expected.items():
            found = read_values(output / f"node-{node['Name']}" / f"{PREFIX}contrast-x_stat-{stat}_statmap.nii.gz")[
                mask
            ]
            np.testing.assert_allclose(found, values, **FLOAT32, err_msg=f"{node['Name']} {stat}")
        summary = json.loads((output / f"node-{node['Name']}" / "model.json").read_text())
        ratio = summary["Contrasts"][0]["VarianceRatio"]
        assert ratio is None if "partitioned" in node["Name"] else abs(ratio - 1) < 1e-6


def test_random_fields_in_a_single_slice_have_no_smoothness_across_it(tmp_path):
    maps = {key: values[:, :, 2:3] for key, values in studies.draw_maps({"A": 1.0}, seed=8).items()}
    study = studies.write_study(tmp_path, maps)
    document = builders.make_spec(settings={"Inference": [{"Correction": "rft"}]})
    output = studies.run_well(study, study.root / "out", document)
    sidecar = json.loads((output / "node-mean" / f"{PREFIX}contrast-A_desc-rft_dseg.json").read_text())
    assert sidecar["SmoothnessFwhmMm"][2] is None
