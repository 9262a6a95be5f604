"""The quality of the inputs, from maps on disk to table, warnings, figure and report."""

import json

import numpy as np
import pytest

from bids_group.stats.glm import compute_t, fit_glm
from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import SUBJECTS, list_files, read_model, read_table

FDR = {"Inference": [{"Correction": "fdr"}]}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """One contrast, in which 02 is flipped, 05 a copy of 04 and 07 a hundred times too large."""
    root = tmp_path_factory.mktemp("odd")
    maps = studies.draw_maps({"A": 6.0})
    maps["02", "A"] = -maps["02", "A"]
    maps["05", "A"] = maps["04", "A"]
    maps["07", "A"] = 100 * maps["07", "A"]
    study = studies.write_study(root, maps)
    return study, studies.run_well(study, root / "out", builders.make_spec(settings=FDR))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Three contrasts of six subjects with partitioned error terms."""
    root = tmp_path_factory.mktemp("clean")
    study = studies.write_study(root, studies.draw_maps({"A": 5.0, "B": 5.0, "C": 5.0}, subjects=SUBJECTS[:6]))
    document = builders.make_spec("anova", model={"X": ["A", "B", "C"]}, settings={**FDR, "ErrorTerm": "partitioned"})
    return study, studies.run_well(study, root / "out", document)


def test_odd_maps_are_flagged_in_the_table_by_row_and_none_is_left_out(odd):
    _, output = odd
    table = read_table(output / "node-mean" / "contrast-A_quality.tsv")
    inputs = read_table(output / "node-mean" / "inputs.tsv")
    flags = dict(zip(table["subject"], table["flags"], strict=True))
    assert {subject for subject, flag in flags.items() if flag != "n/a"} == {"02", "04", "05", "07"}
    assert [flags[subject] for subject in ("02", "04", "05")] == ["sign", "copy", "copy"]
    assert "scale" in flags["07"].split(",")
    assert table["same_as"].tolist() == ["n/a"] * 4 + ["3"] + ["n/a"] * 3
    for column in ("design_row", "subject", "n_voxels_missing"):
        assert table[column].tolist() == inputs[column].tolist()
    assert (inputs["included"] == "yes").all()


def test_mean_and_sd_are_those_of_the_analysed_voxels(odd):
    study, output = odd
    table = read_table(output / "node-mean" / "contrast-A_quality.tsv")
    values = study.stack("A")[:, studies.find_analysed(study.maps)]
    np.testing.assert_allclose(table["mean"].astype(float), values.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(table["sd"].astype(float), values.std(axis=1), rtol=1e-6)


def test_peak_without_a_map_is_the_t_of_the_others(odd):
    study, output = odd
    table = read_table(output / "node-mean" / "contrast-A_quality.tsv")
    values = study.stack("A")[:, studies.find_analysed(study.maps)]
    ones = np.ones((8, 1))
    peak = np.argmax(np.abs(compute_t(fit_glm(values, ones, [np.eye(1)]), 0).value))
    for row in range(8):
        others = np.delete(values[:, [peak]], row, axis=0)
        expected = compute_t(fit_glm(others, ones[1:], [np.eye(1)]), 0).value[0]
        assert float(table["peak_t_without"][row]) == pytest.approx(expected, rel=1e-6)


def test_warnings_of_odd_maps_name_the_subject_in_model_and_report(odd):
    node = odd[1] / "node-mean"
    warnings = read_model(node, "contrast-A_")["Warnings"]
    for start, words in (
        ("sub-02 (A) ", "is its sign flipped?"),
        ("sub-05 (A) ", "those of sub-04 (A)"),
        ("sub-07 (A) ", "times the median of its contrast; is it in other units?"),
    ):
        assert any(one.startswith(start) and words in one for one in warnings)
    report = (odd[1] / "model-study_report.html").read_text()
    assert 'id="quality"' in report
    assert 'href="#quality"' in report
    assert "sub-02 (A) correlates" in report
    assert "4 of 8 maps flagged" in report


def test_summary_names_table_and_figure_and_counts_the_flagged(odd):
    node = odd[1] / "node-mean"
    quality = read_model(node, "contrast-A_")["Quality"]
    assert quality == {"File": "contrast-A_quality.tsv", "Figure": "figures/contrast-A_quality.png", "Flagged": 4}
    assert {quality["File"], "contrast-A_quality.json", quality["Figure"]} <= list_files(node)
    sidecar = json.loads((node / "contrast-A_quality.json").read_text())
    assert set(sidecar) == {"Description", *read_table(node / quality["File"]).columns}


def test_nothing_is_flagged_of_clean_repeated_measures_and_the_report_says_so(clean):
    _, output = clean
    node = output / "node-anova"
    table = read_table(node / "quality.tsv")
    assert len(table) == 18
    assert (table["flags"] == "n/a").all()
    assert (table["peak_t_without"] == "n/a").all()
    assert (table["correlation"].astype(float) > 0).all()
    assert read_model(node)["Quality"]["Flagged"] == 0
    assert "None of 18 maps is flagged." in (output / "model-study_report.html").read_text()
