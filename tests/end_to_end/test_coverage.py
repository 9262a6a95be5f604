"""Maps with holes through the command line: each voxel is tested with the maps that it has, and says how many."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from bids_group.outputs.naming import sidecar_name
from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import GROUPS, PREFIX, SUBJECTS, find_analysed, find_result, read_table, read_values

FLOAT32 = {"rtol": 2e-6, "atol": 2e-6}
DIFFERENCE = {"Name": "Difference", "Test": "t", "ConditionList": ["group[patient]", "group[control]"]}
ENTRIES = [{"Correction": "none", "Alpha": 0.05}, {"Correction": "fdr"}, {"Correction": "bonferroni"}]
ONE, TWO, THREE, PATIENTS = np.s_[1:3, 1, 1:3], np.s_[3, 2:4, :], np.s_[4, 3, :], np.s_[2, 4, 1:4]


def dig(maps):
    """Make holes: in one map, in two, in three, and in all maps of patients, zeros and NaN alike."""
    maps = {key: values.copy() for key, values in maps.items()}
    for (subject, contrast), values in maps.items():
        number = SUBJECTS.index(subject)
        if contrast == "A":
            values[ONE] = 0.0 if number == 2 else values[ONE]
            values[TWO] = np.nan if number in (1, 4) else values[TWO]
            values[THREE] = 0.0 if number in (0, 5, 6) else values[THREE]
            values[PATIENTS] = np.nan if GROUPS[number] == "patient" else values[PATIENTS]
    return maps


def make_groups(**options):
    contrast = {**DIFFERENCE, "Weights": [1, -1]}
    document = builders.make_spec(
        settings={"Inference": ENTRIES[:1], **options},
        model={"X": ["group"]},
        node={"Name": "groups", "Contrasts": [contrast]},
    )
    del document["Nodes"][0]["DummyContrasts"]
    return document


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    maps = studies.draw_maps({"A": 1.0, "B": 0.5, "C": 0.0}, seed=21)
    return studies.write_study(tmp_path_factory.mktemp("coverage"), dig(maps))


@pytest.fixture(scope="module")
def output(study):
    """The mean in voxels of at least six maps, a group difference in those of four, repeated measures in those of half."""
    mean = builders.make_spec(settings={"Inference": ENTRIES, "MinCoverage": 0.75}, Input={"desc": ["A"]})
    documents = {
        "one": {**mean, "Nodes": [mean["Nodes"][0], make_groups(MinCoverage=0.5)["Nodes"][0]]},
        "two": builders.make_spec(
            "anova", settings={"ErrorTerm": "partitioned", "MinCoverage": 0.5, "Inference": ENTRIES[:1]}
        ),
    }
    return {name: studies.run_well(study, study.root / name, document) for name, document in documents.items()}


def reader(folder, label, mask):
    return lambda stat: read_values(folder / f"{PREFIX}contrast-{label}_stat-{stat}_statmap.nii.gz")[mask]


def stack_present(study):
    """Return the maps of A with NaN where they are missing, and how many there are in each voxel."""
    data = study.stack("A")
    data = np.where(np.isfinite(data) & (data != 0), data, np.nan)
    return data, (~np.isnan(data)).sum(axis=0)


def test_the_mask_is_of_voxels_with_enough_maps_and_the_map_of_n_counts_them(study, output):
    _, count = stack_present(study)
    folder = output["one"] / "node-mean"
    mask = read_values(folder / f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz") > 0
    np.testing.assert_array_equal(mask, count >= 6)
    assert not mask[THREE].any()
    n = read_values(folder / f"{PREFIX}contrast-A_stat-n_statmap.nii.gz")
    assert n.dtype == np.int32
    np.testing.assert_array_equal(n, np.where(mask, count, 0))
    assert set(np.unique(n)) == {0, 6, 7, 8}
    dof = read_values(folder / f"{PREFIX}contrast-A_stat-dof_statmap.nii.gz")
    np.testing.assert_array_equal(dof, np.where(mask, count - 1, 0))


def test_every_voxel_has_the_t_test_of_its_own_maps(study, output):
    data, count = stack_present(study)
    mask = count >= 6
    read = reader(output["one"] / "node-mean", "A", mask)
    expected = stats.ttest_1samp(data[:, mask], 0.0, nan_policy="omit")
    sd = np.nanstd(data[:, mask], axis=0, ddof=1)
    np.testing.assert_allclose(read("t"), expected.statistic, **FLOAT32)
    np.testing.assert_allclose(read("p"), expected.pvalue, rtol=1e-5)
    z = stats.norm.isf(stats.t.sf(expected.statistic, count[mask] - 1))
    np.testing.assert_allclose(read("z"), z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(read("effect"), np.nanmean(data[:, mask], axis=0), **FLOAT32)
    np.testing.assert_allclose(read("variance"), sd**2 / count[mask], **FLOAT32)
    np.testing.assert_allclose(read("d"), np.nanmean(data[:, mask], axis=0) / sd, **FLOAT32)


def test_corrections_act_on_each_voxels_own_p_with_a_threshold_in_z(study, output):
    data, count = stack_present(study)
    mask = count >= 6
    folder = output["one"] / "node-mean"
    read = reader(folder, "A", mask)
    p = stats.ttest_1samp(data[:, mask], 0.0, nan_policy="omit").pvalue
    found = find_result(folder, "A", "bonferroni")
    assert found["threshold_unit"] == "z"
    np.testing.assert_allclose(float(found["threshold"]), stats.norm.isf(0.025 / mask.sum()), rtol=1e-9)
    assert (float(found["dof"]), int(found["n_voxels_tested"])) == (7, mask.sum())
    adjusted = {"uncorrected": p, "fdr": stats.false_discovery_control(p), "bonferroni": np.minimum(1, p * mask.sum())}
    for label, values in adjusted.items():
        np.testing.assert_allclose(10.0 ** -read(f"logp_desc-{label}"), values, rtol=1e-4, err_msg=label)
        surviving = read(f"t_desc-{label}") != 0
        np.testing.assert_array_equal(surviving, values <= 0.05, err_msg=label)
    assert (adjusted["uncorrected"] <= 0.05).sum() > 10


def test_voxels_without_patients_leave_the_mask_of_the_group_difference_and_are_told(study, output):
    data, count = stack_present(study)
    folder = output["one"] / "node-groups"
    mask = read_values(folder / f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz") > 0
    lost = np.zeros(mask.shape, bool)
    lost[PATIENTS] = True
    np.testing.assert_array_equal(mask, (count >= 4) & ~lost)
    read = reader(folder, "ADifference", mask)
    patients = np.array(GROUPS) == "patient"
    expected = stats.ttest_ind(data[patients][:, mask], data[~patients][:, mask], nan_policy="omit")
    np.testing.assert_allclose(read("t"), np.asarray(expected.statistic), **FLOAT32)
    np.testing.assert_allclose(read("p"), np.asarray(expected.pvalue), rtol=1e-5)
    summary = json.loads((folder / "contrast-A_model.json").read_text())
    reason = "Difference is not estimable from the maps that are left"
    assert summary["Mask"]["VoxelsUntestable"] == {reason: 3}
    told = f"3 of the {mask.sum() + 3} voxels with enough maps are left out: {reason}"
    assert told in summary["Warnings"]
    assert told in (output["one"] / "model-study_report.html").read_text()


def test_a_subject_takes_part_in_repeated_measures_where_all_of_its_maps_are(study, output):
    data, count = stack_present(study)
    a, b = data, study.stack("B")
    folder = output["two"] / "node-anova"
    mask = read_values(folder / f"{PREFIX}desc-analysis_mask.nii.gz") > 0
    np.testing.assert_array_equal(mask, (count >= 2) & (b != 0).all(axis=0))
    np.testing.assert_array_equal(reader(folder, "omnibus", mask)("n"), count[mask])
    read = reader(folder, "AMinusB", mask)
    expected = stats.ttest_1samp(a[:, mask] - b[:, mask], 0.0, nan_policy="omit")
    np.testing.assert_allclose(read("t"), expected.statistic, **FLOAT32)
    np.testing.assert_allclose(read("p"), expected.pvalue, rtol=1e-5)
    np.testing.assert_array_equal(reader(folder, "omnibus", mask)("dof"), 2 * (count[mask] - 1))


def test_coverage_is_told_wherever_the_mask_and_the_degrees_of_freedom_are(study, output):
    _, count = stack_present(study)
    folder = output["one"] / "node-mean"
    rule = "finite and non-zero in at least 75% of 8 maps"
    name = f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz"
    assert rule in json.loads((folder / sidecar_name(name)).read_text())["Description"]
    summary = json.loads((folder / "contrast-A_model.json").read_text())["Mask"]
    assert summary["Source"] == rule
    assert (summary["MinCoverage"], summary["VoxelsPartlyCovered"]) == (0.75, ((count >= 6) & (count < 8)).sum())
    assert rule in (output["one"] / "model-study_report.html").read_text()
    sidecar = json.loads((folder / f"{PREFIX}contrast-A_stat-t_statmap.json").read_text())
    assert (sidecar["MinCoverage"], sidecar["SubjectsRange"]) == (0.75, [6, 8])
    assert (sidecar["DegreesOfFreedom"], sidecar["DegreesOfFreedomRange"]) == ([7], [5, 7])
    quality = json.loads((folder / "contrast-A_quality.json").read_text())["Description"]
    assert f"in the voxels that all maps have ({summary['VoxelsPartlyCovered']} analysed ones are not)" in quality
    missing = read_table(folder / "contrast-A_quality.tsv")["n_voxels_missing"].astype(int).to_numpy()
    present = np.array([np.count_nonzero(~np.isnan(one)) for one in stack_present(study)[0]])
    np.testing.assert_array_equal(missing, present.max() - present)


def test_random_fields_and_coverage_exclude_each_other(study, capsys):
    document = builders.make_spec(settings={"MinCoverage": 0.9, "Inference": [{"Correction": "rft"}]})
    assert studies.run(study, study.root / "rft", study.write_spec(document, "rft.json")) == 65
    assert "MinCoverage" in capsys.readouterr().err


def test_without_a_hole_only_the_maps_of_n_and_dof_are_more(tmp_path):
    maps = studies.draw_maps({"A": 1.0}, seed=22)
    brain = find_analysed(maps)
    study = studies.write_study(tmp_path, {key: np.where(brain, values, 0) for key, values in maps.items()})
    outputs = [
        studies.run_well(study, tmp_path / name, builders.make_spec(settings={"Inference": ENTRIES[:1], **settings}))
        for name, settings in (("whole", {}), ("partial", {"MinCoverage": 0.5}))
    ]
    hashes = [studies.hash_tree(one / "node-mean", but=r"(json|png)$") for one in outputs]
    added = {f"{PREFIX}contrast-A_stat-{stat}_statmap.nii.gz" for stat in ("n", "dof")}
    assert set(hashes[1]) - set(hashes[0]) == added
    different = {name for name in hashes[0] if hashes[0][name] != hashes[1][name]}
    # The header of t maps has no degrees of freedom where they may differ.
    assert all("_stat-t_" in name for name in different)
    for name in different:
        np.testing.assert_array_equal(*(read_values(one / "node-mean" / name) for one in outputs))


def test_flips_of_the_maps_that_a_voxel_has_give_its_p(study, tmp_path):
    entry = {"Correction": "permutation", "Levels": ["voxel"]}
    document = builders.make_spec(settings={"Inference": [entry], "MinCoverage": 0.5}, Input={"desc": ["A"]})
    folder = studies.run_well(study, tmp_path / "out", document) / "node-mean"
    mask = read_values(folder / f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz") > 0
    data, _ = stack_present(study)
    data = data.reshape(len(SUBJECTS), -1)[:, mask.ravel()]
    z = []
    for signs in itertools.product((1, -1), repeat=len(SUBJECTS)):
        found = stats.ttest_1samp(np.array(signs)[:, np.newaxis] * data, 0, nan_policy="omit")
        z.append(np.abs(stats.norm.isf(stats.t.sf(np.abs(found.statistic), (~np.isnan(data)).sum(axis=0) - 1))))
    largest = np.max(z, axis=1)
    p = (largest[:, np.newaxis] >= z[0] * (1 - 1e-5)).mean(axis=0)
    logp = read_values(folder / f"{PREFIX}contrast-A_stat-logp_desc-voxelFWE_statmap.nii.gz")[mask]
    np.testing.assert_allclose(logp, -np.log10(p), rtol=1e-5, atol=1e-6)
    assert find_result(folder, "A", "voxelFWE")["threshold_unit"] == "z"
