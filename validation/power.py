"""What is found of an effect: this app's levels, and nilearn's `permuted_ols` on the same maps.

    python -m validation.power [--datasets 200]

The designs are those of one map per subject, for which nilearn tests the same hypothesis. Both take as many
rearrangements. The table is written to validation/results/power.tsv.
"""

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.maskers import NiftiMasker  # type: ignore[import-untyped]
from nilearn.mass_univariate import permuted_ols  # type: ignore[import-untyped]
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import NodePlan
from bids_group.stats.correct import DEFAULT_CLUSTER_FORMING
from validation.fields import SEARCH, find_signal
from validation.rates import RESULTS
from validation.scenarios import BONFERRONI, EXTENT, FDR, MASS, RFT, TFCE, VOXEL, Scenario
from validation.simulate import ALPHA, GRID, draw_data, find_survivors, make_resources, plan_scenario, reseed

TABLE = RESULTS / "power.tsv"
LEVELS = (VOXEL, EXTENT, MASS, TFCE, BONFERRONI, RFT, FDR)
NILEARN_LEVELS = {"t": VOXEL, "size": EXTENT, "mass": MASS}
SCENARIOS = (
    Scenario("power-mean", "mean", (16,), LEVELS, signal=1.0),
    Scenario("power-groups", "groups", (10, 10), LEVELS, signal=1.6),
    Scenario("power-slope", "slope", (20,), LEVELS, signal=1.0),
)
TESTED = {"mean": "intercept", "groups": "group[a]", "slope": "age"}


def ask_nilearn(scenario: Scenario, plan: NodePlan, data: GroupData, seed: int) -> dict[str, NDArray[np.bool_]]:
    """Return what survives of nilearn's permutation test, level by level, each of shape (n_voxels,)."""
    matrix = plan.models[0].design.matrix
    nuisance = matrix[["score", "weight"]].to_numpy(np.float64) if scenario.design == "slope" else None
    masker = NiftiMasker(nib.Nifti1Image(SEARCH.mask.astype(np.uint8), GRID.affine), standardize=False).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it will change
        found = permuted_ols(
            matrix[[TESTED[scenario.design]]].to_numpy(np.float64),
            data.effects.astype(np.float64),
            confounding_vars=nuisance,
            model_intercept=scenario.design != "mean",
            n_perm=scenario.n_permutations - 1,
            two_sided_test=True,
            random_state=seed,
            masker=masker,
            threshold=DEFAULT_CLUSTER_FORMING[1],
            output_type="dict",
        )
    return {
        level: np.ravel(found[f"logp_max_{name}"]) >= -np.log10(ALPHA) - 1e-9 for name, level in NILEARN_LEVELS.items()
    }


def measure(scenario: Scenario, n_datasets: int) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield program, level and what survives, dataset by dataset."""
    rng = np.random.default_rng(list(scenario.name.encode()))
    plan = plan_scenario(scenario, rng)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        resources = make_resources(Path(folder))
        for number in range(n_datasets):
            data = draw_data(scenario, plan, rng)
            own = find_survivors(reseed(plan, number), data, resources)
            yield from (("bids_group", level, own[level]) for level in scenario.levels)
            yield from (("nilearn", *pair) for pair in ask_nilearn(scenario, plan, data, number).items())


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=200)
    options = parser.parse_args()
    has_effect = find_signal()
    rows = [
        (
            scenario.name,
            program,
            level,
            survives[has_effect].mean(),
            survives[has_effect].any(),
            survives[~has_effect].any(),
        )
        for scenario in SCENARIOS
        for program, level, survives in measure(scenario, options.datasets)
    ]
    table = pd.DataFrame(rows, columns=["scenario", "program", "level", "found", "any_found", "any_false"])
    means = table.groupby(["scenario", "program", "level"], sort=False).mean().assign(n_datasets=options.datasets)
    RESULTS.mkdir(exist_ok=True)
    means.reset_index().to_csv(TABLE, sep="\t", index=False, float_format="%.4f", lineterminator="\n")
    print(means.to_string())


if __name__ == "__main__":
    main()
