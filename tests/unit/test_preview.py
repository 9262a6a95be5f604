"""The dry run shows the inputs, the design and the contrasts as they will be analysed."""

import re

import pytest

from bids_group.analysis.rearranging import describe_schemes
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.study import InputOptions, prepare_study
from bids_group.outputs.preview import format_plan, state_entry
from tests import builders


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    root = tmp_path_factory.mktemp("preview")
    bids = builders.write_derivative(root, builders.make_maps(contrasts=("A", "B", "C")))
    document = builders.make_spec("anova")
    thirds = {"Name": "rest", "Test": "t", "ConditionList": ["A", "B", "C"], "Weights": ["2/3", "-1/3", "-1/3"]}
    odd = {"Name": "odd", "Test": "t", "ConditionList": ["A", "B"], "Weights": [0.123456, -0.123456]}
    document["Nodes"][0]["Contrasts"] += [thirds, odd]
    options = InputOptions(bids_dir=bids, model=builders.write_spec(root / "spec.json", document))
    return format_plan(prepare_study(options, root / "out").nodes, describe_schemes)


def test_weights_are_shown_as_fractions_where_they_are_and_as_numbers_where_not(plan):
    assert "  omnibus (F)\n    +1 A -1 B\n    +1 A -1 C\n" in plan
    assert "  odd (t)\n    +0.123456 A -0.123456 B\n" in plan
    assert "  rest (t)\n    +2/3 A -1/3 B -1/3 C\n" in plan


def test_design_is_shown_row_by_row_with_its_rank_and_degrees_of_freedom(plan):
    assert "Design: 8 columns, rank 7, 8 residual degrees of freedom" in plan
    assert len(re.findall(r"bids:firstlevel:sub-\d\d/\S+_effect\.nii\.gz", plan)) == 15
    assert "grid 6 x 7 x 5, voxels 4 x 4 x 4 mm" in plan


def test_inference_is_shown_entry_by_entry(plan):
    assert "  uncorrected: alpha 0.001, two-sided\n  fdr: alpha 0.05, two-sided\n" in plan
    entry = InferenceSpec("none", 0.01, "negative", cluster_extent=20, contrasts=("A",), name="Low")
    assert state_entry(entry) == "uncorrectedLow: alpha 0.01, negative, clusters of at least 20 voxels, of A"
