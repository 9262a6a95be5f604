"""Regions of interest on disk: the table of their tests, the mean of each map, and what their sidecars say."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.outputs.region_results import RegionResult, RegionTest
from bids_group.outputs.results import EFFECT_SIZE_MAPS, ModelResult
from bids_group.outputs.sidecars import describe_error_term, describe_model_type, describe_sources

CONFIDENCE = 0.95
DESIGN_ROW = "design_row"
TEST_COLUMNS = (
    *("roi", "source", "n_voxels", "n_voxels_in_mask", "contrast", "test", "effect", "ci_low", "ci_high"),
    *("statistic", "dof_effect", "dof", "epsilon", "p", "p_fdr", "p_fwe"),
    *("d", "dlower", "dupper", "etasq", "etasqlower", "etasqupper", "reason"),
)
# The columns of the table of means that are no regions.
MAP_COLUMNS = (DESIGN_ROW, *ENTITY_SHORT_NAMES)
AVERAGING = "mean of the map over the analysed voxels of the region that every map has, all of equal weight"


def list_region_tests(found: RegionResult) -> pd.DataFrame:
    """List each contrast in each region of interest.

    Parameters
    ----------
    found : RegionResult

    Returns
    -------
    DataFrame
        One row per contrast x region, in the order of the spec; columns `TEST_COLUMNS`. What a test does not have is
        None; of a region that is not tested, all of it.
    """
    rows = [row for test in found.tests for row in _list_rows(found, test)]
    return pd.DataFrame(rows, columns=list(TEST_COLUMNS), dtype=object)


def _list_rows(found: RegionResult, test: RegionTest) -> Iterator[dict[str, Any]]:
    values = _list_values(test)
    place = {int(region): i for i, region in enumerate(found.tested)}
    for i, region in enumerate(found.located.regions):
        tested = {name: float(of_test[place[i]]) for name, of_test in values.items()} if i in place else {}
        yield {
            "roi": region.name,
            "source": region.source,
            "n_voxels": len(region.voxels),
            "n_voxels_in_mask": int(found.n_voxels[i]),
            "contrast": test.contrast.label,
            "test": test.contrast.test,
            **tested,
            "reason": found.reasons.get(i),
        }


def _list_values(test: RegionTest) -> dict[str, Any]:
    """Return what a test found by the names of the columns, a value for each tested region."""
    statistic, size = test.statistic, test.effect_size
    n = statistic.value.shape
    values: dict[str, Any] = {
        "statistic": statistic.value,
        "dof_effect": np.broadcast_to(statistic.dof_effect, n),
        "dof": np.broadcast_to(statistic.dof, n),
        "epsilon": test.epsilon,
        "p": test.p,
        "p_fdr": test.p_fdr,
        "p_fwe": test.p_fwe,
    }
    if statistic.effect is not None and statistic.variance is not None:
        reach = stats.t.isf((1 - CONFIDENCE) / 2, statistic.dof) * np.sqrt(statistic.variance)
        values |= {"effect": statistic.effect, "ci_low": statistic.effect - reach, "ci_high": statistic.effect + reach}
    if size is not None:
        values |= dict(zip(EFFECT_SIZE_MAPS[size.measure], (size.value, size.lower, size.upper), strict=True))
    return {name: of_test for name, of_test in values.items() if of_test is not None}


def list_region_means(model: ModelResult, found: RegionResult) -> pd.DataFrame:
    """List the mean of each map in each region of interest.

    Returns
    -------
    DataFrame
        One row per map, in the order of the design: design_row, the entities in use, then a column for each region.
    """
    entities = [name for name in ENTITY_SHORT_NAMES if name in model.rows and model.rows[name].notna().any()]
    of_maps = model.rows[entities].reset_index(drop=True)
    of_maps.insert(0, DESIGN_ROW, range(len(of_maps)))
    means = {
        region.name: column for region, column in zip(found.located.regions, found.means.T.astype(float), strict=True)
    }
    return pd.concat([of_maps, pd.DataFrame(means)], axis="columns")


def describe_region_tests(model: ModelResult, found: RegionResult) -> dict[str, Any]:
    """Describe the table of tests: what was averaged, how it was tested, and each column."""
    return {
        "Description": "The model fitted to the mean of each map over regions of interest",
        **_describe_regions(model, found),
        "Model": describe_model_type(model),
        "ErrorTerm": describe_error_term(model),
        "Alpha": found.alpha,
        "Tail": found.tail,
        "Permutation": {one.contrast.label: dict(one.permutation) for one in found.tests if one.permutation},
        **_describe_test_columns(found),
    }


def describe_region_means(model: ModelResult, found: RegionResult) -> dict[str, Any]:
    """Describe the table of means."""
    return {
        "Description": "The mean of each map over regions of interest",
        **_describe_regions(model, found),
        DESIGN_ROW: {"Description": "Row of the design, from 0"},
        **{
            region.name: {
                "Description": f"Mean over {count} of {len(region.voxels)} voxels ({region.source})",
                "Units": "as the input maps",
            }
            for region, count in zip(found.located.regions, found.n_voxels, strict=True)
        },
    }


def _describe_regions(model: ModelResult, found: RegionResult) -> dict[str, Any]:
    fwhm = model.node.settings.smoothing_fwhm
    errors = "mean of those of the voxels, which is the largest that the standard error of their mean can be"
    return {
        **describe_sources(model),
        "Averaging": AVERAGING,
        **({"SmoothingFwhmMm": fwhm} if fwhm else {}),
        **({"StandardErrors": errors} if model.node.model_type == "meta" else {}),
        "MapSpace": model.names.entities.get("space", "not named; that of MNI for atlases"),
        "RegionSources": [dict(source) for source in found.located.sources],
    }


def _describe_test_columns(found: RegionResult) -> dict[str, Any]:
    tail = f"{found.tail} of t, the upper tail of F"
    texts = {
        "roi": "Region",
        "source": "Atlas or image that the region is of",
        "n_voxels": "Voxels of the region on the grid of the maps",
        "n_voxels_in_mask": "Those of them that were averaged: in the analysis mask, and in every map",
        "contrast": "Contrast, as in names of files",
        "test": "t or F",
        "effect": "Effect c'b of t, in the units of the maps",
        "ci_low": "Lower bound of its two-sided 95% confidence interval, of this region alone",
        "ci_high": "Upper bound of its two-sided 95% confidence interval, of this region alone",
        "statistic": "t or F",
        "dof_effect": "Degrees of freedom of the effect, after epsilon",
        "dof": "Degrees of freedom of the error, after epsilon",
        "epsilon": "What the degrees of freedom were multiplied by; n/a where by nothing",
        "p": f"Uncorrected p ({tail})",
        "p_fdr": f"p adjusted for the false discovery rate over regions (Benjamini-Hochberg; {tail})",
        "p_fwe": f"Familywise p over regions, by permutation of the largest statistic ({tail})",
        "d": "Cohen's d, as in the maps of it",
        "dlower": "Lower bound of its 95% confidence interval",
        "dupper": "Upper bound of its 95% confidence interval",
        "etasq": "Partial eta squared of F",
        "etasqlower": "Lower bound of its 95% confidence interval",
        "etasqupper": "Upper bound of its 95% confidence interval",
        "reason": "Why the region is not tested",
    }
    return {name: {"Description": texts[name]} for name in TEST_COLUMNS}
