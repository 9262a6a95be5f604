"""Conjunctions and comparisons through the command line: what is written, computed again from the maps on disk."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, find_result, read_values

CONDITIONS = ("A", "B", "C")
PAIR = ("AminusC", "BMinusC")
TESTED = [
    {"Name": "A minus C", "Test": "t", "ConditionList": ["A", "C"], "Weights": [1, -1]},
    {"Name": "BMinusC", "Test": "t", "ConditionList": ["B", "C"], "Weights": [1, -1]},
]
ENTRIES = [
    {"Correction": "none", "Alpha": 0.2, "ClusterExtent": 3},
    {"Correction": "fdr", "Alpha": 0.2},
    {"Correction": "bonferroni", "Alpha": 0.1, "Tail": "positive", "Name": "Up"},
    {"Correction": "permutation", "Alpha": 0.3, "Permutations": 60, "Levels": ["voxel", "cluster-size"]},
]
OVERALL = ("uncorrected", "fdr", "bonferroniUp", "voxelFWE", "permUncorrected", "permFDR")
FAMILYWISE = ("uncorrected", "bonferroniUp", "voxelFWE", "permUncorrected")
CONJUNCTIONS = [{"Name": "Both", "Contrasts": ["A minus C", "BMinusC"]}]


def run_study(root):
    study = studies.write_study(root, studies.draw_maps({"A": 1.6, "B": 1.4, "C": 0.0}, seed=4))
    settings = {"Inference": ENTRIES, "Conjunctions": CONJUNCTIONS, "ErrorTerm": "partitioned"}
    options = {"conditions": CONDITIONS, "node": {"Contrasts": TESTED, "Name": "own"}}
    document = builders.make_spec("anova", settings=settings, **options)
    pooled = {"Contrasts": TESTED[:1], "Name": "pooled"}
    other = builders.make_spec("anova", conditions=CONDITIONS, settings={"Inference": ENTRIES[:2]}, node=pooled)
    return studies.run_well(study, root / "out", {**document, "Nodes": [*document["Nodes"], *other["Nodes"]]})


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return run_study(tmp_path_factory.mktemp("conjunctions"))


@pytest.fixture(scope="module")
def read(output):
    """A function that reads the analysed values of a map."""
    mask = read_values(output / "node-own" / f"{PREFIX}desc-analysis_mask.nii.gz") > 0
    return lambda name, node="own": read_values(output / f"node-{node}" / f"{PREFIX}{name}.nii.gz")[mask].astype(float)


def read_pair(read, kind):
    return [read(f"contrast-{label}_{kind}_statmap") for label in PAIR]


def read_table(output, node="own"):
    return pd.read_csv(output / f"node-{node}" / "comparisons.tsv", sep="\t")


def test_z_is_the_weaker_of_both_and_p_the_larger(read):
    first, second = read_pair(read, "stat-z")
    same = np.sign(first) == np.sign(second)
    weaker = np.where(same, np.sign(first) * np.minimum(np.abs(first), np.abs(second)), 0.0)
    np.testing.assert_array_equal(read("contrast-Both_stat-z_statmap"), weaker)
    larger = np.maximum(*read_pair(read, "stat-p"))
    np.testing.assert_array_equal(read("contrast-Both_stat-p_statmap"), np.where(same, larger, 1.0))
    assert 0 < same.sum() < len(same)


@pytest.mark.parametrize("label", FAMILYWISE)
def test_corrected_p_is_the_larger_and_survivors_are_those_of_both(read, output, label):
    signs = [np.sign(one) for one in read_pair(read, "stat-z")]
    same = (signs[0] == signs[1]) | (label == "bonferroniUp")
    logp = np.where(same, np.minimum(*read_pair(read, f"stat-logp_desc-{label}")), 0.0)
    np.testing.assert_array_equal(read(f"contrast-Both_stat-logp_desc-{label}_statmap"), logp)
    first, second = (one != 0 for one in read_pair(read, f"stat-t_desc-{label}"))
    survivors = read(f"contrast-Both_stat-z_desc-{label}_statmap")
    if label == "uncorrected":  # whose extent is of the conjunction's own clusters
        sizes = pd.read_csv(output / f"node-own/{PREFIX}contrast-Both_desc-{label}_clusters.tsv", sep="\t")["n_voxels"]
        assert (sizes >= 3).all()
        assert not (survivors != 0)[~(first & second & same)].any()
    else:
        np.testing.assert_array_equal(survivors != 0, first & second & same)
    assert find_result(output / "node-own", "Both", label)["n_voxels"] == (survivors != 0).sum()


def test_something_survives_in_the_conjunction_and_less_than_in_each(output):
    counts = [find_result(output / "node-own", name, "uncorrected")["n_voxels"] for name in ("Both", *PAIR)]
    assert 0 < counts[0] < min(counts[1:])


@pytest.mark.parametrize(("label", "p"), [("fdr", "stat-p"), ("permFDR", "stat-logp_desc-permUncorrected")])
def test_false_discovery_rate_is_of_the_larger_p(read, label, p):
    pair = read_pair(read, p)
    larger = np.maximum(*pair) if p == "stat-p" else 10.0 ** -np.minimum(*pair)
    signs = [np.sign(one) for one in read_pair(read, "stat-z")]
    expected = stats.false_discovery_control(np.where(signs[0] == signs[1], larger, 1.0))
    np.testing.assert_allclose(10.0 ** -read(f"contrast-Both_stat-logp_desc-{label}_statmap"), expected, rtol=1e-5)


def test_results_have_the_corrections_of_all_contrasts_but_the_cluster_levels(output):
    results = pd.read_csv(output / "node-own" / "results.tsv", sep="\t")
    of_both = results[results["contrast"] == "Both"]
    assert tuple(of_both["correction"]) == OVERALL
    assert set(of_both["test"]) == {"z"}
    assert of_both["dof"].isna().all()
    assert not list((output / "node-own").glob("*contrast-Both*cluster*FWE*"))


def test_threshold_is_the_common_z_and_the_sidecar_has_each_contrast_s_own(output):
    found = find_result(output / "node-own", "Both", "uncorrected")
    assert found["threshold"] == pytest.approx(stats.norm.isf(0.1), rel=1e-9)
    assert np.isnan(find_result(output / "node-own", "Both", "voxelFWE")["threshold"])
    sidecar = json.loads((output / "node-own" / f"{PREFIX}contrast-Both_stat-z_desc-voxelFWE_statmap.json").read_text())
    assert sidecar["Conjunction"] == ["A minus C", "BMinusC"]
    own = [find_result(output / "node-own", label, "voxelFWE")["threshold"] for label in PAIR]
    np.testing.assert_allclose([one["Threshold"] for one in sidecar["ConjoinedThresholds"]], own, rtol=1e-9)


def test_corrections_and_contrasts_are_compared_by_the_voxels_of_their_maps(read, output):
    table = read_table(output)
    for kind in ("corrections", "contrasts"):
        rows = table[table["comparison"] == kind]
        assert len(rows)
        for row in rows.itertuples():
            pair = [
                read_survivors(read, *one)
                for one in ((row.contrast, row.correction), (row.other_contrast, row.other_correction))
            ]
            check_counts(row, *pair)


def read_survivors(read, contrast, correction, node="own"):
    test = "z" if contrast == "Both" else "t"
    return read(f"contrast-{contrast}_stat-{test}_desc-{correction}_statmap", node)


def check_counts(row, first, second):
    one, other = first != 0, second != 0
    expected = (one.sum(), other.sum(), (one & other).sum(), (one & ~other).sum(), (other & ~one).sum())
    assert (row.n_voxels, row.n_other_voxels, row.n_both, row.n_only, row.n_only_other) == expected
    if one.any() or other.any():
        assert row.dice == pytest.approx(2 * expected[2] / (expected[0] + expected[1]), rel=1e-9)
    else:
        assert np.isnan(row.dice)
    if not np.isnan(row.n_opposite):
        assert row.n_opposite == (first * second < 0).sum()


def test_every_pair_is_listed_once(output):
    table = read_table(output)
    counts = pd.read_csv(output / "node-own" / "results.tsv", sep="\t").groupby("contrast").size()
    assert (table["comparison"] == "corrections").sum() == sum(n * (n - 1) // 2 for n in counts)
    pairs = table[table["comparison"] == "contrasts"][["contrast", "other_contrast"]].drop_duplicates()
    assert len(pairs) == len(list(combinations(TESTED, 2)))


def test_nodes_are_compared_by_their_maps(read, output):
    for node, other in (("own", "pooled"), ("pooled", "own")):
        table = read_table(output, node)
        rows = table[table["comparison"] == "nodes"]
        assert list(rows["correction"]) == ["uncorrected", "fdr"]
        for row in rows.itertuples():
            assert (row.contrast, row.other_node) == ("AminusC", other)
            pair = [read_survivors(read, "AminusC", row.correction, name) for name in (node, other)]
            check_counts(row, *pair)
            z = [read("contrast-AminusC_stat-z_statmap", name) for name in (node, other)]
            assert row.correlation == pytest.approx(np.corrcoef(*z)[0, 1], rel=1e-9)
    figures = read_table(output)["figure"].dropna().unique()
    assert [(output / "node-own" / name).read_bytes()[:4] for name in figures] == [b"\x89PNG"]


def test_report_says_what_is_compared_and_that_a_conjunction_is_one(output):
    report = (output / "model-study_report.html").read_text()
    assert '<h2 id="comparisons">' in report
    assert "AminusC: own and pooled" in report
    assert "conjunction of AminusC, BMinusC" in report
    assert "each contrast&#39;s own" in report
    assert "nichols2005" in (output / "logs" / "model-study_methods.bib").read_text()
