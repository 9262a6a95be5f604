"""Simulated error rates: a small slice of the grid, its arithmetic, and the page that shows it."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from validation.fields import FWHM, LAWS, SEARCH, draw_errors, draw_fields
from validation.judging import compute_attained, find_interval, judge
from validation.rates import BLOCK, SUMS, compute_block, list_blocks, merge, name_block
from validation.report import PAGE, SECTIONS, fill_page
from validation.scenarios import BONFERRONI, EXTENT, FDR, REGIONAL, SCENARIOS, VOXEL, Scenario
from validation.simulate import ALPHA, draw_data, find_survivors, make_resources, plan_scenario

N_DATASETS = 60
ONE_IN = 1e-5  # a slice fails as seldom as this if its level holds
BY_NAME = {one.name: one for one in SCENARIOS}


def count_false(scenario, n=N_DATASETS):
    return {level: sums["n_false"] for level, sums in compute_block(scenario, 0, n).items()}


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("slice-mean", "mean", (12,), (VOXEL, EXTENT, BONFERRONI, FDR)),
        Scenario("slice-groups", "groups", (6, 8), (VOXEL, EXTENT), "skewed"),
        Scenario("slice-slope", "slope", (14,), (VOXEL, EXTENT), "heavy"),
        Scenario("slice-partitioned", "partitioned-t", (10,), (VOXEL, EXTENT, BONFERRONI), conditions="noisy"),
        Scenario("slice-mixed", "mixed-F", (6, 6), (VOXEL, EXTENT, BONFERRONI)),
        Scenario("slice-missing", "mean", (14,), (VOXEL, EXTENT, BONFERRONI), n_lacking=3),
        Scenario("slice-regions", "slope", (14,), REGIONAL, "heavy"),
    ],
    ids=lambda one: one.name,
)
def test_false_positives_are_not_more_than_alpha(scenario):
    most = stats.binom.isf(ONE_IN, N_DATASETS, ALPHA)
    assert max(count_false(scenario).values()) <= most


def test_the_grid_sees_a_test_that_does_not_hold():
    least = stats.binom.isf(ONE_IN, 20, ALPHA)
    assert min(count_false(BY_NAME["pooled-t-noisy"], 20).values()) > least


def test_an_effect_is_found_where_it_is():
    scenario = Scenario("slice-effect", "mean", (16,), (VOXEL, FDR), signal=2.5)
    sums = compute_block(scenario, 0, 10)
    assert min(one["found"] for one in sums.values()) > 5
    assert sums[FDR]["fdp"] < 10 * 0.2


def test_a_block_depends_on_its_number_alone(tmp_path):
    scenario = BY_NAME["groups-skewed"]
    assert compute_block(scenario, 3, 2) == compute_block(scenario, 3, 2)
    rng = np.random.default_rng(0)
    plan = plan_scenario(scenario, rng)
    data = draw_data(scenario, plan, rng)
    found = [find_survivors(plan, data, make_resources(tmp_path)) for _ in range(2)]
    assert all(np.array_equal(found[0][level], found[1][level]) for level in scenario.levels)


@pytest.mark.parametrize("law", LAWS)
def test_noise_has_the_law_and_the_smoothness_that_it_is_said_to_have(law):
    fields = draw_errors(np.random.default_rng(0), 2000, law)
    quantiles = {
        "gaussian": stats.norm,
        "heavy": stats.t(4),
        "skewed": stats.expon(loc=-1),
    }[law].ppf([0.05, 0.5, 0.95])
    np.testing.assert_allclose(np.quantile(fields, [0.05, 0.5, 0.95]), quantiles, atol=0.05)


def test_neighbours_correlate_as_the_kernel_makes_them():
    volume = np.zeros((2000, *SEARCH.mask.shape))
    volume[:, SEARCH.mask] = draw_fields(np.random.default_rng(0), 2000)
    one, next_to_it = volume[:, 5, 6, 6], volume[:, 6, 6, 6]
    sigma = FWHM / np.sqrt(8 * np.log(2))
    assert np.corrcoef(one, next_to_it)[0, 1] == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.02)


def test_blocks_that_are_done_are_not_done_again_and_are_added_up(tmp_path):
    scenarios = [BY_NAME["mean"], BY_NAME["groups-skewed"]]
    one = {level: {**dict.fromkeys(SUMS, 1.0), "n_datasets": float(BLOCK)} for level in scenarios[1].levels}
    for block in (0, 2):
        name_block(scenarios[1], block, tmp_path).write_text(json.dumps(one))
    left = [(scenario.name, block) for scenario, block in list_blocks(scenarios, 3 * BLOCK, tmp_path)]
    assert left == [("mean", 0), ("mean", 1), ("mean", 2), ("groups-skewed", 1)]
    table = merge(scenarios, tmp_path)
    assert list(table["scenario"]) == ["groups-skewed"] * 3
    assert set(table["n_datasets"]) == {2 * BLOCK}
    assert set(table["n_false"]) == {2}


def test_what_is_said_of_a_scenario_does_not_change_what_was_computed(tmp_path):
    scenario = BY_NAME["groups-unequal"]
    said_otherwise = Scenario(**{**vars(scenario), "fails": {}})
    assert name_block(scenario, 0, tmp_path) == name_block(said_otherwise, 0, tmp_path)
    assert name_block(scenario, 0, tmp_path) != name_block(Scenario(**{**vars(scenario), "law": "heavy"}), 0, tmp_path)


def test_intervals_hold_the_rates_that_are_not_rejected():
    low, high = find_interval(50, 1000)
    assert stats.binom.sf(49, 1000, low) == pytest.approx(0.025, rel=1e-6)
    assert stats.binom.cdf(50, 1000, high) == pytest.approx(0.025, rel=1e-6)
    assert find_interval(0, 10)[0] == 0.0


@pytest.mark.parametrize(("count", "is_high", "is_low"), [(50, False, False), (90, True, False), (15, False, True)])
def test_a_cell_is_judged_by_exact_binomial_tests(count, is_high, is_low):
    row = pd.Series({"level": VOXEL, "n_datasets": 1000, "n_false": count, "fdp": 0.0, "fdp_squared": 0.0})
    verdict = judge(row, n_cells=100, attained=0.05)
    assert (verdict.is_high, verdict.is_low) == (is_high, is_low)
    assert not judge(row.replace(VOXEL, BONFERRONI), n_cells=100, attained=0.05).is_low


def test_only_exact_tests_must_reach_their_level():
    assert compute_attained(BY_NAME["mean"]) == 0.05
    assert compute_attained(BY_NAME["mean-small"]) == 12 / 256
    assert compute_attained(BY_NAME["groups-skewed"]) == 0.05
    for name in ("mean-skewed-positive", "slope", "welch-small", "pooled-t-noisy"):
        assert compute_attained(BY_NAME[name]) is None


def test_names_of_scenarios_differ_and_each_failure_is_of_a_level_that_is_tested():
    assert len(BY_NAME) == len(SCENARIOS)
    assert all(set(one.fails) <= set(one.levels) for one in SCENARIOS)


def test_the_page_shows_the_tables_that_stand_in_the_results():
    page = PAGE.read_text(encoding="utf-8")
    assert fill_page(page) == page
    with pytest.raises(ValueError, match="no place"):
        fill_page(page.replace(next(iter(SECTIONS)), "other"))
