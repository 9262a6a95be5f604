"""Regions of interest through the command line: the tests of the means that scipy and statsmodels make of them."""

import itertools
import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.meta_analysis import combine_effects

from bids_group.analysis.fitting import fit_model
from bids_group.analysis.model import load_maps
from bids_group.analysis.permuting import Resources
from bids_group.analysis.rearranging import check_study
from bids_group.analysis.region_tests import fit_regions
from bids_group.analysis.regions import check_regions, locate_regions
from bids_group.checkpoints import Checkpoints
from bids_group.inputs.study import InputOptions, prepare_study
from bids_group.outputs.region_tables import list_region_tests
from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import GROUPS, PREFIX, SHAPE, SUBJECTS, read_table, read_values

CONDITIONS = ("A", "B", "C")
SPHERES = {"one": (0.0, -8.0, 0.0), "two": (-4.0, 0.0, 4.0), "three": (4.0, -12.0, 4.0)}
RADIUS = 6.0
OUTSIDE = (900.0, 0.0, 0.0)
ROIS = {
    "Spheres": [{"Name": name, "Center": list(center)} for name, center in {**SPHERES, "nowhere": OUTSIDE}.items()],
    "Radius": RADIUS,
}
DIFFERENCE = {
    "Name": "Difference", "Test": "t", "ConditionList": ["group[patient]", "group[control]"], "Weights": [1, -1]
}  # fmt: skip
PATIENTS = np.array(GROUPS) == "patient"


def make_node(name, design="one-sample", *, settings=None, **options):
    own = {"Inference": [{"Correction": "none", "Alpha": 0.05}], "ROIs": [ROIS], **(settings or {})}
    (node,) = builders.make_spec(design, conditions=CONDITIONS, settings=own, **options)["Nodes"]
    return {**node, "Name": name}


def make_groups(name, **settings):
    node = make_node(name, settings=settings, model={"X": ["group"]}, node={"Contrasts": [DIFFERENCE]})
    del node["DummyContrasts"]
    return node


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    maps = studies.draw_maps(dict(zip(CONDITIONS, (0.6, 1.0, 0.0), strict=True)), seed=4)
    return studies.write_study(tmp_path_factory.mktemp("regions"), maps)


@pytest.fixture(scope="module")
def find_tests(study, tmp_path_factory):
    """A function from a node to the tables of its tests and of its means, by the input contrast."""

    def find(node, studied=study):
        spec = studied.write_spec({**builders.make_spec(), "Nodes": [node]}, f"{node['Name']}.json")
        folder = tmp_path_factory.mktemp("checkpoints")
        planned = check_regions(check_study(prepare_study(InputOptions(studied.bids, spec), studied.root / "out")))
        (found,) = planned.nodes
        return {
            model.input_contrast: tabulate(found, model, grid, folder)
            for model, grid in zip(found.plan.models, found.grids, strict=True)
        }

    return find


def tabulate(node, model, grid, folder):
    """Analyse a model as a run does, but for its maps and figures."""
    options = {"allocate": allocate, "n_threads": 1, "report_progress": lambda: None}
    data = load_maps(node.plan, model, grid, node.masks, **options)
    fitted = fit_model(node.plan, model, data)
    located = locate_regions(node.plan.node.settings.rois, grid, folder)
    resources = Resources(1, allocate, Checkpoints(folder), lambda *_: nullcontext(lambda *_: None))
    found = fit_regions(node.plan, model, data, fitted.voxels, located, resources)
    return list_region_tests(found), pd.DataFrame(found.means, columns=[one.name for one in located.regions])


def allocate(shape):
    return np.empty(shape, dtype=np.float32)


def select(tests, contrast):
    """Return the tests of a contrast in the spheres that have voxels."""
    return tests[(tests["contrast"] == contrast) & (tests["roi"] != "nowhere")].infer_objects()


def find_members(center, radius, shape=SHAPE):
    """Mark the voxels of a sphere by measuring the distance of each."""
    found = np.zeros(shape, dtype=bool)
    for voxel in itertools.product(*map(range, shape)):
        place = (builders.AFFINE @ (*voxel, 1))[:3]
        found[voxel] = sum((a - b) ** 2 for a, b in zip(place, center, strict=True)) <= radius**2
    return found


def average_by_hand(study, condition, mask):
    """Return the means of the maps of a condition, subjects by spheres."""
    maps = study.stack(condition)
    return np.stack([maps[:, find_members(center, RADIUS) & mask].mean(axis=1) for center in SPHERES.values()], axis=1)


@pytest.fixture(scope="module")
def means(study):
    mask = studies.find_analysed(study.maps)
    return {condition: average_by_hand(study, condition, mask) for condition in CONDITIONS}


def count_extremes(observed, null):
    """Return the p of observed maxima among all, the identity with them."""
    return (np.max(null, axis=1)[:, None] >= observed * (1 - 1e-6)).mean(axis=0)


def t_of_means(values):
    return values.mean(axis=0) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def find_mask(study, condition):
    return studies.find_analysed({key: values for key, values in study.maps.items() if key[1] == condition})


def test_a_sphere_has_the_voxels_within_its_radius_and_averages_those_in_the_mask(find_tests, study):
    tests, means = find_tests(make_node("mean"))["A"]
    table, mask = select(tests, "A"), find_mask(study, "A")
    members = [find_members(center, RADIUS) for center in SPHERES.values()]
    assert list(table["n_voxels"]) == [one.sum() for one in members]
    assert list(table["n_voxels_in_mask"]) == [(one & mask).sum() for one in members]
    assert (table["n_voxels_in_mask"] < table["n_voxels"]).any()
    np.testing.assert_allclose(means[list(SPHERES)], average_by_hand(study, "A", mask), rtol=1e-6, atol=1e-7)


def test_one_sample_tests_are_those_of_scipy_and_familywise_p_those_of_all_flips(find_tests, study):
    values = average_by_hand(study, "B", find_mask(study, "B"))
    table, expected = select(find_tests(make_node("mean"))["B"][0], "B"), stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose(table["statistic"], expected.statistic, rtol=1e-5)
    np.testing.assert_allclose(table["p"], expected.pvalue, rtol=1e-5)
    np.testing.assert_allclose(table["p_fdr"], stats.false_discovery_control(expected.pvalue), rtol=1e-5)
    np.testing.assert_allclose(table[["ci_low", "ci_high"]], np.transpose([interval.low, interval.high]), rtol=1e-5)
    np.testing.assert_allclose(table["d"], values.mean(axis=0) / values.std(axis=0, ddof=1), rtol=1e-5)
    flips = itertools.product((1, -1), repeat=len(values))
    null = [np.abs(t_of_means(np.array(signs)[:, None] * values)) for signs in flips]
    np.testing.assert_allclose(table["p_fwe"], count_extremes(np.abs(expected.statistic), null), rtol=1e-9)


@pytest.mark.parametrize(("settings", "equal_var"), [({}, True), ({"VarianceGroups": "group"}, False)])
def test_two_groups_are_those_of_scipy(find_tests, study, settings, equal_var):
    values = average_by_hand(study, "A", find_mask(study, "A"))
    expected = stats.ttest_ind(values[PATIENTS], values[~PATIENTS], equal_var=equal_var)
    table = select(find_tests(make_groups("groups", **settings))["A"][0], "ADifference")
    np.testing.assert_allclose(table["statistic"], expected.statistic, rtol=1e-5)
    np.testing.assert_allclose(table["p"], expected.pvalue, rtol=1e-5)
    np.testing.assert_allclose(table["dof"], expected.df, rtol=1e-5)


def test_familywise_p_of_two_groups_are_those_of_all_divisions(find_tests, study):
    values = average_by_hand(study, "C", find_mask(study, "C"))
    observed = np.abs(stats.ttest_ind(values[PATIENTS], values[~PATIENTS]).statistic)
    null = []
    for chosen in itertools.combinations(range(8), 4):
        first = np.isin(np.arange(8), chosen)
        null.append(np.abs(stats.ttest_ind(values[first], values[~first]).statistic))
    table = select(find_tests(make_groups("groups"))["C"][0], "CDifference")
    np.testing.assert_allclose(table["p_fwe"], count_extremes(observed, null), rtol=1e-9)


def make_repeated(error_term):
    columns = [*CONDITIONS, *(["subject"] if error_term == "pooled" else [])]
    return make_node(error_term, "anova", settings={"ErrorTerm": error_term}, model={"X": columns})


@pytest.mark.parametrize("error_term", ["pooled", "partitioned"])
def test_f_of_repeated_measures_is_that_of_statsmodels(find_tests, means, error_term):
    table = select(find_tests(make_repeated(error_term))[None][0], "omnibus")
    for region in range(len(SPHERES)):
        cells = pd.DataFrame(
            [(s, c, means[c][s, region]) for s in range(8) for c in CONDITIONS], columns=["subject", "condition", "y"]
        )
        expected = AnovaRM(cells, "y", "subject", within=["condition"]).fit().anova_table.iloc[0]
        row = table.iloc[region]
        np.testing.assert_allclose(row["statistic"], expected["F Value"], rtol=1e-5)
        if error_term == "pooled":
            np.testing.assert_allclose(row["p"], expected["Pr > F"], rtol=1e-5)
        else:
            epsilon = find_epsilon(np.stack([means[c][:, region] for c in CONDITIONS], axis=1))
            np.testing.assert_allclose(row["epsilon"], epsilon, rtol=1e-4)
            np.testing.assert_allclose(row["dof"], epsilon * expected["Den DF"], rtol=1e-4)
            p = stats.f.sf(expected["F Value"], epsilon * 2, epsilon * 14)
            np.testing.assert_allclose(row["p"], p, rtol=1e-4)


def find_epsilon(values):
    """Return Greenhouse and Geisser's epsilon by its definition: of the doubly centred covariance of conditions."""
    covariance = np.cov(values.T)
    centring = np.eye(3) - 1 / 3
    centred = centring @ covariance @ centring
    return np.trace(centred) ** 2 / (2 * np.sum(centred**2))


def test_a_paired_difference_of_partitioned_errors_is_scipys_paired_t(find_tests, means):
    table = select(find_tests(make_repeated("partitioned"))[None][0], "AMinusB")
    expected = stats.ttest_rel(means["A"], means["B"])
    np.testing.assert_allclose(table["statistic"], expected.statistic, rtol=1e-5)
    np.testing.assert_allclose(table["p"], expected.pvalue, rtol=1e-5)


def test_where_voxels_may_lack_maps_means_are_over_those_that_every_map_has(find_tests, study):
    tests, means = find_tests(make_node("mean", settings={"MinCoverage": 0.5}))["A"]
    expected = average_by_hand(study, "A", find_mask(study, "A"))
    np.testing.assert_allclose(means[list(SPHERES)], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(select(tests, "A")["statistic"], t_of_means(expected), rtol=1e-5)


def test_a_meta_analysis_of_regions_is_that_of_statsmodels(find_tests, tmp_path):
    maps = studies.draw_maps({"A": 1.0}, seed=4)
    study = studies.write_study(tmp_path, maps)
    rng = np.random.default_rng(1)
    variances = {subject: rng.uniform(0.01, 0.1, SHAPE).astype(np.float32) for subject in SUBJECTS}
    for subject, values in variances.items():
        builders.write_map(study.firstlevel / studies.name_map(subject, "A").replace("_effect", "_variance"), values)
    node = make_node("meta", settings={"Heterogeneity": "dersimonian-laird"}, model={"Type": "meta"})
    table, mask = select(find_tests(node, study)["A"][0], "A"), studies.find_analysed(maps)
    effects = average_by_hand(study, "A", mask)
    for region, center in enumerate(SPHERES.values()):
        own = find_members(center, RADIUS) & mask
        errors = np.array([np.sqrt(variances[subject][own]).mean() for subject in SUBJECTS])
        expected = combine_effects(effects[:, region], errors**2, method_re="dl")
        t = expected.mean_effect_re / expected.sd_eff_w_re_hksj
        np.testing.assert_allclose(table["effect"].iloc[region], expected.mean_effect_re, rtol=1e-5)
        np.testing.assert_allclose(table["statistic"].iloc[region], t, rtol=1e-5)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A study of one condition."""
    return studies.write_study(tmp_path_factory.mktemp("single"), studies.draw_maps({"A": 1.0}, seed=4))


@pytest.fixture(scope="module")
def output(single):
    return studies.run_well(single, single.root / "out", {**builders.make_spec(), "Nodes": [make_node("mean")]})


def test_a_region_without_voxels_is_listed_with_the_reason(output):
    table = read_table(output / "node-mean" / f"{PREFIX}contrast-A_roi.tsv")
    row = table[table["roi"] == "nowhere"].iloc[0]
    assert (row["n_voxels"], row["statistic"], row["p_fwe"]) == ("0", "n/a", "n/a")
    assert "on the grid" in row["reason"]
    sidecar = json.loads((output / "node-mean" / f"{PREFIX}contrast-A_roi.json").read_text())
    assert set(table.columns) <= set(sidecar)
    assert "nowhere" in (output / "model-study_report.html").read_text()


def test_tests_can_be_made_again_from_the_written_means(output):
    means = pd.read_csv(output / "node-mean" / f"{PREFIX}contrast-A_roimeans.tsv", sep="\t", dtype={"subject": str})
    assert tuple(means["subject"]) == SUBJECTS
    tests = pd.read_csv(output / "node-mean" / f"{PREFIX}contrast-A_roi.tsv", sep="\t")
    np.testing.assert_allclose(select(tests, "A")["statistic"], t_of_means(means[list(SPHERES)].to_numpy()), rtol=1e-7)


def test_a_result_on_the_same_data_may_be_mask_and_region_with_a_warning(single, output, tmp_path, capsys):
    found = output / "node-mean" / f"{PREFIX}contrast-A_stat-t_desc-uncorrected_statmap.nii.gz"
    surviving = read_values(found) != 0
    assert len(np.unique(read_values(found)[surviving])) > 1
    rois = [{"Image": str(found), "Name": "found"}]
    second = make_node("second", settings={"Mask": str(found), "ROIs": rois})
    capsys.readouterr()
    again = studies.run_well(single, tmp_path / "again", {**builders.make_spec(), "Nodes": [second]})
    told = capsys.readouterr().err
    assert f"Mask: {found.name} is a result of this app" in told
    assert f"ROIs: {found.name} is a result of this app" in told
    assert "Kriegeskorte" in (again / "model-study_report.html").read_text()
    mask = read_values(again / "node-second" / f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz") != 0
    np.testing.assert_array_equal(mask, surviving)


def test_a_map_of_many_values_from_elsewhere_is_still_no_mask(study, tmp_path, capsys):
    values = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    image = builders.write_map(tmp_path / "gm_probseg.nii.gz", values)
    spec = study.write_spec(
        {**builders.make_spec(), "Nodes": [make_node("n", settings={"Mask": str(image)})]}, "m.json"
    )
    assert studies.run(study, tmp_path / "out", spec) == 65
    assert "threshold it first" in capsys.readouterr().err


def test_an_atlas_is_refused_for_maps_in_another_space(study, tmp_path, capsys):
    node = make_node("n", settings={"ROIs": [{"Atlas": "aal", "Regions": ["Amygdala_L"]}]})
    spec = study.write_spec({**builders.make_spec(), "Nodes": [node]}, "space.json")
    assert studies.run(study, tmp_path / "out", spec, "--dry-run") == 65
    assert "ROIs[0].Atlas: the maps are in the space T1w" in capsys.readouterr().err


def test_labels_of_an_image_have_the_names_of_the_table_beside_it(find_tests, study, tmp_path):
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[1:3, 1:3, 1:3], labels[3:5, 3:5, 1:3] = 7, 9
    image = builders.write_map(tmp_path / "parts_dseg.nii.gz", labels)
    (tmp_path / "parts_dseg.tsv").write_text("index\tname\n7\tleft part\n8\tunused\n")
    node = make_node("labels", settings={"ROIs": {"Sources": [{"Image": str(image)}], "Permutations": 0}})
    tests, means = find_tests(node)["B"]
    assert list(tests["roi"]) == ["left part", "label9"]
    assert list(tests["n_voxels"]) == [8, 8]
    assert tests["p_fwe"].isna().all()
    assert tests["p_fdr"].notna().all()
    np.testing.assert_allclose(means["left part"], study.stack("B")[:, labels == 7].mean(axis=1), rtol=1e-5)
