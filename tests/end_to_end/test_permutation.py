"""Permutation tests through the command line: p that an enumeration by hand gives, and what is written of them."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, SUBJECTS, find_result, read_values

LABELS = ("voxelFWE", "clusterSizeFWE", "clusterMassFWE", "tfceFWE", "permUncorrected", "permFDR")
FLIPS = np.array(list(itertools.product((1, -1), repeat=len(SUBJECTS))))
ENTRY = {"Correction": "permutation", "Alpha": 0.05, "ClusterThreshold": {"p": 0.05}}


def make_document(*entries, **settings):
    return builders.make_spec(settings={"Inference": list(entries), **settings})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return studies.write_study(tmp_path_factory.mktemp("permutation"), studies.draw_maps({"A": 3.0}, seed=3))


@pytest.fixture(scope="module")
def node(study):
    """One-sample tests of eight subjects: all 256 flips are visited."""
    negative = {**ENTRY, "Tail": "negative", "Name": "Negative", "Levels": ["voxel", "cluster-size"]}
    output = studies.run_well(study, study.root / "out", make_document(ENTRY, negative))
    return output / "node-mean"


@pytest.fixture(scope="module")
def by_hand(study, node):
    """The t map of every flip, flips first, and the mask."""
    mask = read_values(node / f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz") > 0
    data = study.stack("A")[:, mask]
    flipped = np.einsum("fs,sv->fsv", FLIPS, data)
    return flipped.mean(axis=1) / (flipped.std(axis=1, ddof=1) / np.sqrt(len(SUBJECTS))), mask


def read_logp(node, label):
    return read_values(node / f"{PREFIX}contrast-A_stat-logp_desc-{label}_statmap.nii.gz")


def find_extents(values, mask, threshold):
    """The extent of the cluster that each voxel is in, both signs apart."""
    found = np.zeros(values.shape)
    for sign in (1, -1):
        volume = np.zeros(mask.shape, dtype=bool)
        volume[mask] = sign * values > threshold
        labels = ndimage.label(volume)[0][mask]
        sizes = np.bincount(labels)
        sizes[0] = 0
        found += sizes[labels]
    return found


def test_voxel_p_is_that_of_an_enumeration_by_hand(node, by_hand):
    t, mask = by_hand
    largest = np.abs(t).max(axis=1)
    p = (largest[:, np.newaxis] >= np.abs(t[0]) * (1 - 1e-5)).mean(axis=0)
    np.testing.assert_allclose(read_logp(node, "voxelFWE")[mask], -np.log10(p), rtol=1e-5, atol=1e-6)
    null = pd.read_csv(node / f"{PREFIX}contrast-A_desc-voxelFWE_null.tsv", sep="\t")["maximum"]
    np.testing.assert_allclose(np.sort(null), np.sort(largest), rtol=1e-5)
    assert null[0] == pytest.approx(largest[0], rel=1e-5)
    row = find_result(node, "A", "voxelFWE")
    assert row["threshold"] == pytest.approx(np.sort(largest)[::-1][12], rel=1e-5)  # 0.05 x 256 = 12.8
    assert (row["n_permutations"], row["exact"]) == (256, True)


def test_extent_p_is_that_of_an_enumeration_by_hand(node, by_hand):
    t, mask = by_hand
    threshold = stats.t.isf(0.025, 7)
    extents = np.array([find_extents(one, mask, threshold) for one in t])
    p = (extents.max(axis=1)[:, np.newaxis] >= extents[0]).mean(axis=0)
    expected = np.where(extents[0] > 0, -np.log10(p), 0.0)
    np.testing.assert_allclose(read_logp(node, "clusterSizeFWE")[mask], expected, rtol=1e-5, atol=1e-6)
    assert find_result(node, "A", "clusterSizeFWE")["cluster_threshold"] == pytest.approx(threshold)


def test_uncorrected_p_counts_the_flips_of_each_voxel(node, by_hand):
    t, mask = by_hand
    p = (np.abs(t) >= np.abs(t[0]) * (1 - 1e-5)).mean(axis=0)
    np.testing.assert_allclose(read_logp(node, "permUncorrected")[mask], -np.log10(p), rtol=1e-5, atol=1e-6)


def test_the_negative_tail_is_the_positive_one_of_the_negated_maps(node, by_hand):
    t, mask = by_hand
    largest = (-t).max(axis=1)
    p = (largest[:, np.newaxis] >= -t[0] - 1e-5 * np.abs(t[0])).mean(axis=0)
    np.testing.assert_allclose(read_logp(node, "voxelFWENegative")[mask], -np.log10(p), rtol=1e-4, atol=1e-5)
    assert find_result(node, "A", "voxelFWENegative")["threshold"] == pytest.approx(
        -np.sort(largest)[::-1][12], rel=1e-5
    )


@pytest.mark.parametrize("label", LABELS)
def test_map_tables_and_results_of_a_level_agree(node, label):
    stem = f"{PREFIX}contrast-A"
    surviving = read_values(node / f"{stem}_stat-t_desc-{label}_statmap.nii.gz")
    ids = read_values(node / f"{stem}_desc-{label}_dseg.nii.gz")
    clusters = pd.read_csv(node / f"{stem}_desc-{label}_clusters.tsv", sep="\t")
    row = find_result(node, "A", label)
    np.testing.assert_array_equal(surviving != 0, ids > 0)
    logp = read_logp(node, label)
    np.testing.assert_array_equal(surviving != 0, logp >= -np.log10(0.05) - 1e-6)
    assert row["n_voxels"] == np.count_nonzero(ids)
    assert row["n_clusters"] == len(clusters) == ids.max()
    # 2 / 256 is the smallest p: a false discovery rate of 5% over 148 voxels takes 24 of them, and the effect has 18.
    assert (len(clusters) > 0) == (label != "permFDR")
    t = read_values(node / f"{stem}_stat-t_statmap.nii.gz")
    np.testing.assert_array_equal(surviving[ids > 0], t[ids > 0])
    centres = clusters[["peak_x", "peak_y", "peak_z"]].to_numpy(dtype=float)
    peaks = np.rint((centres - builders.AFFINE[:3, 3]) @ np.linalg.inv(builders.AFFINE[:3, :3]).T).astype(int)
    assert ids[tuple(peaks.T)].tolist() == clusters["cluster_id"].tolist()
    np.testing.assert_allclose(clusters["p_corrected"].astype(float), 10.0 ** -logp[tuple(peaks.T)], rtol=1e-5)


def test_the_sidecar_says_what_was_rearranged(node):
    sidecar = json.loads((node / f"{PREFIX}contrast-A_stat-logp_desc-clusterMassFWE_statmap.json").read_text())
    assert sidecar["Rearrangement"] == "sign flips of subjects"
    assert (sidecar["Permutations"], sidecar["DistinctRearrangements"]) == (256, 256)
    assert sidecar["Exhaustive"] is sidecar["ExactTest"] is True
    assert sidecar["SmallestPossibleP"] == 2 / 256
    assert sidecar["MassDefinition"].startswith("sum over the cluster")
    assert not list(node.glob("*permFDR_null.tsv"))


def test_the_order_of_subjects_does_not_matter(study, node, tmp_path):
    renamed = {(SUBJECTS[len(SUBJECTS) - 1 - SUBJECTS.index(s)], c): values for (s, c), values in study.maps.items()}
    other = studies.write_study(tmp_path, renamed)
    output = studies.run_well(other, tmp_path / "out", make_document(ENTRY))
    for label in LABELS:
        np.testing.assert_allclose(read_logp(output / "node-mean", label), read_logp(node, label), rtol=1e-6, atol=1e-7)


def test_seed_and_number_can_be_overridden_and_workers_change_nothing(study, tmp_path):
    document = make_document({**ENTRY, "Permutations": 100, "Seed": 3})
    outputs = [
        studies.run_well(study, tmp_path / name, document, *options)
        for name, options in (
            ("one", ("--n-cpus", "1")),
            ("two", ("--n-cpus", "2", "--mem-gb", "0.00001")),
            ("seed", ("--random-seed", "4")),
            ("number", ("--n-permutations", "150")),
        )
    ]
    nulls = [(out / "node-mean" / f"{PREFIX}contrast-A_desc-tfceFWE_null.tsv").read_text() for out in outputs]
    assert nulls[0] == nulls[1] != nulls[2]
    assert nulls[0].splitlines() == nulls[3].splitlines()[:101]
    assert find_result(outputs[3] / "node-mean", "A", "voxelFWE")["n_permutations"] == 150
    maps = [studies.hash_tree(out / "node-mean", but=r"json$|figures|provenance") for out in outputs]
    assert maps[0] == maps[1]


def test_a_tail_can_be_fitted_and_the_label_says_so(study, tmp_path):
    entry = {**ENTRY, "Permutations": 200, "Levels": ["voxel"], "TailApproximation": True}
    node = studies.run_well(study, tmp_path / "out", make_document(entry)) / "node-mean"
    assert set(studies.read_table(node / "results.tsv")["correction"]) == {"voxelFWEGPD", "permUncorrected", "permFDR"}
    sidecar = json.loads((node / f"{PREFIX}contrast-A_stat-logp_desc-voxelFWEGPD_statmap.json").read_text())
    assert sidecar["TailApproximation"] == "generalised Pareto distribution"


def test_the_dry_run_shows_the_scheme(study, tmp_path, capsys):
    spec = study.write_spec(make_document({**ENTRY, "Permutations": 100}))
    assert studies.run(study, tmp_path / "out", spec, "--dry-run") == 0
    assert "A: 100 of 256 sign flips of subjects" in capsys.readouterr().out


def test_a_stopped_run_goes_on_where_it_was_and_ends_with_the_same_bytes(study, tmp_path):
    document = make_document({**ENTRY, "Permutations": 250, "Levels": ["tfce"]})
    undisturbed = studies.run_well(study, tmp_path / "undisturbed", document)
    spec = study.write_spec(document, "stopped.json")
    command = [sys.executable, "-c", STOPPED_RUN, str(study.bids), str(tmp_path / "out"), "group", "--model", str(spec)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    kept = tmp_path / "out" / ".work" / "checkpoints"
    while process.poll() is None and not list(kept.glob("*.npz")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 75, told
    assert [path.suffix for path in kept.iterdir()] == [".npz"]
    assert studies.run(study, tmp_path / "out", spec) == 0
    assert not (tmp_path / "out" / ".work").exists()
    ignored = r"figures|json$|provenance|log|report"
    assert studies.hash_tree(tmp_path / "out", but=ignored) == studies.hash_tree(undisturbed, but=ignored)


# The same program, each batch slowed down, so that it can be stopped between two of them.
STOPPED_RUN = """
import sys, time
from bids_group import checkpoints, cli
checkpoints.SECONDS_BETWEEN = 0.0
keep = checkpoints.Checkpoints.keep
def keep_slowly(self, digest, arrays):
    keep(self, digest, arrays)
    time.sleep(2)
checkpoints.Checkpoints.keep = keep_slowly
sys.exit(cli.main(sys.argv[1:]))
"""
