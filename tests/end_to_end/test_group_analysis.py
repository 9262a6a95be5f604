"""From the command line to every file of the contract, checked against other programs and plain arithmetic."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import (
    AGES,
    GROUPS,
    PREFIX,
    SUBJECTS,
    VOXEL_VOLUME,
    find_result,
    list_files,
    read_image,
    read_table,
    read_values,
)

RESULT_COLUMNS = [
    *("contrast", "test", "correction", "tail", "alpha", "threshold", "n_voxels", "n_clusters"),
    *("peak_value", "peak_x", "peak_y", "peak_z", "n_permutations", "exact", "threshold_z", "threshold_unit"),
    "cluster_threshold",
]
FLOAT32 = {"rtol": 2e-6, "atol": 2e-6}  # maps are written as float32
EXTENT = 4
MEAN_INFERENCE = [
    {"Correction": "none", "Alpha": 0.01, "ClusterExtent": EXTENT, "Contrasts": ["A"]},
    {"Correction": "bonferroni", "Tail": "positive"},
    {"Correction": "bonferroni", "Tail": "negative", "Name": "Negative", "Contrasts": ["B"]},
    {"Correction": "fdr", "Alpha": 0.1, "Contrasts": ["A"]},
]
MEAN_RESULTS = [
    ("A", "uncorrected"),
    ("A", "bonferroni"),
    ("A", "fdr"),
    ("B", "bonferroni"),
    ("B", "bonferroniNegative"),
]
GROUP_CONTRAST = {"Test": "t", "ConditionList": ["group[patient]", "group[control]"], "Weights": [1, -1]}
D_MAPS, ETA_MAPS = ("d", "dlower", "dupper"), ("etasq", "etasqlower", "etasqupper")
CONDITIONS = [f"{repetition}{face}" for face in ("FF", "UF", "SF") for repetition in ("Ini", "Imm", "Del")]


MODEL_FILES = ("design.tsv", "contrasts.tsv", "quality.tsv", "quality.json", "model.json")


def name_result_files(contrast, test, correction):
    start = f"{PREFIX}contrast-{contrast}_"
    maps = [f"{start}stat-{kind}_desc-{correction}_statmap" for kind in (test, "logp")]
    maps.append(f"{start}desc-{correction}_dseg")
    tables = [f"{start}desc-{correction}_{kind}" for kind in ("clusters", "peaks")]
    names = [f"{name}{end}" for name in maps for end in (".nii.gz", ".json")]
    return {*names, *(f"{name}{end}" for name in tables for end in (".tsv", ".json"))}


def name_contrast_files(contrast, kinds):
    names = [f"{PREFIX}contrast-{contrast}_stat-{kind}_statmap" for kind in kinds]
    return {f"{name}{end}" for name in names for end in (".nii.gz", ".json")}


def statmap(contrast, stat, correction=None):
    desc = f"desc-{correction}_" if correction else ""
    return f"{PREFIX}contrast-{contrast}_stat-{stat}_{desc}statmap.nii.gz"


@pytest.fixture(scope="module")
def one_sample(tmp_path_factory):
    """Two contrasts, one with an effect in a corner and one of noise, in a model each."""
    root = tmp_path_factory.mktemp("one_sample")
    study = studies.write_study(root, studies.draw_maps({"A": 5.0, "B": 0.0}))
    before = studies.hash_tree(study.bids)
    document = builders.make_spec(settings={"Inference": MEAN_INFERENCE})
    output = studies.run_well(study, root / "out", document)
    assert studies.hash_tree(study.bids) == before, "BIDS_DIR was written to"
    return study, output


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Several nodes on one set of maps: two groups, with a covariate, and a mean."""
    root = tmp_path_factory.mktemp("groups")
    study = studies.write_study(root, studies.draw_maps({"A": 3.0}, seed=1))
    none = {"Software": {"bids_group": {"Inference": [{"Correction": "none", "Tail": "negative"}]}}}
    fdr = {"Software": {"bids_group": {"Inference": [{"Correction": "fdr"}]}}}
    slope = {"Name": "age slope", "Test": "F", "ConditionList": ["age"], "Weights": [1]}
    nodes = [
        make_node("two-sample", {"X": ["group"], **none}, Contrasts=[{"Name": "Patient > Control", **GROUP_CONTRAST}]),
        make_node("ancova", {"X": ["group", "age"], **fdr}, Contrasts=[{"Name": "diff", **GROUP_CONTRAST}, slope]),
        make_node("mean", {"X": [1], **fdr}, DummyContrasts={"Test": "t"}),
    ]
    document = {"Name": "group study", "BIDSModelVersion": "1.0.0", "Input": {"task": "x"}, "Nodes": nodes}
    return study, studies.run_well(study, root / "out", document)


@pytest.fixture(scope="module")
def anova(tmp_path_factory):
    """Nine conditions of five subjects with a pooled error, and a paired test of two of the nine."""
    root = tmp_path_factory.mktemp("anova")
    effects = {name: 1.5 * (not name.endswith("SF")) + 0.5 * name.startswith("Ini") for name in CONDITIONS}
    maps = studies.draw_maps(effects, subjects=SUBJECTS[:5], shape=(4, 6, 4), seed=2)
    study = studies.write_study(root, maps)
    pooled = {"ErrorTerm": "pooled", "Inference": [{"Correction": "fdr"}]}
    software = {"Software": {"bids_group": pooled}}
    face = [[1, 1, 1, -1, -1, -1, 0, 0, 0], [0, 0, 0, 1, 1, 1, -1, -1, -1]]
    thirds = ["1/6"] * 6 + ["-1/3"] * 3
    contrasts = [
        {"Name": "FacesScrambled", "Test": "t", "ConditionList": CONDITIONS, "Weights": thirds},
        {"Name": "Face", "Test": "F", "ConditionList": CONDITIONS, "Weights": face},
    ]
    pair = {"Name": "pair", "Test": "t", "ConditionList": ["IniFF", "IniSF"], "Weights": [1, -1]}
    two = {
        "Transformer": "pybids-transforms-v1",
        "Instructions": [{"Name": "Filter", "Input": ["contrast"], "Query": "contrast in ['IniFF', 'IniSF']"}],
    }
    nodes = [
        make_node("anova", {"X": [*CONDITIONS, "subject"], **software}, Contrasts=contrasts),
        make_node("paired", {"X": ["IniFF", "IniSF", "subject"], **software}, Contrasts=[pair], Transformations=two),
    ]
    document = {"Name": "anova", "BIDSModelVersion": "1.0.0", "Nodes": nodes}
    return study, studies.run_well(study, root / "out", document)


def make_node(name, model, **keys):
    return {"Level": "Dataset", "Name": name, "GroupBy": [], "Model": {"Type": "glm", **model}, **keys}


def compute_ols_t(data, design, contrast):
    """Return t of a contrast by the normal equations."""
    inverse = np.linalg.pinv(design.T @ design)
    coefficients = inverse @ design.T @ data
    residuals = data - design @ coefficients
    variance = (residuals**2).sum(axis=0) / (len(data) - np.linalg.matrix_rank(design))
    return contrast @ coefficients / np.sqrt(contrast @ inverse @ contrast * variance)


# Names


def test_every_file_of_the_contract_is_there_and_no_other(one_sample):
    _, output = one_sample
    models = {f"contrast-{c}_{kind}" for c in "AB" for kind in MODEL_FILES}
    masks = {f"{PREFIX}contrast-{c}_desc-analysis_mask{end}" for c in "AB" for end in (".nii.gz", ".json")}
    maps = set.union(*(name_contrast_files(c, ("effect", "variance", "t", "z", "p", *D_MAPS)) for c in "AB"))
    results = set.union(*(name_result_files(c, "t", correction) for c, correction in MEAN_RESULTS))
    found = {name for name in list_files(output / "node-mean") if not name.startswith("figures/")}
    tables = {"inputs.tsv", "results.tsv", "comparisons.tsv", "comparisons.json"}
    assert found == tables | models | masks | maps | results
    top = {name for name in list_files(output) if not name.startswith("node-mean/")}
    logs = {
        f"logs/model-study_{end}" for end in ("log.txt", "provenance.json", "methods.md", "methods.tex", "methods.bib")
    }
    named = {"dataset_description.json", ".bidsignore", "model-study_report.html", "model-study_smdl.json"}
    assert top == named | logs


def test_f_contrast_has_f_z_p_and_no_effect(anova):
    _, output = anova
    found = {name for name in list_files(output / "node-anova") if "contrast-Face_" in name and "figures/" not in name}
    assert found == name_contrast_files("Face", ("F", "z", "p", *ETA_MAPS)) | name_result_files("Face", "F", "fdr")


def test_several_nodes_have_a_folder_each_and_labels_drop_what_bids_does_not_allow(groups):
    _, output = groups
    assert {path.name for path in output.glob("node-*")} == {"node-twosample", "node-ancova", "node-mean"}
    assert (output / "node-twosample" / statmap("PatientControl", "t")).is_file()
    assert (output / "node-mean" / statmap("intercept", "t")).is_file()
    assert (output / "model-groupstudy_report.html").is_file()
    assert json.loads((output / "model-groupstudy_smdl.json").read_text())["Name"] == "group study"


# Maps


@pytest.mark.parametrize("study_name", ["one_sample", "groups", "anova"])
def test_every_map_is_on_the_grid_finite_and_empty_outside_the_mask(study_name, request):
    study, output = request.getfixturevalue(study_name)
    paths = sorted(output.rglob("*.nii.gz"))
    assert len(paths) > 10
    shape = next(iter(study.maps.values())).shape
    for path in paths:
        image, values = read_image(path), read_values(path)
        whole = path.name.endswith(("_dseg.nii.gz", "_mask.nii.gz"))
        assert image.get_data_dtype() == (np.int32 if whole else np.float32), path.name
        assert values.shape == shape, path.name
        np.testing.assert_allclose(image.affine, builders.AFFINE, atol=1e-6)
        assert np.isfinite(values).all(), path.name
        by_contrast = re.search(r"contrast-[AB]_", path.name) if study_name == "one_sample" else None
        mask = path.parent / f"{PREFIX}{by_contrast[0] if by_contrast else ''}desc-analysis_mask.nii.gz"
        outside = values[read_values(mask) == 0]
        assert (outside == (1 if "stat-p_" in path.name else 0)).all(), path.name


def test_mask_is_what_is_finite_and_not_zero_in_all_maps_of_a_model(one_sample):
    study, output = one_sample
    for contrast in "AB":
        expected = studies.find_analysed({key: values for key, values in study.maps.items() if key[1] == contrast})
        found = read_values(output / "node-mean" / f"{PREFIX}contrast-{contrast}_desc-analysis_mask.nii.gz")
        np.testing.assert_array_equal(found, expected)
        sidecar = json.loads((output / f"node-mean/{PREFIX}contrast-{contrast}_desc-analysis_mask.json").read_text())
        assert sidecar["NumberOfVoxels"] == expected.sum()


def test_one_sample_t_is_that_of_scipy(one_sample):
    study, output = one_sample
    node = output / "node-mean"
    for contrast in "AB":
        mask = read_values(node / f"{PREFIX}contrast-{contrast}_desc-analysis_mask.nii.gz") > 0
        data = study.stack(contrast)[:, mask]
        expected = stats.ttest_1samp(data, 0.0)
        np.testing.assert_allclose(read_values(node / statmap(contrast, "t"))[mask], expected.statistic, **FLOAT32)
        np.testing.assert_allclose(read_values(node / statmap(contrast, "p"))[mask], expected.pvalue, rtol=1e-5)
        np.testing.assert_allclose(read_values(node / statmap(contrast, "effect"))[mask], data.mean(0), **FLOAT32)
        variance = data.var(axis=0, ddof=1) / len(data)
        np.testing.assert_allclose(read_values(node / statmap(contrast, "variance"))[mask], variance, **FLOAT32)
        z = read_values(node / statmap(contrast, "z"))[mask]
        np.testing.assert_allclose(stats.norm.sf(z), stats.t.sf(expected.statistic, len(data) - 1), rtol=2e-5)


def test_two_sample_t_is_that_of_scipy(groups):
    study, output = groups
    node = output / "node-twosample"
    mask = studies.find_analysed(study.maps)
    data, is_patient = study.stack("A")[:, mask], np.array(GROUPS) == "patient"
    expected = stats.ttest_ind(data[is_patient], data[~is_patient])
    np.testing.assert_allclose(read_values(node / statmap("PatientControl", "t"))[mask], expected.statistic, **FLOAT32)
    np.testing.assert_allclose(read_values(node / statmap("PatientControl", "p"))[mask], expected.pvalue, rtol=1e-5)


def test_t_beside_a_covariate_is_that_of_the_normal_equations(groups):
    study, output = groups
    mask = studies.find_analysed(study.maps)
    is_patient = np.array(GROUPS) == "patient"
    design = np.column_stack([~is_patient, is_patient, AGES]).astype(float)
    expected = compute_ols_t(study.stack("A")[:, mask], design, np.array([-1.0, 1.0, 0.0]))
    found = read_values(output / "node-ancova" / statmap("diff", "t"))[mask]
    np.testing.assert_allclose(found, expected, **FLOAT32)
    slope = compute_ols_t(study.stack("A")[:, mask], design, np.array([0.0, 0.0, 1.0]))
    found = read_values(output / "node-ancova" / statmap("ageslope", "F"))[mask]
    np.testing.assert_allclose(found, slope**2, rtol=1e-5, atol=1e-6)


def test_paired_t_is_that_of_scipy(anova):
    study, output = anova
    kept = {key: values for key, values in study.maps.items() if key[1] in ("IniFF", "IniSF")}
    mask = studies.find_analysed(kept)
    expected = stats.ttest_rel(study.stack("IniFF")[:, mask], study.stack("IniSF")[:, mask])
    found = read_values(output / "node-paired" / statmap("pair", "t"))[mask]
    np.testing.assert_allclose(found, expected.statistic, **FLOAT32)
    reasons = read_table(output / "node-paired" / "inputs.tsv").query("included == 'no'")["reason"]
    assert len(reasons) == 35
    assert reasons.str.contains("Filter").all()


def test_repeated_measures_t_and_f_are_those_of_statsmodels(anova):
    study, output = anova
    node, mask = output / "node-anova", studies.find_analysed(study.maps)
    voxels = np.argwhere(mask)[::9]
    rows = pd.DataFrame([{"subject": s, "condition": c} for s in SUBJECTS[:5] for c in CONDITIONS])
    # Condition means of the cell-means model: intercept and subject effects cancel in both contrasts.
    cells = [f"C(condition)[{name}]" for name in CONDITIONS]
    weights = {"Face": [[1] * 3 + [-1] * 3 + [0] * 3, [0] * 3 + [1] * 3 + [-1] * 3], "FacesScrambled": [[1 / 6] * 6 + [-1 / 3] * 3]}  # fmt: skip
    for voxel in map(tuple, voxels):
        rows["y"] = [float(study.maps[s, c][voxel]) for s, c in zip(rows["subject"], rows["condition"], strict=True)]
        fit = ols("y ~ 0 + C(condition) + C(subject)", rows).fit()
        assert fit.df_resid == 32
        contrast = {name: np.zeros((len(lines), len(fit.params))) for name, lines in weights.items()}
        for name, lines in weights.items():
            contrast[name][:, [list(fit.params.index).index(cell) for cell in cells]] = lines
        f = float(fit.f_test(contrast["Face"]).fvalue)
        t = float(np.squeeze(fit.t_test(contrast["FacesScrambled"]).tvalue))
        assert read_values(node / statmap("Face", "F"))[voxel] == pytest.approx(f, rel=1e-5, abs=1e-5)
        assert read_values(node / statmap("FacesScrambled", "t"))[voxel] == pytest.approx(t, rel=1e-5, abs=1e-5)


# Inference


def correct_independently(p, correction):
    if correction.startswith("bonferroni"):
        return np.minimum(1.0, p * p.size)
    return multipletests(p, method="fdr_bh")[1] if correction == "fdr" else p


@pytest.mark.parametrize(("contrast", "correction"), MEAN_RESULTS)
def test_logp_and_survivors_are_those_of_p_computed_independently(one_sample, contrast, correction):
    study, output = one_sample
    node, row = output / "node-mean", find_result(output / "node-mean", contrast, correction)
    mask = read_values(node / f"{PREFIX}contrast-{contrast}_desc-analysis_mask.nii.gz") > 0
    side = {"two-sided": "two-sided", "positive": "greater", "negative": "less"}[row["tail"]]
    test = stats.ttest_1samp(study.stack(contrast)[:, mask], 0.0, alternative=side)
    p = correct_independently(test.pvalue, correction)
    logp = read_values(node / statmap(contrast, "logp", correction))[mask]
    np.testing.assert_allclose(logp, -np.log10(p), rtol=1e-5, atol=1e-6)
    survives = p <= row["alpha"]
    surviving = read_values(node / statmap(contrast, "t", correction))
    if correction == "uncorrected":
        survives = remove_small(survives, test.statistic, mask)
    np.testing.assert_allclose(surviving[mask], np.where(survives, test.statistic, 0.0), **FLOAT32)
    assert row["n_voxels"] == survives.sum()


def test_p_z_and_logp_of_f_are_those_of_its_upper_tail(anova):
    study, output = anova
    node, mask = output / "node-anova", studies.find_analysed(study.maps)
    p = stats.f.sf(read_values(node / statmap("Face", "F"))[mask].astype(float), 2, 32)
    np.testing.assert_allclose(read_values(node / statmap("Face", "p"))[mask], p, rtol=2e-5)
    np.testing.assert_allclose(stats.norm.sf(read_values(node / statmap("Face", "z"))[mask]), p, rtol=2e-5)
    logp = read_values(node / statmap("Face", "logp", "fdr"))[mask]
    np.testing.assert_allclose(logp, -np.log10(correct_independently(p, "fdr")), rtol=2e-5, atol=1e-5)
    assert ((logp >= -np.log10(0.05)) == (read_values(node / statmap("Face", "F", "fdr"))[mask] > 0)).all()


def remove_small(survives, statistic, mask):
    kept = np.zeros(mask.shape, dtype=bool)
    for sign in (1, -1):
        volume = np.zeros(mask.shape, dtype=bool)
        volume[mask] = survives & (sign * statistic > 0)
        labels, n = ndimage.label(volume)
        for i in range(1, n + 1):
            kept |= (labels == i) if (labels == i).sum() >= EXTENT else False
    return kept[mask]


def test_cluster_extent_acts_on_the_survivors_and_not_on_logp(one_sample):
    _, output = one_sample
    node = output / "node-mean"
    surviving = read_values(node / statmap("A", "t", "uncorrected")) != 0
    below_alpha = read_values(node / statmap("A", "logp", "uncorrected")) >= 2
    assert 0 < surviving.sum() < below_alpha.sum()
    sizes = pd.read_csv(node / f"{PREFIX}contrast-A_desc-uncorrected_clusters.tsv", sep="\t")["n_voxels"]
    assert sizes.min() >= EXTENT


@pytest.mark.parametrize("study_name", ["one_sample", "groups", "anova"])
def test_ids_agree_between_dseg_clusters_and_peaks(study_name, request):
    _, output = request.getfixturevalue(study_name)
    for path in sorted(output.rglob("*_dseg.nii.gz")):
        labels = read_values(path)
        clusters = pd.read_csv(str(path).replace("_dseg.nii.gz", "_clusters.tsv"), sep="\t")
        peaks = pd.read_csv(str(path).replace("_dseg.nii.gz", "_peaks.tsv"), sep="\t")
        sizes = np.bincount(labels.ravel())[1:]
        assert list(clusters["cluster_id"]) == list(range(1, labels.max() + 1))
        assert list(clusters["n_voxels"]) == list(sizes)
        np.testing.assert_allclose(clusters["volume_mm"].astype(float), VOXEL_VOLUME * sizes)
        assert set(peaks["cluster_id"]) == set(clusters["cluster_id"])
        check_peaks(peaks, labels)
        positive_first = clusters.assign(positive=clusters["peak_value"] > 0)[["positive", "volume_mm"]]
        assert positive_first.equals(positive_first.sort_values(["positive", "volume_mm"], ascending=False))


def check_peaks(peaks, labels):
    """Each peak lies in its cluster, at the world coordinate of a voxel."""
    world = peaks[["peak_x", "peak_y", "peak_z"]].to_numpy(dtype=float)
    voxels = np.rint((world - builders.AFFINE[:3, 3]) @ np.linalg.inv(builders.AFFINE[:3, :3]).T).astype(int)
    assert [labels[tuple(voxel)] for voxel in voxels] == list(peaks["cluster_id"])


def test_clusters_carry_the_mean_and_extreme_of_their_voxels(one_sample):
    _, output = one_sample
    node = output / "node-mean"
    labels = read_values(node / f"{PREFIX}contrast-A_desc-uncorrected_dseg.nii.gz")
    t = read_values(node / statmap("A", "t"))
    clusters = pd.read_csv(node / f"{PREFIX}contrast-A_desc-uncorrected_clusters.tsv", sep="\t")
    assert len(clusters) > 0
    for row in clusters.itertuples():
        inside = t[labels == row.cluster_id]
        assert row.cluster_mean == pytest.approx(inside.mean(dtype=float), rel=1e-5)
        assert row.peak_value == pytest.approx(inside[np.argmax(np.abs(inside))], rel=1e-6)


def test_nothing_survived_is_a_result(one_sample):
    _, output = one_sample
    node = output / "node-mean"
    for correction in ("bonferroni", "bonferroniNegative"):
        row = find_result(node, "B", correction)
        assert (row["n_voxels"], row["n_clusters"]) == (0, 0)
        assert row[["peak_value", "peak_x", "peak_y", "peak_z"]].isna().all()
        for kind, mean in (("clusters", {"cluster_mean"}), ("peaks", set())):
            table = read_table(node / f"{PREFIX}contrast-B_desc-{correction}_{kind}.tsv")
            assert len(table) == 0
            columns = {"cluster_id", "peak_x", "peak_y", "peak_z", "peak_value", "volume_mm"} | mean
            assert columns <= set(table.columns)
        assert not read_values(node / statmap("B", "t", correction)).any()
        assert not read_values(node / f"{PREFIX}contrast-B_desc-{correction}_dseg.nii.gz").any()
    assert "Nothing survived" in (output / "model-study_report.html").read_text()


# Tables and sidecars


def test_results_have_the_columns_of_the_contract_in_order(one_sample, anova):
    table = read_table(one_sample[1] / "node-mean" / "results.tsv")
    assert list(table.columns[: len(RESULT_COLUMNS)]) == RESULT_COLUMNS
    assert list(zip(table["contrast"], table["correction"], strict=True)) == MEAN_RESULTS
    assert set(table["n_permutations"]) | set(table["exact"]) | set(table["cluster_threshold"]) == {"n/a"}
    row = table.iloc[1]
    n_voxels = int(read_values(one_sample[1] / f"node-mean/{PREFIX}contrast-A_desc-analysis_mask.nii.gz").sum())
    assert float(row["threshold"]) == pytest.approx(stats.t.isf(0.05 / n_voxels, 7))
    assert float(row["threshold_z"]) == pytest.approx(stats.norm.isf(0.05 / n_voxels))
    assert row["threshold_unit"] == "t"
    tails = read_table(anova[1] / "node-anova" / "results.tsv").set_index("contrast")["tail"]
    assert dict(tails) == {"FacesScrambled": "two-sided", "Face": "n/a"}


def test_design_contrasts_and_inputs_are_the_model_as_it_was_fitted(groups):
    study, output = groups
    node = output / "node-ancova"
    design = pd.read_csv(node / "design.tsv", sep="\t")
    assert list(design.columns) == ["group[control]", "group[patient]", "age"]
    np.testing.assert_array_equal(design["group[patient]"], [float(g == "patient") for g in GROUPS])
    np.testing.assert_allclose(design["age"], AGES)
    contrasts = pd.read_csv(node / "contrasts.tsv", sep="\t")
    assert list(contrasts["contrast"]) == ["diff", "ageslope"]
    assert contrasts.loc[0, ["group[control]", "group[patient]", "age"]].tolist() == [-1, 1, 0]
    inputs = read_table(node / "inputs.tsv")
    assert list(inputs["design_row"]) == [str(i) for i in range(len(SUBJECTS))]
    assert list(inputs["file"]) == [f"bids:firstlevel:{studies.name_map(s, 'A')}" for s in SUBJECTS]
    assert set(inputs["included"]) == {"yes"}
    assert (study.firstlevel / inputs["file"][0].removeprefix("bids:firstlevel:")).is_file()


def test_every_map_and_result_table_has_a_sidecar_that_says_how_it_was_made(anova):
    study, output = anova
    for path in sorted((output / "node-anova").rglob("*.nii.gz")):
        sidecar = json.loads((path.parent / path.name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["Description"]
        assert sidecar["Sources"] == [f"bids:firstlevel:{studies.name_map(*key)}" for key in sorted(study.maps)]
        if "_mask" in path.name:
            continue
        assert {"Contrast", "Statistic", "DegreesOfFreedom", "Tail", "Units", "Model", "ErrorTerm"} <= set(sidecar)
        assert sidecar["DegreesOfFreedom"] == ([2, 32] if "contrast-Face_" in path.name else [32])
        if "_desc-" in path.name:
            assert {"Correction", "Alpha", "Threshold", "ThresholdUnit", "ClusterExtent", "Connectivity"} <= set(
                sidecar
            )


def test_header_of_a_statistic_holds_its_degrees_of_freedom(anova):
    node = anova[1] / "node-anova"
    assert read_image(node / statmap("FacesScrambled", "t")).header.get_intent()[:2] == ("t test", (32.0,))
    assert read_image(node / statmap("Face", "F")).header.get_intent()[:2] == ("f test", (2.0, 32.0))


def test_figures_are_there_for_the_design_the_weights_and_every_result(one_sample):
    figures = list_files(one_sample[1] / "node-mean" / "figures")
    kinds = ("design", "contrasts", "mask", "quality", "spread", "subjects")
    expected = {f"contrast-{c}_{kind}.png" for c in "AB" for kind in kinds}
    expected |= {f"{PREFIX}contrast-{c}_{kind}.png" for c in "AB" for kind in ("mosaic", "qq")}
    expected.add(f"{PREFIX}contrast-A_effects.png")  # nothing survives in B
    expected |= {f"{PREFIX}contrast-{c}_desc-{correction}_ortho.png" for c, correction in MEAN_RESULTS}
    results = read_table(one_sample[1] / "node-mean" / "results.tsv")
    survived = results[results["n_clusters"].astype(int) > 0]
    assert set(survived["contrast"]) == {"A"}
    expected |= {f"{PREFIX}contrast-A_desc-{correction}_clusters.png" for correction in survived["correction"]}
    plots = ("design.png", "contrasts.png", "quality.png", "effects.png", "qq.png")
    expected |= {name.replace(".png", ".svg") for name in expected if name.endswith(plots)}
    assert figures == expected


def test_sidecar_of_a_table_describes_its_columns_and_no_others(anova):
    for path in sorted((anova[1] / "node-anova").glob("*_desc-*.tsv")):
        sidecar = json.loads(path.with_suffix(".json").read_text())
        described = {name for name, value in sidecar.items() if isinstance(value, dict) and "Description" in value}
        assert described == set(read_table(path).columns), path.name


@pytest.mark.parametrize("study_name", ["one_sample", "groups", "anova"])
def test_summary_says_of_every_result_what_results_tsv_says(study_name, request):
    _, output = request.getfixturevalue(study_name)
    for node in sorted(output.glob("node-*")):
        summaries = [json.loads(path.read_text()) for path in sorted(node.glob("*model.json"))]
        said = [
            (contrast["Label"], found["Label"], found["Voxels"], found["Clusters"], found["Threshold"])
            for summary in summaries
            for contrast in summary["Contrasts"]
            for found in contrast["Inferences"]
        ]
        table = pd.read_csv(node / "results.tsv", sep="\t")
        columns = ["contrast", "correction", "n_voxels", "n_clusters"]
        assert [one[:4] for one in said] == list(table[columns].itertuples(index=False, name=None))
        thresholds = [np.nan if one[4] is None else one[4] for one in said]
        np.testing.assert_allclose(thresholds, table["threshold"], rtol=1e-9)
        check_files_exist(node, summaries)


def check_files_exist(node, summaries):
    """Every file that a summary names is there."""
    named = re.findall(r'"([^"]+\.(?:nii\.gz|tsv|png))"', json.dumps(summaries))
    assert named
    assert [name for name in named if not (node / name).is_file()] == []


def test_record_of_the_run_names_command_versions_and_warnings(one_sample):
    study, output = one_sample
    record = json.loads((output / "logs" / "model-study_provenance.json").read_text())
    assert record["Command"][:2] == ["bids_group", str(study.bids)]
    assert record["Packages"]["numpy"] == np.__version__
    assert record["Nodes"] == [
        {"Name": "mean", "Folder": "node-mean", "Models": ["contrast-A_model.json", "contrast-B_model.json"]}
    ]
    log = (output / "logs" / "model-study_log.txt").read_text()
    assert "INFO: found 16 maps of 8 subjects" in log
    assert "twice the alpha" in log


def test_effect_sizes_are_those_of_the_formulas_with_intervals_from_the_noncentral_t(one_sample):
    study, output = one_sample
    mask = read_values(output / "node-mean" / f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz") > 0
    data = study.stack("A")[:, mask]
    d, lower, upper = (read_values(output / "node-mean" / statmap("A", name))[mask] for name in D_MAPS)
    np.testing.assert_allclose(d, data.mean(axis=0) / data.std(axis=0, ddof=1), **FLOAT32)
    n = len(data)
    t = d.astype(float) * np.sqrt(n)
    np.testing.assert_allclose(stats.nct.sf(t, n - 1, lower.astype(float) * np.sqrt(n)), 0.025, atol=2e-5)
    np.testing.assert_allclose(stats.nct.cdf(t, n - 1, upper.astype(float) * np.sqrt(n)), 0.025, atol=2e-5)


def test_partial_eta_squared_is_that_of_f_and_its_degrees_of_freedom(anova):
    _, output = anova
    node = output / "node-anova"
    mask = read_values(node / f"{PREFIX}desc-analysis_mask.nii.gz") > 0
    f, found = (read_values(node / statmap("Face", name))[mask].astype(float) for name in ("F", "etasq"))
    result = find_result(node, "Face", "fdr")
    effect, error = float(result["dof_effect"]), float(result["dof"])
    np.testing.assert_allclose(found, effect * f / (effect * f + error), **FLOAT32)
